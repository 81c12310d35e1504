//! Leaving an epoch: what the hub never had of it goes on in the new one.
//!
//! # Invariants
//! - Carrying gives each frame a new header and leaves its body and its times as they are, so
//!   nothing that was captured is lost or changed.
//! - What one old frame becomes depends on that frame alone. After a crash the frames that the new
//!   epoch already has are recognised by their content; nothing is carried twice.
//! - What is carried at a time is bounded. Between two steps the journal works like at any time, and
//!   whoever wants newer samples to stand behind the carried ones waits with them.

use std::collections::HashMap;

use crate::cursor::Carry;
use crate::error::{ReadError, WriteError};
use crate::fold::in_another_epoch;
use crate::frame;
use crate::journal::Journal;
use crate::reader::{Batch, Read};
use crate::report::{Draft, Event};
use crate::room::loss_body;
use crate::{
    Codec, Epoch, EpochReason, FrameHash, Header, Kind, LossRecord, MAX_FRAME_BYTES, Predecessor,
    Stamp,
};

/// The most bytes read at a time while carrying; never more than half a segment, so that what was
/// carried makes room for what comes next.
const CARRY_CHUNK: u64 = 1 << 20;

impl Journal {
    /// Closes the epoch and begins another one, whose first frame names this one. `opening` are
    /// frames that must stand before any other, such as the catalog. Frames of this epoch from
    /// `carry_from` on, which the hub never had, are written again in the new one after them.
    ///
    /// This copies the whole backlog and returns when it is durable: some seconds for each
    /// gigabyte. [`Self::leave_epoch`] does the same in steps.
    ///
    /// # Errors
    /// When the new epoch could not begin (the old one goes on), or the carrying stopped;
    /// [`Self::carry_on`] goes on with it, also after the next [`Self::open`] or [`Self::reopen`].
    pub fn start_epoch(
        &mut self,
        reason: EpochReason,
        carry_from: Option<u64>,
        opening: &[Draft<'_>],
    ) -> Result<Epoch, WriteError> {
        let epoch = self.leave_epoch(reason, carry_from, opening)?;
        while self.carry_on()? {}
        self.commit()?;
        Ok(epoch)
    }

    /// Like [`Self::start_epoch`], and returns as soon as the new epoch has begun: the frames to be
    /// carried over wait for [`Self::carry_on`]. A crash meanwhile is made up for by the next
    /// [`Self::open`].
    ///
    /// # Errors
    /// When the new epoch could not begin, or an earlier carry-over could not be ended before: the
    /// old epoch goes on. When only `opening` was not written, the new one has begun.
    pub fn leave_epoch(
        &mut self,
        reason: EpochReason,
        carry_from: Option<u64>,
        opening: &[Draft<'_>],
    ) -> Result<Epoch, WriteError> {
        while self.carry_on()? {}
        self.commit()?;
        let old = self.epoch;
        let (first, end) = {
            let log = self.shared.log();
            log.span(old).ok_or_else(|| self.reopen_first())?
        };
        let from = carry_from.map(|from| from.clamp(first.frame, end.frame));
        let last = match from {
            Some(0) => None,
            Some(from) => self
                .reader()
                .position_of(old, from - 1)?
                .or_else(|| (from == first.frame).then(|| first.last()).flatten()),
            None => end.last(),
        };
        let carried_frames = from.map_or(0, |from| end.frame - from);
        // Nothing of the old epoch but these frames counts from here on, so the intention must
        // be durable before the first frame of the new one is.
        let before = self.cursor.clone();
        self.cursor.carry = from.map(|from| Carry { epoch: old, from, into: 1 });
        self.save_cursor()?;
        let predecessor = Predecessor { reason, epoch: Some(old), last, carried_frames };
        let began = self.begin_epoch(predecessor);
        if let Err(error) = began {
            self.cursor.carry = before.carry;
            return Err(error);
        }
        if carry_from.is_some() {
            self.deliver_new_epoch();
        }
        // Nothing has to be found again.
        self.carried = Some(HashMap::new());
        for draft in opening {
            self.append(draft)?;
        }
        self.flush()?;
        self.save_cursor()?;
        Ok(self.epoch)
    }

    /// What stands in the epoch being written from a frame on, and how often. After a carry-over
    /// was interrupted: at most one chunk of it, and what the journal wrote in between by itself.
    pub(crate) fn contents_from(&self, frame: u64) -> Result<HashMap<FrameHash, u32>, WriteError> {
        let mut done = HashMap::new();
        let (reader, mut at) = (self.reader(), frame);
        while let Read::Frames(batch) = reader.read_from(self.epoch, at, MAX_FRAME_BYTES)? {
            let mut rest = batch.bytes.as_slice();
            while let Ok(found) = frame::decode(rest) {
                rest = &rest[found.bytes.len()..];
                *done.entry(content(found.kind, &found.header, found.body)).or_insert(0) += 1;
            }
            at = batch.next().unwrap_or(u64::MAX);
        }
        Ok(done)
    }

    fn deliver_new_epoch(&mut self) {
        self.cursor.epoch = self.epoch;
        self.cursor.acknowledged = None;
        self.cursor.accounted = 0;
    }

    /// After a crash: a carry-over goes on by [`Self::carry_on`], unless the new epoch never began.
    pub(crate) fn settle_carry(&mut self) -> Result<(), WriteError> {
        let Some(carry) = self.cursor.carry else { return Ok(()) };
        if self.epoch == carry.epoch {
            // The old epoch goes on and the hub will be asked again.
            self.cursor.carry = None;
            self.save_cursor()?;
        } else if self.cursor.epoch != self.epoch {
            self.deliver_new_epoch();
        }
        Ok(())
    }

    /// Whether frames of an older epoch wait for [`Self::carry_on`].
    #[must_use]
    pub const fn is_carrying(&self) -> bool {
        self.cursor.carry.is_some()
    }

    /// Carries the next frames of an older epoch into this one, about 1 MiB of them, durably.
    /// Returns whether more wait.
    ///
    /// # Errors
    /// When they could not be read or written; this can be tried again.
    pub fn carry_on(&mut self) -> Result<bool, WriteError> {
        let Some(carry) = self.cursor.carry else { return Ok(false) };
        let mut done = match self.carried.take() {
            Some(done) => done,
            None => {
                // After a failure what was taken may still be pending.
                self.flush()?;
                self.contents_from(carry.into)?
            }
        };
        let chunk = usize::try_from(CARRY_CHUNK.min(self.settings.segment_bytes / 2)).unwrap_or(1);
        let next = match self.reader().read_from(carry.epoch, carry.from, chunk) {
            Ok(Read::Frames(batch)) => {
                self.carry_batch(&batch, &mut done)?;
                Some(batch.next().unwrap_or(carry.from.saturating_add(1)))
            }
            Ok(Read::Gap { next }) if next > carry.from => {
                // Once it is stepped over nobody misses what was there.
                self.name_holes()?;
                Some(next)
            }
            Ok(_) | Err(ReadError::UnknownEpoch { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        // From here a crash goes on, and what lies before may be dropped.
        self.flush()?;
        self.cursor.carry = next.map(|from| Carry { from, into: self.next.frame, ..carry });
        self.save_cursor()?;
        self.carried = next.map(|_| done);
        // The old epoch makes room. What fails is reported, and tried again by the next commit.
        if next.is_none()
            && let Err(error) = self.prepare_spare()
        {
            self.event(Event::NoSpare { why: error.to_string() });
        }
        Ok(next.is_some())
    }

    fn carry_batch(
        &mut self,
        batch: &Batch,
        done: &mut HashMap<FrameHash, u32>,
    ) -> Result<(), WriteError> {
        let mut rest = batch.bytes.as_slice();
        while let Ok(found) = frame::decode(rest) {
            rest = &rest[found.bytes.len()..];
            for (kind, body) in carried(&found)? {
                let header = &found.header;
                if let Some(times) = done.get_mut(&content(kind, header, &body))
                    && *times > 0
                {
                    *times -= 1;
                    continue;
                }
                let codec = if kind == Kind::Loss { Codec::Plain } else { header.codec };
                let stamp = Stamp {
                    wall: header.wall,
                    mono: header.mono,
                    boot: header.boot,
                    clock: header.clock,
                };
                let draft = Draft { kind, codec, body: &body, count: header.count, stamp };
                // Rolling with much pending would leave the end of each segment unused.
                if !self.fits_behind_last(found.bytes.len()) {
                    self.flush()?;
                }
                self.append_frame(&draft, 0)?;
            }
        }
        Ok(())
    }
}

/// What stays the same about a frame when it is carried.
pub(crate) fn content(kind: Kind, header: &Header, body: &[u8]) -> FrameHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[kind.code()]);
    hasher.update(&header.boot);
    hasher.update(&header.mono.0.to_le_bytes());
    hasher.update(&header.mono.1.to_le_bytes());
    hasher.update(&header.count.to_le_bytes());
    hasher.update(body);
    FrameHash(*hasher.finalize().as_bytes())
}

/// What a frame of the old epoch becomes: itself, or for a bridge, whose frame numbers mean
/// nothing in the new epoch, what it says of time and count.
fn carried(found: &crate::Frame<'_>) -> Result<Vec<(Kind, Vec<u8>)>, WriteError> {
    if found.kind == Kind::Loss
        && let Ok(LossRecord::Bridge(bridge)) = postcard::from_bytes(found.body)
    {
        let records = in_another_epoch(&bridge).into_iter().map(LossRecord::Unsequenced);
        return records.map(|record| Ok((Kind::Loss, loss_body(&record)?))).collect();
    }
    Ok(vec![(found.kind, found.body.to_vec())])
}
