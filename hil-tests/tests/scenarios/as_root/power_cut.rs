//! The power of the whole gateway is cut: what it had called durable, and what the hub had
//! acknowledged, must be on the disk. The process being killed proves nothing of that, because the
//! kernel keeps what it was given; see [`tidegate_hil_tests::disk`] for how a cut is made.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_hil_tests::disk::{Canaries, Disk, Image};
use tidegate_hil_tests::forge::{self, Parts};
use tidegate_hil_tests::hub::Hub;
use tidegate_hil_tests::oracle::NamedLoss;
use tidegate_hil_tests::wait::{SOON, until};
use tidegate_hil_tests::{Rig, Wishes, is_long, stream};

use crate::{CATCH_UP, Dice};

/// The file system writes its own journal only when somebody asks for a sync: what nobody synced
/// does not become durable by itself within a scenario.
const OPTIONS: &str = "commit=300,noatime";

/// A disk on which the journal never fills.
const ROOMY: u64 = 96 << 20;

/// A disk on which the journal has room for three of its segments, besides what must stay free.
const TIGHT: u64 = 16 << 20;

/// Moments in one round.
const CUTS: usize = 12;

/// What the gateway had promised when its power was cut, and what was left.
struct Cut {
    number: usize,
    epoch: String,
    durable_seq: u64,
    /// So many messages the hub had acknowledged.
    at_hub: usize,
    at_ns: i64,
    image: Image,
}

/// The copies that the scenario below judges are what a power cut leaves: what was synced, and
/// nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_device_holds_what_was_synced_and_nothing_else() {
    let disk = Disk::new(32 << 20, OPTIONS).await.unwrap();
    let canaries = Canaries::new(&disk, 3).unwrap();
    for number in 0..3 {
        let kept = fs::File::create(disk.seen().join(format!("kept-{number}"))).unwrap();
        kept.write_all_at(b"synced", 0).unwrap();
        kept.sync_all().unwrap();
        canaries.release(number).unwrap();
        let after = disk.cut().unwrap().mounted(OPTIONS).await.unwrap();
        canaries.are_gone_from(&after, number).unwrap();
        for number in 0..=number {
            let kept = fs::read(after.seen().join(format!("kept-{number}"))).unwrap();
            assert_eq!(kept, b"synced");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_called_durable_survives_a_power_cut_at_any_moment() {
    let mut dice = Dice::of("whatever_was_called_durable");
    for _ in 0..rounds() {
        let busy = Wishes { noise: 1, ..quick() };
        round(&mut dice, ROOMY, busy, CUTS, async |rig, _, dice| {
            match dice.below(4) {
                0 => rig.wan.cut_closed().await.unwrap(),
                1 => rig.wan.cut_black_hole().await.unwrap(),
                _ => rig.wan.restore().await.unwrap(),
            }
            // Random moments are the point here; nothing is expected to have happened by then.
            tokio::time::sleep(Duration::from_millis(dice.below(1000))).await;
        })
        .await;
    }
}

/// What a file holds is durable only if its name is. The first segments are new files, and soon the
/// disk has no room for more: what the hub has is renamed and written over.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_was_just_put_into_use_survives_a_power_cut() {
    let mut dice = Dice::of("a_segment_that_was_just_put_into_use");
    for _ in 0..rounds().div_ceil(2) {
        // The smallest segments, filled in some seconds. Between commits there is time to cut: the
        // next one would make the file system write its own journal, and with it every name.
        let busy = Wishes { noise: 10, commit_every_ms: 400, ..quick() };
        let cuts = if is_long() { 3 } else { 2 };
        let left = round(&mut dice, TIGHT, busy, cuts, async |_, disk, _| {
            let before = segments(disk);
            until(SOON, "a segment is put into use", || async {
                Ok((segments(disk) != before).then_some(()))
            })
            .await
            .unwrap();
        })
        .await;
        let first = OsString::from(format!("seg-{:020}.tgj", 0));
        assert!(!left.contains(&first), "nothing was written over: {left:?}");
    }
}

/// Some hundred cuts in the long run.
fn rounds() -> usize {
    if is_long() { 20 } else { 1 }
}

/// The smallest segments, and commits as often as can be.
fn quick() -> Wishes {
    Wishes { max_bytes: "32 MiB", commit_every_ms: 10, ..Wishes::default() }
}

/// Cuts so many times, then judges each cut; returns the segments that the gateway has at the end.
async fn round(
    dice: &mut Dice,
    bytes: u64,
    busy: Wishes,
    cuts: usize,
    mut moment: impl AsyncFnMut(&mut Rig, &Disk, &mut Dice),
) -> BTreeSet<OsString> {
    let disk = Disk::new(bytes, OPTIONS).await.unwrap();
    let canaries = Canaries::new(&disk, cuts).unwrap();
    let mut rig = Rig::running_with(disk.holding(busy)).await.unwrap();
    rig.polls(5).await.unwrap();
    let mut made = Vec::new();
    for number in 0..cuts {
        moment(&mut rig, &disk, dice).await;
        made.push(cut(&rig, &disk, &canaries, number).await);
    }
    rig.wan.restore().await.unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
    rig.gateway.stop().await.unwrap();
    let left = segments(&disk);
    let original = rig.messages().await.unwrap();
    let hub = rig.another_hub().await.unwrap();
    for cut in made {
        judge(&rig, &hub, &original, cut, &canaries).await;
    }
    left
}

fn segments(disk: &Disk) -> BTreeSet<OsString> {
    let journal = fs::read_dir(disk.seen().join("journal")).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    journal.map(name).filter(|name| name.to_string_lossy().starts_with("seg-")).collect()
}

/// Notes what the gateway promises, and cuts.
async fn cut(rig: &Rig, disk: &Disk, canaries: &Canaries, number: usize) -> Cut {
    let at_hub = usize::try_from(rig.messages_at_hub().await.unwrap()).unwrap();
    let status = rig.gateway.status().unwrap();
    canaries.release(number).unwrap();
    let image = disk.cut().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Cut {
        number,
        epoch: status["journal"]["epoch"].as_str().unwrap().to_owned(),
        durable_seq: status["journal"]["durable_seq"].as_u64().unwrap(),
        at_hub,
        at_ns: i64::try_from(now.as_nanos()).unwrap(),
        image,
    }
}

/// Starts a gateway on what the cut left, in front of a hub as it was then.
async fn judge(
    rig: &Rig,
    hub: &Hub,
    original: &[(String, Vec<u8>)],
    cut: Cut,
    canaries: &Canaries,
) {
    let Cut { number, epoch, durable_seq, at_hub, at_ns, image } = cut;
    let what = format!("cut {number}, durable up to {durable_seq} of epoch {epoch}");
    let disk = image.mounted(OPTIONS).await.unwrap();
    canaries.are_gone_from(&disk, number).unwrap();
    let (url, name) = (hub.admin_url().unwrap(), hub.stream().unwrap());
    stream::put(&url, name, &original[..at_hub]).await.unwrap();
    let mut gateway =
        rig.successor(hub, &format!("after-cut-{number}"), disk.holding(quick())).unwrap();
    gateway.start().await.unwrap();
    // All that it recovered is delivered when what it wrote at its start is.
    let account = until(CATCH_UP, &what, || async {
        let account = rig.account_at(hub).await?;
        let names = |loss: &NamedLoss| {
            loss.cause == "not-running" && (loss.from_ns..=loss.to_ns).contains(&at_ns)
        };
        Ok(account.claim.losses.iter().any(names).then_some(account))
    })
    .await
    .unwrap();
    gateway.stop().await.unwrap();
    let why = format!("{what}: {}\n{}", account.short(), gateway.log().unwrap());
    assert!(account.findings.is_clean() && account.findings.named_holes.is_empty(), "{why}");
    assert!(account.claim.is_balanced() && account.claim.exit_ok, "{why}");
    assert_eq!(account.report["epochs"].as_array().unwrap().len(), 1, "{why}");
    assert!(account.sequenced_causes().is_empty(), "{why}");

    let delivered: HashSet<_> = frames_of(&stream::messages(&url, name).await.unwrap())
        .iter()
        .map(|frame| forge::hash(frame))
        .collect();
    let mut promised = 0;
    for frame in frames_of(original) {
        let parts = Parts::of(&frame).unwrap();
        // A frame without samples that begins where the promise ends may be later than it.
        if parts.first_seq < durable_seq && parts.first_seq + parts.count <= durable_seq {
            promised += 1;
            assert!(
                delivered.contains(&forge::hash(&frame)),
                "frame {} is gone: {why}",
                parts.number
            );
        }
    }
    assert!(promised > 0, "{why}");
}

fn frames_of(messages: &[(String, Vec<u8>)]) -> Vec<Vec<u8>> {
    let frames = |(_, message): &(String, Vec<u8>)| -> Vec<Vec<u8>> {
        stream::frames(message).unwrap().into_iter().map(<[u8]>::to_vec).collect()
    };
    messages.iter().flat_map(frames).collect()
}
