use tidegate_hil_tests::{Rig, Wishes};

use crate::CATCH_UP;

/// The hub takes in some, is copied, takes in much more, and is put back to the copy.
async fn rolled_back(rig: &mut Rig, meanwhile: u64) {
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    rig.hub.kill9().unwrap();
    rig.hub.back_up().unwrap();
    rig.start_hub_again().await.unwrap();

    let late = rig.polls(meanwhile).await.unwrap();
    rig.hub_holds(late, CATCH_UP).await.unwrap();
    rig.wan.cut_closed().await.unwrap();
    let before = rig.messages_at_hub().await.unwrap();
    rig.hub.kill9().unwrap();
    rig.hub.roll_back().unwrap();
    rig.start_hub_again().await.unwrap();
    let after = rig.messages_at_hub().await.unwrap();
    assert!(after < before, "{before} messages became {after}");
    rig.wan.restore().await.unwrap();
}

/// The hub forgets what it had acknowledged. The gateway still has it, notices, and sends it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_rolled_back_gets_everything_again() {
    let mut rig = Rig::running().await.unwrap();
    rolled_back(&mut rig, 20).await;
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
    let text = rig.gateway.alarm("hub-lost-data").await.unwrap();
    assert!(text.contains("lost frames that it had acknowledged;"), "{text}");
}

/// As many bytes as an hour of a small plant: hundreds of frames in messages of many.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_rolled_back_by_hundreds_of_frames_gets_each_once() {
    let wishes = Wishes { noise: 3, commit_every_ms: 20, ..Wishes::default() };
    let mut rig = Rig::running_with(wishes).await.unwrap();
    rolled_back(&mut rig, 120).await;
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
    let status = rig.gateway.status().unwrap();
    assert_eq!(status["counters"]["uplink_rewinds"], 1);
}

/// A former epoch has nothing more to send, and is looked after all the same: it begins again with
/// the frames that the hub lost, and ends where the next one begins.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_rolled_back_gets_a_former_epoch_again_too() {
    let mut rig = Rig::running().await.unwrap();
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    rig.hub.kill9().unwrap();
    rig.hub.back_up().unwrap();
    rig.start_hub_again().await.unwrap();
    let n = rig.polls(20).await.unwrap();
    rig.hub_holds(n, CATCH_UP).await.unwrap();
    // Without its catalog a journal is not gone on with: a new epoch begins beside the old one.
    rig.gateway.stop().await.unwrap();
    std::fs::remove_file(rig.gateway.journal().join("catalog")).unwrap();
    rig.gateway.start().await.unwrap();
    let late = rig.polls(20).await.unwrap();
    rig.hub_holds(late, CATCH_UP).await.unwrap();
    rig.wan.cut_closed().await.unwrap();
    rig.hub.kill9().unwrap();
    rig.hub.roll_back().unwrap();
    rig.start_hub_again().await.unwrap();
    rig.wan.restore().await.unwrap();
    let account = rig.account(CATCH_UP).await.unwrap();
    let why = account.short();
    assert!(account.findings.is_clean(), "{why}");
    let epochs = account.report["epochs"].as_array().unwrap();
    assert_eq!(epochs.len(), 2, "{why}");
    assert_eq!(epochs[1]["seam"]["state"], "joined", "{why}");
    assert!(account.sequenced_causes().is_empty(), "{why}");
}
