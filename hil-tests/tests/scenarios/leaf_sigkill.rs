use tidegate_hil_tests::family::kill9;
use tidegate_hil_tests::wait::{SOON, until};
use tidegate_hil_tests::{Rig, live_values};

use crate::CATCH_UP;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leaf_is_started_again_and_nothing_is_lost() {
    let mut rig = Rig::running().await.unwrap();
    let delivered = rig.polls(10).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();
    let [old] = rig.gateway.leaves().unwrap()[..] else { panic!("the gateway runs one leaf") };
    kill9(old).unwrap();
    until(SOON, "another leaf runs", || {
        let leaves = rig.gateway.leaves();
        async move { leaves.map(|leaves| leaves.into_iter().find(|leaf| *leaf != old)) }
    })
    .await
    .unwrap();
    // Live values find the new leaf as well.
    live_values(&rig, 3).await.unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}
