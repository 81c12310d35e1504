//! Where drivers put what they learn: the way into record, live plane and status.
//!
//! # Invariants
//! - Nothing here waits. What the recorder's queue cannot take is counted as `recorder_overflow`
//!   and becomes a loss record of the device; the live plane and the status have it all the same.
//! - A tag recorded on change loses nothing by it: its first reading, each other value and each
//!   other quality or status is recorded.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_journal::{ClockState, Unsequenced};
use tidegate_translator::{
    Clock, DeviceState, FaultReport, LossCause, Missed, Quality, Reason, Sample, Sink, TagId,
    Timestamp,
};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::Instant;

use super::clock::ClockWatch;
use super::losses::{GATEWAY, LossLedger};
use super::owners::Owners;
use super::receipt::{Awaited, Batch, Receipt};
use super::stamp::both_clocks;
use crate::bulk::{Remembered, weight};
use crate::live::LiveQueue;
use crate::observe::state::Board;

/// Samples that may wait for the recorder: five seconds of 50,000 tags, the largest gateway that
/// is planned for, so that a slow `fdatasync` costs nothing. A long text counts as several, so that
/// texts and structures together take 16 MiB at most.
pub const MAX_QUEUED_SAMPLES: usize = 262_144;

/// Batches that may wait; a batch is one answered request at least.
const MAX_QUEUED_BATCHES: usize = 16_384;

/// The losses of this run, shared between the drivers that report and the recorder that writes.
pub struct Losses {
    ledger: Mutex<(LossLedger, ClockWatch)>,
    clock: Arc<dyn Clock>,
    origin: Instant,
}

impl std::fmt::Debug for Losses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Losses").finish_non_exhaustive()
    }
}

impl Losses {
    /// An empty ledger of losses that are reported in the times of this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { ledger: Mutex::default(), clock, origin: Instant::now() }
    }

    /// Folds one report in.
    pub fn report(&self, missed: &Missed) {
        let now = self.origin.elapsed();
        self.by_the_clock(|ledger| ledger.report(missed, now, random_id));
    }

    /// The records to write now.
    #[must_use]
    pub fn due(&self) -> Vec<Unsequenced> {
        let now = self.origin.elapsed();
        self.by_the_clock(|ledger| ledger.due(now))
    }

    /// What was reported before the clock was set is not extended: one record has its times from
    /// one clock.
    fn by_the_clock<T>(&self, change: impl FnOnce(&mut LossLedger) -> T) -> T {
        let mut locked = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let (ledger, watch) = &mut *locked;
        // Read under the lock, or two threads would see time go back.
        let (wall, mono) = both_clocks(&*self.clock);
        if watch.observe(wall, mono, ClockState::Unknown).is_some() {
            ledger.clock_was_set();
        }
        change(ledger)
    }

    /// Takes back what could not be written.
    pub fn take_back(&self, records: Vec<Unsequenced>) {
        self.with(|ledger| ledger.take_back(records));
    }

    /// Everything, as ended.
    #[must_use]
    pub fn finish(&self) -> Vec<Unsequenced> {
        self.with(LossLedger::finish)
    }

    fn with<T>(&self, change: impl FnOnce(&mut LossLedger) -> T) -> T {
        change(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner).0)
    }
}

/// The operating system's random source can only fail before the kernel has seeded it; a record
/// with the id of another would replace it, so the time since boot stands in.
pub(crate) fn random_id() -> u64 {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_ok() {
        return u64::from_le_bytes(bytes);
    }
    u64::try_from(super::boot_time().as_nanos()).unwrap_or(u64::MAX)
}

/// What waits for the recorder.
#[derive(Debug)]
pub struct Queue {
    batches: mpsc::Receiver<Batch>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicBool>,
}

impl Queue {
    /// The next batch; `None` once nobody can send any more. Cancel safe.
    pub async fn next(&mut self) -> Option<Batch> {
        let batch = self.batches.recv().await?;
        self.waiting.fetch_sub(weight(&batch), Ordering::Relaxed);
        Some(batch)
    }

    /// Says that what was taken out of the queue so far was not recorded: no later reading is left
    /// out because it is the same.
    pub fn was_lost(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// The next batch if there is one already.
    pub fn try_next(&mut self) -> Option<Batch> {
        let batch = self.batches.try_recv().ok()?;
        self.waiting.fetch_sub(weight(&batch), Ordering::Relaxed);
        Some(batch)
    }
}

/// The way to the recorder is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much waits for the recorder")]
pub struct NoRoom;

/// The sink that every driver writes to.
pub struct Ingress {
    board: Arc<Board>,
    live: Arc<LiveQueue>,
    losses: Arc<Losses>,
    clock: Arc<dyn Clock>,
    batches: mpsc::Sender<Batch>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicBool>,
    on_change: Mutex<HashMap<TagId, Option<Reading>>>,
    owners: Mutex<Owners>,
}

type Reading = (Remembered, Quality, u32);

impl std::fmt::Debug for Ingress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingress").finish_non_exhaustive()
    }
}

impl Ingress {
    /// A sink and the queue behind it.
    #[must_use]
    pub fn new(
        board: Arc<Board>,
        live: Arc<LiveQueue>,
        losses: Arc<Losses>,
        clock: Arc<dyn Clock>,
    ) -> (Self, Queue) {
        let (sender, batches) = mpsc::channel(MAX_QUEUED_BATCHES);
        let waiting = Arc::new(AtomicUsize::new(0));
        let lost = Arc::new(AtomicBool::new(false));
        let queue = Queue { batches, waiting: Arc::clone(&waiting), lost: Arc::clone(&lost) };
        let (on_change, owners) = (Mutex::default(), Mutex::default());
        let ingress =
            Self { board, live, losses, clock, batches: sender, waiting, lost, on_change, owners };
        (ingress, queue)
    }

    /// Sets which device each tag belongs to.
    pub fn set_owners(&self, tags: impl IntoIterator<Item = (TagId, Arc<str>)>) {
        self.owners().set(tags);
    }

    /// A device's driver ended unasked and is started again after `wait`. Its tags turn bad now,
    /// and what nobody reads until then is named: nobody else would say so before the next poll.
    pub fn driver_ended(&self, device: &Arc<str>, wait: Duration) {
        let (tags, last) = self.owners().of_device(device);
        let now = self.clock.now();
        let bad = |tag| Sample::bad(tag, now, Reason::NotConnected, 0);
        self.samples(tags.into_iter().map(bad).collect());
        let wait = i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX);
        self.missed(Missed {
            device: Arc::clone(device),
            tag: None,
            cause: LossCause::NotRunning,
            from: last.unwrap_or(now).min(now),
            to: Timestamp(now.0.saturating_add(wait)),
            count: None,
        });
    }

    fn owners(&self) -> MutexGuard<'_, Owners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Samples that wait for the recorder, a long text counted as several.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Sets which tags are recorded only when they change. A tag that stays keeps its last value.
    pub fn record_on_change(&self, tags: impl IntoIterator<Item = TagId>) {
        let mut on_change = self.on_change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *on_change);
        on_change.extend(tags.into_iter().map(|tag| (tag, before.remove(&tag).flatten())));
    }

    fn record(&self, batch: Arc<[Sample]>) {
        let owner = self.owners().note(&batch);
        let batch = self.worth_recording(batch);
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return };
        let (count, weight) = (batch.len(), weight(&batch));
        if self.queue(Batch { samples: Arc::clone(&batch), awaited: None }, weight).is_ok() {
            return;
        }
        self.forget_last(&batch);
        self.board.counters.recorder_overflow.add_len(count);
        self.missed(Missed {
            device: owner.unwrap_or_else(|| GATEWAY.into()),
            tag: None,
            cause: LossCause::QueueOverflow,
            from: first.acquired,
            to: last.acquired,
            count: u64::try_from(count).ok(),
        });
    }

    /// Hands a batch to the recorder, or back. One that is larger than the whole budget is taken
    /// when nothing else waits.
    fn queue(&self, batch: Batch, weight: usize) -> Result<(), Batch> {
        let waiting = self.waiting.fetch_add(weight, Ordering::Relaxed);
        let fits = waiting == 0 || waiting + weight <= MAX_QUEUED_SAMPLES;
        let refused = if fits {
            match self.batches.try_send(batch) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(batch) | TrySendError::Closed(batch)) => batch,
            }
        } else {
            batch
        };
        self.waiting.fetch_sub(weight, Ordering::Relaxed);
        Err(refused)
    }

    /// Takes samples that somebody waits for: they stand in one frame, each of them is recorded, and
    /// `receipt` is given once they are durable, `within` this time where one is named. Nothing
    /// waits here.
    ///
    /// # Errors
    /// When there is no room. Nothing was taken, nothing is told, and the receipt is not given: the
    /// caller knows who loses what.
    pub fn accept(
        &self,
        samples: Vec<Sample>,
        receipt: Receipt,
        within: Option<Duration>,
    ) -> Result<(), NoRoom> {
        let samples: Arc<[Sample]> = samples.into();
        let weight = weight(&samples);
        let awaited = Some(Awaited { receipt, within });
        if let Err(refused) = self.queue(Batch { samples: Arc::clone(&samples), awaited }, weight) {
            if let Some(awaited) = refused.awaited {
                awaited.receipt.discard();
            }
            return Err(NoRoom);
        }
        self.owners().note(&samples);
        self.board.note_samples(&samples);
        self.live.offer(samples);
        Ok(())
    }

    /// A reading that was not recorded is no reason to leave out the next one.
    fn forget_last(&self, batch: &[Sample]) {
        let mut on_change = self.on_change.lock().unwrap_or_else(PoisonError::into_inner);
        for sample in batch {
            if let Some(last) = on_change.get_mut(&sample.tag) {
                *last = None;
            }
        }
    }

    fn worth_recording(&self, batch: Arc<[Sample]>) -> Arc<[Sample]> {
        let mut on_change = self.on_change.lock().unwrap_or_else(PoisonError::into_inner);
        if on_change.is_empty() || !batch.iter().any(|s| on_change.contains_key(&s.tag)) {
            return batch;
        }
        if self.lost.swap(false, Ordering::AcqRel) {
            on_change.values_mut().for_each(|last| *last = None);
        }
        let differs = |sample: &&Sample| {
            let Some(last) = on_change.get_mut(&sample.tag) else { return true };
            let same = last.as_ref().is_some_and(|(value, quality, status)| {
                value.is(&sample.value) && *quality == sample.quality && *status == sample.status
            });
            if !same {
                *last = Some((Remembered::of(&sample.value), sample.quality, sample.status));
            }
            !same
        };
        batch.iter().filter(differs).cloned().collect()
    }
}

impl Sink for Ingress {
    fn samples(&self, batch: Vec<Sample>) {
        let batch: Arc<[Sample]> = batch.into();
        self.live.offer(Arc::clone(&batch));
        self.board.note_samples(&batch);
        self.record(batch);
    }

    fn missed(&self, missed: Missed) {
        self.board.note_missed(&missed);
        self.losses.report(&missed);
    }

    fn state(&self, device: &Arc<str>, state: DeviceState, why: Option<String>) {
        self.board.note_device(device, state, why);
    }

    fn fault(&self, device: &Arc<str>, fault: FaultReport) {
        self.board.note_fault(device, fault);
    }
}

/// How long the recorder may sleep when nothing is due: losses end and clocks step unasked.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tidegate_translator::Value;

    use super::*;
    use crate::recorder::SystemClock;

    struct Bench {
        ingress: Ingress,
        queue: Queue,
        losses: Arc<Losses>,
        board: Arc<Board>,
    }

    /// Tags 1 and 2 are press-1's, tag 3 is press-2's.
    fn bench() -> Bench {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let board = Arc::new(crate::observe::state::tests::board());
        let losses = Arc::new(Losses::new(Arc::clone(&clock)));
        let live = Arc::new(LiveQueue::new(Arc::clone(&board)));
        let (ingress, queue) = Ingress::new(Arc::clone(&board), live, Arc::clone(&losses), clock);
        let owner = |(tag, device): (u32, &str)| (TagId(tag), Arc::from(device));
        ingress.set_owners([(1, "press-1"), (2, "press-1"), (3, "press-2")].map(owner));
        Bench { ingress, queue, losses, board }
    }

    fn good(tag: u32, at: i64) -> Sample {
        Sample::good(TagId(tag), Timestamp(at), Value::I64(at))
    }

    #[tokio::test]
    async fn what_the_queue_cannot_take_is_a_loss_of_its_device_and_the_queue_stays_bounded() {
        let mut bench = bench();
        let scan = 1024;
        let most = i64::try_from(MAX_QUEUED_SAMPLES / scan).unwrap();
        for at in 0..most + 5 {
            let tag = if at % 2 == 0 { 1 } else { 3 };
            bench.ingress.samples(vec![good(tag, at); scan]);
        }
        assert_eq!(bench.board.counters.recorder_overflow.read(), 5 * 1024);
        let mut lost: Vec<_> = bench.losses.finish();
        lost.sort_by(|a, b| a.subject.cmp(&b.subject));
        let told: Vec<_> = lost
            .iter()
            .map(|l| (l.subject.as_str(), l.cause.as_str(), l.from, l.to, l.count))
            .collect();
        let cause = LossCause::QueueOverflow.word();
        let each = [
            ("press-1", cause, most, most + 4, Some(3 * 1024)),
            ("press-2", cause, most + 1, most + 3, Some(2 * 1024)),
        ];
        assert_eq!(told, each);
        let mut taken = 0;
        while let Some(batch) = bench.queue.try_next() {
            taken += batch.len();
        }
        assert_eq!(taken, MAX_QUEUED_SAMPLES);
        // Room again: collection had never stopped.
        bench.ingress.samples(vec![good(1, most + 5)]);
        assert!(bench.queue.try_next().is_some());
    }

    #[tokio::test]
    async fn structures_fill_the_queue_by_their_size() {
        let mut bench = bench();
        let large = Value::Json("x".repeat(48 * 1024).into());
        for at in 0..1000 {
            let samples = vec![Sample::good(TagId(1), Timestamp(at), large.clone())];
            bench.ingress.samples(samples);
        }
        let mut taken = 0;
        while bench.queue.try_next().is_some() {
            taken += 1;
        }
        let most = 16 * 1024 * 1024 / (48 * 1024);
        assert!((most - 10..=most).contains(&taken), "{taken}");
        assert_eq!(bench.board.counters.recorder_overflow.read(), 1000 - taken);
        assert_eq!(bench.ingress.waiting(), 0);
    }

    #[tokio::test]
    async fn a_driver_that_ends_turns_its_tags_bad_at_once_and_its_absence_is_named() {
        let mut bench = bench();
        bench.ingress.samples(vec![good(1, 5), good(2, 5)]);
        bench.ingress.samples(vec![good(3, 6)]);
        bench.ingress.driver_ended(&"press-1".into(), Duration::from_secs(2));
        let mut recorded = Vec::new();
        while let Some(batch) = bench.queue.try_next() {
            recorded.extend(batch.iter().map(|sample| (sample.tag.0, sample.quality)));
        }
        let bad = Quality::Bad(Reason::NotConnected);
        let good = Quality::Good;
        assert_eq!(recorded, [(1, good), (2, good), (3, good), (1, bad), (2, bad)]);
        let lost = bench.losses.finish();
        assert_eq!((lost.len(), lost[0].subject.as_str(), lost[0].from), (1, "press-1", 5));
        assert_eq!((lost[0].cause.as_str(), lost[0].count), ("not-running", None));
        assert!(lost[0].to >= SystemClock.now().0 - 1_000_000_000);
    }
}
