//! U3: servers that die and come back, connections that are cut, and links that go silent. Data
//! resumes, everything is bad meanwhile, and what is missing is named.

use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_hil_tests::field::{Devices, Field, Site};
use tidegate_hil_tests::opcua::devices::{OpcUaDevice, counter_paths};
use tidegate_hil_tests::opcua::{Make, OpcUaServer, url};
use tidegate_hil_tests::wan::Wan;
use tidegate_hil_tests::{is_long, wait};

use super::{BACK, complete, note};
use crate::CATCH_UP;

const TAGS: std::ops::Range<u64> = 0..20;
const QUEUE: &str = "queue-size = 20";

/// A device of counters whose queues hold two seconds.
fn press(url: &str) -> Devices {
    let mut device = OpcUaDevice::at("press", url, "");
    for number in TAGS {
        device = device.tag(&format!("n{number}"), &format!("c{number}"), QUEUE);
    }
    device.alone()
}

/// How long until every tag is good again, from then on.
async fn back_after(field: &Field, since: Instant, what: &str) -> Duration {
    field.all_good(BACK).await.unwrap();
    let took = since.elapsed();
    note(&format!("{what}: good again after {took:?}"));
    took
}

async fn restarted(make: Make) {
    let site = Site::new().unwrap();
    let mut server = OpcUaServer::start(&site, make, "server", &[]).await.unwrap();
    let mut field = Field::running(site, &press(&server.url())).await.unwrap();
    field.all_good(BACK).await.unwrap();
    for round in 0..2 {
        server.kill9().unwrap();
        field.none_good("press", BACK).await.unwrap();
        let site = field.site().unwrap();
        let open = server.start_again(site, &[]).await.unwrap();
        let took = back_after(&field, open, &format!("restart {round}")).await;
        assert!(took < Duration::from_secs(10), "{took:?} from the port being open");
    }
    let judgement = complete(&mut field, &server, &counter_paths("press", TAGS)).await.unwrap();

    let silent = judgement.losses.iter().filter(|loss| loss.cause == "device-silent").count();
    assert!(silent > 0, "its silence is named: {:#?}", judgement.losses);
    server.was_only_read().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn asyncua_is_killed_and_comes_back_and_what_is_missing_is_named() {
    restarted(Make::Asyncua).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_opcua_is_killed_and_comes_back() {
    let site = Site::new().unwrap();
    let mut server = OpcUaServer::start(&site, Make::NodeOpcua, "server", &[]).await.unwrap();
    let mut field = Field::without_hub(site, &press(&server.url())).unwrap();
    field.start().await.unwrap();
    field.all_good(BACK).await.unwrap();
    server.kill9().unwrap();
    field.none_good("press", BACK).await.unwrap();
    let open = server.start_again(field.site().unwrap(), &[]).await.unwrap();
    let took = back_after(&field, open, "restart").await;
    assert!(took < Duration::from_secs(10), "{took:?} from the port being open");
    field.judge_shown().unwrap();
    server.was_only_read().unwrap();
}

/// The session and its subscriptions survive at the server: nothing is lost at all, because what was
/// sent into the cut is asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_reset_lose_nothing_that_is_not_named() {
    let site = Site::new().unwrap();
    let server = OpcUaServer::start(&site, Make::Asyncua, "server", &[]).await.unwrap();
    let mut field = Field::running(site, &press(&server.url())).await.unwrap();
    field.all_good(BACK).await.unwrap();
    for _ in 0..4 {
        let cut = Instant::now();
        server.tell(&json!({"do": "abort"})).unwrap();
        back_after(&field, cut, "reset").await;
    }
    let judgement = complete(&mut field, &server, &counter_paths("press", TAGS)).await.unwrap();

    note(&format!("named: {:#?}", judgement.losses));
}

/// Bad within seconds, and good within 15 s of the end, whatever was under way.
async fn black_hole(make: Make, lasts: Duration) {
    let site = Site::new().unwrap();
    let server = OpcUaServer::start(&site, make, "server", &[]).await.unwrap();
    let mut way = Wan::open_to(server.address()).await.unwrap();
    let devices = press(&url(way.address()));
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK).await.unwrap();
    way.cut_black_hole().await.unwrap();
    let cut = Instant::now();
    field.none_good("press", BACK).await.unwrap();
    note(&format!("bad after {:?}", cut.elapsed()));
    assert!(cut.elapsed() < Duration::from_secs(11), "bad only after {:?}", cut.elapsed());
    tokio::time::sleep(lasts.saturating_sub(cut.elapsed())).await;
    way.restore().await.unwrap();
    let took = back_after(&field, Instant::now(), "black hole").await;
    assert!(took < Duration::from_secs(15), "{took:?} from its end");
    let paths = counter_paths("press", TAGS);
    let judgement = match make {
        Make::Asyncua => complete(&mut field, &server, &paths).await.unwrap(),
        Make::NodeOpcua | Make::Hostile => field.judge(CATCH_UP).await.unwrap(),
    };
    note(&format!("named: {:#?}", judgement.losses));
    server.was_only_read().unwrap();
}

/// 120 s in the long run.
fn hole() -> Duration {
    Duration::from_secs(if is_long() { 120 } else { 12 })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_asyncua_that_goes_silent_is_noticed_and_what_is_missing_is_named() {
    black_hole(Make::Asyncua, hole()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_node_opcua_that_goes_silent_is_noticed() {
    black_hole(Make::NodeOpcua, hole()).await;
}

/// A server that is away when the gateway starts, and one that forgets its sessions or subscriptions.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgets_sessions_and_subscriptions_is_told_of_them_again() {
    let site = Site::new().unwrap();
    let server = OpcUaServer::start(&site, Make::Asyncua, "server", &[]).await.unwrap();
    let mut way = Wan::to_nowhere().await.unwrap();
    let mut field = Field::running(site, &press(&url(way.address()))).await.unwrap();
    field.none_good("press", wait::SOON).await.unwrap();
    way.lead_to(server.address()).await.unwrap();
    way.restore().await.unwrap();
    back_after(&field, Instant::now(), "first connection").await;
    for what in ["subscriptions", "sessions", "subscriptions"] {
        let forgotten = Instant::now();
        server.tell(&json!({"do": "forget", "what": what})).unwrap();
        back_after(&field, forgotten, what).await;
        let state = server.tell(&json!({"do": "state"})).unwrap();
        assert_eq!(state["items"], TAGS.end, "{state}");
    }
    let judgement = complete(&mut field, &server, &counter_paths("press", TAGS)).await.unwrap();

    note(&format!("named: {:#?}", judgement.losses));
}
