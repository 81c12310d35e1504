//! The gateway's wall clock is set while the daemon runs: an hour and ten years, forth and back.

use std::time::Duration;

use tidegate_hil_tests::{Rig, WallClock, Wishes, live_values, wait};

use crate::CATCH_UP;
use crate::time_first_sync::{TOLERANCE_NS, every_corrected_time_is_right, now_ns};

const HOUR: i64 = 3600;
const TEN_YEARS: i64 = 3652 * 24 * HOUR;

/// Longer than anything here takes, shorter than any step.
const LONGEST_LOSS: i64 = 600 * 1_000_000_000;

/// Sets the clock and waits until the daemon has noticed.
async fn set(rig: &Rig, clock: &WallClock, off_by: i64) {
    let noticed = || rig.gateway.log().map(|log| log.matches("the wall clock changed").count());
    let before = noticed().unwrap();
    clock.set_off_by(off_by).unwrap();
    wait::until(wait::SOON, "the step is noticed", || {
        let now = noticed();
        async move { Ok((now? > before).then_some(())) }
    })
    .await
    .unwrap();
    rig.polls(5).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_while_the_daemon_runs_loses_nothing_and_claims_no_loss() {
    let clock = WallClock::right().unwrap();
    let mut rig = Rig::running_with(Wishes::default().on_clock(&clock)).await.unwrap();
    let delivered = rig.polls(10).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();
    // First with a backlog, so that what waits on the disk grows ten years old, and not yet.
    rig.wan.cut_closed().await.unwrap();
    for off_by in [HOUR, -HOUR, TEN_YEARS, -TEN_YEARS] {
        set(&rig, &clock, off_by).await;
    }
    rig.sit_out(Duration::from_secs(1)).await.unwrap();
    rig.wan.restore().await.unwrap();
    let backlog = rig.served().unwrap();
    rig.hub_holds(backlog, CATCH_UP).await.unwrap();
    // Then with the link up: live values and delivery keep their pace on whatever clock.
    for off_by in [TEN_YEARS, -HOUR] {
        set(&rig, &clock, off_by).await;
        live_values(&rig, 3).await.unwrap();
        let served = rig.served().unwrap();
        rig.hub_holds(served, CATCH_UP).await.unwrap();
    }
    set(&rig, &clock, 0).await;

    let (findings, claim) = rig.verify(CATCH_UP).await.unwrap();
    assert!(findings.named_holes.is_empty(), "{findings:?}");
    let long = |from: i64, to: i64| !(0..LONGEST_LOSS).contains(&(to - from));
    let wrong: Vec<_> = claim.losses.iter().filter(|l| long(l.from_ns, l.to_ns)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");

    let times = rig.times().await.unwrap();
    // As captured, every clock that there was shows: nothing was rewritten.
    let history = rig.plc.history().unwrap();
    for off_by in [HOUR, -HOUR, TEN_YEARS, -TEN_YEARS] {
        let as_captured = times.iter().filter(|time| {
            let served = history.iter().find(|served| served.n == time.n).unwrap();
            let error = time.captured_ns - served.at_ns;
            (error - off_by * 1_000_000_000).abs() < 2_000_000_000
        });
        assert!(as_captured.count() >= 5, "no times on a clock that is off by {off_by} s");
    }
    every_corrected_time_is_right(&history, &times);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_plc_across_a_step_is_named_as_long_as_it_was() {
    let clock = WallClock::right().unwrap();
    let mut rig = Rig::running_with(Wishes::default().on_clock(&clock)).await.unwrap();
    rig.polls(5).await.unwrap();
    let mut outages = Vec::new();
    for off_by in [HOUR, -TEN_YEARS, 0] {
        let begun = now_ns();
        rig.switch_plc_off().await.unwrap();
        // Several misses on the one clock, and on the other: the outage spans the step.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        clock.set_off_by(off_by).unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        rig.switch_plc_on().await.unwrap();
        rig.polls(5).await.unwrap();
        outages.push((begun, now_ns()));
    }
    let account = rig.account(CATCH_UP).await.unwrap();
    assert!(account.claim.is_balanced(), "{}", account.short());
    let silent: Vec<_> =
        account.claim.losses.iter().filter(|loss| loss.cause == "device-silent").collect();
    // At least one for each clock that there was: right, an hour ahead, ten years behind, right.
    assert!(silent.len() >= 4, "{silent:?}");
    let (first, last) = (outages[0].0 - TOLERANCE_NS, outages[2].1 + TOLERANCE_NS);
    for loss in &silent {
        assert!((0..LONGEST_LOSS).contains(&(loss.to_ns - loss.from_ns)), "{loss:?}");
        // By the corrected times that the proof gives.
        assert!((first..=last).contains(&loss.from_ns), "{loss:?} in {outages:?}");
        assert!((first..=last).contains(&loss.to_ns), "{loss:?} in {outages:?}");
    }
    for (begun, ended) in &outages {
        let middle = begun + (ended - begun) / 2;
        let covers = |span: &std::ops::RangeInclusive<i64>| span.contains(&middle);
        let spans =
            silent.iter().map(|loss| loss.from_ns - TOLERANCE_NS..=loss.to_ns + TOLERANCE_NS);
        assert!(spans.filter(covers).count() > 0, "{begun} to {ended} is not in {silent:?}");
    }
}
