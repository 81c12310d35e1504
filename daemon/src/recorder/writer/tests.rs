//! The recorder over a simulated disk: what becomes durable, when, and what is said of the rest.

use tidegate_identity::lab::{LabCa, Lifetime};
use tidegate_journal::storage::sim::{Fault, Op, SimStorage};
use tidegate_journal::{
    Frame, MIN_SEGMENT_BYTES, Position, Read, Reader, Settings, Unsequenced, WhenFull, frame,
};
use tidegate_record::catalog::Definition;
use tidegate_record::proof::{Filter, HubMessage, Ledger};
use tidegate_record::{CatalogPart, samples};
use tidegate_translator::{Quality, Reason, Sink as _, TagPath, Value, ValueKind};
use tidegate_uplink::{Cursor, HubId, MessageEnd};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::live::LiveQueue;
use crate::notary::Certificates;
use crate::observe::state::HealthLimits;
use crate::recorder::{Handle, Ingress, Recorder, SystemClock};
use crate::supervise::Pulses;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A recorder with a sink before it and a disk behind it.
pub(super) struct Bench {
    pub(super) ingress: Arc<Ingress>,
    pub(super) board: Arc<Board>,
    pub(super) handle: Handle,
    pub(super) stop: CancellationToken,
    running: JoinHandle<()>,
}

pub(super) fn settings() -> Settings {
    let most = 16 * MIN_SEGMENT_BYTES;
    let sizes = Settings::new("PlantA", "gw-1", most);
    Settings { segment_bytes: MIN_SEGMENT_BYTES, headroom: 0, ..sizes }
}

impl Bench {
    pub(super) fn start(disk: &SimStorage, dir: &std::path::Path, settings: &Settings) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let board = Arc::new(Board::new("PlantA/gw-1".parse().unwrap(), Arc::clone(&clock)));
        let losses = Arc::new(Losses::new(Arc::clone(&clock)));
        let live = Arc::new(LiveQueue::new(Arc::clone(&board)));
        let (ingress, queue) =
            Ingress::new(Arc::clone(&board), live, Arc::clone(&losses), Arc::clone(&clock));
        let (disk, settings) = (disk.clone(), settings.clone());
        let open = move |stamp, reader: &Reader| {
            Journal::open_for(reader, Arc::new(disk.clone()), settings.clone(), stamp)
        };
        let (writer, handle) =
            Recorder::open(dir, open, SECOND, queue, losses, Arc::clone(&board), clock).unwrap();
        let stop = CancellationToken::new();
        let pulse = Pulses::new(SECOND * 60).register("recorder");
        let running = tokio::spawn(writer.run(pulse, stop.clone()));
        Self { ingress: Arc::new(ingress), board, handle, stop, running }
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }

    pub(super) async fn define(&self, path: &str) -> TagId {
        let definition = Definition {
            path: TagPath::new(path).unwrap(),
            kind: ValueKind::Bytes,
            unit: None,
            device: "press-1".into(),
            address: "holding:1".into(),
            source: "press-1".into(),
        };
        *self.handle.define(vec![definition]).await.unwrap()[0].as_ref().unwrap()
    }

    pub(super) fn put(&self, tag: TagId, value: impl Into<Value>) {
        let value = value.into();
        self.ingress.samples(vec![Sample::good(tag, SystemClock.now(), value)]);
    }

    /// Waits until the recorder has taken what was put, and for the longest that a commit may take.
    pub(super) async fn settle(&self) {
        sleep(SECOND * 6).await;
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.handle.reader().epochs().last().unwrap().epoch
    }

    /// What is durable of the newest epoch.
    pub(super) fn kept(&self) -> Kept {
        Kept::of(&self.handle.reader(), self.epoch())
    }
}

/// The frames of an epoch.
#[derive(Default)]
pub(super) struct Kept {
    kinds: Vec<Kind>,
    positions: Vec<Position>,
    pub(super) samples: Vec<Sample>,
    losses: Vec<Unsequenced>,
    paths: Vec<String>,
}

impl Kept {
    fn of(reader: &Reader, epoch: Epoch) -> Self {
        let (mut kept, mut at) = (Self::default(), 0);
        loop {
            match reader.read_from(epoch, at, 1 << 20).unwrap() {
                Read::Frames(batch) => {
                    let mut rest = batch.bytes.as_slice();
                    for position in &batch.positions {
                        let found = frame::decode(rest).unwrap();
                        rest = &rest[found.bytes.len()..];
                        kept.positions.push(*position);
                        kept.add(&found);
                    }
                    at = batch.next().unwrap();
                }
                Read::Gap { next } => at = next,
                _ => return kept,
            }
        }
    }

    fn add(&mut self, found: &Frame<'_>) {
        self.kinds.push(found.kind);
        match found.kind {
            Kind::Samples => {
                let samples = samples::decode_frame(found).unwrap();
                self.samples.extend(samples.into_iter().map(|(_, sample)| sample));
            }
            Kind::Loss => {
                if let LossRecord::Unsequenced(loss) = postcard::from_bytes(found.body).unwrap() {
                    // The same loss may be written again, grown.
                    self.losses.retain(|known| known.id != loss.id);
                    self.losses.push(loss);
                }
            }
            Kind::Catalog => {
                let part = CatalogPart::decode(found.body).unwrap();
                self.paths.extend(part.entries.iter().map(|e| e.path.to_string()));
            }
            _ => {}
        }
    }

    pub(super) fn values(&self) -> Vec<Value> {
        self.samples.iter().map(|sample| sample.value.clone()).collect()
    }

    fn place_of(&self, kind: Kind) -> Option<usize> {
        self.kinds.iter().position(|other| *other == kind)
    }

    /// Samples lost of one cause.
    pub(super) fn lost(&self, cause: LossCause) -> u64 {
        let of_it = self.losses.iter().filter(|loss| loss.cause == cause.word());
        of_it.map(|loss| loss.count.unwrap()).sum()
    }
}

/// Bytes that do not compress, told apart by their number.
pub(super) fn noise(number: u64) -> Value {
    let mut state = number.wrapping_mul(2).wrapping_add(1);
    let bytes: Vec<u8> = (0..20_000)
        .map(|_| {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect();
    Value::Bytes(bytes.into())
}

#[tokio::test(start_paused = true)]
async fn samples_become_durable_behind_the_catalog_that_names_them() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let bench = Bench::start(&disk, dir.path(), &settings());
    let tag = bench.define("P/a").await;
    bench.put(tag, Value::I64(7));
    sleep(SECOND * 4).await;
    assert_eq!(bench.kept().values(), [], "little waits five intervals");
    sleep(SECOND * 2).await;
    let kept = bench.kept();
    assert_eq!((kept.values(), kept.paths.as_slice()), (vec![Value::I64(7)], &["P/a".into()][..]));
    assert!(kept.place_of(Kind::Catalog).unwrap() < kept.place_of(Kind::Samples).unwrap());
    assert_eq!(bench.board.counters.samples_recorded.read(), 1);
    bench.define("P/b").await;
    bench.put(tag, Value::I64(8));
    bench.settle().await;
    let kept = bench.kept();
    assert_eq!(kept.paths, ["P/a", "P/b"], "only what changed is said again");
    bench.stop().await;
    assert_eq!(disk_after(&disk).values(), [Value::I64(7), Value::I64(8)]);
}

/// What a start after a power cut finds.
fn disk_after(disk: &SimStorage) -> Kept {
    let disk: Arc<dyn tidegate_journal::Storage> = Arc::new(disk.after_power_cut(1, true));
    let (reader, _) = tidegate_journal::inspect(&disk).unwrap();
    Kept::of(&reader, reader.epochs().last().unwrap().epoch)
}

#[tokio::test(start_paused = true)]
async fn quiet_tags_commit_nothing_by_themselves_and_ride_along() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let bench = Bench::start(&disk, dir.path(), &settings());
    let (quiet, loud) = (bench.define("P/health").await, bench.define("P/a").await);
    bench.handle.set_quiet_tags([quiet].into()).await;
    let syncs = disk.counters().syncs;
    for at in 0..60 {
        bench.put(quiet, Value::I64(at));
        sleep(SECOND).await;
    }
    assert_eq!((disk.counters().syncs, bench.kept().samples.len()), (syncs, 0));
    bench.put(loud, Value::I64(1));
    bench.settle().await;
    assert_eq!(bench.kept().samples.len(), 61);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_records_what_is_still_queued() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let bench = Bench::start(&disk, dir.path(), &settings());
    let tag = bench.define("P/a").await;
    bench.put(tag, Value::I64(7));
    bench.stop().await;
    assert_eq!(disk_after(&disk).values(), [Value::I64(7)]);
}

#[tokio::test(start_paused = true)]
async fn a_full_journal_that_stops_recording_says_how_many_once_there_is_room() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let sizes = Settings {
        max_bytes: 5 * MIN_SEGMENT_BYTES,
        when_full: WhenFull::StopRecording,
        ..settings()
    };
    let bench = Bench::start(&disk, dir.path(), &sizes);
    let tag = bench.define("P/a").await;
    for number in 0..60 {
        bench.put(tag, noise(number));
        bench.settle().await;
    }
    let before = bench.kept();
    let recorded = u64::try_from(before.samples.len()).unwrap();
    assert!((5..60).contains(&recorded), "{recorded} of 60 fit");
    let alarm = LossCause::JournalFull.word();
    assert!(bench.board.clear(alarm), "an operator is told while it lasts");
    bench.handle.acknowledge(cursor(&bench, *before.positions.last().unwrap())).await;
    bench.put(tag, Value::I64(1));
    bench.settle().await;
    bench.put(tag, Value::I64(2));
    sleep(SECOND * 130).await;
    // What was delivered may have made room meanwhile: the two small ones stand at the end.
    let after = bench.kept();
    assert_eq!(after.values().last(), Some(&Value::I64(2)));
    let small = u64::try_from(after.values().iter().filter(|v| !is_noise(v)).count()).unwrap();
    assert_eq!(after.lost(LossCause::JournalFull), 62 - recorded - small);
    assert_eq!(bench.board.counters.samples_recorded.read(), recorded + small);
    assert!(!bench.board.clear(alarm), "the alarm ended");
    bench.stop().await;
}

const fn is_noise(value: &Value) -> bool {
    matches!(value, Value::Bytes(_))
}

fn cursor(bench: &Bench, up_to: Position) -> Cursor {
    let hub = HubId { domain: "hub".into(), stream: "TIDE".into(), created: 1 };
    Cursor { hub, epoch: bench.epoch(), up_to, stream_seq: 1, suspicion: None }
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_known_to_the_next_run_after_the_journal_dropped_it_and_the_power_went() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let sizes = Settings { max_bytes: 5 * MIN_SEGMENT_BYTES, ..settings() };
    let bench = Bench::start(&disk, dir.path(), &sizes);
    let tag = bench.define("P/a").await;
    bench.put(tag, noise(0));
    bench.settle().await;
    // Nothing was ever acknowledged: there is no cursor to keep it with.
    let end = MessageEnd { epoch: bench.epoch(), last: *bench.kept().positions.last().unwrap() };
    bench.handle.sent(end).await;
    for number in 1..60 {
        bench.put(tag, noise(number));
        bench.settle().await;
    }
    let found = bench.handle.reader().position_of(end.epoch, end.last.frame).unwrap();
    assert_eq!(found, None, "it was dropped");
    let disk = disk.after_power_cut(1, true);
    bench.stop().await;
    let bench = Bench::start(&disk, dir.path(), &sizes);
    assert_eq!(bench.handle.opened().await.unwrap().ends, [end]);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_for_a_while_loses_nothing_that_it_did_not_refuse() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let bench = Bench::start(&disk, dir.path(), &settings());
    let tag = bench.define("P/a").await;
    disk.fail(Op::Write, Fault::Io, u32::MAX);
    for at in 0..20 {
        bench.put(tag, Value::I64(at));
        sleep(SECOND).await;
    }
    assert_eq!(bench.kept().samples.len(), 0);
    assert!(bench.board.counters.journal_errors.read() > 0);
    let alarm = LossCause::JournalUnwritable.word();
    assert!(!bench.board.raise(alarm, "again"), "it is raised");
    disk.heal();
    bench.settle().await;
    assert_eq!(bench.kept().samples.len(), 20);
    assert!(!bench.board.clear(alarm), "the alarm ended");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_must_be_opened_again_is_and_keeps_what_waited_in_it() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let bench = Bench::start(&disk, dir.path(), &settings());
    let tag = bench.define("P/a").await;
    let mut number = 0;
    disk.fail(Op::Rename, Fault::Io, 1);
    // Until a segment is full and the next one cannot be given its name.
    while bench.board.counters.journal_errors.read() == 0 {
        bench.put(tag, noise(number));
        number += 1;
        assert!(number < 50, "no segment was ever full");
        bench.settle().await;
    }
    sleep(SECOND * 30).await;
    bench.put(tag, Value::I64(1));
    sleep(SECOND * 130).await;
    let kept = bench.kept();
    assert_eq!(kept.values().last(), Some(&Value::I64(1)));
    let lost = kept.lost(LossCause::JournalUnwritable);
    let recorded = u64::try_from(kept.samples.len()).unwrap();
    assert_eq!((recorded, lost), (number + 1, 0));
    assert_eq!(bench.board.counters.samples_recorded.read(), recorded);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_number_survives_a_restart_and_the_pause_is_told() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let bench = Bench::start(&disk, dir.path(), &settings());
    let tag = (bench.define("P/a").await, bench.define("P/b").await).1;
    bench.put(tag, Value::I64(1));
    bench.stop().await;
    let bench = Bench::start(&disk, dir.path(), &settings());
    assert_eq!(bench.define("P/b").await, tag);
    bench.settle().await;
    let losses = bench.kept().losses;
    assert!(losses.iter().any(|l| l.cause == LossCause::NotRunning.word() && l.count.is_none()));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fork_keeps_what_the_hub_never_had_and_closes_the_epoch() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let bench = Bench::start(&disk, dir.path(), &settings());
    let tag = bench.define("P/a").await;
    bench.put(tag, Value::I64(1));
    bench.settle().await;
    let (old, common) = (bench.epoch(), *bench.kept().positions.last().unwrap());
    bench.put(tag, Value::I64(2));
    bench.settle().await;
    bench.put(tag, Value::I64(3));
    bench.handle.fork(old, Some(common)).await;
    bench.put(tag, Value::I64(4));
    bench.settle().await;
    assert_ne!(bench.epoch(), old);
    let kept = bench.kept();
    assert_eq!(kept.values(), [2, 3, 4].map(Value::I64));
    assert_eq!(kept.paths, ["P/a"], "the new epoch names its tags itself");
    assert!(kept.place_of(Kind::Catalog).unwrap() < kept.place_of(Kind::Samples).unwrap());
    assert_eq!(bench.handle.closed_epochs(), [old]);
    bench.stop().await;
    let bench = Bench::start(&disk, dir.path(), &settings());
    assert_eq!(bench.handle.closed_epochs(), [old], "a restart knows it too");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tag_recorded_on_change_leaves_out_what_is_the_same() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let bench = Bench::start(&disk, dir.path(), &settings());
    let (changes, all) = (bench.define("P/a").await, bench.define("P/b").await);
    bench.ingress.record_on_change([changes]);
    for value in [1, 1, 2, 2, 1] {
        bench.put(changes, Value::I64(value));
        bench.put(all, Value::I64(value));
    }
    let mut stale = Sample::good(changes, SystemClock.now(), Value::I64(1));
    stale.status = 7;
    bench.ingress.samples(vec![stale]);
    bench.settle().await;
    let kept = bench.kept();
    let of = |tag| {
        let of_it = kept.samples.iter().filter(|sample| sample.tag == tag);
        of_it.map(|sample| sample.value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of(changes), [1, 2, 1, 1].map(Value::I64), "a status is a change too");
    assert_eq!(of(all), [1, 1, 2, 2, 1].map(Value::I64));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_overflows_is_told_with_the_exact_count() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let bench = Bench::start(&disk, dir.path(), &settings());
    let tag = bench.define("P/a").await;
    // The recorder runs only when this test waits.
    let put: u64 = 20_000;
    for _ in 0..put {
        bench.put(tag, Value::Bool(true));
    }
    let refused = bench.board.counters.recorder_overflow.read();
    assert!(refused > 0, "the queue is bounded");
    bench.settle().await;
    let kept = bench.kept();
    assert_eq!(kept.lost(LossCause::QueueOverflow), refused);
    assert_eq!(u64::try_from(kept.samples.len()).unwrap() + refused, put);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_killed_before_its_first_commit_is_told_by_the_next() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let bench = Bench::start(&disk, dir.path(), &settings());
    let tag = bench.define("P/a").await;
    bench.put(tag, Value::I64(1));
    let after_the_kill = disk.after_power_cut(1, true);
    bench.running.abort();
    let bench = Bench::start(&after_the_kill, dir.path(), &settings());
    sleep(SECOND * 2).await;
    let kept = bench.kept();
    let told = kept.losses.iter().any(|loss| loss.cause == LossCause::NotRunning.word());
    assert!(told, "{:?}", kept.losses);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_value_that_no_frame_takes_is_a_loss_of_its_tag_and_of_nothing_else() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let bench = Bench::start(&disk, dir.path(), &settings());
    let (large, small) = (bench.define("P/large").await, bench.define("P/small").await);
    let most = samples::MAX_BODY_BYTES - 56;
    let at = SystemClock.now();
    let bytes = |length: usize| Value::Bytes(vec![7; length].into());
    let mut told = Sample::good(small, at, Value::Json(r#"{"a":[1,2]}"#.into()));
    (told.source, told.server) = (Some(Timestamp(at.0 - 5)), Some(Timestamp(at.0 - 3)));
    (told.status, told.quality) = (0x8034_0000, Quality::Bad(Reason::Configuration));
    let largest = Sample::good(large, at, bytes(most));
    bench.ingress.samples(vec![
        told.clone(),
        Sample::good(large, at, bytes(most + 1)),
        largest.clone(),
        Sample::good(large, at, bytes(most + 2)),
    ]);
    bench.settle().await;
    let kept = bench.kept();
    assert!(kept.samples == [told, largest], "{} samples", kept.samples.len());
    let lost: Vec<_> = kept.losses.iter().map(|it| (&*it.subject, &*it.cause, it.count)).collect();
    assert_eq!(lost, [("P/large", LossCause::TooLarge.word(), Some(2))]);
    assert!(bench.board.report(&HealthLimits::default()).journal.writable);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_signs_everything_that_is_durable_and_goes_on_in_the_chain() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let bench = Bench::start(&disk, dir.path(), &settings());
    let tag = bench.define("P/a").await;
    let lifetime = Lifetime::from(std::time::SystemTime::now());
    let ca = LabCa::new("lab", lifetime).unwrap();
    for value in 1..=3 {
        bench.put(tag, Value::I64(value));
        // What is still queued is not durable, and is for the next one.
        bench.settle().await;
        let identity = ca.gateway("PlantA/gw-1", lifetime).unwrap().identity().unwrap();
        bench.handle.seal(identity).await;
        bench.settle().await;
    }
    let notary = Certificates::vouched_for_by(vec![ca.certificate()]).unwrap();
    let reader = bench.handle.reader();
    let (epoch, last) = reader.durable().unwrap();
    let Read::Frames(batch) = reader.read_from(epoch, 0, 1 << 20).unwrap() else { panic!() };
    let mut ledger = Ledger::new("PlantA", "gw-1", Filter::default()).with_notary(Box::new(notary));
    ledger.observe(HubMessage { stream_seq: 1, epoch, bytes: &batch.bytes });
    let report = ledger.report(0, None);
    let signatures = &report.epochs[0].signatures;
    assert_eq!((signatures.count, signatures.refused.count), (3, 0), "{report}");
    let up_to = signatures.up_to.clone().unwrap();
    assert_eq!((up_to.frame + 1, up_to.next_seq), (last.frame, 3), "{report}");
    assert_eq!(up_to.by.not_vouched_for, None);
    bench.stop().await;
}
