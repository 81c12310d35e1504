//! Disks that are full, read-only, failing, or somebody else's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::sync::Arc;

use common::{append, frames_of, settings, stamp, try_append};
use tidegate_journal::storage::sim::{Fault, Op, SimStorage};
use tidegate_journal::{
    BridgeCause, EpochReason, Event, Journal, LossRecord, OpenError, Read, Settings, Storage as _,
    WhenFull, WriteError,
};

fn open(storage: &SimStorage) -> Journal {
    Journal::open(Arc::new(storage.clone()), settings(), stamp(1)).unwrap().0
}

fn tags(journal: &Journal) -> Vec<u64> {
    frames_of(&journal.reader(), journal.epoch(), 0).iter().filter_map(common::Got::tag).collect()
}

#[test]
fn a_disk_that_fills_in_the_middle_of_a_write_loses_nothing_and_works_again() {
    let storage = SimStorage::new();
    let mut journal = open(&storage);
    append(&mut journal, 1, 10_000);
    journal.commit().unwrap();
    append(&mut journal, 2, 30_000);
    storage.fail(Op::Write, Fault::Full, 2);
    for _ in 0..2 {
        match journal.commit() {
            Err(WriteError::Storage(error)) => assert!(error.is_full()),
            other => panic!("{other:?}"),
        }
        assert_eq!(tags(&journal), [1], "readers see nothing of it");
    }
    append(&mut journal, 3, 100);
    journal.commit().unwrap();
    assert_eq!(tags(&journal), [1, 2, 3]);
    drop(journal);
    assert_eq!(tags(&open(&storage.after_power_cut(1, true))), [1, 2, 3]);
}

#[test]
fn half_a_commit_on_a_full_disk_is_no_frame_after_a_restart() {
    let storage = SimStorage::new();
    let mut journal = open(&storage);
    append(&mut journal, 1, 10_000);
    journal.commit().unwrap();
    append(&mut journal, 2, 30_000);
    storage.fail(Op::Write, Fault::Full, 1);
    journal.commit().unwrap_err();
    drop(journal);
    let mut journal = open(&storage);
    assert_eq!(tags(&journal), [1]);
    append(&mut journal, 4, 10);
    journal.commit().unwrap();
    assert_eq!(tags(&journal), [1, 4]);
}

#[test]
fn a_disk_without_headroom_drops_the_oldest_instead_of_growing() {
    let storage = SimStorage::new();
    let segment = settings().segment_bytes;
    let settings = Settings { headroom: segment, ..settings() };
    let (mut journal, _) = Journal::open(Arc::new(storage.clone()), settings, stamp(1)).unwrap();
    storage.set_capacity(Some(6 * segment));
    for tag in 1..100 {
        append(&mut journal, tag, 9000);
        journal.commit().unwrap();
    }
    assert!(storage.free_bytes().unwrap() >= segment, "the headroom is left to others");
    let stats = journal.stats();
    assert!(stats.dropped_frames > 0 && stats.recycled > 0, "{stats:?}");
    let kept = frames_of(&journal.reader(), journal.epoch(), 0);
    let bridges: Vec<_> = kept
        .iter()
        .filter_map(|it| match &it.loss {
            Some(LossRecord::Bridge(bridge)) => Some(bridge.clone()),
            _ => None,
        })
        .collect();
    let last = bridges.last().unwrap();
    // Each bridge takes over the adjacent one before it, so the last one names everything.
    assert_eq!(last.cause, BridgeCause::DroppedOldest);
    assert_eq!((last.first_frame, last.first_seq), (0, 0));
    assert_eq!(last.last_frame + 1, kept[0].header.number);
    assert_eq!(last.end_seq, kept[0].header.first_seq);
    assert_eq!(last.hash_after, kept[0].header.previous);
    assert!(
        kept.iter().any(|it| matches!(
            &it.loss,
            Some(LossRecord::Predecessor(it)) if it.reason == EpochReason::FirstStart
        )),
        "the record of the epoch's beginning is written again"
    );
    let named = stats.dropped_samples + 2 * tags(&journal).len() as u64;
    assert_eq!(named, 198, "every sample is kept or named");
}

/// Delivery is always a little behind: what it will have taken by the time the room is needed is
/// not dropped for a file that nobody needs yet.
#[test]
fn nothing_undelivered_is_dropped_as_long_as_there_is_other_room() {
    let storage = SimStorage::new();
    let (mut journal, _) = Journal::open(Arc::new(storage.clone()), settings(), stamp(1)).unwrap();
    append(&mut journal, 1, 100);
    let mut last = journal.commit().unwrap();
    storage.set_capacity(Some(storage.files().iter().map(|(_, size)| *size as u64).sum()));
    let epoch = journal.epoch();
    for tag in 2..100 {
        append(&mut journal, tag, 9000);
        let position = journal.commit().unwrap();
        // The hub has the frame before.
        journal.acknowledge(epoch, last, b"").unwrap();
        last = position;
    }
    let stats = journal.stats();
    assert!(stats.recycled > 3, "{stats:?}");
    assert_eq!(stats.dropped_frames, 0, "{stats:?}");
}

#[test]
fn a_journal_that_may_not_drop_refuses_until_the_hub_has_something() {
    let storage = SimStorage::new();
    let settings = Settings {
        when_full: WhenFull::StopRecording,
        max_bytes: 4 * settings().segment_bytes,
        ..settings()
    };
    let (mut journal, _) = Journal::open(Arc::new(storage), settings, stamp(1)).unwrap();
    let mut tag = 0;
    let error = loop {
        tag += 1;
        if let Err(error) = try_append(&mut journal, tag, 9000) {
            break error;
        }
        journal.commit().unwrap();
    };
    assert!(matches!(&error, WriteError::Full { .. }));
    assert!(error.to_string().contains("journal.max-bytes"), "{error}");
    assert_eq!(tags(&journal).len() as u64, tag - 1, "nothing was dropped");
    let position = journal.reader().position_of(journal.epoch(), 15).unwrap().unwrap();
    journal.acknowledge(journal.epoch(), position, b"").unwrap();
    append(&mut journal, tag, 9000);
    journal.commit().unwrap();
    assert_eq!(journal.stats().dropped_frames, 0);
}

#[test]
fn a_failed_sync_is_never_retried_on_the_same_file() {
    let storage = SimStorage::new();
    let mut journal = open(&storage);
    append(&mut journal, 1, 5000);
    journal.commit().unwrap();
    let before = storage.files();
    append(&mut journal, 2, 5000);
    storage.fail(Op::Sync, Fault::Io, 1);
    journal.commit().unwrap();
    assert_eq!(journal.stats().failed_syncs, 1);
    let events = journal.take_events();
    assert!(events.iter().any(|it| matches!(it, Event::SyncFailed { .. })), "{events:?}");
    let segments = |files: &[(String, usize)]| {
        files.iter().filter(|(name, _)| name.starts_with("seg-")).count()
    };
    assert_eq!(segments(&storage.files()), segments(&before) + 1);
    append(&mut journal, 3, 5000);
    journal.commit().unwrap();
    // What the failed sync left in the cache only is not what survives.
    for seed in 0..8 {
        assert_eq!(tags(&open(&storage.after_power_cut(seed, true))), [1, 2, 3]);
    }
}

#[test]
fn a_file_that_is_not_trusted_is_not_written_even_when_the_next_one_fails_too() {
    let storage = SimStorage::new();
    let mut journal = open(&storage);
    append(&mut journal, 1, 5000);
    journal.commit().unwrap();
    let segments = || storage.files().iter().filter(|(name, _)| name.starts_with("seg-")).count();
    let before = segments();
    append(&mut journal, 2, 5000);
    storage.fail(Op::Sync, Fault::Io, 2);
    journal.commit().unwrap_err();
    journal.commit().unwrap();
    assert_eq!(segments(), before + 1);
    assert_eq!(
        tags(&open(&{
            drop(journal);
            storage.after_power_cut(1, true)
        })),
        [1, 2]
    );
}

#[test]
fn when_every_sync_fails_the_commit_fails_and_nothing_is_shown() {
    let storage = SimStorage::new();
    let mut journal = open(&storage);
    append(&mut journal, 1, 5000);
    journal.commit().unwrap();
    storage.fail(Op::Sync, Fault::Io, 1000);
    append(&mut journal, 2, 5000);
    for _ in 0..3 {
        assert!(matches!(journal.commit(), Err(WriteError::Storage(_) | WriteError::Full { .. })));
        assert_eq!(tags(&journal), [1]);
    }
    storage.heal();
    journal.reopen().unwrap();
    journal.commit().unwrap();
    assert_eq!(tags(&journal), [1, 2]);
    append(&mut journal, 3, 50);
    journal.commit().unwrap();
    drop(journal);
    assert_eq!(tags(&open(&storage.after_power_cut(3, true))), [1, 2, 3]);
}

#[test]
fn a_disk_that_turns_read_only_can_be_read_and_is_written_again_after_reopening() {
    let storage = SimStorage::new();
    let mut journal = open(&storage);
    append(&mut journal, 1, 5000);
    journal.commit().unwrap();
    let reader = journal.reader();
    for op in [Op::Write, Op::Create, Op::Rename] {
        storage.fail(op, Fault::ReadOnly, 1000);
    }
    append(&mut journal, 2, 5000);
    assert!(matches!(journal.commit(), Err(WriteError::Storage(_))));
    assert!(matches!(reader.read_from(journal.epoch(), 1, 1).unwrap(), Read::Frames(_)));
    storage.heal();
    journal.reopen().unwrap();
    journal.commit().unwrap();
    assert_eq!(tags(&journal), [1, 2]);
    // A reader from before goes on.
    assert_eq!(reader.durable().unwrap().1.frame, 2);
}

#[test]
fn reopening_does_not_write_twice_what_had_arrived() {
    let storage = SimStorage::new();
    let mut journal = open(&storage);
    append(&mut journal, 1, 50);
    journal.commit().unwrap();
    append(&mut journal, 2, 50);
    // Written, but the failure says otherwise; a new file cannot be made either.
    storage.fail(Op::Sync, Fault::Io, 2);
    storage.fail(Op::Create, Fault::Io, 10);
    journal.commit().unwrap_err();
    storage.heal();
    journal.reopen().unwrap();
    journal.commit().unwrap();
    assert_eq!(tags(&journal), [1, 2]);
}

/// The segment is nearly full, so that what is pending needs another one; and it is damaged, so
/// that opening it writes a frame with the number that the first pending one had.
#[test]
fn a_reopening_that_fails_half_way_and_is_tried_again_keeps_what_was_pending_once() {
    for before in 1..30 {
        let storage = SimStorage::new();
        let mut journal = open(&storage);
        for tag in 1..=before {
            append(&mut journal, tag, 9000);
            journal.commit().unwrap();
        }
        let segment = storage
            .files()
            .into_iter()
            .map(|(name, _)| name)
            .rfind(|name| name.starts_with("seg-"));
        let segment = segment.unwrap();
        let waiting = [1001, 1002, 1003];
        for tag in waiting {
            append(&mut journal, tag, 9000);
        }
        let pending = journal.stats().pending_frames;
        // The first frame of the last segment, behind its header and the mark of its commit.
        storage.flip(&segment, 3 * 4096, 1);
        let files = storage.files();
        for (name, _) in files.iter().filter(|(name, _)| name.starts_with("spare")) {
            storage.remove(name).unwrap();
        }
        storage.fail(Op::Create, Fault::Io, u32::MAX);
        let first = journal.reopen();
        storage.heal();
        if first.is_err() {
            journal.reopen().unwrap();
        }
        journal.commit().unwrap();
        let kept: Vec<_> = tags(&journal).into_iter().filter(|tag| *tag > 1000).collect();
        assert_eq!(kept, waiting, "{before} before, {pending} pending, {first:?}");
    }
}

#[test]
fn a_directory_sync_that_fails_asks_for_reopening() {
    let storage = SimStorage::new();
    let mut journal = open(&storage);
    storage.fail(Op::SyncDir, Fault::Io, 1);
    let mut tag = 0;
    let error = loop {
        tag += 1;
        if let Err(error) = try_append(&mut journal, tag, 9000).and_then(|_| journal.commit()) {
            break error;
        }
    };
    assert!(matches!(error, WriteError::Storage(_)));
    assert!(matches!(journal.commit(), Err(WriteError::NeedsReopen { .. })));
    journal.reopen().unwrap();
    append(&mut journal, tag + 1, 9000);
    journal.commit().unwrap();
    assert_eq!(tags(&journal), (1..=tag + 1).collect::<Vec<_>>());
}

#[test]
fn another_gateways_journal_is_refused_by_both_names() {
    let storage = SimStorage::new();
    open(&storage).close().unwrap();
    let other = Settings { gateway: "gw-2".into(), ..settings() };
    let files = storage.files();
    let error = Journal::open(Arc::new(storage.clone()), other, stamp(1)).unwrap_err();
    assert!(matches!(&error, OpenError::Foreign { .. }));
    let text = error.to_string();
    assert!(text.contains("PlantA/gw-1") && text.contains("PlantA/gw-2"), "{text}");
    assert_eq!(storage.files(), files, "nothing was touched");
}

#[test]
fn sizes_that_cannot_work_are_refused_with_what_would_be_legal() {
    for (settings, word) in [
        (Settings { max_bytes: settings().segment_bytes, ..settings() }, "max-bytes"),
        (Settings { segment_bytes: 100_001, ..settings() }, "segment-bytes"),
    ] {
        let error = Journal::open(Arc::new(SimStorage::new()), settings, stamp(1)).unwrap_err();
        assert!(matches!(&error, OpenError::Settings { setting, .. } if *setting == word));
    }
}

#[test]
fn a_frame_that_is_too_large_is_refused_and_the_journal_goes_on() {
    let storage = SimStorage::new();
    let mut journal = open(&storage);
    let error = try_append(&mut journal, 1, 70_000).unwrap_err();
    assert!(matches!(error, WriteError::TooLarge { .. }));
    append(&mut journal, 2, 65_000);
    journal.commit().unwrap();
    assert_eq!(tags(&journal), [2]);
}

#[test]
fn acknowledgements_survive_a_clean_close_and_cost_no_sync_each() {
    let storage = SimStorage::new();
    let mut journal = open(&storage);
    for tag in 1..=40 {
        append(&mut journal, tag, 10);
    }
    journal.commit().unwrap();
    let before = storage.counters().syncs;
    let epoch = journal.epoch();
    for frame in 1..=40 {
        let position = journal.reader().position_of(epoch, frame).unwrap().unwrap();
        journal.acknowledge(epoch, position, &[7; 16]).unwrap();
    }
    assert_eq!(storage.counters().syncs, before);
    assert_eq!(journal.stats().backlog_frames, 0);
    journal.close().unwrap();
    let journal = open(&storage);
    let delivered = journal.delivered();
    assert_eq!(delivered.position.map(|it| it.frame), Some(40));
    assert_eq!(delivered.destination, [7; 16]);
}

#[test]
fn what_a_caller_remembers_costs_no_sync_and_is_durable_before_undelivered_frames_are_dropped() {
    let storage = SimStorage::new();
    let settings = Settings { max_bytes: 4 * settings().segment_bytes, ..settings() };
    let (mut journal, _) =
        Journal::open(Arc::new(storage.clone()), settings.clone(), stamp(1)).unwrap();
    let before = storage.counters().syncs;
    journal.remember(b"sent").unwrap();
    assert_eq!(storage.counters().syncs, before);
    journal.remember(&[0; 2049]).unwrap_err();
    // Fewer commits than the cursor is written after.
    for tag in 1..=29 {
        append(&mut journal, tag, 30_000);
        journal.commit().unwrap();
        if journal.stats().dropped_frames > 0 {
            break;
        }
    }
    assert!(journal.stats().dropped_frames > 0);
    let after = Arc::new(storage.after_power_cut(1, true));
    let (journal, _) = Journal::open(after, settings, stamp(1)).unwrap();
    assert_eq!(journal.delivered().destination, b"sent");
    assert_eq!(journal.delivered().position, None, "it is no acknowledgement");
}

#[test]
fn a_hub_that_lost_delivered_frames_gets_a_bridge_over_what_is_no_longer_kept() {
    let storage = SimStorage::new();
    let settings = Settings { max_bytes: 4 * settings().segment_bytes, ..settings() };
    let (mut journal, _) = Journal::open(Arc::new(storage), settings, stamp(1)).unwrap();
    let epoch = journal.epoch();
    let hub_last = journal.reader().position_of(epoch, 0).unwrap();
    for tag in 1..=80 {
        append(&mut journal, tag, 9000);
        let position = journal.commit().unwrap();
        journal.acknowledge(epoch, position, b"").unwrap();
    }
    assert_eq!(journal.stats().dropped_frames, 0, "delivered data goes without a record");
    let rewound = journal.rewind(epoch, hub_last).unwrap();
    assert!(rewound.incomplete);
    let bridge = journal.lost_at_hub(epoch, hub_last).unwrap().unwrap();
    assert_eq!(bridge.cause, BridgeCause::LostAtHub);
    assert_eq!((bridge.first_frame, bridge.last_frame), (1, rewound.resume - 1));
    assert_eq!(bridge.hash_before, hub_last.unwrap().hash);
    let oldest = &frames_of(&journal.reader(), epoch, 0)[0];
    assert_eq!(bridge.hash_after, oldest.header.previous);
    assert_eq!(bridge.end_seq, oldest.header.first_seq);
}

#[test]
fn when_more_was_acknowledged_than_is_kept_a_new_epoch_names_the_lost_one() {
    let storage = SimStorage::new();
    let mut journal = open(&storage);
    let old = journal.epoch();
    for tag in 1..=3 {
        append(&mut journal, tag, 10);
        journal.commit().unwrap();
    }
    let last = journal.commit().unwrap();
    journal.acknowledge(old, last, b"").unwrap();
    journal.close().unwrap();
    // All segments are gone, the cursor is not.
    for (name, _) in storage.files() {
        if name.starts_with("seg-") {
            storage.remove(&name).unwrap();
        }
    }
    let (journal, recovery) = Journal::open(Arc::new(storage), settings(), stamp(2)).unwrap();
    assert_eq!(recovery.began, Some(EpochReason::JournalLost));
    assert_ne!(journal.epoch(), old);
    let first = &frames_of(&journal.reader(), journal.epoch(), 0)[0];
    match &first.loss {
        Some(LossRecord::Predecessor(it)) => {
            assert_eq!((it.reason, it.epoch), (EpochReason::JournalLost, Some(old)));
            assert_eq!(it.last, Some(last));
        }
        other => panic!("{other:?}"),
    }
}
