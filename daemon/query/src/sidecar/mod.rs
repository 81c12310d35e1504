//! What a segment holds in short, so that a question of buckets need not read it, and one of a few
//! tags reads only the frames that hold them.
//!
//! # Invariants
//! - A digest says what reading the frames would say: cells are exactly what their samples give, and
//!   every frame that may hold a tag is named. Where it cannot say, it says so.
//! - Nothing here runs on the writer's thread: frames are read again after they are durable.
//! - Memory is bounded by the limits in `tally`, and a file by its share of the segment: where tags
//!   have few samples, cells grow wider or are left out, and the frames are read instead.
//! - Whatever stands in a file, nothing panics and no more memory is taken than the limits name.

mod entry;
mod file;
mod keeper;
mod notes;
mod numbers;
mod tally;
#[cfg(test)]
mod tests;
mod wire;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_journal::{Kind, Reader, SegmentSpan, Spot};
use tidegate_translator::TagId;

use crate::Cell;
use file::Stored;
use tally::Tally;

pub use keeper::{Progress, Sidecars};

/// The lengths that a tag's cells can have, in nanoseconds, all aligned to 1970 UTC: the finest
/// that leaves enough samples for each.
pub const GRAINS: [i64; 4] = [GRAIN, 12 * GRAIN, 72 * GRAIN, 288 * GRAIN];

/// Five minutes: the finest cell.
pub const GRAIN: i64 = 300_000_000_000;

/// A frame of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameNote {
    /// Where it stands.
    pub spot: Spot,
    /// What it holds.
    pub kind: Kind,
    /// The sequence number of its first sample, or of the next one when it has none.
    pub first_seq: u64,
    /// How many samples.
    pub count: u32,
    /// Wall-clock range of the content, nanoseconds since 1970 UTC; never narrower than it is, up
    /// to a millisecond wider at both ends.
    pub wall: (i64, i64),
}

/// Spans of time and what one tag did in them.
#[derive(Debug, Clone, PartialEq)]
pub enum Cells {
    /// Every sample of the tag in the segment is in one of these.
    Every {
        /// The length of each in nanoseconds, one of [`GRAINS`].
        grain: i64,
        /// Begin, a multiple of `grain` since 1970 UTC, and content; in ascending order.
        cells: Vec<(i64, Cell)>,
        /// Whether the cells tell their last samples; else all have `None`, because there are long
        /// texts among them.
        lasts: bool,
    },
    /// Too few samples for cells to be worth their room, or too many tags: the frames tell.
    Unknown,
}

/// What is known of one tag in the segment.
#[derive(Debug, Clone, PartialEq)]
pub struct TagDigest {
    /// What it did.
    pub cells: Cells,
    /// Places in [`Digest::frames`]: no other frame holds the tag. Ascending, not empty.
    pub frames: Vec<Range<usize>>,
}

/// What a segment holds in short. Of the segment being written it goes on growing.
#[derive(Clone)]
pub struct Digest(Content);

#[derive(Clone)]
enum Content {
    InMemory(Arc<Mutex<Tally>>),
    Stored(Arc<Stored>, Reader, SegmentSpan),
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.0 {
            Content::InMemory(_) => "Digest(in memory)",
            Content::Stored(..) => "Digest(stored)",
        })
    }
}

/// A piece of a sidecar turned out to be damaged: read the segment instead. It is made again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sidecar of segment {segment} is damaged; the segment itself must be read")]
pub struct Damaged {
    /// The segment's number.
    pub segment: u64,
}

impl Digest {
    fn in_memory(tally: &Arc<Mutex<Tally>>) -> Self {
        Self(Content::InMemory(Arc::clone(tally)))
    }

    fn with<T>(
        &self,
        of_tally: impl FnOnce(&Tally) -> T,
        of_file: impl FnOnce(&Stored) -> Option<T>,
    ) -> Result<T, Damaged> {
        match &self.0 {
            Content::InMemory(tally) => {
                Ok(of_tally(&tally.lock().unwrap_or_else(PoisonError::into_inner)))
            }
            Content::Stored(stored, reader, span) => of_file(stored).ok_or_else(|| {
                reader.drop_sidecar(span);
                Damaged { segment: span.number }
            }),
        }
    }

    /// The wall-clock range of all frames, nanoseconds since 1970 UTC; `None` without any.
    #[must_use]
    pub fn wall(&self) -> Option<(i64, i64)> {
        self.with(Tally::wall, |stored| Some(stored.wall())).ok().flatten()
    }

    /// The number after the last frame that is in here; later ones must be read.
    #[must_use]
    pub fn end_frame(&self) -> u64 {
        self.with(Tally::end_frame, |stored| Some(stored.end_frame())).unwrap_or(0)
    }

    /// The sample frames that were intact, in order.
    ///
    /// # Errors
    /// When the sidecar is damaged.
    pub fn frames(&self) -> Result<Vec<FrameNote>, Damaged> {
        self.with(|tally| tally.frames().to_vec(), Stored::frames)
    }

    /// The frames of all other kinds that were intact, in order.
    ///
    /// # Errors
    /// When the sidecar is damaged.
    pub fn others(&self) -> Result<Vec<FrameNote>, Damaged> {
        self.with(|tally| tally.others().to_vec(), Stored::others)
    }

    /// What is known of these tags, which must be in ascending order; a tag that is not in the
    /// answer has no sample in the segment.
    ///
    /// # Errors
    /// When the sidecar is damaged.
    pub fn tags(&self, wanted: &[TagId]) -> Result<Vec<(TagId, TagDigest)>, Damaged> {
        self.with(|tally| tally.tags(wanted), |stored| stored.tags(wanted))
    }
}
