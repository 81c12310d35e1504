//! What the machine's scenarios stand on, with a process in the machine's place: in seconds.

use std::time::Duration;

use tidegate_hil_tests::outpost::{Choice, Outpost};

/// How long everything may take to be at the hub.
const CATCH_UP: Duration = Duration::from_secs(90);

/// It enrols at the hub's own authority, delivers through it, and loses nothing in an outage; what
/// SIGKILL cost is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_enrols_and_delivers_through_an_outage_and_a_kill() {
    let mut outpost = Outpost::of(Choice::Process).await.unwrap();
    outpost.system.power_on().await.unwrap();
    let polled = outpost.polls(5, CATCH_UP).await.unwrap();
    outpost.hub_holds(polled, CATCH_UP).await.unwrap();
    assert!(outpost.hub.authority_said().unwrap().contains("issued a certificate"));

    outpost.wan.cut_closed().await.unwrap();
    outpost.polls(20, CATCH_UP).await.unwrap();
    outpost.wan.restore().await.unwrap();
    outpost.verify_nothing_lost(CATCH_UP).await.unwrap();

    let stick = outpost.stick("none", 1).unwrap();
    let refused = outpost.system.plug(&stick).await.unwrap_err().to_string();
    assert!(refused.contains("takes no stick"), "{refused}");
    let mark = outpost.system.mark().unwrap();
    outpost.system.cut_power().await.unwrap();
    outpost.system.power_on().await.unwrap();
    outpost.system.says_since(mark, &["leaf listens"], CATCH_UP).await.unwrap();
    outpost.verify(CATCH_UP).await.unwrap();
    outpost.system.shut_down().await.unwrap();
}
