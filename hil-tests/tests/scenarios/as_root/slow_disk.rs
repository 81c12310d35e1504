use std::time::Duration;

use tidegate_hil_tests::disk::Disk;
use tidegate_hil_tests::wait::until;
use tidegate_hil_tests::{Rig, Wishes, live_values, outage};

use crate::CATCH_UP;

/// Every write waits for up to two seconds, as on a card that is busy with itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_keeps_its_writer_waiting_for_seconds_delays_the_record_and_nothing_else() {
    let disk = Disk::new(128 << 20, "").await.unwrap();
    let mut rig = Rig::running_with(disk.holding(Wishes::default())).await.unwrap();
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    let stalled = disk.stall(Duration::from_secs(2), outage(Duration::from_secs(8))).unwrap();
    let begun = rig.served().unwrap();
    while !stalled.is_over().unwrap() {
        // Neither waits for the disk.
        live_values(&rig, 3).await.unwrap();
        rig.gateway.status().unwrap();
    }
    let polled = rig.served().unwrap() - begun;
    assert!(polled > 30, "polling waited for the disk: {polled} polls");
    let slowest = || {
        let status = rig.gateway.status()?;
        Ok::<_, anyhow::Error>(status["journal"]["slowest_commit_ms"].as_f64().unwrap_or(0.0))
    };
    until(CATCH_UP, "a slow commit is seen", || async { Ok((slowest()? > 1000.0).then_some(())) })
        .await
        .unwrap();
    let status = rig.gateway.status().unwrap();
    assert_eq!(status["counters"]["recorder_overflow"], 0, "{status:#}");
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}
