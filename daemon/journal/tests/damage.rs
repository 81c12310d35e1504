//! Damage that delivery meets by reading.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use common::{append, frames_of, settings, stamp};
use tidegate_journal::{BridgeCause, DirStorage, Journal, LossRecord, Position};

/// Overwrites part of the frame whose body begins with this tag.
fn spoil(dir: &Path, tag: u64) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let body = common::body(tag, 100);
        if let Some(at) = bytes.windows(body.len()).position(|found| found == body) {
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[0xee; 8], at as u64 + 40).unwrap();
            return;
        }
    }
    panic!("no frame {tag} on disk");
}

fn damaged(journal: &Journal) -> Vec<(u64, u64)> {
    let frames = frames_of(&journal.reader(), journal.epoch(), 0);
    let bridges = frames.into_iter().filter_map(|frame| match frame.loss {
        Some(LossRecord::Bridge(bridge)) if bridge.cause == BridgeCause::Damaged => {
            Some((bridge.first_frame, bridge.last_frame))
        }
        _ => None,
    });
    bridges.collect()
}

/// A journal of several segments with frame 20 damaged in a sealed one, opened again.
fn with_damage(dir: &Path) -> Journal {
    let storage = || Arc::new(DirStorage::new(dir).unwrap());
    let (mut journal, _) = Journal::open(storage(), settings(), stamp(1)).unwrap();
    for number in 1..=300 {
        append(&mut journal, number, 1000);
        if number % 5 == 0 {
            journal.commit().unwrap();
        }
    }
    assert!(journal.stats().segments > 2);
    journal.close().unwrap();
    spoil(dir, 20);
    let (journal, recovery) = Journal::open(storage(), settings(), stamp(2)).unwrap();
    assert!(recovery.damaged.is_empty(), "sealed segments are not read at the start");
    journal
}

fn last(journal: &Journal) -> Position {
    journal.reader().durable().unwrap().1
}

#[test]
fn damage_that_delivery_stepped_over_before_the_commit_is_named_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = with_damage(dir.path());
    let (epoch, end) = (journal.epoch(), last(&journal));
    assert_eq!(frames_of(&journal.reader(), epoch, 0).len(), 300, "one of 301 is damaged");
    journal.acknowledge(epoch, end, b"").unwrap();
    journal.commit().unwrap();
    assert_eq!(damaged(&journal), [(20, 20)]);
}

#[test]
fn damage_that_delivery_stepped_over_is_named_although_the_power_fails_before_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = with_damage(dir.path());
    let (epoch, end) = (journal.epoch(), last(&journal));
    frames_of(&journal.reader(), epoch, 0);
    journal.acknowledge(epoch, end, b"").unwrap();
    journal.save_cursor().unwrap();
    drop(journal);
    let storage = Arc::new(DirStorage::new(dir.path()).unwrap());
    let (journal, _) = Journal::open(storage, settings(), stamp(3)).unwrap();
    assert_eq!(damaged(&journal), [(20, 20)]);
}

#[test]
fn damage_in_what_the_hub_has_is_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = with_damage(dir.path());
    let (epoch, end) = (journal.epoch(), last(&journal));
    journal.acknowledge(epoch, end, b"").unwrap();
    frames_of(&journal.reader(), epoch, 0);
    journal.commit().unwrap();
    assert_eq!(damaged(&journal), []);
}

/// Overwrites the front of one file with the front of another, as a misdirected write does.
fn misdirect(dir: &Path, from: &str, to: &str) {
    let front = std::fs::read(dir.join(from)).unwrap()[..8192].to_vec();
    let file = File::options().write(true).open(dir.join(to)).unwrap();
    file.write_all_at(&front, 0).unwrap();
}

#[test]
fn a_segment_whose_header_was_written_into_another_one_too_keeps_its_frames() {
    let dir = tempfile::tempdir().unwrap();
    let journal = with_damage(dir.path());
    let whole = frames_of(&journal.reader(), journal.epoch(), 0);
    let epoch = journal.epoch();
    journal.close().unwrap();
    let mut segments: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| std::fs::read(dir.path().join(name)).unwrap().starts_with(b"TGSG"))
        .collect();
    segments.sort();
    misdirect(dir.path(), &segments[1], &segments[0]);
    let storage = Arc::new(DirStorage::new(dir.path()).unwrap());
    let (journal, _) = Journal::open(storage, settings(), stamp(3)).unwrap();
    let left = frames_of(&journal.reader(), epoch, 0);
    let first = left.iter().find(|it| it.loss.is_none()).unwrap().header.number;
    assert!(first > 0 && first < 100, "the first segment is gone, from {first} on all is there");
    let expected = whole.iter().filter(|it| it.header.number >= first);
    assert!(
        expected.map(|it| it.hash).eq(left.iter().filter(|it| it.loss.is_none()).map(|it| it.hash))
    );
}

#[test]
fn a_mark_that_claims_the_last_numbers_of_all_is_no_reason_to_panic() {
    let dir = tempfile::tempdir().unwrap();
    let storage = || Arc::new(DirStorage::new(dir.path()).unwrap());
    let (mut journal, _) = Journal::open(storage(), settings(), stamp(1)).unwrap();
    append(&mut journal, 1, 1000);
    journal.commit().unwrap();
    journal.close().unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let Some(at) = bytes.chunks(4096).rposition(|block| block.starts_with(b"TGCM")) else {
            continue;
        };
        // The number of the first frame, under a checksum that fits.
        let mut mark = bytes[at * 4096..][..104].to_vec();
        mark[32..40].fill(0xff);
        mark[4..8].fill(0);
        let sum = crc32c::crc32c(&mark).to_le_bytes();
        mark[4..8].copy_from_slice(&sum);
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&mark, at as u64 * 4096).unwrap();
    }
    if let Ok((mut journal, _)) = Journal::open(storage(), settings(), stamp(2)) {
        let _ = journal.commit();
    }
}

#[test]
fn a_commit_that_was_written_over_an_earlier_one_costs_none_but_that() {
    let dir = tempfile::tempdir().unwrap();
    let storage = || Arc::new(DirStorage::new(dir.path()).unwrap());
    let (mut journal, _) = Journal::open(storage(), settings(), stamp(1)).unwrap();
    for number in 1..=12 {
        append(&mut journal, number, 1000);
        journal.commit().unwrap();
    }
    let epoch = journal.epoch();
    journal.close().unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if bytes.starts_with(b"TGSG") {
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&bytes[9 * 4096..10 * 4096], 3 * 4096).unwrap();
        }
    }
    let (journal, _) = Journal::open(storage(), settings(), stamp(2)).unwrap();
    let tags: Vec<u64> =
        frames_of(&journal.reader(), epoch, 0).iter().filter_map(common::Got::tag).collect();
    assert_eq!(tags.len(), 11, "{tags:?}");
}
