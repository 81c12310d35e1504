//! The thread that owns the journal.
//!
//! # Invariants
//! - It blocks on the disk and on nothing else, so it runs on a thread of its own.
//! - Samples that the journal refuses are counted once, here, and told in a loss record.
//! - A loss record that cannot be written is kept and tried again.
//! - A journal that fails is opened again, by its path, until a commit succeeds: what is behind the
//!   path may have been mounted anew, and files that were opened while it was read-only stay so.

mod awaited;
#[cfg(test)]
mod awaited_tests;
mod carrying;
#[cfg(test)]
mod carrying_tests;
mod commands;
#[cfg(test)]
mod disk_tests;
mod sealing;
mod telling;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tidegate_journal::{
    Appended, Codec, Draft, Epoch, EpochReason, Journal, Kind, LossRecord, OpenError, Recovery,
    WriteError,
};
use tidegate_record::samples::{Body, MAX_COLUMN_BYTES, Packer, Refused};
use tidegate_translator::{Clock, LossCause, Missed, Sample, TagId, Timestamp};
use tidegate_uplink::Memory;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::awaited::AwaitedSamples;
use self::carrying::Carrying;
use self::commands::{forked, remembered};
use super::catalog_store::CatalogStore;
use super::clock::{Behind, ClockWatch};
use super::handle::Command;
use super::ingress::{LOOK_EVERY, Losses, Queue};
use super::losses::of_gateway;
use super::pace::CommitPace;
use super::receipt::Batch;
use super::stamp::{Stamper, boot_time};
use super::waiting::Kit;
use crate::bulk::text_bytes;
use crate::causes::chain;
use crate::observe::state::Board;
use crate::supervise::Pulse;

/// Samples that become frames without waiting for the commit: about 24 kB in columns, so that a
/// frame is never near its limit and packing never takes long.
const FRAME_SAMPLES: usize = 4096;

/// What a sample is taken for until it is packed (measured: 5.5 bytes in scans of 100 tags), beside
/// its text.
const GUESSED_SAMPLE_BYTES: usize = 6;

/// Bytes of text that become frames without waiting for the commit: what fits one frame before it
/// is compressed.
const FRAME_TEXT: usize = MAX_COLUMN_BYTES;

/// Tags whose values were told to be too large; of more the record tells alone.
const MAX_TOO_LARGE: usize = 256;

/// Between attempts to open a journal that failed: first and longest.
pub(super) const REOPEN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Why the recorder cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A catalog is missing beside a journal, and the new epoch that this takes cannot begin.
    #[error("the catalog is gone and no new epoch can be begun")]
    Epoch(#[source] WriteError),
}

/// Records until it is stopped.
pub(super) struct Writer {
    journal: Journal,
    closed: Arc<RwLock<Vec<Epoch>>>,
    durable: watch::Sender<u64>,
    commands: mpsc::Receiver<Command>,
    queue: Queue,
    catalog: CatalogStore,
    snapshot_again: bool,
    losses: Arc<Losses>,
    board: Arc<Board>,
    clock: Arc<dyn Clock>,
    clock_watch: ClockWatch,
    /// The clock stood before the last sample when this run began, and still does.
    behind: Option<Behind>,
    stamper: Stamper,
    packer: Packer,
    pending: Vec<Sample>,
    pending_since: Option<Duration>,
    pending_text: usize,
    too_large: HashSet<TagId>,
    pace: CommitPace,
    quiet_tags: HashSet<TagId>,
    memory: Memory,
    /// Samples in frames that no commit has covered yet.
    uncommitted: u64,
    awaited: AwaitedSamples,
    /// The journal refused the last frame that it was given.
    refusing: bool,
    look_at: Instant,
    reopen: Option<Instant>,
    /// How long the next reopening waits.
    reopen_wait: Duration,
    carrying: Carrying,
    slowest: (Instant, Duration),
    origin: Instant,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("journal", &self.journal).finish_non_exhaustive()
    }
}

impl Writer {
    /// Takes up a journal that was opened. Blocks on the disk.
    ///
    /// # Errors
    /// When it takes a new epoch and none can begin; the kit is then as it was.
    pub(super) fn take_up(
        kit: Kit,
        mut journal: Journal,
        recovery: &Recovery,
    ) -> Result<Self, Box<(Kit, StartError)>> {
        let fits = kit.catalog_known || recovery.began == Some(EpochReason::FirstStart);
        if !fits && let Err(error) = journal.start_epoch(EpochReason::CatalogLost, None, &[]) {
            return Err(Box::new((kit, StartError::Epoch(error))));
        }
        let memory = remembered(&journal);
        *kit.closed.write().unwrap_or_else(PoisonError::into_inner) = forked(&journal.reader());
        if let Some(last) = &recovery.last_samples {
            let _ = kit.before.set(Timestamp(last.wall.1));
        }
        kit.opened.send_replace(Some(memory.clone()));
        let origin = Instant::now();
        let mut writer = Self {
            journal,
            closed: kit.closed,
            durable: kit.durable,
            commands: kit.commands,
            queue: kit.queue,
            catalog: kit.catalog,
            snapshot_again: false,
            losses: kit.losses,
            board: kit.board,
            clock: kit.clock,
            clock_watch: ClockWatch::default(),
            behind: None,
            stamper: kit.stamper,
            packer: Packer::new(),
            pending: Vec::new(),
            pending_since: None,
            pending_text: 0,
            too_large: HashSet::new(),
            pace: CommitPace::new(kit.commit_every),
            quiet_tags: kit.quiet_tags,
            memory,
            uncommitted: 0,
            awaited: AwaitedSamples::default(),
            refusing: false,
            look_at: origin,
            reopen: None,
            reopen_wait: REOPEN.0,
            carrying: Carrying::new(origin),
            slowest: (origin, Duration::ZERO),
            origin,
        };
        writer.tell_downtime(recovery, &kit.started);
        writer.commit();
        Ok(writer)
    }

    /// What was read before this was lost: no later reading is left out because it is the same.
    pub(super) fn forget_readings(&self) {
        self.queue.was_lost();
    }

    /// Records until `stop`, then records what is still queued and closes the journal.
    pub(super) async fn run(mut self, pulse: Pulse, stop: CancellationToken) {
        loop {
            pulse.tick();
            let due = self.due_at();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(command) = self.commands.recv() => self.command(command),
                Some(batch) = self.queue.next(), if !self.holds_the_queue() => self.take(batch),
                () = tokio::time::sleep_until(due) => {}
            }
            self.act_if_due();
        }
        self.carry_before_the_end(&pulse);
        while let Some(batch) = self.queue.try_next() {
            self.take(batch);
        }
        self.finish();
    }

    fn due_at(&self) -> Instant {
        let due = [self.commit_at(), self.carry_at()].into_iter().flatten().min();
        due.map_or(self.look_at, |at| at.min(self.look_at))
    }

    fn commit_at(&self) -> Option<Instant> {
        let pace = self.pace.due_at().map(|at| self.origin + at);
        [pace, self.reopen].into_iter().flatten().min()
    }

    /// A look commits nothing by itself: what it finds makes a commit due like any sample does.
    fn act_if_due(&mut self) {
        let now = Instant::now();
        if self.look_at <= now {
            self.look_at = now + LOOK_EVERY;
            self.watch_clock();
            self.record_losses();
            self.tell_events();
        }
        if self.commit_at().is_some_and(|at| at <= now) {
            self.commit();
        }
        if self.carry_at().is_some_and(|at| at <= now) {
            self.carry_on(now);
        }
    }

    fn take(&mut self, batch: Batch) {
        if batch.awaited.is_some() {
            self.take_awaited(batch);
            return;
        }
        let now = boot_time();
        self.pending_since.get_or_insert(now);
        self.pending.extend_from_slice(&batch);
        let urgent = batch.iter().any(|sample| !self.quiet_tags.contains(&sample.tag));
        let text: usize = batch.iter().map(|sample| text_bytes(&sample.value)).sum();
        self.pending_text += text;
        let bytes = batch.len() * GUESSED_SAMPLE_BYTES + text;
        self.pace.waiting(bytes, urgent, self.origin.elapsed());
        if self.pending.len() >= FRAME_SAMPLES || self.pending_text >= FRAME_TEXT {
            self.pack();
        }
    }

    /// Turns everything that is pending into frames.
    fn pack(&mut self) {
        self.pack_pending();
        self.pack_awaited();
    }

    fn pack_pending(&mut self) {
        let Some(since) = self.pending_since.take() else { return };
        let samples = std::mem::take(&mut self.pending);
        self.pending_text = 0;
        self.record_catalog();
        let packing = self.packer.pack(&samples);
        for refused in &packing.refused {
            self.lose_too_large(refused);
        }
        let mono = (since, boot_time());
        for body in &packing.bodies {
            if let Err(cause) = self.append_samples(body, mono) {
                let (from, to) = body.wall;
                self.lose(cause, Timestamp(from), Timestamp(to), u64::from(body.count));
            }
        }
        // The buffer is kept: the next frame needs as much.
        self.pending = samples;
        self.pending.clear();
    }

    fn record_catalog(&mut self) {
        let epoch = self.journal.epoch();
        let again = std::mem::take(&mut self.snapshot_again);
        // Out of its place while its bodies are made one by one; nothing else asks for it.
        let mut catalog = std::mem::take(&mut self.catalog);
        let mut bodies = catalog.frames_due(epoch, boot_time(), again);
        let is_done = bodies.all(|body| self.append_plain(Kind::Catalog, &body).is_ok());
        drop(bodies);
        if !is_done {
            catalog.not_appended();
        }
        self.catalog = catalog;
    }

    fn append_plain(&mut self, kind: Kind, body: &[u8]) -> Result<Appended, LossCause> {
        let stamp = self.stamper.now(self.clock.now());
        let appended = self.append(&Draft { kind, codec: Codec::Plain, body, count: 0, stamp })?;
        self.pace.waiting(body.len(), true, self.origin.elapsed());
        Ok(appended)
    }

    /// Appends packed samples that were captured in this range of the monotonic clock.
    fn append_samples(
        &mut self,
        body: &Body,
        mono: (Duration, Duration),
    ) -> Result<Appended, LossCause> {
        let stamp = self.stamper.between(body.wall, mono);
        let (codec, count, body) = (body.codec, body.count, &body.bytes);
        let appended = self.append(&Draft { kind: Kind::Samples, codec, body, count, stamp })?;
        self.uncommitted += u64::from(count);
        Ok(appended)
    }

    fn append(&mut self, draft: &Draft<'_>) -> Result<Appended, LossCause> {
        let result = self.journal.append(draft);
        self.refusing = result.is_err();
        result.map_err(|error| self.failed(&error))
    }

    fn lose(&self, cause: LossCause, from: Timestamp, to: Timestamp, count: u64) {
        self.losses.report(&of_gateway(cause, from, to, Some(count)));
    }

    /// A value that no frame takes is a loss of its tag, and worth one line in the log.
    fn lose_too_large(&mut self, refused: &Refused) {
        let Some(entry) = self.catalog.catalog().resolve(refused.tag) else {
            self.lose(LossCause::TooLarge, refused.acquired, refused.acquired, 1);
            return;
        };
        let missed = Missed {
            device: Arc::clone(&entry.device),
            tag: Some(entry.path.shared()),
            cause: LossCause::TooLarge,
            from: refused.acquired,
            to: refused.acquired,
            count: Some(1),
        };
        if self.too_large.len() < MAX_TOO_LARGE && self.too_large.insert(refused.tag) {
            tracing::error!(device = %entry.device, tag = %entry.path, "not recorded: {refused}");
        }
        self.board.note_missed(&missed);
        self.losses.report(&missed);
    }

    /// Makes everything pending durable.
    fn commit(&mut self) {
        self.reopen_if_due();
        self.watch_clock();
        self.pack();
        self.record_losses();
        self.pace.committed();
        let started = Instant::now();
        match self.journal.commit() {
            Ok(_) => {
                let took = started.elapsed();
                self.durable.send_modify(|commits| *commits += 1);
                self.awaited.are_durable();
                self.board.counters.samples_recorded.add(std::mem::take(&mut self.uncommitted));
                // A commit of nothing says nothing of a journal that takes no frame.
                if !self.refusing {
                    (self.reopen, self.reopen_wait) = (None, REOPEN.0);
                    self.writable();
                }
                if let Err(error) = self.catalog.committed() {
                    self.board.raise("catalog-unwritable", error.to_string());
                } else {
                    self.board.clear("catalog-unwritable");
                }
                self.report(took);
            }
            Err(error) => {
                self.failed(&error);
                // What is pending stays so, and is tried again.
                self.pace.waiting(0, true, self.origin.elapsed());
            }
        }
        self.tell_events();
    }

    fn record_losses(&mut self) {
        let mut due = self.losses.due();
        while let Some(record) = due.pop() {
            let body = postcard::to_stdvec(&LossRecord::Unsequenced(record.clone()));
            let written = body.is_ok_and(|body| self.append_plain(Kind::Loss, &body).is_ok());
            if !written {
                due.push(record);
                self.losses.take_back(due);
                return;
            }
        }
    }

    /// A journal that must be opened again keeps what waits in it.
    fn reopen_if_due(&mut self) {
        if self.reopen.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.reopen = None;
        match self.journal.reopen() {
            Ok(_) => {
                self.catalog.not_appended();
                self.refusing = false;
            }
            Err(error) => {
                tracing::warn!("{}", chain(&error));
                self.reopen_later();
            }
        }
    }

    /// A failure that lasts is met less and less often.
    fn reopen_later(&mut self) {
        if self.reopen.is_none() {
            self.reopen = Some(Instant::now() + self.reopen_wait);
            self.reopen_wait = (self.reopen_wait * 2).min(REOPEN.1);
        }
    }

    fn finish(mut self) {
        self.pack();
        for record in self.losses.finish() {
            if let Ok(body) = postcard::to_stdvec(&LossRecord::Unsequenced(record)) {
                let _ = self.append_plain(Kind::Loss, &body);
            }
        }
        self.commit();
        if let Err(error) = self.journal.close() {
            tracing::error!("{}", chain(&error));
        }
    }
}
