//! What to read next: the plan's blocks, and what a device refused of them.
//!
//! A block that the device refuses because one of its addresses does not exist is halved until the
//! bad ones stand alone, at the widest gap first, because that is where merging went wrong. What
//! stands alone and is refused rests and is tried again now and then; the rest is read as before.
//! From time to time the whole block is tried, so that a device that was only being loaded does
//! not stay in pieces.
//!
//! # Invariants
//! - One cycle offers every tag exactly once for good: answered, refused or resting.
//! - A cycle halves at most [`MAX_HALVINGS`] times and tries at most [`MAX_RETRIES`] resting parts
//!   again, so no device can make polls endless.
//! - Nothing here knows a connection or a clock; time comes in.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::Reason;
use tokio::time::Instant;

use crate::link::{ILLEGAL_ADDRESS, ILLEGAL_FUNCTION, ILLEGAL_VALUE};
use crate::plan::{Block, Plan, Span, hull};

/// Halvings per cycle. Isolating one bad address among 125 takes at most 7; this many resolve nine
/// of them at once, and cost a device that answers in 5 ms about 0.6 s.
pub(crate) const MAX_HALVINGS: usize = 64;
/// Resting parts that a cycle tries again. A device that refused a thousand tags at once would
/// otherwise be asked for all of them in the same poll.
pub(crate) const MAX_RETRIES: usize = 16;
/// How long a refused part rests at first: a person who corrects a register map is still looking.
const FIRST_REST: Duration = Duration::from_secs(10);
/// How long it rests at most.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// Why a part rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Refused with this exception.
    Refused(u8),
    /// Asking for it cost the connection, more than once, while others were answered.
    Poison(Reason),
}

/// What to do next in a cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read this block, and tell how it went.
    Read(Block),
    /// These spans rest: nothing is asked, nothing needs to be told.
    Resting(Range<usize>, Cause),
}

/// What a refusal means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The block will be offered again in smaller pieces in this cycle.
    Smaller,
    /// These spans are refused in this cycle.
    Final(Range<usize>),
}

/// The blocks of one device.
#[derive(Debug)]
pub(crate) struct Blocks {
    spans: Arc<[Span]>,
    planned: Vec<Planned>,
    block: usize,
    part: usize,
    whole_refused: bool,
    halvings: usize,
    retries: usize,
    now: Instant,
}

#[derive(Debug)]
struct Planned {
    whole: Block,
    /// The whole block, or the pieces that it was halved into.
    parts: Vec<Part>,
    /// When the whole is tried again; means nothing while it is whole.
    retry: Pause,
}

#[derive(Debug)]
struct Part {
    block: Block,
    rest: Option<(Pause, Cause)>,
    strikes: u8,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    length: Duration,
}

impl Pause {
    fn first(now: Instant) -> Self {
        Self { until: now + FIRST_REST, length: FIRST_REST }
    }

    fn longer(self, now: Instant) -> Self {
        let length = (self.length * 2).min(LONGEST_REST);
        Self { until: now + length, length }
    }
}

impl Part {
    const fn new(block: Block) -> Self {
        Self { block, rest: None, strikes: 0 }
    }

    /// Tells whether it had rested before.
    fn put_to_rest(&mut self, cause: Cause, now: Instant) -> bool {
        let before = self.rest;
        let pause = before.map_or_else(|| Pause::first(now), |(pause, _)| pause.longer(now));
        self.rest = Some((pause, cause));
        before.is_some()
    }
}

impl Blocks {
    pub(crate) fn new(plan: &Plan, now: Instant) -> Self {
        let planned = plan.blocks().iter().map(|block| Planned {
            whole: block.clone(),
            parts: vec![Part::new(block.clone())],
            retry: Pause::first(now),
        });
        Self {
            spans: plan.shared_spans(),
            planned: planned.collect(),
            block: 0,
            part: 0,
            whole_refused: false,
            halvings: 0,
            retries: 0,
            now,
        }
    }

    /// The spans of a block or of a step.
    pub(crate) fn spans(&self, range: &Range<usize>) -> &[Span] {
        self.spans.get(range.clone()).unwrap_or_default()
    }

    /// Starts a cycle.
    pub(crate) fn begin(&mut self, now: Instant) {
        (self.block, self.part, self.whole_refused) = (0, 0, false);
        (self.halvings, self.retries, self.now) = (0, 0, now);
    }

    /// Wakes everything that rests: the device was away and may have come back another one. What
    /// is refused again rests as if for the first time.
    pub(crate) fn wake(&mut self, now: Instant) {
        let awake = Pause { until: now, length: FIRST_REST / 2 };
        for planned in &mut self.planned {
            planned.retry = awake;
            for part in &mut planned.parts {
                if let Some((pause, _)) = &mut part.rest {
                    *pause = awake;
                }
            }
        }
    }

    /// What to do next; `None` when the cycle is complete. A block is offered again until it is
    /// told how reading it went.
    pub(crate) fn next(&mut self) -> Option<Step> {
        loop {
            let planned = self.planned.get(self.block)?;
            if self.is_trying_whole() {
                return Some(Step::Read(planned.whole.clone()));
            }
            let Some(part) = planned.parts.get(self.part) else {
                self.next_block();
                continue;
            };
            if let Some((pause, cause)) = part.rest
                && (pause.until > self.now || self.retries >= MAX_RETRIES)
            {
                let spans = part.block.spans.clone();
                self.part += 1;
                return Some(Step::Resting(spans, cause));
            }
            return Some(Step::Read(part.block.clone()));
        }
    }

    /// What to do for the first part that holds a wanted tag, outside of any cycle: what rests is
    /// left alone, and so is what cost the connection when it was asked for last.
    pub(crate) fn holding(&self, wanted: impl Fn(usize) -> bool) -> Option<Step> {
        let mut parts = self.planned.iter().flat_map(|planned| &planned.parts);
        let part = parts.find(|part| {
            let spans = self.spans(&part.block.spans);
            spans.iter().any(|span| wanted(span.tag()))
        })?;
        let cause = part.rest.map(|(_, cause)| cause);
        let suspect = (part.strikes > 0).then_some(Cause::Poison(Reason::Timeout));
        Some(match cause.or(suspect) {
            Some(cause) => Step::Resting(part.block.spans.clone(), cause),
            None => Step::Read(part.block.clone()),
        })
    }

    /// The block offered last was answered.
    pub(crate) fn answered(&mut self) {
        let trying_whole = self.is_trying_whole();
        let now = self.now;
        let Some(planned) = self.planned.get_mut(self.block) else { return };
        if trying_whole {
            planned.parts = vec![Part::new(planned.whole.clone())];
            self.next_block();
        } else if let Some(part) = planned.parts.get_mut(self.part) {
            part.strikes = 0;
            if part.rest.take().is_some() {
                // What was refused exists now; others may as well.
                planned.retry = Pause { until: now, length: FIRST_REST };
            }
            self.part += 1;
        }
    }

    /// The block offered last was refused with an exception.
    pub(crate) fn refused(&mut self, code: u8) -> Refusal {
        let trying_whole = self.is_trying_whole();
        let (spans, now) = (Arc::clone(&self.spans), self.now);
        let Some(planned) = self.planned.get_mut(self.block) else { return Refusal::Final(0..0) };
        if trying_whole {
            planned.retry = planned.retry.longer(now);
            self.whole_refused = true;
            return Refusal::Smaller;
        }
        let Some(part) = planned.parts.get_mut(self.part) else { return Refusal::Final(0..0) };
        let refused = part.block.spans.clone();
        let by_size = matches!(code, ILLEGAL_ADDRESS | ILLEGAL_VALUE);
        let halves = if by_size { halve(&spans, &refused) } else { None };
        match halves {
            Some((left, right)) if self.halvings < MAX_HALVINGS => {
                self.halvings += 1;
                if planned.parts.len() == 1 {
                    planned.retry = Pause::first(now);
                }
                let halves = [Part::new(left), Part::new(right)];
                planned.parts.splice(self.part..=self.part, halves);
                self.whole_refused = true;
                return Refusal::Smaller;
            }
            // Out of halvings: the next cycle goes on.
            Some(_) => {}
            None if by_size || code == ILLEGAL_FUNCTION => {
                self.retries += usize::from(part.put_to_rest(Cause::Refused(code), now));
            }
            // A state of the device that may end at any moment.
            None => {}
        }
        self.part += 1;
        Refusal::Final(refused)
    }

    /// Asking for the block offered last cost the connection, although the device answers other
    /// requests. The second time in a row the block is put to rest and its spans are returned.
    pub(crate) fn poisoned(&mut self, reason: Reason) -> Option<Range<usize>> {
        let trying_whole = self.is_trying_whole();
        let now = self.now;
        let planned = self.planned.get_mut(self.block)?;
        if trying_whole {
            planned.retry = planned.retry.longer(now);
            self.whole_refused = true;
            return None;
        }
        let part = planned.parts.get_mut(self.part)?;
        part.strikes = part.strikes.saturating_add(1);
        if part.strikes < 2 {
            return None;
        }
        if part.put_to_rest(Cause::Poison(reason), now) {
            // Dear: a time-out and a connection. One such trial per cycle is enough.
            self.retries = MAX_RETRIES;
        }
        self.part += 1;
        Some(part.block.spans.clone())
    }

    /// Leaves the block offered last for this cycle.
    pub(crate) fn skip(&mut self, cause: Cause) {
        let now = self.now;
        if self.is_trying_whole() {
            self.whole_refused = true;
        } else if let Some(planned) = self.planned.get_mut(self.block)
            && let Some(part) = planned.parts.get_mut(self.part)
        {
            part.put_to_rest(cause, now);
            self.part += 1;
        }
    }

    /// The device failed at the block offered last before anything was answered: next time another
    /// block goes first, in case it is this one that the device cannot bear.
    pub(crate) fn put_last(&mut self) {
        if self.block < self.planned.len() {
            self.planned[self.block..].rotate_left(1);
        }
    }

    fn is_trying_whole(&self) -> bool {
        self.planned.get(self.block).is_some_and(|planned| {
            self.part == 0
                && !self.whole_refused
                && planned.parts.len() > 1
                && planned.retry.until <= self.now
        })
    }

    fn next_block(&mut self) {
        self.block += 1;
        self.part = 0;
        self.whole_refused = false;
    }
}

/// Two blocks instead of one, cut at the widest gap and there as near to the middle as possible;
/// `None` when all spans read the same addresses.
fn halve(spans: &[Span], range: &Range<usize>) -> Option<(Block, Block)> {
    let run = spans.get(range.clone())?;
    let middle = run.len() / 2;
    let mut end = 0;
    let mut best: Option<(u32, usize, usize)> = None;
    for (at, span) in run.iter().enumerate() {
        if at > 0 && run.get(at - 1).is_some_and(|before| !before.is_beside(span)) {
            let gap = u32::from(span.start).saturating_sub(end);
            let centred = usize::MAX - at.abs_diff(middle);
            best = best.max(Some((gap, centred, at)));
        }
        end = end.max(span.end());
    }
    let cut = range.start + best?.2;
    Some((hull(spans, range.start..cut)?, hull(spans, cut..range.end)?))
}

#[cfg(test)]
mod tests;
