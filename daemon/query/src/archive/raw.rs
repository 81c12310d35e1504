//! Single samples, in the order of the record.

use std::ops::ControlFlow;

use tidegate_journal::{FrameRef, Kind};
use tidegate_record::Reading;
use tidegate_translator::Sample;

use super::Answer;
use super::names::Names;
use super::place::{RowPlace, stale};
use super::plan::Plan;
use super::walk::Walk;
use crate::Refusal;

/// How many rows are given between two looks at whether to go on.
const ROWS_BETWEEN: u64 = 256;

/// Gives the samples of the range.
pub(super) fn answer(
    plan: &Plan,
    names: &Names,
    walk: &mut Walk<'_>,
    answer: &mut Answer<'_, '_>,
) -> Result<(), Refusal> {
    let after = match &plan.after {
        Some(RowPlace::Sample { frame, seq }) => {
            let kept = walk.epochs.iter().find(|span| span.epoch == frame.epoch);
            if kept.is_none_or(|span| frame.frame < span.first_frame) {
                return Err(stale(
                    "after: the record no longer keeps that place; begin anew without after",
                ));
            }
            Some((*frame, *seq))
        }
        _ => None,
    };
    let from = after.map(|(frame, _)| frame);
    let mut reached = from;
    let mut found: Vec<(u64, u32, Sample)> = Vec::new();
    let flow = walk.frames(plan.range, from, &names.pick(), &mut |walk, frame| {
        let header = &frame.header;
        let epoch = header.epoch;
        let at = FrameRef { epoch, frame: header.number };
        reached = Some(FrameRef { epoch, frame: header.number.saturating_add(1) });
        let (Kind::Samples, Some(numbers)) = (frame.kind, names.numbers(epoch)) else {
            return Ok(ControlFlow::Continue(()));
        };
        let skip = after.filter(|(after, _)| after.epoch == epoch).map_or(0, |(_, seq)| seq);
        found.clear();
        walk.scan(frame, &numbers.set, |run| {
            let Some(place) = numbers.place(run.tag) else { return };
            for (index, acquired) in run.acquired.iter().enumerate() {
                let seq = run.seq(index);
                if seq >= skip
                    && plan.range.has(acquired.0)
                    && let Some(sample) = run.sample(index)
                {
                    found.push((seq, place, sample));
                }
            }
        });
        for (seq, place, sample) in found.drain(..) {
            let place_of_row = || plan.place(RowPlace::Sample { frame: at, seq });
            if answer.rows.is_multiple_of(ROWS_BETWEEN) && walk.is_over() {
                answer.cut(walk.ended, place_of_row());
                return Ok(ControlFlow::Break(()));
            }
            let reading = Reading { epoch, seq, entry: names.entry(place), sample };
            if answer.give(reading.json_line(), place_of_row)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if flow.is_continue() && walk.ended.is_some() {
        match reached.or_else(|| walk.reader.oldest()) {
            Some(frame) => answer.cut(walk.ended, plan.place(RowPlace::Sample { frame, seq: 0 })),
            None => answer.partial = walk.ended,
        }
    }
    walk.look_for_drops(plan.range);
    Ok(())
}
