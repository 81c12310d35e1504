use tidegate_hil_tests::{Rig, live_values};

use crate::CATCH_UP;

#[tokio::test(flavor = "multi_thread")]
async fn every_value_reaches_the_hub_and_whoever_watches_sees_it_live() {
    let mut rig = Rig::running().await.unwrap();
    let before = rig.served().unwrap();
    let seen = live_values(&rig, 5).await.unwrap();
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    // Live means now: what was polled before anyone watched is not replayed. The last published
    // value may be under way while the subscription spreads.
    assert!(seen[0] + 5 >= before, "{seen:?} after {before}");
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}
