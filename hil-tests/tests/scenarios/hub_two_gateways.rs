//! Two devices under one name, found out while both run and their links stay as they are.

use tidegate_hil_tests::{Rig, family};

use crate::CATCH_UP;

/// Whether this alarm is raised there.
fn has(status: &serde_json::Value, kind: &str) -> bool {
    status["alarms"].as_array().is_some_and(|all| all.iter().any(|it| it["kind"] == kind))
}

/// Neither restarts, reconnects or waits for the next reading of INFO: each hears that the hub
/// answers somebody else who has its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_under_one_name_is_told_of_at_both_within_seconds() {
    let rig = Rig::running().await.unwrap();
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    let mut twin = rig.twin().unwrap();
    twin.start().await.unwrap();
    for gateway in [&rig.gateway, &twin] {
        let text = gateway.alarm("two-epochs").await.unwrap();
        assert!(text.contains("PlantA/gw-line3") && text.contains("Stop or rename"), "{text}");
    }
    twin.stop().await.unwrap();
}

/// What an earlier run had asked for and is answered after the next one listens is no second
/// gateway, however often the daemon dies with something under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_again_and_again_is_not_taken_for_two() {
    let mut rig = Rig::running().await.unwrap();
    for _ in 0..4 {
        let n = rig.polls(5).await.unwrap();
        rig.hub_holds(n, CATCH_UP).await.unwrap();
        let leaves = rig.gateway.leaves().unwrap();
        rig.gateway.kill9().unwrap();
        rig.gateway.start().await.unwrap();
        for leaf in leaves {
            // It may have ended with its daemon.
            let _ = family::kill9(leaf);
        }
    }
    // What was not captured while it was down is named.
    rig.verify(CATCH_UP).await.unwrap();
    assert!(!has(&rig.gateway.status().unwrap(), "two-epochs"));
}
