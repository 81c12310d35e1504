//! The record at the hub for whoever knows nothing of us.

use std::time::Duration;

use serde_json::Value;
use tidegate_hil_tests::consumer::Consumer;
use tidegate_hil_tests::{Rig, Wishes, wait};

use crate::{CATCH_UP, Dice};

/// The sample that a line is.
fn sample(mut line: Value) -> Value {
    line.as_object_mut().unwrap().remove("gateway");
    line
}

/// Killed again and again in the middle of publishing, with its target frozen once: nothing is
/// there twice, nothing is missing, and the order is the record's. Parquet says the same as JSON.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_again_is_there_once_however_often_the_publisher_is_killed() {
    let mut dice = Dice::of("tap");
    let wishes = Wishes { noise: 1, noise_every_ms: 20, ..Wishes::default() };
    let mut rig = Rig::running_with(wishes).await.unwrap();
    let hub = rig.hub.reader_url().unwrap();
    let consumer =
        Consumer::start(rig.family(), &rig.path("consumer").unwrap(), hub).await.unwrap();
    for round in 0..6 {
        let before = consumer.taken_in().await.unwrap();
        let mut tap = consumer.follow().unwrap();
        let goal = before + 100 + dice.below(1500);
        wait::until(CATCH_UP, "more samples are published", || async {
            Ok((consumer.taken_in().await? >= goal).then_some(()))
        })
        .await
        .unwrap();
        if round == 2 {
            // Longer than an acknowledgement is waited for.
            consumer.server().freeze().unwrap();
            tokio::time::sleep(Duration::from_secs(6)).await;
            consumer.server().thaw().unwrap();
            let goal = goal + 2000;
            wait::until(CATCH_UP, "the publishing goes on", || async {
                Ok((consumer.taken_in().await? >= goal).then_some(()))
            })
            .await
            .unwrap();
        }
        tap.kill9().unwrap();
    }
    rig.gateway.stop().await.unwrap();
    consumer.publish().unwrap();
    assert!(consumer.publish().unwrap().starts_with("0 samples published"));

    let lines = consumer.file(rig.gateway.id(), "jsonl").unwrap();
    let text = std::fs::read_to_string(&lines).unwrap();
    let expected: Vec<Value> =
        text.lines().map(|line| sample(serde_json::from_str(line).unwrap())).collect();
    let published = consumer.messages().await.unwrap();
    assert_eq!(published.len(), expected.len());
    for ((subject, message), expected) in published.into_iter().zip(&expected) {
        let path = expected["path"].as_str().unwrap().replace('/', ".");
        assert_eq!(subject, format!("plc.{path}"));
        assert_eq!(sample(message), *expected);
    }
    let parquet = consumer.file(rig.gateway.id(), "parquet").unwrap();
    let rows = consumer.compared(&parquet, &lines).unwrap();
    assert_eq!(usize::try_from(rows).unwrap(), expected.len());
}
