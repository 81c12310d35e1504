//! Configuration: what a person writes, and what the program holds after the check.
//!
//! # Invariants
//! - One run shows every mistake: nothing returns at the first one.
//! - [`keys::KEYS`] is the only list of what can be written.
//! - Environment and arguments are passed in; nothing here reads the process's own.

mod address;
mod check;
mod device;
mod difference;
pub mod estimate;
mod fields;
pub mod keys;
mod load;
mod mistake;
mod model;
mod overlap;
mod piecemeal;
mod pieces;
pub mod reference;
mod settings;
mod share;
pub(crate) mod size;
mod suggest;
mod syntax;
mod value;

pub(crate) use address::parse as register_address;
pub use check::parse;
pub use difference::{ChangedDevice, Difference};
pub use load::{DEFAULT_FILE, LoadError, MAX_FILE_BYTES, load};
pub use mistake::Mistakes;
pub use model::{
    Config, Deadband, Device, Hub, HubUrl, Journal, Leaf, LeafMode, Manner, Metrics, RecordMode,
    Tag, TlsFiles, Uplink, WhenFull,
};
pub use settings::Argument;
pub(crate) use value::host_and_port;

#[cfg(test)]
mod tests;
