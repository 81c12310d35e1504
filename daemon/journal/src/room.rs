//! Making room: the spare, growing, recycling, dropping.
//!
//! # Invariants
//! - A segment that holds anything the hub does not have goes only after a durable bridge names
//!   it, and any segment only after the cursor that says so is durable.
//! - At the size limit the oldest file becomes the next spare by a rename. Its blocks are already
//!   written, so commits into it change no metadata; writing zeros ahead would do the same for
//!   one more write of every byte.
//! - What the hub does not have goes when there is no other room for what is to be written, and
//!   not before.
//! - Age never drops anything.

use std::io;
use std::sync::Arc;

use crate::error::{ReadError, WriteError};
use crate::fold::{Stood, in_another_epoch};
use crate::journal::{Journal, Spare};
use crate::log::{KnownHole, Segment, read_segment};
use crate::report::{Draft, Event};
use crate::scan::Hole;
use crate::segment::{Tail, spare_name};
use crate::settings::WhenFull;
use crate::{Bridge, BridgeCause, Codec, Epoch, Kind, LossRecord, Position};

impl Journal {
    pub(crate) fn full(&self) -> WriteError {
        WriteError::Full {
            place: self.shared.place.clone(),
            used: self.used(),
            max: self.settings.max_bytes,
            free: self.storage.free_bytes().unwrap_or(0),
        }
    }

    /// Bytes of all files.
    fn used(&self) -> u64 {
        let spare = self.spare.as_ref().map_or(0, |spare| spare.bytes);
        self.shared.log().bytes() + spare + self.shared.sidecars.bytes()
    }

    /// Gets a spare file where that costs nothing that the hub does not have: it may have it by the
    /// time a spare is needed.
    pub(crate) fn prepare_spare(&mut self) -> Result<(), WriteError> {
        if self.used() > self.settings.max_bytes {
            return self.ensure_spare();
        }
        match self.get_spare(WhenFull::StopRecording) {
            Err(WriteError::Full { .. }) if self.settings.when_full == WhenFull::DropOldest => {
                Ok(())
            }
            other => other,
        }
    }

    /// Gets a spare file, whatever the settings allow it to cost.
    pub(crate) fn ensure_spare(&mut self) -> Result<(), WriteError> {
        self.get_spare(self.settings.when_full)
    }

    /// By growing as long as the limits allow, else from the oldest segment.
    fn get_spare(&mut self, when_full: WhenFull) -> Result<(), WriteError> {
        loop {
            let used = self.used();
            let more = if self.spare.is_some() { 0 } else { self.settings.segment_bytes };
            // Carrying needs a little more than what it frees; the headroom has room for that.
            let carrying =
                if self.cursor.carry.is_some() { 2 * self.settings.segment_bytes } else { 0 };
            let most = self.settings.max_bytes + carrying;
            let sidecar = self.shared.sidecars.expected();
            if used + more > most {
                // A limit that was lowered takes effect here, segment by segment.
                if self.spare.is_some() && self.shared.log().segments.len() < 2 {
                    return Ok(());
                }
                match self.release_oldest(when_full) {
                    Ok(()) => continue,
                    Err(_) if self.spare.is_some() => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            // For a sidecar's room goes what the hub has, and nothing else. Growing wants twice as
            // much, so that a journal at its limit recycles and does not remove and grow by turns.
            let wanted = if self.spare.is_some() { sidecar } else { 2 * sidecar };
            if used + more + wanted > most && self.release_oldest(WhenFull::StopRecording).is_ok() {
                continue;
            }
            if self.spare.is_some() {
                return Ok(());
            }
            if self.grow()? {
                return Ok(());
            }
            self.release_oldest(when_full)?;
        }
    }

    /// Reserves a new file; `false` when the disk has no room for it.
    fn grow(&mut self) -> Result<bool, WriteError> {
        let bytes = self.settings.segment_bytes;
        let free = self
            .storage
            .free_bytes()
            .map_err(|source| self.shared.storage_error("measure", "the directory", source))?;
        if free < bytes.saturating_add(self.settings.headroom) {
            return Ok(false);
        }
        let name = spare_name(self.next_segment);
        match self.storage.create(&name, bytes) {
            Ok(file) => {
                self.spare = Some(Spare { name, file, bytes });
                Ok(true)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                Ok(false)
            }
            Err(source) => Err(self.shared.storage_error("create", &name, source).into()),
        }
    }

    /// Takes the oldest segment out of the log and makes it the spare, or removes it.
    fn release_oldest(&mut self, when_full: WhenFull) -> Result<(), WriteError> {
        let (oldest, end, next) = {
            let log = self.shared.log();
            match (log.segments.first(), log.end_of(0), log.segments.get(1)) {
                (Some(oldest), Some(end), Some(next)) => {
                    (Arc::clone(oldest), end, Arc::clone(next))
                }
                _ => return Err(self.full()),
            }
        };
        let epoch = oldest.header.epoch;
        let accounted = self.accounted_in(epoch);
        // A segment that is missing after this one is dropped with it.
        let end = if next.header.epoch == epoch && next.start().frame > end.frame {
            next.start()
        } else {
            end
        };
        if accounted < end.frame {
            if when_full == WhenFull::StopRecording {
                return Err(self.full());
            }
            self.name_dropped(&oldest, accounted, end)?;
            if self.cursor.epoch == epoch {
                self.cursor.accounted = end.frame;
            }
        }
        self.save_cursor()?;
        self.recycle(&oldest)
    }

    /// Frames of this epoch before this number are delivered, or named by a bridge.
    fn accounted_in(&self, epoch: Epoch) -> u64 {
        if epoch == self.cursor.epoch {
            let acknowledged =
                self.cursor.acknowledged.map_or(0, |last| last.frame.saturating_add(1));
            return self.cursor.accounted.max(acknowledged);
        }
        if let Some(carry) = self.cursor.carry.filter(|carry| carry.epoch == epoch) {
            return carry.from;
        }
        // Everything before the epoch being delivered is done with; everything after it is not.
        let log = self.shared.log();
        let order = log.epochs();
        let place = |wanted| order.iter().position(|it| *it == wanted);
        match (place(epoch), place(self.cursor.epoch)) {
            (Some(this), Some(delivering)) if this > delivering => 0,
            _ => u64::MAX,
        }
    }

    /// Makes the records durable that stand for the frames from `accounted` to `end`.
    fn name_dropped(
        &mut self,
        segment: &Segment,
        accounted: u64,
        end: Tail,
    ) -> Result<(), WriteError> {
        let epoch = segment.header.epoch;
        let mut before = segment.start();
        let mut stood = Stood::default();
        let mut wall: Option<(i64, i64)> = None;
        let read = read_segment(segment, Some(end), &self.shared.place, |frame| {
            let header = &frame.header;
            if header.number < accounted {
                before = Tail {
                    frame: header.number.saturating_add(1),
                    seq: header.next_seq(),
                    hash: frame.hash(),
                };
                return;
            }
            let seen = wall.unwrap_or(header.wall);
            wall = Some((seen.0.min(header.wall.0), seen.1.max(header.wall.1)));
            if frame.kind == Kind::Loss
                && let Ok(record) = postcard::from_bytes::<LossRecord>(frame.body)
            {
                stood.add(record);
            }
        });
        if let Err(error) = read {
            // A later version can read it, and will when it returns.
            if matches!(error, ReadError::NeedsNewer { .. }) {
                return Err(error.into());
            }
            // What cannot be read cannot be kept either; the range itself is still named.
            self.event(Event::NoSpare { why: error.to_string() });
        }
        let wall = wall.unwrap_or(self.stamp.wall);
        let mut hole = Hole { epoch, before, after: end, wall };
        let frames = (before.frame, end.frame.saturating_sub(1));
        let samples = end.seq.saturating_sub(before.seq);
        // A bridge over all that was dropped in a row: the earlier ones lose nothing when they
        // are dropped themselves. Adjacent means that the hub has none of them yet.
        if let Some(earlier) = self.cursor.dropped
            && earlier.epoch == epoch
            && earlier.after.frame == before.frame
        {
            hole.before = earlier.before;
            hole.wall = (earlier.wall.0.min(wall.0), earlier.wall.1.max(wall.1));
        }
        let dropped = hole;
        let hole = bridge_over(BridgeCause::DroppedOldest, &hole);
        // In another epoch each folded record needs a frame of its own.
        let share = if epoch == self.epoch { 2 } else { 16 };
        let budget = self.settings.loss_budget() / share;
        for record in stood.replace(hole, budget) {
            self.append_loss(epoch, record)?;
        }
        self.flush()?;
        self.cursor.dropped = Some(dropped);
        self.stats.dropped_frames += end.frame.saturating_sub(before.frame);
        self.stats.dropped_samples += samples;
        self.event(Event::Dropped { epoch, frames, samples });
        Ok(())
    }

    /// Writes a loss record of an epoch into the one being written.
    fn append_loss(&mut self, of: Epoch, record: LossRecord) -> Result<(), WriteError> {
        let records = match record {
            LossRecord::Bridge(bridge) if of != self.epoch => {
                in_another_epoch(&bridge).into_iter().map(LossRecord::Unsequenced).collect()
            }
            other => vec![other],
        };
        for record in records {
            let body = loss_body(&record)?;
            let draft = self.own_draft(&body);
            self.append_from_reserve(&draft)?;
        }
        Ok(())
    }

    /// A loss frame that the journal writes by itself carries the last times it was told.
    pub(crate) fn own_draft<'a>(&self, body: &'a [u8]) -> Draft<'a> {
        Draft { kind: Kind::Loss, codec: Codec::Plain, body, count: 0, stamp: self.stamp }
    }

    fn recycle(&mut self, oldest: &Segment) -> Result<(), WriteError> {
        let failed = |journal: &Self, source| {
            WriteError::from(journal.shared.storage_error("recycle", &oldest.name, source))
        };
        let fits = self.spare.is_none()
            && oldest.bytes == self.settings.segment_bytes
            && !oldest.distrusted;
        {
            // Readers stop looking for it before its bytes change.
            let mut log = self.shared.log_mut();
            log.segments.retain(|kept| kept.header.number != oldest.header.number);
        }
        self.shared.sidecars.remove(&*self.storage, oldest.header.number);
        self.point_cursor_into_log();
        if !fits {
            return self.storage.remove(&oldest.name).map_err(|source| {
                self.needs_reopen = true;
                failed(self, source)
            });
        }
        let name = spare_name(self.next_segment);
        // Until the name is durable a power cut could bring the segment back half overwritten.
        let renamed =
            self.storage.rename(&oldest.name, &name).and_then(|()| self.storage.sync_dir());
        match renamed.and_then(|()| self.storage.open(&name)) {
            Ok(file) => self.spare = Some(Spare { name, file, bytes: oldest.bytes }),
            Err(source) => {
                self.needs_reopen = true;
                return Err(failed(self, source));
            }
        }
        self.stats.recycled += 1;
        Ok(())
    }

    /// Names, durably, the frames after `hub_last` that the hub lost and that are no longer kept
    /// here: after [`Self::rewind`] said that it is incomplete, and after the hub's leader accepted
    /// a frame in their place. Returns the bridge, or nothing when nothing is missing.
    ///
    /// # Errors
    /// When it was not made durable.
    pub fn lost_at_hub(
        &mut self,
        epoch: Epoch,
        hub_last: Option<Position>,
    ) -> Result<Option<Bridge>, WriteError> {
        let before = hub_last.map_or(Tail::START, Tail::after);
        let Some((first, _)) = self.shared.log().span(epoch) else { return Ok(None) };
        if first.frame <= before.frame {
            return Ok(None);
        }
        let hole = Hole { epoch, before, after: first, wall: (0, 0) };
        let bridge = bridge_over(BridgeCause::LostAtHub, &hole);
        self.append_bridge(epoch, &bridge)?;
        self.commit()?;
        Ok(Some(bridge))
    }

    /// Appends a bridge of an epoch to the one being written.
    fn append_bridge(&mut self, of: Epoch, bridge: &Bridge) -> Result<(), WriteError> {
        let records = if of == self.epoch {
            vec![LossRecord::Bridge(bridge.clone())]
        } else {
            in_another_epoch(bridge).into_iter().map(LossRecord::Unsequenced).collect()
        };
        for record in records {
            let body = loss_body(&record)?;
            let draft = self.own_draft(&body);
            self.append_frame(&draft, 0)?;
        }
        Ok(())
    }

    /// Appends a bridge for every hole that has none and that the hub may not have.
    pub(crate) fn name_holes(&mut self) -> Result<(), WriteError> {
        let unnamed: Vec<KnownHole> =
            self.shared.holes().iter().filter(|it| !it.bridged).copied().collect();
        for KnownHole { hole, owed, .. } in unnamed {
            let delivered = !owed && self.accounted_in(hole.epoch) >= hole.after.frame;
            let bridge = bridge_over(BridgeCause::Damaged, &hole);
            let remembered = (hole.epoch, hole.before.frame, hole.after.frame);
            if !delivered && !self.cursor.bridged.contains(&remembered) {
                self.append_bridge(hole.epoch, &bridge)?;
                self.cursor.bridged.push(remembered);
                if self.cursor.bridged.len() > crate::cursor::MAX_REMEMBERED_HOLES {
                    self.cursor.bridged.remove(0);
                }
                self.unsaved_acks += 1;
            }
            self.mark_bridged(&hole, delivered);
            let frames = (bridge.first_frame, bridge.last_frame);
            let samples = bridge.end_seq.saturating_sub(bridge.first_seq);
            let count = frames.1.saturating_sub(frames.0).saturating_add(1);
            self.stats.damaged_frames = self.stats.damaged_frames.saturating_add(count);
            self.event(Event::Damaged { epoch: hole.epoch, frames, samples, delivered });
        }
        Ok(())
    }

    /// Called before an acknowledgement is taken in: delivery meets a hole by reading, and steps over
    /// it before the next commit, so from the cursor alone the hub would seem to have the frames.
    /// Naming it durably first keeps that true after a crash as well.
    pub(crate) fn name_holes_before_stepping_over(&mut self) {
        let mut is_owed = false;
        let unnamed: Vec<Hole> =
            self.shared.holes().iter().filter(|it| !it.bridged).map(|it| it.hole).collect();
        for hole in unnamed {
            if self.accounted_in(hole.epoch) >= hole.after.frame {
                continue;
            }
            let same = |known: &&mut KnownHole| {
                known.hole.epoch == hole.epoch && known.hole.before.frame == hole.before.frame
            };
            if let Some(known) = self.shared.holes().iter_mut().find(same) {
                known.owed = true;
                is_owed = true;
            }
        }
        if is_owed {
            // What fails now stays owed, and the next commit tries again and says why.
            let _ = self.name_holes().and_then(|()| self.flush());
        }
    }

    fn mark_bridged(&self, hole: &Hole, delivered: bool) {
        let mut holes = self.shared.holes();
        let same = |known: &KnownHole| {
            known.hole.epoch == hole.epoch && known.hole.before.frame == hole.before.frame
        };
        if delivered {
            // After a rewind it is met again, and then it is undelivered.
            holes.retain(|known| !same(known));
        } else {
            holes.iter_mut().filter(|known| same(known)).for_each(|known| known.bridged = true);
        }
    }
}

pub(crate) fn loss_body(record: &LossRecord) -> Result<Vec<u8>, WriteError> {
    // Serialising plain values into memory does not fail; a limit is the nearest truth.
    postcard::to_stdvec(record)
        .map_err(|_| WriteError::TooLarge { length: usize::MAX, limit: crate::MAX_FRAME_BYTES })
}

/// The bridge over a hole.
pub(crate) fn bridge_over(cause: BridgeCause, hole: &Hole) -> Bridge {
    Bridge {
        cause,
        first_frame: hole.before.frame,
        last_frame: hole.after.frame.saturating_sub(1),
        first_seq: hole.before.seq,
        end_seq: hole.after.seq,
        hash_before: hole.before.hash,
        hash_after: hole.after.hash,
        wall: hole.wall,
        folded: Vec::new(),
    }
}
