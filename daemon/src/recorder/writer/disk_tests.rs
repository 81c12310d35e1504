//! The recorder over a disk that fails for long, or is slow.

use std::sync::atomic::{AtomicI64, Ordering};

use tidegate_journal::storage::sim::{Fault, Op, SimStorage};
use tidegate_translator::{Sink as _, Value};
use tokio::time::sleep;

use super::tests::{Bench, SECOND, settings};
use super::*;
use crate::recorder::SystemClock;

/// Everything that changes the disk.
const CHANGES: [Op; 6] = [Op::Write, Op::Sync, Op::SyncDir, Op::Create, Op::Rename, Op::Remove];

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_for_an_hour_is_opened_again_less_and_less_often_and_every_sample_is_accounted_for()
 {
    for fault in [Fault::Io, Fault::ReadOnly, Fault::Short] {
        let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
        let bench = Bench::start(&disk, dir.path(), &settings());
        let tag = bench.define("P/a").await;
        bench.put(tag, Value::I64(-1));
        bench.settle().await;
        CHANGES.iter().for_each(|op| disk.fail(*op, fault, u32::MAX));
        let looks = disk.counters().reads;
        let put: u64 = 3600;
        for number in 0..put {
            bench.put(tag, Value::U64(number));
            sleep(SECOND).await;
        }
        let alarm = LossCause::JournalUnwritable.word();
        assert!(!bench.board.raise(alarm, "again"), "it is raised");
        let looks = disk.counters().reads - looks;
        assert!(looks < 40 * 80, "{fault:?}: reopened ever less often, {looks} looks in an hour");
        disk.heal();
        // The longest wait before it is opened again, and the pause after which a loss has ended.
        sleep(SECOND * 200).await;
        let kept = bench.kept();
        let lost = kept.lost(LossCause::JournalUnwritable);
        let recorded = u64::try_from(kept.samples.len()).unwrap();
        assert_eq!(recorded + lost, put + 1, "{fault:?}: {recorded} recorded, {lost} lost");
        assert!(!bench.board.clear(alarm), "the alarm ended");
        assert_eq!(bench.board.counters.samples_recorded.read(), recorded);
        bench.stop().await;
    }
}

/// While the recorder waits for the disk it takes nothing from its queue: what does not fit there is
/// counted, and nothing else is lost.
#[tokio::test(start_paused = true)]
async fn what_comes_while_a_slow_disk_keeps_the_recorder_waiting_is_recorded_or_counted() {
    let (disk, dir) = (SimStorage::new(), tempfile::tempdir().unwrap());
    let sizes = tidegate_journal::Settings { max_bytes: 64 << 20, ..settings() };
    let bench = Bench::start(&disk, dir.path(), &sizes);
    let tag = bench.define("P/a").await;
    bench.settle().await;
    let (ingress, next) = (Arc::clone(&bench.ingress), Arc::new(AtomicI64::new(0)));
    let counter = Arc::clone(&next);
    // Four syncs take five seconds each, while 60,000 samples come every second.
    disk.during_sync(move || {
        for _ in 0..if counter.load(Ordering::Relaxed) < 4 * 300_000 { 60 } else { 0 } {
            let first = counter.fetch_add(5000, Ordering::Relaxed);
            let now = SystemClock.now();
            let sample = |n| Sample::good(tag, now, Value::I64(n));
            ingress.samples((first..first + 5000).map(sample).collect());
        }
    });
    bench.put(tag, Value::I64(-1));
    sleep(SECOND * 200).await;
    let put = u64::try_from(next.load(Ordering::Relaxed)).unwrap() + 1;
    let refused = bench.board.counters.recorder_overflow.read();
    let kept = bench.kept();
    let recorded = u64::try_from(kept.samples.len()).unwrap();
    assert!(put == 1_200_001 && refused > 0 && recorded > 500_000, "{refused} of {put} refused");
    assert_eq!(kept.lost(LossCause::QueueOverflow), refused);
    assert_eq!(recorded + refused, put);
    bench.stop().await;
}
