//! Local applications that publish: stored before they are answered, forwarded, and once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use async_nats::{Client, HeaderMap};
use serde_json::{Value, json};
use tidegate_hil_tests::gateway::Wishes;
use tidegate_hil_tests::wait::until;
use tidegate_hil_tests::{Rig, reader, tools};
use tokio::sync::watch;

use crate::CATCH_UP;

const VEHICLE: &str = r#"
[[device]]
name = "vehicle"
protocol = "nats"
subjects = ["fleet.prod.veh.VID-001.state.>"]
base-path = "Fleet/VID-001"
skip-parts = 4
id-field = "id"
time-field = "ts"
value-field = "data"
split = true
max-payload = "4 KiB"
answer-within-ms = 50
"#;

const POSITION: &str = "fleet.prod.veh.VID-001.state.position";
const COUNT: &str = "Fleet/VID-001/state/position/n";
/// How long an application waits before it tries again.
const PATIENCE: Duration = Duration::from_secs(3);

fn position(n: u64) -> Vec<u8> {
    let ts = "2026-11-30T07:00:00.5+01:00";
    json!({ "id": format!("m-{n}"), "ts": ts, "seq": n, "data": { "n": n, "lat": 48.1 } })
        .to_string()
        .into_bytes()
}

async fn ask(client: &Client, subject: &str, payload: &[u8]) -> Option<Value> {
    let asked = client.request(subject.to_owned(), payload.to_vec().into());
    let answer = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
    serde_json::from_slice(&answer.payload).ok()
}

async fn connect(server: &watch::Receiver<SocketAddr>) -> Client {
    loop {
        let address = *server.borrow();
        if let Ok(client) = async_nats::connect(format!("nats://{address}")).await {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An application that knows nothing of gateways: each message until it is told `ok`, in order.
async fn drive(
    server: watch::Receiver<SocketAddr>,
    upto: u64,
    done: watch::Sender<u64>,
) -> BTreeMap<u64, Value> {
    let mut client = connect(&server).await;
    let mut answers = BTreeMap::new();
    let mut n = 1;
    while n <= upto {
        match ask(&client, POSITION, &position(n)).await {
            Some(answer) if answer["ok"] == true => {
                answers.insert(n, answer);
                done.send_replace(n);
                n += 1;
            }
            _ => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                client = connect(&server).await;
            }
        }
    }
    answers
}

/// What the hub holds of the gateway, line by line.
async fn at_hub(rig: &Rig) -> anyhow::Result<Vec<Value>> {
    let url = rig.hub.reader_url()?;
    let mut command = rig.family().command(tools::gateway()?);
    command.args(["tap", "--server", &url, "--gateway", rig.gateway.id(), "--format", "jsonl"]);
    let output = tokio::process::Command::from(command).output().await?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn counts(lines: &[Value]) -> Vec<u64> {
    let of_position = lines.iter().filter(|line| line["path"] == COUNT);
    of_position
        .filter_map(|line| line["v"].as_f64())
        .map(|n| format!("{n}").parse().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vehicle_publishes_through_an_outage_and_a_killed_gateway_is_at_the_hub_once() {
    let wishes = Wishes { devices: Some(VEHICLE.to_owned()), ..Wishes::default() };
    let mut rig = Rig::running_with(wishes).await.unwrap();
    let (server, seen) = watch::channel(rig.gateway.local_server().await.unwrap());
    let upto = 120;
    let (done, mut reached) = watch::channel(0);
    let app = tokio::spawn(drive(seen, upto, done));
    reached.wait_for(|n| *n >= 20).await.unwrap();
    rig.wan.cut_closed().await.unwrap();
    for stop in [50, 80] {
        reached.wait_for(|n| *n >= stop).await.unwrap();
        // Some message is between its publisher and the disk.
        rig.gateway.kill9().unwrap();
        let before = rig.gateway.log().unwrap().matches("leaf listens").count();
        rig.gateway.start().await.unwrap();
        let leaves = || rig.gateway.log().map(|log| log.matches("leaf listens").count());
        until(CATCH_UP, "another leaf listens", || async {
            Ok((leaves()? > before).then_some(()))
        })
        .await
        .unwrap();
        server.send_replace(rig.gateway.local_server().await.unwrap());
    }
    let answers = app.await.unwrap();

    // Whoever repeats is told the same place, whether the daemon was killed since then or not.
    let client = connect(&server.subscribe()).await;
    for n in [1, 50, 51, 80, 81, upto] {
        let again = ask(&client, POSITION, &position(n)).await.unwrap();
        assert_eq!(again["duplicate"], true, "{n}: {again}");
        for key in ["epoch", "seq"] {
            assert_eq!(again[key], answers[&n][key], "{n}: {again}");
        }
    }
    what_is_no_position_is_kept_or_refused(&client).await;
    what_is_hostile_goes_nowhere(&client).await;

    rig.wan.restore().await.unwrap();
    let lines = until(CATCH_UP, "the hub holds all messages", || async {
        let lines = at_hub(&rig).await?;
        let is_last = |line: &Value| line["path"] == "Fleet/VID-001/state/last";
        Ok(lines.iter().any(is_last).then_some(lines))
    })
    .await
    .unwrap();
    assert_eq!(counts(&lines), (1..=upto).collect::<Vec<_>>());
    let of = |path: &str| {
        let path = format!("Fleet/VID-001/state/{path}");
        lines.iter().filter(move |line| line["path"] == path.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(of("by-header").len(), 1);
    assert_eq!(of("raw")[0]["v"], "3q2+7w==", "{:?}", of("raw"));
    assert_eq!(of("unasked").len(), 3);
    assert!(of("huge").is_empty());
    // The place that was answered is the identifier's, beside its values.
    let ids = lines.iter().filter(|line| line["path"] == "Fleet/VID-001/_ids");
    let places: BTreeMap<_, _> =
        ids.map(|line| (line["v"].to_string(), line["seq"].clone())).collect();
    for (n, answer) in &answers {
        assert_eq!(places[&format!("\"m-{n}\"")], answer["seq"], "{n}");
    }
    let url = rig.hub.reader_url().unwrap();
    let claim = reader::prove(rig.family(), &url, rig.gateway.id()).await.unwrap();
    assert!(claim.is_balanced() && claim.exit_ok, "{claim:?}");
}

/// Bytes, a header's identifier, a message without a reply, and one that is too large.
async fn what_is_no_position_is_kept_or_refused(client: &Client) {
    let to = |name: &str| format!("fleet.prod.veh.VID-001.state.{name}");
    let raw = ask(client, &to("raw"), b"\xde\xad\xbe\xef").await.unwrap();
    assert_eq!(raw["ok"], true, "{raw}");
    let huge = ask(client, &to("huge"), &[b'1'; 5000]).await.unwrap();
    assert_eq!((&huge["code"], &huge["retry"]), (&json!("too-large"), &json!(false)), "{huge}");
    let bad = ask(client, &to("a/b"), b"1").await.unwrap();
    assert_eq!(bad["code"], "bad-subject", "{bad}");
    for n in 0..3 {
        let payload = json!({ "data": n }).to_string().into_bytes();
        client.publish(to("unasked"), payload.into()).await.unwrap();
    }
    for repeat in [false, true] {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", "from-a-header");
        headers.insert("Tidegate-Time", "1700000000000");
        let asked = client.request_with_headers(to("by-header"), headers, "1".into());
        let answer: Value = serde_json::from_slice(&asked.await.unwrap().payload).unwrap();
        assert_eq!(answer["ok"], true, "{answer}");
        assert_eq!(answer["duplicate"] == true, repeat, "{answer}");
    }
}

/// A reply subject that is no inbox is not answered, and nothing but the configured subjects may be
/// published.
async fn what_is_hostile_goes_nowhere(client: &Client) {
    let mut heard = client.subscribe("uns.hostile").await.unwrap();
    let payload = position(100_000);
    let payload = String::from_utf8(payload).unwrap().replace("\"n\":", "\"m\":");
    client.publish_with_reply(POSITION, "uns.hostile", payload.into()).await.unwrap();
    client.publish("uns.hostile", "forged".into()).await.unwrap();
    client.publish("tide.PlantA.gw-line3.0.frames", "forged".into()).await.unwrap();
    // What came before this is done with.
    let last = ask(client, "fleet.prod.veh.VID-001.state.last", b"1").await.unwrap();
    assert_eq!(last["ok"], true, "{last}");
    let nothing =
        tokio::time::timeout(Duration::from_millis(200), futures_util::StreamExt::next(&mut heard));
    assert!(nothing.await.is_err());
}
