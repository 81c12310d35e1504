//! Something else where the hub was: nothing is sent there, it is named, and delivery goes on once
//! the hub is what it was.

use async_nats::jetstream::stream::Config;
use tidegate_hil_tests::{Rig, stream};

use crate::CATCH_UP;

async fn running() -> Rig {
    let rig = Rig::running().await.unwrap();
    let n = rig.polls(10).await.unwrap();
    rig.hub_holds(n, CATCH_UP).await.unwrap();
    rig
}

/// Restarts the hub with a changed configuration.
async fn changed(rig: &mut Rig, from: &str, to: &str) {
    rig.hub.kill9().unwrap();
    rig.hub.edit(from, to).unwrap();
    rig.start_hub_again().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_of_another_domain_is_named_and_gets_nothing() {
    let mut rig = running().await;
    changed(&mut rig, "domain: \"hub\"", "domain: \"elsewhere\"").await;
    let text = rig.gateway.alarm("wrong-hub").await.unwrap();
    // By its INFO, or by its acknowledgement of what was under way and does not count.
    assert!(text.contains("TIDE in domain elsewhere"), "{text}");
    let before = rig.messages_at_hub().await.unwrap();
    rig.polls(20).await.unwrap();
    assert_eq!(rig.messages_at_hub().await.unwrap(), before, "sent to another hub");
    changed(&mut rig, "domain: \"elsewhere\"", "domain: \"hub\"").await;
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}

/// A stream that collects the same subjects acknowledges what is not meant for it.
#[tokio::test(flavor = "multi_thread")]
async fn another_stream_on_our_subjects_is_named_and_acknowledges_nothing_of_ours() {
    let mut rig = running().await;
    let (url, name) = (rig.hub.admin_url().unwrap(), rig.hub.stream().unwrap().to_owned());
    let jetstream = async_nats::jetstream::new(stream::connect(&url).await.unwrap());
    let ours = jetstream.get_stream(&name).await.unwrap().cached_info().config.clone();
    jetstream.delete_stream(&name).await.unwrap();
    let other = Config { name: "OTHER".to_owned(), ..ours.clone() };
    jetstream.create_stream(other).await.unwrap();
    let text = rig.gateway.alarm("no-stream").await.unwrap();
    assert!(text.contains("no stream TIDE in domain hub"), "{text}");
    rig.polls(20).await.unwrap();
    jetstream.delete_stream("OTHER").await.unwrap();
    jetstream.create_stream(ours).await.unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn jetstream_switched_off_in_the_streams_account_is_named_and_goes_on_once_it_is_on() {
    let mut rig = running().await;
    changed(&mut rig, "jetstream: enabled", "jetstream: disabled").await;
    let text = rig.gateway.alarm("no-jetstream").await.unwrap();
    assert!(text.contains("the account that holds stream TIDE"), "{text}");
    rig.polls(20).await.unwrap();
    changed(&mut rig, "jetstream: disabled", "jetstream: enabled").await;
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}

/// Without it nobody is there to say so; what to look at is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_without_jetstream_is_named_and_goes_on_once_it_has_it() {
    let mut rig = running().await;
    let (on, off) = ("jetstream {\n", "jetstream {\n  enabled: false\n");
    changed(&mut rig, on, off).await;
    let text = rig.gateway.alarm("hub-silent").await.unwrap();
    assert!(text.contains("that it runs with JetStream"), "{text}");
    rig.polls(20).await.unwrap();
    changed(&mut rig, off, on).await;
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}
