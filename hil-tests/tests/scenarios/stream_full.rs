//! A hub without room, by whichever limit: named with its remedy, waited out, and over by itself.

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use tidegate_hil_tests::wait::until;
use tidegate_hil_tests::{Rig, stream};

use crate::CATCH_UP;

async fn running() -> Rig {
    let rig = Rig::running().await.unwrap();
    let n = rig.polls(10).await.unwrap();
    rig.hub_holds(n, CATCH_UP).await.unwrap();
    rig
}

async fn configure(rig: &Rig, change: impl FnOnce(&mut Config)) {
    let (url, name) = (rig.hub.admin_url().unwrap(), rig.hub.stream().unwrap().to_owned());
    stream::configure(&url, &name, false, change).await.unwrap();
}

/// How often the uplink has sent something, answered or not.
fn refusals(rig: &Rig) -> u64 {
    rig.gateway.status().unwrap()["counters"]["uplink_refusals"].as_u64().unwrap()
}

/// The alarm is raised, recording goes on, and the hub is not asked without end.
async fn is_named_and_waited_out(rig: &Rig, says: &str) {
    let text = rig.gateway.alarm("stream-full").await.unwrap();
    assert!(text.contains(says) && text.contains("raise its max_bytes"), "{text}");
    let before = refusals(rig);
    rig.polls(40).await.unwrap();
    let asked = refusals(rig) - before;
    assert!(asked <= 8, "asked {asked} times while 40 values were polled");
    until(CATCH_UP, "the uplink says why it waits", || async {
        Ok((rig.gateway.status()?["uplink"]["why"] == "stream-full").then_some(()))
    })
    .await
    .unwrap();
}

async fn is_over(rig: &mut Rig) {
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
    until(CATCH_UP, "the alarm is over", || async {
        let status = rig.gateway.status()?;
        Ok(status["alarms"].as_array().is_some_and(Vec::is_empty).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_refuses_what_is_new_when_full_is_named_and_goes_on_once_there_is_room() {
    let mut rig = running().await;
    configure(&rig, |it| {
        it.discard = DiscardPolicy::New;
        it.max_bytes = 1;
    })
    .await;
    is_named_and_waited_out(&rig, "maximum bytes exceeded").await;
    configure(&rig, |it| it.max_bytes = -1).await;
    is_over(&mut rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_takes_no_more_messages_is_named_and_goes_on_once_it_does() {
    let mut rig = running().await;
    configure(&rig, |it| {
        it.discard = DiscardPolicy::New;
        it.max_messages = 1;
    })
    .await;
    is_named_and_waited_out(&rig, "maximum messages exceeded").await;
    configure(&rig, |it| it.max_messages = -1).await;
    is_over(&mut rig).await;
}

/// The account's limit holds whatever the stream's are.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_storage_left_is_named_and_goes_on_once_it_has_some() {
    let mut rig = running().await;
    rig.hub.edit("jetstream: enabled", "jetstream: { max_file: 1024 }").unwrap();
    rig.hub.reload().await.unwrap();
    is_named_and_waited_out(&rig, "resource limits exceeded").await;
    rig.hub.edit("jetstream: { max_file: 1024 }", "jetstream: enabled").unwrap();
    rig.hub.reload().await.unwrap();
    is_over(&mut rig).await;
}
