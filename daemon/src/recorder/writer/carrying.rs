//! Carrying a backlog into a new epoch while the recorder lives on.
//!
//! # Invariants
//! - Between two steps the recorder shows a sign of life and does what it is asked.
//! - Newer samples wait in the queue until all is carried, so that they stand behind it; what the
//!   queue cannot take is counted. Neither steps that keep failing nor a stop make them wait for
//!   ever: to be recorded is worth more than to stand in order.

use std::time::Duration;

use tidegate_journal::{Epoch, Position};
use tokio::time::Instant;

use super::{REOPEN, Writer};
use crate::supervise::Pulse;

/// Steps have failed for some seconds when the next one waits this long.
const FAILS: Duration = Duration::from_secs(4);

/// What a stop waits for steps, within the supervisor's 10 s for this stage.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// When the steps of a carry-over come.
#[derive(Debug)]
pub(super) struct Carrying {
    at: Instant,
    /// How long the step after the next failure waits.
    wait: Duration,
    /// A fork that came meanwhile: what it leaves must be whole before.
    pub(super) fork: Option<(Epoch, Option<Position>)>,
}

impl Carrying {
    pub(super) const fn new(now: Instant) -> Self {
        Self { at: now, wait: REOPEN.0, fork: None }
    }

    fn succeeded(&mut self, now: Instant) {
        (self.at, self.wait) = (now, REOPEN.0);
    }

    fn failed(&mut self, now: Instant) {
        self.at = now + self.wait;
        self.wait = (self.wait * 2).min(REOPEN.1);
    }

    fn keeps_failing(&self) -> bool {
        self.wait >= FAILS
    }
}

impl Writer {
    /// When the next step is due, as a time that stays until it was taken: one that moves along
    /// with the clock would always lie ahead of whoever looked at the clock before.
    pub(super) fn carry_at(&self) -> Option<Instant> {
        self.journal.is_carrying().then_some(self.carrying.at)
    }

    pub(super) fn holds_the_queue(&self) -> bool {
        self.journal.is_carrying() && !self.carrying.keeps_failing()
    }

    /// Takes one step.
    pub(super) fn carry_on(&mut self, now: Instant) {
        let carried = self.journal.carry_on();
        self.refusing = carried.is_err();
        match carried {
            Ok(true) => {
                self.carrying.succeeded(now);
                self.durable.send_modify(|commits| *commits += 1);
            }
            Ok(false) => {
                self.carrying.succeeded(now);
                self.commit();
                if let Some((epoch, common)) = self.carrying.fork.take() {
                    self.fork(epoch, common);
                }
            }
            Err(error) => {
                self.carrying.failed(now);
                self.failed(&error);
            }
        }
    }

    /// What is still queued is recorded after this, so the steps that are left go first if they can.
    pub(super) fn carry_before_the_end(&mut self, pulse: &Pulse) {
        let until = Instant::now() + LAST_STEPS;
        while self.journal.is_carrying() && !self.refusing && Instant::now() < until {
            pulse.tick();
            self.carry_on(Instant::now());
        }
    }
}
