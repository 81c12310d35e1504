//! A fault at every single operation, once and for a while, against a model.
//!
//! What must hold, wherever it strikes: a commit that succeeded is there after a power cut; what was
//! taken is durable in the end, once and in order; and whoever was refused something hears of it.
//! A full disk may take what the hub has, and nothing else: the journal here must not drop.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::sync::Arc;

use common::{Got, append, frames_of, settings, stamp};
use proptest::prelude::*;
use tidegate_journal::storage::sim::{Fault, Op, SimStorage};
use tidegate_journal::{
    Epoch, Event, Journal, OpenError, Read, ReadError, Reader, Recovery, Settings, Storage,
    WhenFull, WriteError, inspect,
};

/// Frames of a run: enough to roll four times, and to write the cursor.
const FRAMES: u64 = 34;
/// Attempts after which a journal on a sound disk must work again.
const PATIENCE: u32 = 4;

fn open(storage: &SimStorage) -> Result<(Journal, Recovery), OpenError> {
    let settings = Settings { when_full: WhenFull::StopRecording, ..settings() };
    Journal::open(Arc::new(storage.clone()), settings, stamp(1))
}

/// The tags that stand in an epoch of a journal as it is found.
fn found(storage: &SimStorage) -> Vec<u64> {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    let (reader, _) = inspect(&storage).unwrap();
    tags(&reader)
}

fn tags(reader: &Reader) -> Vec<u64> {
    let epochs = reader.epochs();
    epochs
        .iter()
        .flat_map(|span| frames_of(reader, span.epoch, 0))
        .filter_map(|it| it.tag())
        .collect()
}

/// A journal, what it promised, and what it took.
struct Run {
    storage: SimStorage,
    journal: Journal,
    taken: Vec<u64>,
    /// Of `taken`, how many a commit has covered.
    promised: usize,
    /// The last tag that the hub is said to have.
    delivered: u64,
    /// Something said that the disk refuses.
    told: bool,
}

impl Run {
    fn begin(storage: SimStorage) -> Self {
        let (journal, _) = open(&storage).unwrap();
        Self { storage, journal, taken: Vec::new(), promised: 0, delivered: 0, told: false }
    }

    fn note<T, E: std::fmt::Debug>(&mut self, result: Result<T, E>) -> Option<T> {
        self.told |= result.is_err();
        result.ok()
    }

    fn commit(&mut self) {
        let taken = self.taken.len();
        match self.journal.commit() {
            Ok(_) => self.promised = taken,
            Err(WriteError::NeedsReopen { .. }) => {
                self.told = true;
                let reopened = self.journal.reopen();
                self.note(reopened);
            }
            Err(_) => self.told = true,
        }
        self.told |= !self.journal.take_events().is_empty();
    }

    /// What the daemon does all day: takes, commits, is told what the hub has.
    fn step(&mut self, tag: u64) {
        let bytes = usize::try_from(2000 + tag * 977 % 9000).unwrap();
        let appended = common::try_append(&mut self.journal, tag, bytes);
        if self.note(appended).is_some() {
            self.taken.push(tag);
        }
        if !tag.is_multiple_of(3) {
            self.commit();
        }
        if tag.is_multiple_of(8) {
            let epoch = self.journal.epoch();
            let reader = self.journal.reader();
            let durable = reader.durable().unwrap().1;
            let acknowledged = self.journal.acknowledge(epoch, durable, b"hub");
            if self.note(acknowledged).is_some() {
                self.delivered = self.promised.checked_sub(1).map_or(0, |at| self.taken[at]);
            }
            let saved = self.journal.save_cursor();
            self.note(saved);
        }
    }

    fn check_promise(&self, seed: u64) {
        let found = found(&self.storage.after_power_cut(seed, true));
        let owed = self.taken[..self.promised].iter().filter(|tag| **tag > self.delivered);
        for tag in owed {
            assert!(found.contains(tag), "{tag} was promised; found {found:?}");
        }
    }

    /// All that was taken, once and in order; of what the hub has, the oldest may be gone.
    fn check_all(&self, found: &[u64]) {
        assert!(self.taken.ends_with(found), "found {found:?}, taken {:?}", self.taken);
        let gone = &self.taken[..self.taken.len() - found.len()];
        assert!(gone.last() <= Some(&self.delivered), "gone {gone:?}, found {found:?}");
    }

    /// The disk is sound again: the journal gets over it by itself.
    fn recover(&mut self) {
        self.storage.heal();
        for _ in 0..PATIENCE {
            self.commit();
            if self.promised == self.taken.len() {
                break;
            }
        }
        assert_eq!(self.promised, self.taken.len(), "it does not work again");
        append(&mut self.journal, 1000, 100);
        self.taken.push(1000);
        self.commit();
        self.check_all(&tags(&self.journal.reader()));
    }
}

/// Every operation that a run without faults takes.
fn operations() -> (u64, u64) {
    let mut run = Run::begin(SimStorage::new());
    let begun = run.storage.counters().operations;
    (1..=FRAMES).for_each(|tag| run.step(tag));
    (begun, run.storage.counters().operations)
}

fn with_fault_at(operation: u64, lasting: u64, fault: Fault) {
    let mut run = Run::begin(SimStorage::new());
    run.storage.fail_changes(operation..operation + lasting, fault);
    for tag in 1..=FRAMES {
        run.step(tag);
        if run.storage.counters().operations > operation && tag % 5 == 0 {
            run.check_promise(operation + tag);
        }
    }
    let refused = run.storage.counters();
    // Where no file can be made for want of room, what the hub has makes room.
    let makes_do = |op| op == Op::Create && fault == Fault::Full;
    let heard = [Op::Write, Op::Sync, Op::SyncDir, Op::Create, Op::Rename];
    if heard.into_iter().any(|op| refused.refused(op) > 0 && !makes_do(op)) {
        assert!(run.told, "refused {refused:?}, and nobody was told");
    }
    run.recover();
    let after = run.storage.after_power_cut(9, true);
    let (journal, recovery) = open(&after).unwrap();
    assert_eq!((recovery.began, recovery.damaged.as_slice()), (None, &[][..]));
    run.check_all(&tags(&journal.reader()));
}

#[test]
fn whatever_operation_fails_once_nothing_that_was_promised_is_lost_and_it_is_told() {
    let (first, end) = operations();
    assert!(end - first > 50, "the run is long enough to meet every kind: {}", end - first);
    for fault in [Fault::Io, Fault::Full, Fault::Short, Fault::ReadOnly] {
        for operation in first..end {
            with_fault_at(operation, 1, fault);
        }
    }
}

#[test]
fn a_disk_that_fails_from_any_operation_on_and_heals_loses_nothing_that_it_took() {
    let (first, end) = operations();
    for fault in [Fault::Io, Fault::Full, Fault::Short, Fault::ReadOnly] {
        for operation in (first..end).step_by(5) {
            with_fault_at(operation, 7, fault);
            with_fault_at(operation, u64::MAX / 2, fault);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_faults_of_any_kind_at_any_time_lose_nothing_that_was_promised(
        first in 0_u64..60,
        lasting in 1_u64..12,
        kind in 0_usize..4,
        op in 0_usize..5,
        times in 1_u32..4,
        at in 1_u64..FRAMES,
    ) {
        let faults = [Fault::Io, Fault::Full, Fault::Short, Fault::ReadOnly];
        let ops = [Op::Write, Op::Sync, Op::SyncDir, Op::Create, Op::Rename];
        let mut run = Run::begin(SimStorage::new());
        let begun = run.storage.counters().operations;
        run.storage.fail_changes(begun + first..begun + first + lasting, faults[kind]);
        for tag in 1..=FRAMES {
            if tag == at {
                run.storage.fail(ops[op], faults[(kind + 1) % 4], times);
            }
            run.step(tag);
            if tag % 3 == 0 {
                run.check_promise(first + tag);
            }
        }
        run.recover();
        run.check_promise(first);
    }
}

/// Starting on a disk that fails: refused with a reason, or opened; what was there stays.
#[test]
fn a_start_that_meets_a_fault_at_any_operation_loses_nothing() {
    let before = {
        let mut run = Run::begin(SimStorage::new());
        (1..=FRAMES).for_each(|tag| run.step(tag));
        run.recover();
        run
    };
    let image = before.storage.after_power_cut(5, true);
    let counted = image.after_power_cut(0, false);
    drop(open(&counted).unwrap());
    let (changes, looks) = (counted.counters().operations, counted.counters().reads);
    assert!(changes > 0 && looks > 5, "{:?}", counted.counters());
    for fault in [Fault::Io, Fault::Full, Fault::Short, Fault::ReadOnly] {
        for operation in 0..=changes {
            let storage = image.after_power_cut(0, false);
            storage.fail_changes(operation..operation + 1, fault);
            start_and_look_again(&storage, &before);
        }
    }
    for look in 0..=looks {
        let storage = image.after_power_cut(0, false);
        storage.fail_reads(look..look + 1, Fault::Io);
        start_and_look_again(&storage, &before);
    }
}

fn start_and_look_again(storage: &SimStorage, before: &Run) {
    if let Ok((mut journal, recovery)) = open(storage) {
        assert_eq!((recovery.began, recovery.damaged.as_slice()), (None, &[][..]));
        storage.heal();
        append(&mut journal, 2000, 100);
        if matches!(journal.commit(), Err(WriteError::NeedsReopen { .. })) {
            journal.reopen().unwrap();
        }
        journal.commit().unwrap();
        let mut found = tags(&journal.reader());
        assert_eq!(found.pop(), Some(2000));
        before.check_all(&found);
        return;
    }
    storage.heal();
    let (journal, recovery) = open(storage).unwrap();
    assert_eq!((recovery.began, recovery.damaged.as_slice()), (None, &[][..]));
    before.check_all(&tags(&journal.reader()));
}

fn written() -> (SimStorage, Journal, Vec<u64>) {
    let storage = SimStorage::new();
    let (mut journal, _) = open(&storage).unwrap();
    for tag in 1..=FRAMES {
        append(&mut journal, tag, 6000);
        journal.commit().unwrap();
    }
    assert!(journal.stats().segments > 2);
    journal.close().unwrap();
    let (journal, _) = open(&storage).unwrap();
    (storage, journal, (1..=FRAMES).collect())
}

/// A medium that fails to read once: nobody may take that for damage.
#[test]
fn a_read_that_fails_once_at_any_place_costs_nothing() {
    let (storage, journal, all) = written();
    let before = storage.counters().reads;
    assert_eq!(tags(&journal.reader()), all);
    let reads = storage.counters().reads - before;
    drop(journal);
    for read in 0..reads {
        let (mut journal, _) = open(&storage).unwrap();
        let reader = journal.reader();
        let now = storage.counters().reads;
        storage.fail_reads(now + read..now + read + 1, Fault::Io);
        let seen = read_patiently(&reader, journal.epoch());
        assert_eq!(seen, all, "read {read}");
        journal.commit().unwrap();
        assert_eq!(journal.stats().damaged_frames, 0, "read {read}");
        storage.heal();
    }
}

/// As the uplink does: what fails is tried again, a gap is stepped over.
fn read_patiently(reader: &Reader, epoch: Epoch) -> Vec<u64> {
    let (mut seen, mut at, mut failures) = (Vec::new(), 0, 0);
    loop {
        match reader.read_from(epoch, at, 9000) {
            Ok(Read::Frames(batch)) => {
                seen.extend(common::parse(&batch).iter().filter_map(Got::tag));
                at = batch.next().unwrap();
            }
            Ok(Read::Gap { next }) => at = next,
            Ok(_) => return seen,
            Err(ReadError::Storage(_) | ReadError::Unsettled { .. }) if failures < PATIENCE => {
                failures += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Where the device gives nothing back, nothing is set aside or begun anew: it may give it later.
#[test]
fn a_start_on_a_device_that_cannot_be_read_is_refused_and_changes_nothing() {
    let (storage, journal, all) = written();
    drop(journal);
    let files = storage.files();
    for from in 0..20 {
        let now = storage.counters().reads + from;
        storage.fail_reads(now..u64::MAX, Fault::Io);
        drop(open(&storage));
        storage.heal();
        let names = |files: &[(String, usize)]| -> Vec<String> {
            let segments = files.iter().filter(|(name, _)| name.starts_with("seg-"));
            segments.map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&storage.files()), names(&files), "readable up to read {from}");
    }
    assert_eq!(tags(&open(&storage).unwrap().0.reader()), all);
}

/// A device that reads nothing at all says nothing of what is on it.
#[test]
fn a_device_that_cannot_be_read_at_all_is_no_damage_and_is_told() {
    let (storage, mut journal, all) = written();
    let reader = journal.reader();
    let sealed = reader.oldest().unwrap();
    storage.fail(Op::Read, Fault::Io, u32::MAX);
    for _ in 0..3 {
        reader.read_from(sealed.epoch, sealed.frame, 9000).unwrap_err();
    }
    let events = journal.take_events();
    let told = |event: &Event| matches!(event, Event::Unreadable { why } if why.contains("seg-"));
    assert_eq!(events.iter().filter(|event| told(event)).count(), 1, "{events:?}");
    storage.heal();
    assert_eq!(read_patiently(&reader, sealed.epoch), all);
    assert_eq!(journal.take_events(), [Event::Readable]);
    journal.commit().unwrap();
    assert_eq!(journal.stats().damaged_frames, 0);
}
