//! What the writer does when it is asked.
//!
//! # Invariants
//! - A cursor is kept with the journal that it speaks of; what does not fit goes, oldest first.
//! - A fork keeps every sample: what the old epoch had beyond the common frame is carried over.

use std::sync::PoisonError;

use tidegate_journal::{
    Codec, Draft, Epoch, EpochReason, Journal, Kind, LossRecord, MAX_DESTINATION_BYTES, Position,
    Read, Reader, frame,
};
use tidegate_uplink::Cursor;

use super::Writer;
use crate::causes::chain;
use crate::recorder::boot_time;
use crate::recorder::handle::Command;

/// Cursors kept with the journal: one hub, an older epoch beside the current one, and a spare.
const CURSORS: usize = 4;

impl Writer {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Define(definitions, reply) => {
                let numbers = self.catalog.define(definitions.0);
                self.keep_catalog();
                // Who asked may have gone meanwhile; the numbers hold all the same.
                let _ = reply.send(numbers);
            }
            Command::Quiet(tags) => self.quiet_tags = tags,
            Command::Snapshot => self.snapshot_again = true,
            Command::Seal(identity) => self.seal(&identity),
            Command::Acknowledge(cursor) => self.acknowledge(*cursor),
            Command::Suspect(cursor, done) => {
                self.acknowledge(*cursor);
                if let Err(error) = self.journal.save_cursor() {
                    tracing::warn!("{}", chain(&error));
                }
                let _ = done.send(());
            }
            Command::Rewind { epoch, to_frame } => self.rewind(epoch, to_frame),
            Command::HubLost { epoch, after } => {
                if let Err(error) = self.journal.lost_at_hub(epoch, after) {
                    self.failed(&error);
                }
                self.commit();
            }
            Command::Fork { epoch, common } => self.fork(epoch, common),
        }
    }

    /// Makes the numbers that were given durable.
    pub(in crate::recorder) fn keep_catalog(&self) {
        if let Err(error) = self.catalog.save() {
            self.board.raise("catalog-unwritable", error.to_string());
        }
    }

    fn acknowledge(&mut self, cursor: Cursor) {
        self.cursors.retain(|known| known.epoch != cursor.epoch || known.hub != cursor.hub);
        if self.cursors.len() >= CURSORS {
            self.cursors.remove(0);
        }
        let (epoch, position) = (cursor.epoch, cursor.up_to);
        self.cursors.push(cursor);
        let kept = destination(&self.cursors);
        if let Err(error) = self.journal.acknowledge(epoch, position, &kept) {
            tracing::warn!("{}", chain(&error));
        }
    }

    fn rewind(&mut self, epoch: Epoch, to_frame: u64) {
        self.cursors.retain(|cursor| cursor.epoch != epoch || cursor.up_to.frame < to_frame);
        let last = to_frame
            .checked_sub(1)
            .and_then(|frame| self.journal.reader().position_of(epoch, frame).ok().flatten());
        if let Err(error) = self.journal.rewind(epoch, last) {
            tracing::warn!("{}", chain(&error));
        }
    }

    pub(super) fn fork(&mut self, epoch: Epoch, common: Option<Position>) {
        if self.journal.epoch() != epoch {
            return;
        }
        if self.journal.is_carrying() {
            self.carrying.fork = Some((epoch, common));
            return;
        }
        if self.awaited.is_empty() {
            self.pack();
        } else {
            // Whoever waits is told of a place that stays.
            self.commit();
        }
        let opening: Vec<_> = self.catalog.snapshot().collect();
        let stamp = self.stamper.now(self.clock.now());
        let opening: Vec<_> = opening
            .iter()
            .map(|body| Draft { kind: Kind::Catalog, codec: Codec::Plain, body, count: 0, stamp })
            .collect();
        let from = common.map_or(0, |common| common.frame.saturating_add(1));
        match self.journal.leave_epoch(EpochReason::Fork, Some(from), &opening) {
            Ok(fresh) => {
                self.catalog.appended_snapshot(fresh, boot_time());
            }
            Err(error) => {
                self.failed(&error);
            }
        }
        if self.journal.epoch() != epoch {
            self.closed.write().unwrap_or_else(PoisonError::into_inner).push(epoch);
        }
        self.commit();
    }
}

/// The cursors as the journal keeps them; the oldest go when they do not fit.
fn destination(cursors: &[Cursor]) -> Vec<u8> {
    (0..cursors.len())
        .filter_map(|skip| postcard::to_stdvec(cursors.get(skip..)?).ok())
        .find(|bytes| bytes.len() <= MAX_DESTINATION_BYTES)
        .unwrap_or_default()
}

/// The epochs that a fork closed, as the first frames of later epochs say. An epoch whose first
/// frame is gone is older than all that is kept before it.
pub(super) fn forked(reader: &Reader) -> Vec<Epoch> {
    let first = |epoch| match reader.read_from(epoch, 0, 1) {
        Ok(Read::Frames(batch)) => frame::decode(&batch.bytes).ok().and_then(|found| {
            match postcard::from_bytes(found.body) {
                Ok(LossRecord::Predecessor(it)) if it.reason == EpochReason::Fork => it.epoch,
                _ => None,
            }
        }),
        _ => None,
    };
    reader.epochs().iter().filter_map(|span| first(span.epoch)).collect()
}

pub(super) fn remembered(journal: &Journal) -> Vec<Cursor> {
    postcard::from_bytes(&journal.delivered().destination).unwrap_or_default()
}
