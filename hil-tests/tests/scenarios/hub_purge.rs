//! A stream whose messages may be purged by subject, which a hub of ours forbids.

use tidegate_hil_tests::wait::until;
use tidegate_hil_tests::{Rig, stream};

use crate::CATCH_UP;

/// What stands on one gateway's subject is purged while another's messages stay: to the gateway that
/// looks like a hub that went back. It is sent again, each frame once, and the alarm says both.
#[tokio::test(flavor = "multi_thread")]
async fn one_gateways_record_purged_beside_anothers_is_sent_again_and_named_as_either() {
    let mut rig = Rig::with_plc_off().await.unwrap();
    let (url, name) = (rig.hub.admin_url().unwrap(), rig.hub.stream().unwrap().to_owned());
    stream::configure(&url, &name, true, |it| it.deny_purge = false).await.unwrap();
    let client = stream::connect(&url).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let another = "tide.PlantB.gw-1.000102030405060708090a0b0c0d0e0f.frames";
    let stored = jetstream.publish(another, "another gateway's".into()).await.unwrap();
    stored.await.unwrap();
    rig.switch_plc_on().await.unwrap();
    rig.gateway.start().await.unwrap();
    let n = rig.polls(15).await.unwrap();
    rig.hub_holds(n, CATCH_UP).await.unwrap();
    let ours = "tide.PlantA.gw-line3.*.frames";
    assert!(stream::purge(&url, &name, Some(ours)).await.unwrap() > 0);
    let text = rig.gateway.alarm("hub-lost-data").await.unwrap();
    assert!(text.contains("or somebody deleted them there"), "{text}");
    rig.polls(5).await.unwrap();
    let account = rig.account(CATCH_UP).await.unwrap();
    let why = account.short();
    assert!(account.findings.is_clean() && account.findings.named_holes.is_empty(), "{why}");
    assert!(account.claim.is_balanced() && account.claim.exit_ok, "{why}");
    assert!(account.sequenced_causes().is_empty(), "{why}");
    until(CATCH_UP, "delivery has gone back once", || async {
        Ok((rig.gateway.status()?["counters"]["uplink_rewinds"] == 1).then_some(()))
    })
    .await
    .unwrap();
}
