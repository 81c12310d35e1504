//! Leaving an epoch in steps.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::sync::Arc;

use common::{append, frames_of, settings, stamp};
use tidegate_journal::storage::sim::{Fault, Op, SimStorage};
use tidegate_journal::{Epoch, EpochReason, Journal};

const FRAMES: u64 = 60;

fn open(storage: &SimStorage) -> Journal {
    Journal::open(Arc::new(storage.clone()), settings(), stamp(1)).unwrap().0
}

/// An epoch whose frames from the sixth on the hub never had.
fn left(storage: &SimStorage) -> (Journal, Epoch) {
    let mut journal = open(storage);
    for tag in 1..=FRAMES {
        append(&mut journal, tag, 9000);
        journal.commit().unwrap();
    }
    let epoch = journal.leave_epoch(EpochReason::Fork, Some(6), &[]).unwrap();
    (journal, epoch)
}

fn tags(journal: &Journal, epoch: Epoch) -> Vec<u64> {
    frames_of(&journal.reader(), epoch, 0).iter().filter_map(common::Got::tag).collect()
}

#[test]
fn an_epoch_is_left_at_once_and_what_is_carried_follows_in_bounded_steps() {
    let storage = SimStorage::new();
    let (mut journal, epoch) = left(&storage);
    assert!(journal.is_carrying() && tags(&journal, epoch).is_empty());
    let (mut steps, mut before) = (0, storage.counters().written);
    while journal.carry_on().unwrap() {
        steps += 1;
        let written = storage.counters().written - before;
        assert!(written < settings().segment_bytes, "{written} bytes in one step");
        before += written;
    }
    assert!(steps >= 10 && !journal.is_carrying(), "{steps}");
    assert_eq!(tags(&journal, epoch), (6..=FRAMES).collect::<Vec<_>>());
}

#[test]
fn a_power_cut_or_a_fault_between_any_two_steps_carries_nothing_twice_and_forgets_nothing() {
    for stop in 0..14 {
        let storage = SimStorage::new();
        let (mut journal, epoch) = left(&storage);
        for step in 0..stop {
            if step % 3 == 1 {
                storage.fail(Op::Write, Fault::Short, 1);
                journal.carry_on().unwrap_err();
            }
            journal.carry_on().unwrap();
            // The gateway lives on meanwhile.
            append(&mut journal, 1000 + step, 500);
            journal.commit().unwrap();
        }
        storage.fail(Op::Sync, Fault::Io, 4);
        drop(journal.carry_on());
        drop(journal);
        let journal = open(&storage.after_power_cut(stop, true));
        let (own, carried): (Vec<_>, Vec<_>) =
            tags(&journal, epoch).into_iter().partition(|tag| *tag >= 1000);
        assert_eq!(carried, (6..=FRAMES).collect::<Vec<_>>(), "stopped after {stop}");
        assert_eq!(own, (1000..1000 + stop).collect::<Vec<_>>(), "stopped after {stop}");
    }
}

#[test]
fn leaving_again_ends_what_was_being_carried_first() {
    let storage = SimStorage::new();
    let (mut journal, second) = left(&storage);
    journal.carry_on().unwrap();
    let third = journal.leave_epoch(EpochReason::Fork, Some(0), &[]).unwrap();
    assert_ne!(second, third);
    while journal.carry_on().unwrap() {}
    assert_eq!(tags(&journal, third), (6..=FRAMES).collect::<Vec<_>>());
}
