use std::time::Duration;

use tidegate_hil_tests::Rig;

use crate::CATCH_UP;

#[tokio::test(flavor = "multi_thread")]
async fn a_plc_that_is_down_at_start_is_waited_for_and_the_wait_is_named() {
    let mut rig = Rig::with_plc_off().await.unwrap();
    rig.gateway.start().await.unwrap();
    // Several polls long, so that there is something to name.
    tokio::time::sleep(Duration::from_secs(2)).await;
    rig.gateway.must_be_running().unwrap();
    rig.switch_plc_on().await.unwrap();
    rig.polls(10).await.unwrap();
    let (_, claim) = rig.verify(CATCH_UP).await.unwrap();
    assert!(claim.losses.iter().any(|loss| loss.cause == "device-silent"), "{claim:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plc_that_is_switched_off_and_on_leaves_a_named_hole_and_no_other() {
    let mut rig = Rig::running().await.unwrap();
    rig.polls(10).await.unwrap();
    rig.switch_plc_off().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    rig.switch_plc_on().await.unwrap();
    rig.polls(10).await.unwrap();
    let (findings, claim) = rig.verify(CATCH_UP).await.unwrap();
    // At most the answer that was under way when it went off.
    assert!(findings.named_holes.len() <= 1, "{findings:?}");
    assert!(claim.losses.iter().any(|loss| loss.cause == "device-silent"), "{claim:?}");
}
