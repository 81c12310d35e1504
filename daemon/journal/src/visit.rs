//! Reading one segment: all of it, or chosen frames.
//!
//! # Invariants
//! - Only durable frames that stand in their place are shown: epoch, number and checksum fit.
//! - A segment that is dropped meanwhile is no error and shows nothing of its file's next life.
//! - No lock is held during I/O or while a frame is looked at.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{ReadError, SidecarError};
use crate::frame::{self, FrameError};
use crate::log::{Segment, is_bad_sector};
use crate::reader::Reader;
use crate::segment::Tail;
use crate::sidecar::Sidecar;
use crate::storage::read_up_to;
use crate::{Epoch, Frame};

/// Read at a time, so that many small commits cost few reads.
const WINDOW: u64 = 256 << 10;
/// Rather read this many bytes that nobody wants than begin another read.
const BRIDGED: u64 = 16 << 10;
/// How often damage is looked for in one visit.
const ATTEMPTS: usize = 4;

/// A segment as readers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSpan {
    /// Its number, never given twice.
    pub number: u64,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its first frame.
    pub first_frame: u64,
    /// The sequence number of its first sample.
    pub first_seq: u64,
    /// The number after its last durable frame.
    pub end_frame: u64,
    /// The sequence number after its last durable sample.
    pub end_seq: u64,
    /// Whether nothing more comes into it.
    pub sealed: bool,
    /// Its size on the disk.
    pub bytes: u64,
    /// Whether a sidecar seems to be there.
    pub sidecar: bool,
}

/// Where a frame stands in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// The frame's number.
    pub number: u64,
    /// Its first byte in the segment's file.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u32,
}

/// How a visit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visited {
    /// Everything that was asked for and is intact was shown.
    All,
    /// Whoever looked had enough.
    Stopped,
    /// The segment was dropped meanwhile.
    Gone,
    /// Something else stands where this frame was said to be. Frames before it were shown.
    Damaged {
        /// The frame's number.
        frame: u64,
    },
}

/// Part of a file in memory.
#[derive(Default)]
struct Window {
    offset: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// The bytes of a range; reads up to `until` when they are not here yet.
    fn get(
        &mut self,
        segment: &Segment,
        meter: &AtomicU64,
        range: (u64, u64),
        until: u64,
    ) -> std::io::Result<&[u8]> {
        let (from, to) = range;
        let ends = self.offset.saturating_add(self.bytes.len() as u64);
        if from < self.offset || to > ends {
            let wanted = to.max(until.min(from.saturating_add(WINDOW))).saturating_sub(from);
            let wanted = usize::try_from(wanted).unwrap_or(0);
            meter.fetch_add(wanted as u64, Ordering::Relaxed);
            self.offset = from;
            self.bytes = match read_up_to(&*segment.file, from, wanted) {
                Ok(bytes) => bytes,
                // A sector that cannot be read is damage.
                Err(error) if is_bad_sector(&error) => Vec::new(),
                Err(error) => return Err(error),
            };
        }
        let skip = usize::try_from(from.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let length = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        let rest = self.bytes.get(skip..).unwrap_or(&[]);
        Ok(rest.get(..length).unwrap_or(rest))
    }
}

impl Reader {
    /// The segments that are kept, oldest first; the last one is being written.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentSpan> {
        let mut spans: Vec<SegmentSpan> = self.with_log(|log| {
            let last = log.segments.len().saturating_sub(1);
            let span = |(at, segment): (usize, &Arc<Segment>)| {
                let (start, end) = (segment.start(), log.end_of(at)?);
                Some(SegmentSpan {
                    number: segment.header.number,
                    epoch: segment.header.epoch,
                    first_frame: start.frame,
                    first_seq: start.seq,
                    end_frame: end.frame,
                    end_seq: end.seq,
                    sealed: at != last,
                    bytes: segment.bytes,
                    sidecar: false,
                })
            };
            log.segments.iter().enumerate().filter_map(span).collect()
        });
        self.shared().sidecars.mark(&mut spans);
        spans
    }

    /// The segment as it is now, and where it ends.
    fn find(&self, span: &SegmentSpan) -> Option<(Arc<Segment>, Tail)> {
        self.with_log(|log| {
            let is_it = |it: &Arc<Segment>| {
                it.header.number == span.number && it.header.epoch == span.epoch
            };
            let at = log.segments.iter().position(is_it)?;
            Some((Arc::clone(log.segments.get(at)?), log.end_of(at)?))
        })
    }

    fn is_kept(&self, span: &SegmentSpan) -> bool {
        self.find(span).is_some()
    }

    /// Shows the frames of a segment from `from` on, up to the end that `span` names. Damage is
    /// stepped over: the numbers tell.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn visit(
        &self,
        span: &SegmentSpan,
        from: u64,
        look: &mut dyn FnMut(&Frame<'_>, Spot) -> ControlFlow<()>,
    ) -> Result<Visited, ReadError> {
        let mut next = from.max(span.first_frame);
        for _ in 0..ATTEMPTS {
            let Some((segment, end)) = self.find(span) else { return Ok(Visited::Gone) };
            match self.visit_runs(&segment, end, span, &mut next, look) {
                Ok(None) => {}
                Ok(Some(visited)) => return Ok(visited),
                // Opening a file that was renamed a moment ago.
                Err(ReadError::Storage(_)) if !self.is_kept(span) => return Ok(Visited::Gone),
                Err(error) => return Err(error),
            }
            if !self.is_kept(span) {
                return Ok(Visited::Gone);
            }
            // Notes what is damaged, for the writer to name; what is left is known then.
            self.shared().examine(&segment, end)?;
        }
        Err(ReadError::Unsettled { epoch: span.epoch, frame: next })
    }

    /// `None` when something did not fit.
    fn visit_runs(
        &self,
        segment: &Segment,
        end: Tail,
        span: &SegmentSpan,
        next: &mut u64,
        look: &mut dyn FnMut(&Frame<'_>, Spot) -> ControlFlow<()>,
    ) -> Result<Option<Visited>, ReadError> {
        let shared = self.shared();
        let runs = shared.runs_of(segment, end)?;
        let wanted = |run: &&crate::scan::Run| run.end() > *next && run.first < span.end_frame;
        let wanted: Vec<_> = runs.iter().filter(wanted).copied().collect();
        let until = wanted.last().map_or(0, |run| run.offset.saturating_add(run.bytes));
        let mut window = Window::default();
        for run in wanted {
            let range = (run.offset, run.offset.saturating_add(run.bytes));
            let mut rest = window
                .get(segment, self.meter(), range, until)
                .map_err(|source| shared.storage_error("read", &segment.name, source))?;
            let mut offset = run.offset;
            for number in run.first..run.end().min(span.end_frame) {
                let found = match frame::decode(rest) {
                    Ok(found) => found,
                    Err(FrameError::NeedsNewer { needs, .. }) => {
                        return Err(ReadError::NeedsNewer {
                            epoch: span.epoch,
                            frame: number,
                            needs,
                        });
                    }
                    Err(_) => return Ok(None),
                };
                if found.header.epoch != span.epoch || found.header.number != number {
                    return Ok(None);
                }
                let length = found.bytes.len();
                let spot =
                    Spot { number, offset, length: u32::try_from(length).unwrap_or(u32::MAX) };
                if number >= *next {
                    *next = number.saturating_add(1);
                    if look(&found, spot).is_break() {
                        return Ok(Some(Visited::Stopped));
                    }
                }
                offset = offset.saturating_add(length as u64);
                rest = rest.get(length..).unwrap_or(&[]);
            }
        }
        Ok(Some(Visited::All))
    }

    /// Shows chosen frames of a segment; `spots` are in ascending order. Only they are read, and
    /// small gaps between them.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn fetch(
        &self,
        span: &SegmentSpan,
        spots: &[Spot],
        look: &mut dyn FnMut(&Frame<'_>, Spot) -> ControlFlow<()>,
    ) -> Result<Visited, ReadError> {
        let Some((segment, _)) = self.find(span) else { return Ok(Visited::Gone) };
        let shared = self.shared();
        let mut window = Window::default();
        for (at, spot) in spots.iter().enumerate() {
            let range = (spot.offset, spot.offset.saturating_add(u64::from(spot.length)));
            let later = spots.get(at..).unwrap_or(&[]);
            let read = window.get(&segment, self.meter(), range, side_by_side(later));
            let found = match read {
                Ok(bytes) => frame::decode(bytes),
                Err(_) if !self.is_kept(span) => return Ok(Visited::Gone),
                Err(source) => {
                    return Err(shared.storage_error("read", &segment.name, source).into());
                }
            };
            let found = found.ok().filter(|found| {
                found.header.epoch == span.epoch && found.header.number == spot.number
            });
            let Some(found) = found else {
                return Ok(if self.is_kept(span) {
                    Visited::Damaged { frame: spot.number }
                } else {
                    Visited::Gone
                });
            };
            if look(&found, *spot).is_break() {
                return Ok(Visited::Stopped);
            }
        }
        Ok(Visited::All)
    }

    /// The sidecar of a sealed segment; `None` when there is none that fits it.
    #[must_use]
    pub fn sidecar(&self, span: &SegmentSpan) -> Option<Sidecar> {
        if !span.sealed {
            return None;
        }
        let (segment, end) = self.find(span)?;
        self.shared().sidecars.open(&segment, end, self.meter_shared())
    }

    /// Says that a sidecar's content makes no sense: it goes, to be made again.
    pub fn drop_sidecar(&self, span: &SegmentSpan) {
        self.shared().sidecars.discard(span.number);
    }

    /// Writes the sidecar of a sealed segment, in place of one that is there.
    ///
    /// # Errors
    /// See [`SidecarError`]; the record itself is as before.
    pub fn keep_sidecar(&self, span: &SegmentSpan, content: &[u8]) -> Result<(), SidecarError> {
        let found = self.find(span).filter(|(_, end)| span.sealed && end.frame == span.end_frame);
        let Some((segment, end)) = found else {
            return Err(SidecarError::NotSealed { segment: span.number });
        };
        self.shared().keep_sidecar(&segment, end, content)
    }

    /// The most bytes that a sidecar may have, some for its head included; 0 when none is kept.
    #[must_use]
    pub fn sidecar_limit(&self) -> u64 {
        self.shared().sidecars.limit()
    }
}

/// Up to where frames lie so close that one read is best.
fn side_by_side(spots: &[crate::Spot]) -> u64 {
    let mut until = 0;
    for spot in spots {
        if until != 0 && spot.offset > u64::saturating_add(until, BRIDGED) {
            break;
        }
        until = spot.offset.saturating_add(u64::from(spot.length));
        if until.saturating_sub(spots.first().map_or(0, |first| first.offset)) >= WINDOW {
            break;
        }
    }
    until
}
