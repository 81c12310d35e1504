//! When a subscription that is silent counts as dead.
//!
//! A server may say that it took a subscription over, or that it created one, and never publish.
//!
//! # Invariants
//! - A subscription says something at least each keep-alive time; three of them in silence are a
//!   fault, whatever its creation or transfer answered.
//! - The first cure is another subscription; when that is silent too, another session.

use std::time::Duration;

use tokio::time::Instant;

/// Keep-alive times that may pass.
const PATIENCE: u32 = 3;
/// A server that keeps alive more often than this is not taken at its word.
const SHORTEST: Duration = Duration::from_secs(4);

/// What is to be done about a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cure {
    /// Delete it and create another one.
    Recreate,
    /// Give up the session.
    Leave,
}

/// Watches one subscription.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watchdog {
    heard: Instant,
    patience: Duration,
    /// Whether it stands in for one that was silent, and has said nothing yet.
    is_second: bool,
}

impl Watchdog {
    pub(crate) fn new(now: Instant, keep_alive: Duration) -> Self {
        let patience = keep_alive.saturating_mul(PATIENCE).max(SHORTEST);
        Self { heard: now, patience, is_second: false }
    }

    /// The watchdog of the subscription that takes this one's place.
    pub(crate) fn successor(self, now: Instant, keep_alive: Duration) -> Self {
        Self { is_second: true, ..Self::new(now, keep_alive) }
    }

    /// The subscription said something.
    pub(crate) const fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.is_second = false;
    }

    /// The connection is another one: silence counts from now.
    pub(crate) const fn resumed(&mut self, now: Instant) {
        self.heard = now;
    }

    /// When silence becomes a fault.
    pub(crate) fn due(&self) -> Instant {
        self.heard + self.patience
    }

    /// What is to be done now, if anything.
    pub(crate) fn cure(&self, now: Instant) -> Option<Cure> {
        if now < self.due() {
            return None;
        }
        Some(if self.is_second { Cure::Leave } else { Cure::Recreate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_keep_alives_of_silence_are_cured_by_another_subscription_then_by_another_session() {
        let (begin, keep_alive) = (Instant::now(), Duration::from_secs(2));
        let mut dog = Watchdog::new(begin, keep_alive);
        assert_eq!(dog.cure(begin + Duration::from_millis(5_999)), None);
        dog.heard(begin + Duration::from_secs(3));
        assert_eq!(dog.cure(begin + Duration::from_secs(8)), None);
        let at = begin + Duration::from_secs(9);
        assert_eq!(dog.cure(at), Some(Cure::Recreate));

        let second = dog.successor(at, keep_alive);
        assert_eq!(second.cure(at + Duration::from_secs(6)), Some(Cure::Leave));
        let mut cured = second;
        cured.heard(at + Duration::from_secs(1));
        assert_eq!(cured.cure(at + Duration::from_secs(7)), Some(Cure::Recreate));
    }

    #[test]
    fn a_very_short_keep_alive_does_not_make_a_busy_server_faulty() {
        let begin = Instant::now();
        let dog = Watchdog::new(begin, Duration::from_millis(10));
        assert_eq!(dog.cure(begin + Duration::from_secs(3)), None);
    }
}
