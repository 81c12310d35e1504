//! U4: servers that look well and say nothing.

use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_hil_tests::field::{Field, Site};
use tidegate_hil_tests::opcua::devices::{OpcUaDevice, counter_paths};
use tidegate_hil_tests::opcua::{Make, OpcUaServer, url};
use tidegate_hil_tests::wait;
use tidegate_hil_tests::wan::Wan;

use super::{BACK, complete, note, state};

/// The session is gone with its connection, and another one takes its subscriptions over.
async fn transferred(more: &[&str]) {
    let site = Site::new().unwrap();
    let mut options = vec!["--sessions-end-with-connections"];
    options.extend(more);
    let server = OpcUaServer::start(&site, Make::Asyncua, "server", &options).await.unwrap();
    let mut way = Wan::open_to(server.address()).await.unwrap();
    let mut device = OpcUaDevice::at("press", &url(way.address()), "");
    for number in 0..5 {
        device = device.tag(&format!("n{number}"), &format!("c{number}"), "queue-size = 100");
    }
    let mut field = Field::running(site, &device.alone()).await.unwrap();
    field.all_good(BACK).await.unwrap();
    for _ in 0..2 {
        way.cut_closed().await.unwrap();
        field.none_good("press", BACK).await.unwrap();
        way.restore().await.unwrap();
        let back = Instant::now();
        field.all_good(BACK).await.unwrap();
        note(&format!("good again after {:?}", back.elapsed()));
    }
    assert!(server.events("transfer").unwrap().len() >= 2, "nothing was taken over");
    let judgement = complete(&mut field, &server, &counter_paths("press", 0..5)).await.unwrap();
    note(&format!("named: {:#?}", judgement.losses));
}

/// asyncua by itself answers a transfer with good, and publishes no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_silent_after_a_transfer_is_made_anew() {
    transferred(&["--silent-after-transfer"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_taken_over_by_the_next_session() {
    transferred(&[]).await;
}

async fn frozen(make: Make) {
    let site = Site::new().unwrap();
    let server = OpcUaServer::start(&site, make, "server", &[]).await.unwrap();
    let devices = OpcUaDevice::at("press", &server.url(), "").counters(0..5).alone();
    let mut field = Field::without_hub(site, &devices).unwrap();
    field.start().await.unwrap();
    field.all_good(BACK).await.unwrap();
    server.freeze().unwrap();
    let frozen = Instant::now();
    field.none_good("press", BACK).await.unwrap();
    note(&format!("bad after {:?}", frozen.elapsed()));
    assert!(frozen.elapsed() < Duration::from_secs(11));
    let shown = field.device("press").unwrap();
    assert_ne!(shown["state"], "live", "{shown:#}");
    server.thaw().unwrap();
    let thawed = Instant::now();
    field.all_good(BACK).await.unwrap();
    note(&format!("good {:?} after it went on", thawed.elapsed()));
    field.judge_shown().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asyncua_that_hangs_is_bad_and_comes_back() {
    frozen(Make::Asyncua).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_opcua_that_hangs_is_bad_and_comes_back() {
    frozen(Make::NodeOpcua).await;
}

/// The connection stands and requests are read, and no answer comes: also at the very first.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_accepts_and_goes_silent_holds_nobody_else_up() {
    let site = Site::new().unwrap();
    let mute = OpcUaServer::start(&site, Make::Asyncua, "mute", &[]).await.unwrap();
    let well = OpcUaServer::start(&site, Make::Asyncua, "well", &[]).await.unwrap();
    mute.tell(&json!({"do": "silent", "on": true})).unwrap();
    let devices = OpcUaDevice::at("mute", &mute.url(), "").counters(0..5).alone();
    let devices = OpcUaDevice::at("well", &well.url(), "").counters(0..5).among(devices);
    let mut field = Field::without_hub(site, &devices).unwrap();
    field.start().await.unwrap();
    field.devices_good(&["well"], BACK).await.unwrap();
    wait::until(BACK, "the silence is told", || async {
        let shown = field.device("mute")?;
        Ok(shown["why"].is_string().then(|| note(&format!("{}", shown["why"]))))
    })
    .await
    .unwrap();
    field.none_good("mute", wait::SOON).await.unwrap();
    mute.tell(&json!({"do": "silent", "on": false})).unwrap();
    field.all_good(BACK).await.unwrap();
    state(&field, "mute", "live").await.unwrap();
    field.judge_shown().unwrap();
}
