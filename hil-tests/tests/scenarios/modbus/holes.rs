//! A register in the middle of a block that is not there.

use tidegate_hil_tests::field::{Devices, Field, Site, lines_with};
use tidegate_hil_tests::peers::{FaultPlc, Peer, Speaks};

use super::{BACK, PATIENT};
use crate::CATCH_UP;

/// Registers 90 to 129 in one block; those from `first` to `last` are not there.
async fn the_rest_stays_good(site: Site, way: &str, first: u16, last: u16) -> Field {
    let names: Vec<_> = (90..130).map(|address| format!("h{address}")).collect();
    let tags: Vec<_> = names.iter().map(String::as_str).collect();
    let keys = format!("max-gap = 16\n{PATIENT}");
    let devices = Devices::none().with("press", way, &keys, &tags).unwrap();
    let mut field = Field::running(site, &devices).await.unwrap();
    let is_there = |path: &str| {
        let address: u16 = path.rsplit('h').next().unwrap().parse().unwrap();
        !(first..=last).contains(&address)
    };
    field.good(BACK, is_there).await.unwrap();
    // Long after it was isolated.
    tokio::time::sleep(tidegate_hil_tests::outage(std::time::Duration::from_secs(3))).await;
    field.good(BACK, is_there).await.unwrap();
    let judgement = field.judge(CATCH_UP).await.unwrap();
    for address in first..=last {
        let path = format!("PlantA/press/h{address}");
        assert_eq!(judgement.good(&path), 0, "{path} is not there");
        let told = judgement.record.iter().filter(|one| one.path == path).count();
        assert!(told > 0, "{path} is told to be bad");
    }
    let log = field.gateway.log().unwrap();
    let told = lines_with(&log, &["cannot be read", "press"]);
    assert_eq!(told, 1, "the operator is told once: {log}");
    let shown = field.device("press").unwrap();
    assert_eq!(shown["state"], "degraded", "{shown:#}");
    assert!(shown["why"].as_str().unwrap().contains("exception 2"), "{shown:#}");
    field
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_in_pymodbus_registers_splits_the_block_and_is_told_once() {
    let site = Site::new().unwrap();
    let peer = Peer::pymodbus(&site, "pymodbus", &["--hole", "100-109"]).await.unwrap();
    let way = peer.place().way("modbus-tcp");
    the_rest_stays_good(site, &way, 100, 109).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_in_jsmodbus_registers_splits_the_block_and_is_told_once() {
    let site = Site::new().unwrap();
    let peer = Peer::jsmodbus(&site, "jsmodbus", "holes").await.unwrap();
    let way = peer.place().way("modbus-tcp");
    the_rest_stays_good(site, &way, 100, 109).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_missing_is_asked_for_less_and_less() {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", Speaks::Tcp, &["--fault", "hole 110"]).await.unwrap();
    let way = plc.way();
    let _field = the_rest_stays_good(site, &way, 110, 110).await;
    let requests = plc.requests().unwrap();
    let touch = |one: &&tidegate_hil_tests::peers::heard::Request| {
        (one.start..one.start + one.count).contains(&110)
    };
    let refused = requests.iter().filter(touch).count();
    assert!(refused * 4 < requests.len(), "{refused} of {} touch the hole", requests.len());
}
