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
#[allow(dead_code, reason = "the supervisor comes next")]
mod connect;
#[allow(dead_code, unused_imports, reason = "the supervisor comes next")]
mod convert;
mod credentials;
#[allow(dead_code, reason = "the supervisor comes next")]
mod line;
#[allow(dead_code, reason = "the supervisor comes next")]
mod namespaces;
mod node;
mod pattern;
#[allow(dead_code, reason = "the supervisor comes next")]
mod resolve;
#[allow(dead_code, reason = "the supervisor comes next")]
mod services;
mod spec;
mod status;
#[allow(dead_code, reason = "the supervisor comes next")]
mod tree;
#[allow(dead_code, reason = "the supervisor comes next")]
mod types;
#[allow(dead_code, reason = "the supervisor comes next")]
mod wire;

pub use book::{FoundTag, Learned, TagBook};
pub use connect::{ConnectError, Stage};
pub use credentials::{Application, Credentials, Distrust, DistrustKind, Presented};
pub use node::{Identifier, Namespace, NodeAddress, NodeError, Step};
pub use pattern::{Pattern, PatternError};
pub use spec::{
    Collect, DeviceSpec, Discard, EndpointUrl, ItemSpec, Mode, Policy, Security, ServerDeadband,
    SubtreeSpec, TagSpec, Thumbprint, Trigger, TrustSpec, UrlError, UserSpec,
};
pub use status::Status;
