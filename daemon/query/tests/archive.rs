//! Answers that end early, records that lose what was asked for, and what answers say of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;

use common::{Patience, Rig, SECOND, START, TAGS, device, path};
use serde_json::Value as Json;
use tidegate_journal::{Reader, Unsequenced};
use tidegate_query::{
    Archive, Bounds, Catalogs, Code, History, LossesQuestion, PartialCause, ProveQuestion, Row,
    Summary, Watch, Wish,
};
use tidegate_record::Catalog;
use tidegate_translator::{Sample, Timestamp, Value};

/// Scans of all tags, one a second, a frame for every ten.
fn scan(rig: &mut Rig, scans: u32) {
    let mut batch = Vec::new();
    for n in 0..scans {
        rig.now += SECOND;
        for tag in 0..TAGS {
            let id = common::id(&rig.catalog, tag);
            let value = Value::F64(f64::from((n * 7919 + tag * 104_729) % 10_007) / 8.0);
            batch.push(Sample::good(id, Timestamp(rig.now), value));
        }
        if batch.len() >= 60 {
            rig.record(&batch);
            batch.clear();
        }
    }
    rig.record(&batch);
    rig.commit();
}

fn raw(tags: &[String], seconds: i64) -> History {
    History {
        tags: tags.to_vec(),
        from: Some(Wish::At(START)),
        to: Some(Wish::At(START + seconds * SECOND)),
        ..History::default()
    }
}

fn seqs(rows: &[Json]) -> Vec<u64> {
    rows.iter().map(|row| row["seq"].as_u64().unwrap()).collect()
}

#[test]
fn an_answer_that_runs_out_of_time_says_so_and_goes_on_where_it_ended() {
    let mut rig = Rig::new(20);
    scan(&mut rig, 2000);
    let mut question = raw(&["**".into()], 3000);
    let whole = rig.ask(&question, &Patience::endless(rig.now)).unwrap();
    assert_eq!((whole.rows.len(), whole.summary.partial), (12_000, None));
    let mut rows = Vec::new();
    let mut ended = 0;
    loop {
        let page = rig.ask(&question, &Patience::of(rig.now, 40)).unwrap();
        rows.extend(page.rows);
        let Some(next) = page.summary.next else { break };
        assert_eq!(page.summary.partial, Some(PartialCause::Deadline));
        question.after = Some(next);
        ended += 1;
        assert!(ended < 10_000, "no progress");
    }
    assert!(ended > 3);
    assert_eq!(seqs(&rows), seqs(&whole.rows));
    let patience = Patience { cause: PartialCause::Cancelled, ..Patience::of(rig.now, 40) };
    let cancelled = rig.ask(&raw(&["**".into()], 3000), &patience).unwrap();
    assert_eq!(cancelled.summary.partial, Some(PartialCause::Cancelled));
}

#[test]
fn a_question_that_ends_before_anything_is_known_is_refused_and_the_next_one_goes_on_there() {
    let mut rig = Rig::new(20);
    scan(&mut rig, 2000);
    let question = raw(&["**".into()], 3000);
    let refused = rig.ask(&question, &Patience::of(rig.now, 0)).unwrap_err();
    assert_eq!(refused.code, Code::Deadline);
    let mut tries = 0;
    while rig.ask(&question, &Patience::of(rig.now, 100)).is_err() {
        tries += 1;
        assert!(tries < 1000, "it begins anew every time");
    }
}

#[test]
fn a_row_that_is_not_taken_is_the_first_of_what_follows() {
    let mut rig = Rig::new(20);
    scan(&mut rig, 100);
    for every in [None, Some("10s".to_owned())] {
        let question = History { every, ..raw(&["**".into()], 200) };
        let watch = Patience::endless(rig.now);
        let whole = rig.ask(&question, &watch).unwrap();
        let mut taken = Vec::new();
        let mut take = |row: Row| {
            if taken.len() == 7 {
                return ControlFlow::Break(());
            }
            taken.push(row.0.get().to_owned());
            ControlFlow::Continue(())
        };
        let summary =
            rig.archive.history(&question, &Bounds::default(), &watch, &mut take).unwrap();
        assert_eq!((summary.rows, summary.partial), (7, Some(PartialCause::Bytes)));
        let rest = rig.ask(&History { after: summary.next, ..question }, &watch).unwrap();
        assert_eq!(rest.rows, whole.rows[7..]);
    }
}

#[test]
fn what_is_dropped_under_the_reading_makes_the_answer_partial() {
    let mut rig = Rig::new(6);
    scan(&mut rig, 5000);
    let question = History {
        from: Some(Wish::At(rig.now - 60_000 * SECOND)),
        to: Some(Wish::At(rig.now)),
        ..raw(&["**".into()], 0)
    };
    let watch = Patience::endless(rig.now);
    let known = rig.naive().len();
    let Rig { journal, archive, catalog, .. } = &mut rig;
    let mut packer = tidegate_record::samples::Packer::new();
    let mut rows = 0;
    let mut take = |_: Row| {
        rows += 1;
        if rows == 10 {
            // The writer goes on until everything that was there is gone.
            let text: String = (0..40_000)
                .map(|n: u32| char::from(b'!' + u8::try_from(n * n % 89).unwrap()))
                .collect();
            for n in 0..60 {
                let value = Value::Text(format!("{n}{text}").into());
                let at = Timestamp(START + 900_000 * SECOND + n);
                let sample = Sample::good(common::id(catalog, 0), at, value);
                let body = packer.pack(&[sample]).bodies.remove(0);
                journal
                    .append(&tidegate_journal::Draft {
                        kind: tidegate_journal::Kind::Samples,
                        codec: body.codec,
                        body: &body.bytes,
                        count: 1,
                        stamp: common::stamp(body.wall),
                    })
                    .unwrap();
                journal.commit().unwrap();
            }
        }
        ControlFlow::Continue(())
    };
    let summary = archive.history(&question, &Bounds::default(), &watch, &mut take).unwrap();
    assert_eq!(summary.partial, Some(PartialCause::Dropped), "{summary:?}");
    assert!(usize::try_from(summary.rows).unwrap() < known);
}

#[test]
fn a_place_that_is_no_longer_kept_is_stale() {
    let mut rig = Rig::new(6);
    scan(&mut rig, 500);
    let question = History { limit: Some(10), ..raw(&["**".into()], 100_000) };
    let watch = Patience::endless(rig.now);
    let next = rig.ask(&question, &watch).unwrap().summary.next;
    let question = History { after: next, ..question };
    assert_eq!(seqs(&rig.ask(&question, &watch).unwrap().rows)[0], 10);
    scan(&mut rig, 60_000);
    assert_eq!(rig.ask(&question, &watch).unwrap_err().code, Code::StaleContinuation);
}

fn loss(id: u64, subject: &str, from: i64, to: i64, open: bool) -> Unsequenced {
    Unsequenced {
        id,
        subject: subject.to_owned(),
        cause: "device-silent".into(),
        from: START + from * SECOND,
        to: START + to * SECOND - 1,
        count: Some(5),
        open,
    }
}

fn losses(rig: &Rig, question: &LossesQuestion) -> (Vec<Json>, Summary) {
    let mut rows = Vec::new();
    let watch = Patience::endless(rig.now);
    let summary = rig
        .archive
        .losses(question, &Bounds::default(), &watch, &mut |row: Row| {
            rows.push(serde_json::from_str(row.0.get()).unwrap());
            ControlFlow::Continue(())
        })
        .unwrap();
    (rows, summary)
}

#[test]
fn coverage_names_what_is_missing_of_the_tags_that_were_meant() {
    let mut rig = Rig::new(20);
    scan(&mut rig, 100);
    rig.lose(loss(1, &device(0), 20, 30, true));
    rig.lose(loss(1, &device(0), 20, 40, false));
    // One that stood in a hole may be older than what is known of the same loss.
    rig.lose(loss(1, &device(0), 20, 30, true));
    rig.lose(loss(2, &path(5), 50, 60, false));
    rig.lose(loss(3, "another", 0, 100, false));
    rig.commit();
    let watch = Patience::endless(rig.now + SECOND);
    // Tags 0 and 1 are of the device that lacks 20 s of 80.
    let question =
        History { from: Some(Wish::At(START + 10 * SECOND)), ..raw(&[path(0), path(1)], 90) };
    let coverage = rig.ask(&question, &watch).unwrap().summary.coverage.unwrap();
    assert!((coverage.share - 0.75).abs() < 1e-6, "{coverage:?}");
    assert_eq!(coverage.gaps.len(), 1, "the later record of one loss counts: {coverage:?}");
    assert_eq!((coverage.gaps[0].who.as_str(), coverage.gaps[0].open), ("d0", false));
    // All tags: 2 of 6 lack a quarter, one an eighth.
    let question = History { tags: vec!["**".into()], ..question };
    let coverage = rig.ask(&question, &watch).unwrap().summary.coverage.unwrap();
    let want = 1.0 - (2.0 * 20.0 + 10.0) / (6.0 * 80.0);
    assert!((coverage.share - want).abs() < 1e-6, "{coverage:?}");
    // Before the record, and beyond what is durable.
    let question = History {
        from: Some(Wish::At(START - 100 * SECOND)),
        to: Some(Wish::Relative(100 * SECOND)),
        ..raw(&[path(2)], 0)
    };
    let summary = rig.ask(&question, &watch).unwrap().summary;
    let coverage = summary.coverage.unwrap();
    let causes: Vec<_> = coverage.gaps.iter().map(|gap| gap.cause.as_str()).collect();
    assert_eq!(causes, ["before-record", "not-yet-durable"]);
    assert!(summary.notes.iter().any(|note| note.contains("present")), "{:?}", summary.notes);
    assert!((coverage.share - 100.0 / 201.0).abs() < 0.01, "{coverage:?}");
}

#[test]
fn losses_are_told_in_order_and_continued() {
    let mut rig = Rig::new(6);
    scan(&mut rig, 60_000);
    rig.lose(loss(1, &device(0), 50_000, 50_010, false));
    rig.lose(loss(2, "gateway", 50_005, 50_006, false));
    rig.lose(loss(3, &path(5), 50_007, 50_009, true));
    rig.commit();
    let (rows, summary) = losses(&rig, &LossesQuestion::default());
    let who: Vec<_> = rows.iter().map(|row| row["who"].as_str().unwrap()).collect();
    assert_eq!(who, ["gateway", "d0", "gateway", path(5).as_str()], "{rows:#?}");
    assert_eq!(
        (&rows[0]["ledger"], &rows[0]["cause"]),
        (&"sequenced".into(), &"dropped-oldest".into())
    );
    assert!(rows[0]["first_seq"].is_u64() && rows[0]["count"].as_u64() > Some(0));
    assert_eq!(rows[3]["open"], true);
    assert_eq!((summary.rows, summary.next), (4, None));
    // Of one tag: its own, its device's and the gateway's.
    let of_tag = LossesQuestion { tags: vec![path(5)], ..LossesQuestion::default() };
    assert_eq!(losses(&rig, &of_tag).0.len(), 3);
    let mut page = LossesQuestion { limit: Some(3), ..LossesQuestion::default() };
    let (first, summary) = losses(&rig, &page);
    assert_eq!((first.len(), summary.partial), (3, Some(PartialCause::Rows)));
    page.after = summary.next;
    assert_eq!(losses(&rig, &page).0, rows[3..]);
}

#[test]
fn the_gateway_proves_what_it_keeps_epoch_by_epoch() {
    let mut rig = Rig::new(20);
    scan(&mut rig, 300);
    rig.begin_epoch(Some(3));
    scan(&mut rig, 300);
    for verify in [false, true] {
        let mut rows: Vec<Json> = Vec::new();
        let watch = Patience::endless(rig.now);
        let summary = rig
            .archive
            .prove(&ProveQuestion { verify }, &watch, &mut |row: Row| {
                rows.push(serde_json::from_str(row.0.get()).unwrap());
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((&rows[0]["current"], &rows[1]["current"]), (&false.into(), &true.into()));
        assert_eq!(rows[1]["predecessor"], rows[0]["epoch"]);
        assert_eq!(rows[1]["verified"], verify);
        if verify {
            assert_eq!(rows[1]["proof"]["gaps"]["count"], 0, "{:#}", rows[1]);
            assert_eq!(rows[1]["proof"]["chain-breaks"]["count"], 0, "{:#}", rows[1]);
            assert!(summary.bytes_read > 1000, "{summary:?}");
        }
    }
}

#[test]
fn a_tag_that_is_not_there_is_said_by_name_and_one_among_others_is_noted() {
    let mut rig = Rig::new(6);
    scan(&mut rig, 10);
    let watch = Patience::endless(rig.now);
    let refused = rig.ask(&raw(&["P/none".into()], 100), &watch).unwrap_err();
    assert_eq!(refused.code, Code::UnknownTag);
    assert!(refused.text.contains("P/none"), "{refused}");
    let answer = rig.ask(&raw(&["P/none".into(), path(0)], 100), &watch).unwrap();
    assert_eq!(answer.rows.len(), 10);
    assert!(answer.summary.notes.iter().any(|note| note.contains("P/none")));
    let bounds = Bounds { max_tags: 3, ..Bounds::default() };
    let refused = rig.ask_within(&raw(&["**".into()], 100), &bounds, &watch).unwrap_err();
    assert_eq!(refused.code, Code::TooMuch);
}

#[test]
fn an_epoch_whose_names_are_dropped_is_noted() {
    let mut rig = Rig::new(8);
    scan(&mut rig, 20_000);
    rig.begin_epoch(None);
    scan(&mut rig, 12_000);
    let spans = rig.journal.reader().epochs();
    assert!(spans.len() == 2 && spans[0].first_frame > 1, "{spans:?}");
    let answer = rig.ask(&raw(&[path(0)], 100_000), &Patience::endless(rig.now)).unwrap();
    let epoch = spans[0].epoch.to_string();
    let named = |note: &String| note.contains("names of epoch") && note.contains(&epoch);
    assert!(answer.summary.notes.iter().any(named), "{:?}", answer.summary.notes);
}

#[test]
fn buckets_of_whole_cells_read_no_frame_of_a_sealed_segment() {
    let mut rig = Rig::new(40);
    scan(&mut rig, 40_000);
    rig.advance();
    let hours = START.div_euclid(3600 * SECOND) + 1;
    let question = History {
        from: Some(Wish::At(hours * 3600 * SECOND)),
        to: Some(Wish::At((hours + 10) * 3600 * SECOND)),
        every: Some("1h".into()),
        ..raw(&[path(1)], 0)
    };
    let watch = Patience::endless(rig.now);
    let first = rig.ask(&question, &watch).unwrap();
    let again = rig.ask(&question, &watch).unwrap();
    let all =
        rig.ask(&History { every: None, tags: vec!["**".into()], ..question }, &watch).unwrap();
    assert_eq!(first.rows.len(), 10);
    assert_eq!(again.rows, first.rows);
    let (few, many) = (again.summary.bytes_read, all.summary.bytes_read);
    assert!(few * 3 < many, "{few} of {many} bytes");
}

#[test]
fn a_journal_that_is_not_open_yet_is_not_ready() {
    struct None;
    impl Catalogs for None {
        fn current(&self) -> Arc<Catalog> {
            Arc::default()
        }
    }
    let archive = Archive::new("P/g".into(), Reader::of_nothing("there".into()), Arc::new(None));
    let watch: &dyn Watch = &Patience::endless(START);
    let refused = archive
        .history(&raw(&["**".into()], 1), &Bounds::default(), watch, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap_err();
    assert_eq!(refused.code, Code::NotReady);
}

#[test]
fn a_frame_that_is_damaged_is_named_and_costs_no_other() {
    let mut rig = Rig::new(40);
    scan(&mut rig, 8000);
    let watch = Patience::endless(rig.now);
    let question = raw(&["**".into()], 10_000);
    let whole = rig.ask(&question, &watch).unwrap();
    let gaps = |summary: &Summary| -> Vec<String> {
        summary.coverage.as_ref().unwrap().gaps.iter().map(|gap| gap.cause.clone()).collect()
    };
    assert!(!gaps(&whole.summary).contains(&"damaged".to_owned()));
    rig.damage_the_first_segment();
    let less = rig.ask(&question, &watch).unwrap();
    assert!(less.rows.len() < whole.rows.len(), "the damage was not met");
    assert!(less.rows.len() + 600 > whole.rows.len(), "more than some frames are gone");
    assert!(gaps(&less.summary).contains(&"damaged".to_owned()), "{:?}", less.summary);
    // Once the writer has named it, it is the bridge that is told.
    scan(&mut rig, 100);
    let told = rig.ask(&question, &watch).unwrap();
    assert_eq!(gaps(&told.summary).iter().filter(|cause| *cause == "damaged").count(), 1);
}
