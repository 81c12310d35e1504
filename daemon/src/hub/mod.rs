//! The hub: plain NATS, configured so that no admitted gateway can touch another one's record.
//!
//! # Invariants
//! - The stream lives in the account STORE, which has no leaf users. Gateways reach it through
//!   service imports alone: their frames, the last message of their subjects, the stream's INFO.
//!   Server replies obey no permissions, so an account that a gateway shared with the stream
//!   would let it have the server write an answer into another gateway's record.
//! - Questions go through an account of their own, ASK: their answers come under subjects of the
//!   server's making, which lead to the asker's inbox and to no record.
//! - The same holds for whoever reads: readers sit in an account of their own and reach nothing
//!   that writes, deletes, or lets the server deliver somewhere else.
//! - The accounts are migration to change: `vectors/hub/` holds the generated text.

mod config;
mod directory;
pub mod est;
mod file;
mod folder;
mod lab;
pub mod operate;
mod plan;
mod printed;
mod stream;
mod tier;

pub use config::generate;
pub use directory::{DirectoryError, publish_directory};
pub use file::{
    HubFile, HubGateway, HubMirror, HubNode, HubRegion, HubSettings, HubSite, HubStream, Mistakes,
    Ocsp, Person, Takes,
};
pub(crate) use file::{default_conf_dir, default_store_dir};
pub use folder::{HubFolder, HubFolderError, HubText, Secrecy};
pub use lab::{LabError, LabGateway, LabHub, LabUser, write_lab};
pub use plan::{
    Admitted, ClientPort, ClusterPort, Credential, HubPlan, HubUser, LeafPort, PlanError, Role,
};
pub use printed::ClusterSecret;
pub use stream::{Keeps, StreamError, StreamPlan, drift, ensure_stream};
pub use tier::{
    MirrorUser, PromoteError, Promoted, Region, Site, SitePlan, generate_site, promote,
};

/// The stream that keeps the last value of each tag.
pub const LAST_VALUES: &str = "LAST";

/// The stream that keeps the directory of owners.
pub const OWNERS: &str = "OWNERS";

/// Compares with a file in `vectors/hub`, or writes it when `TIDEGATE_BLESS` is set.
#[cfg(test)]
fn matches_vector(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/hub").join(name);
    if std::env::var_os("TIDEGATE_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap());
}
