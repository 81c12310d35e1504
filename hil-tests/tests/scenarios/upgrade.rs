//! Another version takes over while a backlog waits: an older one, and a newer one that goes again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_hil_tests::oracle::NamedLoss;
use tidegate_hil_tests::wait::until;
use tidegate_hil_tests::{Rig, forge, golden, live_values, tools};

use crate::CATCH_UP;

/// The version that a later format asks for.
const LATER: u8 = 9;

/// The alarm for a journal that this version cannot read.
const ALARM: &str = "journal-needs-newer";

/// Where journals of earlier versions are.
fn journals() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("journals")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_earlier_versions_had_not_delivered_is_delivered_and_proved() {
    let kept = fs::read_dir(journals()).unwrap().map(|entry| entry.unwrap().path());
    let mut tried = 0;
    for path in kept {
        let text = fs::read_to_string(&path).unwrap();
        let mut rig = Rig::with_plc_off().await.unwrap();
        let history = golden::unpack(&text, &rig.gateway.journal()).unwrap();
        rig.plc.remember(&history).unwrap();
        let before = rig.served().unwrap();
        rig.switch_plc_on().await.unwrap();
        rig.gateway.start().await.unwrap();
        let (findings, claim) = rig.verify(CATCH_UP).await.unwrap();
        // What that version never had on its disk it says itself.
        assert!(findings.named_holes.iter().all(|(_, why)| why == "not-running"), "{findings:?}");
        let lost = u64::try_from(findings.named_holes.len()).unwrap();
        assert!(before > 2 * lost, "{}: {findings:?}", path.display());
        assert!(claim.losses.iter().all(|loss| loss.cause == "not-running"), "{claim:?}");
        rig.gateway.stop().await.unwrap();
        tried += 1;
    }
    assert!(tried > 0);
}

/// Keeps a journal of this version, if none is kept: `cargo test -- --ignored write_missing_journal`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "only for a new version"]
async fn write_missing_journal() {
    let asked = std::process::Command::new(tools::gateway().unwrap()).arg("--version").output();
    let version = String::from_utf8(asked.unwrap().stdout).unwrap();
    let number = version.split_whitespace().nth(1).unwrap();
    let path = journals().join(format!("journal-{number}.txt"));
    if path.exists() {
        return;
    }
    let mut rig = Rig::with_plc_off().await.unwrap();
    // The hub never hears of it.
    rig.wan.cut_closed().await.unwrap();
    rig.switch_plc_on().await.unwrap();
    rig.gateway.start().await.unwrap();
    rig.polls(30).await.unwrap();
    rig.gateway.kill9().unwrap();
    rig.gateway.start().await.unwrap();
    rig.polls(20).await.unwrap();
    rig.gateway.stop().await.unwrap();
    let about = format!("A journal of tidegate {number}: killed once, nothing of it delivered.");
    let history = rig.plc.raw_history().unwrap();
    fs::create_dir_all(journals()).unwrap();
    fs::write(path, golden::pack(&about, &rig.gateway.journal(), &history).unwrap()).unwrap();
}

/// A newer version wrote the last frames, and went again. When it returns, all is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_with_frames_of_a_later_version_is_kept_as_it_is_until_that_returns() {
    let mut rig = with_backlog().await;
    let original = files(&rig.gateway.journal());
    forge_newest(&rig, forge::demand_newer_for_last_frame);
    let forged = files(&rig.gateway.journal());
    assert_ne!(original, forged);
    nothing_but_the_record_stands_still(&mut rig).await;
    rig.gateway.stop().await.unwrap();
    assert!(files(&rig.gateway.journal()) == forged, "what cannot be read was changed");

    put_back(&rig.gateway.journal(), &original);
    rig.gateway.start().await.unwrap();
    let (findings, claim) = rig.verify(CATCH_UP).await.unwrap();
    assert!(!findings.named_holes.is_empty(), "{findings:?}");
    // Nobody who can write it was running.
    assert!(findings.named_holes.iter().all(|(_, why)| why == "not-running"), "{findings:?}");
    assert!(claim.losses.iter().all(|loss| loss.cause == "not-running"), "{claim:?}");
}

/// What cannot be opened is tried again while the daemon runs, as after a disk was mounted.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_of_a_later_layout_is_taken_up_as_soon_as_it_can_be_read() {
    let mut rig = with_backlog().await;
    let original = files(&rig.gateway.journal());
    forge_newest(&rig, forge::demand_newer_for_layout);
    let forged = files(&rig.gateway.journal());
    assert_ne!(original, forged);
    nothing_but_the_record_stands_still(&mut rig).await;
    assert!(files(&rig.gateway.journal()) == forged, "what cannot be read was changed");

    put_back(&rig.gateway.journal(), &original);
    until(CATCH_UP, "the journal is taken up", || async {
        let status = rig.gateway.status()?;
        let alarms = status["alarms"].as_array().into_iter().flatten();
        let none = alarms.clone().all(|alarm| alarm["kind"] != ALARM);
        Ok((none && status["journal"]["writable"] == true).then_some(()))
    })
    .await
    .unwrap();
    let (findings, claim) = rig.verify(CATCH_UP).await.unwrap();
    let unwritable = findings.named_holes.iter().filter(|(_, why)| why == "journal-unwritable");
    assert!(unwritable.count() > 10, "{findings:?}");
    let named = |cause: &str| claim.losses.iter().any(|loss: &NamedLoss| loss.cause == cause);
    assert!(named("journal-unwritable") && named("not-running"), "{claim:?}");
}

/// Half of what was read is at the hub, and the gateway is off.
async fn with_backlog() -> Rig {
    let mut rig = Rig::running().await.unwrap();
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    rig.wan.cut_closed().await.unwrap();
    rig.sit_out(Duration::from_secs(2)).await.unwrap();
    rig.gateway.stop().await.unwrap();
    rig.wan.restore().await.unwrap();
    rig
}

fn forge_newest(rig: &Rig, demand: impl Fn(&mut [u8], u8) -> anyhow::Result<()>) {
    let journal = rig.gateway.journal();
    let names = files(&journal).into_keys().filter(|name| name.starts_with("seg-"));
    let newest = journal.join(names.max().unwrap());
    let mut content = fs::read(&newest).unwrap();
    demand(&mut content, LATER).unwrap();
    fs::write(&newest, content).unwrap();
}

/// With a journal that this version cannot read, live values go on and an alarm says what it takes;
/// nothing reaches the hub's record.
async fn nothing_but_the_record_stands_still(rig: &mut Rig) {
    let before = rig.messages_at_hub().await.unwrap();
    rig.gateway.start().await.unwrap();
    let text = rig.gateway.alarm(ALARM).await.unwrap();
    assert!(text.contains("seg-") && text.contains(&format!("version {LATER}")), "{text}");
    assert!(text.contains("install the newer release"), "{text}");
    let live = live_values(rig, 3).await.unwrap();
    assert!(live.is_sorted(), "{live:?}");
    rig.polls(20).await.unwrap();
    let status = rig.gateway.status().unwrap();
    assert_eq!(status["journal"]["writable"], false, "{status:#}");
    assert_eq!(rig.messages_at_hub().await.unwrap(), before);
}

/// What is in the journal's directory; the lock file says nothing.
fn files(journal: &Path) -> BTreeMap<String, Vec<u8>> {
    let all = fs::read_dir(journal).unwrap().map(|entry| entry.unwrap());
    let content = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name != "lock").then(|| (name, fs::read(entry.path()).unwrap()))
    };
    all.filter_map(content).collect()
}

fn put_back(journal: &Path, original: &BTreeMap<String, Vec<u8>>) {
    for (name, content) in original {
        fs::write(journal.join(name), content).unwrap();
    }
}
