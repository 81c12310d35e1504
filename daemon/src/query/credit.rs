//! One question that is being answered: how long it may take, whether it is still wanted, and how
//! many more parts may be sent.
//!
//! # Invariants
//! - Never more than [`MAX_CREDIT`] parts are allowed ahead, so that an asker who reads slowly fills
//!   no server.
//! - Whoever waits for credit wakes at the deadline and when the question is cancelled.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_query::{Code, PartialCause, Refusal, Watch};
use tidegate_translator::Clock;

/// The most parts ahead: 64 parts of 64 KiB keep 65 MB/s going over a round trip of 50 ms (measured);
/// four times that still fits what a server holds for one slow connection, 16 MiB.
pub(super) const MAX_CREDIT: u32 = 256;

/// A question at work or waiting.
pub(super) struct Running {
    pub(super) id: String,
    pub(super) began: Instant,
    pub(super) deadline: Instant,
    clock: std::sync::Arc<dyn Clock>,
    /// `None` for an answer of one message.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    credit: Option<u32>,
    cancelled: bool,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Running {
    /// # Errors
    /// When it asks for more credit than there is.
    pub(super) fn new(
        id: String,
        began: Instant,
        within: Duration,
        credit: Option<u32>,
        clock: std::sync::Arc<dyn Clock>,
    ) -> Result<Self, Refusal> {
        if credit.is_some_and(|credit| credit > MAX_CREDIT) {
            return Err(too_much());
        }
        let state = Mutex::new(State { credit, cancelled: false });
        let deadline = began + within;
        Ok(Self { id, began, deadline, clock, state, changed: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the answer comes part by part.
    pub(super) fn is_parted(&self) -> bool {
        self.state().credit.is_some()
    }

    /// Allows more parts.
    ///
    /// # Errors
    /// When so many are allowed already, or the answer is one message.
    pub(super) fn grant(&self, parts: u32) -> Result<(), Refusal> {
        let mut state = self.state();
        let Some(credit) = &mut state.credit else {
            if parts == 0 {
                return Ok(());
            }
            let text = "question was asked without credit, so its answer is one message";
            return Err(Refusal::new(Code::BadLimit, text));
        };
        let more = credit.checked_add(parts).filter(|more| *more <= MAX_CREDIT);
        *credit = more.ok_or_else(too_much)?;
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Ends it.
    pub(super) fn cancel(&self) {
        self.state().cancelled = true;
        self.changed.notify_all();
    }

    /// Waits until a part may be sent, and counts it; `false` when the question ends before.
    pub(super) fn spend(&self) -> bool {
        let mut state = self.state();
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if state.cancelled || left.is_zero() {
                return false;
            }
            if let Some(more) = state.credit.and_then(|credit| credit.checked_sub(1)) {
                state.credit = Some(more);
                return true;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Watch for Running {
    fn now(&self) -> i64 {
        self.clock.now().0
    }

    fn ended(&self) -> Option<PartialCause> {
        if self.state().cancelled {
            Some(PartialCause::Cancelled)
        } else if Instant::now() >= self.deadline {
            Some(PartialCause::Deadline)
        } else {
            None
        }
    }

    /// The kernel runs this thread only while no other one wants to; what is left is to let them
    /// begin at once.
    fn breathe(&self) {
        std::thread::yield_now();
    }
}

fn too_much() -> Refusal {
    let text = format!("credit beyond {MAX_CREDIT} parts; grant more as parts arrive");
    Refusal::new(Code::BadLimit, text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::recorder::SystemClock;

    fn running(within: Duration, credit: Option<u32>) -> Result<Running, Refusal> {
        Running::new("q".into(), Instant::now(), within, credit, Arc::new(SystemClock))
    }

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn parts_are_sent_while_credit_lasts_and_go_on_when_more_is_granted() {
        let running = Arc::new(running(LONG, Some(1)).unwrap());
        assert!(running.spend());
        let other = Arc::clone(&running);
        let waiting = std::thread::spawn(move || other.spend() && other.spend());
        running.grant(2).unwrap();
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn whoever_waits_for_credit_wakes_when_cancelled_and_at_the_deadline() {
        let held = Arc::new(running(LONG, Some(0)).unwrap());
        let other = Arc::clone(&held);
        let waiting = std::thread::spawn(move || other.spend());
        held.cancel();
        assert!(!waiting.join().unwrap());
        assert_eq!(held.ended(), Some(PartialCause::Cancelled));
        let late = running(Duration::ZERO, Some(5)).unwrap();
        assert!(!late.spend());
        assert_eq!(late.ended(), Some(PartialCause::Deadline));
    }

    #[test]
    fn credit_has_an_end_and_an_answer_of_one_message_takes_none() {
        assert_eq!(running(LONG, Some(MAX_CREDIT + 1)).unwrap_err().code, Code::BadLimit);
        let parted = running(LONG, Some(MAX_CREDIT)).unwrap();
        assert_eq!(parted.grant(1).unwrap_err().code, Code::BadLimit);
        assert_eq!(parted.grant(u32::MAX).unwrap_err().code, Code::BadLimit);
        assert!(parted.spend() && parted.grant(1).is_ok() && parted.grant(0).is_ok());
        let whole = running(LONG, None).unwrap();
        assert!(whole.grant(0).is_ok() && whole.grant(1).is_err() && !whole.is_parted());
    }
}
