//! `prove` and `tap` at a real hub.

use std::net::TcpListener;

use serde_json::Value;

use crate::common::Hub;
use crate::site::{Said, Site, prove, tidegate};

/// A gateway that delivered, and was stopped.
async fn delivered(hub: &Hub) -> Site {
    let site = Site::at(hub).await;
    let daemon = site.start().await;
    crate::common::eventually("several messages are at the hub", async || {
        (hub.stored("tide.>").await > 3).then_some(())
    })
    .await;
    daemon.stop().await;
    site
}

/// The subject and the bytes of the message with this place in the stream.
async fn message(hub: &Hub, seq: u64) -> (String, bytes::Bytes) {
    let stream = hub.admin().await.get_stream("TIDE").await.unwrap();
    let message = stream.get_raw_message(seq).await.unwrap();
    (message.subject.to_string(), message.payload)
}

async fn publish(hub: &Hub, subject: String, payload: bytes::Bytes) {
    let admin = hub.admin().await;
    admin.publish(subject, payload).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn a_balanced_record_is_0_for_people_and_programs() {
    let hub = Hub::start().await;
    let _site = delivered(&hub).await;
    let said = Said::of(&mut prove(&hub));
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("P/g1: balanced-to-watermark\n"), "{}", said.out);
    for part in ["complete from  frame 0", "watermark      frame", "lost           none"] {
        assert!(said.out.contains(part), "no {part:?} in\n{}", said.out);
    }
    let report = Said::of(prove(&hub).arg("--json")).json();
    assert_eq!(
        (&report["format"], &report["verdict"]),
        (&1.into(), &"balanced-to-watermark".into())
    );
}

#[tokio::test]
async fn a_repeated_message_is_found() {
    let hub = Hub::start().await;
    let _site = delivered(&hub).await;
    let (subject, payload) = message(&hub, 1).await;
    publish(&hub, subject, payload).await;
    let said = Said::of(&mut prove(&hub));
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.starts_with("P/g1: unbalanced\n"), "{}", said.out);
    let report = Said::of(prove(&hub).arg("--json")).json();
    let twice = report["epochs"][0]["duplicates"]["count"].as_u64();
    assert!(twice.is_some_and(|count| count > 0), "{report:#}");
}

#[tokio::test]
async fn a_deleted_message_is_found() {
    let hub = Hub::start().await;
    let _site = delivered(&hub).await;
    // `deny_delete` keeps everybody from it, so a copy with a hole stands in.
    let stored = hub.stored("tide.>").await as u64;
    let mut all = Vec::new();
    for seq in 1..=stored {
        all.push(message(&hub, seq).await);
    }
    all.remove(1);
    let copy = Hub::start().await;
    for (subject, payload) in all {
        publish(&copy, subject, payload).await;
    }
    let said = Said::of(&mut prove(&copy));
    assert_eq!(said.code, 1, "{said:?}");
    let report = Said::of(prove(&copy).arg("--json")).json();
    let gaps = report["epochs"][0]["gaps"]["count"].as_u64();
    assert!(gaps.is_some_and(|count| count > 0), "{report:#}");
}

#[tokio::test]
async fn a_strange_message_is_listed_and_proves_nothing() {
    let hub = Hub::start().await;
    let _site = delivered(&hub).await;
    let (subject, _) = message(&hub, 1).await;
    publish(&hub, subject, "not a frame".into()).await;
    let report = Said::of(prove(&hub).arg("--json")).json();
    assert_eq!(report["foreign"]["count"], 1, "{report:#}");
}

#[tokio::test]
async fn a_hub_that_cannot_be_reached_or_read_is_69() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for verb in ["prove", "tap"] {
        let mut command = tidegate();
        command.args([verb, "--gateway", "P/g1", "--server"]).arg(format!("nats://{nobody}"));
        Said::of(&mut command).refused(69, &["error: no connection to", &nobody.to_string()]);
    }
    let hub = Hub::start_without_stream().await;
    Said::of(&mut prove(&hub)).refused(69, &["TIDE"]);
}

#[tokio::test]
async fn a_gateway_that_nobody_knows_is_not_balanced() {
    let hub = Hub::start().await;
    let mut command = prove(&hub);
    let said = Said::of(command.arg("--json"));
    assert_eq!(said.code, 1, "nothing is no proof: {said:?}");
}

#[tokio::test]
async fn tap_prints_one_sample_per_line_in_order() {
    let hub = Hub::start().await;
    let _site = delivered(&hub).await;
    let mut command = tidegate();
    command.args(["tap", "--gateway", "P/g1", "--format", "jsonl", "--server"]);
    let said = Said::of(command.arg(format!("nats://{}", hub.server.client)));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let lines: Vec<Value> =
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 3, "{}", said.out);
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(line["seq"], n, "{line}");
        for key in ["path", "epoch", "ts", "acquired", "q"] {
            assert!(line[key].is_string(), "no {key} in {line}");
        }
        assert!(line.get("v").is_some(), "{line}");
    }
    let counts: Vec<_> = lines.iter().filter(|line| line["path"] == "P/press/n").collect();
    assert!(counts.iter().all(|line| line["v"].is_u64() && line["q"] == "good"), "{counts:?}");
}
