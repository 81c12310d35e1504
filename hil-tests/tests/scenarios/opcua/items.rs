//! U8: sampling, queues, deadbands, triggers and polling.

use serde_json::json;
use tidegate_hil_tests::field::truth::Must;
use tidegate_hil_tests::field::{Field, Site, base_path, lines_with};
use tidegate_hil_tests::opcua::devices::{OpcUaDevice, counter_paths};
use tidegate_hil_tests::opcua::{Make, OpcUaServer};
use tidegate_hil_tests::wait;

use super::{BACK, complete, note, state};

/// The server is told the deadband, and sends what leaves it alone.
async fn server_deadband(make: Make) {
    let site = Site::new().unwrap();
    let server = OpcUaServer::start(&site, make, "server", &["--items", "3"]).await.unwrap();
    let device = OpcUaDevice::at("press", &server.url(), "").counters(0..3);
    let device = device.tag("a0", "a0", "server-deadband = 5.0");
    let mut field = Field::without_hub(site, &device.alone()).unwrap();
    let path = format!("{}/a0", base_path("press"));
    let allowed = [50.0, 60.0, 70.0].map(|value| json!(value)).to_vec();
    field.exceptions.insert(path.clone(), Must::BeOneOf(allowed));
    field.start().await.unwrap();
    let reads = |value: f64| {
        let (field, path) = (&field, &path);
        async move {
            wait::until(BACK, &format!("a0 is {value}"), || async {
                let tags = field.tags()?;
                Ok(tags
                    .iter()
                    .any(|one| one.path == *path && one.value == json!(value))
                    .then_some(()))
            })
            .await
            .unwrap();
        }
    };
    reads(50.0).await;
    for (within, beyond) in [(52.0, 60.0), (57.0, 70.0)] {
        server.put("a0", &json!(within), "Good").unwrap();
        // Counters that came later are there, so the server had its chance.
        field.good(BACK, |path| path.ends_with("/n0")).await.unwrap();
        server.put("a0", &json!(beyond), "Good").unwrap();
        reads(beyond).await;
    }
    field.judge_shown().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadband_is_kept_by_asyncua() {
    server_deadband(Make::Asyncua).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadband_is_kept_by_node_opcua() {
    server_deadband(Make::NodeOpcua).await;
}

/// 5 % of the range of 200 is 10.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadband_in_percent_of_the_range_is_kept_by_node_opcua() {
    let site = Site::new().unwrap();
    let server =
        OpcUaServer::start(&site, Make::NodeOpcua, "server", &["--items", "3"]).await.unwrap();
    let device = OpcUaDevice::at("press", &server.url(), "").counters(0..3);
    let device = device.tag("a0", "a0", "server-deadband-percent = 5.0");
    let mut field = Field::without_hub(site, &device.alone()).unwrap();
    let path = format!("{}/a0", base_path("press"));
    field.exceptions.insert(path.clone(), Must::BeOneOf(vec![json!(50.0), json!(70.0)]));
    field.start().await.unwrap();
    field.good(BACK, |path| path.ends_with("/n0")).await.unwrap();
    server.put("a0", &json!(57.0), "Good").unwrap();
    field.good(BACK, |path| path.ends_with("/n0")).await.unwrap();
    server.put("a0", &json!(70.0), "Good").unwrap();
    wait::until(BACK, "a0 is 70", || async {
        let tags = field.tags()?;
        Ok(tags.iter().any(|one| one.path == path && one.value == json!(70.0)).then_some(()))
    })
    .await
    .unwrap();
    field.judge_shown().unwrap();
}

/// More values than the queue holds: the server says so in the status of the next one, and the record
/// names it.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_overflows_is_named_for_its_tag() {
    let site = Site::new().unwrap();
    let server =
        OpcUaServer::start(&site, Make::Asyncua, "server", &["--items", "3"]).await.unwrap();
    let device = OpcUaDevice::at("press", &server.url(), "publish-every-ms = 1000").counters(0..0);
    let device = device.tag("n0", "c0", "queue-size = 20").tag("a0", "a0", "queue-size = 3");
    let mut field = Field::running(site, &device.alone()).await.unwrap();
    field.exceptions.insert(format!("{}/a0", base_path("press")), Must::Anything);
    field.good(BACK, |path| path.ends_with("/n0")).await.unwrap();
    let values: Vec<f64> = (0..40).map(f64::from).collect();
    server.tell(&json!({"do": "burst", "node": "a0", "values": values})).unwrap();
    field.good(BACK, |path| path.ends_with("/n0")).await.unwrap();
    let judgement = complete(&mut field, &server, &counter_paths("press", 0..1)).await.unwrap();
    note(&format!("named: {:#?}", judgement.losses));
    let named = judgement.losses.iter().filter(|loss| loss.subject.ends_with("a0")).count();
    assert!(named > 0, "the overflow is not named");
}

/// Asked for faster than the server samples, or more than it queues: what it does is logged.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_makes_of_intervals_and_queues_is_logged() {
    let site = Site::new().unwrap();
    let options = ["--items", "3", "--min-sampling", "250", "--max-queue", "5"];
    let server = OpcUaServer::start(&site, Make::Asyncua, "server", &options).await.unwrap();
    let device = OpcUaDevice::at("press", &server.url(), "");
    let device = device.tag("n0", "c0", "queue-size = 50").tag("n1", "c1", "queue-size = 50");
    let mut field = Field::without_hub(site, &device.alone()).unwrap();
    field.start().await.unwrap();
    field.all_good(BACK).await.unwrap();
    let log = field.gateway.log().unwrap();
    assert!(lines_with(&log, &["250"]) > 0, "the sampling interval is not in the log: {log}");
    let items = server.events("items").unwrap();
    assert_eq!(items[0]["sampling"], json!([100.0]), "{items:#?}");
    assert_eq!(items[0]["queue"], json!([50]), "{items:#?}");
    field.judge_shown().unwrap();
}

/// What each tag asks for reaches the server.
#[tokio::test(flavor = "multi_thread")]
async fn queues_discarding_triggers_and_intervals_are_asked_for_as_configured() {
    let site = Site::new().unwrap();
    let server =
        OpcUaServer::start(&site, Make::Asyncua, "server", &["--items", "9"]).await.unwrap();
    let device = OpcUaDevice::at("press", &server.url(), "")
        .tag("n0", "c0", "discard = \"newest\"")
        .tag("n1", "c1", "trigger = \"status\"")
        .tag("n2", "c2", "trigger = \"status-value-timestamp\"")
        .tag("n3", "c3", "poll-every-ms = 300");
    let mut field = Field::without_hub(site, &device.alone()).unwrap();
    field.start().await.unwrap();
    let changing = |path: &str| !path.ends_with("/n1");
    field.good(BACK, changing).await.unwrap();
    let items = server.events("items").unwrap();
    let all = |key: &str| -> String {
        items.iter().map(|one| one[key].to_string()).collect::<Vec<_>>().join(" ")
    };
    assert!(all("discard_oldest").contains("false") && all("discard_oldest").contains("true"));
    assert!(all("sampling").contains("300") && all("sampling").contains("100"), "{items:#?}");
    assert!(all("filters").contains("StatusValueTimestamp"), "{items:#?}");
    field.judge_shown().unwrap();
}

/// A server without subscriptions is polled.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_subscriptions_is_polled() {
    let site = Site::new().unwrap();
    let options = ["--items", "250", "--no-subscriptions", "--limit", "100"];
    let server = OpcUaServer::start(&site, Make::Asyncua, "server", &options).await.unwrap();
    let keys = "collect = \"poll\"";
    let devices = OpcUaDevice::at("press", &server.url(), keys).counters(0..250).alone();
    let devices = OpcUaDevice::at("subscribes", &server.url(), "").counters(0..2).among(devices);
    let mut field = Field::without_hub(site, &devices).unwrap();
    field.start().await.unwrap();
    field.devices_good(&["press"], BACK).await.unwrap();
    let shown = wait::until(BACK, "the other says why it has nothing", || async {
        let shown = field.device("subscribes")?;
        Ok(shown["why"].is_string().then_some(shown))
    })
    .await
    .unwrap();
    note(&format!("{}", shown["why"]));
    assert_ne!(shown["state"], "live");
    assert!(server.events("too-many").unwrap().is_empty());
    let before = server.events("read").unwrap().len();
    field.devices_good(&["press"], BACK).await.unwrap();
    assert!(server.events("read").unwrap().len() > before);
    field.judge_shown().unwrap();
    server.was_only_read().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polled_node_opcua_is_read_and_comes_back() {
    let site = Site::new().unwrap();
    let mut server = OpcUaServer::start(&site, Make::NodeOpcua, "server", &[]).await.unwrap();
    let keys = "collect = \"poll\"";
    let devices = OpcUaDevice::at("press", &server.url(), keys).counters(0..20).alone();
    let mut field = Field::without_hub(site, &devices).unwrap();
    field.start().await.unwrap();
    field.all_good(BACK).await.unwrap();
    server.kill9().unwrap();
    field.none_good("press", BACK).await.unwrap();
    server.start_again(field.site().unwrap(), &[]).await.unwrap();
    field.all_good(BACK).await.unwrap();
    state(&field, "press", "live").await.unwrap();
    field.judge_shown().unwrap();
}
