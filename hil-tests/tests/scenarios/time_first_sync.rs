//! There is no clock at boot: the gateway starts in 1970 or on the day of its build, and the right
//! time comes later.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_hil_tests::oracle::Served;
use tidegate_hil_tests::reader::Times;
use tidegate_hil_tests::{Rig, WallClock, Wishes, wait};

use crate::CATCH_UP;

/// By how much a poll's time at the PLC and at the gateway may differ on a loaded machine.
pub(crate) const TOLERANCE_NS: i64 = 2_000_000_000;

/// Every time at the hub, once corrected, is when the PLC served the value.
pub(crate) fn every_corrected_time_is_right(history: &[Served], times: &[Times]) {
    assert!(!times.is_empty());
    for time in times {
        let served = history.iter().find(|served| served.n == time.n).unwrap();
        let error = time.corrected_ns - served.at_ns;
        assert!(error.abs() < TOLERANCE_NS, "{time:?} was served at {}", served.at_ns);
    }
}

/// By the right clock.
pub(crate) fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_nanos()).unwrap()
}

/// How far a clock is off that begins 5 s after 1970 now.
fn in_1970() -> i64 {
    5 - now_ns() / 1_000_000_000
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_captured_before_the_first_sync_is_whole_and_its_times_can_be_corrected() {
    let clock = WallClock::right().unwrap();
    clock.set_off_by(in_1970()).unwrap();
    let mut rig = Rig::running_with(Wishes::default().on_clock(&clock)).await.unwrap();
    let early = rig.polls(10).await.unwrap();
    // Nothing waits for the right time.
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    rig.gateway.stop().await.unwrap();
    rig.gateway.start().await.unwrap();
    rig.polls(10).await.unwrap();
    clock.set_off_by(0).unwrap();
    rig.polls(20).await.unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();

    let times = rig.times().await.unwrap();
    let old = times.iter().filter(|time| time.captured_ns < 3600 * 1_000_000_000).count();
    assert!(old >= 15, "{old} of {} in 1970", times.len());
    every_corrected_time_is_right(&rig.plc.history().unwrap(), &times);
}

/// The battery is empty and the power fails: the next start is before the last sample.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_before_the_last_sample_is_an_alarm_until_the_clock_is_right_and_the_gap_is_named()
{
    let clock = WallClock::right().unwrap();
    let mut rig = Rig::running_with(Wishes::default().on_clock(&clock)).await.unwrap();
    rig.polls(30).await.unwrap();
    rig.gateway.kill9().unwrap();
    clock.set_off_by(in_1970()).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    // By the right clock: it is down, and has been for longer than an oracle's slack.
    let down_at = now_ns();
    rig.gateway.start().await.unwrap();
    let alarm = rig.gateway.alarm("clock-behind-record").await.unwrap();
    assert!(alarm.contains("1970-01-01"), "{alarm}");
    rig.polls(10).await.unwrap();
    clock.set_off_by(0).unwrap();
    wait::until(wait::SOON, "the alarm goes", || {
        let status = rig.gateway.status();
        async move {
            let alarms = status?["alarms"].to_string();
            Ok((!alarms.contains("clock-behind-record")).then_some(()))
        }
    })
    .await
    .unwrap();
    let (findings, claim) = rig.verify(CATCH_UP).await.unwrap();
    for (_, cause) in &findings.named_holes {
        assert_eq!(cause, "not-running", "{findings:?}");
    }
    let down: Vec<_> = claim.losses.iter().filter(|loss| loss.cause == "not-running").collect();
    assert!(!down.is_empty(), "{claim:?}");
    let covers = |from: i64, to: i64| (from..=to).contains(&down_at);
    assert!(down.iter().any(|loss| covers(loss.from_ns, loss.to_ns)), "{down_at}: {down:?}");
    for loss in down {
        assert!((0..60_000_000_000).contains(&(loss.to_ns - loss.from_ns)), "{loss:?}");
    }
    let times = rig.times().await.unwrap();
    every_corrected_time_is_right(&rig.plc.history().unwrap(), &times);
}
