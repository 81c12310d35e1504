//! Power cuts at every operation of a workload, over a disk that forgets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{append, frames_of, settings, stamp, try_append};
use tidegate_journal::storage::sim::SimStorage;
use tidegate_journal::{
    BridgeCause, Epoch, EpochReason, FrameHash, Journal, LossRecord, Reader, Settings, WriteError,
};

/// What the workload was promised before the power went.
#[derive(Default)]
struct Promised {
    epoch: Option<Epoch>,
    /// Hash and tag of each durable frame of the current epoch.
    frames: BTreeMap<u64, (FrameHash, Option<u64>)>,
    /// What bridges named when they were last seen.
    named: Vec<(u64, u64)>,
    /// Every tag that was appended, committed or not.
    appended: u64,
    /// Tags that are durable.
    durable: u64,
    /// An epoch is being left: what counts is in the old one or in the new one.
    forked: bool,
    /// What lies before is said to be at the hub.
    carried_from: u64,
    dropped: u64,
    recycled: u64,
}

fn small() -> Settings {
    Settings { max_bytes: 4 * settings().segment_bytes, ..settings() }
}

fn collect(reader: &Reader, epoch: Epoch) -> BTreeMap<u64, FrameHash> {
    frames_of(reader, epoch, 0).into_iter().map(|it| (it.header.number, it.hash)).collect()
}

/// Commits of several sizes, acknowledgements, enough to recycle and to drop, a clean close in
/// the middle, a rewind, a fork with a carry-over. Ends early when the power goes.
fn workload(
    storage: &SimStorage,
    promised: &mut Promised,
) -> Result<(), Box<dyn std::error::Error>> {
    for round in 0..3_u64 {
        let (mut journal, _) = Journal::open(Arc::new(storage.clone()), small(), stamp(1))?;
        promised.note(&journal);
        for step in 0..12_u64 {
            for _ in 0..=step % 4 {
                promised.appended += 1;
                let size = usize::try_from(promised.appended * 7919 % 24_000)?;
                try_append(&mut journal, promised.appended, size)?;
            }
            let position = journal.commit()?;
            promised.durable = promised.appended;
            promised.note(&journal);
            if round != 1 && step % 3 == 2 {
                let before = journal.reader().position_of(journal.epoch(), position.frame - 1)?;
                if let Some(before) = before {
                    journal.acknowledge(journal.epoch(), before, b"hub")?;
                }
            }
        }
        if round == 0 {
            journal.close()?;
        } else if round == 1 {
            let keep = journal.upcoming().number - 4;
            // From here on both epochs may be found.
            promised.forked = true;
            promised.carried_from = keep;
            journal.start_epoch(EpochReason::Fork, Some(keep), &[])?;
            promised.frames.clear();
            promised.named.clear();
            promised.forked = false;
            promised.note(&journal);
        } else {
            journal.save_cursor()?;
        }
    }
    Ok(())
}

impl Promised {
    /// Notes what is durable, as the journal itself shows it; the power may have gone.
    fn note(&mut self, journal: &Journal) {
        self.dropped = self.dropped.max(journal.stats().dropped_frames);
        self.recycled = self.recycled.max(journal.stats().recycled);
        self.epoch = Some(journal.epoch());
        let from = self.frames.last_key_value().map_or(0, |(last, _)| last + 1);
        let Ok(tidegate_journal::Read::Frames(_)) =
            journal.reader().read_from(journal.epoch(), from, 1)
        else {
            return;
        };
        let new = frames_of(&journal.reader(), journal.epoch(), from);
        for it in new {
            if let Some(LossRecord::Bridge(bridge)) = &it.loss {
                self.named.push((bridge.first_frame, bridge.last_frame));
            }
            self.frames.insert(it.header.number, (it.hash, it.tag()));
        }
    }

    fn check(&self, storage: &SimStorage, context: &str) {
        let opened = Journal::open(Arc::new(storage.clone()), small(), stamp(2));
        let (mut journal, recovery) = opened.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        while journal.carry_on().unwrap_or_else(|error| panic!("{context}: {error:?}")) {}
        assert!(recovery.damaged.is_empty(), "{context}: {recovery:?}");
        assert!(recovery.strangers.is_empty(), "{context}: {recovery:?}");
        assert_ne!(recovery.began, Some(EpochReason::JournalLost), "{context}");
        let reader = journal.reader();
        let acknowledged = journal.delivered().position;
        let mut lost = 0;
        let mut named = 0;
        if let Some(epoch) = self.epoch {
            let spans = reader.epochs();
            // Once it is carried over the old epoch may go.
            let here = spans.iter().any(|span| span.epoch == epoch);
            assert!(here || self.forked, "{context}: the epoch is gone: {spans:?} {recovery:?}");
            let found = if here { frames_of(&reader, epoch, 0) } else { Vec::new() };
            let mut bridged = self.named.clone();
            for it in &found {
                if let Some(LossRecord::Bridge(bridge)) = &it.loss {
                    assert_eq!(bridge.cause, BridgeCause::DroppedOldest);
                    bridged.push((bridge.first_frame, bridge.last_frame));
                }
            }
            let found: BTreeMap<u64, FrameHash> =
                found.into_iter().map(|it| (it.header.number, it.hash)).collect();
            let carried: Vec<u64> = frames_of(&reader, journal.epoch(), 0)
                .iter()
                .filter_map(common::Got::tag)
                .collect();
            for (number, (hash, tag)) in &self.frames {
                match found.get(number) {
                    Some(same) => assert_eq!(same, hash, "{context}: frame {number} changed"),
                    None => {
                        lost += 1;
                        let is_named =
                            bridged.iter().any(|(first, last)| (first..=last).contains(&number));
                        // By the journal's own word: it was durable before the frame went.
                        let had = acknowledged.is_some_and(|last| last.frame >= *number)
                            || (self.forked && *number < self.carried_from);
                        let moved = self.forked && tag.is_none_or(|tag| carried.contains(&tag));
                        named += u64::from(is_named || had || moved);
                    }
                }
            }
        }
        assert_eq!(lost, named, "{context}: frames are gone that nothing names");
        // Nothing invented: every tag was appended, each once, in order, over all epochs that
        // count.
        let last_epoch = reader.epochs().last().unwrap().epoch;
        let tags: Vec<u64> =
            frames_of(&reader, last_epoch, 0).iter().filter_map(common::Got::tag).collect();
        assert!(tags.is_sorted_by(|a, b| a < b), "{context}: {tags:?}");
        assert!(tags.last().is_none_or(|last| *last <= self.appended), "{context}");
        // And it goes on.
        append(&mut journal, self.appended + 1, 5000);
        journal.commit().unwrap_or_else(|error| panic!("{context}: {error:?}"));
        let tags: Vec<u64> =
            frames_of(&reader, journal.epoch(), 0).iter().filter_map(common::Got::tag).collect();
        assert_eq!(tags.last(), Some(&(self.appended + 1)), "{context}");
        assert!(tags.is_sorted_by(|a, b| a < b), "{context}: {tags:?}");
        // What was repaired stays repaired.
        let epoch = journal.epoch();
        let before = collect(&reader, epoch);
        drop(journal);
        let (journal, recovery) =
            Journal::open(Arc::new(storage.clone()), small(), stamp(3)).unwrap();
        assert!(recovery.damaged.is_empty() && recovery.cut_frames == 0, "{context}");
        assert_eq!(collect(&journal.reader(), epoch), before, "{context}");
    }
}

fn operations() -> u64 {
    let storage = SimStorage::new();
    let mut promised = Promised::default();
    workload(&storage, &mut promised).unwrap();
    assert!(promised.dropped > 0 && promised.recycled > 0, "the workload must drop and recycle");
    storage.counters().operations
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_that_was_committed() {
    let operations = operations();
    assert!(operations > 80, "the workload does too little: {operations}");
    for cut in 0..operations {
        for seed in 0..2 {
            let storage = SimStorage::new();
            storage.cut_power_at(cut);
            let mut promised = Promised::default();
            let ended = workload(&storage, &mut promised);
            assert!(ended.is_err() && storage.is_off());
            promised.check(
                &storage.after_power_cut(seed, seed != 0),
                &format!("power cut at operation {cut}, seed {seed}"),
            );
        }
    }
}

#[test]
fn a_second_power_cut_during_the_repair_loses_nothing_either() {
    let operations = operations();
    for cut in (0..operations).step_by(3) {
        let storage = SimStorage::new();
        storage.cut_power_at(cut);
        let mut promised = Promised::default();
        let _ = workload(&storage, &mut promised);
        let once = storage.after_power_cut(cut, true);
        for again in 0..6 {
            let repairing = once.after_power_cut(again, false);
            repairing.cut_power_at(again);
            if let Ok((mut journal, _)) =
                Journal::open(Arc::new(repairing.clone()), small(), stamp(2))
            {
                while journal.carry_on().unwrap_or(false) {}
            }
            promised.check(
                &repairing.after_power_cut(again, true),
                &format!("power cut at operation {cut}, then at {again} of the repair"),
            );
        }
    }
}

#[test]
fn what_a_killed_process_left_in_the_cache_is_durable_before_it_is_shown() {
    for cut in 0..operations() {
        let storage = SimStorage::new();
        storage.cut_power_at(cut);
        let mut promised = Promised::default();
        let _ = workload(&storage, &mut promised);
        storage.survive_as_crash();
        let (journal, _) = Journal::open(Arc::new(storage.clone()), small(), stamp(2)).unwrap();
        let epoch = journal.epoch();
        let shown = collect(&journal.reader(), epoch);
        drop(journal);
        for seed in 0..2 {
            let after = storage.after_power_cut(seed, true);
            let (journal, _) = Journal::open(Arc::new(after), small(), stamp(2)).unwrap();
            let found = collect(&journal.reader(), epoch);
            assert!(
                shown.iter().all(|(number, hash)| found.get(number) == Some(hash)),
                "killed at operation {cut}, then the power went, seed {seed}"
            );
        }
    }
}

/// The positive control: the simulated disk really forgets.
#[test]
fn a_frame_that_was_written_and_never_synced_vanishes() {
    let storage = SimStorage::new();
    let (mut journal, _) = Journal::open(Arc::new(storage.clone()), settings(), stamp(1)).unwrap();
    append(&mut journal, 1, 100);
    journal.commit().unwrap();
    append(&mut journal, 2, 60_000);
    // The write goes to the cache; the sync never happens.
    storage.cut_power_at(storage.counters().operations + 1);
    assert!(matches!(journal.commit(), Err(WriteError::Storage(_))));
    let vanished = (0..16_u64)
        .filter(|seed| {
            let after = storage.after_power_cut(*seed, true);
            let (journal, recovery) = Journal::open(Arc::new(after), settings(), stamp(1)).unwrap();
            assert!(recovery.last.is_some_and(|(_, last)| last.frame >= 1));
            journal.upcoming().number == 2
        })
        .count();
    assert!(vanished >= 12, "{vanished} of 16");
}

/// A second control: a segment whose name was never synced is gone with its name.
#[test]
fn a_file_whose_directory_entry_was_never_synced_vanishes() {
    let storage = SimStorage::new();
    use tidegate_journal::Storage as _;
    let file = storage.create("a", 4096).unwrap();
    file.write_at(&[1; 4096], 0).unwrap();
    file.sync_data().unwrap();
    let gone =
        (0..16).filter(|seed| storage.after_power_cut(*seed, false).open("a").is_err()).count();
    assert!((1..16).contains(&gone), "{gone} of 16");
    storage.sync_dir().unwrap();
    assert!((0..16).all(|seed| storage.after_power_cut(seed, false).open("a").is_ok()));
}

#[test]
fn a_torn_block_takes_along_what_stood_in_it() {
    use tidegate_journal::Storage as _;
    let storage = SimStorage::new();
    let file = storage.create("a", 4096).unwrap();
    storage.sync_dir().unwrap();
    file.write_at(&[1; 2048], 0).unwrap();
    file.sync_data().unwrap();
    file.write_at(&[2; 100], 2048).unwrap();
    let spoilt = (0..16).any(|seed| {
        let after = storage.after_power_cut(seed, true);
        let mut earlier = [0; 2048];
        after.open("a").unwrap().read_at(&mut earlier, 0).unwrap();
        earlier != [1; 2048]
    });
    assert!(spoilt, "the simulated disk must be crueller than that");
}

#[test]
fn a_commit_is_one_sync_and_an_empty_commit_none() {
    let storage = SimStorage::new();
    let (mut journal, _) = Journal::open(Arc::new(storage.clone()), settings(), stamp(1)).unwrap();
    let before = storage.counters();
    journal.commit().unwrap();
    assert_eq!(storage.counters(), before);
    for tag in 1..=4 {
        append(&mut journal, tag, 700);
    }
    journal.commit().unwrap();
    let after = storage.counters();
    assert_eq!(after.syncs, before.syncs + 1);
    assert_eq!(after.dir_syncs, before.dir_syncs);
    assert_eq!(after.operations, before.operations + 2, "one write and one sync");
    assert_eq!(after.written, before.written + 4096, "four small frames are one block");
    assert!(storage.files().iter().any(|(name, _)| name.starts_with("spare-")));
}
