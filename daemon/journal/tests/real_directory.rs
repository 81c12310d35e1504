//! A real directory: bits that flip, files that are cut, vanish or change places.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{append, frames_of, settings, stamp};
use tidegate_journal::{
    BridgeCause, DirStorage, Epoch, EpochReason, FrameHash, Journal, LossRecord, OpenError,
    Recovery, Storage, inspect,
};

fn open(dir: &Path) -> (Journal, Recovery) {
    Journal::open(Arc::new(DirStorage::new(dir).unwrap()), settings(), stamp(1)).unwrap()
}

/// A directory with a few segments, cleanly closed, and the hash of each of its frames.
fn filled(commits: u64) -> (tempfile::TempDir, Epoch, BTreeMap<u64, FrameHash>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    for tag in 1..=commits {
        append(&mut journal, tag, usize::try_from(tag * 7919 % 6000).unwrap());
        if tag % 2 == 0 {
            journal.commit().unwrap();
        }
    }
    journal.commit().unwrap();
    let epoch = journal.epoch();
    let hashes = hashes(&journal, epoch);
    journal.close().unwrap();
    (dir, epoch, hashes)
}

fn hashes(journal: &Journal, epoch: Epoch) -> BTreeMap<u64, FrameHash> {
    frames_of(&journal.reader(), epoch, 0).iter().map(|it| (it.header.number, it.hash)).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("seg-"))
        .collect();
    paths.sort();
    paths
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

/// Opens a damaged directory, reads everything twice with a commit between (which names what the
/// first reading met), and checks that each frame is there unchanged or named.
fn check_damaged(dir: &Path, epoch: Epoch, whole: &BTreeMap<u64, FrameHash>, context: &str) -> u64 {
    let (mut journal, _) = open(dir);
    let _ = frames_of(&journal.reader(), epoch, 0);
    append(&mut journal, 7_000_000, 100);
    journal.commit().unwrap();
    let frames = frames_of(&journal.reader(), epoch, 0);
    let bridges: Vec<_> = frames
        .iter()
        .filter_map(|it| match &it.loss {
            Some(LossRecord::Bridge(bridge)) if bridge.cause == BridgeCause::Damaged => {
                Some(bridge.clone())
            }
            _ => None,
        })
        .collect();
    let found: BTreeMap<u64, FrameHash> =
        frames.iter().map(|it| (it.header.number, it.hash)).collect();
    let mut missing = 0;
    for (number, hash) in whole {
        match found.get(number) {
            Some(same) => assert_eq!(same, hash, "{context}: frame {number} changed"),
            None => {
                missing += 1;
                let bridge = bridges
                    .iter()
                    .find(|it| (it.first_frame..=it.last_frame).contains(number))
                    .unwrap_or_else(|| panic!("{context}: frame {number} is gone, unnamed"));
                if let Some(before) =
                    bridge.first_frame.checked_sub(1).and_then(|it| whole.get(&it))
                {
                    assert_eq!(bridge.hash_before, *before, "{context}");
                }
                assert_eq!(Some(&bridge.hash_after), whole.get(&bridge.last_frame), "{context}");
            }
        }
    }
    // It is named once: reopening and reading again adds nothing.
    journal.close().unwrap();
    let (mut journal, _) = open(dir);
    let before = journal.upcoming();
    let _ = frames_of(&journal.reader(), epoch, 0);
    journal.commit().unwrap();
    assert_eq!(journal.upcoming(), before, "{context}: named twice");
    missing
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

#[test]
fn a_flipped_bit_anywhere_costs_at_most_the_frames_it_hits_and_names_them() {
    let (dir, epoch, whole) = filled(120);
    let paths = segments(dir.path());
    assert!(paths.len() >= 4, "{paths:?}");
    let mut hit = 0;
    let last = paths.len() - 1;
    for (at, path) in [&paths[0], &paths[1], &paths[last]].into_iter().enumerate() {
        let name = path.file_name().unwrap();
        // Header, marks, frame envelopes, headers, bodies, padding; the whole file in odd steps.
        let offsets = (0..200)
            .step_by(40)
            .chain((4096..4096 + 300).step_by(13))
            .chain((4000..settings().segment_bytes).step_by(3301));
        for offset in offsets {
            let damaged = copy(dir.path());
            flip(&damaged.path().join(name), offset);
            let context = format!("segment {at}, offset {offset}");
            let missing = check_damaged(damaged.path(), epoch, &whole, &context);
            assert!(missing <= 2, "{context}: {missing} frames");
            hit += missing;
        }
    }
    assert!(hit > 20, "most flips must have hit something: {hit}");
}

#[test]
fn a_segment_that_is_zeroed_cut_or_missing_is_named_and_the_rest_is_read() {
    let (dir, epoch, whole) = filled(120);
    let paths = segments(dir.path());
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("missing", |path| fs::remove_file(path).unwrap()),
        ("empty", |path| fs::write(path, []).unwrap()),
        ("cut", |path| OpenOptions::new().write(true).open(path).unwrap().set_len(9000).unwrap()),
        ("zeroed", |path| {
            let length = fs::metadata(path).unwrap().len();
            fs::write(path, vec![0; usize::try_from(length).unwrap()]).unwrap();
        }),
    ];
    for (what, damage) in damages {
        for path in &paths[1..paths.len() - 1] {
            let damaged = copy(dir.path());
            damage(&damaged.path().join(path.file_name().unwrap()));
            let context = format!("{} {what}", path.display());
            let missing = check_damaged(damaged.path(), epoch, &whole, &context);
            assert!(missing > 3, "{context}: {missing}");
        }
    }
}

#[test]
fn segments_that_changed_places_are_read_in_their_order() {
    let (dir, epoch, whole) = filled(120);
    let paths = segments(dir.path());
    let aside = dir.path().join("aside");
    fs::rename(&paths[1], &aside).unwrap();
    fs::rename(&paths[2], &paths[1]).unwrap();
    fs::rename(&aside, &paths[2]).unwrap();
    assert_eq!(check_damaged(dir.path(), epoch, &whole, "swapped"), 0);
}

#[test]
fn a_journal_whose_last_segment_is_gone_begins_a_new_epoch_behind_the_old_one() {
    let (dir, epoch, whole) = filled(120);
    let paths = segments(dir.path());
    fs::write(paths.last().unwrap(), vec![0; 5000]).unwrap();
    let (journal, recovery) = open(dir.path());
    assert_eq!(recovery.began, Some(EpochReason::JournalLost));
    let frames = frames_of(&journal.reader(), epoch, 0);
    assert!(frames.iter().all(|it| whole.get(&it.header.number) == Some(&it.hash)));
    assert!(frames.len() > 50, "what is readable of the old epoch is still delivered");
    assert_eq!(journal.delivered().epoch, epoch);
    assert_eq!(journal.reader().epochs().len(), 2);
}

#[test]
fn the_last_commit_cut_off_after_a_clean_close_is_named() {
    let (dir, epoch, whole) = filled(120);
    let path = segments(dir.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(u64::try_from(used).unwrap() - 50)
        .unwrap();
    let missing = check_damaged(dir.path(), epoch, &whole, "last commit cut");
    assert!((1..=2).contains(&missing), "{missing}");
}

#[test]
fn a_newer_segment_is_refused_and_left_alone() {
    let (dir, _, _) = filled(10);
    let path = segments(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[9] = 2;
    // The checksum covers it: magic, four zeros, the rest of the block.
    let sum = crc32c::crc32c(&bytes[..4]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    let sum = crc32c::crc32c_append(sum, &bytes[8..4096]);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let storage = Arc::new(DirStorage::new(dir.path()).unwrap());
    let error = Journal::open(storage, settings(), stamp(1)).unwrap_err();
    assert!(matches!(&error, OpenError::NeedsNewer { needs: 2, .. }), "{error}");
    assert!(error.to_string().contains("version 2"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_directory_can_be_read_while_its_writer_is_at_work() {
    let (dir, epoch, whole) = filled(40);
    let (_writer, _) = open(dir.path());
    let storage: Arc<dyn Storage> = Arc::new(DirStorage::existing(dir.path()).unwrap());
    let (reader, recovery) = inspect(&storage).unwrap();
    assert_eq!(recovery.last.map(|(epoch, last)| (epoch, last.frame)), Some((epoch, 40)));
    let frames = frames_of(&reader, epoch, 0);
    assert_eq!(frames.len(), whole.len());
}

#[test]
fn a_journal_of_many_segments_keeps_few_files_open() {
    let dir = tempfile::tempdir().unwrap();
    let settings = tidegate_journal::Settings { max_bytes: 1 << 30, ..settings() };
    let storage = Arc::new(DirStorage::new(dir.path()).unwrap());
    let (mut journal, _) = Journal::open(storage.clone(), settings.clone(), stamp(1)).unwrap();
    for tag in 1..150 {
        append(&mut journal, tag, 60_000);
        journal.commit().unwrap();
    }
    drop(journal);
    let (journal, _) = Journal::open(storage, settings, stamp(1)).unwrap();
    assert!(segments(dir.path()).len() > 100);
    assert_eq!(frames_of(&journal.reader(), journal.epoch(), 0).len(), 150);
    let open = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        // The directory itself is the reserve's.
        .filter(|target| target.starts_with(dir.path()) && target != dir.path())
        .count();
    assert!(open < 20, "{open} files are open");
}

#[test]
fn a_path_that_is_no_directory_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "x").unwrap();
    assert!(DirStorage::new(&path).is_err());
    assert!(DirStorage::existing(&path).is_err());
    assert!(DirStorage::existing(dir.path().join("nothing")).is_err());
}

#[test]
fn a_stranger_in_the_directory_is_reported_and_left_alone() {
    let (dir, _, _) = filled(4);
    fs::write(dir.path().join("seg-1.tgj"), "mine").unwrap();
    let (_journal, recovery) = open(dir.path());
    assert_eq!(recovery.strangers, ["seg-1.tgj"]);
    assert_eq!(fs::read(dir.path().join("seg-1.tgj")).unwrap(), b"mine");
}

#[test]
fn the_steady_state_recycles_files_and_makes_no_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    let epoch = journal.epoch();
    let mut most = 0;
    for tag in 1..=1200 {
        append(&mut journal, tag, 4000);
        let position = journal.commit().unwrap();
        journal.acknowledge(epoch, position, b"").unwrap();
        most = most.max(journal.stats().bytes);
    }
    let stats = journal.stats();
    assert!(most <= stats.max_bytes && most + settings().segment_bytes > stats.max_bytes);
    assert!(stats.recycled > 10, "{stats:?}");
    assert_eq!(stats.dropped_frames, 0);
    // Old contents never show: everything readable is of the newest frames.
    let frames = frames_of(&journal.reader(), epoch, 0);
    assert_eq!(frames.last().unwrap().tag(), Some(1200));
    journal.close().unwrap();
    let (journal, recovery) = open(dir.path());
    assert!(recovery.damaged.is_empty() && recovery.strangers.is_empty(), "{recovery:?}");
    assert_eq!(frames_of(&journal.reader(), epoch, 0).len(), frames.len());
}
