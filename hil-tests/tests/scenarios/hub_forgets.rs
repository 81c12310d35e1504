use std::time::Duration;

use tidegate_hil_tests::wait::{SOON, until};
use tidegate_hil_tests::{Rig, stream};

use crate::CATCH_UP;

const ARCHIVE: &str = "ARCHIVE";

/// Where nothing is let go of.
async fn keep_an_archive(rig: &Rig) {
    let (url, name) = (rig.hub.admin_url().unwrap(), rig.hub.stream().unwrap());
    stream::archive(&url, name, ARCHIVE).await.unwrap();
}

/// Waits until the stream has taken in so many messages more.
async fn messages(rig: &Rig, more: u64) {
    let before = rig.messages_at_hub().await.unwrap();
    until(SOON, "more messages at the hub", || async {
        Ok((rig.messages_at_hub().await? >= before + more).then_some(()))
    })
    .await
    .unwrap();
}

/// What the uplink has counted.
fn counted(rig: &Rig, name: &str) -> u64 {
    let status = rig.gateway.status().unwrap();
    let counters = status["counters"].as_object().unwrap();
    let found = counters.iter().find(|(key, _)| key.contains(name));
    found.unwrap_or_else(|| panic!("no {name}: {status:#}")).1.as_u64().unwrap()
}

/// A running rig whose stream may be purged, with something delivered.
async fn with_purgeable_stream() -> Rig {
    let mut rig = Rig::with_plc_off().await.unwrap();
    let (url, name) = (rig.hub.admin_url().unwrap(), rig.hub.stream().unwrap().to_owned());
    let may_be_purged = |config: &mut async_nats::jetstream::stream::Config| {
        config.deny_purge = false;
    };
    stream::configure(&url, &name, true, may_be_purged).await.unwrap();
    keep_an_archive(&rig).await;
    rig.switch_plc_on().await.unwrap();
    rig.gateway.start().await.unwrap();
    let early = rig.polls(15).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    rig
}

/// What the hub let go of is where the proof begins, not a loss, and is not sent again: with what
/// was kept elsewhere, everything is there once.
async fn begins_later_and_is_whole(rig: &mut Rig) {
    let account = rig.account_of_archive(ARCHIVE, CATCH_UP).await.unwrap();
    let why = account.short();
    assert!(account.findings.is_clean() && account.findings.named_holes.len() <= 1, "{why}");
    assert_eq!(account.claim.verdict, "balanced-to-watermark", "{why}");
    assert_eq!(account.report["epochs"][0]["complete-from"]["frame"], 0, "{why}");

    let (report, exit_ok) = rig.prove_at(&rig.hub).await.unwrap();
    assert!(exit_ok, "{report:#}");
    assert_eq!(report["verdict"], "balanced-to-watermark", "{report:#}");
    let epoch = &report["epochs"][0];
    assert_eq!(epoch["complete-from"]["is-beginning"], false, "{report:#}");
    assert_eq!(epoch["sequenced"]["count"], 0, "{report:#}");
    assert_eq!(counted(rig, "rewinds"), 0, "sent again what was not lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_admin_purged_is_neither_sent_again_nor_called_lost() {
    let mut rig = with_purgeable_stream().await;
    let (url, name) = (rig.hub.admin_url().unwrap(), rig.hub.stream().unwrap().to_owned());
    for _ in 0..2 {
        let purged = stream::purge(&url, &name, None).await.unwrap();
        assert!(purged > 0);
        messages(&rig, 2).await;
    }
    begins_later_and_is_whole(&mut rig).await;
}

/// While the gateway cannot see it: the stream is emptied to the last message and goes on from
/// there, and the gateway starts anew with a cursor that points to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_during_an_outage_and_a_restart_is_no_loss() {
    let mut rig = with_purgeable_stream().await;
    let (url, name) = (rig.hub.admin_url().unwrap(), rig.hub.stream().unwrap().to_owned());
    rig.wan.cut_closed().await.unwrap();
    rig.sit_out(Duration::from_secs(2)).await.unwrap();
    let span = stream::span(&url, &name).await.unwrap();
    let purged = stream::purge(&url, &name, None).await.unwrap();
    assert!(purged > 0, "{span:?}");
    rig.gateway.stop().await.unwrap();
    rig.gateway.start().await.unwrap();
    rig.wan.restore().await.unwrap();
    rig.polls(10).await.unwrap();
    begins_later_and_is_whole(&mut rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_aged_out_at_the_hub_is_neither_sent_again_nor_called_lost() {
    let mut rig = Rig::running().await.unwrap();
    keep_an_archive(&rig).await;
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    let (url, name) = (rig.hub.admin_url().unwrap(), rig.hub.stream().unwrap().to_owned());
    // Everything that is there ages out while the gateway is cut off.
    rig.wan.cut_closed().await.unwrap();
    let soon = |config: &mut async_nats::jetstream::stream::Config| {
        config.max_age = Duration::from_secs(1);
        config.duplicate_window = Duration::from_secs(1);
    };
    stream::configure(&url, &name, false, soon).await.unwrap();
    until(SOON, "everything at the hub has aged out", || async {
        Ok((stream::span(&url, &name).await?.0 == 0).then_some(()))
    })
    .await
    .unwrap();
    let late = |config: &mut async_nats::jetstream::stream::Config| {
        config.max_age = Duration::from_secs(3600);
    };
    stream::configure(&url, &name, false, late).await.unwrap();
    rig.wan.restore().await.unwrap();
    rig.polls(10).await.unwrap();
    begins_later_and_is_whole(&mut rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_lets_the_oldest_go_and_that_is_no_loss() {
    let mut rig = Rig::running().await.unwrap();
    keep_an_archive(&rig).await;
    let (url, name) = (rig.hub.admin_url().unwrap(), rig.hub.stream().unwrap().to_owned());
    let small = |config: &mut async_nats::jetstream::stream::Config| config.max_bytes = 4096;
    stream::configure(&url, &name, false, small).await.unwrap();
    until(SOON * 2, "the first messages are gone", || async {
        Ok((stream::span(&url, &name).await?.1 > 3).then_some(()))
    })
    .await
    .unwrap();
    rig.polls(5).await.unwrap();
    begins_later_and_is_whole(&mut rig).await;
}

/// An admin deletes the stream and makes it anew: everything that is still kept comes again, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_deleted_and_made_anew_gets_everything_again() {
    let mut rig = Rig::running().await.unwrap();
    let (url, name) = (rig.hub.admin_url().unwrap(), rig.hub.stream().unwrap().to_owned());
    for is_cut_off in [false, true] {
        let n = rig.polls(10).await.unwrap();
        rig.hub_holds(n, CATCH_UP).await.unwrap();
        if is_cut_off {
            rig.wan.cut_closed().await.unwrap();
        }
        stream::configure(&url, &name, true, |_same| {}).await.unwrap();
        rig.wan.restore().await.unwrap();
        rig.polls(10).await.unwrap();
        rig.verify_nothing_lost(CATCH_UP).await.unwrap();
    }
    assert!(counted(&rig, "rewinds") > 0);
    rig.gateway.alarm("hub-lost-data").await.unwrap();
}
