//! What a question about history comes to, decided before anything is read.
//!
//! # Invariants
//! - No I/O and no clock: the present is an argument.
//! - Whatever cannot be answered is refused here with its code.

use std::collections::BTreeSet;

use super::Bounds;
use super::place::{Place, RowPlace, mark_of};
use crate::{Aggregate, Code, History, Pattern, Refusal, Wish, parse_span};

/// The most patterns of one question.
pub(super) const MAX_PATTERNS: usize = 256;

/// A range of time by acquisition, nanoseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    /// Included.
    pub from: i64,
    /// Excluded.
    pub to: i64,
}

impl Range {
    /// Every time but the very last one that can be recorded.
    pub(super) const ALL: Self = Self { from: i64::MIN, to: i64::MAX };

    /// Whether content from `wall.0` to `wall.1`, both included, can have anything of it.
    pub(super) const fn meets(self, wall: (i64, i64)) -> bool {
        wall.0 < self.to && wall.1 >= self.from
    }

    /// What two ranges share; `None` when that is nothing.
    pub(super) fn common(self, other: Self) -> Option<Self> {
        let both = Self { from: self.from.max(other.from), to: self.to.min(other.to) };
        (!both.is_empty()).then_some(both)
    }

    pub(super) const fn has(self, at: i64) -> bool {
        self.from <= at && at < self.to
    }

    pub(super) const fn is_empty(self) -> bool {
        self.from >= self.to
    }
}

/// What a bucket tells beside its counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps {
    /// The step, nanoseconds.
    pub every: i64,
    pub min: bool,
    pub max: bool,
    pub avg: bool,
    pub last: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Single samples.
    Raw,
    /// Steps of time.
    Buckets(Steps),
    /// The last sample of each tag before the range's end.
    At,
}

/// A question about history that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub patterns: Vec<(String, Pattern)>,
    pub range: Range,
    /// The present, when the plan was made.
    pub now: i64,
    pub what: What,
    pub limit: u64,
    pub mark: u64,
    pub after: Option<RowPlace>,
    pub notes: Vec<String>,
}

impl Plan {
    /// Judges a question.
    ///
    /// # Errors
    /// See [`Code`].
    pub(super) fn of(question: &History, bounds: &Bounds, now: i64) -> Result<Self, Refusal> {
        let patterns = patterns(&question.tags)?;
        if patterns.is_empty() {
            return refuse(
                Code::Malformed,
                "tags: none is named; write at least one path or pattern, or \"**\"",
            );
        }
        let mark = mark_of(&History { limit: None, after: None, ..question.clone() });
        let after = question.after.as_deref().map(|text| Place::read(text, mark)).transpose()?;
        let what = what(question)?;
        let asked = match &after {
            Some(place) => Range { from: place.from, to: place.to },
            None => range(question, now)?,
        };
        if let What::Buckets(Steps { every, .. }) = what {
            let steps = (i128::from(asked.to) - i128::from(asked.from)) / i128::from(every);
            if steps >= i128::from(bounds.max_steps) {
                let text = format!(
                    "every: the range has {steps} steps, more than {}; ask for a longer step or a shorter range",
                    bounds.max_steps
                );
                return refuse(Code::TooMuch, text);
            }
        }
        let fits = |row: &RowPlace| {
            matches!(
                (&what, row),
                (What::Raw, RowPlace::Sample { .. })
                    | (What::Buckets(_) | What::At, RowPlace::Tag { .. })
            )
        };
        let after = after.map(|place| place.row);
        if after.as_ref().is_some_and(|row| !fits(row)) {
            return Err(super::place::stale(
                "after: it continues rows of another kind; begin anew without after",
            ));
        }
        let mut notes = Vec::new();
        if asked.to > now && what != What::At {
            notes.push(if asked.from >= now {
                "the range lies in the future by the gateway's clock".to_owned()
            } else {
                "the range was cut at the present of the gateway's clock".to_owned()
            });
        }
        let limit = limit(question.limit, bounds)?;
        Ok(Self { patterns, range: asked, now, what, limit, mark, after, notes })
    }

    /// Where an answer to this question continues.
    pub(super) fn place(&self, row: RowPlace) -> String {
        Place { mark: self.mark, from: self.range.from, to: self.range.to, row }.to_string()
    }

    /// The range up to the present: only that can be covered.
    pub(super) fn past(&self) -> Range {
        Range { from: self.range.from, to: self.range.to.min(self.now).max(self.range.from) }
    }
}

pub(super) fn patterns(tags: &[String]) -> Result<Vec<(String, Pattern)>, Refusal> {
    let distinct: BTreeSet<&String> = tags.iter().collect();
    if distinct.len() > MAX_PATTERNS {
        let text = format!(
            "tags: {} patterns, more than {MAX_PATTERNS}; use * and **, or ask several questions",
            distinct.len()
        );
        return refuse(Code::TooMuch, text);
    }
    Ok(distinct.into_iter().map(|text| (text.clone(), Pattern::new(text))).collect())
}

/// How many rows an answer may have.
pub(super) fn limit(asked: Option<u64>, bounds: &Bounds) -> Result<u64, Refusal> {
    match asked {
        Some(0) => refuse(Code::BadLimit, "limit: 0 rows are no answer; ask for at least 1"),
        Some(limit) => Ok(limit.min(bounds.max_rows)),
        None => Ok(bounds.max_rows),
    }
}

/// A range that may be open at either end.
pub(super) fn between(from: Option<Wish>, to: Option<Wish>, now: i64) -> Result<Range, Refusal> {
    let from_at = from.map_or(i64::MIN, |wish| wish.seen_from(now));
    let to_at = to.map_or_else(|| now.max(from_at), |wish| wish.seen_from(now));
    if to_at < from_at {
        let say = |wish: Option<Wish>| wish.map_or_else(|| "now".to_owned(), |w| w.to_string());
        let text =
            format!("range ends ({}) before it begins ({}); exchange them", say(to), say(from));
        return refuse(Code::ReversedRange, text);
    }
    Ok(Range { from: from_at, to: to_at })
}

fn range(question: &History, now: i64) -> Result<Range, Refusal> {
    if let Some(at) = question.at {
        // Up to the moment, which is included.
        return Ok(Range { from: i64::MIN, to: at.seen_from(now).saturating_add(1) });
    }
    if question.from.is_none() {
        return refuse(
            Code::Unbounded,
            "history has no beginning; write from, such as \"-12h\", or at for a moment",
        );
    }
    between(question.from, question.to, now)
}

fn what(question: &History) -> Result<What, Refusal> {
    if question.at.is_some() {
        if question.from.is_some() || question.to.is_some() || question.every.is_some() {
            return refuse(
                Code::Malformed,
                "at: it stands for a moment; leave out from, to and every, or leave out at",
            );
        }
        return Ok(What::At);
    }
    let Some(every) = &question.every else {
        if question.agg.is_empty() {
            return Ok(What::Raw);
        }
        return refuse(
            Code::BadLimit,
            "agg: it needs the step that it is computed over; write every, such as \"5m\"",
        );
    };
    let Some(every) = parse_span(every).filter(|span| *span > 0) else {
        let shown: String = every.chars().take(32).collect();
        let text = format!("every: {shown:?} is no step; write a span such as \"5m\" or \"1h30m\"");
        return refuse(Code::BadLimit, text);
    };
    let wants = |aggregate| question.agg.is_empty() || question.agg.contains(&aggregate);
    Ok(What::Buckets(Steps {
        every,
        min: wants(Aggregate::Min),
        max: wants(Aggregate::Max),
        avg: wants(Aggregate::Avg),
        last: wants(Aggregate::Last),
    }))
}

pub(super) fn refuse<T>(code: Code, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(code, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000_000_000_000;

    fn ask(json: &str) -> Result<Plan, Refusal> {
        Plan::of(&serde_json::from_str(json).unwrap(), &Bounds::default(), NOW)
    }

    #[test]
    fn what_cannot_be_answered_is_refused_by_code_before_anything_is_read() {
        for (json, code) in [
            (r#"{"tags":[],"from":"-1h"}"#, Code::Malformed),
            (r#"{"tags":["a"]}"#, Code::Unbounded),
            (r#"{"tags":["a"],"to":"-1h"}"#, Code::Unbounded),
            (r#"{"tags":["a"],"from":"-1h","to":"-2h"}"#, Code::ReversedRange),
            (r#"{"tags":["a"],"from":"-1h","limit":0}"#, Code::BadLimit),
            (r#"{"tags":["a"],"from":"-1h","every":"0s"}"#, Code::BadLimit),
            (r#"{"tags":["a"],"from":"-1h","every":"soon"}"#, Code::BadLimit),
            (r#"{"tags":["a"],"from":"-1h","agg":["avg"]}"#, Code::BadLimit),
            (r#"{"tags":["a"],"from":"-10w","every":"1ns"}"#, Code::TooMuch),
            (r#"{"tags":["a"],"from":"1700-01-01T00:00:00Z","every":"1s"}"#, Code::TooMuch),
            (r#"{"tags":["a"],"from":"-1h","at":"-1h"}"#, Code::Malformed),
            (r#"{"tags":["a"],"from":"-1h","after":"x"}"#, Code::StaleContinuation),
        ] {
            let refusal = ask(json).unwrap_err();
            assert_eq!(refusal.code, code, "{json}: {refusal}");
        }
        let many: Vec<String> = (0..=MAX_PATTERNS).map(|n| n.to_string()).collect();
        let history = History { tags: many, from: Some(Wish::Relative(-1)), ..History::default() };
        let refusal = Plan::of(&history, &Bounds::default(), NOW).unwrap_err();
        assert_eq!(refusal.code, Code::TooMuch);
    }

    #[test]
    fn a_range_in_the_future_is_empty_and_says_so() {
        let plan = ask(r#"{"tags":["a"],"from":"2200-01-01T00:00:00Z"}"#).unwrap();
        assert!(plan.past().is_empty());
        let plan = ask(r#"{"tags":["a"],"from":"-1h","to":"2200-01-01T00:00:00Z"}"#).unwrap();
        assert_eq!(plan.past().to, NOW);
        assert!(plan.notes[0].contains("present"));
    }

    #[test]
    fn a_continued_question_keeps_the_range_that_it_was_first_understood_as() {
        let json = r#"{"tags":["a"],"from":"-1h","every":"1m"}"#;
        let plan = ask(json).unwrap();
        let next = plan.place(RowPlace::Tag { step: 5, path: "a".into() });
        let mut history: History = serde_json::from_str(json).unwrap();
        history.after = Some(next.clone());
        history.limit = Some(9);
        let later = Plan::of(&history, &Bounds::default(), NOW + 60_000_000_000).unwrap();
        assert_eq!(later.range, plan.range);
        history.tags.push("b".into());
        let refusal = Plan::of(&history, &Bounds::default(), NOW).unwrap_err();
        assert_eq!(refusal.code, Code::StaleContinuation);
    }
}
