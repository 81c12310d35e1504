//! The hub's accounts against real servers over mutual TLS: what a gateway can do, what it
//! cannot, and what it sees when the hub is not as it should be.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail anywhere, also in what tests share"
)]

mod common;

use std::time::Duration;

use async_nats::{Client, HeaderMap};
use common::{Gateway, Hub, Refusal, Server, eventually, publish_expecting, request, request_with};
use tidegate::hub::{
    ClientPort, Credential, HubPlan, HubUser, Role, StreamError, StreamPlan, ensure_stream,
};
use tidegate::hubread::{ReadError, RecordReader};
use tidegate::leaf::LocalRole::{Live, Record};

const FRAMES: &str = "tide.P.g1.000102030405060708090a0b0c0d0e0f.frames";
const OTHERS: &str = "tide.P.g2.000102030405060708090a0b0c0d0e0f.frames";

fn head(frames: &str) -> String {
    format!("tidehead.TIDE.{frames}")
}

fn err_code(answer: &serde_json::Value) -> Option<u64> {
    answer.get("error")?.get("err_code")?.as_u64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_with_the_expected_sequence_is_stored_once() {
    let hub = Hub::start().await;
    let gateway = Gateway::start(&hub, "P/g1").await;
    let record = gateway.linked(Record).await;

    let ack = publish_expecting(&record, FRAMES, 0, "one").await.unwrap();
    assert_eq!((ack["stream"].as_str(), ack["domain"].as_str()), (Some("TIDE"), Some("hub")));
    assert_eq!(ack["seq"], 1);
    let repeated = publish_expecting(&record, FRAMES, 0, "one").await.unwrap();
    assert_eq!(err_code(&repeated), Some(10_071), "{repeated}");
    let description = repeated["error"]["description"].as_str().unwrap();
    assert!(description.ends_with("last sequence: 1"), "{description}");
    let ack = publish_expecting(&record, FRAMES, 1, "two").await.unwrap();
    assert_eq!(ack["seq"], 2);
    assert_eq!(hub.stored(FRAMES).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn head_and_info_are_read_across_the_leaf() {
    let hub = Hub::start().await;
    let gateway = Gateway::start(&hub, "P/g1").await;
    let record = gateway.linked(Record).await;

    let none = request(&record, &head(FRAMES), "").await.unwrap();
    assert_eq!(none.status.map(|status| status.as_u16()), Some(404));
    publish_expecting(&record, FRAMES, 0, "one").await.unwrap();
    let last = request(&record, &head(FRAMES), "").await.unwrap();
    assert_eq!(last.payload, "one");
    assert_eq!(last.headers.unwrap().get("Nats-Sequence").unwrap().as_str(), "1");

    let info = request(&record, "tideinfo.TIDE", "").await.unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.payload).unwrap();
    assert_eq!(info["config"]["name"], "TIDE");
    assert_eq!(info["state"]["first_seq"], 1);
    assert_eq!(info["domain"], "hub");
    assert!(info["created"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_gateways_record_is_out_of_reach() {
    let hub = Hub::start().await;
    let other = Gateway::start(&hub, "P/g2").await;
    let theirs = other.linked(Record).await;
    publish_expecting(&theirs, OTHERS, 0, "theirs").await.unwrap();

    // Through our own leaf its permissions refuse; through one without rules, the hub's.
    let gateway = Gateway::start(&hub, "P/g1").await;
    let record = gateway.linked(Record).await;
    assert_eq!(request(&record, OTHERS, "x").await.unwrap_err(), Refusal::Timeout);
    let unruly = Unruly::start(&hub).await;
    assert_eq!(request(&unruly.client, OTHERS, "x").await.unwrap_err(), Refusal::NoResponders);
    let read = request(&unruly.client, &head(OTHERS), "").await;
    assert_eq!(read.unwrap_err(), Refusal::NoResponders);
    for subject in ["$JS.API.STREAM.INFO.TIDE", "$JS.API.STREAM.DELETE.TIDE", "tideread.TIDE"] {
        let asked = request(&unruly.client, subject, "").await;
        assert_eq!(asked.unwrap_err(), Refusal::NoResponders, "{subject}");
    }
    assert_eq!(hub.stored(OTHERS).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_never_take_the_live_link() {
    let hub = Hub::start().await;
    // Somebody with the gateway's own LIVE account and its certificate, without our permissions.
    let gateway = Gateway::start(&hub, "P/g1").await;
    let live = gateway.linked(Live).await;
    assert_eq!(request(&live, FRAMES, "x").await.unwrap_err(), Refusal::Timeout, "not permitted");

    let dir = hub.dir.path().join("leaf-P-g1/nats-server.conf");
    let text = std::fs::read_to_string(dir).unwrap();
    let free = text.replace("\"uns.>\"\n", "\">\"\n").replace("\"tideinfo.TIDE\"\n", "\">\"\n");
    let free = free.replace("P/g1\"\nlisten", "P/g1-freed\"\nlisten");
    let free = free.replace(&gateway.address().await.to_string(), "127.0.0.1:-1");
    let password = text.lines().find_map(|line| line.trim().strip_prefix("password: \""));
    let password = password.unwrap().trim_end_matches('"').to_owned();
    let dir = hub.dir.path().join("freed");
    let free: String = free
        .lines()
        .filter(|l| !l.starts_with("ports_file_dir"))
        .fold(String::new(), |all, line| all + line + "\n");
    let server = Server::start(&dir, &free).await;
    let options =
        async_nats::ConnectOptions::with_user_and_password("tidegate-live".into(), password);
    let options = options.custom_inbox_prefix("_INBOX.P.g1");
    let live = options.connect(server.client.to_string()).await.unwrap();
    eventually("the link stands", async || request(&live, "tideinfo.TIDE", "").await.ok()).await;
    assert_eq!(request(&live, FRAMES, "x").await.unwrap_err(), Refusal::NoResponders);
    assert_eq!(request(&live, &head(FRAMES), "").await.unwrap_err(), Refusal::NoResponders);
    assert_eq!(hub.stored(FRAMES).await, 0);
}

/// A gateway's certificate in the hands of somebody who keeps to no rule.
struct Unruly {
    client: Client,
    _server: Server,
}

impl Unruly {
    async fn start(hub: &Hub) -> Self {
        let server = hub.unruly_leaf(&hub.link("P/g1").tls.unwrap()).await;
        let options = async_nats::ConnectOptions::new().custom_inbox_prefix("_INBOX.P.g1");
        let client = options.connect(server.client.to_string()).await.unwrap();
        eventually("the link stands", async || {
            // Whatever stands behind it: something answers at the hub.
            let head = request(&client, &head(FRAMES), "").await.is_ok();
            let api = format!("$JS.hub.API.DIRECT.GET.TIDE.{FRAMES}");
            (head || request(&client, &api, "").await.is_ok()).then_some(())
        })
        .await;
        Self { client, _server: server }
    }

    /// Lets the server answer into another gateway's record.
    async fn inject(&self, asked: &str, body: &str) {
        let answer_to = OTHERS.to_owned();
        self.client
            .publish_with_reply(asked.to_owned(), answer_to, body.to_owned().into())
            .await
            .unwrap();
        self.client.flush().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_of_the_server_lands_in_another_gateways_record() {
    let hub = Hub::start().await;
    let unruly = Unruly::start(&hub).await;
    let ours = "bytes of my choice";
    request(&unruly.client, FRAMES, ours).await.unwrap();

    unruly.inject(FRAMES, "an acknowledgement").await;
    unruly.inject(&head(FRAMES), "").await;
    unruly.inject("tideinfo.TIDE", "").await;
    // The hub has handled them when it answers what was asked after them on the same connection.
    eventually("the injecting publish itself was stored", async || {
        (hub.stored(FRAMES).await == 2).then_some(())
    })
    .await;
    for _ in 0..3 {
        request(&unruly.client, "tideinfo.TIDE", "").await.unwrap();
    }
    assert_eq!(hub.stored(OTHERS).await, 0, "a server's answer was stored");
}

/// The same attack where the stream and the gateways share an account: it has to succeed, or the
/// test above proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_shared_account_the_same_answers_do_land_there() {
    let hub = Hub::start_without_stream().await;
    let dir = hub.dir.path().join("shared");
    let tls = &hub.plan.leaf.tls;
    let config = format!(
        r#"server_name: shared
        listen: "127.0.0.1:-1"
        jetstream {{ store_dir: {store:?}, domain: "hub" }}
        leafnodes {{ listen: "127.0.0.1:-1", compression: s2_better
          tls {{ ca_file: {ca:?}, cert_file: {cert:?}, key_file: {key:?}, verify_and_map: true }} }}
        accounts {{ ALL {{ jetstream: enabled, users: [
          {{ user: "admin", password: "{admin}" }}
          {{ user: "CN=P/g1,O=Tidegate", permissions {{
             publish: ["{FRAMES}", "$JS.hub.API.DIRECT.GET.TIDE.{FRAMES}"], subscribe: ["_INBOX.P.g1.>"] }} }}
        ] }} }}"#,
        store = dir.join("store"),
        ca = tls.ca,
        cert = tls.cert,
        key = tls.key,
        admin = common::ADMIN,
    );
    let server = Server::start(&dir, &config).await;
    let hub = Hub { server, ..hub };
    hub.ensure_stream().await;
    let unruly = Unruly::start(&hub).await;
    request(&unruly.client, FRAMES, "bytes of my choice").await.unwrap();

    unruly.inject(FRAMES, "an acknowledgement").await;
    eventually("the acknowledgement is stored in another's record", async || {
        (hub.stored(OTHERS).await == 1).then_some(())
    })
    .await;
    unruly.inject(&format!("$JS.hub.API.DIRECT.GET.TIDE.{FRAMES}"), "").await;
    eventually("bytes of the attacker's choice are stored there", async || {
        (hub.stored(OTHERS).await == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_reads_ranges_and_changes_nothing() {
    let hub = Hub::start().await;
    let gateway = Gateway::start(&hub, "P/g1").await;
    let record = gateway.linked(Record).await;
    for last in 0..3 {
        publish_expecting(&record, FRAMES, last, &format!("frame {last}")).await.unwrap();
    }
    let reader = hub.reader().await;

    let record = RecordReader::open(reader.clone(), hub.plan.streams[0].clone(), common::PATIENCE);
    let batch = record.await.unwrap().batch(FRAMES, 2).await.unwrap();
    let got: Vec<_> = batch.messages.iter().map(|message| &message.payload[..]).collect();
    assert_eq!(got, [&b"frame 1"[..], b"frame 2"]);
    assert_eq!((batch.messages[0].seq, batch.next), (2, None));

    let forbidden = [
        FRAMES,
        "uns.P.x",
        "$JS.API.STREAM.DELETE.TIDE",
        "$JS.API.STREAM.UPDATE.TIDE",
        "$JS.API.STREAM.PURGE.TIDE",
        "$JS.API.CONSUMER.CREATE.TIDE.mine",
        "$SYS.REQ.SERVER.PING",
    ];
    let asked = forbidden.map(|subject| request(&reader, subject, ""));
    for (subject, refused) in forbidden.iter().zip(futures_util::future::join_all(asked).await) {
        assert!(refused.is_err(), "{subject}: {refused:?}");
    }
    // Nor through an answer of the server.
    for asked in ["tideinfo.TIDE", &head(FRAMES)] {
        reader.publish_with_reply(asked.to_owned(), FRAMES, "".into()).await.unwrap();
    }
    request(&reader, "tideinfo.TIDE", "").await.unwrap();
    assert_eq!(hub.stored(FRAMES).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_many_batches_is_read_whole_and_in_order() {
    let hub = Hub::start().await;
    let admin = hub.admin().await;
    for n in 0..300_u32 {
        for subject in [FRAMES, OTHERS] {
            let stored = admin.publish(subject, n.to_string().into()).await.unwrap();
            stored.await.unwrap();
        }
    }
    let stream = || hub.plan.streams[0].clone();
    // As a reader through the imports, and in the stream's own account without them.
    for client in [hub.reader().await, hub.client("admin", common::ADMIN).await] {
        let record = RecordReader::open(client, stream(), common::PATIENCE).await.unwrap();
        let state = record.state().await.unwrap();
        assert_eq!((state.state.first_seq, state.state.last_seq), (1, 600));
        let (mut next, mut got, mut batches) = (Some(0), Vec::new(), 0);
        while let Some(from) = next {
            let batch = record.batch(FRAMES, from).await.unwrap();
            got.extend(batch.messages);
            next = batch.next;
            batches += 1;
        }
        assert!(batches > 1, "one batch proves nothing about the next");
        let expected: Vec<_> = (0..300).map(|n| (n * 2 + 1, n.to_string())).collect();
        let got = got.iter().map(|m| (m.seq, String::from_utf8(m.payload.to_vec()).unwrap()));
        assert_eq!(got.collect::<Vec<_>>(), expected);
        let beyond = record.batch(FRAMES, 601).await.unwrap();
        assert_eq!((beyond.messages.len(), beyond.next), (0, None));
    }
    let none = RecordReader::open(
        hub.reader().await,
        "NONE".to_owned().try_into().unwrap(),
        Duration::from_millis(300),
    );
    assert!(none.await.is_err(), "a stream that nobody lends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_told_that_there_is_no_stream() {
    let hub = Hub::start_without_stream().await;
    let record =
        RecordReader::open(hub.reader().await, hub.plan.streams[0].clone(), common::PATIENCE);
    assert!(matches!(record.await, Err(ReadError::NoStream { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_name_without_its_certificate_opens_nothing() {
    let hub = Hub::start().await;
    let name = tidegate_identity::lab::gateway_subject("P/g1");
    let options = async_nats::ConnectOptions::with_user_and_password(name, String::new());
    let refused = options.connect(hub.server.client.to_string()).await;
    assert!(refused.is_err(), "a user known by certificate logged in without one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readers_certificate_reads_and_opens_no_leaf_link() {
    let mut files = None;
    let hub = Hub::start_with(|plan, dir, ca| {
        let issued = ca.reader("historian", common::lifetime()).unwrap();
        files = Some(common::write_files(dir, "historian", &ca.certificate_pem(), &issued));
        let subject = tidegate_identity::lab::reader_subject("historian");
        let credential = Credential::Certificate { subject };
        let tls = Some(plan.leaf.tls.clone());
        HubPlan {
            client: ClientPort { tls, ..plan.client },
            users: vec![HubUser { role: Role::Reader, credential }],
            anonymous: None,
            ..plan
        }
    })
    .await;
    let files = files.unwrap();
    let port = hub.server.client.to_string();
    let options = || {
        let options = async_nats::ConnectOptions::new();
        options.add_root_certificates(files.ca.clone()).require_tls(true)
    };
    let reader = options().add_client_certificate(files.cert.clone(), files.key.clone());
    let reader = reader.connect(&port).await.unwrap();
    // There is no stream: any answer shows that the question arrived.
    request(&reader, "tideinfo.TIDE", "").await.unwrap();
    assert!(options().connect(&port).await.is_err(), "somebody without a certificate got in");

    let leaf = hub.unruly_leaf(&files).await;
    let client = async_nats::connect(leaf.client.to_string()).await.unwrap();
    eventually("the hub refuses the link", async || {
        leaf.log().contains("Authorization Violation").then_some(())
    })
    .await;
    let asked = request(&client, "tideinfo.TIDE", "").await;
    assert_eq!(asked.unwrap_err(), Refusal::NoResponders);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_without_the_stream_is_told_by_info_and_by_silence_alone() {
    let hub = Hub::start_without_stream().await;
    let gateway = Gateway::start(&hub, "P/g1").await;
    let record = gateway.client(Record).await;
    // INFO is answered by the JetStream API itself: the link stands, the stream is missing.
    let info =
        eventually("the hub answers", async || request(&record, "tideinfo.TIDE", "").await.ok())
            .await;
    let info: serde_json::Value = serde_json::from_slice(&info.payload).unwrap();
    assert_eq!(err_code(&info), Some(10_059), "stream not found: {info}");
    // The import stands where a responder would, so there is no 503: an uplink that only waited
    // for answers could not tell this from a dead line.
    assert_eq!(request(&record, FRAMES, "x").await.unwrap_err(), Refusal::Timeout);
    assert_eq!(request(&record, &head(FRAMES), "").await.unwrap_err(), Refusal::Timeout);

    hub.ensure_stream().await;
    let ack = eventually("the stream takes frames", async || {
        publish_expecting(&record, FRAMES, 0, "one").await.ok()
    })
    .await;
    assert_eq!(ack["seq"], 1, "{ack}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_is_made_once_and_its_limits_follow_the_plan() {
    let hub = Hub::start_without_stream().await;
    let admin = hub.admin().await;
    let plan = hub.stream_plan();
    let made = ensure_stream(&admin, &plan).await.unwrap();
    assert!(made.config.deny_delete && made.config.deny_purge && made.config.allow_direct);
    assert_eq!(made.config.subjects, ["tide.*.*.*.frames"]);
    let again = ensure_stream(&admin, &plan).await.unwrap();
    assert_eq!(again.created, made.created);

    let month = Duration::from_secs(30 * 86_400);
    let smaller = StreamPlan { max_bytes: Some(1 << 20), max_age: Some(month), ..plan };
    let changed = ensure_stream(&admin, &smaller).await.unwrap();
    assert_eq!((changed.config.max_bytes, changed.config.max_age), (1 << 20, month));
    assert_eq!(changed.created, made.created);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_other_foundations_is_refused_and_named() {
    let hub = Hub::start_without_stream().await;
    let admin = hub.admin().await;
    let foreign = async_nats::jetstream::stream::Config {
        name: "TIDE".to_owned(),
        subjects: vec!["something.else".to_owned()],
        ..Default::default()
    };
    admin.create_stream(foreign).await.unwrap();
    let error = ensure_stream(&admin, &hub.stream_plan()).await.unwrap_err();
    let StreamError::Differs { differs, .. } = &error else { panic!("{error}") };
    assert_eq!(differs, &["subjects", "allow_direct", "deny_delete", "deny_purge"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_cannot_roll_up_its_subject() {
    let hub = Hub::start().await;
    let gateway = Gateway::start(&hub, "P/g1").await;
    let record = gateway.linked(Record).await;
    publish_expecting(&record, FRAMES, 0, "one").await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Rollup", "sub");
    let answer = request_with(&record, FRAMES, headers, "two").await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    assert!(err_code(&answer).is_some(), "{answer}");
    assert_eq!(hub.stored(FRAMES).await, 1);
}
