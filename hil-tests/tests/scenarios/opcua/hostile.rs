//! A server that wants to harm, in one way after the other, beside a healthy one.

use std::time::Duration;

use serde_json::json;
use tidegate_hil_tests::field::{Field, Site};
use tidegate_hil_tests::opcua::devices::OpcUaDevice;
use tidegate_hil_tests::opcua::{Make, OpcUaServer};
use tidegate_hil_tests::{outage, vitals};

use super::{BACK, state};

/// How long it does each of them.
const LASTS: Duration = Duration::from_secs(2);

/// How much memory all of it may cost. What an endless tree costs is bounded, but not small.
const MEMORY: u64 = 48 << 20;

/// What it does, and where. Absent is what `plc/hostile_opcua.py` can do beyond that and what
/// lasts a minute by design: an endpoint list that is empty is a mistake of configuration.
const HOSTILE: [(&str, &str); 18] = [
    ("silent", "accept"),
    ("reset", "accept"),
    ("garbage", "hello"),
    ("tiny-buffers", "hello"),
    ("silent", "activate"),
    ("service-fault", "create-session"),
    ("oversize-chunk", "read"),
    ("endless-chunks", "read"),
    ("trickle", "read"),
    ("tiny-chunk", "read"),
    ("wrong-request", "read"),
    ("wrong-channel", "read"),
    ("huge-array", "endpoints"),
    ("huge-string", "read"),
    ("many-results", "read"),
    ("wrong-sequence", "publish"),
    ("huge-matrix", "publish"),
    ("strangers", "publish"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_server_costs_a_healthy_one_nothing_and_the_gateway_little() {
    let site = Site::new().unwrap();
    let healthy =
        OpcUaServer::start(&site, Make::Asyncua, "healthy", &["--items", "10"]).await.unwrap();
    let hostile = OpcUaServer::start(&site, Make::Hostile, "hostile", &[]).await.unwrap();
    let devices = OpcUaDevice::at("healthy", &healthy.url(), "").counters(0..10).alone();
    let node = "nsu=urn:tidegate:hostile;s=v3";
    let devices =
        OpcUaDevice::at("hostile", &hostile.url(), "").tag_at("n", node, "").among(devices);
    let mut field = Field::without_hub(site, &devices).unwrap();
    field.start().await.unwrap();
    field.devices_good(&["healthy", "hostile"], BACK).await.unwrap();
    let pid = field.gateway.pid().unwrap();
    let (before, _) = vitals::memory(pid).unwrap();
    let lasts = outage(LASTS);
    for (name, at) in HOSTILE {
        let used = vitals::cpu_time(pid).unwrap();
        hostile.tell(&json!({ "do": "fault", "name": name, "at": at })).unwrap();
        hostile.tell(&json!({ "do": "reset" })).unwrap();
        tokio::time::sleep(lasts).await;
        let used = vitals::cpu_time(pid).unwrap() - used;
        eprintln!("{name} at {at}: {used:?} of {lasts:?}");
        assert!(used < lasts, "{name} at {at}: {used:?} of {lasts:?}");
        assert_eq!(field.device("healthy").unwrap()["state"], "live", "{name} at {at}");
        hostile.tell(&json!({ "do": "fault", "name": "none" })).unwrap();
        hostile.tell(&json!({ "do": "reset" })).unwrap();
        state(&field, "hostile", "live").await.unwrap();
    }
    field.devices_good(&["healthy", "hostile"], BACK).await.unwrap();
    let (_, most) = vitals::memory(pid).unwrap();
    eprintln!("{} KiB more", most.saturating_sub(before) / 1024);
    assert!(most.saturating_sub(before) < MEMORY, "{} KiB more", (most - before) / 1024);
    healthy.was_only_read().unwrap();
}
