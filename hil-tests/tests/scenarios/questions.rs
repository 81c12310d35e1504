//! Questions to a gateway: asked by a client of another make, and asked by whoever means no good.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tidegate_hil_tests::wait::{SOON, until};
use tidegate_hil_tests::{Rig, Wishes, stream, tools};

use crate::CATCH_UP;

const QUESTIONS: &str = "tide.PlantA.gw-line3.q";

/// Asks with nats-py.
fn asked_elsewhere(
    rig: &Rig,
    url: &str,
    prefix: &str,
    inbox: &str,
    questions: &Value,
) -> BTreeMap<String, Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/ask/asker.py");
    let mut command = rig.family().command(tools::python().unwrap());
    command.arg(script).args([url, prefix, inbox, &questions.to_string()]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nats-py at {url}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn rows(answer: &Value) -> &Vec<Value> {
    answer["rows"].as_array().unwrap_or_else(|| panic!("no rows: {answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_another_make_gets_every_answer_at_the_leaf_and_through_the_hub() {
    let mut rig = Rig::running().await.unwrap();
    let n = rig.polls(40).await.unwrap();
    rig.hub_holds(n, CATCH_UP).await.unwrap();
    let counter = Rig::tags().counter;
    let press = "PlantA/Line3/Press1/*";
    let all = json!([
        ["tags", "tags", {"by": "nats-py"}],
        ["found", "tags", {"search": "COUNT", "limit": 1}],
        ["latest", "latest", {"tags": [counter], "by": "nats-py"}],
        ["page", "latest", {"tags": [press], "limit": 1}],
        ["read", "read", {"tags": [counter], "deadline_ms": 10_000}],
        ["raw", "history", {"tags": [counter], "from": "-10m", "id": "q-raw"}],
        ["limited", "history", {"tags": [counter], "from": "-10m", "limit": 7}],
        ["parted", "history", {"tags": [press], "from": "-10m", "id": "q-parts", "credit": 1}],
        ["buckets", "history", {"tags": [counter], "from": "-10m", "every": "1s", "agg": ["min", "max", "avg"]}],
        ["at", "history", {"tags": [press], "at": "now"}],
        ["losses", "losses", {}],
        ["devices", "devices", {}],
        ["status", "status", ""],
        ["prove", "prove", {"verify": true}],
        ["nobody", "credit", {"id": "q-none", "parts": 1}],
        ["write", "write", {"tags": [counter], "v": 1}],
    ]);
    let url = format!("nats://{}", rig.gateway.local_server().await.unwrap());
    let here = asked_elsewhere(&rig, &url, QUESTIONS, "", &all);
    let apps = "_INBOX.PlantA.gw-line3.apps";
    let through =
        asked_elsewhere(&rig, &rig.hub.reader_url().unwrap(), "ask.PlantA.gw-line3.q", "", &all);
    for answers in [&here, &through] {
        for (name, answer) in answers {
            assert_eq!(answer["v"], 1, "{name}: {answer}");
            if !["nobody", "write"].contains(&name.as_str()) {
                let summary = &answer["summary"];
                assert_eq!(
                    summary["rows"],
                    answer["rows"].as_array().map_or(0, Vec::len),
                    "{name}: {summary}"
                );
                assert_eq!(
                    summary["sources"][0]["gateway"], "PlantA/gw-line3",
                    "{name}: {summary}"
                );
                assert!(summary["took_ms"].as_f64().unwrap() > 0.0, "{name}: {summary}");
            }
        }
        let tag =
            rows(&answers["tags"]).iter().find(|tag| tag["path"] == counter.as_str()).unwrap();
        assert_eq!((&tag["device"], &tag["kind"]), (&json!("press-1"), &json!("u64")), "{tag}");
        assert!(tag["address"].as_str().unwrap().starts_with("holding:"), "{tag}");
        assert_eq!(answers["found"]["summary"]["partial"], Value::Null);
        assert_eq!(rows(&answers["found"])[0]["path"], counter.as_str());
        assert_eq!(rows(&answers["latest"])[0]["q"], "good");
        let page = &answers["page"]["summary"];
        assert_eq!((&page["partial"], &page["next"]), (&json!("rows"), &json!(counter)));
        let read = &rows(&answers["read"])[0];
        assert_eq!(
            (&read["path"], &read["fresh"], &read["q"]),
            (&json!(counter), &json!(true), &json!("good")),
            "{read}"
        );
        let raw = rows(&answers["raw"]);
        let values: Vec<u64> = raw.iter().map(|row| row["v"].as_u64().unwrap()).collect();
        assert!(values.len() >= 35 && values.is_sorted_by(|a, b| a < b), "{values:?}");
        let seqs: Vec<u64> = raw.iter().map(|row| row["seq"].as_u64().unwrap()).collect();
        assert!(seqs.is_sorted_by(|a, b| a < b));
        let coverage = &answers["raw"]["summary"]["coverage"];
        let share = coverage["share"].as_f64().unwrap();
        assert!(share > 0.0 && share < 1.0, "{coverage}");
        assert!(!coverage["gaps"].as_array().unwrap().is_empty(), "{coverage}");
        assert_eq!(answers["raw"]["id"], "q-raw");
        assert_eq!(rows(&answers["limited"]).len(), 7);
        assert_eq!(answers["limited"]["summary"]["partial"], "rows");
        assert!(rows(&answers["parted"]).len() >= raw.len());
        let buckets = rows(&answers["buckets"]);
        let counted: u64 = buckets.iter().map(|row| row["count"].as_u64().unwrap()).sum();
        assert!(counted >= raw.len() as u64, "{counted} in buckets, {} raw", raw.len());
        assert!(
            buckets.iter().all(|row| row.get("last").is_none() && row["avg"].is_number()),
            "{buckets:?}"
        );
        let at = rows(&answers["at"]);
        assert!(at.len() >= 2 && at.iter().all(|row| row["age_ms"].is_number()), "{at:?}");
        assert!(rows(&answers["devices"]).iter().any(|device| device["name"] == "press-1"));
        assert_eq!(rows(&answers["status"])[0]["gateway"], "PlantA/gw-line3");
        assert!(!rows(&answers["prove"]).is_empty());
        for (name, code, number) in
            [("nobody", "unknown-question", "404"), ("write", "unknown-operation", "404")]
        {
            let answer = &answers[name];
            assert_eq!(answer["error"]["code"], code, "{answer}");
            assert_eq!(answer["headers"]["Nats-Service-Error-Code"], number, "{answer}");
        }
    }
    // Whom the own leaf asks, also with the inbox that the hub would send answers to.
    let looked_for = json!([
        ["ping", "$SRV.PING", ""],
        ["info", "$SRV.INFO.tidegate", ""],
        ["stats", "$SRV.STATS", ""],
    ]);
    let found = asked_elsewhere(&rig, &url, QUESTIONS, apps, &looked_for);
    assert_eq!(found["ping"]["metadata"]["gateway"], "PlantA/gw-line3");
    assert_eq!(found["info"]["endpoints"][3]["subject"], format!("{QUESTIONS}.history"));
    assert!(found["stats"]["endpoints"][3]["num_requests"].as_u64().unwrap() >= 8);
    let status = rig.gateway.status().unwrap();
    let recent = status["questions"]["recent"].as_array().unwrap();
    let audited = |via: &str| {
        let by = |row: &&Value| row["by"] == "nats-py" && row["via"] == via;
        recent.iter().filter(by).count()
    };
    assert_eq!((audited("local"), audited("relayed")), (2, 2), "{recent:?}");
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}

/// Asks with the rig's own client, and collects parts until the last.
struct Asker {
    client: Client,
    inbox: Subscriber,
    reply: String,
}

impl Asker {
    async fn at(rig: &Rig) -> Self {
        // A daemon that was started again says anew where its server listens.
        let client = until(SOON, "the leaf takes a client", || async {
            let url = format!("nats://{}", rig.gateway.local_server().await?);
            Ok(stream::connect(&url).await.ok())
        })
        .await
        .unwrap();
        let reply = client.new_inbox();
        let inbox = client.subscribe(reply.clone()).await.unwrap();
        client.flush().await.unwrap();
        Self { client, inbox, reply }
    }

    async fn send(&self, op: &str, question: impl Into<Vec<u8>>) {
        let (subject, reply) = (format!("{QUESTIONS}.{op}"), self.reply.clone());
        self.client.publish_with_reply(subject, reply, question.into().into()).await.unwrap();
    }

    async fn ask(&self, op: &str, question: &Value) {
        self.send(op, question.to_string()).await;
    }

    async fn part(&mut self) -> Value {
        let message = tokio::time::timeout(SOON, self.inbox.next()).await;
        let message = message.unwrap_or_else(|_| panic!("no part soon")).unwrap();
        serde_json::from_slice(&message.payload).unwrap()
    }

    async fn grant(&self, id: &str, parts: u32) {
        let grant = json!({"id": id, "parts": parts}).to_string();
        self.client.publish(format!("{QUESTIONS}.credit"), grant.into()).await.unwrap();
    }

    /// Whether a question is still being answered.
    async fn beats(&self, id: &str) -> Option<Value> {
        let beat = json!({"id": id, "parts": 0}).to_string();
        let asked = self.client.request(format!("{QUESTIONS}.credit"), beat.into());
        let answer = tokio::time::timeout(Duration::from_secs(2), asked).await.ok()?.ok()?;
        serde_json::from_slice(&answer.payload).ok()
    }
}

/// Questions that have no answer, and the code that says why.
fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let tags = r#""tags":["PlantA/**"]"#;
    let question = |rest: &str| format!("{{{tags},{rest}}}").into_bytes();
    vec![
        ("history", b"\xff\xfe\x00".to_vec(), "malformed"),
        ("history", b"[1,2".to_vec(), "malformed"),
        ("history", question(r#""form":"-1h""#), "malformed"),
        ("history", vec![b' '; 100_000], "too-large"),
        ("history", "[".repeat(60_000).into_bytes(), "too-deep"),
        ("history", br#"{"a":"#.repeat(5_000), "too-deep"),
        ("history", question(r#""limit":10"#), "unbounded"),
        ("history", question(r#""from":"-1h","to":"-2h""#), "reversed-range"),
        ("history", question(r#""from":"2026-01-01T00:00:00""#), "bad-time"),
        ("history", question(r#""from":"9999-01-01T00:00:00Z""#), "bad-time"),
        ("history", question(r#""from":"-1h","every":"0s""#), "bad-limit"),
        ("history", question(r#""from":"-90d","every":"1ms""#), "too-much"),
        ("history", question(r#""from":"-1h","limit":0"#), "bad-limit"),
        ("history", question(r#""from":"-1h","after":"nonsense""#), "stale-continuation"),
        ("history", br#"{"tags":["PlantB/**"],"from":"-1h"}"#.to_vec(), "unknown-tag"),
        ("history", question(r#""from":"-1h","credit":100000"#), "bad-limit"),
        ("latest", br#"{"tags":["nothing/here"]}"#.to_vec(), "unknown-tag"),
        ("latest", br#"{"limit":0}"#.to_vec(), "bad-limit"),
        ("tags", br#"{"v":9}"#.to_vec(), "unknown-version"),
        ("read", br#"{"tags":[]}"#.to_vec(), "unknown-tag"),
        ("cancel", br#"{"id":"nobody"}"#.to_vec(), "unknown-question"),
        ("history.too.many.tokens", Vec::new(), "unknown-operation"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_badly_too_much_or_too_slowly_takes_nothing_from_the_record() {
    let wishes = Wishes { noise: 2, ..Wishes::default() };
    let mut rig = Rig::running_with(wishes).await.unwrap();
    rig.polls(80).await.unwrap();
    let mut asker = Asker::at(&rig).await;
    for (op, bytes, code) in hostile() {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        asker.send(op, bytes).await;
        let answer = asker.part().await;
        assert_eq!(answer["error"]["code"], code, "{op} {shown}: {answer}");
        assert!(answer["error"]["text"].as_str().unwrap().len() > 10, "{answer}");
    }
    hostile_replies(&rig, &asker).await;
    slow_reader(&mut asker).await;
    cancelled(&mut asker).await;
    flood(&rig, &mut asker).await;
    killed_in_the_middle(&mut rig).await;
    rig.verify(CATCH_UP).await.unwrap();
}

/// Answers go to inboxes alone, and to none of the daemon's own.
async fn hostile_replies(rig: &Rig, asker: &Asker) {
    let before = rig.gateway.status().unwrap();
    let replies = [
        "tide.PlantA.gw-line3.0011.frames",
        "tide.PlantA.gw-line3.q.status",
        "uns.PlantA.Line3.Press1.counter",
        "$SYS.REQ.SERVER.PING",
        "_INBOX.PlantA.gw-line3.record.1.2",
        "_INBOX.PlantA.gw-line3.live.1.2",
    ];
    for reply in replies {
        let subject = format!("{QUESTIONS}.status");
        asker.client.publish_with_reply(subject, reply, "".into()).await.unwrap();
    }
    asker.client.publish(format!("{QUESTIONS}.status"), "".into()).await.unwrap();
    let hostile = |status: &Value| status["counters"]["questions_hostile"].as_u64().unwrap();
    let wanted = hostile(&before) + 7;
    let status = until(SOON, "hostile replies are counted", || async {
        let status = rig.gateway.status()?;
        Ok((hostile(&status) >= wanted).then_some(status))
    })
    .await
    .unwrap();
    let recent = status["questions"]["recent"].as_array().unwrap();
    let named =
        |row: &&Value| row["via"] == "hostile" && row["what"] == format!("reply {}", replies[0]);
    assert_eq!(recent.iter().filter(named).count(), 1, "{recent:?}");
}

/// Whoever does not read gets no more than was allowed, and everything as soon as it is.
async fn slow_reader(asker: &mut Asker) {
    let question = json!({
        "id": "slow", "tags": ["**"], "from": "-10m", "to": "now", "credit": 2, "deadline_ms": 120_000,
    });
    asker.ask("history", &question).await;
    let mut parts = vec![asker.part().await, asker.part().await];
    // Beats are answered by the same loop that would have sent more.
    for _ in 0..5 {
        assert!(asker.beats("slow").await.unwrap()["error"].is_null());
    }
    let early = tokio::time::timeout(Duration::from_millis(300), asker.inbox.next()).await;
    assert!(early.is_err(), "a part without credit");
    while parts.last().unwrap()["summary"].is_null() {
        assert!(parts.last().unwrap()["error"].is_null(), "{}", parts.last().unwrap()["error"]);
        asker.grant("slow", 3).await;
        for _ in 0..3 {
            parts.push(asker.part().await);
            if !parts.last().unwrap()["summary"].is_null() {
                break;
            }
        }
    }
    assert!(parts.len() > 5, "{} parts", parts.len());
    for (place, part) in parts.iter().enumerate() {
        assert_eq!(part["part"], place, "{}", part["part"]);
        assert!(part.to_string().len() < 100 << 10);
    }
    let summary = &parts.last().unwrap()["summary"];
    let sum: usize = parts.iter().filter_map(|part| part["rows"].as_array()).map(Vec::len).sum();
    assert_eq!((&summary["rows"], &summary["partial"]), (&json!(sum), &Value::Null), "{summary}");
    let seqs: Vec<u64> = parts
        .iter()
        .filter_map(|p| p["rows"].as_array())
        .flatten()
        .map(|r| r["seq"].as_u64().unwrap())
        .collect();
    assert!(seqs.is_sorted_by(|a, b| a < b));
    let gone = asker.beats("slow").await.unwrap();
    assert_eq!(gone["error"]["code"], "unknown-question");
}

async fn cancelled(asker: &mut Asker) {
    let question = json!({"id": "unwanted", "tags": ["**"], "from": "-10m", "credit": 1});
    asker.ask("history", &question).await;
    let first = asker.part().await;
    // The same identity once more is refused while it is being answered.
    asker.ask("history", &question).await;
    assert_eq!(asker.part().await["error"]["code"], "malformed");
    let cancel = json!({"id": "unwanted"}).to_string();
    asker.client.publish(format!("{QUESTIONS}.cancel"), cancel.into()).await.unwrap();
    let last = asker.part().await;
    let summary = &last["summary"];
    assert_eq!(summary["partial"], "cancelled", "{summary}");
    let rows = first["rows"].as_array().unwrap().len() + last["rows"].as_array().unwrap().len();
    assert_eq!(summary["rows"], rows, "{summary}");
    assert!(summary["next"].is_string(), "{summary}");
}

/// Ten times what may wait: most are turned away, and polls go on as if nothing were asked.
async fn flood(rig: &Rig, asker: &mut Asker) {
    const FLOOD: usize = 400;
    let overruns = |status: &Value| -> u64 {
        let devices = status["devices"].as_array().unwrap().iter();
        devices.filter_map(|device| device["missed"]["poll-overrun"]["slots"].as_u64()).sum()
    };
    let before = overruns(&rig.gateway.status().unwrap());
    let question = json!({
        "tags": ["**"], "from": "-10m", "every": "100ms", "deadline_ms": 5000, "limit": 10,
    });
    let polled = rig.served().unwrap();
    for _ in 0..FLOOD {
        asker.ask("history", &question).await;
    }
    let mut ends = BTreeMap::<String, usize>::new();
    for _ in 0..FLOOD {
        let end = asker.part().await;
        let word = end["error"]["code"].as_str().unwrap_or("answered");
        *ends.entry(word.to_owned()).or_default() += 1;
    }
    assert!(ends["busy"] > FLOOD / 2 && ends["answered"] >= 4, "{ends:?}");
    let status = rig.gateway.status().unwrap();
    assert_eq!(overruns(&status), before, "polls were missed: {status}");
    assert!(rig.served().unwrap() > polled, "the gateway stopped polling");
    assert!(status["counters"]["questions_busy"].as_u64().unwrap() > 200, "{status}");
    assert!(status["questions"]["recent"].as_array().unwrap().len() <= 100);
}

/// A question whose gateway dies is answered when it is asked again.
async fn killed_in_the_middle(rig: &mut Rig) {
    let question = json!({"id": "cut", "tags": ["**"], "from": "-10m", "credit": 1});
    let mut asker = Asker::at(rig).await;
    asker.ask("history", &question).await;
    assert!(asker.part().await["rows"].as_array().unwrap().len() > 10);
    assert!(asker.beats("cut").await.unwrap()["error"].is_null());
    rig.gateway.kill9().unwrap();
    assert!(asker.beats("cut").await.is_none());
    rig.gateway.start().await.unwrap();
    let asker = Asker::at(rig).await;
    let gone = until(SOON, "the gateway answers again", || async { Ok(asker.beats("cut").await) });
    assert_eq!(gone.await.unwrap()["error"]["code"], "unknown-question");
    let again = json!({"tags": [Rig::tags().counter], "from": "-10m"});
    let answer = until(SOON, "the record can be asked", || async {
        let asked = asker.client.request(format!("{QUESTIONS}.history"), again.to_string().into());
        let Ok(answer) = asked.await else { return Ok(None) };
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        Ok((!answer["summary"].is_null()).then_some(answer))
    })
    .await
    .unwrap();
    assert!(rows(&answer).len() > 50, "{}", answer["summary"]);
    let gaps = answer["summary"]["coverage"]["gaps"].as_array().unwrap();
    assert!(gaps.iter().any(|gap| gap["who"] == "gateway"), "{gaps:?}");
}
