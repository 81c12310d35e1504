//! What is asked of a bus beside the polls.
//!
//! # Invariants
//! - One such request is under way at a time, and after one that took a while the bus is left to
//!   the polls for three times as long.
//! - Nobody who waits for his turn at it holds up a poll.

use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Bus;
use crate::poller::SHARE_PERCENT;

/// The leave to send one such request.
pub(crate) struct Allowed<'a>(MutexGuard<'a, Option<Instant>>);

impl Bus {
    /// Waits for the leave to send a request beside the polls; `None` when there is none until
    /// `latest`.
    ///
    /// Cancel safety: whoever stops waiting loses the place in the queue and nothing else.
    pub(crate) async fn aside(&self, latest: Instant) -> Option<Allowed<'_>> {
        let free_at = timeout_at(latest, self.aside.lock()).await.ok()?;
        if let Some(at) = *free_at {
            if at > latest {
                return None;
            }
            sleep_until(at).await;
        }
        Some(Allowed(free_at))
    }
}

impl Allowed<'_> {
    /// The request is over, and took so long.
    pub(crate) fn spent(&mut self, now: Instant, took: Duration) {
        *self.0 = Some(now + took * (100 - SHARE_PERCENT) / SHARE_PERCENT);
    }
}
