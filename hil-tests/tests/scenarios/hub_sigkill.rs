use std::time::Duration;

use tidegate_hil_tests::{Rig, outage};

use crate::CATCH_UP;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_when_the_hub_is_killed() {
    let mut rig = Rig::running().await.unwrap();
    let delivered = rig.polls(10).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();
    for _ in 0..2 {
        rig.polls(3).await.unwrap();
        rig.hub.kill9().unwrap();
        tokio::time::sleep(outage(Duration::from_secs(2))).await;
        rig.start_hub_again().await.unwrap();
    }
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}
