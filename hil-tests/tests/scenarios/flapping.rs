//! A link that goes down every 3 s, now between connections and now in the middle of making one.

use std::time::Duration;

use tidegate_hil_tests::wait::until;
use tidegate_hil_tests::{Rig, live_values, outage};
use tokio::time::Instant;

use crate::{CATCH_UP, Dice};

/// Down every so often.
const PERIOD: Duration = Duration::from_secs(3);
/// The leaf tells each link that is made and each that is closed, twice; its links are two.
const LINES_PER_FLAP: usize = 24;

/// The leaf's collector is told to work harder from 64 MiB on, and lets garbage lie below: 56 MB
/// were measured after 198 flaps.
const LEAF_KIB: u64 = 80 * 1024;

/// What must not grow.
#[derive(Debug, Clone, Copy)]
struct Size {
    files: usize,
    kib: u64,
}

fn size(id: u32) -> Size {
    let files = std::fs::read_dir(format!("/proc/{id}/fd")).unwrap().count();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    Size { files, kib: rss.trim().trim_end_matches(" kB").parse().unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_flaps_every_3_s_delivers_once_and_nothing_grows() {
    let mut dice = Dice::of("flapping");
    let mut rig = Rig::running().await.unwrap();
    let delivered = rig.polls(10).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();
    let [leaf] = rig.gateway.leaves().unwrap()[..] else { panic!("the gateway runs one leaf") };
    let daemon = rig.gateway.pid().unwrap();
    let (before, before_leaf) = (size(daemon), size(leaf));
    let told = rig.gateway.log().unwrap().lines().count();
    let stored = rig.messages_at_hub().await.unwrap();

    // Thirty seconds, ten minutes under `cargo xtask long`.
    let end = Instant::now() + outage(Duration::from_secs(30)) * if is_long() { 2 } else { 1 };
    let mut flaps: u32 = 0;
    while Instant::now() < end {
        // Up long enough for the leaf's pause, or just until a link is being made.
        let up = if dice.below(2) == 0 { 2_500 } else { 900 + dice.below(1_600) };
        tokio::time::sleep(Duration::from_millis(up)).await;
        if dice.below(4) == 0 {
            rig.wan.cut_black_hole().await.unwrap();
        } else {
            rig.wan.cut_closed().await.unwrap();
        }
        let down = PERIOD.saturating_sub(Duration::from_millis(up));
        tokio::time::sleep(down.max(Duration::from_millis(200))).await;
        rig.wan.restore().await.unwrap();
        flaps += 1;
    }
    let through = rig.messages_at_hub().await.unwrap() - stored;
    let lines = rig.gateway.log().unwrap().lines().count() - told;
    assert!(through > u64::from(flaps / 4), "{through} messages in {flaps} flaps");
    assert!(
        lines < LINES_PER_FLAP * usize::try_from(flaps).unwrap(),
        "{lines} lines for {flaps} flaps"
    );
    // A leaf that was started again begins anew, which is no way to stay small.
    let (after, after_leaf) = (size(daemon), size(rig.gateway.leaves().unwrap()[0]));
    assert!(after.files <= before.files + 8, "{before:?} {after:?}");
    assert!(after.kib <= before.kib + 16 * 1024, "{before:?} {after:?}");
    assert!(after_leaf.files <= before_leaf.files + 8, "{before_leaf:?} {after_leaf:?}");
    assert!(after_leaf.kib <= LEAF_KIB, "{before_leaf:?} {after_leaf:?}");
    rig.verify_nothing_lost(CATCH_UP * 2).await.unwrap();
    // Whoever watches has the live link again, too.
    live_values(&rig, 3).await.unwrap();
    rig.gateway.stop().await.unwrap();
}

fn is_long() -> bool {
    outage(Duration::from_secs(1)) > Duration::from_secs(1)
}

/// Cuts links while they are being made until nats-server has given one up; the daemon has it dial
/// again, and starts nothing anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_the_leaf_has_given_up_is_dialled_anew() {
    let mut dice = Dice::of("given up");
    let mut rig = Rig::running().await.unwrap();
    let delivered = rig.polls(10).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();
    let leaf = rig.gateway.leaves().unwrap();
    let gave_up = |log: &str| log.contains("Error flushing");
    for _ in 0..14 {
        rig.wan.cut_closed().await.unwrap();
        let told = made(&rig);
        rig.wan.restore().await.unwrap();
        let begun = until(Duration::from_secs(6), "a link is being made", || {
            let more = made(&rig) > told;
            async move { Ok(more.then_some(())) }
        });
        if begun.await.is_err() {
            break;
        }
        // A link takes a few milliseconds to make.
        tokio::time::sleep(Duration::from_micros(3_000 + dice.below(7_000))).await;
        rig.wan.cut_closed().await.unwrap();
        if gave_up(&rig.gateway.log().unwrap()) {
            break;
        }
    }
    rig.wan.restore().await.unwrap();
    let log = rig.gateway.log().unwrap();
    rig.verify_nothing_lost(CATCH_UP * 2).await.unwrap();
    if gave_up(&log) {
        until(CATCH_UP * 2, "what was given up is dialled anew", || {
            let log = rig.gateway.log();
            async move { Ok(log?.contains("dials the hub anew").then_some(())) }
        })
        .await
        .unwrap();
    }
    live_values(&rig, 3).await.unwrap();
    assert_eq!(rig.gateway.leaves().unwrap(), leaf, "the leaf was started again");
}

fn made(rig: &Rig) -> usize {
    rig.gateway.log().unwrap().matches("Leafnode connection created").count()
}
