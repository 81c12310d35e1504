//! Answers from the record against a reader that decodes all of it and trusts nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;

use common::{Known, Patience, Rig, SECOND, START, TAGS, path};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tidegate_query::{Aggregate, History, Pattern, Wish};
use tidegate_record::Moment;
use tidegate_translator::{Quality, Reason, Sample, Timestamp, Value};

#[derive(Debug, Clone)]
enum Step {
    /// Scans of all tags, so many, so many seconds apart.
    Scan {
        scans: u16,
        apart: i64,
        seed: u64,
    },
    /// One tag gives text.
    Say {
        tag: u32,
        text: String,
    },
    /// The clock is set, by so many seconds.
    Set(i64),
    Commit,
    /// Sidecars are written.
    Advance,
    Catalog,
    Epoch(Option<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..400_u16, prop_oneof![Just(1), 1..40_i64], any::<u64>())
            .prop_map(|(scans, apart, seed)| Step::Scan { scans, apart, seed }),
        2 => (0..TAGS, "[a-z]{0,12}").prop_map(|(tag, text)| Step::Say { tag, text }),
        1 => (-5000..5000_i64).prop_map(Step::Set),
        2 => Just(Step::Commit),
        1 => Just(Step::Advance),
        1 => Just(Step::Catalog),
        1 => prop::option::of(0..6_u64).prop_map(Step::Epoch),
    ]
}

/// Small numbers of several kinds, some of them bad, some no number.
fn sample(rig: &Rig, tag: u32, seed: u64) -> Sample {
    let number = i64::try_from(seed % 1000).unwrap() - 500;
    let value = match (tag % 4, seed % 41) {
        (_, 0) => Value::F64(f64::NAN),
        (0, _) => Value::I64(number),
        (1, _) => Value::F64(number as f64 / 4.0),
        (2, _) => Value::U64(seed % 7),
        _ => Value::Bool(seed.is_multiple_of(2)),
    };
    let quality = match seed % 13 {
        0 => Quality::Bad(Reason::Timeout),
        1 => Quality::Uncertain(Reason::Stale),
        _ => Quality::Good,
    };
    let at = Timestamp(rig.now);
    Sample { quality, ..Sample::good(common::id(&rig.catalog, tag), at, value) }
}

fn play(rig: &mut Rig, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Scan { scans, apart, seed } => {
                let mut seed = *seed;
                let mut batch = Vec::new();
                for _ in 0..*scans {
                    rig.now += apart * SECOND;
                    for tag in 0..TAGS {
                        // A linear congruence is random enough, and the same every time.
                        seed =
                            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(tag.into());
                        batch.push(sample(rig, tag, seed >> 33));
                    }
                    if batch.len() > 100 {
                        rig.record(&batch);
                        batch.clear();
                    }
                }
                rig.record(&batch);
            }
            Step::Say { tag, text } => {
                rig.now += SECOND;
                let id = common::id(&rig.catalog, *tag);
                let value = Value::Text(text.as_str().into());
                rig.record(&[Sample::good(id, Timestamp(rig.now), value)]);
            }
            Step::Set(by) => rig.now += by * SECOND,
            Step::Commit => rig.commit(),
            Step::Advance => rig.advance(),
            Step::Catalog => rig.record_catalog(),
            Step::Epoch(carried) => rig.begin_epoch(*carried),
        }
    }
    rig.commit();
}

#[derive(Debug, Clone)]
struct Asked {
    tags: Vec<String>,
    from: i64,
    length: i64,
    every: Option<i64>,
    limit: Option<u64>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let tags = prop_oneof![
        Just(vec!["**".to_owned()]),
        Just(vec!["P/Line0".to_owned()]),
        (0..TAGS).prop_map(|tag| vec![path(tag)]),
        (0..TAGS, 0..TAGS).prop_map(|(a, b)| vec![path(a), path(b), "none/*".to_owned()]),
    ];
    let every =
        prop::option::of(prop_oneof![Just(300), Just(60), Just(3600), Just(7), 1..1000_i64]);
    let limit = prop_oneof![3 => Just(None), 1 => (1..500_u64).prop_map(Some)];
    (tags, -2000..20_000_i64, 0..20_000_i64, every, limit)
        .prop_map(|(tags, from, length, every, limit)| Asked { tags, from, length, every, limit })
}

impl Asked {
    fn history(&self) -> History {
        let from = START + self.from * SECOND;
        History {
            tags: self.tags.clone(),
            from: Some(Wish::At(from)),
            to: Some(Wish::At(from + self.length * SECOND)),
            every: self.every.map(|every| format!("{every}s")),
            limit: self.limit,
            ..History::default()
        }
    }

    fn means(&self, path: &str) -> bool {
        self.tags.iter().any(|tag| Pattern::new(tag).matches(path))
    }

    fn samples<'k>(&self, known: &'k [Known]) -> Vec<&'k Known> {
        let from = START + self.from * SECOND;
        let range = from..from + self.length * SECOND;
        known
            .iter()
            .filter(|k| self.means(&k.path) && range.contains(&k.sample.acquired.0))
            .collect()
    }
}

fn raw_rows(rows: &[Json]) -> Vec<(String, String, u64)> {
    let text = |row: &Json, key: &str| row[key].as_str().unwrap().to_owned();
    rows.iter().map(|r| (text(r, "path"), text(r, "epoch"), r["seq"].as_u64().unwrap())).collect()
}

#[derive(Debug, Default, Clone)]
struct Sum {
    count: u64,
    good: u64,
    numbers: Vec<f64>,
    last: Option<Known>,
}

fn sums(known: &[&Known], every: i64) -> BTreeMap<(i64, String), Sum> {
    let mut sums: BTreeMap<(i64, String), Sum> = BTreeMap::new();
    for k in known {
        let step = k.sample.acquired.0.div_euclid(every * SECOND);
        let sum = sums.entry((step, k.path.clone())).or_default();
        sum.count += 1;
        sum.good += u64::from(k.sample.quality == Quality::Good);
        let number = k.sample.value.as_f64().filter(|n| n.is_finite());
        if let Some(number) = number.filter(|_| !matches!(k.sample.quality, Quality::Bad(_))) {
            sum.numbers.push(number);
        }
        sum.last = Some((*k).clone());
    }
    sums
}

fn check_buckets(rows: &[Json], asked: &Asked, known: &[&Known]) {
    let every = asked.every.unwrap();
    let want = sums(known, every);
    assert_eq!(rows.len(), want.len(), "buckets");
    let (begins, ends) =
        (START + asked.from * SECOND, START + (asked.from + asked.length) * SECOND);
    for (row, ((step, path), sum)) in rows.iter().zip(want) {
        let from = (step * every * SECOND).max(begins);
        let to = ((step + 1) * every * SECOND).min(ends);
        assert_eq!(row["path"], json!(path));
        assert_eq!(row["from"], json!(Moment(from).rfc3339()));
        assert_eq!(row["to"], json!(Moment(to).rfc3339()));
        assert_eq!((&row["count"], &row["good"]), (&json!(sum.count), &json!(sum.good)), "{row}");
        let min = sum.numbers.iter().copied().reduce(f64::min);
        let max = sum.numbers.iter().copied().reduce(f64::max);
        assert_eq!(row["min"].as_f64(), min, "{row}");
        assert_eq!(row["max"].as_f64(), max, "{row}");
        match (row["avg"].as_f64(), sum.numbers.is_empty()) {
            (Some(avg), false) => {
                let mean = sum.numbers.iter().sum::<f64>() / sum.numbers.len() as f64;
                assert!((avg - mean).abs() < 1e-6, "{row} {mean}");
            }
            (avg, empty) => assert!(avg.is_none() && empty, "{row}"),
        }
        let last = sum.last.unwrap();
        assert_eq!(row["last_ts"], json!(Moment(last.sample.acquired.0).rfc3339()), "{row}");
        let (value, _) = tidegate_record::json::value_tree(&last.sample.value);
        assert_eq!(row["last"], value, "{row}");
    }
}

fn check(rig: &Rig, asked: &Asked, known: &[Known]) {
    let present = [rig.now, START + 50_000 * SECOND].into_iter().max().unwrap();
    let watch = Patience::endless(present);
    let history = asked.history();
    if !(0..TAGS).any(|tag| asked.means(&path(tag))) {
        return;
    }
    let answer = rig.ask_to_the_end(&history, &watch);
    let want = asked.samples(known);
    match asked.every {
        None => {
            let want: Vec<_> =
                want.iter().map(|k| (k.path.clone(), k.epoch.to_string(), k.seq)).collect();
            assert_eq!(raw_rows(&answer.rows), want);
        }
        Some(_) => check_buckets(&answer.rows, asked, &want),
    }
    let coverage = answer.summary.coverage.unwrap();
    assert!((0.0..=1.0).contains(&coverage.share), "{coverage:?}");
    // The state at the end of the range.
    let at = START + (asked.from + asked.length) * SECOND;
    let state = History {
        tags: asked.tags.clone(),
        at: Some(Wish::At(at)),
        limit: asked.limit,
        ..History::default()
    };
    let answer = rig.ask_to_the_end(&state, &watch);
    let mut last = BTreeMap::new();
    for k in known.iter().filter(|k| asked.means(&k.path) && k.sample.acquired.0 <= at) {
        last.insert(k.path.clone(), (k.path.clone(), k.epoch.to_string(), k.seq));
    }
    assert_eq!(raw_rows(&answer.rows), last.into_values().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_what_decoding_the_whole_record_gives(
        steps in prop::collection::vec(step(), 1..25),
        questions in prop::collection::vec(asked(), 1..6),
        more in prop::collection::vec(step(), 0..5),
    ) {
        // Six segments of 96 KiB: the longer ones drop.
        let mut rig = Rig::new(6);
        play(&mut rig, &steps);
        let known = rig.naive();
        for asked in &questions {
            check(&rig, asked, &known);
        }
        // The archive is carried on beside a record that grows.
        play(&mut rig, &more);
        let known = rig.naive();
        for asked in &questions {
            check(&rig, asked, &known);
        }
    }
}

#[test]
fn every_aggregate_is_there_only_when_it_was_asked_for() {
    let mut rig = Rig::new(6);
    play(&mut rig, &[Step::Scan { scans: 50, apart: 1, seed: 1 }]);
    let watch = Patience::endless(rig.now);
    let mut history = History {
        tags: vec![path(1)],
        from: Some(Wish::Relative(-100 * SECOND)),
        every: Some("10s".into()),
        agg: vec![Aggregate::Avg],
        ..History::default()
    };
    let keys =
        |rows: &[Json]| -> Vec<String> { rows[0].as_object().unwrap().keys().cloned().collect() };
    let answer = rig.ask(&history, &watch).unwrap();
    assert_eq!(keys(&answer.rows), ["avg", "count", "from", "good", "path", "to"]);
    history.agg = vec![Aggregate::Count];
    let answer = rig.ask(&history, &watch).unwrap();
    assert_eq!(keys(&answer.rows), ["count", "from", "good", "path", "to"]);
}
