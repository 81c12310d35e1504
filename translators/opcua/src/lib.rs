//! The OPC UA translator: one session supervisor per configured server.
//!
//! # Invariants
//! - Nothing here writes to a server or calls a method; no such request is built anywhere.
//! - What is wanted (tags and their addresses) is kept apart from what a session says (namespace
//!   indexes, subscription and item ids); the second is thrown away with the session.
//! - Whatever a server sends is bounded before it is decoded, and a value that cannot be
//!   represented is named, never dropped.
//! - Certificates and trust are the daemon's: it comes in through [`Credentials`].

mod book;
mod connect;
mod convert;
mod credentials;
mod device;
mod history;
mod items;
mod ledger;
mod line;
mod namespaces;
mod node;
mod pattern;
mod poll;
mod prepare;
pub mod probe;
mod resolve;
mod sequence;
mod services;
mod spec;
mod status;
mod supervisor;
mod transport;
mod tree;
mod types;
mod voice;
mod watchdog;
mod wire;

pub use book::{FoundTag, Learned, TagBook};
pub use connect::{ConnectError, Stage};
pub use credentials::{Application, Credentials, Distrust, DistrustKind, Presented};
pub use device::OpcUaDevice;
pub use node::{Identifier, Namespace, NodeAddress, NodeError, Step};
pub use pattern::{Pattern, PatternError};
pub use spec::{
    Collect, DeviceSpec, Discard, EndpointUrl, ItemSpec, Mode, Policy, Security, ServerDeadband,
    SubtreeSpec, TagSpec, Thumbprint, Trigger, TrustSpec, UrlError, UserSpec,
};
pub use status::Status;
