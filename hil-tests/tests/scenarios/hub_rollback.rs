use tidegate_hil_tests::Rig;

use crate::CATCH_UP;

/// The hub forgets what it had acknowledged. The gateway still has it, notices, and sends it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_rolled_back_gets_everything_again() {
    let mut rig = Rig::running().await.unwrap();
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    rig.hub.kill9().unwrap();
    rig.hub.back_up().unwrap();
    rig.start_hub_again().await.unwrap();

    let late = rig.polls(20).await.unwrap();
    rig.hub_holds(late, CATCH_UP).await.unwrap();
    rig.wan.cut_closed().await.unwrap();
    let before = rig.messages_at_hub().await.unwrap();
    rig.hub.kill9().unwrap();
    rig.hub.roll_back().unwrap();
    rig.start_hub_again().await.unwrap();
    let after = rig.messages_at_hub().await.unwrap();
    assert!(after < before, "{before} messages became {after}");
    rig.wan.restore().await.unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}
