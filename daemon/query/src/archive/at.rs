//! The state at a moment: of each tag the last sample at or before it.
//!
//! # Invariants
//! - The last one is the last in the record among those whose time is not after the moment: a clock
//!   that was set back does not bring old values up again.
//! - The record is read backwards and no further than the last tag is found; of rare tags only the
//!   frames that the sidecars name.

use std::ops::{ControlFlow, Range as Places};

use tidegate_journal::{Epoch, Frame, Spot};
use tidegate_record::Reading;
use tidegate_record::samples::TagSet;
use tidegate_translator::{Sample, TagId};

use super::Answer;
use super::book::over;
use super::names::{Names, Numbers};
use super::place::RowPlace;
use super::plan::{Plan, Range};
use super::walk::{Segment, Walk};
use crate::Refusal;
use crate::sidecar::{Digest, FrameNote};

/// So few tags are looked for by the sidecars at once.
const FEW: usize = 64;
/// Of more than this they are not asked at all: it takes a short read for each.
const MANY: usize = 4096;
/// Frames at the end of a segment that are read first, as long as there are more than [`FEW`].
const TAIL_FRAMES: usize = 64;

/// Gives a row for each tag that has a sample, in the order of the paths.
pub(super) fn answer(
    plan: &Plan,
    names: &Names,
    walk: &mut Walk<'_>,
    answer: &mut Answer<'_, '_>,
) -> Result<(), Refusal> {
    let mut search =
        Search { range: plan.range, found: vec![None; names.tags.len()], left: names.tags.len() };
    for segment in walk.segments.clone().into_iter().rev() {
        if search.left == 0 {
            break;
        }
        let Some(numbers) = names.numbers(segment.span.epoch) else { continue };
        if !walk.excludes(&segment, plan.range) {
            search.segment(&segment, numbers, walk)?;
        }
        if walk.is_over() {
            // What was found so far may not be everything.
            return Err(over(walk.ended));
        }
    }
    give(plan, names, answer, search.found)
}

type Found = (Epoch, u64, Sample);

struct Search {
    range: Range,
    /// By the place of the tag.
    found: Vec<Option<Found>>,
    left: usize,
}

impl Search {
    /// Looks through one segment, backwards.
    fn segment(
        &mut self,
        segment: &Segment,
        numbers: &Numbers,
        walk: &mut Walk<'_>,
    ) -> Result<(), Refusal> {
        let span = &segment.span;
        let digest = walk.digest(segment)?;
        if walk.is_over() {
            return Ok(());
        }
        let listed = digest.and_then(|digest| {
            let end = digest.end_frame();
            let notes = digest.frames().ok()?;
            Some((digest, notes, end))
        });
        let Some((digest, notes, end)) = listed else {
            return self.forwards(segment, span.first_frame, numbers, walk);
        };
        if end < span.end_frame {
            self.forwards(segment, end, numbers, walk)?;
        }
        let last = end.min(span.end_frame);
        let notes: Vec<FrameNote> =
            notes.into_iter().take_while(|note| note.spot.number < last).collect();
        self.backwards(segment, &notes, &digest, numbers, walk)
    }

    /// Reads all frames from `first` on; the last of each tag counts.
    fn forwards(
        &mut self,
        segment: &Segment,
        first: u64,
        numbers: &Numbers,
        walk: &mut Walk<'_>,
    ) -> Result<(), Refusal> {
        let wanted = self.wanted(numbers);
        let set: TagSet = wanted.iter().copied().collect();
        let mut last: Vec<Option<Found>> = vec![None; wanted.len()];
        let range = self.range;
        let _whole = walk.visit(&segment.span, first, range, &mut |walk, frame| {
            look(walk, frame, &set, range, |tag, found| {
                if let Ok(at) = wanted.binary_search(&tag)
                    && let Some(slot) = last.get_mut(at)
                {
                    *slot = Some(found);
                }
            });
            Ok(ControlFlow::Continue(()))
        })?;
        for (tag, found) in wanted.into_iter().zip(last) {
            if let Some(found) = found {
                self.keep(numbers, tag, found);
            }
        }
        Ok(())
    }

    /// Reads frames from the last one on until every tag is found.
    fn backwards(
        &mut self,
        segment: &Segment,
        notes: &[FrameNote],
        digest: &Digest,
        numbers: &Numbers,
        walk: &mut Walk<'_>,
    ) -> Result<(), Refusal> {
        let mut wanted = self.wanted(numbers);
        // Of each tag that is still wanted the places of frames that may hold it.
        let mut holders: Option<Vec<(TagId, Vec<Places<usize>>)>> = None;
        let mut at = notes.len();
        let mut read = 0;
        while !wanted.is_empty() && !walk.is_over() {
            let is_time = wanted.len() <= FEW || (read >= TAIL_FRAMES && wanted.len() <= MANY);
            if holders.is_none() && is_time {
                let Ok(tags) = digest.tags(&wanted) else {
                    return self.forwards(segment, segment.span.first_frame, numbers, walk);
                };
                holders = Some(tags.into_iter().map(|(tag, it)| (tag, it.frames)).collect());
            }
            let before = match &holders {
                None => at.checked_sub(1),
                Some(holders) => {
                    holders.iter().filter_map(|(_, places)| last_before(places, at)).max()
                }
            };
            let Some(place) = before else { break };
            at = place;
            let Some(note) = notes.get(place).filter(|note| self.range.meets(note.wall)) else {
                continue;
            };
            read += 1;
            let set: TagSet = wanted.iter().copied().collect();
            self.frame(segment, note.spot, &set, numbers, walk)?;
            wanted.retain(|tag| self.is_wanted(numbers, *tag));
            if let Some(holders) = &mut holders {
                holders.retain(|(tag, _)| wanted.binary_search(tag).is_ok());
            }
        }
        Ok(())
    }

    fn frame(
        &mut self,
        segment: &Segment,
        spot: Spot,
        set: &TagSet,
        numbers: &Numbers,
        walk: &mut Walk<'_>,
    ) -> Result<(), Refusal> {
        let range = self.range;
        let mut found = Vec::new();
        let _one = walk.fetch(&segment.span, &[spot], range, &mut |walk, frame| {
            look(walk, frame, set, range, |tag, it| found.push((tag, it)));
            Ok(ControlFlow::Continue(()))
        })?;
        // Of a tag with several runs in the frame the last one counts.
        for (tag, it) in found.into_iter().rev() {
            if self.is_wanted(numbers, tag) {
                self.keep(numbers, tag, it);
            }
        }
        Ok(())
    }

    fn is_wanted(&self, numbers: &Numbers, tag: TagId) -> bool {
        let place = numbers.place(tag).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.found.get(place)).is_some_and(Option::is_none)
    }

    /// The numbers that are not found yet, ascending.
    fn wanted(&self, numbers: &Numbers) -> Vec<TagId> {
        numbers.ids.iter().copied().filter(|tag| self.is_wanted(numbers, *tag)).collect()
    }

    fn keep(&mut self, numbers: &Numbers, tag: TagId, found: Found) {
        let place = numbers.place(tag).and_then(|place| usize::try_from(place).ok());
        if let Some(slot) = place.and_then(|place| self.found.get_mut(place)) {
            self.left = self.left.saturating_sub(usize::from(slot.is_none()));
            *slot = Some(found);
        }
    }
}

/// The last place in some ranges that lies before another one.
fn last_before(ranges: &[Places<usize>], at: usize) -> Option<usize> {
    let end = ranges.partition_point(|range| range.start < at);
    let range = ranges.get(end.checked_sub(1)?)?;
    range.end.min(at).checked_sub(1).filter(|place| *place >= range.start)
}

/// Shows of each run in a frame the last sample in the range.
fn look(
    walk: &mut Walk<'_>,
    frame: &Frame<'_>,
    set: &TagSet,
    range: Range,
    mut show: impl FnMut(TagId, Found),
) {
    let epoch = frame.header.epoch;
    walk.scan(frame, set, |run| {
        let last = run.acquired.iter().rposition(|at| range.has(at.0));
        if let Some(last) = last
            && let Some(sample) = run.sample(last)
        {
            show(run.tag, (epoch, run.seq(last), sample));
        }
    });
}

fn give(
    plan: &Plan,
    names: &Names,
    answer: &mut Answer<'_, '_>,
    found: Vec<Option<Found>>,
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
