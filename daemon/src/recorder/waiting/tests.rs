//! A journal that cannot be opened when the daemon starts.

use std::sync::atomic::{AtomicU32, Ordering};

use tidegate_journal::storage::sim::SimStorage;
use tidegate_journal::{
    Kind, LossRecord, MIN_SEGMENT_BYTES, Read, Settings, StorageError, Unsequenced, frame,
};
use tidegate_record::catalog::Definition;
use tidegate_record::samples;
use tidegate_translator::{Sample, Sink as _, TagPath, Value, ValueKind};
use tokio::task::JoinHandle;

use super::*;
use crate::live::LiveQueue;
use crate::recorder::{Ingress, SystemClock};
use crate::supervise::Pulses;

const SECOND: Duration = Duration::from_secs(1);

/// A disk that fails so many times to be opened.
#[derive(Clone)]
struct Late {
    disk: SimStorage,
    failures: Arc<AtomicU32>,
    newer: bool,
}

impl Late {
    fn new(failures: u32, newer: bool) -> Self {
        Self { disk: SimStorage::new(), failures: Arc::new(failures.into()), newer }
    }

    fn open(&self, stamp: Stamp, reader: &Reader) -> Opened {
        let left = self.failures.load(Ordering::SeqCst);
        if left > 0 {
            self.failures.store(left - 1, Ordering::SeqCst);
            let (object, place) = ("seg-1".to_owned(), "here".to_owned());
            return Err(if self.newer {
                OpenError::NeedsNewer { place, object, needs: 9 }
            } else {
                let source = std::io::ErrorKind::ReadOnlyFilesystem.into();
                StorageError { action: "lock", object, place, source }.into()
            });
        }
        let sizes = Settings::new("PlantA", "gw-1", 16 * MIN_SEGMENT_BYTES);
        let settings = Settings { segment_bytes: MIN_SEGMENT_BYTES, headroom: 0, ..sizes };
        Journal::open_for(reader, Arc::new(self.disk.clone()), settings, stamp)
    }
}

struct Bench {
    ingress: Ingress,
    board: Arc<Board>,
    handle: Handle,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Bench {
    fn start(late: &Late, dir: &Path) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let board = Arc::new(Board::new("PlantA/gw-1".parse().unwrap(), Arc::clone(&clock)));
        let losses = Arc::new(Losses::new(Arc::clone(&clock)));
        let live = Arc::new(LiveQueue::new(Arc::clone(&board)));
        let (ingress, queue) =
            Ingress::new(Arc::clone(&board), live, Arc::clone(&losses), Arc::clone(&clock));
        let late = late.clone();
        let open = move |stamp, reader: &Reader| late.open(stamp, reader);
        let (recorder, handle) =
            Recorder::open(dir, open, SECOND, queue, losses, Arc::clone(&board), clock).unwrap();
        let stop = CancellationToken::new();
        let pulse = Pulses::new(SECOND * 60).register("recorder");
        let running = tokio::spawn(recorder.run(pulse, stop.clone()));
        Self { ingress, board, handle, stop, running }
    }

    async fn define(&self, path: &str) -> TagId {
        let definition = Definition {
            path: TagPath::new(path).unwrap(),
            kind: ValueKind::I64,
            unit: None,
            device: "press-1".into(),
            address: "holding:1".into(),
            source: "press-1".into(),
        };
        *self.handle.define(vec![definition]).await.unwrap()[0].as_ref().unwrap()
    }

    fn put(&self, tag: TagId, value: i64) {
        self.ingress.samples(vec![Sample::good(tag, SystemClock.now(), Value::I64(value))]);
    }

    /// Samples and losses that are durable.
    fn kept(&self) -> (Vec<(TagId, Value)>, Vec<Unsequenced>) {
        let reader = self.handle.reader();
        let (mut kept, mut losses, mut at) = (Vec::new(), Vec::<Unsequenced>::new(), 0);
        let Some(span) = reader.epochs().pop() else { return (kept, losses) };
        while let Read::Frames(batch) = reader.read_from(span.epoch, at, 1 << 20).unwrap() {
            let mut rest = batch.bytes.as_slice();
            while let Ok(found) = frame::decode(rest) {
                rest = &rest[found.bytes.len()..];
                if found.kind == Kind::Samples {
                    let samples = samples::decode_frame(&found).unwrap();
                    kept.extend(samples.into_iter().map(|(_, it)| (it.tag, it.value)));
                } else if found.kind == Kind::Loss
                    && let LossRecord::Unsequenced(loss) = postcard::from_bytes(found.body).unwrap()
                {
                    losses.retain(|known| known.id != loss.id);
                    losses.push(loss);
                }
            }
            at = batch.next().unwrap();
        }
        (kept, losses)
    }

    async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_read_before_there_is_a_journal_is_told_and_what_is_read_later_recorded() {
    for newer in [true, false] {
        let (late, dir) = (Late::new(3, newer), tempfile::tempdir().unwrap());
        let bench = Bench::start(&late, dir.path());
        let tag = bench.define("P/a").await;
        bench.ingress.record_on_change([tag]);
        for value in 1..=5 {
            bench.put(tag, value);
        }
        tokio::time::sleep(SECOND).await;
        let (kind, other) = (NEEDS_NEWER, LossCause::JournalUnwritable.word());
        let (kind, other) = if newer { (kind, other) } else { (other, kind) };
        assert!(!bench.board.raise(kind, "again") && !bench.board.clear(other));
        assert_eq!(late.disk.counters().syncs, 0);
        assert!(bench.handle.reader().epochs().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no number is kept yet");

        tokio::time::timeout(SECOND * 20, bench.handle.opened()).await.unwrap().unwrap();
        assert!(!bench.board.clear(kind), "the alarm is over");
        // The same value as before, of which nobody has a record.
        bench.put(tag, 5);
        let later = bench.define("P/b").await;
        bench.put(later, 6);
        tokio::time::sleep(SECOND * 70).await;
        assert_ne!(tag, later);
        let (kept, losses) = bench.kept();
        assert_eq!(kept, [(tag, Value::I64(5)), (later, Value::I64(6))]);
        let [loss] = &losses[..] else { panic!("{losses:?}") };
        assert_eq!((loss.cause.as_str(), loss.count), ("journal-unwritable", Some(5)));
        bench.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_never_gets_a_journal_stops_in_good_order() {
    let (late, dir) = (Late::new(u32::MAX, true), tempfile::tempdir().unwrap());
    let bench = Bench::start(&late, dir.path());
    tokio::time::sleep(SECOND * 300).await;
    let tries = u32::MAX - late.failures.load(Ordering::SeqCst);
    assert!((8..20).contains(&tries), "tried {tries} times, less and less often");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_no_trying_again_can_mend_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let board = Arc::new(Board::new("PlantA/gw-1".parse().unwrap(), Arc::clone(&clock)));
    let losses = Arc::new(Losses::new(Arc::clone(&clock)));
    let live = Arc::new(LiveQueue::new(Arc::clone(&board)));
    let (_ingress, queue) =
        Ingress::new(Arc::clone(&board), live, Arc::clone(&losses), Arc::clone(&clock));
    let foreign = |_, _: &Reader| {
        let (found, expected) = ("A/b".to_owned(), "PlantA/gw-1".to_owned());
        Err(OpenError::Foreign { place: "here".to_owned(), found, expected })
    };
    assert!(Recorder::open(dir.path(), foreign, SECOND, queue, losses, board, clock).is_err());
}
