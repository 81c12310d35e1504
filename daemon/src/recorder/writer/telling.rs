//! What the writer tells the rest of the daemon of its journal.
//!
//! # Invariants
//! - A failure is one alarm while it lasts, however often it comes; the alarm goes once a commit
//!   succeeds.

use std::time::Duration;

use tidegate_journal::{Event, Read, Recovery, WriteError, frame};
use tidegate_translator::{LossCause, Timestamp};
use tokio::time::Instant;

use super::{REOPEN, Writer};
use crate::causes::chain;
use crate::recorder::losses::of_gateway;

impl Writer {
    /// Notes a failure of the journal and says as what its losses count.
    pub(super) fn failed(&mut self, error: &WriteError) -> LossCause {
        self.board.counters.journal_errors.one();
        let text = chain(error);
        self.board.update_journal(|journal| {
            journal.writable = false;
            journal.why = Some(text.clone());
        });
        let cause = match error {
            WriteError::Full { .. } => LossCause::JournalFull,
            _ => LossCause::JournalUnwritable,
        };
        if self.board.raise(cause.word(), text.clone()) {
            tracing::error!("{text}; live values go on, losses are counted");
        }
        if matches!(error, WriteError::NeedsReopen { .. }) {
            self.reopen.get_or_insert((Instant::now() + REOPEN.0, REOPEN.0));
        }
        cause
    }

    pub(super) fn writable(&self) {
        let was_full = self.board.clear(LossCause::JournalFull.word());
        let was_unwritable = self.board.clear(LossCause::JournalUnwritable.word());
        self.board.clear("no-spare-segment");
        if was_full || was_unwritable {
            tracing::info!("the journal takes frames again");
        }
        self.board.update_journal(|journal| {
            journal.writable = true;
            journal.why = None;
        });
    }

    pub(super) fn report(&mut self, took: Duration) {
        let (stats, epoch) = (self.journal.stats(), self.journal.epoch());
        let reader = self.journal.reader();
        if self.slowest.0.elapsed() >= Duration::from_secs(60) || took > self.slowest.1 {
            self.slowest = (Instant::now(), took);
        }
        let slowest = self.slowest.1;
        self.board.update_journal(|journal| {
            journal.epoch = epoch.to_string();
            journal.bytes = stats.bytes;
            journal.max_bytes = stats.max_bytes;
            journal.segments = stats.segments;
            journal.written_bytes = stats.written_bytes;
            journal.commit_ms = Some(took.as_secs_f64() * 1e3);
            journal.slowest_commit_ms = Some(slowest.as_secs_f64() * 1e3);
            if let Some((_, position)) = reader.durable() {
                journal.durable_seq = position.next_seq;
            }
        });
    }

    pub(super) fn tell_events(&mut self) {
        let events = self.journal.take_events();
        for event in events {
            match event {
                Event::Dropped { epoch, frames: (first, last), samples } => {
                    self.snapshot_again = true;
                    let counters = &self.board.counters;
                    counters.frames_dropped.add(last.saturating_sub(first) + 1);
                    counters.samples_dropped.add(samples);
                    tracing::error!(%epoch, first, last, samples, "full: oldest frames dropped");
                    self.board.raise(
                        "frames-dropped",
                        format!("the journal was full and dropped undelivered frames up to {last}"),
                    );
                }
                Event::Damaged { epoch, frames: (first, last), samples, delivered } => {
                    self.snapshot_again |= !delivered;
                    self.board.counters.frames_damaged.add(last.saturating_sub(first) + 1);
                    tracing::error!(%epoch, first, last, samples, delivered, "frames are damaged");
                    self.board.raise(
                        "frames-damaged",
                        format!("frames {first} to {last} are damaged on disk; check the medium"),
                    );
                }
                Event::SyncFailed { file } => {
                    tracing::error!(file, "fdatasync failed; frames go to another file");
                    self.board.raise(
                        "sync-failed",
                        format!("the disk did not make {file} durable; check the medium"),
                    );
                }
                Event::NoSpare { why } => {
                    if self.board.raise("no-spare-segment", why.clone()) {
                        tracing::warn!("no spare segment: {why}");
                    }
                }
            }
        }
    }

    /// Every start says since when nothing was recorded: since the last durable sample, or since the
    /// journal was made when no sample became durable. What was read since this start has a loss of
    /// its own when the journal could not be opened at once.
    pub(super) fn tell_downtime(&self, recovery: &Recovery, started: Timestamp) {
        let made = || recovery.began.is_none().then(|| self.epoch_began_at()).flatten();
        if let Some(last) = recovery.last_sample_at.or_else(made) {
            let (from, to) = (Timestamp(last), started);
            self.losses.report(&of_gateway(LossCause::NotRunning, from, to.max(from), None));
        }
    }

    fn epoch_began_at(&self) -> Option<i64> {
        match self.journal.reader().read_from(self.journal.epoch(), 0, 1) {
            Ok(Read::Frames(batch)) => Some(frame::decode(&batch.bytes).ok()?.header.wall.0),
            _ => None,
        }
    }
}
