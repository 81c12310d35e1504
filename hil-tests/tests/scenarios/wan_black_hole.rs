use std::time::Duration;

use tidegate_hil_tests::Rig;

use crate::CATCH_UP;

/// Longer than the leaf's two missed pings (14 s), so that it gives the link up and tries anew into
/// the silence; what was under way arrives late, after the new connection.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_when_the_link_goes_silent() {
    let mut rig = Rig::running().await.unwrap();
    let delivered = rig.polls(10).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();
    rig.wan.cut_black_hole().await.unwrap();
    rig.sit_out(Duration::from_secs(18)).await.unwrap();
    rig.wan.restore().await.unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}

/// Shorter than the leaf's patience: connections survive. The longer ones outlast the uplink's, so
/// it sends again, and both copies arrive.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_over_silences_that_connections_survive() {
    let mut rig = Rig::running().await.unwrap();
    for silence in [1500, 4000, 7000] {
        rig.polls(5).await.unwrap();
        rig.wan.cut_black_hole().await.unwrap();
        // Not longer under `long`: the leaf would give up.
        tokio::time::sleep(Duration::from_millis(silence)).await;
        rig.wan.restore().await.unwrap();
    }
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}
