use clap::Parser as _;
use tidegate_query::Code;

use super::*;
use crate::asker::{Absence, Outcome, OwnerReport};

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    query: QueryArgs,
}

/// 2026-09-21T12:00:00Z.
const NOW: i64 = 1_789_992_000_000_000_000;

fn made(line: &str) -> Result<Made, String> {
    let words = std::iter::once("query").chain(line.split_whitespace());
    let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
    question(&line.query, NOW).map_err(|failure| failure.to_string())
}

fn asked(line: &str) -> (Op, String) {
    let made = made(line).unwrap();
    (made.asked.op, serde_json::Value::Object(made.asked.question).to_string())
}

#[test]
fn what_a_person_types_becomes_the_question() {
    let (op, question) = asked("PlantA/Line3/** --from -12h --every 5m --agg avg,max");
    assert_eq!(op, Op::History);
    let question: History = serde_json::from_str(&question).unwrap();
    assert_eq!(question.tags, ["PlantA/Line3/**"]);
    assert_eq!(question.from, Some(Wish::At(NOW - 12 * 3_600_000_000_000)));
    assert_eq!(question.agg, [Aggregate::Avg, Aggregate::Max]);
    assert_eq!(asked("a").0, Op::Latest);
    assert_eq!(asked("--at -10m").0, Op::History);
    assert_eq!(asked("--what losses").0, Op::Losses);
    assert_eq!(asked("--what status --gateway A/*"), (Op::Status, "{}".to_owned()));
}

#[test]
fn a_question_that_means_nothing_is_refused_before_anybody_is_asked() {
    for (line, said) in [
        ("a --what history", "needs --from"),
        ("a --what latest --from -1h", "for history"),
        ("a --what losses --from -1h --every 5m", "for history"),
        ("a --from yesterday", "is no time"),
        ("a --to -1h", "--from"),
        ("a --from -1h --at -2h", "cannot be used"),
        ("a --from -1h --every 5", "such as 30s"),
        ("a --from -1h --every 5m --agg median", "min, max, avg"),
        ("a --from 2026-09-21T14:00", "no time zone"),
    ] {
        let why = made(line).map(|made| made.asked.op).unwrap_err();
        assert!(why.contains(said), "{line}: {why}");
    }
}

#[test]
fn a_time_has_a_zone_or_is_refused_with_how_to_write_it() {
    let hour = 3_600_000_000_000;
    assert_eq!(when::read("2026-09-21T14:00:00+02:00", NOW), Ok(Wish::At(NOW)));
    assert_eq!(when::read("now", NOW), Ok(Wish::At(NOW)));
    assert_eq!(when::read("-1h", NOW), Ok(Wish::At(NOW - hour)));
    let why = when::read("2026-09-21", NOW).unwrap_err();
    assert!(why.contains("2026-09-21T00:00Z"), "{why}");
    let why = when::read("2026-09-21T14:00[Mars/Olympus]", NOW).unwrap_err();
    assert!(why.contains("is not known"), "{why}");
    // Where the machine has the zones.
    if jiff::tz::TimeZone::get("Europe/Berlin").is_ok() {
        assert_eq!(when::read("2026-09-21T14:00[Europe/Berlin]", NOW), Ok(Wish::At(NOW)));
        // This hour came twice.
        let why = when::read("2026-10-25T02:30[Europe/Berlin]", NOW).unwrap_err();
        assert!(why.contains("clocks are changed"), "{why}");
    }
}

fn report(outcomes: Vec<Outcome>) -> Report {
    let partial = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Absent(_) => Some(PartialCause::OwnerAbsent),
        Outcome::Answered(summary) => summary.partial,
        _ => None,
    });
    let owner = |(at, outcome)| OwnerReport {
        gateway: format!("P/g{at}").parse().unwrap(),
        rows: 0,
        outcome,
    };
    Report {
        summary: Summary { partial, ..Summary::default() },
        owners: outcomes.into_iter().enumerate().map(owner).collect(),
    }
}

use tidegate_query::{Refusal, Summary};

#[test]
fn the_exit_code_says_whether_anything_is_missing() {
    let answered = |partial| Outcome::Answered(Box::new(Summary { partial, ..Summary::default() }));
    let refused = |code| Outcome::Refused(Refusal::new(code, "no"));
    let owners = Owners::default();
    let of = |outcomes, limit| code(&report(outcomes), &owners, limit, End::All);
    assert_eq!(of(vec![answered(None)], None), exit::OK);
    assert_eq!(of(vec![answered(Some(PartialCause::Rows))], Some(5)), exit::OK);
    assert_eq!(of(vec![answered(Some(PartialCause::Deadline))], Some(5)), exit::NO);
    assert_eq!(of(vec![answered(None), Outcome::Absent(Absence::Away)], None), exit::NO);
    assert_eq!(of(vec![refused(Code::UnknownTag)], None), exit::NO);
    assert_eq!(of(vec![answered(None), refused(Code::UnknownTag)], None), exit::OK);
    assert_eq!(
        of(vec![refused(Code::UnknownTag), refused(Code::ReversedRange)], None),
        exit::USAGE
    );
    assert_eq!(code(&report(vec![answered(None)]), &owners, None, End::Interrupted), exit::NO);
}
