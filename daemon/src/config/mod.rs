//! Configuration: what a person writes, and what the program holds after the check.
//!
//! # Invariants
//! - One run shows every mistake: nothing returns at the first one.
//! - [`keys::KEYS`] is the only list of what can be written.
//! - Environment and arguments are passed in; nothing here reads the process's own.
//! - Only [`load`] touches files: the configuration, and the tag lists that it names.

mod address;
mod check;
pub(crate) mod credential;
mod device;
mod difference;
pub mod estimate;
mod fields;
mod gather;
mod identity;
pub(crate) mod ingest;
pub mod keys;
mod link;
pub(crate) mod list;
mod load;
pub(crate) mod mistake;
mod model;
mod opcua;
mod overlap;
mod patterns;
mod piecemeal;
mod pieces;
pub mod polls;
mod profile;
pub mod reference;
mod settings;
mod share;
pub(crate) mod size;
mod states;
mod subject;
mod suggest;
mod syntax;
pub(crate) mod tag;
mod value;
mod wan;
pub mod warnings;

pub(crate) use address::parse as register_address;
pub use check::{Loaded, Origin, parse, parse_with_list, parse_with_lists};
pub use difference::{ChangedDevice, Difference};
pub(crate) use link::tls_files;
pub use list::{Instead, MAX_LIST_BYTES, write as tag_list};
pub use load::{DEFAULT_FILE, LoadError, MAX_FILE_BYTES, load, load_with, load_with_lists};
pub use mistake::Mistakes;
pub(crate) use mistake::{Mistake, Place};
pub use model::{
    Config, Deadband, Device, Driver, HttpsUrl, Hub, HubScheme, HubUrl, IdentityConfig, Journal,
    Leaf, LeafMode, LocalApps, LocalJetStream, LocalQuestions, Manner, Metrics, OpcUa, Proxy,
    ProxyUser, Query, RecordMode, Tag, TlsFiles, Uplink, WhenCrlStale, WhenFull,
};
pub use settings::Argument;
pub(crate) use suggest::nearest;
pub(crate) use syntax::{Repaired, repair};
pub(crate) use value::{RESERVED_SEGMENT, host_and_port};

#[cfg(test)]
mod tests;
