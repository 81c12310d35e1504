//! Reading frames for a question, between which it can end.
//!
//! # Invariants
//! - Whoever asked is asked between frames whether to go on; collection is given way after about
//!   every [`PAGE_BYTES`].
//! - What a sidecar excludes is not read: frames outside the range, or without the tags in question.
//! - Frames that were kept when the question began and are dropped under the reading are noticed.
//! - Reading ends at what was durable when the question began, however fast more is written.

use std::ops::ControlFlow;

use tidegate_journal::{
    Epoch, EpochSpan, Frame, FrameRef, Read, ReadError, Reader, SegmentSpan, Spot, Visited, frame,
};
use tidegate_record::samples::{Run, Scanner, TagSet};

use super::Watch;
use super::book::Book;
use super::plan::Range;
use crate::sidecar::{Damaged, Digest, FrameNote, Sidecars};
use crate::{Code, PartialCause, Refusal};

/// About how much is read between two breaths: 10 ms of a slow card.
pub(super) const PAGE_BYTES: usize = 256 * 1024;
/// Frames of about 5 KiB that make about as much.
const FRAMES_BETWEEN: u32 = 50;

/// Is shown frames; may end the reading.
pub(super) type Visit<'v, 'a> =
    dyn FnMut(&mut Walk<'a>, &Frame<'_>) -> Result<ControlFlow<()>, Refusal> + 'v;

/// A segment as it was when the question began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub span: SegmentSpan,
    /// Frames at its end count no more: after a fork they were written again in a later epoch.
    pub clipped: bool,
}

/// Frames that should be there and cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damage {
    pub epoch: Epoch,
    /// The first that is missing.
    pub first: u64,
    /// The one after the last.
    pub end: u64,
    /// From the time of the frame before to that of the one after, as far as there are such.
    pub wall: (i64, i64),
}

/// What is read for one question.
pub(super) struct Walk<'a> {
    pub reader: Reader,
    pub watch: &'a dyn Watch,
    /// Why reading ended before its end.
    pub ended: Option<PartialCause>,
    /// Whether anything was dropped under the reading.
    pub dropped: bool,
    /// Frames whose bodies do not hold what their headers say.
    pub misfits: u64,
    /// Frames that were met as damaged.
    pub damage: Vec<Damage>,
    /// What was kept when the question began, oldest first.
    pub epochs: Vec<EpochSpan>,
    pub segments: Vec<Segment>,
    sidecars: &'a Sidecars,
    scanner: Scanner,
    /// Bytes of frames since the last breath.
    unbreathed: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(reader: &Reader, sidecars: &'a Sidecars, watch: &'a dyn Watch) -> Self {
        let reader = reader.metered();
        let segments = reader.segments().into_iter();
        Self {
            watch,
            ended: None,
            dropped: false,
            misfits: 0,
            damage: Vec::new(),
            epochs: reader.epochs(),
            segments: segments.map(|span| Segment { span, clipped: false }).collect(),
            reader,
            sidecars,
            scanner: Scanner::new(),
            unbreathed: 0,
        }
    }

    /// Leaves out what a later epoch says does not count: after a fork it was written there again.
    pub(super) fn believe(&mut self, book: &Book) {
        for predecessor in book.predecessors.values().filter(|it| it.carried_frames > 0) {
            let end = predecessor.last.map_or(0, |last| last.frame.saturating_add(1));
            for segment in &mut self.segments {
                let span = &mut segment.span;
                if Some(span.epoch) == predecessor.epoch && span.end_frame > end {
                    span.end_frame = end;
                    segment.clipped = true;
                }
            }
        }
        self.segments.retain(|it| it.span.end_frame > it.span.first_frame);
    }

    /// Whether the question must end now; remembered.
    pub(super) fn is_over(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.watch.ended();
        }
        self.ended.is_some()
    }

    /// Bytes of frames and sidecars that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.reader.bytes_read()
    }

    /// What a segment holds in short; `None` when there is nothing to be had, or the question ended
    /// meanwhile.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub(super) fn digest(&mut self, segment: &Segment) -> Result<Option<Digest>, Refusal> {
        if segment.clipped {
            return Ok(None);
        }
        let (sidecars, watch) = (self.sidecars, self.watch);
        let (ended, mut frames) = (&mut self.ended, 0_u32);
        let mut go_on = || {
            frames = frames.wrapping_add(1);
            if frames.is_multiple_of(FRAMES_BETWEEN) {
                watch.breathe();
            }
            if ended.is_none() {
                *ended = watch.ended();
            }
            ended.is_none()
        };
        sidecars.of(&segment.span, &self.reader, &mut go_on).map_err(unreadable)
    }

    /// Whether a segment is known to have nothing of the range.
    pub(super) fn excludes(&self, segment: &Segment, range: Range) -> bool {
        let known = if segment.span.sealed { self.sidecars.wall(&segment.span) } else { None };
        known.is_some_and(|wall| !range.meets(wall))
    }

    /// Shows every frame of samples whose time meets the range, in the order of the record, from
    /// `from` on; `pick` narrows those of one segment. Returns whether `visit` ended it.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub(super) fn frames(
        &mut self,
        range: Range,
        from: Option<FrameRef>,
        pick: &dyn Fn(&Digest, Epoch) -> Result<Picked, Damaged>,
        visit: &mut Visit<'_, 'a>,
    ) -> Result<ControlFlow<()>, Refusal> {
        for segment in self.from(from) {
            if self.excludes(&segment, range) {
                continue;
            }
            let first = from.filter(|from| from.epoch == segment.span.epoch);
            let first = first.map_or(0, |from| from.frame).max(segment.span.first_frame);
            let digest = self.digest(&segment)?;
            if self.is_over() {
                break;
            }
            let wanted = |note: &FrameNote| note.spot.number >= first && range.meets(note.wall);
            let chosen = digest.and_then(|digest| {
                // Of a segment that grows, whatever comes after this is read as well.
                let end = digest.end_frame();
                if digest.wall().is_none_or(|wall| !range.meets(wall)) {
                    return Some((Vec::new(), end));
                }
                let picked = pick(&digest, segment.span.epoch).ok()?;
                let mut spots = spots(&digest.frames().ok()?, &picked, wanted);
                spots.retain(|spot| spot.number < end.min(segment.span.end_frame));
                Some((spots, end))
            });
            let flow = match chosen {
                None => self.visit(&segment.span, first, range, visit)?,
                Some((spots, end)) => {
                    let mut flow = self.fetch(&segment.span, &spots, range, visit)?;
                    let rest = first.max(end);
                    if flow.is_continue() && rest < segment.span.end_frame {
                        flow = self.visit(&segment.span, rest, range, visit)?;
                    }
                    flow
                }
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The segments from the one that holds this frame on.
    fn from(&self, from: Option<FrameRef>) -> Vec<Segment> {
        let Some(from) = from else { return self.segments.clone() };
        let holds = |it: &Segment| it.span.epoch == from.epoch && it.span.end_frame > from.frame;
        let at = self.segments.iter().position(holds).or_else(|| {
            // At the very end of an epoch: go on with the one after it.
            let last = self.segments.iter().rposition(|it| it.span.epoch == from.epoch)?;
            Some(last + 1)
        });
        at.and_then(|at| self.segments.get(at..)).unwrap_or_default().to_vec()
    }

    /// Shows the frames of samples of a segment that meet the range.
    pub(super) fn visit(
        &mut self,
        span: &SegmentSpan,
        first: u64,
        range: Range,
        visit: &mut Visit<'_, 'a>,
    ) -> Result<ControlFlow<()>, Refusal> {
        let reader = self.reader.clone();
        let mut shown = Shown::default();
        let mut holes = Holes::new(span.epoch, first.max(span.first_frame));
        let visited = reader.visit(span, first, &mut |frame, _| {
            self.damage.extend(holes.see(frame.header.number, frame.header.wall));
            shown.show(self, frame, range, visit)
        });
        if matches!(visited, Ok(Visited::All)) {
            self.damage.extend(holes.end(span.end_frame));
        }
        shown.end(self, visited).map(|(flow, _)| flow)
    }

    /// Shows chosen frames of a segment.
    pub(super) fn fetch(
        &mut self,
        span: &SegmentSpan,
        spots: &[Spot],
        range: Range,
        visit: &mut Visit<'_, 'a>,
    ) -> Result<ControlFlow<()>, Refusal> {
        let reader = self.reader.clone();
        let mut shown = Shown::default();
        let fetched =
            reader.fetch(span, spots, &mut |frame, _| shown.show(self, frame, range, visit));
        match shown.end(self, fetched)? {
            // What is damaged is found, and noted for the writer to name, by reading it all.
            (flow, Some(damaged)) if flow.is_continue() => {
                let wanted: Vec<u64> = spots.iter().map(|spot| spot.number).collect();
                let mut only = |walk: &mut Self, frame: &Frame<'_>| {
                    if wanted.binary_search(&frame.header.number).is_err() {
                        return Ok(ControlFlow::Continue(()));
                    }
                    visit(walk, frame)
                };
                self.visit(span, damaged, range, &mut only)
            }
            (flow, _) => Ok(flow),
        }
    }

    /// Shows the runs of these tags in a frame of samples.
    pub(super) fn scan(&mut self, frame: &Frame<'_>, tags: &TagSet, visit: impl FnMut(&Run<'_>)) {
        if self.scanner.scan(frame, tags, visit).is_err() {
            self.misfits += 1;
        }
    }

    /// Notes whether what was oldest when the question began is still kept, if that matters to the
    /// range.
    pub(super) fn look_for_drops(&mut self, range: Range) {
        let Some(first) = self.epochs.first().copied() else { return };
        let oldest = self.reader.oldest();
        let is_kept = oldest
            .is_some_and(|oldest| oldest.epoch == first.epoch && oldest.frame <= first.first_frame);
        if is_kept {
            return;
        }
        // What is gone ended before what is oldest now, by its own clock.
        let begins = oldest.and_then(|oldest| self.wall_of(oldest));
        self.dropped |= begins.is_none_or(|(begins, _)| range.from < begins);
    }

    /// The time at which the record begins, and up to which it is durable.
    pub(super) fn kept(&self) -> Option<(i64, i64)> {
        let begins = self.wall_of(self.reader.oldest()?)?.0;
        let (epoch, last) = self.reader.durable()?;
        let ends = self.wall_of(FrameRef { epoch, frame: last.frame })?.1;
        Some((begins, ends))
    }

    /// The time of one frame, or of the next one that is kept.
    pub(super) fn wall_of(&self, at: FrameRef) -> Option<(i64, i64)> {
        let batch = match self.reader.read_from(at.epoch, at.frame, 1).ok()? {
            Read::Frames(batch) => batch,
            Read::Gap { next } => match self.reader.read_from(at.epoch, next, 1).ok()? {
                Read::Frames(batch) => batch,
                _ => return None,
            },
            _ => return None,
        };
        frame::decode(&batch.bytes).ok().map(|frame| frame.header.wall)
    }
}

/// Finds what is missing between frames that are seen in order.
#[derive(Debug)]
pub(super) struct Holes {
    epoch: Epoch,
    next: u64,
    seen_until: Option<i64>,
}

impl Holes {
    pub(super) const fn new(epoch: Epoch, first: u64) -> Self {
        Self { epoch, next: first, seen_until: None }
    }

    /// What is missing before the frame of this number.
    pub(super) fn see(&mut self, number: u64, wall: (i64, i64)) -> Option<Damage> {
        let (first, from) = (self.next, self.seen_until);
        self.next = number.saturating_add(1);
        self.seen_until = Some(wall.1);
        let wall = (from.unwrap_or(wall.0), wall.0);
        (number > first).then_some(Damage { epoch: self.epoch, first, end: number, wall })
    }

    /// What is missing before the end.
    pub(super) fn end(self, end: u64) -> Option<Damage> {
        let wall = self.seen_until.map_or((i64::MIN, i64::MAX), |seen| (seen, seen));
        (end > self.next).then_some(Damage { epoch: self.epoch, first: self.next, end, wall })
    }
}

/// Which frames of a segment are wanted, by their place in its sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Picked {
    /// Every one.
    All,
    /// These, in ascending order.
    Some(Vec<usize>),
}

impl Picked {
    /// The frames that may hold one of some tags.
    pub(super) fn union(ranges: impl IntoIterator<Item = std::ops::Range<usize>>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_by_key(|range| range.start);
        let mut wanted: Vec<usize> = Vec::new();
        for range in ranges {
            let start = wanted.last().map_or(range.start, |last| range.start.max(last + 1));
            wanted.extend(start..range.end);
        }
        Self::Some(wanted)
    }
}

/// Where the frames stand that are picked and wanted.
pub(super) fn spots(
    notes: &[FrameNote],
    picked: &Picked,
    wanted: impl Fn(&FrameNote) -> bool,
) -> Vec<Spot> {
    let spot = |note: &FrameNote| wanted(note).then_some(note.spot);
    match picked {
        Picked::All => notes.iter().filter_map(spot).collect(),
        Picked::Some(places) => {
            places.iter().filter_map(|at| notes.get(*at)).filter_map(spot).collect()
        }
    }
}

/// Shows frames one by one and keeps why it ended.
#[derive(Default)]
struct Shown {
    refusal: Option<Refusal>,
    broken_off: bool,
}

impl Shown {
    fn show<'a>(
        &mut self,
        walk: &mut Walk<'a>,
        frame: &Frame<'_>,
        range: Range,
        visit: &mut Visit<'_, 'a>,
    ) -> ControlFlow<()> {
        walk.unbreathed += frame.bytes.len();
        if walk.unbreathed >= PAGE_BYTES {
            walk.unbreathed = 0;
            walk.watch.breathe();
        }
        if walk.is_over() {
            return ControlFlow::Break(());
        }
        if !range.meets(frame.header.wall) {
            return ControlFlow::Continue(());
        }
        match visit(walk, frame) {
            Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
            Ok(ControlFlow::Break(())) => {
                self.broken_off = true;
                ControlFlow::Break(())
            }
            Err(refusal) => {
                self.refusal = Some(refusal);
                ControlFlow::Break(())
            }
        }
    }

    /// Whether `visit` ended it, and the frame that is damaged.
    fn end(
        self,
        walk: &mut Walk<'_>,
        visited: Result<Visited, ReadError>,
    ) -> Result<(ControlFlow<()>, Option<u64>), Refusal> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        let flow = if self.broken_off { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        match visited.map_err(unreadable)? {
            Visited::All | Visited::Stopped => Ok((flow, None)),
            Visited::Gone => {
                walk.dropped = true;
                Ok((flow, None))
            }
            Visited::Damaged { frame } => Ok((flow, Some(frame))),
        }
    }
}

/// A record that cannot be read, for whoever asked.
pub(super) fn unreadable(error: ReadError) -> Refusal {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Refusal::new(Code::Unreadable, format!("{text}; see the gateway's status"))
}
