use std::time::Duration;

use tidegate_hil_tests::disk::Disk;
use tidegate_hil_tests::{Rig, Wishes, live_values};

use crate::CATCH_UP;

/// The kernel makes a file system read-only where it finds an error in it, and it stays so until it
/// is mounted anew. The daemon lives through both.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_turns_read_only_stops_the_record_alone_until_it_is_mounted_anew() {
    let mut disk = Disk::new(128 << 20, "errors=remount-ro").await.unwrap();
    let wishes = Wishes { noise: 10, ..Wishes::default() };
    let mut rig = Rig::running_with(disk.holding(wishes)).await.unwrap();
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();

    disk.turn_read_only().unwrap();
    let text = rig.gateway.alarm("journal-unwritable").await.unwrap();
    assert!(text.contains("Read-only"), "{text}");
    live_values(&rig, 5).await.unwrap();
    // Until more waits than is kept in memory.
    rig.polls(120).await.unwrap();
    let status = rig.gateway.status().unwrap();
    assert_eq!(status["journal"]["writable"], false, "{status:#}");
    rig.gateway.must_be_running().unwrap();

    disk.mount_anew("errors=remount-ro").unwrap();
    rig.gateway.alarm_is_over("journal-unwritable", Duration::from_secs(60)).await.unwrap();
    rig.polls(40).await.unwrap();
    let account = rig.account(CATCH_UP).await.unwrap();
    let why = account.short();
    assert!(account.findings.is_clean(), "{why}");
    assert_eq!(account.claim.verdict, "balanced-to-watermark", "{why}");
    assert!(account.sequenced_causes().is_empty(), "{why}");
    let holes = &account.findings.named_holes;
    assert!(holes.len() >= 10, "{why}");
    assert!(holes.iter().all(|(_, cause)| cause == "journal-unwritable"), "{why}");
    let log = rig.gateway.log().unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert!(log.matches("live values go on").count() < 10, "{log}");
    assert!(log.lines().count() < 400, "{log}");
}
