//! U6: servers that take a hundred operations at a time, ten thousand items, and nodes that are not
//! there.

use std::fmt::Write as _;
use std::time::Instant;

use tidegate_hil_tests::field::{Field, Site, base_path};
use tidegate_hil_tests::opcua::devices::OpcUaDevice;
use tidegate_hil_tests::opcua::{Make, NAMESPACE, OpcUaServer};
use tidegate_hil_tests::wait;

use super::{BACK, note, state};

async fn a_hundred_at_a_time(make: Make) {
    let site = Site::new().unwrap();
    let options = ["--items", "1000", "--limit", "100", "--interval", "500"];
    let server = OpcUaServer::start(&site, make, "server", &options).await.unwrap();
    let keys = "poll-every-ms = 500";
    let devices = OpcUaDevice::at("press", &server.url(), keys).counters(0..1000).alone();
    let mut field = Field::without_hub(site, &devices).unwrap();
    field.start().await.unwrap();
    field.all_good(BACK).await.unwrap();
    field.judge_shown().unwrap();
    let refused = server.events("too-many").unwrap();
    assert!(refused.is_empty(), "it was asked for too much at once: {refused:#?}");
    let items = server.events("items").unwrap();
    let most = items.iter().filter_map(|one| one["count"].as_u64()).max();
    let all: u64 = items.iter().filter_map(|one| one["count"].as_u64()).sum();
    assert!(most <= Some(100) && all >= 1000, "{most:?} of {all}");
    server.was_only_read().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_items_of_an_asyncua_that_takes_a_hundred_at_a_time() {
    a_hundred_at_a_time(Make::Asyncua).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_items_of_a_node_opcua_that_takes_a_hundred_at_a_time() {
    a_hundred_at_a_time(Make::NodeOpcua).await;
}

/// One of them is not there: it is bad with its status, and every other one is live.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_items_of_node_opcua_are_live_but_for_the_one_that_is_not_there() {
    let site = Site::new().unwrap();
    let options = ["--items", "9999", "--interval", "1000"];
    let server = OpcUaServer::start(&site, Make::NodeOpcua, "server", &options).await.unwrap();
    // A list is read faster than tables, and is what a plant with so many tags has.
    let mut list = String::from("path,address\n");
    for number in 0..10_000 {
        writeln!(list, "n{number},nsu={NAMESPACE};s=c{number}").unwrap();
    }
    let file = site.path("tags.csv");
    std::fs::write(&file, list).unwrap();
    let keys = format!("poll-every-ms = 1000\ntag-list = {:?}", file.display().to_string());
    let devices = OpcUaDevice::at("press", &server.url(), &keys).alone();
    let mut field = Field::without_hub(site, &devices).unwrap();
    let begun = Instant::now();
    field.start().await.unwrap();
    let missing = format!("{}/n9999", base_path("press"));
    let tags = wait::until(BACK * 2, "9,999 tags are good", || async {
        let tags = field.tags()?;
        let good = tags.iter().filter(|one| one.is_good()).count();
        Ok((good >= 9999).then_some(tags))
    })
    .await
    .unwrap();
    note(&format!("all good after {:?}", begun.elapsed()));
    let bad: Vec<_> = tags.iter().filter(|one| !one.is_good()).collect();
    assert_eq!(bad.len(), 1, "{bad:?}");
    assert_eq!((&bad[0].path, bad[0].why.as_deref()), (&missing, Some("configuration")));
    let shown = state(&field, "press", "degraded").await.unwrap();
    note(&format!("{}", shown["why"]));
    assert!(shown["why"].as_str().unwrap().contains("n9999"), "{shown:#}");
    field.judge_shown().unwrap();
    server.was_only_read().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_there_yet_costs_its_own_tag_alone() {
    let site = Site::new().unwrap();
    let server = OpcUaServer::start(&site, Make::Asyncua, "server", &[]).await.unwrap();
    let device = OpcUaDevice::at("press", &server.url(), "").counters(0..3);
    let device = device
        .tag("n777", "c777", "")
        .tag_at("n778", "nsu=urn:tidegate:rig:nowhere;s=c778", "")
        .tag_at("n779", "/Objects/Plant/Lines/L1/Press9/Speed", "")
        .tag_at("n780", "/Objects/Plant/Twins/Twin", "");
    let mut field = Field::without_hub(site, &device.alone()).unwrap();
    field.start().await.unwrap();
    let good = |path: &str| ["n0", "n1", "n2"].iter().any(|name| path.ends_with(name));
    field.good(BACK, good).await.unwrap();
    state(&field, "press", "degraded").await.unwrap();
    for name in ["n777", "n778", "n779", "n780"] {
        let tags = field.tags().unwrap();
        let tag = tags.iter().find(|one| one.path.ends_with(name)).unwrap();
        assert_eq!(
            (tag.quality.as_str(), tag.why.as_deref()),
            ("bad", Some("configuration")),
            "{tag:?}"
        );
    }
    note(&format!("{}", field.device("press").unwrap()["why"]));
    field.judge_shown().unwrap();
}

/// A server with room for one session more than none: said as what it is, and taken when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_room_for_a_session_is_asked_again() {
    let site = Site::new().unwrap();
    let options = ["--max-sessions", "1"];
    let server = OpcUaServer::start(&site, Make::Asyncua, "server", &options).await.unwrap();
    let devices = OpcUaDevice::at("first", &server.url(), "").counters(0..2).alone();
    let devices = OpcUaDevice::at("second", &server.url(), "").counters(2..4).among(devices);
    let mut field = Field::without_hub(site, &devices).unwrap();
    field.start().await.unwrap();
    let (waits, has) = wait::until(BACK, "one of them is told that there is no room", || async {
        for (one, other) in [("first", "second"), ("second", "first")] {
            let shown = field.device(one)?;
            if shown["why"]
                .as_str()
                .is_some_and(|why| why.contains("TooManySessions") || why.contains("session"))
            {
                note(&format!("{}", shown["why"]));
                return Ok(Some((one, other)));
            }
        }
        Ok(None)
    })
    .await
    .unwrap();
    field.devices_good(&[has], BACK).await.unwrap();
    field.none_good(waits, BACK).await.unwrap();
    server.tell(&serde_json::json!({"do": "room", "sessions": 9})).unwrap();
    field.all_good(BACK * 2).await.unwrap();
    field.judge_shown().unwrap();
}
