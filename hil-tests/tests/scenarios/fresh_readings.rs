//! Read now: from servers of two other makes, beside what is collected from them, which stays as
//! it is.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_hil_tests::field::truth::{Must, bit};
use tidegate_hil_tests::field::{Devices, Field, Site, base_path};
use tidegate_hil_tests::opcua::devices::OpcUaDevice;
use tidegate_hil_tests::opcua::{Make, OpcUaServer};
use tidegate_hil_tests::peers::Peer;
use tidegate_hil_tests::{clock, wait};

use crate::CATCH_UP;

const TAGS: [&str; 6] = ["h5", "i6", "c7", "d8", "h100", "h305"];

/// What a local application is answered: the rows by the last level of their paths.
async fn read(client: &async_nats::Client, tags: &[String]) -> Vec<(String, Value)> {
    let question = json!({"tags": tags, "deadline_ms": 20_000}).to_string();
    let answer = client.request("tide.PlantA.gw-field.q.read", question.into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer.get("error"), None, "{answer:#}");
    let rows = answer["rows"].as_array().unwrap();
    let last = |row: &Value| {
        let path = row["path"].as_str().unwrap();
        path.rsplit_once('/').map_or(path, |(_, last)| last).to_owned()
    };
    rows.iter().map(|row| (last(row), row.clone())).collect()
}

fn all_of(device: &str) -> Vec<String> {
    vec![format!("{}/**", base_path(device))]
}

/// A Modbus device that is polled once a minute, and an OPC UA server whose items keep small changes
/// to themselves.
fn devices(peer: &Peer, server: &OpcUaServer, keys: &str) -> Devices {
    let way = peer.place().way("modbus-tcp");
    let devices = Devices::none().with("press", &way, keys, &TAGS).unwrap();
    let line = OpcUaDevice::at("line", &server.url(), "").counters(0..1);
    line.tag("a0", "a0", "server-deadband = 5.0").among(devices)
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_read_now_on_their_standing_connections_and_the_record_is_none_the_wiser() {
    let site = Site::new().unwrap();
    let mut peer = Peer::pymodbus(&site, "pymodbus", &["--hole", "300-310"]).await.unwrap();
    let options = ["--items", "3"];
    let mut server = OpcUaServer::start(&site, Make::Asyncua, "server", &options).await.unwrap();
    let keys = "timeout-ms = 1000\npoll-every-ms = 60000";
    let mut field = Field::running(site, &devices(&peer, &server, keys)).await.unwrap();
    let a0 = format!("{}/a0", base_path("line"));
    field.exceptions.insert(a0.clone(), Must::Be(json!(50.0)));
    wait::until(CATCH_UP, "every tag but the refused one was read", || async {
        let tags = field.tags()?;
        let of_devices = tags.iter().filter(|tag| field.paths().contains(&tag.path));
        let good = of_devices.filter(|tag| tag.is_good()).count();
        Ok((good == field.paths().len() - 1).then_some(()))
    })
    .await
    .unwrap();
    let leaf = format!("nats://{}", field.gateway.local_server().await.unwrap());
    let client = async_nats::connect(&leaf).await.unwrap();
    wait::until(wait::SOON, "questions are answered", || async {
        let status = client.request("tide.PlantA.gw-field.q.status", "".into()).await;
        Ok(status.is_ok().then_some(()))
    })
    .await
    .unwrap();

    // Modbus: far from any poll, in the blocks of the plan, and never two at a time.
    let before = peer.requests().unwrap().len();
    let asked = clock::now_ms().unwrap();
    let press = all_of("press");
    let askers = (0..4).map(|_| read(&client, &press));
    for rows in futures_util::future::join_all(askers).await {
        assert_eq!(rows.len(), TAGS.len());
        for (name, row) in rows {
            if name == "h305" {
                assert_eq!(row["fresh"], false, "{row}");
                assert_eq!(row["why"], "refused", "{row}");
                assert!(row["error"].as_str().unwrap().contains("exception 2"), "{row}");
                continue;
            }
            let number: u16 = name[1..].parse().unwrap();
            let is_bit = name.starts_with(['c', 'd']);
            let expected = if is_bit { json!(bit(number)) } else { json!(number) };
            assert_eq!(
                (&row["v"], &row["q"], &row["fresh"]),
                (&expected, &json!("good"), &json!(true))
            );
            let read_at = row["ts"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
            assert!(read_at.as_millisecond() >= asked, "{row} asked for at {asked}");
        }
    }
    let requests = peer.requests().unwrap();
    assert!((5..=20).contains(&(requests.len() - before)), "{}", requests.len() - before);
    assert!(requests.iter().all(|one| one.connections <= 1 && one.outstanding <= 1));
    assert!(requests[before..].iter().all(|one| !(300..=310).contains(&one.start)), "refused");

    // OPC UA: what the subscription keeps to itself is read, and shows nowhere else.
    server.put("a0", &json!(52.0), "Good").unwrap();
    let rows = read(&client, std::slice::from_ref(&a0)).await;
    assert_eq!((&rows[0].1["v"], &rows[0].1["fresh"]), (&json!(52.0), &json!(true)));
    server.put("a0", &json!(53.0), "BadSensorFailure").unwrap();
    // A bad status goes through the deadband; this one shall be seen by the reader alone.
    field.exceptions.insert(a0.clone(), Must::BeOneOf(vec![json!(50.0), Value::Null]));
    let rows = read(&client, std::slice::from_ref(&a0)).await;
    assert_eq!((&rows[0].1["q"], &rows[0].1["why"]), (&json!("bad"), &json!("sensor-failure")));
    let judgement = field.judge(CATCH_UP).await.unwrap();
    let polled = judgement.good(&format!("{}/h5", base_path("press")));
    assert!(polled <= 4, "{polled} values of a tag that is polled once a minute");

    // Another device of that name after a reload; the way to it is found again.
    let keys = "timeout-ms = 1000\npoll-every-ms = 50000";
    field.reload(&devices(&peer, &server, keys)).unwrap();
    wait::until(wait::SOON, "the press is read again", || async {
        let rows = read(&client, &press).await;
        let fresh = rows.iter().filter(|(_, row)| row["fresh"] == true).count();
        Ok((fresh == TAGS.len() - 1).then_some(()))
    })
    .await
    .unwrap();

    // Both die: everybody is told soon, device by device.
    peer.kill9().unwrap();
    server.kill9().unwrap();
    let since = std::time::Instant::now();
    let both = [press, vec![a0]].concat();
    wait::until(wait::SOON, "nothing is read any more", || async {
        let rows = read(&client, &both).await;
        assert!(rows.iter().all(|(_, row)| row["fresh"] == false || row["path"] == both[1]));
        Ok(rows
            .iter()
            .all(|(_, row)| row["fresh"] == false && row["error"].is_string())
            .then_some(()))
    })
    .await
    .unwrap();
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    field.gateway.must_be_running().unwrap();
}
