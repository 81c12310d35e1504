//! What the writer does when it is asked.
//!
//! # Invariants
//! - What delivery remembers is kept with the journal that it speaks of; what does not fit goes,
//!   oldest first, and the ends of messages before cursors.
//! - A fork keeps every sample: what the old epoch had beyond the common frame is carried over.

use std::sync::PoisonError;

use serde::Serialize;
use tidegate_journal::{
    Codec, Draft, Epoch, EpochReason, Journal, Kind, LossRecord, MAX_DESTINATION_BYTES, Position,
    Read, Reader, frame,
};
use tidegate_uplink::{Cursor, Memory, MessageEnd};

use super::Writer;
use crate::causes::chain;
use crate::recorder::boot_time;
use crate::recorder::handle::Command;

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
            Command::Sent(end) => self.sent(end),
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
        let (epoch, position) = (cursor.epoch, cursor.up_to);
        self.memory.take(cursor);
        let kept = destination(&self.memory);
        if let Err(error) = self.journal.acknowledge(epoch, position, &kept) {
            tracing::warn!("{}", chain(&error));
        }
    }

    fn sent(&mut self, end: MessageEnd) {
        self.memory.note_sent(end);
        if let Err(error) = self.journal.remember(&destination(&self.memory)) {
            tracing::warn!("{}", chain(&error));
        }
    }

    fn rewind(&mut self, epoch: Epoch, to_frame: u64) {
        self.memory.cursors.retain(|cursor| cursor.epoch != epoch || cursor.up_to.frame < to_frame);
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

/// What is remembered, as the journal keeps it: the cursors, then the ends of messages. Earlier
/// versions wrote no ends, and read no further than the cursors.
fn destination(memory: &Memory) -> Vec<u8> {
    let mut kept = what_fits(&memory.cursors, MAX_DESTINATION_BYTES);
    kept.extend(what_fits(&memory.ends, MAX_DESTINATION_BYTES.saturating_sub(kept.len())));
    kept
}

/// The oldest go when they do not fit.
fn what_fits(list: &[impl Serialize], most: usize) -> Vec<u8> {
    (0..=list.len())
        .filter_map(|skip| postcard::to_stdvec(list.get(skip..)?).ok())
        .find(|bytes| bytes.len() <= most)
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

pub(super) fn remembered(journal: &Journal) -> Memory {
    memory_in(&journal.delivered().destination)
}

fn memory_in(kept: &[u8]) -> Memory {
    let (cursors, rest) = postcard::take_from_bytes(kept).unwrap_or_default();
    Memory { cursors, ends: postcard::from_bytes(rest).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use tidegate_journal::FrameHash;
    use tidegate_uplink::{HubId, RewindReason, Suspicion};

    use super::*;

    fn position(frame: u64) -> Position {
        Position { frame, next_seq: u64::MAX - frame, hash: FrameHash([1; 32]) }
    }

    fn cursor(epoch: u8, suspicion: Option<Suspicion>) -> Cursor {
        let hub = HubId { domain: "hub".into(), stream: "TIDE".into(), created: 1 };
        let (epoch, up_to) = (Epoch([epoch; 16]), position(1));
        Cursor { hub, epoch, up_to, stream_seq: 1, suspicion }
    }

    fn ends(count: u64) -> Vec<MessageEnd> {
        (0..count).map(|n| MessageEnd { epoch: Epoch([1; 16]), last: position(n) }).collect()
    }

    #[test]
    fn what_is_remembered_comes_back_with_and_without_cursors() {
        for cursors in [vec![], vec![cursor(1, None)], vec![cursor(1, None), cursor(2, None)]] {
            for ends in [ends(0), ends(16)] {
                let memory = Memory { cursors: cursors.clone(), ends };
                assert_eq!(memory_in(&destination(&memory)), memory);
            }
        }
        assert_eq!(memory_in(&[]), Memory::default());
        assert_eq!(memory_in(&[0xff; 40]), Memory::default());
    }

    #[test]
    fn versions_that_know_no_ends_read_the_same_cursors_and_are_read() {
        let memory = Memory { cursors: vec![cursor(1, None)], ends: ends(3) };
        let by_former: Vec<Cursor> = postcard::from_bytes(&destination(&memory)).unwrap();
        assert_eq!(by_former, memory.cursors);
        let former = postcard::to_stdvec(&memory.cursors).unwrap();
        assert_eq!(memory_in(&former), Memory { ends: vec![], ..memory });
    }

    #[test]
    fn of_too_much_the_oldest_ends_go_first_and_cursors_last() {
        let sent = (0..9).map(|n| (position(n), "a message id, far longer than any".repeat(4)));
        let suspicion = Suspicion {
            reason: RewindReason::HubBehind,
            after: None,
            expected_last_seq: 1,
            sent: sent.collect(),
        };
        let memory = Memory { cursors: vec![cursor(1, Some(suspicion))], ends: ends(16) };
        let kept = destination(&memory);
        assert!(kept.len() <= MAX_DESTINATION_BYTES);
        let back = memory_in(&kept);
        assert_eq!(back.cursors, memory.cursors);
        assert!((1..16).contains(&back.ends.len()), "{} ends", back.ends.len());
        assert!(memory.ends.ends_with(&back.ends));
    }
}
