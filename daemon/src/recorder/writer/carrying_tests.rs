//! The recorder while a fork carries a backlog over.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tidegate_journal::storage::sim::{Fault, SimStorage};
use tidegate_translator::{Sink as _, Value};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::tests::{Bench, SECOND, noise, settings};
use super::*;
use crate::recorder::SystemClock;
use crate::recorder::handle::Definitions;

/// More than one step carries them.
const BACKLOG: i64 = 30;

async fn with_backlog(disk: &SimStorage, dir: &std::path::Path) -> (Bench, TagId) {
    let sizes = tidegate_journal::Settings { max_bytes: 64 << 20, ..settings() };
    let bench = Bench::start(disk, dir, &sizes);
    let tag = bench.define("P/a").await;
    for number in 0..BACKLOG {
        bench.put(tag, noise(u64::try_from(number).unwrap()));
        bench.put(tag, Value::I64(number));
        bench.settle().await;
    }
    (bench, tag)
}

/// The numbers recorded in the newest epoch, in the record's order.
fn numbers(bench: &Bench) -> Vec<i64> {
    let number = |value| if let Value::I64(number) = value { Some(number) } else { None };
    bench.kept().values().into_iter().filter_map(number).collect()
}

/// Puts this many numbers from 1000 on, so many at each sync of the disk. Returns the next one.
fn put_during_syncs(disk: &SimStorage, bench: &Bench, tag: TagId, all: i64, each: i64) {
    let (ingress, next) = (Arc::clone(&bench.ingress), AtomicI64::new(1000));
    disk.during_sync(move || {
        let first = next.fetch_add(each, Ordering::Relaxed);
        let sample = |n| Sample::good(tag, SystemClock.now(), Value::I64(n));
        for batch in (first..(first + each).min(1000 + all)).step_by(4096) {
            let end = (batch + 4096).min(first + each);
            ingress.samples((batch..end).map(sample).collect());
        }
    });
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_backlog_is_carried_over_stands_behind_it() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let (bench, tag) = with_backlog(&disk, dir.path()).await;
    let old = bench.epoch();
    // As many at a time as become a frame at once.
    put_during_syncs(&disk, &bench, tag, 4 * 4096, 4096);
    bench.handle.fork(old, None).await;
    bench.settle().await;
    bench.settle().await;
    assert_ne!(bench.epoch(), old);
    let expected: Vec<_> = (0..BACKLOG).chain(1000..1000 + 4 * 4096).collect();
    let numbers = numbers(&bench);
    assert!(numbers == expected, "{} of {}", numbers.len(), expected.len());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_queue_cannot_take_while_a_backlog_is_carried_over_is_counted_and_named() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let (bench, tag) = with_backlog(&disk, dir.path()).await;
    let put = 600_000;
    put_during_syncs(&disk, &bench, tag, put, 100_000);
    bench.handle.fork(bench.epoch(), None).await;
    sleep(SECOND * 200).await;
    let refused = bench.board.counters.recorder_overflow.read();
    let numbers = numbers(&bench);
    assert!(refused > 0 && numbers.is_sorted(), "{refused} refused");
    let recorded = u64::try_from(numbers.len()).unwrap();
    assert_eq!(recorded + refused, u64::try_from(BACKLOG + put).unwrap());
    assert_eq!(bench.kept().lost(LossCause::QueueOverflow), refused);
    bench.stop().await;
}

/// Asked at each sync of the disk once the one before was answered.
#[tokio::test(start_paused = true)]
async fn the_recorder_answers_between_two_steps() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let (bench, _) = with_backlog(&disk, dir.path()).await;
    let (commands, asked) = (bench.handle.commands.clone(), Mutex::new(None));
    let answers = Arc::new(AtomicI64::new(0));
    let answered = Arc::clone(&answers);
    disk.during_sync(move || {
        let mut asked = asked.lock().unwrap();
        let is_answered = |answer: &mut oneshot::Receiver<_>| answer.try_recv().is_ok();
        if asked.as_mut().is_some_and(is_answered) {
            answered.fetch_add(1, Ordering::Relaxed);
            *asked = None;
        }
        asked.get_or_insert_with(|| {
            let (reply, answer) = oneshot::channel();
            let nothing = Definitions(Box::new(std::iter::empty()));
            commands.try_send(Command::Define(nothing, reply)).unwrap();
            answer
        });
    });
    bench.handle.fork(bench.epoch(), None).await;
    bench.settle().await;
    let answers = answers.load(Ordering::Relaxed);
    assert!(answers >= 4, "{answers} answers while a backlog of several steps was carried");
    bench.stop().await;
}

/// By a clock that goes on between two looks at it, as a real one does.
#[tokio::test]
async fn a_backlog_is_carried_over_and_newer_samples_follow_by_a_running_clock() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let bench = Bench::start(&disk, dir.path(), &settings());
    let tag = bench.define("P/a").await;
    let taken = || async {
        while bench.ingress.waiting() > 0 {
            yield_now().await;
        }
    };
    bench.put(tag, Value::I64(1));
    timeout(SECOND * 60, taken()).await.unwrap();
    let old = bench.epoch();
    bench.handle.fork(old, None).await;
    bench.define("P/a").await;
    bench.put(tag, Value::I64(2));
    timeout(SECOND * 60, taken()).await.expect("the carry-over ends");
    assert!(bench.epoch() != old && numbers(&bench) == [1]);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_backlog_that_cannot_be_read_for_long_keeps_no_newer_sample_out_and_follows_later() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let (bench, tag) = with_backlog(&disk, dir.path()).await;
    disk.fail_reads(0..u64::MAX, Fault::Io);
    bench.handle.fork(bench.epoch(), None).await;
    let recorded = || bench.board.counters.samples_recorded.read();
    let before = recorded();
    for number in 1000..1060 {
        bench.put(tag, Value::I64(number));
        sleep(SECOND).await;
    }
    assert!(recorded() >= before + 50, "{} recorded", recorded() - before);
    disk.heal();
    sleep(SECOND * 200).await;
    let mut numbers = numbers(&bench);
    numbers.sort_unstable();
    assert_eq!(numbers, (0..BACKLOG).chain(1000..1060).collect::<Vec<_>>());
    bench.stop().await;
}

/// The stop comes in the middle of the first sync that the fork asks for.
#[tokio::test(start_paused = true)]
async fn a_stop_while_a_backlog_is_carried_over_keeps_all_of_it_in_order() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let (bench, tag) = with_backlog(&disk, dir.path()).await;
    let (stop, old) = (bench.stop.clone(), bench.epoch());
    let ingress = Arc::clone(&bench.ingress);
    disk.during_sync(move || {
        if !stop.is_cancelled() {
            stop.cancel();
            ingress.samples(vec![Sample::good(tag, SystemClock.now(), Value::I64(1000))]);
        }
    });
    bench.handle.fork(old, None).await;
    bench.stop.cancelled().await;
    bench.stop().await;
    let bench = Bench::start(&disk, dir.path(), &settings());
    assert_ne!(bench.epoch(), old);
    assert_eq!(numbers(&bench), (0..BACKLOG).chain([1000]).collect::<Vec<_>>());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fork_that_comes_while_a_backlog_is_carried_over_waits_for_its_end() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let (bench, _) = with_backlog(&disk, dir.path()).await;
    let (first, commands) = (bench.epoch(), bench.handle.commands.clone());
    let (reader, asked) = (bench.handle.reader(), AtomicBool::new(false));
    disk.during_sync(move || {
        let epoch = reader.epochs().last().unwrap().epoch;
        if epoch != first && !asked.swap(true, Ordering::Relaxed) {
            commands.try_send(Command::Fork { epoch, common: None }).unwrap();
        }
    });
    bench.handle.fork(first, None).await;
    bench.settle().await;
    let epochs: Vec<_> = bench.handle.reader().epochs().iter().map(|it| it.epoch).collect();
    assert_eq!(epochs.len(), 3);
    assert_eq!(bench.handle.closed_epochs(), epochs[..2]);
    assert_eq!(numbers(&bench), (0..BACKLOG).collect::<Vec<_>>());
    bench.stop().await;
}
