//! Configuration: what a person writes, and what the program holds after the check.

mod model;

pub use model::{
    Config, Deadband, Device, Hub, HubUrl, Journal, Leaf, LeafMode, Metrics, RecordMode, Tag,
    TlsFiles, Uplink, WhenFull,
};
