//! One reading of one tag.

use serde::{Deserialize, Serialize};

use crate::{Quality, Timestamp, Value};

/// The number of a tag in the gateway's catalog: given to a path once, never reused, scoped by
/// journal epoch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TagId(pub u32);

/// One reading of one tag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Whose value it is.
    pub tag: TagId,
    /// When the gateway had the answer in hand.
    pub acquired: Timestamp,
    /// When the device says the value arose.
    pub source: Option<Timestamp>,
    /// When the device's server says it saw the value.
    pub server: Option<Timestamp>,
    /// The protocol's own status word (OPC UA status code, Modbus exception code); 0 is "none".
    pub status: u32,
    /// How far the value can be trusted.
    pub quality: Quality,
    /// What was read.
    pub value: Value,
}

impl Sample {
    /// A good reading without device times.
    #[must_use]
    pub const fn good(tag: TagId, acquired: Timestamp, value: Value) -> Self {
        Self { tag, acquired, source: None, server: None, status: 0, quality: Quality::Good, value }
    }

    /// When the value arose: by the device, else by its server, else by the gateway.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.source.or(self.server).unwrap_or(self.acquired)
    }

    /// A reading that tells only that there is no trustworthy value.
    #[must_use]
    pub const fn bad(tag: TagId, acquired: Timestamp, reason: crate::Reason, status: u32) -> Self {
        Self {
            tag,
            acquired,
            source: None,
            server: None,
            status,
            quality: Quality::Bad(reason),
            value: Value::None,
        }
    }
}
