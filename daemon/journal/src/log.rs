//! The segments as the writer and the readers both see them.
//!
//! # Invariants
//! - The lock is never held during I/O.
//! - Only what is durable is in here.
//! - A segment's handle goes on working after the segment was dropped and its file became another
//!   segment; readers therefore check epoch, number and chain of every frame they read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::Epoch;
use crate::error::{ReadError, StorageError};
use crate::scan::{Expect, Findings, Hole, Run, scan};
use crate::segment::{
    BLOCK, BLOCK_OFFSET, MARK_BYTES, MAX_SEGMENT_BYTES, Mark, SegmentHeader, Tail, align,
};
use crate::sidecar::Sidecars;
use crate::storage::{StoredFile, read_up_to};

/// Indexes of sealed segments that are kept; each is at most 100 KiB.
const KEPT_INDEXES: usize = 4;
/// Holes that are remembered; more are found again when they are read.
const MAX_HOLES: usize = 256;

/// A segment whose header is known.
pub(crate) struct Segment {
    pub name: String,
    pub header: SegmentHeader,
    pub file: Arc<dyn StoredFile>,
    /// Its size on the disk.
    pub bytes: u64,
    /// Where its chain ends, once it is sealed.
    pub end: Option<Tail>,
    /// A sync of it failed: it is never written again, and never recycled.
    pub distrusted: bool,
}

impl Segment {
    pub(crate) fn start(&self) -> Tail {
        self.header.start
    }
}

/// All segments, oldest first; the last one is being written.
pub(crate) struct Log {
    pub segments: Vec<Arc<Segment>>,
    /// Of the last segment: its commits, and where the next one goes.
    pub active_runs: Arc<Vec<Run>>,
    pub next_offset: u64,
    /// The end of what is durable.
    pub tail: Tail,
}

impl Log {
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.segments.last().map(|segment| segment.header.epoch)
    }

    /// The end of a segment by its place in the list.
    pub(crate) fn end_of(&self, at: usize) -> Option<Tail> {
        let segment = self.segments.get(at)?;
        if at + 1 == self.segments.len() { Some(self.tail) } else { segment.end }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The first frame kept of an epoch, and the end of it.
    pub(crate) fn span(&self, epoch: Epoch) -> Option<(Tail, Tail)> {
        let of_epoch = |segment: &Arc<Segment>| segment.header.epoch == epoch;
        let first = self.segments.iter().position(of_epoch)?;
        let last = self.segments.iter().rposition(of_epoch)?;
        Some((self.segments.get(first)?.start(), self.end_of(last)?))
    }

    /// The epochs in order.
    pub(crate) fn epochs(&self) -> Vec<Epoch> {
        let mut epochs: Vec<Epoch> = self.segments.iter().map(|s| s.header.epoch).collect();
        epochs.dedup();
        epochs
    }
}

/// A hole and whether a record in the log names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownHole {
    pub hole: Hole,
    pub bridged: bool,
    /// The hub was given what lies behind it, and never had the frames themselves.
    pub owed: bool,
}

/// The runs of a sealed segment, kept in memory.
struct Index {
    segment: u64,
    /// Up to where it was read: a reader that looked before the last commit knows less.
    end: u64,
    runs: Arc<Vec<Run>>,
}

/// What the writer and the readers share.
pub(crate) struct Shared {
    pub place: String,
    log: RwLock<Log>,
    indexes: Mutex<Vec<Index>>,
    holes: Mutex<Vec<KnownHole>>,
    /// The segment that readers get nothing of, and why.
    unreadable: Mutex<Option<(String, String)>>,
    pub sidecars: Sidecars,
}

impl Shared {
    pub(crate) fn new(place: String, log: Log) -> Self {
        Self {
            place,
            log: RwLock::new(log),
            indexes: Mutex::new(Vec::new()),
            holes: Mutex::new(Vec::new()),
            unreadable: Mutex::new(None),
            sidecars: Sidecars::default(),
        }
    }

    // A panic elsewhere leaves these values whole: each change is a single assignment or push.
    pub(crate) fn log(&self) -> RwLockReadGuard<'_, Log> {
        self.log.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn log_mut(&self) -> RwLockWriteGuard<'_, Log> {
        self.log.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn holes(&self) -> MutexGuard<'_, Vec<KnownHole>> {
        self.holes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn indexes(&self) -> MutexGuard<'_, Vec<Index>> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreadable(&self) -> MutexGuard<'_, Option<(String, String)>> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether a segment could be read, for the writer to tell.
    pub(crate) fn was_read(&self, segment: &str, failure: Option<&ReadError>) {
        let mut unreadable = self.unreadable();
        let why = match failure {
            Some(ReadError::Storage(error)) => format!("{error}: {}", error.source),
            Some(error @ (ReadError::NeedsNewer { .. } | ReadError::Unsettled { .. })) => {
                error.to_string()
            }
            _ => {
                unreadable.take_if(|(name, _)| name == segment);
                return;
            }
        };
        unreadable.get_or_insert_with(|| (segment.to_owned(), why));
    }

    /// Why readers get nothing of a segment that is kept.
    pub(crate) fn why_unreadable(&self) -> Option<String> {
        let (name, why) = self.unreadable().clone()?;
        let kept = self.log().segments.iter().any(|segment| segment.name == name);
        kept.then_some(why)
    }

    pub(crate) fn keep_index(&self, segment: u64, end: Tail, runs: Arc<Vec<Run>>) {
        let mut indexes = self.indexes();
        indexes.retain(|index| index.segment != segment);
        indexes.push(Index { segment, end: end.frame, runs });
        if indexes.len() > KEPT_INDEXES {
            indexes.remove(0);
        }
    }

    pub(crate) fn forget_indexes(&self) {
        self.indexes().clear();
    }

    pub(crate) fn add_hole(&self, hole: Hole, bridged: bool) {
        let mut holes = self.holes();
        let same = |known: &&mut KnownHole| {
            known.hole.epoch == hole.epoch && known.hole.before.frame == hole.before.frame
        };
        if let Some(known) = holes.iter_mut().find(same) {
            known.bridged |= bridged;
            return;
        }
        if holes.len() >= MAX_HOLES {
            // One that is already named is the one to forget.
            let Some(at) = holes.iter().position(|known| known.bridged) else { return };
            holes.remove(at);
        }
        holes.push(KnownHole { hole, bridged, owed: false });
    }

    /// The runs of a segment: from memory, by walking its marks, or by reading all of it.
    pub(crate) fn runs_of(&self, segment: &Segment, end: Tail) -> Result<Arc<Vec<Run>>, ReadError> {
        {
            let log = self.log();
            let active = log.segments.last();
            if active.is_some_and(|active| active.header.number == segment.header.number) {
                return Ok(Arc::clone(&log.active_runs));
            }
        }
        let number = segment.header.number;
        let is_it = |index: &&Index| index.segment == number && index.end == end.frame;
        if let Some(index) = self.indexes().iter().find(is_it) {
            return Ok(Arc::clone(&index.runs));
        }
        let runs = match self.walk_marks(segment, end)? {
            Some(runs) => Arc::new(runs),
            None => return self.examine(segment, end).map(|findings| Arc::new(findings.runs)),
        };
        self.keep_index(number, end, Arc::clone(&runs));
        Ok(runs)
    }

    /// One short read per commit; `None` when anything does not fit.
    fn walk_marks(&self, segment: &Segment, end: Tail) -> Result<Option<Vec<Run>>, ReadError> {
        let mut runs = Vec::new();
        let mut next = segment.start().frame;
        let mut at = BLOCK_OFFSET;
        while next < end.frame {
            let bytes = match read_up_to(&*segment.file, at, MARK_BYTES) {
                Ok(bytes) => bytes,
                // What lies around the bad sector is found by reading all of it.
                Err(error) if is_bad_sector(&error) => return Ok(None),
                Err(source) => {
                    return Err(self.storage_error("read", &segment.name, source).into());
                }
            };
            let Some(mark) = Mark::decode(&bytes).filter(|mark| {
                mark.epoch == segment.header.epoch
                    && mark.segment == segment.header.number
                    && mark.start.frame == next
                    && mark.frames > 0
            }) else {
                return Ok(None);
            };
            runs.push(run_of(at, &mark));
            next = next.saturating_add(u64::from(mark.frames));
            at = align(at + MARK_BYTES as u64 + u64::from(mark.bytes));
        }
        Ok((next == end.frame).then_some(runs))
    }

    /// Reads a whole segment, remembers its holes and its runs.
    pub(crate) fn examine(&self, segment: &Segment, end: Tail) -> Result<Findings, ReadError> {
        self.examine_with(segment, end, |_| {})
    }

    /// Like [`Self::examine`], showing every frame.
    pub(crate) fn examine_with(
        &self,
        segment: &Segment,
        end: Tail,
        visit: impl FnMut(&crate::Frame<'_>),
    ) -> Result<Findings, ReadError> {
        let findings = read_segment(segment, Some(end), &self.place, visit)?;
        let mut log = self.log_mut();
        let is_it = |kept: &Arc<Segment>| {
            kept.header.number == segment.header.number && Arc::ptr_eq(&kept.file, &segment.file)
        };
        let Some(at) = log.segments.iter().position(is_it) else {
            // Dropped meanwhile, or the journal was opened anew: what was read may be the file's
            // next life, or another file.
            return Ok(findings);
        };
        if at + 1 == log.segments.len() {
            // Commits that came while this was read stay as they are.
            let later = log.active_runs.iter().filter(|run| run.first >= end.frame).copied();
            let runs = findings.runs.iter().copied().chain(later).collect();
            log.active_runs = Arc::new(runs);
        } else {
            self.keep_index(segment.header.number, end, Arc::new(findings.runs.clone()));
        }
        drop(log);
        for hole in &findings.holes {
            self.add_hole(*hole, false);
        }
        Ok(findings)
    }

    pub(crate) fn storage_error(
        &self,
        action: &'static str,
        object: &str,
        source: std::io::Error,
    ) -> StorageError {
        StorageError { action, object: object.to_owned(), place: self.place.clone(), source }
    }
}

/// Whether a device refused to read one place, which says nothing of the others.
pub(crate) fn is_bad_sector(error: &std::io::Error) -> bool {
    const EIO: i32 = 5;
    error.raw_os_error() == Some(EIO)
}

/// The run behind a mark at this offset.
pub(crate) fn run_of(offset: u64, mark: &Mark) -> Run {
    Run {
        first: mark.start.frame,
        frames: u64::from(mark.frames),
        offset: offset + MARK_BYTES as u64,
        bytes: u64::from(mark.bytes),
        wall: mark.wall,
    }
}

/// Reads a segment into memory and scans it.
pub(crate) fn read_segment(
    segment: &Segment,
    end: Option<Tail>,
    place: &str,
    visit: impl FnMut(&crate::Frame<'_>),
) -> Result<Findings, ReadError> {
    let failed = |source| StorageError {
        action: "read",
        object: segment.name.clone(),
        place: place.to_owned(),
        source,
    };
    let size = segment.file.size().map_err(failed)?.min(MAX_SEGMENT_BYTES);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let data = match read_up_to(&*segment.file, 0, size) {
        Ok(data) => data,
        Err(error) => read_around_bad_blocks(&*segment.file, size).ok_or_else(|| failed(error))?,
    };
    let epoch = segment.header.epoch;
    let expect = Expect { epoch, segment: segment.header.number, start: segment.start(), end };
    scan(&data, expect, visit).map_err(|newer| ReadError::NeedsNewer {
        epoch,
        frame: newer.frame,
        needs: newer.needs,
    })
}

/// A device that fails on some blocks still gives the others; those it refuses read as zeros,
/// which are no frames. `None` when it refuses every one.
fn read_around_bad_blocks(file: &dyn StoredFile, size: usize) -> Option<Vec<u8>> {
    let mut data = vec![0; size];
    let mut any = false;
    let mut offset = 0;
    for block in data.chunks_mut(BLOCK) {
        match file.read_at(block, offset) {
            Ok(_) => any = true,
            Err(_) => block.fill(0),
        }
        offset += BLOCK_OFFSET;
    }
    any.then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClockState, Codec, DirStorage, Draft, Journal, Kind, Read, Settings, Stamp};

    const STAMP: Stamp =
        Stamp { wall: (1, 1), mono: (1, 1), boot: [0; 16], clock: ClockState::Unknown };

    fn append(journal: &mut Journal) {
        let draft = Draft {
            kind: Kind::Samples,
            codec: Codec::Plain,
            body: &[7; 5_000],
            count: 1,
            stamp: STAMP,
        };
        journal.append(&draft).unwrap();
        journal.commit().unwrap();
    }

    #[test]
    fn a_reader_that_looked_before_a_segment_was_sealed_hides_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Arc::new(DirStorage::new(dir.path()).unwrap());
        let settings = Settings {
            segment_bytes: crate::MIN_SEGMENT_BYTES,
            ..Settings::new("P", "g", 1 << 30)
        };
        let (mut journal, _) = Journal::open(storage, settings, STAMP).unwrap();
        append(&mut journal);
        let reader = journal.reader();
        let shared = reader.shared();
        let (seen, end) = {
            let log = shared.log();
            (Arc::clone(&log.segments[0]), log.tail)
        };
        while shared.log().segments.len() == 1 {
            append(&mut journal);
        }
        // It was put aside until now, and others were read meanwhile.
        shared.forget_indexes();
        shared.runs_of(&seen, end).unwrap();
        shared.examine(&seen, end).unwrap();
        let read = reader.read_from(journal.epoch(), end.frame, 1).unwrap();
        let Read::Frames(batch) = read else { panic!("{read:?}") };
        assert_eq!(batch.positions[0].frame, end.frame);
    }
}
