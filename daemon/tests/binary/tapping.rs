//! `tap` over several gateways and copies, in ranges and formats, and published again.

use std::path::Path;

use async_nats::jetstream;
use bytes::Bytes;
use serde_json::Value as Json;
use tidegate_journal::{ClockState, Codec, Epoch, FrameHash, Header, Kind, frame};
use tidegate_record::catalog::{Definition, bodies};
use tidegate_record::samples::Packer;
use tidegate_record::{Catalog, Moment};
use tidegate_translator::{Sample, TagId, TagPath, Timestamp, Value, ValueKind};

use crate::common::{Hub, Server};
use crate::site::{Said, tidegate};

const SECOND: i64 = 1_000_000_000;

/// An hour ago, by whole seconds: the hub's clock is the one on the wall.
fn begin() -> i64 {
    let now = jiff::Timestamp::now().as_second();
    (now - 3600) * SECOND
}

/// A gateway that writes its record by hand.
struct Writer {
    gateway: &'static str,
    epoch: Epoch,
    catalog: Catalog,
    number: u64,
    seq: u64,
    previous: FrameHash,
    packer: Packer,
}

impl Writer {
    fn new(gateway: &'static str, epoch: u8) -> Self {
        let (epoch, previous) = (Epoch([epoch; 16]), FrameHash::ZERO);
        let (catalog, packer) = (Catalog::new(), Packer::new());
        Self { gateway, epoch, catalog, number: 0, seq: 0, previous, packer }
    }

    fn subject(&self) -> String {
        format!("tide.{}.{}.frames", self.gateway.replace('/', "."), self.epoch)
    }

    fn frame(
        &mut self,
        kind: Kind,
        count: u32,
        wall: (i64, i64),
        codec: Codec,
        body: &[u8],
    ) -> Vec<u8> {
        let (plant, gateway) = self.gateway.split_once('/').unwrap();
        let header = Header {
            plant: plant.to_owned(),
            gateway: gateway.to_owned(),
            epoch: self.epoch,
            number: self.number,
            first_seq: self.seq,
            count,
            wall,
            mono: (0, 0),
            boot: [7; 16],
            clock: ClockState::Synchronised,
            previous: self.previous,
            codec,
        };
        let bytes = frame::encode(kind, &header, body).unwrap();
        self.previous = frame::decode(&bytes).unwrap().hash();
        self.number += 1;
        self.seq += u64::from(count);
        bytes
    }

    fn names(&mut self, paths: &[&str]) -> Vec<u8> {
        for path in paths {
            let path = TagPath::new(*path).unwrap();
            let (device, address, source) = ("d".into(), "a".into(), "s".into());
            let unit = Some("degC".into());
            let kind = ValueKind::F64;
            self.catalog.define(Definition { path, kind, unit, device, address, source }).unwrap();
        }
        let catalog = self.catalog.clone();
        let parts = bodies(catalog.version(), catalog.entries(), true).unwrap();
        let mut out = Vec::new();
        for body in parts {
            out.extend(self.frame(Kind::Catalog, 0, (0, 0), Codec::Plain, &body.unwrap()));
        }
        out
    }

    /// One value per tag and second from `at` on; returns the frame.
    fn seconds(&mut self, at: i64, count: i64) -> Vec<u8> {
        let tags: Vec<TagId> = self.catalog.entries().map(|entry| entry.id).collect();
        let samples: Vec<Sample> = (0..count)
            .flat_map(|n| {
                let at = at + n * SECOND;
                tags.iter().map(move |tag| {
                    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                    let value = Value::F64((at / SECOND) as f64);
                    Sample::good(*tag, Timestamp(at), value)
                })
            })
            .collect();
        let packing = self.packer.pack(&samples);
        let [body] = packing.bodies.as_slice() else { panic!("more than a frame") };
        let wall = (at, at + (count - 1) * SECOND);
        self.frame(Kind::Samples, body.count, wall, body.codec, &body.bytes)
    }
}

async fn publish(hub: &Hub, subject: &str, payload: Vec<u8>) {
    let admin = hub.admin().await;
    admin.publish(subject.to_owned(), payload.into()).await.unwrap().await.unwrap();
}

fn tap(hub: &Hub, arguments: &[&str]) -> Vec<Json> {
    let said = Said::of(tidegate().arg("tap").arg("--server").arg(url(hub)).args(arguments));
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments:?}");
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn url(hub: &Hub) -> String {
    format!("nats://{}", hub.server.client)
}

/// Two gateways side by side, one of which delivered an hour's middle late, and a stranger.
async fn fleet(hub: &Hub, begin: i64) {
    let (mut one, mut two) = (Writer::new("P/g1", 1), Writer::new("P/g2", 2));
    let mut other = Writer::new("Q/g1", 3);
    let names = one.names(&["P/one/t", "P/one/n"]);
    publish(hub, &one.subject(), names).await;
    for step in 0..3 {
        let payload = one.seconds(begin + step * 10 * SECOND, 10);
        publish(hub, &one.subject(), payload).await;
    }
    let mut late = two.names(&["P/two/t"]);
    for step in 0..3 {
        late.extend(two.seconds(begin + step * 10 * SECOND + SECOND / 2, 10));
    }
    publish(hub, &two.subject(), late).await;
    let names = other.names(&["Q/x"]);
    publish(hub, &other.subject(), names).await;
    let payload = other.seconds(begin, 5);
    publish(hub, &other.subject(), payload).await;
}

#[tokio::test]
async fn gateways_are_merged_in_the_order_of_time_by_pattern_and_range() {
    let hub = Hub::start().await;
    let begin = begin();
    fleet(&hub, begin).await;
    let all = tap(&hub, &[]);
    assert_eq!(all.len(), 60 + 30 + 5);
    let times: Vec<&str> = all.iter().map(|line| line["acquired"].as_str().unwrap()).collect();
    let mut instants: Vec<jiff::Timestamp> =
        times.iter().map(|time| time.parse().unwrap()).collect();
    assert!(instants.is_sorted(), "{times:?}");
    instants.dedup();
    assert_eq!(instants.len(), 60, "half seconds lie between whole ones");
    assert!(all.iter().all(|line| line["gateway"].is_string()));

    let plant = tap(&hub, &["--gateway", "P/*", "**/t"]);
    assert_eq!(plant.len(), 60);
    assert!(plant.iter().all(|line| line["path"] == "P/one/t" || line["path"] == "P/two/t"));
    assert_eq!(tap(&hub, &["--gateway", "P/g1", "--gateway", "Q/g1"]).len(), 65);

    // Stored now, and an hour old: what is stored says nothing of where the range begins.
    let (from, to) = (begin + 12 * SECOND, begin + 14 * SECOND);
    let (from, to) = (Moment(from).rfc3339(), Moment(to).rfc3339());
    let range = tap(&hub, &["--from", &from, "--to", &to, "P/one/n", "P/two"]);
    let expected = ["P/one/n", "P/two/t", "P/one/n", "P/two/t"];
    assert_eq!(range.iter().map(|line| &line["path"]).collect::<Vec<_>>(), expected);
    assert_eq!(range[0]["acquired"], from.as_str());
    assert!(tap(&hub, &["--gateway", "P/g1", "--from", "-10m"]).is_empty());
    assert_eq!(tap(&hub, &["--gateway", "P/g1", "--from", "-2h"]).len(), 60);
    let csv = Said::of(tidegate().args(["tap", "--format", "csv", "--server", &url(&hub)]));
    assert_eq!((csv.code, csv.out.lines().count()), (0, 96), "{csv:?}");

    let refused = |arguments: &[&str]| {
        Said::of(tidegate().arg("tap").arg("--server").arg(url(&hub)).args(arguments))
    };
    refused(&["--gateway", "R/*"]).refused(1, &["no gateway at the hub fits"]);
    refused(&["--from", "-1h", "--to", "-2h"]).refused(2, &["--from is not before --to"]);
    refused(&["--from", "2026-01-31T06:00:00"]).refused(2, &["has no time zone"]);
    refused(&["--format", "nats"]).refused(2, &["--subject"]);
    refused(&["--subject", "plc.{path}"]).refused(2, &["--format nats"]);
    refused(&["--subject", "plc.*", "--format", "nats"]).refused(2, &["does not fit"]);
}

#[tokio::test]
async fn names_that_stand_days_before_a_range_are_found() {
    let hub = Hub::start().await;
    let begin = begin();
    let mut one = Writer::new("P/g1", 1);
    let names = one.names(&["P/t"]);
    publish(&hub, &one.subject(), names).await;
    // So much that it is read in many portions.
    for step in 0..300 {
        let payload = one.seconds(begin - 3000 * SECOND + step * 10 * SECOND, 10);
        publish(&hub, &one.subject(), payload).await;
    }
    let from = Moment(begin - 5 * SECOND).rfc3339();
    let lines = tap(&hub, &["--from", &from]);
    assert_eq!(lines.len(), 5);
    assert!(lines.iter().all(|line| line["path"] == "P/t"), "{lines:?}");
}

#[tokio::test]
async fn copies_with_different_holes_give_each_sample_once() {
    let (first, second) = (Hub::start().await, Hub::start().await);
    let mut one = Writer::new("P/g1", 1);
    let names = one.names(&["P/t", "P/n"]);
    for hub in [&first, &second] {
        publish(hub, &one.subject(), names.clone()).await;
    }
    for step in 0..9 {
        let payload = one.seconds(begin() + step * 10 * SECOND, 10);
        let subject = one.subject();
        if step % 3 != 1 {
            publish(&first, &subject, payload.clone()).await;
        }
        if step % 3 != 2 {
            publish(&second, &subject, payload).await;
        }
    }
    let alone = tap(&first, &["--gateway", "P/g1"]);
    assert_eq!(alone.len(), 6 * 20);
    let both = tap(&first, &["--gateway", "P/g1", "--mirror", &url(&second)]);
    let seqs: Vec<u64> = both.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (0..180).collect::<Vec<_>>());
    assert!(both.iter().all(|line| line["path"].is_string()));
}

/// A server with a stream that takes `plc.>`.
async fn target(dir: &Path) -> (Server, jetstream::stream::Stream) {
    let store = dir.join("store");
    let config = format!("listen: \"127.0.0.1:-1\"\njetstream {{ store_dir: {store:?} }}\n");
    let server = Server::start(&dir.join("target"), &config).await;
    let client = async_nats::connect(server.client.to_string()).await.unwrap();
    let config = jetstream::stream::Config {
        name: "PLC".to_owned(),
        subjects: vec!["plc.>".to_owned()],
        ..Default::default()
    };
    let stream = jetstream::new(client).create_stream(config).await.unwrap();
    (server, stream)
}

async fn stored(stream: &jetstream::stream::Stream) -> Vec<(String, Json)> {
    let last = stream.get_info().await.unwrap().state.last_sequence;
    let mut all = Vec::new();
    for seq in 1..=last {
        let message = stream.get_raw_message(seq).await.unwrap();
        let json = serde_json::from_slice(&message.payload).unwrap();
        all.push((message.subject.to_string(), json));
    }
    all
}

fn republish(hub: &Hub, target: &Server, more: &[&str]) -> Said {
    let to = format!("nats://{}", target.client);
    let mut command = tidegate();
    command.args(["tap", "--format", "nats", "--subject", "plc.{path}", "--server", &url(hub)]);
    Said::of(command.args(["--to-server", &to]).args(more))
}

#[tokio::test]
async fn what_is_published_again_goes_on_where_the_stream_stands() {
    let hub = Hub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (server, stream) = target(dir.path()).await;
    let begin = begin();
    let mut one = Writer::new("P/g1", 1);
    let names = one.names(&["P/a b/t", "P/n"]);
    publish(&hub, &one.subject(), names.clone()).await;
    let mut sent = vec![(one.subject(), names)];
    for round in 0..3_i64 {
        let payload = one.seconds(begin + round * 10 * SECOND, 10);
        publish(&hub, &one.subject(), payload.clone()).await;
        sent.push((one.subject(), payload));
        let said = republish(&hub, &server, &[]);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.err.contains("20 samples published"), "{said:?}");
        let again = republish(&hub, &server, &[]);
        assert!(again.err.contains("0 samples published"), "{again:?}");
    }
    let all = stored(&stream).await;
    let seqs: Vec<u64> = all.iter().map(|(_, json)| json["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (0..60).collect::<Vec<_>>());
    assert!(all.iter().any(|(subject, _)| subject == "plc.P.a%20b.t"), "{:?}", all[0]);

    // A copy of the record with other places, one message of which is missing at first.
    let copy = Hub::start().await;
    publish(&copy, "tide.Q.x.00000000000000000000000000000000.frames", b"no frame".into()).await;
    for (subject, payload) in &sent {
        publish(&copy, subject, payload.clone()).await;
    }
    let payload = one.seconds(begin + 30 * SECOND, 10);
    publish(&copy, &one.subject(), payload).await;
    let said = republish(&copy, &server, &["--gateway", "P/g1"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("20 samples published; 60 were there"), "{said:?}");
    let seqs: Vec<u64> =
        stored(&stream).await.iter().map(|(_, json)| json["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (0..80).collect::<Vec<_>>());

    // Somebody else's message says nothing of where to go on.
    let client = async_nats::connect(server.client.to_string()).await.unwrap();
    let context = jetstream::new(client);
    context.publish("plc.x", Bytes::from_static(b"{}")).await.unwrap().await.unwrap();
    republish(&hub, &server, &[]).refused(69, &["message 81 of somebody else"]);
    stream.purge().await.unwrap();
    republish(&hub, &server, &[]).refused(69, &["say with --from where to begin"]);
    let said = republish(&hub, &server, &["--from", &Moment(begin + 25 * SECOND).rfc3339()]);
    assert!(said.err.contains("10 samples published"), "{said:?}");
}

#[tokio::test]
async fn two_who_publish_at_once_double_nothing() {
    let hub = Hub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (server, stream) = target(dir.path()).await;
    let mut one = Writer::new("P/g1", 1);
    let names = one.names(&["P/a", "P/b", "P/c"]);
    publish(&hub, &one.subject(), names).await;
    for step in 0..20 {
        let payload = one.seconds(begin() + step * 50 * SECOND, 50);
        publish(&hub, &one.subject(), payload).await;
    }
    let (said, other) = std::thread::scope(|scope| {
        let run = || scope.spawn(|| republish(&hub, &server, &[]));
        let (one, two) = (run(), run());
        (one.join().unwrap(), two.join().unwrap())
    });
    // Either may have been in the other's way; one of them came to the end.
    assert!(said.code == 0 || other.code == 0, "{said:?} {other:?}");
    let seqs: Vec<u64> =
        stored(&stream).await.iter().map(|(_, json)| json["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (0..3000).collect::<Vec<_>>());
}
