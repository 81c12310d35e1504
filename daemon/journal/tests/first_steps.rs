//! The plain way: append, commit, read, close, open again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::sync::Arc;

use common::{append, frames_of, settings, stamp};
use tidegate_journal::{DirStorage, EpochReason, Journal, Kind, LossRecord, OpenError, Read};

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let storage = || Arc::new(DirStorage::new(dir.path()).unwrap());
    let (mut journal, recovery) = Journal::open(storage(), settings(), stamp(1)).unwrap();
    assert_eq!(recovery.began, Some(EpochReason::FirstStart));
    let epoch = journal.epoch();
    for number in 1..=500_u64 {
        let placed = append(&mut journal, number, 1000);
        assert_eq!((placed.number, placed.first_seq), (number, (number - 1) * 2));
        if number % 3 == 0 {
            let durable = journal.commit().unwrap();
            assert_eq!((durable.frame, durable.next_seq), (number, number * 2));
        }
    }
    journal.close().unwrap();

    let (journal, recovery) = Journal::open(storage(), settings(), stamp(2)).unwrap();
    assert_eq!(recovery.began, None);
    assert_eq!(recovery.last.map(|(epoch, last)| (epoch, last.frame)), Some((epoch, 500)));
    assert_eq!(recovery.last_samples.map(|stamp| stamp.wall.1), Some(500));
    let frames = frames_of(&journal.reader(), epoch, 0);
    assert_eq!(frames.len(), 501);
    assert!(matches!(
        (frames[0].kind, &frames[0].loss),
        (Kind::Loss, Some(LossRecord::Predecessor(it))) if it.reason == EpochReason::FirstStart
    ));
    assert!(frames.iter().enumerate().skip(1).all(|(at, it)| it.tag() == Some(at as u64)));
}

#[test]
fn an_uncommitted_frame_is_not_read_and_does_not_survive() {
    let dir = tempfile::tempdir().unwrap();
    let storage = || Arc::new(DirStorage::new(dir.path()).unwrap());
    let (mut journal, _) = Journal::open(storage(), settings(), stamp(1)).unwrap();
    append(&mut journal, 1, 10);
    journal.commit().unwrap();
    append(&mut journal, 2, 10);
    let reader = journal.reader();
    assert_eq!(reader.read_from(journal.epoch(), 2, 100).unwrap(), Read::AtTail);
    drop(journal);
    let (journal, _) = Journal::open(storage(), settings(), stamp(2)).unwrap();
    assert_eq!(journal.upcoming().number, 2);
}

#[test]
fn a_second_process_is_told_who_is_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let storage = || Arc::new(DirStorage::new(dir.path()).unwrap());
    let (_journal, _) = Journal::open(storage(), settings(), stamp(1)).unwrap();
    let error = Journal::open(storage(), settings(), stamp(1)).unwrap_err();
    assert!(matches!(&error, OpenError::Locked { .. }));
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
}
