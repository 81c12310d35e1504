//! Functions, limits and exceptions, against servers of two other makes.

use serde_json::Value;
use tidegate_hil_tests::field::{Devices, Field, Site};
use tidegate_hil_tests::peers::Peer;

use super::{BACK, PATIENT};
use crate::CATCH_UP;

/// One of each table; the most that one request may ask for, and one more; and a wide value.
const TAGS: [&str; 13] = [
    "h5",
    "i6",
    "c7",
    "d8",
    "h1000",
    "h1124",
    "h2000",
    "h2125",
    "c0",
    "c1999",
    "d3000",
    "d5000",
    "i20-uint64",
];

async fn reads_everything_within_the_limits(site: Site, peer: Peer) {
    let way = peer.place().way("modbus-tcp");
    let devices = Devices::none().with("press", &way, "max-gap = 2000", &TAGS).unwrap();
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK).await.unwrap();
    field.judge(CATCH_UP).await.unwrap();
    let requests = peer.requests().unwrap();
    let most = |function| {
        let counts = requests.iter().filter(|one| one.function == function).map(|one| one.count);
        counts.max()
    };
    assert_eq!((most(1), most(2)), (Some(2000), most(2).filter(|most| *most <= 2000)));
    assert_eq!((most(3), most(4)), (Some(125), Some(15 + 4 + 3 - 4)));
    // 126 registers are two requests, 2001 inputs as well.
    for (function, first, last) in [(3, 2000, 2125), (2, 3000, 5000)] {
        for edge in [first, last] {
            let asked = requests.iter().any(|one| {
                one.function == function && (one.start..one.start + one.count).contains(&edge)
            });
            assert!(asked, "function {function} at {edge}");
        }
    }
    assert!(requests.iter().all(|one| (1..=4).contains(&one.function)), "it only ever reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_is_read_from_libmodbus_in_blocks_up_to_the_limits() {
    let site = Site::new().unwrap();
    let peer = Peer::libmodbus_tcp(&site, "libmodbus").await.unwrap();
    reads_everything_within_the_limits(site, peer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_is_read_from_pymodbus_in_blocks_up_to_the_limits() {
    let site = Site::new().unwrap();
    let peer = Peer::pymodbus(&site, "pymodbus", &[]).await.unwrap();
    reads_everything_within_the_limits(site, peer).await;
}

/// A device for each exception, each with a tag that is refused with it; and a healthy one beside.
async fn names_every_exception(site: Site, peer: Peer, refused: u16) {
    let codes: [u16; 8] = [1, 2, 3, 4, 5, 6, 0x0A, 0x0B];
    let way = peer.place().way("modbus-tcp");
    let mut devices = Devices::none().with("healthy", &way, PATIENT, &["h1", "h2", "c9"]).unwrap();
    for code in codes {
        let tag = format!("h{}", refused + code);
        // Each a unit of its own: 0x0A and 0x0B are said of a whole unit.
        let unit = format!("unit = {}\n{PATIENT}", 10 + code);
        devices = devices.with(&format!("e{code}"), &way, &unit, &[&tag]).unwrap();
    }
    let mut field = Field::running(site, &devices).await.unwrap();
    for code in codes {
        let device = format!("e{code}");
        field.none_good(&device, BACK).await.unwrap();
        let shown = tidegate_hil_tests::wait::until(BACK, "the status says why", || async {
            let shown = field.device(&device)?;
            Ok(shown["why"].is_string().then_some(shown))
        })
        .await
        .unwrap();
        let why = shown["why"].as_str().unwrap();
        let named = why.contains(&format!("exception {code}"))
            || why.contains(&format!("exception 0x{code:02X}"));
        assert!(named, "exception {code}: {shown:#}");
        assert_ne!(shown["state"], "live", "exception {code}: {shown:#}");
    }
    peer.hears(200).await.unwrap();
    field.devices_good(&["healthy"], BACK).await.unwrap();
    let judgement = field.judge(CATCH_UP).await.unwrap();
    for code in codes {
        let reasons = judgement.reasons(&format!("e{code}"));
        let right = match code {
            0x0A => "not-connected",
            0x0B => "timeout",
            _ => "refused",
        };
        assert!(reasons.iter().any(|reason| reason == right), "exception {code}: {reasons:?}");
    }
    let healthy = judgement.good("PlantA/healthy/h1");
    assert!(healthy > 20, "{healthy} readings of the healthy device");
    let alarms = &field.gateway.status().unwrap()["alarms"];
    assert!(alarms == &Value::Array(Vec::new()), "{alarms:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_exception_of_libmodbus_is_named_and_costs_its_own_tag_alone() {
    let site = Site::new().unwrap();
    let peer = Peer::libmodbus_tcp(&site, "libmodbus").await.unwrap();
    names_every_exception(site, peer, 60_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_exception_of_pymodbus_is_named_and_costs_its_own_tag_alone() {
    let site = Site::new().unwrap();
    let units = ["--units", "1,11,12,13,14,15,16,20,21"];
    let peer = Peer::pymodbus(&site, "pymodbus", &units).await.unwrap();
    names_every_exception(site, peer, 9_000).await;
}
