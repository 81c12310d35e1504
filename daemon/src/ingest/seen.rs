//! Which messages came before, over restarts.
//!
//! # Invariants
//! - What is durable is known, and what is known is durable or on its way: the recorder itself says
//!   which.
//! - Who repeats a message that is on its way is answered with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_ingest::{Known, Window};
use tidegate_journal::{EpochReason, FrameRef, Kind, LossRecord, ReadError, Reader, frame};
use tidegate_record::samples::{Run, Scanner, TagSet};
use tidegate_translator::{TagId, Timestamp, Value};

use crate::recorder::Place;

/// Repeats of one message that are answered with it; of more the last ones hear nothing.
const MAX_WAITING: usize = 8;
/// Bytes of the journal that are read at once.
const PAGE: usize = 1 << 20;

/// The identifiers of one device, shared by the runs of its driver and the recorder.
#[derive(Debug)]
pub(crate) struct Seen {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    window: Window<Place>,
    /// Who repeated a message that is on its way.
    waiting: HashMap<Arc<str>, Vec<String>>,
    is_loaded: bool,
}

impl Seen {
    fn new() -> Self {
        let window = Window::new(0);
        Self { inner: Mutex::new(Inner { window, waiting: HashMap::new(), is_loaded: false }) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a message is on its way, unless something is known of it.
    pub(super) fn begin(&self, id: &Arc<str>) -> Known<Place> {
        let mut inner = self.inner();
        let known = inner.window.look(id);
        if known == Known::Nothing {
            inner.window.begin(id);
        }
        known
    }

    /// Has a repeat answered with the message that is on its way; `false` when too many wait.
    pub(super) fn wait(&self, id: &Arc<str>, reply: String) -> bool {
        let mut inner = self.inner();
        let waiting = inner.waiting.entry(Arc::clone(id)).or_default();
        let fits = waiting.len() < MAX_WAITING;
        if fits {
            waiting.push(reply);
        }
        fits
    }

    /// Notes what became of a message, and returns who else waits for that.
    pub(super) fn settle(&self, id: &Arc<str>, place: Option<Place>) -> Vec<String> {
        let mut inner = self.inner();
        match place {
            Some(place) => inner.window.recorded(id, place),
            None => inner.window.failed(id),
        }
        inner.waiting.remove(id).unwrap_or_default()
    }

    /// Remembers `capacity` from now on.
    pub(super) fn resize(&self, capacity: usize) {
        self.inner().window.resize(capacity);
    }

    /// Whether those in the record are known.
    pub(super) fn is_loaded(&self) -> bool {
        self.inner().is_loaded
    }

    /// Learns those in the record, oldest first.
    pub(super) fn learn(&self, found: Vec<(Arc<str>, Place)>) {
        let mut inner = self.inner();
        for (id, place) in found {
            inner.window.recorded(&id, place);
        }
        inner.is_loaded = true;
    }
}

/// The identifiers of every device, by its name.
#[derive(Debug, Default)]
pub(crate) struct Ids(Mutex<HashMap<String, Arc<Seen>>>);

impl Ids {
    pub(super) fn of(&self, device: &str) -> Arc<Seen> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(device.to_owned()).or_insert_with(|| Arc::new(Seen::new())))
    }
}

/// The identifiers that were recorded as values of `tag` in the time `back` from `end`, oldest
/// first, the newest `most` of them. Blocks on the disk.
pub(super) fn in_the_record(
    reader: &Reader,
    tag: TagId,
    end: Timestamp,
    back: Duration,
    most: usize,
) -> Result<Vec<(Arc<str>, Place)>, ReadError> {
    let back = i64::try_from(back.as_nanos()).unwrap_or(i64::MAX);
    let range = (end.0.saturating_sub(back), i64::MAX);
    let mut found = std::collections::VecDeque::new();
    let (mut scanner, tags) = (Scanner::new(), TagSet::from_iter([tag]));
    let mut resume: Option<FrameRef> = None;
    loop {
        let page = reader.overlapping(range, resume, PAGE)?;
        for batch in &page.batches {
            let mut rest = batch.bytes.as_slice();
            while let Ok(frame) = frame::decode(rest) {
                rest = rest.get(frame.bytes.len()..).unwrap_or_default();
                match frame.kind {
                    Kind::Samples => {
                        let ids = |run: &Run<'_>| {
                            for (at, sample) in run.samples().enumerate() {
                                if let Value::Text(id) = sample.value {
                                    let place = Place { epoch: batch.epoch, seq: run.seq(at) };
                                    found.push_back((id.into(), place));
                                }
                            }
                        };
                        // One that is damaged is told by whoever reads the record.
                        let _ = scanner.scan(&frame, &tags, ids);
                        let beyond = found.len().saturating_sub(most);
                        found.drain(..beyond);
                    }
                    Kind::Loss if numbers_begin_anew(frame.body) => found.clear(),
                    _ => {}
                }
            }
        }
        resume = page.resume;
        if resume.is_none() {
            return Ok(found.into());
        }
    }
}

/// Whether tags have other numbers from here on.
fn numbers_begin_anew(body: &[u8]) -> bool {
    matches!(
        postcard::from_bytes(body),
        Ok(LossRecord::Predecessor(it)) if it.reason != EpochReason::Fork
    )
}
