//! A fleet on a hub of three servers, of which one gateway is revoked.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tidegate_hil_tests::fleet::Fleet;
use tidegate_hil_tests::is_long;
use tidegate_hil_tests::operator::{Link, Operator};
use tidegate_hil_tests::wait::until;

use crate::CATCH_UP;

/// How soon a gateway that is revoked must be gone from every server.
const GONE: Duration = Duration::from_secs(5);

/// A dozen, fifty under `cargo xtask long`.
fn size() -> usize {
    if is_long() { 50 } else { 12 }
}

/// Two links of each.
async fn all_linked(operator: &Operator, size: usize) -> Vec<Link> {
    until(CATCH_UP * 2, "every gateway has both links", || async {
        let links = operator.links().await?;
        Ok((links.len() == size * 2).then_some(links))
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_revoked_is_gone_within_5_s_and_nobody_else_notices() {
    let mut fleet = Fleet::running(size()).await.unwrap();
    let operator = Operator::of(&fleet.hub).await.unwrap();
    let before = all_linked(&operator, size()).await;
    let spread: BTreeSet<_> = before.iter().map(|link| &link.server).collect();
    assert_eq!(spread.len(), 3, "the fleet is not spread over the hub: {before:?}");
    let id = fleet.gateways[size() / 2].id().to_owned();
    let (own, others): (Vec<_>, Vec<_>) = before.into_iter().partition(|link| link.leaf == id);
    assert_eq!(own.len(), 2, "{own:?}");

    let begun = Instant::now();
    fleet.hub.edit(&format!("\"CN={id},O=Tidegate\""), "\"CN=nobody,O=Tidegate\"").unwrap();
    fleet.hub.reload().await.unwrap();
    for link in &own {
        operator.kick(link).await.unwrap();
    }
    until(GONE, "the gateway is gone", || async {
        let links = operator.links().await?;
        Ok(links.iter().all(|link| link.leaf != id).then_some(()))
    })
    .await
    .unwrap();
    let gone = begun.elapsed();
    eprintln!("{} gateways: gone from every server after {gone:?}", size());
    assert!(gone < GONE, "{gone:?}");

    // Nobody else was cut off, and each of them goes on.
    let now = fleet.delivered().await.unwrap();
    fleet.each_delivers_beyond(&now, |other| other != id).await.unwrap();
    let later = fleet.delivered().await.unwrap();
    assert_eq!(later[&id], now[&id], "a gateway that was revoked delivered");
    let links = operator.links().await.unwrap();
    let new: Vec<_> = links.iter().filter(|it| !others.iter().any(|of| of.is_same(it))).collect();
    assert!(new.is_empty(), "a link was made anew: {new:?}");
    assert_eq!(links.len(), others.len(), "a link is gone");
    let revoked = fleet.gateways.iter().find(|gateway| gateway.id() == id).unwrap();
    let refused = until(CATCH_UP, "the gateway tries again and is refused", || async {
        Ok(revoked.log()?.contains("Authorization Violation").then_some(()))
    });
    refused.await.unwrap();
    for gateway in fleet.gateways.iter().filter(|gateway| gateway.id() != id) {
        let status = gateway.status().unwrap();
        assert!(status["alarms"].as_array().unwrap().is_empty(), "{:#}", status["alarms"]);
    }
    // It records on, and says what is wrong.
    revoked.alarm("hub-silent").await.unwrap();
}
