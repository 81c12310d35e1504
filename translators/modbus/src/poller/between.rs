//! Reading between polls what somebody asks for now.
//!
//! # Invariants
//! - The polls go first: nothing is asked between them that may not end before the next one, and
//!   what cannot be asked before it is answered by it.
//! - It goes through the device's seat, so it keeps the bus' turns, pauses and connections, leaves
//!   alone a unit that is left alone, and its probes cost the same budget.
//! - One request at a time is asked so on a bus, for at most [`SHARE_PERCENT`] of its time.
//! - What the polls know of the device counts: parts that it refuses are not asked for, and one
//!   that was not answered is not asked again before the back-off ends.
//! - Nothing of it is a sample: the book of slots is the polls' alone.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::grid::Backoff;
use tidegate_translator::{Fresh, Quality, Reason, Sample, Value};
use tokio::time::{Instant, sleep_until};

use super::{Poller, decode, watched};
use crate::blocks::{Cause, Step};
use crate::bus::{Absence, Asked};
use crate::link::{GATEWAY_PATH, GATEWAY_TARGET, LinkError, Reply};
use crate::plan::Block;

/// A bus that is asked for nothing else keeps three quarters of its time for polls, which overrun
/// beyond nine tenths; the largest answer at 9,600 baud (0.3 s) is then followed by 0.9 s of rest.
pub(crate) const SHARE_PERCENT: u32 = 25;

/// What is known of reading between polls.
pub(crate) struct Between {
    backoff: Backoff,
    /// Nothing is asked before, and why: the last request was not answered.
    rest: Option<(Instant, Absence)>,
    /// How long the longest request has taken since the last poll began.
    longest: Duration,
}

impl Between {
    pub(crate) const fn new(backoff: Backoff) -> Self {
        Self { backoff, rest: None, longest: Duration::ZERO }
    }

    /// A poll begins.
    pub(super) const fn begin(&mut self) {
        self.longest = Duration::ZERO;
    }

    /// The device answered.
    pub(super) fn heard(&mut self) {
        self.rest = None;
        self.backoff.reset();
    }

    /// A poll was not answered: the device is left alone until then.
    pub(super) fn left_alone(&mut self, until: Instant, why: Absence) {
        self.rest = Some((until, why));
    }

    /// A request took so long.
    pub(super) fn took(&mut self, took: Duration) {
        self.longest = self.longest.max(took);
    }
}

impl Poller {
    /// Waits for the next poll, and reads meanwhile what somebody asks for.
    pub(super) async fn until_due(&mut self, due: Instant) {
        loop {
            let now = Instant::now();
            let asked = self.questions.take(now);
            if now >= due {
                return;
            }
            let wake = self.questions.next_deadline().map_or(due, |at| at.min(due));
            if asked {
                let rest = self.between.rest.as_ref().filter(|(until, _)| now < *until);
                let goes_on = match rest {
                    Some((until, why)) if *until < due => {
                        let why = why.clone();
                        self.refuse(&why);
                        true
                    }
                    // The poll comes first.
                    Some(_) => false,
                    None => now + self.between.longest < due && self.read_one(due).await,
                };
                if goes_on {
                    continue;
                }
            }
            let questions = &mut self.questions;
            let next = async {
                tokio::select! {
                    biased;
                    () = sleep_until(wake) => {}
                    () = questions.arrive() => {}
                }
            };
            watched(&mut self.book, &mut self.watch, next).await;
        }
    }

    /// Reads one block of what is asked for; tells whether there was time for it.
    async fn read_one(&mut self, due: Instant) -> bool {
        let bus = Arc::clone(self.seat.bus());
        let latest = due.checked_sub(self.between.longest).unwrap_or(due);
        let allowed = watched(&mut self.book, &mut self.watch, bus.aside(latest)).await;
        let Some(mut allowed) = allowed else { return false };
        let (book, questions) = (&self.book, &self.questions);
        let wanted = |tag| book.id(tag).is_some_and(|id| questions.want(id));
        let block = match self.blocks.holding(wanted) {
            // Nobody waits any more, or for nothing that is read here.
            None => return false,
            Some(Step::Resting(spans, cause)) => {
                self.refuse_spans(&spans, cause);
                return true;
            }
            Some(Step::Read(block)) => block,
        };
        let _poll = bus.poll();
        let begun = Instant::now();
        self.ask_for(&block, due).await;
        let now = Instant::now();
        allowed.spent(now, now - begun);
        true
    }

    /// Asks for a block, a second time where a peer only closed an idle connection.
    async fn ask_for(&mut self, block: &Block, due: Instant) {
        let busy_until = due.min(Instant::now() + self.spec.timeout);
        let mut repeated = false;
        loop {
            let asked = match self.transact(block, busy_until).await {
                Ok(asked) => asked,
                Err(absence) => return self.refuse(&absence),
            };
            match asked.outcome {
                Ok(reply) => return self.tell(block, &reply),
                Err(LinkError::Refused { code })
                    if !matches!(code, GATEWAY_PATH | GATEWAY_TARGET) =>
                {
                    return self.refuse_spans(&block.spans, Cause::Refused(code));
                }
                Err(LinkError::Closed { .. }) if asked.met_proven && !repeated => repeated = true,
                Err(ref error) => return self.unanswered(error, &asked),
            }
        }
    }

    /// Gives what an answer holds to those who ask for it.
    fn tell(&mut self, block: &Block, reply: &Reply) {
        let acquired = self.book.now();
        for span in self.blocks.spans(&block.spans) {
            let Some(tag) = self.spec.tags.get(span.tag()) else { continue };
            let Some(id) = self.book.id(span.tag()).filter(|id| self.questions.want(*id)) else {
                continue;
            };
            let read = decode(tag, span, block, reply, |value: Value, quality: Quality| Sample {
                quality,
                ..Sample::good(id, acquired, value)
            });
            if let Some(sample) = read {
                self.questions.answer(&Fresh { sample, error: None });
            }
        }
    }

    /// Nothing came back.
    fn unanswered(&mut self, error: &LinkError, asked: &Asked) {
        let why = Absence { reason: error.reason(), status: error.status(), line: error.line() };
        if !error.is_of_link() {
            self.between.rest = Some((Instant::now() + self.between.backoff.next(), why.clone()));
            if !asked.was_trusted && !self.seat.is_healthy() {
                // A probe in vain, as one of a poll.
                self.seat.give_up(why.clone(), self.spec.backoff);
            }
        }
        self.refuse(&why);
    }

    /// Whoever waits is told that nothing is answered.
    pub(super) fn refuse(&mut self, why: &Absence) {
        if !self.questions.is_empty() {
            self.questions.fail(self.book.now(), why.reason, why.status, &why.line);
        }
    }

    /// Whoever waits for these tags is told why they are not read.
    pub(super) fn refuse_spans(&mut self, spans: &Range<usize>, cause: Cause) {
        if self.questions.is_empty() {
            return;
        }
        let now = self.book.now();
        let (reason, status) = match cause {
            Cause::Refused(code) => (Reason::Refused, u32::from(code)),
            Cause::Poison(reason) => (reason, 0),
        };
        for span in self.blocks.spans(spans) {
            let Some(id) = self.book.id(span.tag()).filter(|id| self.questions.want(*id)) else {
                continue;
            };
            let error = self.describe(span, cause);
            self.questions.answer(&Fresh::failed(id, now, reason, status, error));
        }
    }
}
