use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tidegate_hil_tests::{Account, Rig, Wishes};

use crate::{CATCH_UP, Dice};

/// Everything is at the hub but a backlog, and the gateway is off.
async fn with_backlog() -> Rig {
    let wishes = Wishes { commit_every_ms: 20, ..Wishes::default() };
    let mut rig = Rig::running_with(wishes).await.unwrap();
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    rig.wan.cut_closed().await.unwrap();
    rig.sit_out(Duration::from_secs(4)).await.unwrap();
    rig.gateway.stop().await.unwrap();
    rig
}

async fn after_repair(rig: &mut Rig) -> Account {
    rig.gateway.start().await.unwrap();
    rig.wan.restore().await.unwrap();
    rig.polls(10).await.unwrap();
    let account = rig.account(CATCH_UP).await.unwrap();
    let log = rig.gateway.log().unwrap();
    assert!(!log.contains("panicked"), "{log}");
    account
}

/// The newest segment, and where in it frames begin.
fn frames_on_disk(journal: &Path) -> (PathBuf, Vec<u64>) {
    let newest = segments(journal).pop().unwrap();
    let bytes = std::fs::read(&newest).unwrap();
    let begins = |(at, four): (usize, &[u8])| (four == b"TGFR").then_some(at as u64);
    let frames = bytes.windows(4).enumerate().filter_map(begins).collect();
    (newest, frames)
}

/// Segments that hold frames, oldest first.
fn segments(journal: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path());
    let holds_frames = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("seg-")
            && std::fs::read(path).unwrap().windows(4).any(|four| four == b"TGFR")
    };
    let mut found: Vec<_> = all.filter(holds_frames).collect();
    found.sort();
    found
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
    file.sync_all().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_damaged_on_disk_before_the_hub_has_them_are_named_one_by_one() {
    let mut dice = Dice::of("frames_damaged_on_disk");
    let mut rig = with_backlog().await;
    let (segment, frames) = frames_on_disk(&rig.gateway.journal());
    // Two places in the backlog, which is the younger half and more.
    let half = frames.len() / 2;
    for part in [0, 1] {
        let quarter = (frames.len() - half) as u64 / 4;
        let frame = half + usize::try_from(dice.below(quarter) + part * 2 * quarter).unwrap();
        flip(&segment, frames[frame] + 20 + dice.below(100));
    }
    let account = after_repair(&mut rig).await;
    let why = account.short();
    // Every jump in the sequence is one that the proof names, and there are such jumps.
    assert!(account.findings.is_clean(), "{why}");
    assert_eq!(account.claim.verdict, "balanced-to-watermark", "{why}");
    assert!(!account.findings.named_holes.is_empty(), "{why}");
    assert_eq!(account.sequenced_causes(), ["damaged", "damaged"], "{why}");
    rig.gateway.alarm("frames-damaged").await.unwrap();
}

/// The daemon runs and has read these very files; the hub does not have the frames yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_bit_that_flips_under_the_running_daemon_is_found_when_it_delivers() {
    let wishes = Wishes { commit_every_ms: 20, ..Wishes::default() };
    let mut rig = Rig::running_with(wishes).await.unwrap();
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    rig.wan.cut_closed().await.unwrap();
    rig.sit_out(Duration::from_secs(3)).await.unwrap();
    let (segment, frames) = frames_on_disk(&rig.gateway.journal());
    flip(&segment, frames[frames.len() - 10] + 60);
    rig.wan.restore().await.unwrap();
    rig.gateway.alarm("frames-damaged").await.unwrap();
    rig.polls(10).await.unwrap();
    let account = rig.account(CATCH_UP).await.unwrap();
    let why = account.short();
    assert!(account.findings.is_clean(), "{why}");
    assert_eq!(account.claim.verdict, "balanced-to-watermark", "{why}");
    assert_eq!(account.sequenced_causes(), ["damaged"], "{why}");
    assert!(!rig.gateway.log().unwrap().contains("panicked"));
}

/// The list of tag numbers is gone, so an epoch ends before the hub has it; and then it is damaged.
#[tokio::test(flavor = "multi_thread")]
async fn damage_in_an_epoch_that_is_closed_is_matched_with_what_the_next_one_says_of_it() {
    let mut rig = with_backlog().await;
    let journal = rig.gateway.journal();
    let (segment, frames) = frames_on_disk(&journal);
    std::fs::remove_file(journal.join("catalog")).unwrap();
    rig.gateway.start().await.unwrap();
    rig.polls(3).await.unwrap();
    flip(&segment, frames[frames.len() - 10] + 60);
    rig.wan.restore().await.unwrap();
    rig.polls(10).await.unwrap();
    let account = rig.account(CATCH_UP).await.unwrap();
    let why = account.short();
    assert!(account.findings.is_clean(), "{why}");
    assert_eq!(account.claim.verdict, "balanced-to-watermark", "{why}");
    assert_eq!(account.sequenced_causes(), ["damaged"], "{why}");
    let epochs = account.report["epochs"].as_array().unwrap();
    let [old, new] = &epochs[..] else { panic!("not two epochs: {why}") };
    assert_eq!(old["sequenced"]["list"][0]["named-in-epoch"], new["epoch"], "{why}");
    assert_eq!(new["seam"]["state"], "joined", "{why}");
}

/// Where the journal ends, how far the hub has it, and what is there already: all of it can be known
/// from elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn damage_to_both_slots_of_the_cursor_a_header_and_delivered_frames_loses_nothing() {
    let mut rig = with_backlog().await;
    let journal = rig.gateway.journal();
    for slot in [0, 4096] {
        flip(&journal.join("cursor"), slot + 40);
    }
    let (segment, frames) = frames_on_disk(&journal);
    flip(&segment, 20);
    // The first value, which the hub has: behind the epoch's beginning and the catalog.
    flip(&segment, frames[3] + 60);
    std::fs::write(journal.join("somebody-elses.tgj"), b"TGFR").unwrap();
    let account = after_repair(&mut rig).await;
    let why = account.short();
    // A poll may have been under way when the gateway was stopped; nothing else is missing.
    let holes = &account.findings.named_holes;
    assert!(holes.len() <= 1 && holes.iter().all(|(_, cause)| cause == "not-running"), "{why}");
    assert!(account.findings.is_clean(), "{why}");
    assert_eq!(account.claim.verdict, "balanced-to-watermark", "{why}");
    assert!(journal.join("somebody-elses.tgj").exists(), "what is not the journal's is left alone");
}

/// Nothing of the record has left the gateway, and of the catalog one frame cannot be read: the
/// frames behind it are told what they mean again.
#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_is_damaged_before_the_hub_has_it_is_said_again() {
    let wishes = Wishes { commit_every_ms: 20, ..Wishes::default() };
    let mut rig = Rig::running_with(wishes).await.unwrap();
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    rig.wan.cut_closed().await.unwrap();
    rig.gateway.stop().await.unwrap();
    // A new epoch begins with a new catalog.
    std::fs::remove_file(rig.gateway.journal().join("catalog")).unwrap();
    rig.gateway.start().await.unwrap();
    rig.polls(20).await.unwrap();
    rig.gateway.stop().await.unwrap();
    let (segment, frames) = frames_on_disk(&rig.gateway.journal());
    // The first frame names the epoch before; the catalog is behind it.
    flip(&segment, frames[1] + 100);
    let account = after_repair(&mut rig).await;
    let why = account.short();
    assert!(account.findings.invented.is_empty() && account.findings.torn.is_empty(), "{why}");
    assert!(account.findings.twice.is_empty(), "{why}");
    assert_eq!(account.claim.verdict, "balanced-to-watermark", "{why}");
    assert_eq!(account.sequenced_causes(), ["damaged"], "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_tail_is_named_as_not_recorded() {
    let mut rig = with_backlog().await;
    let (segment, frames) = frames_on_disk(&rig.gateway.journal());
    for frame in frames.iter().rev().take(3) {
        flip(&segment, frame + 60);
    }
    let account = after_repair(&mut rig).await;
    let why = account.short();
    assert!(account.findings.is_clean(), "{why}");
    assert_eq!(account.claim.verdict, "balanced-to-watermark", "{why}");
    assert!(!account.findings.named_holes.is_empty(), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_cut_off_is_read_up_to_there() {
    let mut rig = with_backlog().await;
    let (segment, frames) = frames_on_disk(&rig.gateway.journal());
    let file = File::options().write(true).open(&segment).unwrap();
    file.set_len(frames[frames.len() * 3 / 4] + 30).unwrap();
    drop(file);
    let account = after_repair(&mut rig).await;
    let why = account.short();
    assert!(account.findings.is_clean(), "{why}");
    assert_eq!(account.claim.verdict, "balanced-to-watermark", "{why}");
    assert!(!account.findings.named_holes.is_empty(), "{why}");
}

/// All that was recorded is gone, the backlog with it: what was in it nobody can know.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_whose_newest_segment_is_gone_says_what_cannot_be_known() {
    let mut rig = with_backlog().await;
    std::fs::remove_file(segments(&rig.gateway.journal()).pop().unwrap()).unwrap();
    rig.gateway.start().await.unwrap();
    rig.wan.restore().await.unwrap();
    rig.polls(10).await.unwrap();
    let account = rig.account(CATCH_UP).await.unwrap();
    let why = account.short();
    assert!(account.findings.invented.is_empty() && account.findings.twice.is_empty(), "{why}");
    assert_eq!(account.claim.verdict, "unverifiable", "{why}");
}

/// Whatever is on the disk, the daemon runs, records what comes, and the proof never says more than
/// the values do.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_damaged_all_over_never_leads_to_a_false_proof() {
    let mut dice = Dice::of("a_journal_damaged_all_over");
    let mut rig = with_backlog().await;
    for _ in 0..3 {
        let journal = rig.gateway.journal();
        let files = std::fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().path());
        for path in files.filter(|path| path.is_file()) {
            let length = path.metadata().unwrap().len().min(400 << 10);
            for _ in 0..if length > 0 { 8 } else { 0 } {
                flip(&path, dice.below(length));
            }
        }
        rig.gateway.start().await.unwrap();
        rig.polls(10).await.unwrap();
        rig.gateway.stop().await.unwrap();
    }
    rig.gateway.start().await.unwrap();
    rig.wan.restore().await.unwrap();
    // That the proof contradicts the values is an error in there.
    let account = rig.account(CATCH_UP).await.unwrap();
    let why = account.short();
    // An epoch that is closed cannot name its own holes any more; a later one does.
    for (epoch, expected, found) in &account.findings.sequence_breaks {
        let names = |loss: &Value| loss["cause"] == "damaged" && loss["count"] == found - expected;
        let epochs = account.report["epochs"].as_array().unwrap();
        let mut losses = epochs.iter().filter_map(|it| it["unsequenced"]["list"].as_array());
        assert!(losses.any(|list| list.iter().any(names)), "{epoch}, {expected}..{found}: {why}");
    }
    assert!(account.findings.invented.is_empty() && account.findings.torn.is_empty(), "{why}");
    let log = rig.gateway.log().unwrap();
    assert!(!log.contains("panicked"), "{log}");
}
