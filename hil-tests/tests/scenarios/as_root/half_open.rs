//! One side of a connection is gone and nobody told the other.

use std::time::Duration;

use tidegate_hil_tests::net::{Lost, isolated};
use tidegate_hil_tests::wait::{self, until};
use tidegate_hil_tests::{Rig, Wishes};

use crate::CATCH_UP;

/// The leaf pings every 5 s and takes two that are not answered: within 15 s, and what a loaded
/// machine adds. Twice the interval would be 10 s if the first ping went out with the fault.
const NOTICED: Duration = Duration::from_secs(18);

/// Loses packets until both links are given up; nothing may count as delivered meanwhile.
fn is_noticed(lost: Lost) {
    isolated(move |net| async move {
        let mut rig = Rig::running_across(&net, Wishes::default()).await?;
        let delivered = rig.polls(10).await?;
        rig.hub_holds(delivered, CATCH_UP).await?;
        net.lose(lost)?;
        let closed = |log: &str| {
            log.lines().filter(|line| line.contains("Leafnode connection closed: Stale")).count()
        };
        until(NOTICED, "both links are given up", || {
            let log = rig.gateway.log();
            async move { Ok((closed(&log?) >= 2).then_some(())) }
        })
        .await?;
        until(wait::SOON, "the status says so", || {
            let status = rig.gateway.status();
            async move { Ok((status?["link"]["hub_up"] == false).then_some(())) }
        })
        .await?;
        // The gateway believes no more delivered than the hub has.
        let acknowledged = rig.gateway.status()?["uplink"]["acknowledged_seq"].as_u64();
        rig.sit_out(Duration::from_secs(3)).await?;
        let later = rig.gateway.status()?["uplink"]["acknowledged_seq"].as_u64();
        anyhow::ensure!(
            acknowledged == later,
            "delivered into nowhere: {acknowledged:?} {later:?}"
        );
        net.find()?;
        rig.verify_nothing_lost(CATCH_UP).await
    })
    .unwrap();
}

#[test]
fn a_link_that_carries_nothing_is_noticed_and_nothing_counts_as_delivered() {
    is_noticed(Lost::Both);
}

#[test]
fn a_link_that_carries_nothing_toward_the_hub_is_noticed() {
    is_noticed(Lost::ToHub);
}

#[test]
fn a_link_that_carries_nothing_back_is_noticed_and_what_arrived_is_there_once() {
    is_noticed(Lost::ToGateway);
}
