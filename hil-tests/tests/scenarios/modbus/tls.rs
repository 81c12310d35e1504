//! Modbus/TCP Security against pymodbus: who must prove what to whom.

use std::time::Duration;

use tidegate_hil_tests::field::{Devices, Field, Site};
use tidegate_hil_tests::papers::{Paper, Papers};
use tidegate_hil_tests::peers::Peer;
use tidegate_hil_tests::wait;

use super::{BACK, TAGS};
use crate::CATCH_UP;

const HOUR: Duration = Duration::from_secs(3600);

fn devices(peer: &Peer, papers: &Papers, shown: Option<&Paper>) -> Devices {
    let way = format!("{}\n{}", peer.place().way("modbus-tls"), papers.tls(shown));
    Devices::none().with("press", &way, "", &TAGS).unwrap()
}

async fn is_read(mutual: bool, options: &[&str]) {
    let site = Site::new().unwrap();
    let papers = Papers::issued(&site, "papers").unwrap();
    let shown = papers.issue("gateway", 3 * HOUR).unwrap();
    let peer = Peer::pymodbus_tls(&site, "pymodbus", &papers, mutual, options).await.unwrap();
    let devices = devices(&peer, &papers, mutual.then_some(&shown));
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK).await.unwrap();
    peer.hears(30).await.unwrap();
    field.all_good(BACK).await.unwrap();
    field.judge(CATCH_UP).await.unwrap();
    assert_eq!(peer.connects().unwrap(), 1, "one connection all the time");
}

/// Nothing is read, the status says why in these words, and the device is asked seldom.
async fn is_not_read(site: Site, peer: &Peer, devices: &Devices, words: &[&str]) {
    let mut field = Field::running(site, devices).await.unwrap();
    let why = wait::until(BACK, "the status says why", || async {
        let shown = field.device("press")?;
        let why = shown["why"].as_str().unwrap_or_default().to_owned();
        let says = words.iter().any(|word| why.contains(word));
        Ok((shown["state"] == "down" && says).then_some(why))
    })
    .await;
    if why.is_err() {
        panic!("{why:?}: {:#}", field.device("press").unwrap());
    }
    let tags = field.tags_of("press").unwrap();
    assert!(tags.iter().all(|one| one.value.is_null() && !one.is_good()), "{tags:#?}");
    assert_eq!(peer.requests().unwrap(), [], "what is not trusted is not asked");
    field.gateway.must_be_running().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_proves_itself_is_read_over_tls() {
    is_read(false, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_wants_a_certificate_is_shown_one() {
    is_read(true, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_only_knows_tls_1_2_is_read() {
    is_read(true, &["--tls-1-2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_wants_a_certificate_and_gets_none_is_not_read_and_named() {
    let site = Site::new().unwrap();
    let papers = Papers::issued(&site, "papers").unwrap();
    let peer = Peer::pymodbus_tls(&site, "pymodbus", &papers, true, &[]).await.unwrap();
    let devices = devices(&peer, &papers, None);
    is_not_read(site, &peer, &devices, &["tls.cert"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_shown_an_expired_certificate_is_not_read_and_named() {
    let site = Site::new().unwrap();
    let papers = Papers::issued(&site, "papers").unwrap();
    let expired = papers.issue("expired", HOUR / 2).unwrap();
    let peer = Peer::pymodbus_tls(&site, "pymodbus", &papers, true, &[]).await.unwrap();
    let devices = devices(&peer, &papers, Some(&expired));
    is_not_read(site, &peer, &devices, &["our certificate", "expired"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_another_authority_signed_is_not_read_and_named() {
    let site = Site::new().unwrap();
    let papers = Papers::issued(&site, "papers").unwrap();
    let others = Papers::issued(&site, "others").unwrap();
    let peer = Peer::pymodbus_tls(&site, "pymodbus", &others, false, &[]).await.unwrap();
    let devices = devices(&peer, &papers, None);
    is_not_read(site, &peer, &devices, &["authority"]).await;
}

/// The files are read again at each attempt, so a renewed certificate needs no restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_renewed_in_place_is_shown_at_the_next_attempt() {
    let site = Site::new().unwrap();
    let papers = Papers::issued(&site, "papers").unwrap();
    let shown = papers.issue("gateway", HOUR / 2).unwrap();
    let peer = Peer::pymodbus_tls(&site, "pymodbus", &papers, true, &[]).await.unwrap();
    let devices = devices(&peer, &papers, Some(&shown));
    let mut field = Field::running(site, &devices).await.unwrap();
    wait::until(BACK, "the device is down", || async {
        Ok((field.device("press")?["state"] == "down").then_some(()))
    })
    .await
    .unwrap();
    papers.issue("gateway", 3 * HOUR).unwrap();
    field.all_good(BACK).await.unwrap();
    field.judge(CATCH_UP).await.unwrap();
}
