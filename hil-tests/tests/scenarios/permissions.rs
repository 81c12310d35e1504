//! Rights that are taken away at the hub and given back.

use tidegate_hil_tests::wait::until;
use tidegate_hil_tests::{Rig, family};

use crate::CATCH_UP;

async fn running() -> Rig {
    let rig = Rig::running().await.unwrap();
    let n = rig.polls(10).await.unwrap();
    rig.hub_holds(n, CATCH_UP).await.unwrap();
    rig
}

/// Changes the hub's configuration and has the gateway's links made anew: a link keeps the rights
/// that it was made with.
async fn change(rig: &mut Rig, from: &str, to: &str) {
    rig.hub.edit(from, to).unwrap();
    rig.hub.reload().await.unwrap();
    rig.wan.cut_closed().await.unwrap();
    rig.wan.restore().await.unwrap();
}

/// Waits until nothing is wrong any more, without anybody touching the links.
async fn is_over(rig: &mut Rig) {
    rig.verify_nothing_lost(CATCH_UP * 3).await.unwrap();
    until(CATCH_UP, "the alarm is over", || async {
        let status = rig.gateway.status()?;
        Ok(status["alarms"].as_array().is_some_and(Vec::is_empty).then_some(()))
    })
    .await
    .unwrap();
}

/// The hub answers questions and takes no frames. Given back by a reload alone, which keeps the
/// links: the gateway makes its own anew.
#[tokio::test(flavor = "multi_thread")]
async fn the_right_to_deliver_taken_away_is_named_and_used_again_once_it_is_given_back() {
    let mut rig = running().await;
    let (may, may_not) = ("\"tide.PlantA.gw-line3.*.frames\"", "\"tide.nobody.here.*.frames\"");
    change(&mut rig, may, may_not).await;
    // First that nobody takes its frames; then the right that it asked the hub for.
    let text = rig.gateway.alarm_saying("no-permission", "not permit").await.unwrap();
    assert!(text.contains("publish tide.PlantA.gw-line3.*.frames (the record)"), "{text}");
    rig.polls(20).await.unwrap();
    rig.hub.edit(may_not, may).unwrap();
    rig.hub.reload().await.unwrap();
    is_over(&mut rig).await;
}

/// Gives a right back whose absence looks like a hub that is away. By a reload alone, which keeps the
/// links, it is used once the leaf is started again for the hub's silence, after a minute and a half:
/// a long run waits for that, another one has the links made anew.
async fn give_back(rig: &mut Rig, from: &str, to: &str) {
    if std::env::var_os("TIDEGATE_RIG_LONG").is_none() {
        return change(rig, from, to).await;
    }
    rig.hub.edit(from, to).unwrap();
    rig.hub.reload().await.unwrap();
}

/// The hub takes frames and answers no question about the stream: nothing is sent blindly.
#[tokio::test(flavor = "multi_thread")]
async fn the_right_to_ask_about_the_stream_taken_away_is_named_and_used_again() {
    let mut rig = running().await;
    let (may, may_not) =
        ("\"tideinfo.TIDE\"\n            \"uns", "\"tideinfo.NONE\"\n            \"uns");
    change(&mut rig, may, may_not).await;
    // It asks when its own link opens, and otherwise seldom: frames go on meanwhile.
    for leaf in rig.gateway.leaves().unwrap() {
        family::kill9(leaf).unwrap();
    }
    let text = rig.gateway.alarm("hub-silent").await.unwrap();
    assert!(text.contains("may ask tideinfo.TIDE"), "{text}");
    let text = rig.gateway.alarm("no-permission").await.unwrap();
    assert!(text.contains("publish tideinfo.TIDE ("), "{text}");
    rig.polls(20).await.unwrap();
    give_back(&mut rig, may_not, may).await;
    is_over(&mut rig).await;
}

/// No answer comes back at all.
#[tokio::test(flavor = "multi_thread")]
async fn the_right_to_hear_answers_taken_away_is_named_and_used_again() {
    let mut rig = running().await;
    let (may, may_not) = ("\"_INBOX.PlantA.gw-line3.>\"", "\"_INBOX.nobody.>\"");
    change(&mut rig, may, may_not).await;
    let text = rig.gateway.alarm("hub-silent").await.unwrap();
    assert!(text.contains("PlantA/gw-line3"), "{text}");
    let text = rig.gateway.alarm("no-permission").await.unwrap();
    assert!(text.contains("subscribe _INBOX.PlantA.gw-line3.> (every answer"), "{text}");
    rig.polls(20).await.unwrap();
    give_back(&mut rig, may_not, may).await;
    is_over(&mut rig).await;
}

/// The gateway is removed as a whole, and admitted again.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_revoked_records_on_and_delivers_once_it_is_admitted_again() {
    let mut rig = running().await;
    let (admitted, revoked) = ("\"CN=PlantA/gw-line3,O=Tidegate\"", "\"CN=nobody,O=Tidegate\"");
    change(&mut rig, admitted, revoked).await;
    let text = rig.gateway.alarm("hub-silent").await.unwrap();
    assert!(text.contains("certificate in use as gateway PlantA/gw-line3"), "{text}");
    assert!(text.contains("The leaf says"), "{text}");
    rig.polls(20).await.unwrap();
    rig.hub.edit(revoked, admitted).unwrap();
    rig.hub.reload().await.unwrap();
    is_over(&mut rig).await;
}
