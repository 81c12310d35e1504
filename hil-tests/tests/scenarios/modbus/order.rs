//! One request at a time, whoever answers; and answers in the wrong order or more than once.

use std::time::Duration;

use tidegate_hil_tests::field::{Devices, Field, Site};
use tidegate_hil_tests::outage;
use tidegate_hil_tests::peers::{FaultPlc, Peer, Speaks};

use super::{BACK, TAGS};
use crate::CATCH_UP;

/// Four devices behind one endpoint, polled as fast as it goes.
fn four(way: &str, keys: &str) -> Devices {
    let keys = format!("poll-every-ms = 20\n{keys}");
    (1..=4_u8).fold(Devices::none(), |devices, unit| {
        let keys = format!("unit = {unit}\n{keys}");
        devices.with(&format!("press-{unit}"), way, &keys, &TAGS).unwrap()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn four_units_behind_one_pymodbus_share_a_connection_and_ask_one_at_a_time() {
    let site = Site::new().unwrap();
    let peer = Peer::pymodbus(&site, "pymodbus", &["--units", "1,2,3,4"]).await.unwrap();
    let devices = four(&peer.place().way("modbus-tcp"), "");
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK).await.unwrap();
    peer.hears(500).await.unwrap();
    field.judge(CATCH_UP).await.unwrap();
    let requests = peer.requests().unwrap();
    let most = requests.iter().map(|one| (one.outstanding, one.connections)).max().unwrap();
    assert_eq!(most, (1, 1), "requests in flight and connections");
    assert_eq!(peer.connects().unwrap(), 1);
}

/// The fault server counts for each connection, and is slow, so that whoever does not wait shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_cap_of_two_connections_is_kept_with_one_request_in_flight_on_each() {
    let site = Site::new().unwrap();
    let options = ["--response-ms", "5", "--cap", "2"];
    let plc = FaultPlc::start(&site, "plc", Speaks::Tcp, &options).await.unwrap();
    let devices = four(&plc.way(), "max-connections = 2");
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK).await.unwrap();
    for fault in ["none", "slow 0.05", "late-some 0.4", "close-after 9", "none"] {
        plc.turn(fault).unwrap();
        tokio::time::sleep(outage(Duration::from_millis(1500))).await;
    }
    field.all_good(BACK).await.unwrap();
    field.judge(CATCH_UP).await.unwrap();
    let requests = plc.requests().unwrap();
    assert!(requests.len() > 200, "{} requests", requests.len());
    let connections = requests.iter().map(|one| one.connections).max().unwrap();
    assert!(connections <= 2, "{connections} connections");
    let in_flight = requests.iter().map(|one| one.outstanding).max().unwrap();
    assert_eq!(in_flight, 1, "requests in flight on one connection");
}

/// A server that answers out of order and more than once, in every way that it knows.
async fn tolerates(mode: &str) {
    let site = Site::new().unwrap();
    let peer = Peer::jsmodbus(&site, "jsmodbus", mode).await.unwrap();
    let devices =
        Devices::none().with("press", &peer.place().way("modbus-tcp"), "", &TAGS).unwrap();
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK).await.unwrap();
    peer.hears(100).await.unwrap();
    field.all_good(BACK).await.unwrap();
    let judgement = field.judge(CATCH_UP).await.unwrap();
    let readings = judgement.good("PlantA/press/h100");
    assert!(readings > 10, "{readings} readings");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_jsmodbus_that_come_twice_are_taken_once() {
    tolerates("twice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_jsmodbus_followed_by_the_one_before_it_is_not_mistaken() {
    tolerates("again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_jsmodbus_that_comes_after_the_one_before_it_is_found() {
    tolerates("before").await;
}

/// The first request of each connection is answered only on the next one: nothing can be read, and
/// nothing may be invented.
#[tokio::test(flavor = "multi_thread")]
async fn answers_of_jsmodbus_that_come_on_the_next_connection_are_no_values() {
    let site = Site::new().unwrap();
    let peer = Peer::jsmodbus(&site, "jsmodbus", "swapped").await.unwrap();
    let devices =
        Devices::none().with("press", &peer.place().way("modbus-tcp"), "", &TAGS).unwrap();
    let mut field = Field::running(site, &devices).await.unwrap();
    peer.hears(12).await.unwrap();
    field.judge(CATCH_UP).await.unwrap();
}
