//! Where drivers put what they learn: the way into record, live plane and status.
//!
//! # Invariants
//! - Nothing here waits. What the recorder's queue cannot take is counted as `recorder_overflow`
//!   and becomes a loss record; the live plane and the status have it all the same.
//! - A tag recorded on change loses nothing by it: its first reading, each other value and each
//!   other quality or status is recorded.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_journal::Unsequenced;
use tidegate_translator::{
    Clock, DeviceState, LossCause, Missed, Quality, Sample, Sink, TagId, Value,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::losses::{self, LossLedger};
use crate::live::LiveQueue;
use crate::observe::state::Board;

/// Samples that may wait for the recorder: five seconds of 50,000 tags, the largest gateway that
/// is planned for, so that a slow `fdatasync` costs nothing.
pub const MAX_QUEUED_SAMPLES: usize = 262_144;

/// Batches that may wait; a batch is one answered request at least.
const MAX_QUEUED_BATCHES: usize = 16_384;

/// The losses of this run, shared between the drivers that report and the recorder that writes.
#[derive(Debug)]
pub struct Losses {
    ledger: Mutex<LossLedger>,
    origin: Instant,
}

impl Losses {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self { ledger: Mutex::default(), origin: Instant::now() }
    }

    /// Folds one report in.
    pub fn report(&self, missed: &Missed) {
        let now = self.origin.elapsed();
        self.with(|ledger| ledger.report(missed, now, random_id));
    }

    /// The records to write now.
    #[must_use]
    pub fn due(&self) -> Vec<Unsequenced> {
        let now = self.origin.elapsed();
        self.with(|ledger| ledger.due(now))
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
        change(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for Losses {
    fn default() -> Self {
        Self::new()
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
    batches: mpsc::Receiver<Arc<[Sample]>>,
    waiting: Arc<AtomicUsize>,
}

impl Queue {
    /// The next batch; `None` once nobody can send any more. Cancel safe.
    pub async fn next(&mut self) -> Option<Arc<[Sample]>> {
        let batch = self.batches.recv().await?;
        self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
        Some(batch)
    }

    /// The next batch if there is one already.
    pub fn try_next(&mut self) -> Option<Arc<[Sample]>> {
        let batch = self.batches.try_recv().ok()?;
        self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
        Some(batch)
    }
}

/// The sink that every driver writes to.
pub struct Ingress {
    board: Arc<Board>,
    live: Arc<LiveQueue>,
    losses: Arc<Losses>,
    clock: Arc<dyn Clock>,
    batches: mpsc::Sender<Arc<[Sample]>>,
    waiting: Arc<AtomicUsize>,
    on_change: Mutex<HashMap<TagId, Option<Reading>>>,
}

type Reading = (Value, Quality, u32);

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
        let queue = Queue { batches, waiting: Arc::clone(&waiting) };
        let on_change = Mutex::default();
        (Self { board, live, losses, clock, batches: sender, waiting, on_change }, queue)
    }

    /// Samples that wait for the recorder.
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
        let batch = self.worth_recording(batch);
        let count = batch.len();
        if count == 0 {
            return;
        }
        let first = batch.first().map_or_else(|| self.clock.now(), |sample| sample.acquired);
        // A batch that is larger than the whole budget is taken when nothing else waits.
        let waiting = self.waiting.fetch_add(count, Ordering::Relaxed);
        let fits = waiting == 0 || waiting + count <= MAX_QUEUED_SAMPLES;
        if fits && self.batches.try_send(Arc::clone(&batch)).is_ok() {
            return;
        }
        self.forget_last(&batch);
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        self.board.counters.recorder_overflow.add_len(count);
        let lost = u64::try_from(count).ok();
        self.losses.report(&losses::of_gateway(
            LossCause::QueueOverflow,
            first,
            self.clock.now(),
            lost,
        ));
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
        let differs = |sample: &&Sample| {
            let Some(last) = on_change.get_mut(&sample.tag) else { return true };
            let same = last.as_ref().is_some_and(|(value, quality, status)| {
                value.is_same(&sample.value)
                    && *quality == sample.quality
                    && *status == sample.status
            });
            if !same {
                *last = Some((sample.value.clone(), sample.quality, sample.status));
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
}

/// How long the recorder may sleep when nothing is due: losses end and clocks step unasked.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
