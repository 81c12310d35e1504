//! Reading frames while the writer goes on.
//!
//! # Invariants
//! - Only durable frames are seen.
//! - No lock is held during I/O; a segment that is recycled meanwhile is noticed by the epoch,
//!   number and chain of what was read.
//! - Damage that is met becomes a gap that is skipped; the writer names it at its next commit.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::ReadError;
use crate::frame::{self, FrameError};
use crate::log::{Log, Segment, Shared, is_bad_sector};
use crate::scan::Run;
use crate::segment::Tail;
use crate::storage::read_up_to;
use crate::{Epoch, FrameHash, MAX_FRAME_BYTES, Position};

/// How often a read starts again because something changed under it.
const ATTEMPTS: usize = 4;
/// Beyond a reader's budget, so that the last frame is whole.
const OVERREAD: u64 = MAX_FRAME_BYTES as u64;
/// Places remembered so that reading on does not search: one for the uplink, some for queries.
const HINTS: usize = 8;

/// A frame of this journal, by epoch and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameRef {
    /// The epoch.
    pub epoch: Epoch,
    /// The frame's number in it.
    pub frame: u64,
}

/// Consecutive whole frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Their epoch.
    pub epoch: Epoch,
    /// The frames, one after the other, as they are on the disk.
    pub bytes: Vec<u8>,
    /// One position for each frame.
    pub positions: Vec<Position>,
}

impl Batch {
    /// The position of the last frame.
    #[must_use]
    pub fn last(&self) -> Option<Position> {
        self.positions.last().copied()
    }

    /// The number of the frame after the last one.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.last().map(|last| last.frame.saturating_add(1))
    }
}

/// What reading from a frame gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// At least one frame, beginning with the one asked for.
    Frames(Batch),
    /// The frame asked for is not kept: dropped, or damaged. Go on with this one.
    Gap {
        /// The first frame after it that is kept, or the durable end.
        next: u64,
    },
    /// Everything durable of this epoch was read; a later one follows.
    EndOfEpoch {
        /// The epoch after this one.
        next: Epoch,
    },
    /// Nothing more is durable yet.
    AtTail,
}

/// A page of frames whose wall-clock range meets a range that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimePage {
    /// Runs of frames; two batches need not be consecutive.
    pub batches: Vec<Batch>,
    /// Where the next page begins; `None` at the durable end.
    pub resume: Option<FrameRef>,
}

/// One epoch of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochSpan {
    /// The epoch.
    pub epoch: Epoch,
    /// The first frame that is kept of it.
    pub first_frame: u64,
    /// The sequence number of the first sample that is kept of it.
    pub first_seq: u64,
    /// The hash of the frame before the first kept one: what that one carries as `previous`.
    pub hash_before: FrameHash,
    /// The number after its last durable frame.
    pub end_frame: u64,
    /// The sequence number after its last durable sample.
    pub end_seq: u64,
}

#[derive(Debug, Clone, Copy)]
struct Hint {
    segment: u64,
    frame: u64,
    offset: u64,
}

/// Reads durable frames. Clones share what they know about where frames are.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
    hints: Arc<Mutex<Vec<Hint>>>,
    meter: Arc<AtomicU64>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("place", &self.shared.place).finish_non_exhaustive()
    }
}

/// Where a frame is, or why not.
enum Located {
    In { segment: Arc<Segment>, end: Tail },
    Elsewhere(Read),
}

/// What reading inside one segment gave.
enum Step {
    /// The budget is used, or the runs end in a gap.
    Enough,
    /// The segment is read to its end.
    SegmentDone,
    /// The first frame is in a hole that ends here.
    Hole(u64),
    /// Bytes did not fit: look at the segment again.
    Again,
}

/// Why reading a run stopped.
enum Stop {
    RunDone,
    /// The budget is used.
    Full,
    /// What is there is not the frame that belongs there.
    Misfit,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, hints: Arc::default(), meter: Arc::default() }
    }

    /// A reader of nothing yet, to be handed out before the journal at `place` can be opened: see
    /// [`crate::Journal::open_for`].
    #[must_use]
    pub fn of_nothing(place: String) -> Self {
        let log = Log {
            segments: Vec::new(),
            active_runs: Arc::default(),
            next_offset: 0,
            tail: Tail::START,
        };
        Self::new(Arc::new(Shared::new(place, log)))
    }

    /// A reader of the same journal that counts for itself what it reads.
    #[must_use]
    pub fn metered(&self) -> Self {
        Self { meter: Arc::default(), ..self.clone() }
    }

    /// Bytes of frames and sidecars that this reader and its clones asked the storage for.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.meter.load(Ordering::Relaxed)
    }

    pub(crate) fn meter(&self) -> &AtomicU64 {
        &self.meter
    }

    pub(crate) const fn meter_shared(&self) -> &Arc<AtomicU64> {
        &self.meter
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(crate) fn with_log<T>(&self, look: impl FnOnce(&crate::log::Log) -> T) -> T {
        look(&self.shared.log())
    }

    /// Reads consecutive frames from `frame` on, whole ones up to about `budget` bytes but at
    /// least one.
    ///
    /// # Errors
    /// See [`ReadError`]; damage is no error, but [`Read::Gap`].
    pub fn read_from(&self, epoch: Epoch, frame: u64, budget: usize) -> Result<Read, ReadError> {
        let mut batch = Batch { epoch, bytes: Vec::new(), positions: Vec::new() };
        let mut next = frame;
        let mut attempts = 0;
        loop {
            let (segment, end) = match self.locate(epoch, next)? {
                Located::In { segment, end } => (segment, end),
                Located::Elsewhere(_) if !batch.positions.is_empty() => break,
                Located::Elsewhere(read) => return Ok(read),
            };
            let step = match self.read_segment(&segment, end, next, budget, &mut batch) {
                // It was dropped between looking and opening; looking again tells where to go on.
                Err(ReadError::Storage(error))
                    if error.source.kind() == ErrorKind::NotFound && attempts < ATTEMPTS =>
                {
                    attempts += 1;
                    continue;
                }
                // Nothing is known until it was read again.
                Ok(Step::Again) => Step::Again,
                other => {
                    self.shared.was_read(&segment.name, other.as_ref().err());
                    other?
                }
            };
            next = batch.next().unwrap_or(next);
            match step {
                Step::Enough => break,
                Step::SegmentDone => {}
                Step::Hole(_) if !batch.positions.is_empty() => break,
                Step::Hole(next) => return Ok(Read::Gap { next }),
                Step::Again if !batch.positions.is_empty() => break,
                Step::Again => {
                    attempts += 1;
                    if attempts >= ATTEMPTS {
                        let unsettled = ReadError::Unsettled { epoch, frame };
                        self.shared.was_read(&segment.name, Some(&unsettled));
                        return Err(unsettled);
                    }
                    // A hint of the file's former life would mislead every time.
                    self.forget_hints_of(segment.header.number);
                    // When it was recycled, `locate` will tell; else it is damaged.
                    if let Err(error) = self.shared.examine(&segment, end) {
                        self.shared.was_read(&segment.name, Some(&error));
                        return Err(error);
                    }
                }
            }
        }
        Ok(Read::Frames(batch))
    }

    /// The position of one frame: the hash that proves whether another copy holds the same.
    /// `None` when the frame is not kept or not durable.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn position_of(&self, epoch: Epoch, frame: u64) -> Result<Option<Position>, ReadError> {
        // The end of the log is known without reading, and asked for most.
        if let Some((_, end)) = self.shared.log().span(epoch)
            && let Some(last) = end.last()
            && last.frame == frame
        {
            return Ok(Some(last));
        }
        match self.read_from(epoch, frame, 1) {
            Ok(Read::Frames(batch)) => Ok(batch.positions.first().copied()),
            Ok(_) | Err(ReadError::UnknownEpoch { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The epochs that are kept, oldest first; the last one is being written.
    #[must_use]
    pub fn epochs(&self) -> Vec<EpochSpan> {
        let log = self.shared.log();
        let span = |epoch| {
            let (first, end) = log.span(epoch)?;
            Some(EpochSpan {
                epoch,
                first_frame: first.frame,
                first_seq: first.seq,
                hash_before: first.hash,
                end_frame: end.frame,
                end_seq: end.seq,
            })
        };
        log.epochs().into_iter().filter_map(span).collect()
    }

    /// The oldest frame that is kept.
    #[must_use]
    pub fn oldest(&self) -> Option<FrameRef> {
        let log = self.shared.log();
        let first = log.segments.first()?;
        Some(FrameRef { epoch: first.header.epoch, frame: first.start().frame })
    }

    /// The last durable frame of the epoch being written.
    #[must_use]
    pub fn durable(&self) -> Option<(Epoch, Position)> {
        let log = self.shared.log();
        Some((log.epoch()?, log.tail.last()?))
    }

    /// One page of the frames whose wall-clock range meets `from..=to` (nanoseconds since 1970
    /// UTC), beginning at `resume` or at the oldest frame, of about `budget` bytes.
    ///
    /// Wall clocks jump, so every commit is looked at; those outside the range cost one short
    /// read at most.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn overlapping(
        &self,
        (from, to): (i64, i64),
        resume: Option<FrameRef>,
        budget: usize,
    ) -> Result<TimePage, ReadError> {
        let mut page = TimePage { batches: Vec::new(), resume: None };
        let Some(mut at) = resume.or_else(|| self.oldest()) else { return Ok(page) };
        let meets = |wall: (i64, i64)| wall.0 <= to && wall.1 >= from;
        let mut used = 0;
        loop {
            let (segment, end) = match self.locate(at.epoch, at.frame) {
                Ok(Located::In { segment, end }) => (segment, end),
                Ok(Located::Elsewhere(Read::Gap { next })) => {
                    at.frame = next;
                    continue;
                }
                Ok(Located::Elsewhere(Read::EndOfEpoch { next })) => {
                    at = self.first_of(next).unwrap_or(FrameRef { epoch: next, frame: 0 });
                    continue;
                }
                Ok(Located::Elsewhere(_)) => return Ok(page),
                Err(ReadError::UnknownEpoch { .. }) => match self.oldest() {
                    // The epoch was dropped while its pages were asked for.
                    Some(oldest) if oldest.epoch != at.epoch => {
                        at = oldest;
                        continue;
                    }
                    _ => return Ok(page),
                },
                Err(error) => return Err(error),
            };
            let runs = self.shared.runs_of(&segment, end)?;
            let wanted = |run: &&Run| run.end() > at.frame && meets(run.wall);
            let Some(run) = runs.iter().find(wanted) else {
                at.frame = end.frame;
                continue;
            };
            at.frame = at.frame.max(run.first);
            if used >= budget {
                page.resume = Some(at);
                return Ok(page);
            }
            let room = (budget - used).min(usize::try_from(run.bytes).unwrap_or(usize::MAX));
            match self.read_from(at.epoch, at.frame, room)? {
                Read::Frames(batch) => {
                    used += batch.bytes.len();
                    at.frame = batch.next().unwrap_or(end.frame);
                    page.batches.extend(only(batch, meets));
                }
                Read::Gap { next } => at.frame = next,
                Read::EndOfEpoch { .. } | Read::AtTail => at.frame = end.frame,
            }
        }
    }

    fn first_of(&self, epoch: Epoch) -> Option<FrameRef> {
        let (first, _) = self.shared.log().span(epoch)?;
        Some(FrameRef { epoch, frame: first.frame })
    }

    fn locate(&self, epoch: Epoch, frame: u64) -> Result<Located, ReadError> {
        let log = self.shared.log();
        let (first, end) = log.span(epoch).ok_or(ReadError::UnknownEpoch { epoch })?;
        if frame >= end.frame {
            let after = log.epochs().into_iter().skip_while(|it| *it != epoch).nth(1);
            let read = after.map_or(Read::AtTail, |next| Read::EndOfEpoch { next });
            return Ok(Located::Elsewhere(read));
        }
        if frame < first.frame {
            return Ok(Located::Elsewhere(Read::Gap { next: first.frame }));
        }
        let at = log
            .segments
            .iter()
            .rposition(|it| it.header.epoch == epoch && it.start().frame <= frame);
        let found = at.and_then(|at| Some((log.segments.get(at)?, log.end_of(at)?, at)));
        let Some((segment, end, at)) = found else {
            return Ok(Located::Elsewhere(Read::AtTail));
        };
        if frame >= end.frame {
            // Between two segments: a segment that could not be read, or is missing.
            let next = log.segments.get(at + 1).map_or(end.frame, |next| next.start().frame);
            return Ok(Located::Elsewhere(Read::Gap { next }));
        }
        Ok(Located::In { segment: Arc::clone(segment), end })
    }

    fn read_segment(
        &self,
        segment: &Segment,
        end: Tail,
        first: u64,
        budget: usize,
        batch: &mut Batch,
    ) -> Result<Step, ReadError> {
        let runs = self.shared.runs_of(segment, end)?;
        let mut next = first;
        let mut index = runs.partition_point(|run| run.end() <= first);
        loop {
            let Some(run) = runs.get(index) else {
                return Ok(if next >= end.frame {
                    Step::SegmentDone
                } else {
                    Step::Hole(end.frame)
                });
            };
            if next < run.first {
                return Ok(Step::Hole(run.first));
            }
            match self.read_run(segment, run, next, budget, batch)? {
                Stop::RunDone => next = run.end(),
                Stop::Full => return Ok(Step::Enough),
                Stop::Misfit => return Ok(Step::Again),
            }
            if batch.bytes.len() >= budget {
                return Ok(Step::Enough);
            }
            index += 1;
        }
    }

    /// Reads frames of one run from `wanted` on.
    fn read_run(
        &self,
        segment: &Segment,
        run: &Run,
        wanted: u64,
        budget: usize,
        batch: &mut Batch,
    ) -> Result<Stop, ReadError> {
        let (mut at, mut offset) = self
            .hint(segment.header.number, wanted)
            .filter(|hint| hint.offset >= run.offset)
            .map_or((run.first, run.offset), |hint| (hint.frame, hint.offset));
        let run_end = run.offset.saturating_add(run.bytes);
        while at < run.end() {
            let room = budget.saturating_sub(batch.bytes.len()) as u64;
            let bytes = run_end.saturating_sub(offset).min(room.saturating_add(OVERREAD));
            self.meter.fetch_add(bytes, Ordering::Relaxed);
            let data = read_up_to(&*segment.file, offset, usize::try_from(bytes).unwrap_or(0))
                .or_else(|error| self.bad_sector(segment, error))?;
            let mut rest = data.as_slice();
            let chunk_starts_at = at;
            while at < run.end() {
                let found = match frame::decode(rest) {
                    Ok(found) => found,
                    Err(FrameError::NeedsNewer { needs, .. }) => {
                        return Err(ReadError::NeedsNewer { epoch: batch.epoch, frame: at, needs });
                    }
                    // The next chunk begins with it.
                    Err(FrameError::CutOff { .. }) if at > chunk_starts_at => break,
                    Err(_) => return Ok(Stop::Misfit),
                };
                let header = &found.header;
                let previous = batch.positions.last().map(|last| last.hash);
                let in_chain = at < wanted || previous.is_none_or(|hash| hash == header.previous);
                if header.epoch != batch.epoch || header.number != at || !in_chain {
                    return Ok(Stop::Misfit);
                }
                let length = found.bytes.len();
                if at >= wanted {
                    if !batch.positions.is_empty() && batch.bytes.len() + length > budget {
                        return Ok(Stop::Full);
                    }
                    batch.bytes.extend_from_slice(found.bytes);
                    batch.positions.push(Position {
                        frame: at,
                        next_seq: header.next_seq(),
                        hash: found.hash(),
                    });
                }
                at += 1;
                offset += length as u64;
                rest = &rest[length..];
                self.remember(Hint { segment: segment.header.number, frame: at, offset });
            }
        }
        Ok(Stop::RunDone)
    }

    /// An unreadable sector is damage, not the end of reading: an empty read makes it so.
    fn bad_sector(&self, segment: &Segment, source: std::io::Error) -> Result<Vec<u8>, ReadError> {
        if is_bad_sector(&source) {
            return Ok(Vec::new());
        }
        Err(self.shared.storage_error("read", &segment.name, source).into())
    }

    fn hint(&self, segment: u64, frame: u64) -> Option<Hint> {
        let hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        let near = |hint: &&Hint| hint.segment == segment && hint.frame <= frame;
        hints.iter().filter(near).max_by_key(|hint| hint.frame).copied()
    }

    fn forget_hints_of(&self, segment: u64) {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        hints.retain(|hint| hint.segment != segment);
    }

    fn remember(&self, hint: Hint) {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        let follows =
            |old: &Hint| old.segment == hint.segment && old.frame.saturating_add(1) == hint.frame;
        hints.retain(|old| !follows(old) && (old.segment, old.frame) != (hint.segment, hint.frame));
        hints.push(hint);
        if hints.len() > HINTS {
            hints.remove(0);
        }
    }
}

/// The frames of a batch whose own wall-clock range is wanted, as consecutive pieces.
fn only(batch: Batch, wanted: impl Fn((i64, i64)) -> bool) -> Vec<Batch> {
    let mut pieces: Vec<Batch> = Vec::new();
    let mut rest = batch.bytes.as_slice();
    let mut joined = false;
    for position in batch.positions {
        let Ok(found) = frame::decode(rest) else { break };
        rest = &rest[found.bytes.len()..];
        if !wanted(found.header.wall) {
            joined = false;
            continue;
        }
        if !joined {
            pieces.push(Batch { epoch: batch.epoch, bytes: Vec::new(), positions: Vec::new() });
        }
        joined = true;
        if let Some(piece) = pieces.last_mut() {
            piece.bytes.extend_from_slice(found.bytes);
            piece.positions.push(position);
        }
    }
    pieces
}
