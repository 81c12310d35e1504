//! Reading between polls what somebody asks for: at once where there is time, with the poll where
//! there is none, and never at the cost of one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Fault, Run, expected, holding, missed, spec, three_blocks};
use tidegate_modbus::DeviceSpec;
use tidegate_translator::{Fresh, FreshAnswer, LossCause, Quality, ReadNow, Reason, TagId, Unread};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// Three blocks that are polled once an hour.
fn seldom() -> DeviceSpec {
    DeviceSpec { poll_every: 3_600 * SECOND, ..three_blocks() }
}

async fn read(desk: &Arc<dyn ReadNow>, tags: &[u32], within: Duration) -> FreshAnswer {
    let tags = tags.iter().copied().map(TagId).collect();
    desk.read_now(tags, Instant::now() + within).await
}

fn sorted(mut answer: FreshAnswer) -> Vec<Fresh> {
    assert_eq!(answer.rest, None);
    answer.read.sort_by_key(|fresh| fresh.sample.tag);
    answer.read
}

/// Asks for every tag again and again until the run is over; gives how often, and how long the
/// slowest took.
fn flood(run: &Run, askers: usize) -> Vec<tokio::task::JoinHandle<(usize, Duration)>> {
    let tags: Vec<u32> = (0..u32::try_from(run.spec.tags.len()).unwrap()).collect();
    let asker = |_| {
        let (desk, tags, spec) = (Arc::clone(&run.desk), tags.clone(), run.spec.clone());
        tokio::spawn(async move {
            let (mut answered, mut slowest) = (0, Duration::ZERO);
            loop {
                let since = Instant::now();
                let answer = read(&desk, &tags, 30 * SECOND).await;
                match answer.rest {
                    Some(Unread::NotRunning) => return (answered, slowest),
                    Some(Unread::Busy) => sleep(Duration::from_millis(20)).await,
                    _ => {
                        for fresh in sorted(answer).iter().filter(|it| it.error.is_none()) {
                            let tag = common::tag_of(&spec, &fresh.sample);
                            assert_eq!(fresh.sample.value, expected(tag));
                            answered += 1;
                        }
                        slowest = slowest.max(since.elapsed());
                        // A device that is left alone says so at once.
                        let quick = since.elapsed().is_zero();
                        sleep(Duration::from_millis(if quick { 50 } else { 1 })).await;
                    }
                }
            }
        })
    };
    (0..askers).map(asker).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_between_polls_is_read_at_once_on_the_connection_and_is_no_sample() {
    let run = Run::start(seldom(), Fault::Slow(Duration::from_millis(5)));
    run.for_secs(60).await;
    let (requests, samples) = (run.plc.requests(), run.recorder.told.lock().unwrap().samples.len());
    let since = Instant::now();
    let now = sorted(read(&run.desk, &[0, 5], SECOND).await);
    assert!(since.elapsed() < Duration::from_millis(50), "{:?}", since.elapsed());
    for fresh in &now {
        assert_eq!(fresh.sample.value, expected(common::tag_of(&run.spec, &fresh.sample)));
        assert_eq!((fresh.sample.quality, fresh.error.clone()), (Quality::Good, None));
        assert!(fresh.sample.acquired.0 >= common::WALL + 60_000_000_000);
    }
    assert_eq!(run.plc.requests() - requests, 2, "the blocks that hold the tags and no other");
    // Who asks for the same shares the reading.
    let pairs = (0..8).map(|_| read(&run.desk, &[2, 3], SECOND));
    let both = futures_util::future::join_all(pairs).await;
    assert!(both.into_iter().all(|answer| sorted(answer).len() == 2));
    assert!(run.plc.requests() - requests <= 2 + 2, "{}", run.plc.requests() - requests);
    assert_eq!(run.recorder.told.lock().unwrap().samples.len(), samples);
    assert_eq!(run.plc.dials(), 1);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_costs_no_poll_and_a_quarter_of_the_time_at_most() {
    let took = Duration::from_millis(20);
    let run = Run::start(three_blocks(), Fault::Slow(took));
    let askers = flood(&run, 12);
    run.for_secs(120).await;
    let (requests, dials) = (run.plc.requests(), run.plc.dials());
    let told = run.stop().await;
    assert_eq!(missed(&told, LossCause::PollOverrun), 0);
    assert_eq!(told.samples.len(), 6 * 120 + 6, "each poll, and nothing else");
    let aside = took * u32::try_from(requests - 3 * 121).unwrap();
    assert!(aside <= 31 * SECOND, "{aside:?} of 120 s");
    assert!(aside >= 15 * SECOND, "{aside:?} of 120 s");
    assert_eq!(dials, 1);
    for asker in askers {
        let (answered, slowest) = asker.await.unwrap();
        assert!(answered > 600, "{answered}");
        assert!(slowest < 2 * SECOND, "{slowest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_time_between_polls_the_poll_answers() {
    // 3 blocks of 300 ms leave too little of a second for one more; of 390 ms, nothing at all.
    for (millis, overruns) in [(300, false), (390, true)] {
        let run = Run::start(three_blocks(), Fault::Slow(Duration::from_millis(millis)));
        let askers = flood(&run, 3);
        run.for_secs(117).await;
        let requests = run.plc.requests();
        let told = run.stop().await;
        let overrun = missed(&told, LossCause::PollOverrun);
        assert!(if overruns { (90..=110).contains(&overrun) } else { overrun == 0 }, "{overrun}");
        assert!(requests * 2 <= told.samples.len() + 8, "{requests} requests are the polls' own");
        for asker in askers {
            let (answered, slowest) = asker.await.unwrap();
            assert!(answered > 200, "{answered}");
            assert!(slowest <= Duration::from_millis(3_400), "{slowest:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_device_is_asked_as_seldom_as_without_anybody_who_asks() {
    for poll_every in [SECOND, 3_600 * SECOND] {
        let backoff = (2 * SECOND, 2 * SECOND);
        let run = Run::start(DeviceSpec { backoff, poll_every, ..three_blocks() }, Fault::None);
        run.for_secs(10).await;
        run.plc.set(Fault::Silent);
        run.for_secs(2).await;
        let askers = flood(&run, 3);
        run.for_secs(4).await;
        let before = run.plc.requests();
        run.for_secs(140).await;
        let probes = run.plc.requests() - before;
        assert!((57..=100).contains(&probes), "{probes} probes in 140 s");
        // Everybody is told at once.
        let since = Instant::now();
        let why = sorted(read(&run.desk, &[0], 30 * SECOND).await).remove(0);
        assert!(since.elapsed() <= SECOND, "{:?}", since.elapsed());
        assert_eq!(why.sample.quality, Quality::Bad(Reason::Timeout));
        assert!(why.error.as_deref().is_some_and(|why| why.contains("silent")), "{why:?}");
        // It comes back: soon read again, however seldom it is polled.
        run.plc.set(Fault::None);
        run.for_secs(3).await;
        assert_eq!(sorted(read(&run.desk, &[0], SECOND).await)[0].error, None);
        run.stop().await;
        for asker in askers {
            asker.await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_device_refuses_is_told_by_tag_and_the_others_are_read() {
    let tags: Vec<_> = (100..120).map(holding).collect();
    let run = Run::start(DeviceSpec { poll_every: 600 * SECOND, ..spec(tags) }, Fault::Hole(107));
    run.for_secs(5).await;
    let requests = run.plc.requests();
    let now = sorted(read(&run.desk, &(0..20).collect::<Vec<_>>(), 5 * SECOND).await);
    for (at, fresh) in now.iter().enumerate() {
        if at == 7 {
            assert_eq!(fresh.sample.quality, Quality::Bad(Reason::Refused));
            assert!(fresh.error.as_deref().unwrap().contains("exception 2"), "{fresh:?}");
        } else {
            assert_eq!(fresh.error, None);
        }
    }
    let asked: Vec<_> = run.plc.0.lock().unwrap().requests.split_off(requests);
    assert!(asked.iter().all(|(_, at, n)| !(*at..at + n).contains(&107)), "{asked:?}");
    // A device that closes idle connections is asked once more.
    run.plc.set(Fault::IdleClose(SECOND));
    assert_eq!(sorted(read(&run.desk, &[0], SECOND).await)[0].error, None);
    run.for_secs(5).await;
    assert_eq!(sorted(read(&run.desk, &[0], SECOND).await)[0].error, None);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_driver_that_ends_is_told_at_once() {
    let run = Run::start(three_blocks(), Fault::Slow(Duration::from_millis(390)));
    run.for_secs(1).await;
    let desk = Arc::clone(&run.desk);
    let waiting = tokio::spawn(async move { read(&desk, &[0, 1], 30 * SECOND).await });
    tokio::task::yield_now().await;
    let desk = Arc::clone(&run.desk);
    run.stop().await;
    assert_eq!(waiting.await.unwrap().rest, Some(Unread::NotRunning));
    assert_eq!(read(&desk, &[0], SECOND).await.rest, Some(Unread::NotRunning));
}
