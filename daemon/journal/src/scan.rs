//! Reading a whole segment, whatever it holds.
//!
//! # Invariants
//! - No I/O and no panic: bytes in, findings out.
//! - A frame counts only in its place: epoch, number and, but for the first after a hole, the hash
//!   of the frame before it must fit. What a recycled file held before never does.
//! - A commit that stands in the wrong place costs no other: of commits behind damage the longest
//!   sequence whose numbers rise counts.
//! - A hole ends where the next intact frame or the next commit's mark says that the chain goes on.

use serde::{Deserialize, Serialize};

use crate::frame::{self, FrameError, MAGIC};
use crate::segment::{BLOCK, BLOCK_OFFSET, MARK_BYTES, Mark, Tail, align};
use crate::{Epoch, Frame, Position};

/// Consecutive frames that lie side by side in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first frame's number.
    pub first: u64,
    /// How many frames.
    pub frames: u64,
    /// Offset of the first frame in the segment.
    pub offset: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Wall-clock range.
    pub wall: (i64, i64),
}

impl Run {
    pub(crate) const fn end(&self) -> u64 {
        self.first.saturating_add(self.frames)
    }
}

/// Frames that were there and are not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hole {
    pub epoch: Epoch,
    /// Where the chain stops.
    pub before: Tail,
    /// Where it goes on.
    pub after: Tail,
    /// Wall-clock range as far as the neighbours tell.
    pub wall: (i64, i64),
}

/// The last commit of a segment, which a power cut may have torn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastCommit {
    /// Offset of its mark.
    pub offset: u64,
    /// The mark.
    pub mark: Mark,
}

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Findings {
    pub runs: Vec<Run>,
    pub holes: Vec<Hole>,
    /// The place after the last frame that was found, or that the last mark proves.
    pub tail: Tail,
    /// Where a next commit goes.
    pub next_offset: u64,
    /// The last commit, when its mark is intact.
    pub last: Option<LastCommit>,
    /// Frames that the last commit's mark names and that are not there.
    pub missing_at_end: u64,
}

/// Why a segment cannot be judged: a frame that only a later version can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NeedsNewer {
    pub needs: u8,
    pub frame: u64,
}

/// Which segment, and where its chain begins and, when it is sealed, ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expect {
    pub epoch: Epoch,
    pub segment: u64,
    pub start: Tail,
    pub end: Option<Tail>,
}

struct Walk<'a, F> {
    data: &'a [u8],
    expect: Expect,
    tail: Tail,
    /// Where the chain stopped, when it did.
    broken: Option<Tail>,
    wall_seen: i64,
    runs: Vec<Run>,
    holes: Vec<Hole>,
    visit: F,
}

/// Reads `data`, a segment from its first byte, and shows every frame in order to `visit`.
///
/// # Errors
/// When an intact frame needs a newer reader.
pub(crate) fn scan<F: FnMut(&Frame<'_>)>(
    data: &[u8],
    expect: Expect,
    visit: F,
) -> Result<Findings, NeedsNewer> {
    let mut walk = Walk {
        data,
        expect,
        tail: expect.start,
        broken: None,
        wall_seen: 0,
        runs: Vec::new(),
        holes: Vec::new(),
        visit,
    };
    let mut at = BLOCK_OFFSET;
    let mut last = None;
    let mut missing_at_end = 0;
    while !walk.is_complete() {
        let Some((offset, mark)) = walk.next_mark(at) else {
            // The mark is spoilt or there is none: the chain itself may still prove frames.
            let read = walk.frames(at + MARK_BYTES as u64, u64::MAX, walk.tail.frame, None)?;
            if read == 0 {
                break;
            }
            at = align(at + MARK_BYTES as u64 + read);
            last = None;
            continue;
        };
        if offset > at && walk.broken.is_none() && mark.start.frame > walk.tail.frame {
            let read = walk.frames(
                at + MARK_BYTES as u64,
                offset.saturating_sub(at + MARK_BYTES as u64),
                walk.tail.frame,
                None,
            )?;
            if read > 0 {
                at = align(at + MARK_BYTES as u64 + read);
                continue;
            }
        }
        walk.go_on_at(mark.start, mark.wall.0);
        let end = mark.start.frame.saturating_add(u64::from(mark.frames));
        let bytes = u64::from(mark.bytes);
        walk.frames(offset + MARK_BYTES as u64, bytes, mark.start.frame, Some(end))?;
        last = Some(LastCommit { offset, mark });
        missing_at_end = end.saturating_sub(walk.tail.frame);
        at = align(offset + MARK_BYTES as u64 + bytes);
    }
    if let Some(end) = expect.end {
        walk.go_on_at(end, walk.wall_seen);
    } else if last.is_none() {
        missing_at_end = 0;
    }
    Ok(Findings {
        runs: walk.runs,
        holes: walk.holes,
        tail: walk.tail,
        next_offset: at,
        last,
        missing_at_end,
    })
}

impl<F: FnMut(&Frame<'_>)> Walk<'_, F> {
    fn is_complete(&self) -> bool {
        self.expect.end.is_some_and(|end| self.tail.frame >= end.frame)
    }

    /// The live mark with which the segment goes on at or after `at`.
    fn next_mark(&self, at: u64) -> Option<(u64, Mark)> {
        let mut marks = self.live_marks(at);
        let first = marks.next()?;
        if first.1.start.frame == self.tail.frame {
            return Some(first);
        }
        // Behind damage a commit may stand that a write put into the wrong place. Commits follow
        // each other in the order of their numbers, so it is the one that most others contradict.
        let marks: Vec<_> = std::iter::once(first).chain(marks).collect();
        let numbers: Vec<u64> = marks.iter().map(|(_, mark)| mark.start.frame).collect();
        first_of_longest_rise(&numbers).and_then(|at| marks.get(at).copied())
    }

    /// The live marks on block boundaries at or after `at`.
    fn live_marks(&self, at: u64) -> impl Iterator<Item = (u64, Mark)> {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let blocks = self.data.get(start..).unwrap_or_default().chunks(BLOCK);
        let offsets = (at..).step_by(BLOCK);
        offsets.zip(blocks).filter_map(|(offset, block)| {
            let mark = Mark::decode(block)?;
            let live = mark.epoch == self.expect.epoch
                && mark.segment == self.expect.segment
                && mark.start.frame >= self.tail.frame
                && self.expect.end.is_none_or(|end| mark.start.frame < end.frame);
            live.then_some((offset, mark))
        })
    }

    /// Reads frames from `offset` on; returns how many bytes the chain covers from there.
    fn frames(
        &mut self,
        offset: u64,
        bytes: u64,
        first: u64,
        end: Option<u64>,
    ) -> Result<u64, NeedsNewer> {
        let limit = usize::try_from(offset.saturating_add(bytes)).unwrap_or(usize::MAX);
        let data = &self.data[..limit.min(self.data.len())];
        let Ok(start) = usize::try_from(offset) else { return Ok(0) };
        let mut at = start;
        let mut run: Option<Run> = None;
        let mut next = first;
        while end.is_none_or(|end| next < end) && !self.is_complete() {
            let Some(rest) = data.get(at..).filter(|rest| !rest.is_empty()) else { break };
            match self.fitting(rest, next, end)? {
                Some(found) => {
                    if found.header.number > next || self.broken.is_some() {
                        self.runs.extend(run.take());
                    }
                    next = found.header.number.saturating_add(1);
                    self.accept(&found, at as u64, &mut run);
                    at += found.bytes.len();
                }
                // Without a mark nothing but the unbroken chain proves a frame.
                None if end.is_none() => break,
                None => {
                    self.runs.extend(run.take());
                    self.broken.get_or_insert(self.tail);
                    match next_magic(data, at + 1) {
                        Some(found) => at = found,
                        None => break,
                    }
                }
            }
        }
        self.runs.extend(run);
        Ok((at - start) as u64)
    }

    /// The frame at the start of `rest`, when it is intact and stands in its place.
    fn fitting<'b>(
        &self,
        rest: &'b [u8],
        next: u64,
        end: Option<u64>,
    ) -> Result<Option<Frame<'b>>, NeedsNewer> {
        let found = match frame::decode(rest) {
            Ok(found) => found,
            // Outside a commit it is a leftover of what the file was before.
            Err(FrameError::NeedsNewer { needs, .. }) if end.is_some() => {
                return Err(NeedsNewer { needs, frame: next });
            }
            Err(_) => return Ok(None),
        };
        let header = &found.header;
        let chain = self.broken.unwrap_or(self.tail);
        let goes_on = header.number == chain.frame
            && header.first_seq == chain.seq
            && header.previous == chain.hash;
        let resumes = self.broken.is_some()
            && header.number > chain.frame
            && header.number >= next
            && end.is_some_and(|end| header.number < end);
        let in_place = header.epoch == self.expect.epoch && (goes_on || resumes);
        Ok(in_place.then_some(found))
    }

    fn accept(&mut self, found: &Frame<'_>, offset: u64, run: &mut Option<Run>) {
        let header = &found.header;
        self.go_on_at(
            Tail { frame: header.number, seq: header.first_seq, hash: header.previous },
            header.wall.0,
        );
        let run = run.get_or_insert(Run {
            first: header.number,
            frames: 0,
            offset,
            bytes: 0,
            wall: header.wall,
        });
        run.frames += 1;
        run.bytes += found.bytes.len() as u64;
        run.wall = (run.wall.0.min(header.wall.0), run.wall.1.max(header.wall.1));
        self.wall_seen = header.wall.1;
        self.tail = Tail::after(Position {
            frame: header.number,
            next_seq: header.next_seq(),
            hash: found.hash(),
        });
        (self.visit)(found);
    }

    /// Closes the hole before `there`, when there is one.
    fn go_on_at(&mut self, there: Tail, wall: i64) {
        let before = self.broken.take().unwrap_or(self.tail);
        if there.frame <= before.frame {
            self.tail = before;
            return;
        }
        self.holes.push(Hole {
            epoch: self.expect.epoch,
            before,
            after: there,
            wall: (self.wall_seen.min(wall), wall),
        });
        self.tail = there;
    }
}

/// Where the longest sequence begins that rises from each number to the next it takes.
fn first_of_longest_rise(numbers: &[u64]) -> Option<usize> {
    // For each length, the place of the smallest number that ends a rise of it, and for each
    // place where the rise that it ends began.
    let mut ends: Vec<usize> = Vec::new();
    let mut begins: Vec<usize> = Vec::with_capacity(numbers.len());
    for (at, number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|end| numbers.get(*end).is_some_and(|it| it < number));
        let before = length.checked_sub(1).and_then(|it| ends.get(it));
        begins.push(before.and_then(|it| begins.get(*it)).copied().unwrap_or(at));
        match ends.get_mut(length) {
            // Of two that are the same the first counts: more stands behind it.
            Some(end) if numbers.get(*end) == Some(number) => {}
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    ends.last().and_then(|end| begins.get(*end)).copied()
}

fn next_magic(data: &[u8], from: usize) -> Option<usize> {
    let rest = data.get(from..)?;
    rest.windows(MAGIC.len()).position(|window| window == MAGIC).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_most_others_contradict_does_not_begin_the_rise() {
        for (numbers, first) in [
            (&[][..], None),
            (&[5], Some(0)),
            (&[40, 50, 60], Some(0)),
            (&[60, 36, 40, 50, 60], Some(1)),
            (&[40, 50, 36, 60], Some(0)),
            (&[60, 36], Some(1)),
            (&[7, 7, 7], Some(0)),
        ] {
            assert_eq!(first_of_longest_rise(numbers), first, "{numbers:?}");
        }
    }
}
