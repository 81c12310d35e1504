//! Merging and judging, on answers that are made up.

use futures_util::{StreamExt as _, stream};
use serde_json::value::RawValue;
use tidegate_query::{Code, Coverage, Gap, PartialCause, Refusal, Source, Summary};

use super::conversation::{Absence, Answers, Event};
use super::{Order, Outcome, Report};

fn rows(texts: &[String]) -> Event {
    Event::Rows(texts.iter().map(|text| RawValue::from_string(text.clone()).unwrap()).collect())
}

fn sample(second: u32, path: &str) -> String {
    format!(r#"{{"path":"{path}","acquired":"2026-01-01T00:00:{second:02}Z","v":1}}"#)
}

fn coverage(share: f64, tags: u64, gaps: Vec<Gap>) -> Coverage {
    Coverage {
        from: "2026-01-01T00:00:00Z".into(),
        to: "2026-01-01T01:00:00Z".into(),
        share,
        tags,
        gaps,
        gaps_left_off: 0,
    }
}

fn done(coverage: Option<Coverage>) -> Event {
    let source = Source { gateway: "P/g".into(), at: "2026-01-01T01:00:00Z".into(), rows: 0 };
    let summary = Summary { coverage, sources: vec![source], ..Summary::default() };
    Event::Done(Box::new(summary))
}

fn answers(lanes: Vec<Vec<Event>>) -> Answers {
    let lanes = lanes.into_iter().enumerate().map(|(at, events)| {
        // Each event comes later than it is asked for.
        let events = stream::iter(events).then(|event| async {
            tokio::task::yield_now().await;
            event
        });
        (format!("P/g{at}").parse().unwrap(), events.boxed())
    });
    Answers { lanes: lanes.collect() }
}

async fn all(lanes: Vec<Vec<Event>>, order: Order, limit: u64) -> (Vec<String>, Report) {
    let mut merged = answers(lanes).merged(order).at_most(limit);
    let mut read = Vec::new();
    while let Some(row) = merged.next().await {
        read.push(format!("{} {}", row.owner, row.json));
    }
    (read, merged.finish())
}

#[tokio::test]
async fn rows_of_many_owners_come_in_the_order_of_time_and_each_owner_keeps_its_own() {
    let lanes = vec![
        vec![rows(&[sample(1, "a"), sample(5, "a")]), rows(&[sample(6, "a")]), done(None)],
        vec![
            Event::Alive,
            rows(&[sample(2, "b")]),
            rows(&[sample(5, "b"), sample(3, "b")]),
            done(None),
        ],
        vec![done(None)],
    ];
    let (read, report) = all(lanes, Order::Acquired, u64::MAX).await;
    let expected = [
        format!("0 {}", sample(1, "a")),
        format!("1 {}", sample(2, "b")),
        format!("0 {}", sample(5, "a")),
        format!("1 {}", sample(5, "b")),
        // A clock that was set back stays where its owner put it.
        format!("1 {}", sample(3, "b")),
        format!("0 {}", sample(6, "a")),
    ];
    assert_eq!(read, expected);
    assert!(report.is_whole() && report.summary.rows == 6);
}

#[tokio::test]
async fn a_limit_counts_the_rows_of_all_owners_together_and_says_that_there_are_more() {
    let lane = || vec![rows(&[sample(1, "a"), sample(2, "a"), sample(3, "a")]), done(None)];
    let (read, report) = all(vec![lane(), lane()], Order::Acquired, 3).await;
    assert_eq!(read.len(), 3);
    assert_eq!(report.summary.partial, Some(PartialCause::Rows));
    let (read, report) = all(vec![lane()], Order::Acquired, 3).await;
    assert_eq!((read.len(), report.summary.partial), (3, None));
}

#[tokio::test]
async fn owners_that_are_away_or_lost_are_named_and_the_whole_is_partial() {
    let gap = Gap {
        from: "2026-01-01T00:10:00Z".into(),
        to: "2026-01-01T00:20:00Z".into(),
        who: "gateway".into(),
        cause: "not-running".into(),
        count: None,
        open: false,
    };
    let lanes = vec![
        vec![rows(&[sample(1, "a")]), done(Some(coverage(0.5, 10, vec![gap])))],
        vec![Event::Absent(Absence::Away)],
        vec![rows(&[sample(2, "c")]), Event::Lost("it went away".into())],
        vec![done(Some(coverage(1.0, 30, Vec::new())))],
    ];
    let (read, report) = all(lanes, Order::Acquired, u64::MAX).await;
    assert_eq!(read.len(), 2);
    let complaints: Vec<_> = report.owners.iter().filter_map(|it| it.complaint()).collect();
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(complaints[0].starts_with("P/g1 is away"), "{complaints:?}");
    assert!(complaints[1].starts_with("P/g2 was lost after 1 rows"), "{complaints:?}");
    assert!(!report.is_whole());
    let joined = report.summary.coverage.unwrap();
    assert_eq!((joined.tags, joined.share), (40, 0.875), "weighed by tags");
    let told: Vec<_> = joined.gaps.iter().map(|gap| (&*gap.who, &*gap.cause)).collect();
    assert_eq!(told, [("P/g1", "owner-absent"), ("P/g2", "owner-lost"), ("P/g0", "not-running")]);
}

#[tokio::test]
async fn a_tag_that_nobody_has_is_refused_and_one_that_some_do_not_have_is_no_complaint() {
    let unknown = || Event::Refused(Refusal::new(Code::UnknownTag, "no such tag"));
    let (_, report) = all(vec![vec![unknown()], vec![done(None)]], Order::Path, u64::MAX).await;
    assert!(report.is_whole() && report.refusal().is_none());
    let (_, report) = all(vec![vec![unknown()], vec![unknown()]], Order::Path, u64::MAX).await;
    assert_eq!(report.refusal().map(|it| it.code), Some(Code::UnknownTag));
    let busy = Event::Refused(Refusal::new(Code::Busy, "too many"));
    let (_, report) = all(vec![vec![unknown()], vec![busy]], Order::Path, u64::MAX).await;
    assert_eq!(report.refusal().map(|it| it.code), Some(Code::Busy));
}

#[tokio::test]
async fn whoever_stops_listening_gets_a_report_of_what_was_taken() {
    let lanes = vec![vec![rows(&[sample(1, "a"), sample(2, "a")]), done(None)]];
    let mut merged = answers(lanes).merged(Order::Acquired);
    merged.next().await.unwrap();
    let report = merged.finish();
    assert_eq!(report.owners[0].outcome, Outcome::Stopped);
    assert_eq!((report.owners[0].rows, report.summary.partial), (1, Some(PartialCause::Cancelled)));
}

#[test]
fn a_row_is_named_by_its_gateway_before_everything_else() {
    assert_eq!(super::named("P/g", r#"{"a":1}"#), r#"{"gateway":"P/g","a":1}"#);
    assert_eq!(super::named("P/g", "{}"), r#"{"gateway":"P/g"}"#);
}
