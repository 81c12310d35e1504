//! U9: gaps, what history fills, and hands off what can be written or called.

use serde_json::json;
use tidegate_hil_tests::field::{Field, Judgement, Site, base_path};
use tidegate_hil_tests::opcua::devices::{OpcUaDevice, counter_paths};
use tidegate_hil_tests::opcua::{Make, OpcUaServer, truth};

use super::{BACK, complete, note};

const COUNTERS: std::ops::Range<u64> = 0..5;

/// Counters without history, and two with it.
fn press(server: &OpcUaServer, keys: &str) -> OpcUaDevice {
    let mut device = OpcUaDevice::at("press", &server.url(), keys).counters(COUNTERS);
    for number in [80_000, 80_001] {
        device = device.tag(&format!("n{number}"), &format!("h{number}"), "queue-size = 20");
    }
    device
}

fn paths(field: &Field) -> Vec<String> {
    field.paths().to_vec()
}

/// Writes between the first and the last that the record has of a tag and that it does not have.
fn not_held(judgement: &Judgement, server: &OpcUaServer, path: &str) -> usize {
    let ticks = server.ticks().unwrap();
    truth::holes(path, "press", &judgement.record, &ticks, &[], 0).len()
}

/// Notifications that are lost on their way but kept at the server are asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn notifications_lost_on_their_way_are_asked_for_again() {
    let site = Site::new().unwrap();
    let server = OpcUaServer::start(&site, Make::Asyncua, "server", &[]).await.unwrap();
    let mut field = Field::running(site, &press(&server, "").alone()).await.unwrap();
    field.all_good(BACK).await.unwrap();
    for _ in 0..3 {
        server.tell(&json!({"do": "swallow", "count": 2})).unwrap();
        field.all_good(BACK).await.unwrap();
    }
    let paths = paths(&field);
    let judgement = complete(&mut field, &server, &paths).await.unwrap();
    let swallowed = server.events("swallowed").unwrap().len();
    assert!(swallowed >= 3, "{swallowed}");
    let names = server.events("service").unwrap();
    let again = names.iter().filter(|one| one["name"] == "Republish").count();
    note(&format!("{swallowed} lost, {again} asked for again, named: {:#?}", judgement.losses));
    assert!(again > 0);
}

/// What the server does not keep is named, and filled where there is history.
#[tokio::test(flavor = "multi_thread")]
async fn notifications_that_nobody_has_any_more_are_named_and_history_fills_them() {
    let site = Site::new().unwrap();
    let server = OpcUaServer::start(&site, Make::Asyncua, "server", &[]).await.unwrap();
    let mut field = Field::running(site, &press(&server, "").alone()).await.unwrap();
    field.all_good(BACK).await.unwrap();
    // More than one page of the history, at ten a second.
    server.tell(&json!({"do": "swallow", "count": 50, "forget": true})).unwrap();
    field.all_good(BACK).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(8)).await;
    field.all_good(BACK).await.unwrap();
    let paths = paths(&field);
    let judgement = complete(&mut field, &server, &paths).await.unwrap();

    let without = not_held(&judgement, &server, &counter_paths("press", COUNTERS)[0]);
    let with = not_held(&judgement, &server, &format!("{}/n80000", base_path("press")));
    note(&format!("missing without history {without}, with it {with}; {:#?}", judgement.losses));
    assert!(without > 0, "nothing was lost: the scenario shows nothing");
    assert_eq!(with, 0, "history has it all");
    let reads = server.events("service").unwrap();
    assert!(reads.iter().filter(|one| one["name"] == "HistoryRead").count() > 1);
    server.was_only_read().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_left_alone_where_it_is_not_wanted() {
    let site = Site::new().unwrap();
    let server = OpcUaServer::start(&site, Make::Asyncua, "server", &[]).await.unwrap();
    let mut field =
        Field::running(site, &press(&server, "backfill = false").alone()).await.unwrap();
    field.all_good(BACK).await.unwrap();
    server.tell(&json!({"do": "swallow", "count": 5, "forget": true})).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    field.all_good(BACK).await.unwrap();
    let paths = paths(&field);
    complete(&mut field, &server, &paths).await.unwrap();

    let reads = server.events("service").unwrap();
    assert_eq!(reads.iter().filter(|one| one["name"] == "HistoryRead").count(), 0);
}

/// A node that can be written, and a method beside it: the gateway reads the one and leaves both be.
async fn hands_off(make: Make) {
    let site = Site::new().unwrap();
    let server = OpcUaServer::start(&site, make, "server", &["--items", "3"]).await.unwrap();
    let device = OpcUaDevice::at("press", &server.url(), "").counters(0..3);
    let device = device
        .tag("Setpoint", "Setpoint", "")
        .tag("n900001", "Reset", "")
        .tag("n900002", "Plant", "");
    let mut field = Field::without_hub(site, &device.alone()).unwrap();
    field.exceptions.insert(format!("{}/Setpoint", base_path("press")), json!(1.0).into());
    field.start().await.unwrap();
    field
        .good(BACK, |path| ["/n0", "/n1", "/n2"].iter().any(|end| path.ends_with(end)))
        .await
        .unwrap();
    let tags = field.tags().unwrap();
    for (name, quality) in [("Setpoint", "good"), ("n900001", "bad"), ("n900002", "bad")] {
        let tag = tags.iter().find(|one| one.path.ends_with(name)).unwrap();
        assert_eq!(tag.quality, quality, "{tag:?}");
    }
    field.judge_shown().unwrap();
    server.was_only_read().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asyncua_is_never_written_to_and_what_has_no_value_is_bad() {
    hands_off(Make::Asyncua).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_opcua_is_never_written_to_and_what_has_no_value_is_bad() {
    hands_off(Make::NodeOpcua).await;
}
