//! Samples summed up over steps of time.
//!
//! # Invariants
//! - Wall clocks jump, so a step is complete only when everything that meets it was read: the range
//!   is answered window by window, each of so many steps that its cells fit [`MAX_CELLS`].
//! - Cells of the sidecars count where they lie within one step, and their frames are not read.
//! - A step without samples has no row.
//! - Long texts that are last in their steps count too: a window that would keep more than
//!   [`MAX_TEXT_BYTES`] of them is halved, and refused when it is a single step.

use std::ops::ControlFlow;

use tidegate_journal::{Epoch, Frame, SegmentSpan, Spot};
use tidegate_record::Moment;
use tidegate_record::json::{write_text, write_value};
use tidegate_record::samples::{Run, TagSet};
use tidegate_translator::{Quality, TagId, Value};

use super::Answer;
use super::names::{Names, Numbers};
use super::place::RowPlace;
use super::plan::{Plan, Range, Steps, refuse};
use super::walk::Walk;
use crate::sidecar::{Cells, Digest, FrameNote, TagDigest};
use crate::{Cell, Code, Refusal};

/// Cells of one window: about 4 MB.
const MAX_CELLS: usize = 32 * 1024;
/// Bytes of texts in them.
const MAX_TEXT_BYTES: usize = 8 << 20;
/// How often a digest that grows is looked at again.
const ATTEMPTS: usize = 3;
/// Rows between two looks at whether to go on.
const ROWS_BETWEEN: u64 = 256;

/// Gives a row for each tag and step that has samples.
pub(super) fn answer(
    plan: &Plan,
    steps: &Steps,
    names: &Names,
    walk: &mut Walk<'_>,
    answer: &mut Answer<'_, '_>,
) -> Result<(), Refusal> {
    if plan.range.is_empty() {
        return Ok(());
    }
    let first = plan.range.from.div_euclid(steps.every);
    let end = (plan.range.to - 1).div_euclid(steps.every) + 1;
    let (mut at, mut from_tag) = match &plan.after {
        Some(RowPlace::Tag { step, path }) => (*step, names.first_from(path)),
        _ => (first, 0),
    };
    if at < first || at > end {
        return Err(super::place::stale(
            "after: it lies outside of its range; begin anew without after",
        ));
    }
    let most = i64::try_from(MAX_CELLS / names.tags.len().max(1)).unwrap_or(1).max(1);
    let mut length = most;
    while at < end {
        let until = at.saturating_add(length).min(end);
        let range = Range {
            from: plan.range.from.max(at.saturating_mul(steps.every)),
            to: plan.range.to.min(until.saturating_mul(steps.every)),
        };
        let mut window = Window::new(names.tags.len(), steps.every, at, until, range);
        window.fill(names, steps.last, walk)?;
        if walk.ended.is_some() {
            answer.cut(walk.ended, plan.place(window.place(names, at, from_tag)));
            break;
        }
        if window.is_too_large() {
            if until - at == 1 {
                return refuse(
                    Code::TooMuch,
                    "agg: the last values of one step are texts of more than 8 MiB; ask for fewer tags",
                );
            }
            length = ((until - at) / 2).max(1);
            continue;
        }
        if window.give(plan, steps, names, walk, answer, from_tag)?.is_break() {
            break;
        }
        (at, from_tag) = (until, 0);
    }
    walk.look_for_drops(plan.range);
    Ok(())
}

/// Some steps that follow each other.
struct Window {
    tags: usize,
    every: i64,
    first: i64,
    range: Range,
    /// Of each step all cells, or none as long as it has no sample.
    steps: Vec<Vec<Cell>>,
    /// The epoch of what was read last: sequence numbers compare only within one.
    epoch: Option<Epoch>,
    text_bytes: usize,
    /// Of each tag how long the cells are that were taken in from the segment at hand; 0: none.
    grains: Vec<i64>,
    /// The piece of time that was met last.
    piece: Option<Piece>,
}

/// A piece of time that lies within one step, and within one cell where there are cells.
#[derive(Debug, Clone, Copy)]
struct Piece {
    grain: i64,
    within: Range,
    step: i64,
    /// Whether its cell was taken in as a whole.
    is_known: bool,
}

/// What of a segment its cells do not tell.
struct Left {
    spots: Vec<Spot>,
    /// The tags that are read in them.
    set: TagSet,
    /// Frames from here on are not in the digest.
    end: u64,
}

/// Which frames of a segment are read.
enum Frames<'a> {
    These(&'a [Spot]),
    From(u64),
}

impl Window {
    fn new(tags: usize, every: i64, first: i64, until: i64, range: Range) -> Self {
        let steps = usize::try_from(until - first).unwrap_or(0);
        Self {
            tags,
            every,
            first,
            range,
            steps: vec![Vec::new(); steps],
            epoch: None,
            text_bytes: 0,
            grains: vec![0; tags],
            piece: None,
        }
    }

    const fn is_too_large(&self) -> bool {
        self.text_bytes > MAX_TEXT_BYTES
    }

    fn place(&self, names: &Names, step: i64, tag: usize) -> RowPlace {
        let path = names.tags.get(tag).map_or("", |tag| tag.entry.path.as_str());
        RowPlace::Tag { step: step.max(self.first), path: path.to_owned() }
    }

    fn fill(
        &mut self,
        names: &Names,
        needs_last: bool,
        walk: &mut Walk<'_>,
    ) -> Result<(), Refusal> {
        for segment in walk.segments.clone() {
            let span = &segment.span;
            let Some(numbers) = names.numbers(span.epoch) else { continue };
            if walk.excludes(&segment, self.range) {
                continue;
            }
            let digest = walk.digest(&segment)?;
            if walk.is_over() || self.is_too_large() {
                break;
            }
            self.enter(span.epoch);
            let rest = match digest.and_then(|it| self.merge(&it, numbers, needs_last)) {
                None => span.first_frame,
                Some(left) => {
                    self.scan(span, Frames::These(&left.spots), &left.set, numbers, walk)?;
                    left.end
                }
            };
            self.grains.fill(0);
            if rest < span.end_frame {
                self.scan(span, Frames::From(rest), &numbers.set, numbers, walk)?;
            }
        }
        Ok(())
    }

    /// Takes in the cells of a segment that lie within one step each, and tells what else must be
    /// read. `None` when it must be read whole.
    fn merge(&mut self, digest: &Digest, numbers: &Numbers, needs_last: bool) -> Option<Left> {
        for _ in 0..ATTEMPTS {
            let end = digest.end_frame();
            if digest.wall().is_none_or(|wall| !self.range.meets(wall)) {
                return Some(Left { spots: Vec::new(), set: TagSet::from_iter([]), end });
            }
            let tags = digest.tags(&numbers.ids).ok()?;
            let notes = digest.frames().ok()?;
            // That of the segment being written may have grown in between.
            if digest.end_frame() == end {
                return self.merge_tags(&tags, &notes, end, numbers, needs_last);
            }
        }
        None
    }

    fn merge_tags(
        &mut self,
        tags: &[(TagId, TagDigest)],
        notes: &[FrameNote],
        end: u64,
        numbers: &Numbers,
        needs_last: bool,
    ) -> Option<Left> {
        let mut wanted = vec![false; notes.len()];
        let mut set = Vec::new();
        let mut whole: Vec<(i64, u32, &Cell)> = Vec::new();
        for (id, tag) in tags {
            let Some(place) = numbers.place(*id) else { continue };
            let mut parts: Vec<Range> = Vec::new();
            match &tag.cells {
                Cells::Every { grain, cells, lasts } if *lasts || !needs_last => {
                    for (begin, cell) in cells {
                        let span = Range { from: *begin, to: begin.saturating_add(*grain) };
                        if self.is_whole(span) {
                            whole.push((begin.div_euclid(self.every), place, cell));
                        } else if let Some(part) = self.range.common(span) {
                            parts.push(part);
                        }
                    }
                    let at = usize::try_from(place).ok()?;
                    *self.grains.get_mut(at)? = *grain;
                }
                _ => parts.push(self.range),
            }
            if parts.is_empty() {
                continue;
            }
            set.push(*id);
            for at in tag.frames.iter().cloned().flatten() {
                if let (Some(is_wanted), Some(note)) = (wanted.get_mut(at), notes.get(at)) {
                    *is_wanted |= parts.iter().any(|part| part.meets(note.wall));
                }
            }
        }
        for (step, place, cell) in whole {
            if let Some(into) = self.cell(step, place) {
                into.merge(cell);
            }
        }
        let wanted = notes.iter().zip(wanted).filter(|(_, wanted)| *wanted);
        let spots = wanted.map(|(note, _)| note.spot).collect();
        Some(Left { spots, set: set.into_iter().collect(), end })
    }

    /// Whether a span lies in the range and within one step.
    const fn is_whole(&self, span: Range) -> bool {
        self.range.from <= span.from
            && span.to <= self.range.to
            && span.from.div_euclid(self.every) == (span.to - 1).div_euclid(self.every)
    }

    fn scan(
        &mut self,
        span: &SegmentSpan,
        frames: Frames<'_>,
        set: &TagSet,
        numbers: &Numbers,
        walk: &mut Walk<'_>,
    ) -> Result<(), Refusal> {
        let range = self.range;
        let mut take = |walk: &mut Walk<'_>, frame: &Frame<'_>| {
            walk.scan(frame, set, |run| {
                if let Some(place) = numbers.place(run.tag) {
                    self.add(place, run);
                }
            });
            Ok(if self.is_too_large() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        let _flow = match frames {
            Frames::These(spots) => walk.fetch(span, spots, range, &mut take)?,
            Frames::From(first) => walk.visit(span, first, range, &mut take)?,
        };
        Ok(())
    }

    /// What was last in an earlier epoch counts as before everything of a later one.
    fn enter(&mut self, epoch: Epoch) {
        if self.epoch.is_some_and(|before| before != epoch) {
            for cell in self.steps.iter_mut().flatten() {
                if let Some(last) = &mut cell.last {
                    last.seq = 0;
                }
            }
        }
        self.epoch = Some(epoch);
    }

    fn add(&mut self, place: u32, run: &Run<'_>) {
        let mut start = 0;
        while let Some(acquired) = run.acquired.get(start) {
            if !self.range.has(acquired.0) {
                start += 1;
                continue;
            }
            let grain = usize::try_from(place).ok().and_then(|at| self.grains.get(at)).copied();
            let piece = self.piece(acquired.0, grain.unwrap_or(0));
            let rest = run.acquired.get(start..).unwrap_or_default();
            let length = rest.iter().take_while(|at| piece.within.has(at.0)).count();
            // An end beyond what a time can be leaves the last instant out; it is one sample then.
            let length = length.max(1);
            let end = start + length;
            // A sample of a cell that was taken in as a whole is in there already.
            if !piece.is_known
                && let Some(cell) = self.cell(piece.step, place)
            {
                let before = text_bytes(cell);
                cell.add_run(run, start..end);
                let after = text_bytes(cell);
                self.text_bytes = (self.text_bytes + after).saturating_sub(before);
            }
            start = end;
        }
    }

    /// The piece around a moment. Neighbours are in the same one nearly always.
    fn piece(&mut self, at: i64, grain: i64) -> Piece {
        if let Some(piece) = self.piece
            && piece.grain == grain
            && piece.within.has(at)
        {
            return piece;
        }
        let step = at.div_euclid(self.every);
        let begins = step.saturating_mul(self.every);
        let mut within = Range { from: begins, to: begins.saturating_add(self.every) };
        within = self.range.common(within).unwrap_or(within);
        let mut is_known = false;
        if grain > 0 {
            let begins = at.div_euclid(grain).saturating_mul(grain);
            let slot = Range { from: begins, to: begins.saturating_add(grain) };
            is_known = self.is_whole(slot);
            within = slot.common(within).unwrap_or(within);
        }
        let piece = Piece { grain, within, step, is_known };
        self.piece = Some(piece);
        piece
    }

    fn cell(&mut self, step: i64, place: u32) -> Option<&mut Cell> {
        let at = usize::try_from(step - self.first).ok()?;
        let cells = self.steps.get_mut(at)?;
        if cells.is_empty() {
            cells.resize(self.tags, Cell::default());
        }
        cells.get_mut(usize::try_from(place).ok()?)
    }

    fn give(
        &self,
        plan: &Plan,
        steps: &Steps,
        names: &Names,
        walk: &mut Walk<'_>,
        answer: &mut Answer<'_, '_>,
        from_tag: usize,
    ) -> Result<ControlFlow<()>, Refusal> {
        let mut skip = from_tag;
        for (step, cells) in (self.first..).zip(&self.steps) {
            for (tag, cell) in cells.iter().enumerate().skip(skip).filter(|(_, c)| c.count > 0) {
                let place = || plan.place(self.place(names, step, tag));
                if answer.rows.is_multiple_of(ROWS_BETWEEN) && walk.is_over() {
                    answer.cut(walk.ended, place());
                    return Ok(ControlFlow::Break(()));
                }
                let Some(tag) = names.tags.get(tag) else { continue };
                let begins = step.saturating_mul(self.every);
                let span = (
                    begins.max(plan.range.from),
                    begins.saturating_add(self.every).min(plan.range.to),
                );
                let unit = tag.entry.unit.as_deref();
                let json = row(tag.entry.path.as_str(), unit, span, cell, steps);
                if answer.give(json, place)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            skip = 0;
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn text_bytes(cell: &Cell) -> usize {
    match cell.last.as_ref().map(|last| &last.value) {
        Some(Value::Text(text) | Value::Json(text)) => text.len(),
        Some(Value::Bytes(bytes)) => bytes.len(),
        _ => 0,
    }
}

/// One bucket as JSON.
pub(super) fn row(
    path: &str,
    unit: Option<&str>,
    (from, to): (i64, i64),
    cell: &Cell,
    wants: &Steps,
) -> String {
    let mut out = String::from("{\"path\":");
    write_text(&mut out, path);
    if let Some(unit) = unit {
        out.push_str(",\"u\":");
        write_text(&mut out, unit);
    }
    for (key, time) in [("from", from), ("to", to)] {
        out.push_str(&format!(",\"{key}\":\"{}\"", Moment(time).rfc3339()));
    }
    out.push_str(&format!(",\"count\":{},\"good\":{}", cell.count, cell.good));
    let mut put = |key: &str, value: &Value| {
        out.push_str(&format!(",\"{key}\":"));
        write_value(&mut out, value);
    };
    if let Some(min) = cell.min.filter(|_| wants.min) {
        put("min", &min.value());
    }
    if let Some(max) = cell.max.filter(|_| wants.max) {
        put("max", &max.value());
    }
    if let Some(mean) = cell.mean().filter(|_| wants.avg) {
        put("avg", &Value::F64(mean));
    }
    if let Some(last) = cell.last.as_ref().filter(|_| wants.last) {
        put("last", &last.value);
        out.push_str(&format!(",\"last_ts\":\"{}\"", Moment(last.acquired).rfc3339()));
        if last.quality != Quality::Good {
            out.push_str(",\"last_q\":");
            write_text(&mut out, last.quality.word());
        }
    }
    out.push('}');
    out
}
