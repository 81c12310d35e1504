//! The writer: append and commit.
//!
//! # Invariants
//! - Order of a commit: bytes, `fdatasync`, and only then is it shown to readers. When it opens a
//!   segment: header and bytes into a spare file, `fdatasync`, rename, directory `fsync`. So a
//!   file named as a segment always has a durable header.
//! - Pending frames always fit, either behind the last commit (leaving the reserve when there is
//!   no spare) or into the spare. A bridge can therefore always be written before anything that
//!   the hub does not have is dropped.
//! - A file whose sync failed is never written again: the kernel forgets what it could not write
//!   and reports the next sync as a success.
//! - The journal reads no clock.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cursor::{CursorFile, Record};
use crate::error::{OpenError, WriteError};
use crate::files::{LazyFile, OpenFiles};
use crate::frame::{self, EncodeError, MAX_FRAME_BYTES};
use crate::log::{Segment, Shared, run_of};
use crate::reader::Reader;
use crate::report::{Appended, Draft, Event, Stats};
use crate::scan::Run;
use crate::segment::{BLOCK_OFFSET, MARK_BYTES, Mark, SegmentHeader, Tail, align, segment_name};
use crate::storage::{Storage, StoredFile};
use crate::{Epoch, FrameHash, Header, Position, Settings, Stamp};

/// A frame that is carried into another epoch may grow by a byte or two in its header.
const CARRY_SLACK: usize = 16;
/// What a small commit leaves of the buffer of a large one: two frames.
const KEPT_PENDING_BYTES: usize = 128 << 10;
/// Acknowledgements after which the cursor is written at the next commit.
const ACKS_PER_CURSOR_WRITE: u32 = 64;
/// Commits after which a changed cursor is written.
const COMMITS_PER_CURSOR_WRITE: u32 = 30;
/// Events kept for a caller that does not ask; the oldest goes first and is counted.
const MAX_EVENTS: usize = 64;

/// Frames that wait for a commit, behind room for the mark.
#[derive(Default)]
pub(crate) struct Pending {
    pub bytes: Vec<u8>,
    /// Mark and frames; a commit that failed may have left padding behind them.
    pub length: usize,
    pub frames: u32,
    pub wall: (i64, i64),
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// What it takes on the disk with `more` bytes.
    fn space(&self, more: usize) -> u64 {
        align((self.length.max(MARK_BYTES) + more) as u64)
    }
}

/// A file that is ready to become a segment.
pub(crate) struct Spare {
    pub name: String,
    pub file: Arc<dyn StoredFile>,
    pub bytes: u64,
}

/// The only writer of a journal directory.
pub struct Journal {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) settings: Settings,
    pub(crate) shared: Arc<Shared>,
    pub(crate) open_files: Arc<OpenFiles>,
    pub(crate) lock: Box<dyn Send + Sync>,
    pub(crate) epoch: Epoch,
    /// The place of the next frame, pending ones included.
    pub(crate) next: Tail,
    /// Where the pending frames begin: the durable end.
    pub(crate) durable: Tail,
    pub(crate) pending: Pending,
    pub(crate) spare: Option<Spare>,
    /// The next commit opens a segment: the epoch is new, or the last file is not trusted.
    pub(crate) must_roll: bool,
    pub(crate) needs_reopen: bool,
    pub(crate) next_segment: u64,
    pub(crate) cursor_file: CursorFile,
    pub(crate) cursor: Record,
    pub(crate) unsaved_acks: u32,
    pub(crate) commits_since_save: u32,
    pub(crate) stamp: Stamp,
    pub(crate) stats: Stats,
    pub(crate) events: Vec<Event>,
    /// What a carry-over had written before it was interrupted; found again when it is not known.
    pub(crate) carried: Option<HashMap<FrameHash, u32>>,
    /// Readers were said to get nothing of some segment.
    pub(crate) told_unreadable: bool,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("place", &self.shared.place)
            .field("epoch", &self.epoch)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the journal, repairs its end, and begins an epoch where there is none. `stamp` is
    /// what frames carry that the journal itself writes before the first [`Self::append`]. A
    /// carry-over that was interrupted waits for [`Self::carry_on`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        storage: Arc<dyn Storage>,
        settings: Settings,
        stamp: Stamp,
    ) -> Result<(Self, crate::Recovery), OpenError> {
        crate::recover::open(storage, settings, stamp, None)
    }

    /// Like [`Self::open`], for readers that were handed out before it could be opened: `reader`
    /// and its clones read this journal from now on.
    ///
    /// # Errors
    /// See [`OpenError`]; the readers then go on as before.
    pub fn open_for(
        reader: &Reader,
        storage: Arc<dyn Storage>,
        settings: Settings,
        stamp: Stamp,
    ) -> Result<(Self, crate::Recovery), OpenError> {
        crate::recover::open(storage, settings, stamp, Some(reader.shared()))
    }

    /// A reader of durable frames; it goes on working beside this writer on any thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// The epoch being written.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The place of the next frame, pending ones included: its number and first sequence number.
    #[must_use]
    pub const fn upcoming(&self) -> Appended {
        Appended { number: self.next.frame, first_seq: self.next.seq }
    }

    /// Takes a frame, to be written by the next commit. Commits by itself first when too much is
    /// pending.
    ///
    /// # Errors
    /// When the frame is too large or there is no room; the frame was not taken.
    pub fn append(&mut self, draft: &Draft<'_>) -> Result<Appended, WriteError> {
        let appended = self.append_frame(draft, CARRY_SLACK)?;
        self.stamp = draft.stamp;
        Ok(appended)
    }

    pub(crate) fn append_frame(
        &mut self,
        draft: &Draft<'_>,
        slack: usize,
    ) -> Result<Appended, WriteError> {
        let limit = MAX_FRAME_BYTES - slack;
        let mut bytes = self.encode(draft)?;
        if bytes.len() > limit {
            return Err(WriteError::TooLarge { length: bytes.len(), limit });
        }
        if !self.has_room_for(bytes.len()) {
            // Committing makes a spare, and may add a bridge before this frame.
            let before = self.next;
            self.flush()?;
            self.ensure_spare()?;
            if self.next != before {
                bytes = self.encode(draft)?;
            }
            if !self.has_room_for(bytes.len()) {
                return Err(self.full());
            }
        }
        Ok(self.take(draft, &bytes))
    }

    /// Takes a record that dropping leaves behind; the reserve is there for it.
    pub(crate) fn append_from_reserve(&mut self, draft: &Draft<'_>) -> Result<(), WriteError> {
        let bytes = self.encode(draft)?;
        if self.must_roll || self.pending.space(bytes.len()) > self.room_behind_last() {
            return Err(self.full());
        }
        self.take(draft, &bytes);
        Ok(())
    }

    fn take(&mut self, draft: &Draft<'_>, bytes: &[u8]) -> Appended {
        let first = Appended { number: self.next.frame, first_seq: self.next.seq };
        let wall = draft.stamp.wall;
        let pending = &mut self.pending;
        if pending.is_empty() {
            pending.bytes.clear();
            pending.bytes.resize(MARK_BYTES, 0);
            pending.length = MARK_BYTES;
            pending.wall = wall;
        }
        pending.wall = (pending.wall.0.min(wall.0), pending.wall.1.max(wall.1));
        pending.bytes.truncate(pending.length);
        pending.bytes.extend_from_slice(bytes);
        pending.length = pending.bytes.len();
        pending.frames += 1;
        self.next = Tail {
            frame: first.number.saturating_add(1),
            seq: first.first_seq.saturating_add(u64::from(draft.count)),
            hash: crate::FrameHash::of(bytes),
        };
        first
    }

    fn encode(&self, draft: &Draft<'_>) -> Result<Vec<u8>, WriteError> {
        let header = Header {
            plant: self.settings.plant.clone(),
            gateway: self.settings.gateway.clone(),
            epoch: self.epoch,
            number: self.next.frame,
            first_seq: self.next.seq,
            count: draft.count,
            wall: draft.stamp.wall,
            mono: draft.stamp.mono,
            boot: draft.stamp.boot,
            clock: draft.stamp.clock,
            previous: self.next.hash,
            codec: draft.codec,
        };
        frame::encode(draft.kind, &header, draft.body).map_err(|error| match error {
            EncodeError::TooLarge { length } => {
                WriteError::TooLarge { length, limit: MAX_FRAME_BYTES }
            }
            // Names are checked when the journal is opened.
            EncodeError::Header => {
                WriteError::TooLarge { length: usize::MAX, limit: MAX_FRAME_BYTES }
            }
        })
    }

    /// Whether `more` bytes can be pending without breaking the promise that pending frames fit.
    fn has_room_for(&self, more: usize) -> bool {
        let space = self.pending.space(more);
        let within_limit =
            self.pending.is_empty() || self.pending.length + more <= self.settings.max_pending;
        let room = if self.spare.is_some() {
            // A fresh segment also keeps the reserve, for the bridge that its own spare may cost.
            self.settings.segment_bytes - BLOCK_OFFSET - self.settings.reserve()
        } else if self.must_roll {
            0
        } else {
            self.room_behind_last().saturating_sub(self.settings.reserve())
        };
        within_limit && space <= room
    }

    /// Whether `more` bytes can be committed without opening a segment.
    pub(crate) fn fits_behind_last(&self, more: usize) -> bool {
        self.pending.space(more) <= self.room_behind_last()
    }

    /// Bytes left in the segment being written.
    fn room_behind_last(&self) -> u64 {
        let log = self.shared.log();
        let bytes = log.segments.last().map_or(0, |segment| segment.bytes);
        bytes.saturating_sub(log.next_offset)
    }

    /// Makes everything appended durable, with one `fdatasync`; without anything to write it does
    /// nothing. Names damage that readers met since the last commit.
    ///
    /// # Errors
    /// When it is not durable. The frames stay pending and the next commit tries again.
    pub fn commit(&mut self) -> Result<Position, WriteError> {
        self.name_holes()?;
        let wrote = !self.pending.is_empty();
        self.flush()?;
        if wrote {
            self.after_commit();
        }
        self.durable.last().ok_or_else(|| self.reopen_first())
    }

    /// What a commit may postpone: the spare and the cursor. Their failures are reported, and
    /// tried again at the next commit; the commit itself stands.
    fn after_commit(&mut self) {
        if let Err(error) = self.prepare_spare() {
            self.event(Event::NoSpare { why: error.to_string() });
        }
        self.commits_since_save = self.commits_since_save.saturating_add(1);
        let due = self.unsaved_acks >= ACKS_PER_CURSOR_WRITE
            || (self.unsaved_acks > 0 && self.commits_since_save >= COMMITS_PER_CURSOR_WRITE);
        if due && let Err(error) = self.save_cursor() {
            self.event(Event::NoSpare { why: error.to_string() });
        }
    }

    pub(crate) fn reopen_first(&self) -> WriteError {
        WriteError::NeedsReopen { place: self.shared.place.clone() }
    }

    /// Writes what is pending.
    pub(crate) fn flush(&mut self) -> Result<(), WriteError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.needs_reopen {
            return Err(self.reopen_first());
        }
        let space = self.pending.space(0);
        if self.must_roll || space > self.room_behind_last() {
            return self.roll();
        }
        let (segment, offset) = {
            let log = self.shared.log();
            let Some(segment) = log.segments.last() else { return Err(self.reopen_first()) };
            (Arc::clone(segment), log.next_offset)
        };
        let mark = self.seal_pending(segment.header.number);
        segment
            .file
            .write_at(&self.pending.bytes, offset)
            .map_err(|source| self.shared.storage_error("write", &segment.name, source))?;
        if let Err(source) = segment.file.sync_data() {
            self.distrust(&segment);
            self.stats.failed_syncs += 1;
            self.event(Event::SyncFailed { file: segment.name.clone() });
            let failed = self.shared.storage_error("sync", &segment.name, source);
            return self.roll().map_err(|error| match error {
                // That the disk fails is the news, not that it has no room for another file.
                WriteError::Full { .. } => failed.into(),
                other => other,
            });
        }
        {
            let mut log = self.shared.log_mut();
            Arc::make_mut(&mut log.active_runs).push(run_of(offset, &mark));
            log.next_offset = offset + self.pending.bytes.len() as u64;
            log.tail = self.next;
        }
        self.committed(&mark);
        Ok(())
    }

    /// Puts the mark in front of the pending frames and zeros behind them.
    fn seal_pending(&mut self, segment: u64) -> Mark {
        let used = self.pending.length;
        let mark = Mark {
            epoch: self.epoch,
            segment,
            start: self.durable,
            bytes: u32::try_from(used - MARK_BYTES).unwrap_or(u32::MAX),
            frames: self.pending.frames,
            wall: self.pending.wall,
        };
        self.pending.bytes[..MARK_BYTES].copy_from_slice(&mark.encode());
        let padded = usize::try_from(align(used as u64)).unwrap_or(used);
        self.pending.bytes.resize(padded, 0);
        mark
    }

    fn committed(&mut self, mark: &Mark) {
        self.stats.commits += 1;
        self.stats.written_bytes += self.pending.bytes.len() as u64;
        self.stats.frame_bytes += u64::from(mark.bytes);
        self.durable = self.next;
        let used = self.pending.bytes.len();
        self.pending.bytes.clear();
        // One large commit, such as a whole catalog, must not keep its memory for ever.
        if used < self.pending.bytes.capacity() / 4 {
            self.pending.bytes.shrink_to(2 * used.max(KEPT_PENDING_BYTES));
        }
        self.pending.length = 0;
        self.pending.frames = 0;
    }

    /// Writes what is pending as the first commit of a new segment.
    fn roll(&mut self) -> Result<(), WriteError> {
        if self.spare.is_none() {
            // Only after a failure: what is pending otherwise fits behind the last commit.
            self.ensure_spare()?;
        }
        let Some(spare) = self.spare.take() else { return Err(self.full()) };
        let number = self.next_segment;
        let header = SegmentHeader {
            plant: self.settings.plant.clone(),
            gateway: self.settings.gateway.clone(),
            epoch: self.epoch,
            number,
            start: self.durable,
        };
        let mark = self.seal_pending(number);
        let Some(mut bytes) = header.encode().map(|block| block.to_vec()) else {
            return Err(self.reopen_first());
        };
        bytes.extend_from_slice(&self.pending.bytes);
        if let Err(source) = spare.file.write_at(&bytes, 0) {
            let error = self.shared.storage_error("write", &spare.name, source);
            self.spare = Some(spare);
            return Err(error.into());
        }
        if let Err(source) = spare.file.sync_data() {
            self.stats.failed_syncs += 1;
            self.event(Event::SyncFailed { file: spare.name.clone() });
            // Not even as a spare: what is in it is unknown.
            let _ = self.storage.remove(&spare.name);
            return Err(self.shared.storage_error("sync", &spare.name, source).into());
        }
        let name = segment_name(number);
        let named = self.storage.rename(&spare.name, &name).and_then(|()| self.storage.sync_dir());
        if let Err(source) = named {
            // Whether the name lasts is unknown; only looking again tells.
            self.needs_reopen = true;
            return Err(self.shared.storage_error("rename", &spare.name, source).into());
        }
        self.next_segment = number.saturating_add(1);
        self.must_roll = false;
        self.show_segment(
            Segment {
                name,
                header,
                file: spare.file,
                bytes: spare.bytes,
                end: None,
                distrusted: false,
            },
            vec![run_of(BLOCK_OFFSET, &mark)],
            bytes.len() as u64,
        );
        self.stats.written_bytes += BLOCK_OFFSET;
        self.committed(&mark);
        Ok(())
    }

    fn show_segment(&self, segment: Segment, runs: Vec<Run>, next_offset: u64) {
        let mut log = self.shared.log_mut();
        let sealed_at = log.tail;
        let runs = std::mem::replace(&mut log.active_runs, Arc::new(runs));
        let mut sealed = None;
        if let Some(last) = log.segments.last_mut() {
            sealed = Some((last.header.number, runs));
            *last = Arc::new(Segment {
                name: last.name.clone(),
                header: last.header.clone(),
                file: Arc::new(LazyFile::new(&self.storage, &self.open_files, &last.name)),
                end: Some(sealed_at),
                ..**last
            });
        }
        log.segments.push(Arc::new(segment));
        log.next_offset = next_offset;
        log.tail = self.next;
        drop(log);
        if let Some((number, runs)) = sealed {
            self.shared.keep_index(number, sealed_at, runs);
        }
    }

    /// From now on the file is only read.
    fn distrust(&mut self, segment: &Segment) {
        self.must_roll = true;
        let mut log = self.shared.log_mut();
        for kept in &mut log.segments {
            if kept.header.number == segment.header.number {
                *kept = Arc::new(Segment {
                    name: kept.name.clone(),
                    header: kept.header.clone(),
                    file: Arc::clone(&kept.file),
                    distrusted: true,
                    ..**kept
                });
            }
        }
    }

    /// Commits, writes the cursor and frees the directory.
    ///
    /// # Errors
    /// When something was not made durable; the directory is free all the same.
    pub fn close(mut self) -> Result<(), WriteError> {
        self.commit()?;
        self.save_cursor()?;
        Ok(())
    }

    /// The journal in numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let log = self.shared.log();
        let spare = self.spare.as_ref().map_or(0, |spare| spare.bytes);
        let mut stats = Stats {
            bytes: log.bytes() + spare + self.shared.sidecars.bytes(),
            max_bytes: self.settings.max_bytes,
            segments: log.segments.len() as u64,
            sidecars: self.shared.sidecars.count(),
            sidecar_bytes: self.shared.sidecars.bytes(),
            sidecar_failures: self.shared.sidecars.failures(),
            pending_frames: u64::from(self.pending.frames),
            pending_bytes: self.pending.length.saturating_sub(MARK_BYTES) as u64,
            ..self.stats
        };
        let waiting = log.epochs().into_iter().skip_while(|epoch| *epoch != self.cursor.epoch);
        for epoch in waiting {
            let Some((first, end)) = log.span(epoch) else { continue };
            let acknowledged = self.cursor.acknowledged.filter(|_| epoch == self.cursor.epoch);
            let from = acknowledged.map_or(first, Tail::after);
            let from = if from.frame < first.frame { first } else { from };
            stats.backlog_frames += end.frame.saturating_sub(from.frame);
            stats.backlog_samples += end.seq.saturating_sub(from.seq);
        }
        stats
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        match (self.shared.why_unreadable(), self.told_unreadable) {
            (Some(why), false) => self.event(Event::Unreadable { why }),
            (None, true) => self.event(Event::Readable),
            _ => return std::mem::take(&mut self.events),
        }
        self.told_unreadable = !self.told_unreadable;
        std::mem::take(&mut self.events)
    }

    pub(crate) fn event(&mut self, event: Event) {
        if self.events.last() == Some(&event) {
            return;
        }
        if self.events.len() >= MAX_EVENTS {
            self.events.remove(0);
            self.stats.events_lost += 1;
        }
        self.events.push(event);
    }
}
