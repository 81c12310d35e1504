//! A hub as `tidegate hub` writes it, on real servers.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tidegate_hil_tests::family::Family;
use tidegate_hil_tests::gateway::{Gateway, Settings, Wishes};
use tidegate_hil_tests::planned::PlannedHub;
use tidegate_hil_tests::plc::Plc;
use tidegate_hil_tests::stream;
use tidegate_hil_tests::wait::until;

use crate::CATCH_UP;

const GATEWAYS: &str = r#"
[[gateway]]
id = "PlantA/gw-line3"
prefixes = ["PlantA/Line3"]
bytes = "10 MiB"

# Asks those of the other plant.
[[gateway]]
id = "PlantA/gw-a"
prefixes = ["PlantA/Area"]
bytes = "20 MiB"
shares = ["PlantB/*"]
app-publish = ["orders.>"]

[[gateway]]
id = "PlantB/gw-b"
prefixes = ["PlantB"]

[[user]]
name = "orders"
role = "application"
"#;

fn place() -> TempDir {
    tempfile::Builder::new().prefix("tidegate-planned-").tempdir().unwrap()
}

/// How many frames are in a stream under each subject.
async fn frames(admin: &async_nats::Client, stream: &str) -> Value {
    let wish = r#"{"subjects_filter":">"}"#;
    let info = format!("$JS.API.STREAM.INFO.{stream}");
    let answer = admin.request(info, wish.into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    answer["state"]["subjects"].clone()
}

async fn local(server: &tidegate_hil_tests::server::Server) -> async_nats::Client {
    async_nats::connect(server.clients().to_string()).await.unwrap()
}

/// Answers every question on a subject.
async fn answer(client: async_nats::Client, subject: &'static str) {
    let mut questions = client.queue_subscribe(subject, "desk".to_owned()).await.unwrap();
    client.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let to = question.reply.unwrap();
            client.publish(to, "the answer".into()).await.unwrap();
        }
    });
}

/// What gets no answer, whether for want of a right or of somebody who listens.
async fn unanswered(client: &async_nats::Client, subject: &'static str, inbox: &str) -> bool {
    let request = async_nats::Request::new().inbox(inbox.to_owned());
    let request = request.timeout(Some(Duration::from_secs(1)));
    client.send_request(subject, request.payload("?".into())).await.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_made_by_hub_init_takes_records_answers_questions_and_lets_nobody_forge() {
    let dir = place();
    let family = Family::new().unwrap();
    let streams = ["--stream", "TIDE=PlantA", "--stream", "EAST=PlantB", "--last-values", "16 MiB"];
    let more = [&streams[..], &["--max-store", "1 GiB"]].concat();
    let mut hub = PlannedHub::written(&family, dir.path(), 3, &more, GATEWAYS).unwrap();
    hub.checked_by_nats_server().unwrap();
    let made = hub.start().await.unwrap();
    assert!(made.contains("TIDE") && made.contains("EAST") && made.contains("LAST"), "{made}");
    let again = hub.apply(&["--streams"]).unwrap();
    assert_eq!(again.matches("is as it should be").count(), 4, "{again}");
    let admin = hub.client(1, "admin").await.unwrap();
    let context = async_nats::jetstream::new(admin.clone());
    let tide = context.get_stream("TIDE").await.unwrap().cached_info().config.clone();
    assert_eq!((tide.max_bytes, tide.num_replicas), (30 << 20, 3), "the sum of its budgets");

    // A gateway delivers by either of two servers.
    let mut plc = Plc::off(&family, dir.path());
    let settings = Settings {
        gateway: "PlantA/gw-line3".to_owned(),
        hubs: vec![hub.leaf(0), hub.leaf(1)],
        credentials: hub.gateway("PlantA/gw-line3").unwrap(),
        stream: "TIDE".to_owned(),
        domain: "hub".to_owned(),
        plc: plc.switch_on().await.unwrap(),
        wishes: Wishes::default(),
    };
    let mut gateway = Gateway::configured(&family, &dir.path().join("gw"), &settings).unwrap();
    gateway.start().await.unwrap();

    // Two more, without a daemon: one by wss.
    let own = hub.gateway("PlantA/gw-a").unwrap();
    let url = format!("wss://{}", hub.websocket(2));
    let leaf_a = hub.leaf_of("leaf-a", &url, &own).await.unwrap();
    let url = format!("tls://{}", hub.leaf(0));
    let leaf_b = hub.leaf_of("leaf-b", &url, &hub.gateway("PlantB/gw-b").unwrap()).await.unwrap();
    let (at_a, at_b) = (local(&leaf_a).await, local(&leaf_b).await);
    answer(at_b.clone(), "tide.PlantB.gw-b.q.>").await;
    let desk = hub.client(1, "orders").await.unwrap();
    answer(desk, "orders.>").await;
    let reader = hub.client(2, "reader").await.unwrap();
    let question = "ask.PlantB.gw-b.q.history";
    for (who, client, subject, inbox) in [
        ("a gateway answers another one", &at_a, question, "_INBOX.PlantA.gw-a"),
        ("a gateway answers a reader", &reader, question, "_INBOX.reader"),
        ("an application at the hub answers", &at_a, "orders.new", "_INBOX.PlantA.gw-a.apps"),
    ] {
        until(CATCH_UP, who, || async {
            Ok((!unanswered(client, subject, &format!("{inbox}.{}", client.new_inbox())).await)
                .then_some(()))
        })
        .await
        .unwrap();
    }
    // Who shares nothing asks in vain; nobody is asked past the hub's names.
    assert!(unanswered(&at_b, "ask.PlantA.gw-a.q.x", "_INBOX.PlantB.gw-b.1").await);
    assert!(unanswered(&at_a, "tide.PlantB.gw-b.q.x", "_INBOX.PlantA.gw-a.1").await);

    // The last value of a tag is kept, for readers.
    at_a.publish("uns.PlantA.Area.t", "7".into()).await.unwrap();
    until(CATCH_UP, "the last value is kept", || async {
        let answer = reader.request("tidelast.uns.PlantA.Area.t", "".into()).await?;
        Ok((answer.payload == "7").then_some(()))
    })
    .await
    .unwrap();

    // Whatever a server or a gateway answers to goes to no record.
    let victim = "tide.PlantA.gw-line3.00000000000000000000000000000000.frames";
    for (subject, payload) in [
        ("ask.PlantB.gw-b.q.history", "?"),
        ("orders.new", "?"),
        ("tideinfo.TIDE", ""),
        ("uns.PlantA.Area.t", "8"),
        ("tide.PlantA.gw-a.00000000000000000000000000000001.frames", "mine"),
    ] {
        at_a.publish_with_reply(subject, victim, payload.into()).await.unwrap();
    }
    at_a.flush().await.unwrap();
    until(CATCH_UP, "all of it has arrived", || async {
        let answer = reader.request("tidelast.uns.PlantA.Area.t", "".into()).await?;
        let own = frames(&admin, "TIDE").await;
        let own = own["tide.PlantA.gw-a.00000000000000000000000000000001.frames"].is_u64();
        Ok((answer.payload == "8" && own).then_some(()))
    })
    .await
    .unwrap();
    assert!(frames(&admin, "TIDE").await[victim].is_null(), "a forged frame");
    // The same with a stream of last values that acknowledges: it would be stored.
    let mut last = context.get_stream("LAST").await.unwrap().cached_info().config.clone();
    last.no_ack = false;
    stream::update(&context, &last).await.unwrap();
    let drifted = hub.apply(&["--streams"]).unwrap_err().to_string();
    assert!(drifted.contains("LAST") && drifted.contains("no_ack"), "{drifted}");
    until(CATCH_UP, "the positive control", || async {
        at_a.publish_with_reply("uns.PlantA.Area.t", victim, "9".into()).await?;
        Ok(frames(&admin, "TIDE").await[victim].is_u64().then_some(()))
    })
    .await
    .unwrap();

    until(CATCH_UP, "the record is balanced", || async {
        Ok(hub.verdict("PlantA/gw-line3")?.starts_with("balanced").then_some(()))
    })
    .await
    .unwrap();
}

/// A gateway's certificate comes from the authority of the servers'. That must not make a server of
/// whoever has one.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_certificate_opens_no_route_and_every_kind_of_hub_is_configured_rightly() {
    let dir = place();
    let family = Family::new().unwrap();
    let strict = ["--ocsp", "strict", "--max-store", "1 GiB"];
    let single =
        PlannedHub::written(&family, &dir.path().join("single"), 1, &strict, GATEWAYS).unwrap();
    single.checked_by_nats_server().unwrap();
    single.compose_checked().unwrap();

    let more = ["--max-store", "1 GiB"];
    let mut hub = PlannedHub::written(&family, &dir.path().join("three"), 3, &more, "").unwrap();
    hub.compose_checked().unwrap();
    hub.start().await.unwrap();
    let intruder = hub.gateway("PlantA/gw-line3").unwrap();
    let conf = std::fs::read_to_string(hub.node(0).join("nats-server.conf")).unwrap();
    let secret = conf.lines().find_map(|line| line.trim().strip_prefix("password: ")).unwrap();
    let secret = secret.trim_matches('"');
    for (login, gets_in) in [(String::new(), false), (format!("hub:{secret}@"), true)] {
        let (ca, cert, key) = (&intruder.ca, &intruder.cert, &intruder.key);
        let name = if gets_in { "with-the-secret" } else { "intruder" };
        let text = format!(
            "server_name: {name:?}\nlisten: \"127.0.0.1:-1\"\ncluster {{ name: \"hub\", \
             listen: \"127.0.0.1:-1\", routes: [\"nats-route://{login}{}\"], \
             tls {{ ca_file: {ca:?}, cert_file: {cert:?}, key_file: {key:?}, verify: true }} }}\n",
            hub.cluster(0)
        );
        let before = hub.log(0).unwrap().len();
        let _server = hub.plain(name, &text).await.unwrap();
        let wanted = if gets_in { "Route connection created" } else { "authentication error" };
        let said = until(CATCH_UP, wanted, || async {
            let said = hub.log(0)?.split_off(before);
            Ok(said.contains(wanted).then_some(said))
        });
        let said = said.await.unwrap_or_else(|error| panic!("{error}: {:?}", hub.log(0)));
        assert!(gets_in || !said.contains("JetStream cluster new peer"), "{said}");
    }
}
