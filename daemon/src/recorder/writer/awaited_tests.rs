//! Samples that somebody waits for: told once, after the commit, with the place where they stand.

use std::sync::Mutex;

use tidegate_journal::storage::sim::{Fault, Op, SimStorage};
use tidegate_journal::{Read, frame};
use tidegate_record::samples;
use tidegate_translator::Value;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::tests::{Bench, SECOND, settings};
use super::*;
use crate::recorder::{Place, Receipt, SystemClock};

type Outcome = Result<Place, LossCause>;

fn receipt() -> (Receipt, oneshot::Receiver<Outcome>) {
    let (told, outcome) = oneshot::channel();
    let told = Mutex::new(Some(told));
    let receipt = Receipt::new(move |outcome| {
        if let Some(told) = told.lock().unwrap().take() {
            let _ = told.send(outcome);
        }
    });
    (receipt, outcome)
}

fn sample(tag: TagId, value: impl Into<Box<str>>) -> Sample {
    Sample::good(tag, SystemClock.now(), Value::Text(value.into()))
}

/// The sample at a place, and how many stand in its frame.
fn at(bench: &Bench, place: Place) -> (Sample, usize) {
    let (reader, mut next) = (bench.handle.reader(), 0);
    while let Ok(Read::Frames(batch)) = reader.read_from(place.epoch, next, 1) {
        let found = frame::decode(&batch.bytes).unwrap();
        if found.kind == Kind::Samples {
            let samples = samples::decode_frame(&found).unwrap();
            let count = samples.len();
            if let Some((_, sample)) = samples.into_iter().find(|(seq, _)| *seq == place.seq) {
                return (sample, count);
            }
        }
        next = batch.next().unwrap();
    }
    panic!("{place:?} is not durable");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_after_the_commit_where_the_last_sample_stands() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::start(&SimStorage::new(), dir.path(), &settings());
    let ids = bench.define("PlantA/v/_ids").await;
    let (speed, plc) = (bench.define("PlantA/v/speed").await, bench.define("PlantA/p").await);
    let mut outcomes = Vec::new();
    for n in 0..200 {
        bench.put(plc, Value::I64(n));
        let (receipt, outcome) = receipt();
        let samples = vec![sample(speed, format!("v{n}")), sample(ids, format!("m{n}"))];
        bench.ingress.accept(samples, receipt, Some(SECOND / 10)).unwrap();
        outcomes.push(outcome);
    }
    let begun = Instant::now();
    for (n, outcome) in outcomes.into_iter().enumerate() {
        let place = outcome.await.unwrap().unwrap();
        let (sample, _) = at(&bench, place);
        assert_eq!((sample.tag, sample.value), (ids, Value::Text(format!("m{n}").into())));
    }
    assert!(begun.elapsed() <= SECOND / 5, "{:?}", begun.elapsed());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_came_together_stands_in_one_frame_however_much_comes() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::start(&SimStorage::new(), dir.path(), &settings());
    let ids = bench.define("PlantA/v/_ids").await;
    let tags = [bench.define("PlantA/v/a").await, bench.define("PlantA/v/b").await];
    let mut outcomes = Vec::new();
    for n in 0..60_u64 {
        // Nothing that compresses.
        let noise = |m: u64| {
            let hash = |k: u64| blake3::hash(&(n * 1000 + m * 500 + k).to_le_bytes()).to_hex();
            (0..120).map(|k| hash(k).to_string()).collect::<String>()
        };
        let (receipt, outcome) = receipt();
        let samples =
            vec![sample(tags[0], noise(0)), sample(tags[1], noise(1)), sample(ids, n.to_string())];
        bench.ingress.accept(samples, receipt, None).unwrap();
        outcomes.push(outcome);
    }
    for outcome in outcomes {
        let place = outcome.await.unwrap().unwrap();
        let (_, count) = at(&bench, place);
        assert_eq!(count % 3, 0, "a message is in parts");
    }
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_while_the_disk_refuses_and_everybody_once_it_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimStorage::new();
    let bench = Bench::start(&disk, dir.path(), &settings());
    let tag = bench.define("PlantA/v/a").await;
    bench.put(tag, Value::I64(1));
    bench.settle().await;
    disk.fail(Op::Sync, Fault::Io, u32::MAX);
    let (receipt, mut outcome) = receipt();
    bench.ingress.accept(vec![sample(tag, "a")], receipt, Some(Duration::ZERO)).unwrap();
    sleep(SECOND * 3).await;
    assert!(outcome.try_recv().is_err(), "told before it is durable");
    disk.heal();
    let place = outcome.await.unwrap().unwrap();
    assert_eq!(at(&bench, place).0.value, Value::Text("a".into()));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_and_what_finds_no_room_is_told_and_not_counted_here() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::start(&SimStorage::new(), dir.path(), &settings());
    let tag = bench.define("PlantA/v/a").await;
    let (large, outcome) = receipt();
    let (small, other) = receipt();
    bench.ingress.accept(vec![sample(tag, "x".repeat(70_000))], large, None).unwrap();
    bench.ingress.accept(vec![sample(tag, "x")], small, None).unwrap();
    assert_eq!(outcome.await.unwrap(), Err(LossCause::TooLarge));
    assert!(other.await.unwrap().is_ok());
    // The recorder does not run while this does.
    let mut refused = 0;
    for _ in 0..400 {
        let (receipt, outcome) = receipt();
        let samples = vec![sample(tag, "y".repeat(48 * 1024))];
        if bench.ingress.accept(samples, receipt, None).is_err() {
            refused += 1;
            assert!(outcome.await.is_err(), "given, though nothing was taken");
        }
    }
    assert!((40..90).contains(&refused), "{refused}");
    assert_eq!(bench.board.counters.recorder_overflow.read(), 0);
    bench.stop().await;
}
