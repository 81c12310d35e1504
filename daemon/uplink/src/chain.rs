//! What the machine may know of the journal.
//!
//! # Invariants
//! - Only durable frames are visible: what `fdatasync` has not covered is never sent.
//! - Frames are named by epoch and number; a hole (dropped or damaged frames) ends a run, so
//!   `first..=last` of a run names exactly the frames of one message.

use tidegate_journal::{Epoch, Position};

/// A pure view onto the gateway's journal, the same for the length of one call.
pub trait Chain {
    /// The epochs that are still kept and may be delivered: the oldest first, the current one
    /// last. An epoch closed by a fork is not among them.
    fn epochs(&self) -> Vec<Epoch>;

    /// The newest durable frame of an epoch; `None` when it has none.
    fn tail(&self, epoch: Epoch) -> Option<Position>;

    /// The place of a frame. `None` when the journal does not know its hash: never written, or
    /// dropped. A bridge that still holds the hash of a dropped frame may answer for it.
    fn position_of(&self, epoch: Epoch, frame: u64) -> Option<Position>;

    /// The longest run of consecutive kept frames that begins with the first kept frame at or
    /// after `from` and is not larger than `max_bytes`; a first frame larger than that comes
    /// alone. `None` when nothing is kept from there on.
    fn run(&self, epoch: Epoch, from: u64, max_bytes: usize) -> Option<Run>;

    /// How much is kept at and after a frame.
    fn amount_from(&self, epoch: Epoch, from: u64) -> Amount;
}

/// Consecutive frames that travel as one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first frame's number.
    pub first: u64,
    /// The last frame.
    pub last: Position,
    /// Bytes of all of them together.
    pub bytes: usize,
    /// Samples in all of them together.
    pub samples: u64,
}

impl Run {
    /// How many frames it has.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.last.frame.saturating_sub(self.first).saturating_add(1)
    }
}

/// An amount of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Whole frames.
    pub frames: u64,
    /// Samples in them.
    pub samples: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, more: Self) {
        self.frames = self.frames.saturating_add(more.frames);
        self.samples = self.samples.saturating_add(more.samples);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}
