//! A digest in memory, made frame by frame.
//!
//! # Invariants
//! - Every sample that was taken is in a cell of its tag, or the tag has no cells at all.
//! - At most [`MAX_CELLS`] cells, [`MAX_RUNS`] runs of frames and [`MAX_TAGS`] tags: cells grow wider,
//!   frames are counted in larger groups, and tags beyond that make all of them unknown.
//! - A body that cannot be read makes every tag unknown: whoever reads the frames meets it.

use std::collections::HashMap;
use std::ops::Range;

use tidegate_journal::{Frame, Kind, Spot};
use tidegate_record::samples::{Run, Scanner, TagSet};
use tidegate_translator::{TagId, Timestamp, Value};

use super::{Cells, FrameNote, GRAINS, TagDigest};
use crate::Cell;

/// About 5 MB, and more than the sidecar of a segment of 8 MiB has room for. A thousand tags every
/// second fill that in half an hour: 7,000 cells.
pub(super) const MAX_CELLS: usize = 32 << 10;
/// About 3 MB.
pub(super) const MAX_RUNS: usize = 256 << 10;
/// More tags than the largest gateway that is aimed at.
pub(super) const MAX_TAGS: usize = 128 << 10;
/// The longest text that a cell keeps as its last value.
pub(super) const MAX_LAST_BYTES: usize = 32;

/// One tag.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Track {
    /// A place in [`GRAINS`]; `None` when there are no cells.
    pub(super) grain: Option<usize>,
    /// By their number since 1970, ascending.
    pub(super) cells: Vec<(i64, Cell)>,
    /// Whether the cells keep their last samples.
    pub(super) lasts: bool,
    /// Groups of frames: the first, and the one after the last; ascending.
    pub(super) runs: Vec<(u32, u32)>,
}

impl Default for Track {
    fn default() -> Self {
        Self { grain: Some(0), cells: Vec::new(), lasts: true, runs: Vec::new() }
    }
}

impl Track {
    fn add(&mut self, run: &Run<'_>) {
        let Some(grain) = self.grain.and_then(|at| GRAINS.get(at)).copied() else { return };
        let mut at = 0;
        while let Some(first) = run.acquired.get(at) {
            let slot = first.0.div_euclid(grain);
            let begins = slot.saturating_mul(grain);
            let span = begins..begins.saturating_add(grain);
            let is_in = |time: &&Timestamp| span.contains(&time.0);
            let rest = run.acquired.get(at..).unwrap_or(&[]);
            let until = at + rest.iter().take_while(is_in).count().max(1);
            let tells = self.lasts;
            let cell = self.cell(slot);
            cell.add_run(run, at..until);
            if !tells {
                cell.last = None;
            } else if cell.last.as_ref().is_some_and(|last| is_long(&last.value)) {
                self.lasts = false;
                self.cells.iter_mut().for_each(|(_, cell)| cell.last = None);
            }
            at = until;
        }
    }

    fn cell(&mut self, slot: i64) -> &mut Cell {
        let at = match self.cells.last() {
            Some((last, _)) if *last == slot => self.cells.len() - 1,
            // The clock was set, or frames of two moments were packed together.
            Some((last, _)) if *last > slot => {
                let found = self.cells.binary_search_by_key(&slot, |(slot, _)| *slot);
                found.unwrap_or_else(|at| {
                    make_room(&mut self.cells);
                    self.cells.insert(at, (slot, Cell::default()));
                    at
                })
            }
            _ => {
                push(&mut self.cells, (slot, Cell::default()));
                self.cells.len() - 1
            }
        };
        &mut self.cells[at].1
    }

    fn is_in(&mut self, group: u32) {
        match self.runs.last_mut() {
            Some((_, end)) if *end > group => {}
            Some((_, end)) if *end == group => *end += 1,
            _ => push(&mut self.runs, (group, group + 1)),
        }
    }

    fn samples(&self) -> u64 {
        self.cells.iter().map(|(_, cell)| cell.count).sum()
    }

    /// Makes cells wider until each has `least` samples on an average; without any when not even the
    /// widest have.
    fn widen(&mut self, least: u64) {
        let samples = self.samples();
        while let Some(at) = self.grain
            && samples / (self.cells.len().max(1) as u64) < least
        {
            let (Some(grain), Some(wider)) = (GRAINS.get(at), GRAINS.get(at + 1)) else {
                self.grain = None;
                self.cells = Vec::new();
                return;
            };
            let factor = wider / grain;
            let mut cells: Vec<(i64, Cell)> = Vec::new();
            for (slot, cell) in self.cells.drain(..) {
                match cells.last_mut() {
                    Some((last, merged)) if *last == slot.div_euclid(factor) => merged.merge(&cell),
                    _ => push(&mut cells, (slot.div_euclid(factor), cell)),
                }
            }
            self.cells = cells;
            self.grain = Some(at + 1);
        }
    }

    fn join_groups(&mut self) {
        let mut joined: Vec<(u32, u32)> = Vec::new();
        for (from, until) in self.runs.drain(..) {
            let (from, until) = (from / 2, until.div_ceil(2));
            match joined.last_mut() {
                Some((_, end)) if *end >= from => *end = until.max(*end),
                _ => push(&mut joined, (from, until)),
            }
        }
        self.runs = joined;
    }
}

/// Makes room for one more. Most tags have one or two cells, and one run: a list that begins with
/// room for four, as they do by themselves, takes several times what it holds.
fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(1 + list.len() / 2);
    }
}

fn push<T>(list: &mut Vec<T>, item: T) {
    make_room(list);
    list.push(item);
}

fn is_long(value: &Value) -> bool {
    match value {
        Value::Text(text) | Value::Json(text) => text.len() > MAX_LAST_BYTES,
        Value::Bytes(bytes) => bytes.len() > MAX_LAST_BYTES,
        _ => false,
    }
}

/// What was read of a segment so far.
pub(super) struct Tally {
    frames: Vec<FrameNote>,
    others: Vec<FrameNote>,
    places: HashMap<TagId, usize>,
    tracks: Vec<(TagId, Track)>,
    /// A group is two to the power of this many sample frames.
    shift: u32,
    cells: usize,
    runs: usize,
    /// Nothing is known of any tag.
    unknown: bool,
    wall: Option<(i64, i64)>,
    end: u64,
    scanner: Scanner,
    everything: TagSet,
}

impl Tally {
    /// Of a segment that begins with this frame.
    pub(super) fn new(first: u64) -> Self {
        Self {
            frames: Vec::new(),
            others: Vec::new(),
            places: HashMap::new(),
            tracks: Vec::new(),
            shift: 0,
            cells: 0,
            runs: 0,
            unknown: false,
            wall: None,
            end: first,
            scanner: Scanner::new(),
            everything: TagSet::all(),
        }
    }

    /// Takes the next frame.
    pub(super) fn take(&mut self, frame: &Frame<'_>, spot: Spot) {
        let header = &frame.header;
        self.end = spot.number.saturating_add(1);
        let wall = (header.wall.0.min(header.wall.1), header.wall.1.max(header.wall.0));
        let before = self.wall.unwrap_or(wall);
        self.wall = Some((before.0.min(wall.0), before.1.max(wall.1)));
        let note = FrameNote {
            spot,
            kind: frame.kind,
            first_seq: header.first_seq,
            count: header.count,
            wall,
        };
        if frame.kind != Kind::Samples {
            self.others.push(note);
            return;
        }
        let group = u32::try_from(self.frames.len() >> self.shift).unwrap_or(u32::MAX - 1);
        self.frames.push(note);
        if self.unknown {
            return;
        }
        let mut scanner = std::mem::take(&mut self.scanner);
        let everything = std::mem::replace(&mut self.everything, TagSet::all());
        let scanned = scanner.scan(frame, &everything, |run| self.add(run, group));
        self.scanner = scanner;
        self.everything = everything;
        if scanned.is_err() || self.tracks.len() > MAX_TAGS {
            self.give_up();
        }
        self.stay_within(MAX_CELLS, MAX_RUNS);
    }

    fn add(&mut self, run: &Run<'_>, group: u32) {
        let place = *self.places.entry(run.tag).or_insert_with(|| {
            self.tracks.push((run.tag, Track::default()));
            self.tracks.len() - 1
        });
        let Some((_, track)) = self.tracks.get_mut(place) else { return };
        let before = (track.cells.len(), track.runs.len());
        track.add(run);
        track.is_in(group);
        self.cells += track.cells.len() - before.0;
        self.runs += track.runs.len() - before.1;
    }

    fn give_up(&mut self) {
        self.unknown = true;
        self.tracks = Vec::new();
        self.places = HashMap::new();
        (self.cells, self.runs) = (0, 0);
    }

    fn stay_within(&mut self, cells: usize, runs: usize) {
        let mut least = 2;
        // Half, so that it does not begin again with the next frame.
        if self.cells > cells {
            while self.cells > cells / 2 {
                self.widen(least);
                least = least.saturating_mul(2);
            }
        }
        if self.runs > runs {
            while self.runs > (runs / 2).max(self.tracks.len()) && self.join_groups() {}
        }
    }

    /// Makes the cells of tags wider that have fewer than `least` samples in each.
    pub(super) fn widen(&mut self, least: u64) {
        self.tracks.iter_mut().for_each(|(_, track)| track.widen(least));
        self.cells = self.tracks.iter().map(|(_, track)| track.cells.len()).sum();
    }

    /// Makes groups of frames twice as large; `false` when one group holds all of them already.
    pub(super) fn join_groups(&mut self) -> bool {
        if self.frames.len() >> self.shift <= 1 {
            return false;
        }
        self.shift += 1;
        self.tracks.iter_mut().for_each(|(_, track)| track.join_groups());
        self.runs = self.tracks.iter().map(|(_, track)| track.runs.len()).sum();
        true
    }

    pub(super) const fn wall(&self) -> Option<(i64, i64)> {
        self.wall
    }

    pub(super) const fn end_frame(&self) -> u64 {
        self.end
    }

    pub(super) fn frames(&self) -> &[FrameNote] {
        &self.frames
    }

    pub(super) fn others(&self) -> &[FrameNote] {
        &self.others
    }

    pub(super) const fn shift(&self) -> u32 {
        self.shift
    }

    pub(super) const fn is_unknown(&self) -> bool {
        self.unknown
    }

    /// All tags in ascending order.
    pub(super) fn sorted(&self) -> Vec<(TagId, &Track)> {
        let mut sorted: Vec<_> = self.tracks.iter().map(|(tag, track)| (*tag, track)).collect();
        sorted.sort_unstable_by_key(|(tag, _)| *tag);
        sorted
    }

    pub(super) fn tags(&self, wanted: &[TagId]) -> Vec<(TagId, TagDigest)> {
        let known = |tag: &TagId| {
            if self.unknown {
                return unknown(self.frames.len()).map(|digest| (*tag, digest));
            }
            let (_, track) = self.tracks.get(*self.places.get(tag)?)?;
            Some((*tag, digest(track.clone(), self.shift, self.frames.len())))
        };
        wanted.iter().filter_map(known).collect()
    }
}

/// What is known of a tag of which nothing is known.
pub(super) fn unknown(frames: usize) -> Option<TagDigest> {
    #[expect(clippy::single_range_in_vec_init, reason = "one range is meant")]
    let all = vec![0..frames];
    (frames > 0).then_some(TagDigest { cells: Cells::Unknown, frames: all })
}

/// A track as it is shown.
pub(super) fn digest(track: Track, shift: u32, frames: usize) -> TagDigest {
    let place = |group: u32| {
        let place = u64::from(group) << shift.min(31);
        usize::try_from(place).unwrap_or(usize::MAX).min(frames)
    };
    let ranges = track.runs.iter().map(|(from, until)| place(*from)..place(*until));
    let ranges: Vec<Range<usize>> = ranges.filter(|range| !range.is_empty()).collect();
    let cells = match track.grain.and_then(|at| GRAINS.get(at)).copied() {
        Some(grain) => Cells::Every {
            grain,
            lasts: track.lasts,
            cells: track
                .cells
                .into_iter()
                .map(|(slot, cell)| (slot.saturating_mul(grain), cell))
                .collect(),
        },
        None => Cells::Unknown,
    };
    TagDigest { cells, frames: ranges }
}

#[cfg(test)]
mod tests {
    use super::push;

    #[test]
    fn a_list_takes_little_more_than_it_holds_and_still_grows_in_few_steps() {
        let (mut list, mut steps) = (Vec::new(), 0);
        for at in 0..10_000_usize {
            let before = list.capacity();
            push(&mut list, at);
            steps += usize::from(list.capacity() != before);
            assert!(list.capacity() <= list.len() + list.len() / 2, "{at}");
        }
        assert!(steps < 30, "{steps}");
    }
}
