//! The state at a moment: of each tag the last sample at or before it.
//!
//! # Invariants
//! - The last one is the last in the record among those whose time is not after the moment: a clock
//!   that was set back does not bring old values up again.

use std::ops::ControlFlow;

use tidegate_journal::{Epoch, Kind};
use tidegate_record::Reading;
use tidegate_translator::Sample;

use super::Answer;
use super::book::over;
use super::names::Names;
use super::place::RowPlace;
use super::plan::Plan;
use super::walk::Walk;
use crate::Refusal;

/// Gives a row for each tag that has a sample, in the order of the paths.
pub(super) fn answer(
    plan: &Plan,
    names: &Names,
    walk: &mut Walk<'_>,
    answer: &mut Answer<'_, '_>,
) -> Result<(), Refusal> {
    let mut found: Vec<Option<(Epoch, u64, Sample)>> = vec![None; names.tags.len()];
    let _whole = walk.frames(plan.range, None, &mut |walk, frame| {
        let epoch = frame.header.epoch;
        if let (Kind::Samples, Some(numbers)) = (frame.kind, names.numbers(epoch)) {
            walk.scan(frame, &numbers.set, |run| {
                let last = run.acquired.iter().rposition(|at| plan.range.has(at.0));
                let place = numbers.place(run.tag).and_then(|place| usize::try_from(place).ok());
                if let (Some(last), Some(place)) = (last, place)
                    && let (Some(slot), Some(sample)) = (found.get_mut(place), run.sample(last))
                {
                    *slot = Some((epoch, run.seq(last), sample));
                }
            });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if walk.ended.is_some() {
        // What was found so far may not be the last.
        return Err(over(walk.ended));
    }
    give(plan, names, answer, found)
}

fn give(
    plan: &Plan,
    names: &Names,
    answer: &mut Answer<'_, '_>,
    found: Vec<Option<(Epoch, u64, Sample)>>,
) -> Result<(), Refusal> {
    let from_tag = match &plan.after {
        Some(RowPlace::Tag { path, .. }) => names.first_from(path),
        _ => 0,
    };
    let at = plan.range.to.saturating_sub(1);
    let mut without = 0_u64;
    for (tag, found) in names.tags.iter().zip(found).skip(from_tag) {
        let Some((epoch, seq, sample)) = found else {
            without += 1;
            continue;
        };
        let age = at.saturating_sub(sample.acquired.0) / 1_000_000;
        let reading = Reading { epoch, seq, entry: Some(&tag.entry), sample };
        let mut json = reading.json_line();
        json.pop();
        json.push_str(&format!(",\"age_ms\":{age}}}"));
        let place =
            || plan.place(RowPlace::Tag { step: 0, path: tag.entry.path.as_str().to_owned() });
        if answer.give(json, place)?.is_break() {
            return Ok(());
        }
    }
    if without > 0 {
        answer.notes.push(format!("{without} of the tags have no sample at or before that moment"));
    }
    Ok(())
}
