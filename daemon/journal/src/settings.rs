//! What a journal is told.

use crate::ClockState;
use crate::error::OpenError;
use crate::frame::MAX_FRAME_BYTES;
use crate::segment::{BLOCK_OFFSET, MAX_SEGMENT_BYTES};
use crate::sidecar::Limits;

/// The smallest segment: header, one frame of any size behind its mark, and room for a bridge.
pub const MIN_SEGMENT_BYTES: u64 = 96 << 10;
/// The segment size when nothing else is told: small enough to drop little at a time, large
/// enough that making one (two directory operations) does not count.
pub const DEFAULT_SEGMENT_BYTES: u64 = 8 << 20;
/// The fewest segments that work: the one being written, a spare, and two to keep.
pub const MIN_SEGMENTS: u64 = 4;

/// What a journal is told when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The gateway's plant.
    pub plant: String,
    /// The gateway's name.
    pub gateway: String,
    /// All files of the journal together, in bytes.
    pub max_bytes: u64,
    /// One segment, in bytes, a multiple of 4096.
    pub segment_bytes: u64,
    /// Bytes of the file system that are left free for others.
    pub headroom: u64,
    /// Bytes that may wait for a commit before an append commits by itself.
    pub max_pending: usize,
    /// What happens when there is no more room.
    pub when_full: WhenFull,
    /// The most bytes of one segment's sidecar; 0 lets none be written.
    pub sidecar_bytes: u64,
}

/// What happens when the journal is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest frames make room; what the hub does not have yet is named by a bridge.
    DropOldest,
    /// Only what the hub has makes room; beyond that, appending fails.
    StopRecording,
}

impl Settings {
    /// Settings with the default sizes.
    #[must_use]
    pub fn new(plant: impl Into<String>, gateway: impl Into<String>, max_bytes: u64) -> Self {
        Self {
            plant: plant.into(),
            gateway: gateway.into(),
            max_bytes,
            segment_bytes: DEFAULT_SEGMENT_BYTES,
            headroom: 2 * DEFAULT_SEGMENT_BYTES,
            max_pending: 1 << 20,
            when_full: WhenFull::DropOldest,
            sidecar_bytes: 0,
        }
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let aligned = self.segment_bytes.is_multiple_of(BLOCK_OFFSET);
        if !aligned || !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&self.segment_bytes) {
            return Err(OpenError::Settings {
                setting: "segment-bytes",
                value: self.segment_bytes,
                legal: format!(
                    "set a multiple of {BLOCK_OFFSET} from {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}"
                ),
            });
        }
        let least = MIN_SEGMENTS * self.segment_bytes;
        if self.max_bytes < least {
            return Err(OpenError::Settings {
                setting: "max-bytes",
                value: self.max_bytes,
                legal: format!("set at least {least} ({MIN_SEGMENTS} segments)"),
            });
        }
        Ok(())
    }

    pub(crate) const fn sidecar_limits(&self) -> Limits {
        Limits {
            sidecar_bytes: self.sidecar_bytes,
            segment_bytes: self.segment_bytes,
            max_bytes: self.max_bytes,
            headroom: self.headroom,
        }
    }

    /// Bytes kept free at the end of the segment being written, while there is no spare, for the
    /// records that dropping must leave behind.
    pub(crate) fn reserve(&self) -> u64 {
        u64::try_from(self.loss_budget()).unwrap_or(0) + 2 * BLOCK_OFFSET
    }

    /// Bytes of loss records that one drop may leave behind.
    pub(crate) fn loss_budget(&self) -> usize {
        // A quarter of the smallest segment, and of the largest frame.
        MAX_FRAME_BYTES / 4
    }
}

/// The times that a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Wall-clock range of the content, nanoseconds since 1970 UTC.
    pub wall: (i64, i64),
    /// The same range on the monotonic clock, nanoseconds since boot.
    pub mono: (u64, u64),
    /// Which boot the monotonic clock belongs to.
    pub boot: [u8; 16],
    /// The wall clock's standing.
    pub clock: ClockState,
}
