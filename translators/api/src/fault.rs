//! What went over the wire around a fault, for the person who looks for its cause.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// One request and what came back, byte for byte as on the wire (under TLS: inside it).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// When the request was sent.
    pub at: Timestamp,
    /// From then until the outcome was known.
    pub took: Duration,
    /// The request.
    pub sent: Box<[u8]>,
    /// Everything that arrived meanwhile, as far as it is kept.
    pub received: Box<[u8]>,
    /// What became of it, in words: `answered`, or the error.
    pub outcome: String,
}

/// A fault of one device with the exchanges around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultReport {
    /// Counts the device's faults from 0. A report with the number of an earlier one replaces it:
    /// it holds what came after the fault as well.
    pub number: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened, in words.
    pub what: String,
    /// A few exchanges before, the one that failed, and a few after, oldest first.
    pub exchanges: Vec<Exchange>,
}
