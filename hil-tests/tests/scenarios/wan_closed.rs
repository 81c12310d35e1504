use std::time::Duration;

use tidegate_hil_tests::Rig;

use crate::CATCH_UP;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_the_link_refuses_connections() {
    let mut rig = Rig::running().await.unwrap();
    let delivered = rig.polls(10).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();
    for _ in 0..3 {
        rig.wan.cut_closed().await.unwrap();
        rig.sit_out(Duration::from_secs(2)).await.unwrap();
        rig.wan.restore().await.unwrap();
        // Cut again before everything is through: a half-drained backlog is the harder case.
        rig.polls(5).await.unwrap();
    }
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}
