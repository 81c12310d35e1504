//! What the machine is told once, and what it remembers from one run to the next.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_journal::{Epoch, Position};

use crate::event::RewindReason;

/// What the machine is told at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The gateway as `PLANT/NAME`: what frames at the hub are compared with, and what spreads
    /// the retries of a fleet.
    pub gateway: String,
    /// The stream whose acknowledgements count.
    pub stream: String,
    /// The JetStream domain whose acknowledgements count.
    pub domain: String,
    /// The longest wait before a message that is not full is sent.
    pub send_every: Duration,
    /// The largest message, in bytes; a single larger frame still goes, alone.
    pub max_message: usize,
    /// Bytes per second while more than one message waits; `None` is no limit.
    pub backfill_limit: Option<u64>,
    /// Bytes per second of everything that is sent, repeats included; `None` is no limit.
    pub limit: Option<u64>,
    /// Differs from start to start (random), so that a message id of an earlier run never meets
    /// one of this run inside the hub's dedupe window.
    pub incarnation: u64,
}

impl Settings {
    /// The defaults of the design for one gateway and hub.
    #[must_use]
    pub fn new(gateway: String, stream: String, domain: String, incarnation: u64) -> Self {
        Self {
            gateway,
            stream,
            domain,
            send_every: Duration::from_secs(2),
            max_message: 256 * 1024,
            backfill_limit: None,
            limit: None,
            incarnation,
        }
    }
}

/// One life of the hub's stream. A stream that was deleted and made again has another `created`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HubId {
    /// The JetStream domain.
    pub domain: String,
    /// The stream's name.
    pub stream: String,
    /// The stream's creation time, nanoseconds since 1970 UTC, as its INFO says.
    pub created: i64,
}

/// How far an epoch is delivered to one hub. Kept with the journal, handed back at the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Which hub said so.
    pub hub: HubId,
    /// The epoch.
    pub epoch: Epoch,
    /// The last frame that the hub acknowledged.
    pub up_to: Position,
    /// The stream sequence of the message that ends with that frame.
    pub stream_seq: u64,
    /// Set while messages are under way on the belief that the hub lost what it acknowledged.
    /// Without it, a start between such a message and its acknowledgement could take the new
    /// message for the lost one: a hub that went back gives out the same sequences again.
    pub suspicion: Option<Suspicion>,
}

/// A loss at the hub that its leader has not confirmed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// Why it is believed.
    pub reason: RewindReason,
    /// The last frame that the hub still has; `None` for nothing.
    pub after: Option<Position>,
    /// The expected last sequence that goes with it.
    pub expected_last_seq: u64,
    /// The messages sent on that belief, at most nine: the last frame and the id of each.
    pub sent: Vec<(Position, String)>,
}
