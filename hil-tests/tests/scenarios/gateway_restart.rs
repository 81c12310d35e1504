use tidegate_hil_tests::Rig;

use crate::CATCH_UP;

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_stopped_in_good_order_goes_on_where_it_was() {
    let mut rig = Rig::running().await.unwrap();
    rig.polls(10).await.unwrap();
    rig.gateway.stop().await.unwrap();
    rig.gateway.start().await.unwrap();
    rig.polls(5).await.unwrap();
    let (findings, claim) = rig.verify(CATCH_UP).await.unwrap();
    // Only the poll that was under way when it was told to stop.
    assert!(findings.named_holes.len() <= 1, "{findings:?}");
    assert!(claim.losses.iter().any(|loss| loss.cause == "not-running"), "{claim:?}");
}
