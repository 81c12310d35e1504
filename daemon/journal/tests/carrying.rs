//! Leaving an epoch in steps.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::sync::Arc;

use common::{append, frames_of, settings, stamp, try_append};
use tidegate_journal::storage::sim::{Fault, Op, SimStorage};
use tidegate_journal::{Epoch, EpochReason, Journal, LossRecord, Storage as _};

const FRAMES: u64 = 60;

fn open(storage: &SimStorage) -> Journal {
    Journal::open(Arc::new(storage.clone()), settings(), stamp(1)).unwrap().0
}

/// A journal whose frames from the sixth on the hub never had.
fn backlog(storage: &SimStorage) -> Journal {
    let mut journal = open(storage);
    for tag in 1..=FRAMES {
        append(&mut journal, tag, 9000);
        journal.commit().unwrap();
    }
    journal
}

/// It left its epoch.
fn left(storage: &SimStorage) -> (Journal, Epoch) {
    let mut journal = backlog(storage);
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
        let mut journal = open(&storage.after_power_cut(stop, true));
        while journal.carry_on().unwrap() {}
        let (own, carried): (Vec<_>, Vec<_>) =
            tags(&journal, epoch).into_iter().partition(|tag| *tag >= 1000);
        assert_eq!(carried, (6..=FRAMES).collect::<Vec<_>>(), "stopped after {stop}");
        assert_eq!(own, (1000..1000 + stop).collect::<Vec<_>>(), "stopped after {stop}");
    }
}

/// What was promised until the power went.
#[derive(Default)]
struct Promised {
    /// The epoch was left, durably.
    left: bool,
    own: Vec<u64>,
    /// The hub has it, and the cursor on the disk says so.
    acknowledged: Option<u64>,
}

/// Leaves the epoch, carries its backlog, and delivers and records meanwhile.
fn carry_and_live_on(
    journal: &mut Journal,
    promised: &mut Promised,
) -> Result<(), Box<dyn std::error::Error>> {
    journal.leave_epoch(EpochReason::Fork, Some(6), &[])?;
    promised.left = true;
    for step in 1000.. {
        let (epoch, durable) = journal.reader().durable().unwrap();
        journal.acknowledge(epoch, durable, b"hub")?;
        let more = journal.carry_on()?;
        promised.acknowledged = Some(durable.frame);
        if !more {
            return Ok(());
        }
        if step % 2 == 0 {
            try_append(journal, step, 500)?;
            journal.commit()?;
            promised.own.push(step);
        }
    }
    Ok(())
}

#[test]
fn a_power_cut_at_any_operation_of_carrying_costs_nothing_and_repeats_nothing() {
    let whole = SimStorage::new();
    let mut journal = backlog(&whole);
    let first = whole.counters().operations;
    carry_and_live_on(&mut journal, &mut Promised::default()).unwrap();
    let operations = whole.counters().operations;
    assert!(operations > first + 60, "{first} to {operations}");
    for cut in first..operations {
        let storage = SimStorage::new();
        let mut journal = backlog(&storage);
        let (old, mut promised) = (journal.epoch(), Promised::default());
        storage.cut_power_at(cut);
        // A spare that could not be made is no error of carrying.
        let _ = carry_and_live_on(&mut journal, &mut promised);
        assert!(storage.is_off());
        drop(journal);
        for seed in 0..2 {
            let why = format!("power cut at operation {cut}, seed {seed}");
            let after = storage.after_power_cut(seed, seed != 0);
            let mut journal = open(&after);
            let known = journal.delivered().position.map(|last| last.frame);
            assert!(!promised.left || known >= promised.acknowledged, "{why}: {known:?}");
            while journal.carry_on().unwrap() {}
            let epoch = journal.epoch();
            assert!(epoch != old || !promised.left, "{why}");
            let (own, carried): (Vec<_>, Vec<_>) =
                tags(&journal, epoch).into_iter().partition(|tag| *tag >= 1000);
            let from = if epoch == old { 1 } else { 6 };
            assert_eq!(carried, (from..=FRAMES).collect::<Vec<_>>(), "{why}");
            assert!(own.starts_with(&promised.own), "{why}: {own:?}");
            assert!(own.len() <= promised.own.len() + 1, "{why}: {own:?}");
            // What is done is not done again.
            drop(journal);
            assert!(!open(&after).is_carrying(), "{why}");
        }
    }
}

#[test]
fn a_hole_in_what_is_carried_is_named_in_the_new_epoch() {
    let storage = SimStorage::new();
    let mut journal = backlog(&storage);
    spoil(&storage, 20);
    let epoch = journal.leave_epoch(EpochReason::Fork, Some(6), &[]).unwrap();
    while journal.carry_on().unwrap() {}
    journal.commit().unwrap();
    assert_eq!(tags(&journal, epoch), (6..20).chain(21..=FRAMES).collect::<Vec<_>>());
    let losses: Vec<_> = frames_of(&journal.reader(), epoch, 0)
        .into_iter()
        .filter_map(|it| match it.loss {
            Some(LossRecord::Unsequenced(loss)) => Some((loss.cause, loss.count)),
            _ => None,
        })
        .collect();
    assert_eq!(losses, [("damaged".to_owned(), Some(2))]);
}

/// Overwrites part of the frame whose body begins with this tag.
fn spoil(storage: &SimStorage, tag: u64) {
    let body = common::body(tag, 100);
    for (name, bytes) in storage.files() {
        let file = storage.open(&name).unwrap();
        let mut content = vec![0; bytes];
        file.read_at(&mut content, 0).unwrap();
        if let Some(at) = content.windows(body.len()).position(|found| found == body) {
            storage.flip(&name, at + 40, 0xee);
            return;
        }
    }
    panic!("no frame {tag}");
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
