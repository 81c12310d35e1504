use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_hil_tests::disk::Disk;
use tidegate_hil_tests::wait::until;
use tidegate_hil_tests::{Rig, Wishes, live_values};

use crate::{CATCH_UP, CATCH_UP_ON_NOISE};

/// How long the journal may take to need a segment on a machine that has other work.
const TO_NEED: Duration = Duration::from_secs(60);

/// Segments of 2 MiB, and noise that fills one within seconds.
fn noisy(when_full: &'static str) -> Wishes {
    Wishes {
        max_bytes: "32 MiB",
        when_full,
        commit_every_ms: 20,
        noise: 10,
        noise_every_ms: 30,
        ..Wishes::default()
    }
}

/// Another program that takes every byte of the file system.
struct Hog(PathBuf);

impl Hog {
    fn take_all(disk: &Disk) -> Self {
        let path = disk.seen().join("somebody-elses");
        Self::fill(&path);
        Self(path)
    }

    /// Once more, for what was freed meanwhile.
    fn fill(path: &Path) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        for size in [1 << 20, 4096] {
            let bytes = vec![0xaa; size];
            loop {
                match file.write_all(&bytes).and_then(|()| file.sync_data()) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    fn leave(self) {
        std::fs::remove_file(self.0).unwrap();
    }
}

fn counter(rig: &Rig, name: &str) -> u64 {
    rig.gateway.status().unwrap()["counters"][name].as_u64().unwrap()
}

async fn written_more(rig: &Rig, bytes: u64) {
    let written = || {
        let status = rig.gateway.status()?;
        Ok::<_, anyhow::Error>(status["journal"]["written_bytes"].as_u64().unwrap_or(0))
    };
    let goal = written().unwrap() + bytes;
    until(TO_NEED, "the journal writes on", || async { Ok((written()? >= goal).then_some(())) })
        .await
        .unwrap();
}

async fn with_full_disk(when_full: &'static str) -> (Rig, Disk, Hog) {
    let disk = Disk::new(24 << 20, "errors=remount-ro").await.unwrap();
    let mut rig = Rig::running_with(disk.holding(noisy(when_full))).await.unwrap();
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    let hog = Hog::take_all(&disk);
    // More than the spare segment takes: only what the hub has can make room for another.
    written_more(&rig, 5 << 19).await;
    assert_eq!(counter(&rig, "frames_dropped"), 0, "delivered data goes first");
    live_values(&rig, 5).await.unwrap();
    let status = rig.gateway.status().unwrap();
    assert_eq!(status["journal"]["writable"], true, "{status:#}");
    rig.gateway.must_be_running().unwrap();
    (rig, disk, hog)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_filled_by_others_costs_the_oldest_undelivered_frames_which_are_named() {
    let (mut rig, _disk, hog) = with_full_disk("drop-oldest").await;
    // The last message arrives, is never heard of, and is among what is dropped.
    let silences = counter(&rig, "uplink_timeouts");
    rig.wan.cut_way_back().await.unwrap();
    until(CATCH_UP, "a message has no answer", || async {
        Ok((counter(&rig, "uplink_timeouts") > silences).then_some(()))
    })
    .await
    .unwrap();
    rig.wan.cut_closed().await.unwrap();
    assert!(rig.messages_at_hub().await.unwrap() > counter(&rig, "uplink_messages"));
    until(TO_NEED, "the journal drops something undelivered", || async {
        Ok((counter(&rig, "frames_dropped") > 0).then_some(()))
    })
    .await
    .unwrap();
    rig.gateway.alarm("frames-dropped").await.unwrap();
    // What lies on the full disk is whole: a start finds its journal, its catalog and its leaf.
    rig.gateway.kill9().unwrap();
    rig.gateway.start().await.unwrap();
    rig.polls(5).await.unwrap();
    hog.leave();
    rig.wan.restore().await.unwrap();
    rig.polls(20).await.unwrap();
    let account = rig.account(CATCH_UP_ON_NOISE).await.unwrap();
    let why = account.short();
    assert!(account.findings.is_clean(), "{why}");
    assert_eq!(account.claim.verdict, "balanced-to-watermark", "{why}");
    let causes = account.sequenced_causes();
    assert!(!causes.is_empty() && causes.iter().all(|it| it == "dropped-oldest"), "{why}");
    // The run after the kill knows what the hub has for its own: no epoch begins.
    let epochs = account.report["epochs"].as_array().unwrap();
    assert_eq!(epochs.len(), 1, "{why}");
    assert!(epochs[0]["overridden-claims"].as_u64() > Some(0), "{why}");
    assert!(!rig.gateway.log().unwrap().contains("never wrote"), "{why}");
    let named = ["dropped-oldest", "not-running"];
    let holes = &account.findings.named_holes;
    assert!(holes.iter().all(|(_, cause)| named.contains(&cause.as_str())), "{why}");
    assert!(!rig.gateway.log().unwrap().contains("panicked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_filled_by_others_stops_a_record_that_must_not_drop_until_there_is_room() {
    let (mut rig, _disk, hog) = with_full_disk("stop-recording").await;
    rig.wan.cut_closed().await.unwrap();
    until(TO_NEED, "the journal is full", || async {
        let status = rig.gateway.status()?;
        let alarms = status["alarms"].as_array().into_iter().flatten();
        Ok(alarms.clone().any(|alarm| alarm["kind"] == "journal-full").then_some(()))
    })
    .await
    .unwrap();
    Hog::fill(&hog.0);
    let before = counter(&rig, "samples_recorded");
    rig.polls(20).await.unwrap();
    let after = counter(&rig, "samples_recorded");
    assert!(after - before < 10_000, "{before} and {after}: it records although it is full");
    // Room alone is enough; the hub is still away.
    hog.leave();
    rig.gateway.alarm_is_over("journal-full", CATCH_UP).await.unwrap();
    rig.wan.restore().await.unwrap();
    live_values(&rig, 5).await.unwrap();
    // A loss is written with its whole extent once it has not grown for some seconds.
    rig.polls(40).await.unwrap();
    let account = rig.account(CATCH_UP_ON_NOISE).await.unwrap();
    let why = account.short();
    assert!(account.findings.is_clean(), "{why}");
    assert_eq!(account.claim.verdict, "balanced-to-watermark", "{why}");
    assert!(account.sequenced_causes().is_empty(), "{why}");
    let holes = &account.findings.named_holes;
    assert!(holes.len() >= 10 && holes.iter().all(|(_, it)| it == "journal-full"), "{why}");
    assert_eq!(rig.gateway.status().unwrap()["journal"]["writable"], true);
    let told = rig.gateway.log().unwrap().matches("live values go on").count();
    assert!(told < 10, "told {told} times that the journal is full");
}
