use std::path::PathBuf;
use std::time::Duration;

use tidegate_hil_tests::disk::Disk;
use tidegate_hil_tests::wait::until;
use tidegate_hil_tests::{Rig, Wishes, live_values};

use crate::{CATCH_UP, CATCH_UP_ON_NOISE};

fn newest_segment(disk: &Disk) -> PathBuf {
    let names = std::fs::read_dir(disk.seen().join("journal")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let newest = names.filter(|name| name.starts_with("seg-")).max().unwrap();
    disk.place().join("journal").join(newest)
}

/// Writes succeed and the sync after them does not, in the segment being written and in every new
/// one: what was not made durable is never taken for it, and goes to another file once there is one.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_refuses_what_was_written_costs_no_record_that_was_promised() {
    let disk = Disk::on_thin_medium(48 << 20, "").await.unwrap();
    let wishes = Wishes {
        max_bytes: "32 MiB",
        noise: 10,
        noise_every_ms: 30,
        commit_every_ms: 50,
        ..Wishes::default()
    };
    let mut rig = Rig::running_with(disk.holding(wishes)).await.unwrap();
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();

    disk.wear_out(&newest_segment(&disk)).unwrap();
    until(Duration::from_secs(60), "a sync fails", || async {
        let status = rig.gateway.status()?;
        let alarms = status["alarms"].as_array().into_iter().flatten();
        Ok(alarms.clone().any(|alarm| alarm["kind"] == "sync-failed").then_some(()))
    })
    .await
    .unwrap();
    rig.gateway.alarm("journal-unwritable").await.unwrap();
    live_values(&rig, 5).await.unwrap();
    rig.polls(20).await.unwrap();
    rig.gateway.must_be_running().unwrap();

    disk.recover().unwrap();
    rig.gateway.alarm_is_over("journal-unwritable", Duration::from_secs(60)).await.unwrap();
    rig.polls(40).await.unwrap();
    let account = rig.account(CATCH_UP_ON_NOISE).await.unwrap();
    let why = account.short();
    assert!(account.findings.is_clean(), "{why}");
    assert_eq!(account.claim.verdict, "balanced-to-watermark", "{why}");
    assert!(account.sequenced_causes().is_empty(), "{why}");
    let holes = &account.findings.named_holes;
    assert!(holes.iter().all(|(_, cause)| cause == "journal-unwritable"), "{why}");
    let log = rig.gateway.log().unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert!(log.matches("fdatasync failed").count() < 3, "{log}");

    // What it says is durable is what a start finds.
    rig.gateway.kill9().unwrap();
    rig.gateway.start().await.unwrap();
    rig.polls(10).await.unwrap();
    let account = rig.account(CATCH_UP_ON_NOISE).await.unwrap();
    let why = account.short();
    assert!(account.findings.is_clean() && account.sequenced_causes().is_empty(), "{why}");
}
