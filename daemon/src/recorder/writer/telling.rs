//! What the writer tells the rest of the daemon of its journal.
//!
//! # Invariants
//! - A failure is one alarm while it lasts, however often it comes; the alarm goes once a commit
//!   succeeds.

use std::time::Duration;

use tidegate_journal::{Event, Kind, Read, Recovery, Stamp, WriteError, frame};
use tidegate_record::{ClockEvent, Moment};

use tidegate_translator::{LossCause, Timestamp};
use tokio::time::Instant;

use super::Writer;
use crate::causes::chain;
use crate::recorder::clock::Downtime;
use crate::recorder::losses::of_gateway;
use crate::recorder::stamp::{Stamper, both_clocks};

/// The alarm's word.
const CLOCK_BEHIND: &str = "clock-behind-record";

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
        match error {
            WriteError::Full { .. } | WriteError::TooLarge { .. } => {}
            WriteError::Storage(error) if error.is_full() => {}
            _ => self.reopen_later(),
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
            journal.sidecar_bytes = stats.sidecar_bytes;
            journal.sidecar_failures = stats.sidecar_failures;
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
                    let text = format!("the disk did not make {file} durable; check the medium");
                    if self.board.raise("sync-failed", text) {
                        tracing::error!(file, "fdatasync failed; frames go to another file");
                    }
                }
                Event::Unreadable { why } => {
                    tracing::error!("{why}; delivery waits for it");
                    self.board.raise("journal-unreadable", why);
                }
                Event::Readable => {
                    tracing::info!("the journal can be read again");
                    self.board.clear("journal-unreadable");
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
    pub(super) fn tell_downtime(&mut self, recovery: &Recovery, started: &Stamp) {
        let made = || recovery.began.is_none().then(|| self.epoch_began()).flatten();
        let Some(last) = recovery.last_samples.or_else(made) else { return };
        let downtime = Downtime::between(&last, started);
        self.not_running(downtime.from, downtime.to);
        if let Some(step) = &downtime.step {
            self.tell_clock(step);
        }
        if let Some(behind) = &downtime.behind {
            let text = format!(
                "the wall clock stands at {} and the last sample was recorded at {}; set the clock or \
                 let it be synchronised",
                Moment(self.clock.now().0),
                Moment(behind.last().0),
            );
            tracing::warn!(alarm = CLOCK_BEHIND, "{text}; recording goes on, in order");
            self.board.raise(CLOCK_BEHIND, text);
        }
        self.behind = downtime.behind;
    }

    fn not_running(&self, from: Timestamp, to: Timestamp) {
        self.losses.report(&of_gateway(LossCause::NotRunning, from, to, None));
    }

    fn epoch_began(&self) -> Option<Stamp> {
        match self.journal.reader().read_from(self.journal.epoch(), 0, 1) {
            Ok(Read::Frames(batch)) => Some(frame::decode(&batch.bytes).ok()?.header.stamp()),
            _ => None,
        }
    }

    pub(super) fn watch_clock(&mut self) {
        let state = Stamper::clock_state();
        let (now, mono) = both_clocks(&*self.clock);
        if let Some(event) = self.clock_watch.observe(now, mono, state) {
            // What was captured before stands before, so that few frames have times of two clocks.
            self.pack();
            self.tell_clock(&event);
            if let Some((behind, began)) =
                self.behind.and_then(|behind| Some((behind, behind.began(&event)?)))
            {
                self.not_running(behind.last(), began);
            }
        }
        if self.behind.is_some_and(|behind| behind.is_over(now)) {
            self.behind = None;
            self.board.clear(CLOCK_BEHIND);
        }
    }

    fn tell_clock(&mut self, event: &ClockEvent) {
        tracing::warn!(step_ns = event.step(), kind = ?event.kind, "the wall clock changed");
        if let Ok(body) = event.encode() {
            // A clock that cannot be recorded is a journal that cannot be written: told there.
            let _ = self.append_plain(Kind::Clock, &body);
        }
    }
}
