//! The hub: plain NATS, configured so that no admitted gateway can touch another one's record.
//!
//! # Invariants
//! - The stream lives in the account STORE, which has no leaf users. Gateways reach it through
//!   service imports alone: their frames, the last message of their subjects, the stream's INFO.
//!   Server replies obey no permissions, so an account that a gateway shared with the stream
//!   would let it have the server write an answer into another gateway's record.
//! - The same holds for whoever reads: readers sit in an account of their own and reach nothing
//!   that writes, deletes, or lets the server deliver somewhere else.
//! - The accounts are migration to change: `vectors/hub/` holds the generated text.

mod config;
mod file;
mod folder;
mod lab;
mod plan;
mod read;
mod stream;

pub use config::generate;
pub use file::{
    HubFile, HubGateway, HubNode, HubSettings, HubStream, Mistakes, Ocsp, Person, Share, Takes,
};
pub use folder::{HubFolder, HubFolderError, HubText, Secrecy};
pub use lab::{LabError, LabGateway, LabHub, LabUser, write_lab};
pub use plan::{
    Admitted, ClientPort, Credential, HubPlan, HubUser, LeafPort, MAX_PAYLOAD, PlanError, Role,
};
pub use read::{Batch, ReadError, RecordReader, Stored, StreamCounts, StreamState};
pub use stream::{StreamError, StreamPlan, ensure_stream};

/// The stream that keeps the last value of each tag.
pub const LAST_VALUES: &str = "LAST";
