//! What goes into the writer and what it tells.

use crate::{Codec, Epoch, Kind, Position, Stamp};

/// A frame to be written; the journal adds its place in the chain.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// What it holds.
    pub kind: Kind,
    /// How the body is packed.
    pub codec: Codec,
    /// The body.
    pub body: &'a [u8],
    /// How many samples it holds.
    pub count: u32,
    /// Its times.
    pub stamp: Stamp,
}

/// The place that a frame got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The frame's number in the current epoch.
    pub number: u64,
    /// The sequence number of its first sample.
    pub first_seq: u64,
}

/// Something that an operator or another part of the program must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Frames that the hub does not have were dropped; a bridge names them.
    Dropped {
        /// Their epoch.
        epoch: Epoch,
        /// The first and the last.
        frames: (u64, u64),
        /// How many samples.
        samples: u64,
    },
    /// Frames were damaged on the disk; a bridge names them, unless the hub has them all.
    Damaged {
        /// Their epoch.
        epoch: Epoch,
        /// The first and the last.
        frames: (u64, u64),
        /// How many samples.
        samples: u64,
        /// Whether the hub acknowledged all of them.
        delivered: bool,
    },
    /// An `fdatasync` failed; the pending frames went to another file.
    SyncFailed {
        /// The file that is not trusted any more.
        file: String,
    },
    /// No spare file could be made, so the journal can take only little more.
    NoSpare {
        /// Why.
        why: String,
    },
    /// Readers get nothing of a segment, so delivery waits for it.
    Unreadable {
        /// Why.
        why: String,
    },
    /// What could not be read can be, or is kept no more.
    Readable,
}

/// The journal in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Bytes of all segments, their sidecars and the spare.
    pub bytes: u64,
    /// The most they may be.
    pub max_bytes: u64,
    /// Segments, without the spare.
    pub segments: u64,
    /// Sidecars of segments.
    pub sidecars: u64,
    /// Bytes of them, which count as the journal's.
    pub sidecar_bytes: u64,
    /// Sidecars that could not be written or removed, or were found damaged.
    pub sidecar_failures: u64,
    /// Frames that are durable and that the hub has not acknowledged.
    pub backlog_frames: u64,
    /// Samples in them, as far as they are of the epoch being delivered or written.
    pub backlog_samples: u64,
    /// Frames that wait for a commit.
    pub pending_frames: u64,
    /// Bytes of them.
    pub pending_bytes: u64,
    /// Commits since the journal was opened.
    pub commits: u64,
    /// Bytes given to the file system since then, padding included.
    pub written_bytes: u64,
    /// Bytes of frames among them.
    pub frame_bytes: u64,
    /// Frames dropped that the hub did not have.
    pub dropped_frames: u64,
    /// Samples in them.
    pub dropped_samples: u64,
    /// Frames found damaged.
    pub damaged_frames: u64,
    /// Segments that were recycled.
    pub recycled: u64,
    /// Failed `fdatasync`s.
    pub failed_syncs: u64,
    /// Events that nobody asked for in time.
    pub events_lost: u64,
}

/// How far the hub has the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The epoch being delivered.
    pub epoch: Epoch,
    /// The last frame acknowledged; `None` before the first.
    pub position: Option<Position>,
    /// What the caller keeps with it.
    pub destination: Vec<u8>,
}

/// Where delivery goes on after [`crate::Journal::rewind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewound {
    /// The frame to send next.
    pub resume: u64,
    /// Whether frames before it, that the hub does not have either, are no longer kept:
    /// [`crate::Journal::lost_at_hub`] then leaves the bridge.
    pub incomplete: bool,
}
