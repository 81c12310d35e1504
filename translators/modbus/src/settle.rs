//! Which RTU requests may be sent after one went unanswered. Pure.
//!
//! An RTU answer does not say what it answers. An answer that comes after its time-out looks like
//! the answer to any request of the same unit with the same function and byte count, in the next
//! connection as well as in this one. So a unit that owes an answer is *unsettled*, and what it
//! says next must be told from what it owes.
//!
//! # Invariants
//! - While a unit owes an answer, no request whose answer would look the same is asked of it, and
//!   an exception with the function of an owed answer is not believed.
//! - A unit that answers has answered or given up everything that it was asked before: slaves, and
//!   the lines to them, keep the order. So an answer that looks like none that is owed settles the
//!   unit, and an owed answer that arrives settles all that was asked before it.
//! - Nothing arrives later than the rest of [`rest`] after its time-out in which nothing else was
//!   asked. That is an assumption, and the only one about time.
//! - What is owed survives reconnects; a unit owes at most [`MOST`] answers.
//!
//! A request counts as owed from [`Settle::asked`] until its answer is there: whoever gives up
//! waiting, or is dropped while waiting, has nothing to say.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::rtu::Shape;
use crate::spec::UnitId;

/// Answers that a unit may owe before it is left alone until its rest is over.
const MOST: usize = 8;
/// The least rest: serial servers hold answers back for about a second.
const LEAST_REST: Duration = Duration::from_secs(2);
/// A slave that missed the time-out by more than this factor is not waited for any longer.
const REST_FACTOR: u32 = 4;

/// After how long without a request an unanswered one is taken for lost.
fn rest(timeout: Duration) -> Duration {
    timeout.saturating_mul(REST_FACTOR).max(LEAST_REST)
}

/// What the units of one line owe.
#[derive(Debug, Default)]
pub(crate) struct Settle(BTreeMap<UnitId, Owed>);

#[derive(Debug)]
struct Owed {
    /// In the order in which they were asked for; no two look the same.
    shapes: Vec<Shape>,
    rest_ends: Instant,
}

/// Whether a request may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its answer would be told from all others.
    Ask,
    /// Its answer could be mistaken. Ask what has another shape ([`part`]), or wait.
    Other {
        /// When it may be asked, provided that nothing else is asked until then.
        or_from: Instant,
    },
    /// The unit owes too much: it is left alone until then.
    NotBefore(Instant),
}

impl Settle {
    /// Whether a request whose answer has this shape may be asked now.
    pub(crate) fn may_ask(&mut self, unit: UnitId, shape: Shape, now: Instant) -> Verdict {
        self.0.retain(|_, owed| now < owed.rest_ends);
        match self.0.get(&unit) {
            Some(owed) if owed.shapes.len() >= MOST => Verdict::NotBefore(owed.rest_ends),
            Some(owed) if owed.shapes.contains(&shape) => {
                Verdict::Other { or_from: owed.rest_ends }
            }
            _ => Verdict::Ask,
        }
    }

    /// Whether nothing is owed by the unit.
    pub(crate) fn is_settled(&self, unit: UnitId, now: Instant) -> bool {
        self.0.get(&unit).is_none_or(|owed| now >= owed.rest_ends)
    }

    /// A request that may be asked is about to be sent.
    pub(crate) fn asked(&mut self, unit: UnitId, shape: Shape, now: Instant, timeout: Duration) {
        let rest_ends = now + timeout + rest(timeout);
        let owed = self.0.entry(unit).or_insert(Owed { shapes: Vec::new(), rest_ends });
        // A later rest may be shorter than one that was promised to an earlier request.
        owed.rest_ends = owed.rest_ends.max(rest_ends);
        if !owed.shapes.contains(&shape) && owed.shapes.len() < MOST {
            owed.shapes.push(shape);
        }
    }

    /// The request that was asked last has its answer.
    pub(crate) fn answered(&mut self, unit: UnitId) {
        self.0.remove(&unit);
    }

    /// The request that was asked last seems to be answered by an exception. Returns whether that
    /// is to be believed; if not, the request stays unanswered.
    pub(crate) fn refused(&mut self, unit: UnitId, shape: Shape) -> bool {
        let function = shape.asked_function();
        let with_it = |owed: &Owed| {
            owed.shapes.iter().filter(|shape| shape.asked_function() == function).count()
        };
        if self.0.get(&unit).is_none_or(|owed| with_it(owed) <= 1) {
            self.answered(unit);
            return true;
        }
        self.saw(unit, |shape| shape.asked_function() == function);
        false
    }

    /// An answer was thrown away that nobody waited for.
    pub(crate) fn saw_stale(&mut self, unit: UnitId, stale: Shape) {
        if stale.is_exception() {
            // It is that of the first request with its function, or of a later one.
            self.saw(unit, |shape| shape.asked_function() == stale.asked_function());
        } else {
            self.saw(unit, |shape| shape == stale);
        }
    }

    /// The first owed answer like this one has come, and with it the end of all before.
    fn saw(&mut self, unit: UnitId, is_it: impl Fn(Shape) -> bool) {
        let Some(owed) = self.0.get_mut(&unit) else { return };
        if let Some(at) = owed.shapes.iter().position(|shape| is_it(*shape)) {
            owed.shapes.drain(..=at);
        }
        if owed.shapes.is_empty() {
            self.0.remove(&unit);
        }
    }
}

/// How many cells to read from the start of a block so that the answer has a shape that `may_ask`
/// says yes to; the largest such number below `count`. `None` when there is none.
pub(crate) fn part(
    function: u8,
    count: u16,
    mut may_ask: impl FnMut(Shape) -> bool,
) -> Option<u16> {
    let smaller = |count: u16| match function {
        // Bits travel in whole bytes: the next shape is one byte shorter.
        1 | 2 => count.div_ceil(8).saturating_sub(1) * 8,
        _ => count.saturating_sub(1),
    };
    std::iter::successors(Some(smaller(count)), |count| Some(smaller(*count)))
        .take_while(|count| *count > 0)
        .take(MOST)
        .find(|count| may_ask(Shape::read(function, *count)))
}

#[cfg(test)]
mod tests;
