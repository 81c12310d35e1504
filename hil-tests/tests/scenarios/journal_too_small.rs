use std::time::Duration;

use tidegate_hil_tests::wait::until;
use tidegate_hil_tests::{Rig, Wishes};

use crate::{CATCH_UP, CATCH_UP_ON_NOISE};

/// How long the journal may take to fill on a machine that has other work.
const TO_FILL: Duration = Duration::from_secs(90);

/// The smallest legal journal, on a disk with room for a few of its segments.
fn small(when_full: &'static str) -> Wishes {
    Wishes {
        max_bytes: "32 MiB",
        when_full,
        commit_every_ms: 20,
        noise: 10,
        disk_bytes: Some(9 << 20),
        ..Wishes::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_too_small_for_the_outage_names_exactly_what_it_dropped() {
    let mut rig = Rig::running_with(small("drop-oldest")).await.unwrap();
    // Of what is on its way when the link is cut nobody knows whether it arrived: not the first.
    let early = rig.polls(5).await.unwrap();
    rig.hub_holds(early, CATCH_UP_ON_NOISE).await.unwrap();
    rig.wan.cut_closed().await.unwrap();
    until(TO_FILL, "the journal drops something undelivered", || async {
        let status = rig.gateway.status()?;
        Ok((status["counters"]["frames_dropped"].as_u64() > Some(0)).then_some(()))
    })
    .await
    .unwrap();
    rig.gateway.alarm("frames-dropped").await.unwrap();
    rig.wan.restore().await.unwrap();
    let account = rig.account(CATCH_UP_ON_NOISE).await.unwrap();
    let why = account.short();
    assert!(account.findings.is_clean(), "{why}");
    assert_eq!(account.claim.verdict, "balanced-to-watermark", "{why}");
    let causes = account.sequenced_causes();
    assert!(!causes.is_empty() && causes.iter().all(|it| it == "dropped-oldest"), "{why}");
    let holes = &account.findings.named_holes;
    assert!(holes.iter().any(|(_, cause)| cause == "dropped-oldest"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_that_must_not_drop_stops_recording_names_it_and_goes_on_by_itself() {
    let mut rig = Rig::running_with(small("stop-recording")).await.unwrap();
    rig.polls(5).await.unwrap();
    rig.wan.cut_closed().await.unwrap();
    until(TO_FILL, "the journal is full", || async {
        let status = rig.gateway.status()?;
        let alarms = status["alarms"].as_array().into_iter().flatten();
        Ok(alarms.clone().any(|alarm| alarm["kind"] == "journal-full").then_some(()))
    })
    .await
    .unwrap();
    rig.polls(20).await.unwrap();
    rig.wan.restore().await.unwrap();
    rig.gateway.alarm_is_over("journal-full", CATCH_UP).await.unwrap();
    // A loss is written with its whole extent once it has not grown for some seconds.
    rig.polls(40).await.unwrap();
    let account = rig.account(CATCH_UP_ON_NOISE).await.unwrap();
    let why = account.short();
    assert!(account.findings.is_clean(), "{why}");
    assert_eq!(account.claim.verdict, "balanced-to-watermark", "{why}");
    assert!(account.sequenced_causes().is_empty(), "{why}");
    let holes = &account.findings.named_holes;
    assert!(holes.len() >= 10 && holes.iter().all(|(_, it)| it == "journal-full"), "{why}");
    let status = rig.gateway.status().unwrap();
    assert_eq!(status["journal"]["writable"], true, "{status:#}");
    let told = rig.gateway.log().unwrap().matches("live values go on").count();
    assert!(told < 10, "told {told} times that the journal is full");
}
