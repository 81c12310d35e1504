//! Sidecars: kept beside their segments, never in the way, never another's. And reading one segment.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;

use common::{append, frames_of, settings, stamp, try_append};
use tidegate_journal::storage::sim::{Fault, Op, SimStorage};
use tidegate_journal::{
    Journal, Reader, SegmentSpan, Settings, SidecarError, Spot, Storage, Visited, inspect,
};

fn with_sidecars() -> Settings {
    Settings { sidecar_bytes: 40 << 10, ..settings() }
}

fn open(storage: &SimStorage) -> Journal {
    Journal::open(Arc::new(storage.clone()), with_sidecars(), stamp(1)).unwrap().0
}

/// A journal with so many sealed segments, each frame with a commit of its own.
fn with_segments(storage: &SimStorage, sealed: usize) -> Journal {
    let mut journal = open(storage);
    let mut tag = 0;
    while journal.reader().segments().len() <= sealed {
        tag += 1;
        append(&mut journal, tag, 7_000);
        journal.commit().unwrap();
    }
    journal
}

fn content(span: &SegmentSpan) -> Vec<u8> {
    let seed = u8::try_from(span.number).unwrap();
    (seed..=250).chain(0..seed).cycle().take(20_000).collect()
}

fn keep_all(reader: &Reader) {
    for span in reader.segments().iter().filter(|span| span.sealed) {
        reader.keep_sidecar(span, &content(span)).unwrap();
    }
}

fn is_whole(reader: &Reader, span: &SegmentSpan) -> bool {
    reader.sidecar(span).and_then(|it| it.read(0, 20_000)).is_some_and(|it| it == content(span))
}

fn name(number: u64) -> String {
    format!("seg-{number:020}.tgx")
}

#[test]
fn a_piece_of_a_sidecar_is_read_without_the_rest() {
    let journal = with_segments(&SimStorage::new(), 2);
    let reader = journal.reader();
    keep_all(&reader);
    let span = reader.segments()[1];
    let metered = reader.metered();
    let sidecar = metered.sidecar(&span).unwrap();
    assert_eq!(sidecar.length(), 20_000);
    assert_eq!(sidecar.read(4_090, 10).unwrap(), content(&span)[4_090..4_100]);
    assert_eq!(sidecar.read(19_999, 1).unwrap(), content(&span)[19_999..]);
    assert_eq!(sidecar.read(19_999, 2), None, "beyond its end");
    // The header, five checksums, two blocks, and what is left of the last one.
    assert_eq!(metered.bytes_read(), 4_096 + 20 + 8_192 + (20_000 - 4 * 4_096));
    assert_eq!(reader.bytes_read(), 0, "another reader counts for itself");
}

#[test]
fn sidecars_outlive_a_restart_and_go_with_their_segments() {
    let storage = SimStorage::new();
    let journal = with_segments(&storage, 3);
    keep_all(&journal.reader());
    let bytes = journal.stats().bytes;
    journal.close().unwrap();
    let mut journal = open(&storage);
    let stats = journal.stats();
    assert_eq!((stats.sidecars, stats.bytes), (3, bytes));
    let first = journal.reader().segments()[0];
    assert!(first.sidecar && is_whole(&journal.reader(), &first));
    for tag in 1.. {
        if journal.reader().segments()[0].number > first.number {
            break;
        }
        append(&mut journal, tag, 7_000);
        journal.commit().unwrap();
    }
    assert!(!storage.files().iter().any(|(it, _)| *it == name(first.number)));
    assert!(journal.reader().sidecar(&first).is_none());
}

#[test]
fn a_sidecar_that_is_damaged_or_of_another_segment_is_none() {
    let storage = SimStorage::new();
    let journal = with_segments(&storage, 3);
    let reader = journal.reader();
    keep_all(&reader);
    let spans = reader.segments();
    storage.flip(&name(spans[0].number), 100, 1);
    storage.flip(&name(spans[1].number), 4_100, 1);
    assert!(reader.sidecar(&spans[0]).is_none(), "its header is damaged");
    assert!(reader.sidecar(&spans[1]).is_none(), "its checksums are damaged");
    assert!(!reader.segments()[0].sidecar, "so it can be made again");
    reader.keep_sidecar(&spans[0], &content(&spans[0])).unwrap();
    assert!(is_whole(&reader, &spans[0]));
    storage.rename(&name(spans[2].number), &name(spans[0].number)).unwrap();
    assert!(reader.sidecar(&spans[0]).is_none(), "it is another's");
    assert_eq!(journal.stats().sidecar_failures, 3);
}

#[test]
fn a_piece_that_is_damaged_is_not_given_and_others_are() {
    let storage = SimStorage::new();
    let journal = with_segments(&storage, 1);
    let reader = journal.reader();
    keep_all(&reader);
    let span = reader.segments()[0];
    storage.flip(&name(span.number), 4_096 + 20 + 5_000, 4);
    let sidecar = reader.sidecar(&span).unwrap();
    assert_eq!(sidecar.read(5_000, 1), None);
    assert_eq!(sidecar.read(0, 4_096).unwrap(), content(&span)[..4_096]);
    reader.drop_sidecar(&span);
    assert!(reader.sidecar(&span).is_none());
}

#[test]
fn what_fails_costs_a_sidecar_and_nothing_else() {
    let storage = SimStorage::new();
    let mut journal = with_segments(&storage, 2);
    let reader = journal.reader();
    let span = reader.segments()[0];
    for (op, fault) in [(Op::Create, Fault::Full), (Op::Write, Fault::Io), (Op::Write, Fault::Full)]
    {
        storage.fail(op, fault, 1);
        let kept = reader.keep_sidecar(&span, &content(&span));
        assert!(matches!(kept, Err(SidecarError::Storage(_))), "{kept:?}");
        assert!(reader.sidecar(&span).is_none());
        append(&mut journal, 99, 100);
        journal.commit().unwrap();
    }
    assert_eq!(journal.stats().sidecar_failures, 3);
    assert!(journal.take_events().is_empty(), "nobody need know");
    let large = vec![0; 60_000];
    assert!(matches!(reader.keep_sidecar(&span, &large), Err(SidecarError::TooLarge { .. })));
    let active = *reader.segments().last().unwrap();
    assert!(matches!(reader.keep_sidecar(&active, b"x"), Err(SidecarError::NotSealed { .. })));
    let storage: Arc<dyn Storage> = Arc::new(storage);
    let (looker, _) = inspect(&storage).unwrap();
    assert!(matches!(looker.keep_sidecar(&span, b"x"), Err(SidecarError::ReadOnly)));
}

#[test]
fn a_commit_syncs_no_more_because_of_sidecars() {
    let storage = SimStorage::new();
    let mut journal = with_segments(&storage, 2);
    let before = storage.counters();
    keep_all(&journal.reader());
    let kept = storage.counters();
    assert_eq!((kept.syncs, kept.dir_syncs), (before.syncs, before.dir_syncs));
    append(&mut journal, 7, 100);
    journal.commit().unwrap();
    assert_eq!(storage.counters().syncs, kept.syncs + 1);
}

#[test]
fn a_full_journal_makes_room_for_sidecars_from_what_the_hub_has() {
    let storage = SimStorage::new();
    let mut journal = open(&storage);
    let max = with_sidecars().max_bytes;
    let mut refused = 0;
    for tag in 1..=400 {
        append(&mut journal, tag, 7_000);
        let position = journal.commit().unwrap();
        journal.acknowledge(journal.epoch(), position, b"hub").unwrap();
        let reader = journal.reader();
        for span in reader.segments().iter().filter(|span| span.sealed && !span.sidecar) {
            match reader.keep_sidecar(span, &content(span)) {
                Ok(()) => {}
                Err(SidecarError::NoRoom { .. }) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        let on_disk: usize = storage.files().iter().map(|(_, size)| size).sum();
        assert!(journal.stats().bytes <= max, "{:?}", journal.stats());
        assert!(u64::try_from(on_disk).unwrap() <= max + 16_384, "cursor and lock aside");
    }
    let stats = journal.stats();
    assert_eq!((refused, stats.dropped_frames), (0, 0), "{stats:?}");
    assert_eq!(stats.sidecars + 1, stats.segments, "every sealed segment has one");
    assert!(stats.recycled > 20, "files are used again, not made anew: {stats:?}");
}

#[test]
fn a_journal_that_was_full_before_there_were_sidecars_makes_room_for_them() {
    let storage = SimStorage::new();
    let (mut journal, _) = Journal::open(Arc::new(storage.clone()), settings(), stamp(1)).unwrap();
    let fill = |journal: &mut Journal, tags: std::ops::Range<u64>| {
        let mut refused = 0;
        for tag in tags {
            append(journal, tag, 7_000);
            let position = journal.commit().unwrap();
            journal.acknowledge(journal.epoch(), position, b"hub").unwrap();
            let reader = journal.reader();
            let spans = reader.segments();
            let newest = spans.iter().rev().nth(1).filter(|span| !span.sidecar);
            if let Some(span) = newest.filter(|_| reader.sidecar_limit() > 0) {
                refused += u64::from(reader.keep_sidecar(span, &content(span)).is_err());
            }
        }
        refused
    };
    fill(&mut journal, 1..300);
    assert_eq!(journal.stats().bytes, settings().max_bytes, "full to the last byte");
    drop(journal);
    let mut journal = open(&storage);
    fill(&mut journal, 300..330);
    let refused = fill(&mut journal, 330..500);
    assert_eq!((refused, journal.stats().dropped_frames), (0, 0), "{:?}", journal.stats());
    assert!(journal.stats().bytes <= settings().max_bytes);
}

#[test]
fn without_a_hub_no_frame_goes_for_a_sidecar() {
    let storage = SimStorage::new();
    let mut with = open(&storage);
    let plain = SimStorage::new();
    let (mut without, _) = Journal::open(Arc::new(plain.clone()), settings(), stamp(1)).unwrap();
    for tag in 1..=120 {
        for journal in [&mut with, &mut without] {
            try_append(journal, tag, 7_000).unwrap();
            journal.commit().unwrap();
        }
    }
    // Both are full to the last segment. None was written so far, and now there is no room.
    let reader = with.reader();
    let dropped = with.stats().dropped_frames;
    assert_eq!(dropped, without.stats().dropped_frames);
    for span in reader.segments().iter().filter(|span| span.sealed) {
        let kept = reader.keep_sidecar(span, &content(span));
        assert!(matches!(kept, Ok(()) | Err(SidecarError::NoRoom { .. })), "{kept:?}");
    }
    assert!(with.stats().bytes <= with_sidecars().max_bytes);
}

#[test]
fn a_power_cut_at_any_moment_leaves_a_sidecar_whole_or_none() {
    let changes = {
        let storage = SimStorage::new();
        let journal = with_segments(&storage, 2);
        let before = storage.counters().operations;
        keep_all(&journal.reader());
        before..storage.counters().operations
    };
    assert!(!changes.is_empty());
    for cut in changes.start..=changes.end {
        for seed in 0..24 {
            let storage = SimStorage::new();
            let journal = with_segments(&storage, 2);
            storage.cut_power_at(cut);
            let reader = journal.reader();
            for span in reader.segments().iter().filter(|span| span.sealed) {
                let _ = reader.keep_sidecar(span, &content(span));
            }
            let frames = reader.durable().unwrap();
            drop(journal);
            let after = storage.after_power_cut(seed, true);
            let journal = open(&after);
            let reader = journal.reader();
            assert_eq!(reader.durable().unwrap(), frames);
            for span in reader.segments() {
                let read = reader.sidecar(&span).and_then(|it| it.read(0, 20_000));
                assert!(read.is_none_or(|it| it == content(&span)), "cut at {cut}, seed {seed}");
            }
            // And whatever was left of it, it can be made again.
            keep_all(&reader);
            assert!(is_whole(&reader, &reader.segments()[0]));
        }
    }
}

#[test]
fn one_whose_segment_is_gone_is_removed_by_opening() {
    let storage = SimStorage::new();
    let journal = with_segments(&storage, 2);
    keep_all(&journal.reader());
    let number = journal.reader().segments()[0].number;
    storage.rename(&name(number), &name(77)).unwrap();
    drop(journal);
    let journal = open(&storage);
    assert_eq!(journal.stats().sidecars, 1);
    assert!(!storage.files().iter().any(|(it, _)| *it == name(77)));
}

/// What a visit shows.
fn visit(reader: &Reader, span: &SegmentSpan, from: u64) -> (Vec<(u64, u64)>, Vec<Spot>) {
    let (mut tags, mut spots) = (Vec::new(), Vec::new());
    let visited = reader.visit(span, from, &mut |frame, spot| {
        if frame.kind == tidegate_journal::Kind::Samples {
            let tag = u64::from_le_bytes(frame.body[..8].try_into().unwrap());
            tags.push((frame.header.number, tag));
        }
        spots.push(spot);
        ControlFlow::Continue(())
    });
    assert_eq!(visited.unwrap(), Visited::All);
    (tags, spots)
}

#[test]
fn visiting_segments_shows_what_reading_the_epoch_shows() {
    let storage = SimStorage::new();
    let mut journal = open(&storage);
    for tag in 1..90 {
        append(&mut journal, tag, usize::try_from(tag * 977 % 9_000).unwrap());
        if tag % 3 == 0 {
            journal.commit().unwrap();
        }
    }
    let reader = journal.reader();
    let read: Vec<(u64, u64)> = frames_of(&reader, journal.epoch(), 0)
        .iter()
        .filter_map(|it| Some((it.header.number, it.tag()?)))
        .collect();
    let segments = reader.segments();
    assert!(segments.len() > 3);
    let mut shown = Vec::new();
    for span in &segments {
        let (tags, spots) = visit(&reader, span, 0);
        // Every second frame, by its place.
        let chosen: Vec<Spot> = spots.iter().step_by(2).copied().collect();
        let mut fetched = Vec::new();
        let done = reader.fetch(span, &chosen, &mut |frame, spot| {
            assert_eq!(frame.header.number, spot.number);
            fetched.push(spot);
            ControlFlow::Continue(())
        });
        assert_eq!((done.unwrap(), fetched), (Visited::All, chosen));
        let middle = spots[spots.len() / 2].number;
        let later = visit(&reader, span, middle).1;
        assert_eq!(later, spots[spots.len() / 2..]);
        shown.extend(tags);
    }
    assert_eq!(shown, read);
}

#[test]
fn a_visit_steps_over_damage_and_a_fetch_names_it() {
    let storage = SimStorage::new();
    let journal = with_segments(&storage, 2);
    let reader = journal.reader();
    let span = reader.segments()[0];
    let (_, spots) = visit(&reader, &span, 0);
    let bad = spots[3];
    let file = format!("seg-{:020}.tgj", span.number);
    storage.flip(&file, usize::try_from(bad.offset).unwrap() + 40, 2);
    let fetched = reader.fetch(&span, &spots, &mut |frame, _| {
        assert!(frame.header.number < bad.number);
        ControlFlow::Continue(())
    });
    assert_eq!(fetched.unwrap(), Visited::Damaged { frame: bad.number });
    let (_, found) = visit(&reader, &span, 0);
    let intact: Vec<Spot> = spots.iter().copied().filter(|spot| *spot != bad).collect();
    assert_eq!(found, intact);
}

#[test]
fn a_segment_that_was_dropped_shows_nothing_of_its_files_next_life() {
    let storage = SimStorage::new();
    let mut journal = with_segments(&storage, 2);
    let reader = journal.reader();
    let span = reader.segments()[0];
    let (_, spots) = visit(&reader, &span, 0);
    for tag in 1..400 {
        append(&mut journal, tag, 7_000);
        journal.commit().unwrap();
    }
    let mut nothing = |_: &tidegate_journal::Frame<'_>, _: Spot| panic!("it is gone");
    assert_eq!(reader.visit(&span, 0, &mut nothing).unwrap(), Visited::Gone);
    assert_eq!(reader.fetch(&span, &spots, &mut nothing).unwrap(), Visited::Gone);
}
