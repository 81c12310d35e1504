//! The bodies of loss frames: two ledgers that are never added up.
//!
//! # Invariants
//! - A [`Bridge`] names captured samples that exist no more, by frame and by sequence number, and
//!   carries the hashes on both sides, so that a reader can step over the hole in the chain.
//! - A bridge folds in every loss record that stood in the frames it replaces.
//! - Bridges may overlap: a range that grows while the hub is away is named by ever wider bridges.
//!   Take the union of intervals, never a sum; a frame that is present overrides any bridge.
//! - An [`Unsequenced`] record names what was never captured. A later record with the same `id`
//!   replaces the earlier one: that is how a loss that lasts is extended.
//!   A record folded into a bridge may be older than one that still stands: of two with one `id`
//!   the one with the later `to` counts.

use serde::{Deserialize, Serialize};

use crate::{Epoch, FrameHash};

/// The body of a loss frame (postcard, [`crate::Codec::Plain`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LossRecord {
    /// Captured, then dropped or damaged.
    Bridge(Bridge),
    /// Never captured.
    Unsequenced(Unsequenced),
    /// What was before this epoch: the first frame of every epoch.
    Predecessor(Predecessor),
}

/// What an epoch knows of the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predecessor {
    /// Why this epoch began.
    pub reason: EpochReason,
    /// The epoch before, where it is known.
    pub epoch: Option<Epoch>,
    /// The last frame of the epoch before that still counts, where it is known.
    pub last: Option<Position>,
    /// How many frames that the hub never had were carried over into this epoch.
    pub carried_frames: u64,
}

/// A place in the chain: a frame and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The frame's number.
    pub frame: u64,
    /// The sequence number after its last sample.
    pub next_seq: u64,
    /// Its hash.
    pub hash: FrameHash,
}

/// Why an epoch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EpochReason {
    /// The journal directory was empty. Where the hub knows an earlier epoch, that one's end is
    /// unknown.
    FirstStart,
    /// The hub holds frames of the epoch before that this journal never wrote: a restored disk
    /// image or a cloned card. What the other copy wrote after `last` is unknown.
    Fork,
    /// The journal of the epoch before could not be read.
    JournalLost,
    /// The gateway's list of tag numbers was gone, so numbers would have met other tags. The
    /// epoch before is whole; only its numbers end with it.
    CatalogLost,
}

/// A hole in the chain and everything known about what stood there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Why it is gone.
    pub cause: BridgeCause,
    /// The first frame that is gone.
    pub first_frame: u64,
    /// The last frame that is gone.
    pub last_frame: u64,
    /// The sequence number of the first sample that is gone.
    pub first_seq: u64,
    /// The sequence number after the last sample that is gone; equal to `first_seq` when only
    /// frames without samples are gone.
    pub end_seq: u64,
    /// Hash of the frame before the hole.
    pub hash_before: FrameHash,
    /// Hash of the last frame in the hole: what the frame after it carries as `previous`.
    pub hash_after: FrameHash,
    /// Wall-clock range of what is gone, nanoseconds since 1970 UTC, as far as known.
    pub wall: (i64, i64),
    /// The unsequenced records that stood in the hole.
    pub folded: Vec<Unsequenced>,
}

/// Why captured samples are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BridgeCause {
    /// The journal was full and the oldest undelivered frames made room.
    DroppedOldest,
    /// Bytes on the disk were damaged.
    Damaged,
    /// The hub lost delivered frames that the gateway no longer keeps.
    LostAtHub,
}

/// What was never captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsequenced {
    /// Identity of this loss within the epoch; random.
    pub id: u64,
    /// The device or tag path, or `gateway` for everything.
    pub subject: String,
    /// The cause, one of the translator API's words such as `device-silent`.
    pub cause: String,
    /// When it began, nanoseconds since 1970 UTC.
    pub from: i64,
    /// Until when it is known to have lasted.
    pub to: i64,
    /// How many samples; `None` when nobody can know.
    pub count: Option<u64>,
    /// Whether it was still going on when this was written.
    pub open: bool,
}
