//! A hub that takes smaller messages than the gateway's leaf does.

use std::time::Duration;

use tidegate_hil_tests::wait::until;
use tidegate_hil_tests::{Rig, Wishes, stream};

use crate::CATCH_UP;

/// Noise that fills frames of some 30 kB, with several of them to a message.
fn large_frames() -> Wishes {
    Wishes { noise: 3, commit_every_ms: 1000, ..Wishes::default() }
}

/// How many values the uplink has counted under a name.
fn counted(rig: &Rig, name: &str) -> u64 {
    rig.gateway.status().unwrap()["counters"][name].as_u64().unwrap()
}

/// Waits until the hub has so many messages more.
async fn messages(rig: &Rig, more: u64) {
    let before = rig.messages_at_hub().await.unwrap();
    until(CATCH_UP, "more messages at the hub", || async {
        Ok((rig.messages_at_hub().await? >= before + more).then_some(()))
    })
    .await
    .unwrap();
}

/// How a hub is told of another limit.
#[derive(Clone, Copy)]
enum By {
    /// Its greeting then states the new one.
    Restart,
    /// Its greeting goes on stating the old one, which holds for links that are there already.
    Reload,
}

async fn limit(rig: &mut Rig, by: By, from: u32, to: u32) {
    let line = |bytes: u32| format!("max_payload: {bytes}\n");
    rig.hub.edit(&line(from), &line(to)).unwrap();
    match by {
        By::Restart => {
            rig.hub.kill9().unwrap();
            rig.start_hub_again().await.unwrap();
        }
        By::Reload => {
            rig.hub.reload().await.unwrap();
            rig.wan.cut_closed().await.unwrap();
            rig.wan.restore().await.unwrap();
        }
    }
}

fn links_closed(rig: &Rig) -> usize {
    rig.hub.log().unwrap().matches("maximum payload exceeded").count()
}

/// What gathers during an outage makes messages of several frames, each of which would fit alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_takes_less_after_a_restart_gets_smaller_messages_after_one_closed_link() {
    let mut rig = Rig::running_with(large_frames()).await.unwrap();
    messages(&rig, 2).await;
    limit(&mut rig, By::Restart, 1 << 20, 90_000).await;
    rig.wan.cut_closed().await.unwrap();
    rig.sit_out(Duration::from_secs(6)).await.unwrap();
    rig.wan.restore().await.unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
    assert!(links_closed(&rig) <= 1, "{} links were closed", links_closed(&rig));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_takes_less_after_a_reload_gets_smaller_messages_until_it_answers() {
    let mut rig = Rig::running_with(large_frames()).await.unwrap();
    messages(&rig, 2).await;
    rig.wan.cut_closed().await.unwrap();
    rig.sit_out(Duration::from_secs(6)).await.unwrap();
    limit(&mut rig, By::Reload, 1 << 20, 40_000).await;
    rig.verify_nothing_lost(CATCH_UP * 2).await.unwrap();
    assert!(links_closed(&rig) <= 6, "{} links were closed", links_closed(&rig));
}

/// Frames that do not fit are named with the setting and the number; recording goes on, and they go
/// by themselves once the hub takes them.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_takes_less_than_a_frame_is_named_and_everything_goes_once_it_takes_more() {
    let mut rig = Rig::running_with(large_frames()).await.unwrap();
    messages(&rig, 2).await;
    limit(&mut rig, By::Restart, 1 << 20, 8192).await;
    let text = rig.gateway.alarm("too-large").await.unwrap();
    assert!(text.contains("max_payload 8192 of the hub"), "{text}");
    until(CATCH_UP, "the uplink says why it waits", || async {
        Ok((rig.gateway.status()?["uplink"]["why"] == "too-large").then_some(()))
    })
    .await
    .unwrap();
    let recorded = counted(&rig, "samples_recorded");
    rig.polls(20).await.unwrap();
    assert!(counted(&rig, "samples_recorded") > recorded, "recording stopped");
    assert!(links_closed(&rig) <= 1, "{} links were closed", links_closed(&rig));
    limit(&mut rig, By::Restart, 8192, 1 << 20).await;
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}

/// Nobody states the number here; the size of the frame and what to look at are named.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the alarm takes minutes: see allowed-skips"]
async fn a_hub_that_takes_less_than_a_frame_after_a_reload_is_an_alarm_with_the_size_that_it_needs()
{
    let mut rig = Rig::running_with(large_frames()).await.unwrap();
    messages(&rig, 2).await;
    limit(&mut rig, By::Reload, 1 << 20, 8192).await;
    let text = rig.gateway.alarm("frames-unanswered").await.unwrap();
    assert!(text.contains("max_payload of the hub"), "{text}");
    assert!(text.contains("Maximum Payload Violation"), "the leaf knows: {text}");
    limit(&mut rig, By::Reload, 8192, 1 << 20).await;
    rig.verify_nothing_lost(CATCH_UP * 2).await.unwrap();
    assert!(links_closed(&rig) <= 7, "{} links were closed", links_closed(&rig));
}

/// The stream's own limit, changed under an open link: the hub says so, and INFO tells the number.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_takes_less_than_a_frame_is_named_and_everything_goes_once_it_takes_more() {
    let mut rig = Rig::running_with(large_frames()).await.unwrap();
    messages(&rig, 2).await;
    let (url, name) = (rig.hub.admin_url().unwrap(), rig.hub.stream().unwrap().to_owned());
    stream::configure(&url, &name, false, |it| it.max_message_size = 8192).await.unwrap();
    let text = rig.gateway.alarm("too-large").await.unwrap();
    assert!(text.contains("max_msg_size 8192 of stream TIDE"), "{text}");
    stream::configure(&url, &name, false, |it| it.max_message_size = -1).await.unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}
