//! Readers: time ranges, older epochs, and a writer that drops under them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Got, append, frames_of, parse, settings, stamp};
use tidegate_journal::storage::sim::SimStorage;
use tidegate_journal::{
    Codec, Draft, EpochReason, Journal, Kind, LossRecord, Read, Reader, Settings,
};

fn open(storage: &SimStorage, settings: Settings) -> Journal {
    Journal::open(Arc::new(storage.clone()), settings, stamp(1)).unwrap().0
}

fn in_range(reader: &Reader, from: i64, to: i64, budget: usize) -> (Vec<u64>, usize) {
    let (mut tags, mut resume, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = reader.overlapping((from, to), resume, budget).unwrap();
        tags.extend(page.batches.iter().flat_map(parse).filter_map(|it| it.tag()));
        pages += 1;
        resume = page.resume;
        if resume.is_none() {
            return (tags, pages);
        }
    }
}

#[test]
fn a_time_range_finds_exactly_the_frames_that_meet_it_page_by_page() {
    let storage = SimStorage::new();
    let mut journal = open(&storage, settings());
    for tag in 1..=90 {
        append(&mut journal, tag, usize::try_from(tag * 7919 % 6000).unwrap());
        if tag % 7 == 0 {
            journal.commit().unwrap();
        }
    }
    journal.commit().unwrap();
    let reader = journal.reader();
    for (from, to) in [(20, 31), (1, 1), (88, 1000), (7, 8)] {
        let upper = u64::try_from(to).unwrap().min(90);
        let expected: Vec<u64> = (u64::try_from(from).unwrap()..=upper).collect();
        for budget in [1, 20_000, 10_000_000] {
            assert_eq!(in_range(&reader, from, to, budget).0, expected, "{from}..={to}");
        }
    }
    assert_eq!(in_range(&reader, 500, 600, 1000).0, []);
    assert!(in_range(&reader, 1, 90, 20_000).1 > 5, "a page keeps to its budget");
}

#[test]
fn a_clock_that_jumped_back_hides_nothing_from_a_time_range() {
    let storage = SimStorage::new();
    let mut journal = open(&storage, settings());
    for tag in [50, 60, 10, 20, 70] {
        append(&mut journal, tag, 100);
        journal.commit().unwrap();
    }
    assert_eq!(in_range(&journal.reader(), 10, 20, 1000).0, [10, 20]);
    assert_eq!(in_range(&journal.reader(), 55, 75, 1000).0, [60, 70]);
}

#[test]
fn the_rest_of_an_older_epoch_is_read_before_the_new_one() {
    let storage = SimStorage::new();
    let mut journal = open(&storage, settings());
    for tag in 1..=30 {
        append(&mut journal, tag, 5000);
        journal.commit().unwrap();
    }
    let old = journal.epoch();
    let hub = journal.reader().position_of(old, 10).unwrap().unwrap();
    journal.acknowledge(old, hub, b"").unwrap();
    // Nothing is carried: the old epoch is delivered to its end.
    let new = journal.start_epoch(EpochReason::Fork, None, &[]).unwrap();
    append(&mut journal, 31, 10);
    journal.commit().unwrap();
    journal.close().unwrap();

    let mut journal = open(&storage, settings());
    let reader = journal.reader();
    assert_eq!(journal.delivered().epoch, old);
    let rest: Vec<u64> = frames_of(&reader, old, 11).iter().filter_map(Got::tag).collect();
    assert_eq!(rest, (11..=30).collect::<Vec<_>>());
    assert_eq!(reader.read_from(old, 31, 1).unwrap(), Read::EndOfEpoch { next: new });
    assert_eq!(journal.stats().backlog_frames, 20 + 2);
    let last = reader.position_of(old, 30).unwrap().unwrap();
    journal.acknowledge(old, last, b"").unwrap();
    let first = reader.position_of(new, 0).unwrap().unwrap();
    journal.acknowledge(new, first, b"").unwrap();
    assert_eq!(journal.delivered().epoch, new);
    assert_eq!(journal.stats().backlog_frames, 1);
}

#[test]
fn a_fork_puts_the_catalog_first_and_carries_bodies_unchanged() {
    let storage = SimStorage::new();
    let mut journal = open(&storage, settings());
    for tag in 1..=20 {
        append(&mut journal, tag, 3000);
    }
    journal.commit().unwrap();
    let old = journal.epoch();
    let catalog = Draft {
        kind: Kind::Catalog,
        codec: Codec::Plain,
        body: b"all tags",
        count: 0,
        stamp: stamp(9),
    };
    let new = journal.start_epoch(EpochReason::Fork, Some(6), &[catalog]).unwrap();
    let frames = frames_of(&journal.reader(), new, 0);
    match &frames[0].loss {
        Some(LossRecord::Predecessor(it)) => {
            assert_eq!((it.epoch, it.carried_frames), (Some(old), 15));
            assert_eq!(it.last.map(|last| (last.frame, last.next_seq)), Some((5, 10)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(frames[1].kind, Kind::Catalog);
    let tags: Vec<u64> = frames.iter().filter_map(Got::tag).collect();
    assert_eq!(tags, (6..=20).collect::<Vec<_>>());
    assert_eq!(frames[2].header.first_seq, 0);
    assert_eq!(frames[2].header.wall, (6, 6), "times are never rewritten");
}

#[test]
fn a_reader_beside_a_writer_that_recycles_sees_only_true_frames() {
    let storage = SimStorage::new();
    let settings = Settings { max_bytes: 4 * settings().segment_bytes, ..settings() };
    let mut journal = open(&storage, settings);
    let epoch = journal.epoch();
    let reader = journal.reader();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (reader, done) = (reader.clone(), &done);
                scope.spawn(move || {
                    let (mut at, mut seen, mut gaps) = (0, 0_u64, 0_u64);
                    while !done.load(Ordering::Acquire) || seen == 0 {
                        match reader.read_from(epoch, at, 20_000) {
                            Ok(Read::Frames(batch)) => {
                                assert!(batch.positions[0].frame == at);
                                let tags =
                                    parse(&batch).iter().filter(|it| it.tag().is_some()).count();
                                seen += tags as u64;
                                at = batch.next().unwrap();
                            }
                            Ok(Read::Gap { next }) => {
                                assert!(next > at);
                                gaps += 1;
                                at = next;
                            }
                            // Start again from what was dropped long ago.
                            Ok(_) => at = 0,
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                    (seen, gaps)
                })
            })
            .collect();
        for tag in 1..=1500 {
            append(&mut journal, tag, 5000);
            let position = journal.commit().unwrap();
            journal.acknowledge(epoch, position, b"").unwrap();
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            let (seen, gaps) = reader.join().unwrap();
            assert!(seen > 0 && gaps > 0, "{seen} frames, {gaps} gaps");
        }
    });
    assert!(journal.stats().recycled > 20);
    assert!(!journal.take_events().iter().any(|it| format!("{it:?}").contains("Damaged")));
}

#[test]
fn an_amount_counts_frames_exactly_and_the_bytes_of_what_was_just_written() {
    let storage = SimStorage::new();
    let mut journal = open(&storage, settings());
    for tag in 1..=6 {
        append(&mut journal, tag, 500);
        journal.commit().unwrap();
    }
    let (reader, epoch) = (journal.reader(), journal.epoch());
    let Read::Frames(batch) = reader.read_from(epoch, 4, 1 << 20).unwrap() else { panic!() };
    let kept = reader.amount_from(epoch, 4);
    assert_eq!(kept.frames, batch.positions.len() as u64);
    assert_eq!(kept.bytes, batch.bytes.len() as u64);
    let end = batch.next().unwrap();
    assert_eq!(reader.amount_from(epoch, end), tidegate_journal::Kept::default());
    assert_eq!(reader.amount_from(epoch, 0).frames, end);
    for tag in 7..=400 {
        append(&mut journal, tag, 500);
        journal.commit().unwrap();
    }
    let oldest = reader.oldest().unwrap().frame;
    let (all, end) = (reader.amount_from(epoch, 0), reader.epochs()[0].end_frame);
    assert_eq!(all.frames, end - oldest, "over several segments");
    assert!(all.bytes > 500 * all.frames);
}
