//! How to get back to a server that is gone, and when. No I/O, no clock.
//!
//! # Invariants
//! - A log-on that was refused is tried again after a minute at the earliest, and ever more rarely:
//!   nobody's account is locked by the gateway.
//! - What else only a person can cure (an approval here or at the server) locks nothing and is
//!   looked at again soon: who has just approved something waits for it.
//! - In the first minute of an absence no wait is longer than two seconds, so that a server that
//!   starts again is found at once.
//! - The old session is tried first as long as the server keeps it, and once.

use std::time::Duration;

use tokio::time::Instant;

use crate::connect::{ConnectError, Stage};
use tidegate_translator::grid::Backoff;

/// Waits in the first minute: a program that is started again is away for some seconds.
const SOON: Duration = Duration::from_secs(2);
/// How long an absence is fresh.
const FRESH: Duration = Duration::from_secs(60);
/// A session that lasted for so long says that the next one may, too.
const PROVEN: Duration = Duration::from_secs(10);
/// The longest wait after a session that did not last.
const FALLEN: Duration = Duration::from_secs(4);
/// Waits for a person. Servers lock accounts after three to ten wrong passwords in some minutes.
const FOR_A_PERSON: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(900));

/// Waits for an approval, each shortened at random by up to half.
const FOR_AN_APPROVAL: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// How the next attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The old session on a new connection.
    Resume,
    /// A new session.
    Anew,
}

/// The attempts on one server.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    backoff: Backoff,
    for_a_person: Backoff,
    for_an_approval: Backoff,
    /// Since when it is gone.
    away: Option<Instant>,
    /// Until when the server keeps the old session.
    kept: Option<Instant>,
    /// Since when there is a session.
    since: Option<Instant>,
}

impl Course {
    pub(crate) fn new((first, largest): (Duration, Duration), seed: u64) -> Self {
        let (rare, rarest) = FOR_A_PERSON;
        Self {
            backoff: Backoff::new(first, largest, seed),
            // Twice the least: each wait is shortened at random by up to half.
            for_a_person: Backoff::new(2 * rare, 2 * rarest, seed),
            for_an_approval: Backoff::new(FOR_AN_APPROVAL.0, FOR_AN_APPROVAL.1, seed),
            away: None,
            kept: None,
            since: None,
        }
    }

    /// The server is there.
    pub(crate) const fn arrived(&mut self, now: Instant) {
        self.for_a_person.reset();
        self.for_an_approval.reset();
        self.away = None;
        self.kept = None;
        self.since = Some(now);
    }

    /// It is gone; it keeps the session for so long, when there is one left. How long to wait for
    /// the first attempt: a server that closes each session soon is not asked without a pause.
    pub(crate) fn lost(&mut self, now: Instant, kept: Option<Duration>) -> Duration {
        self.away.get_or_insert(now);
        self.kept = kept.map(|kept| now + kept);
        let lived = self.since.take().map(|since| now.saturating_duration_since(since));
        if lived.is_some_and(|lived| lived >= PROVEN) {
            self.backoff.reset();
            return Duration::ZERO;
        }
        self.backoff.next().min(FALLEN)
    }

    /// How the next attempt is made.
    pub(crate) fn way(&self, now: Instant) -> Way {
        if self.kept.is_some_and(|until| now < until) { Way::Resume } else { Way::Anew }
    }

    /// An attempt failed. How long to wait for the next one.
    pub(crate) fn failed(&mut self, now: Instant, way: Way, error: &ConnectError) -> Duration {
        let away = *self.away.get_or_insert(now);
        let is_of_session = matches!(error.stage, Stage::Activate | Stage::Channel | Stage::Own)
            && !is_absence(error);
        if way == Way::Resume && is_of_session {
            // The server is there, and does not know the session any more, or not like this.
            self.kept = None;
            return Duration::ZERO;
        }
        if error.is_for_a_person() {
            let locks_accounts = error.stage == Stage::Activate;
            let of =
                if locks_accounts { &mut self.for_a_person } else { &mut self.for_an_approval };
            return of.next();
        }
        let wait = self.backoff.next();
        if now.saturating_duration_since(away) < FRESH { wait.min(SOON) } else { wait }
    }
}

/// Whether nobody answered, or not to the end.
fn is_absence(error: &ConnectError) -> bool {
    use opcua::types::StatusCode;
    matches!(
        error.status,
        None | Some(
            StatusCode::BadTimeout
                | StatusCode::BadConnectionClosed
                | StatusCode::BadCommunicationError
                | StatusCode::BadNotConnected
                | StatusCode::Good
        )
    )
}

#[cfg(test)]
mod tests {
    use opcua::types::StatusCode;
    use proptest::prelude::*;

    use super::*;

    fn refused() -> ConnectError {
        ConnectError::new(Stage::Tcp, None, "refused".into())
    }

    fn password() -> ConnectError {
        ConnectError::refused(Stage::Activate, StatusCode::BadUserAccessDenied, "")
    }

    fn course() -> Course {
        Course::new((Duration::from_millis(500), Duration::from_secs(30)), 7)
    }

    proptest! {
        #[test]
        fn a_wrong_password_is_tried_once_a_minute_at_most(seed in any::<u64>(), times in 1_usize..40) {
            let mut course = Course::new((Duration::from_millis(1), Duration::from_secs(5)), seed);
            let mut now = Instant::now();
            let mut waits = Vec::new();
            for _ in 0..times {
                let wait = course.failed(now, Way::Anew, &password());
                prop_assert!(wait >= Duration::from_secs(60) && wait <= Duration::from_secs(1800));
                now += wait;
                waits.push(wait);
            }
            if times > 6 {
                prop_assert!(waits[6] >= Duration::from_secs(900), "{:?}", waits);
            }
        }

        #[test]
        fn within_the_first_minute_no_wait_exceeds_two_seconds(
            seed in any::<u64>(), first in 1_u64..5_000, largest in 1_u64..600_000,
        ) {
            let backoff = (Duration::from_millis(first), Duration::from_millis(largest));
            let mut course = Course::new(backoff, seed);
            let begin = Instant::now();
            let mut now = begin;
            let _ = course.lost(now, None);
            for _ in 0..100 {
                let wait = course.failed(now, Way::Anew, &refused());
                let is_fresh = now - begin < Duration::from_secs(60);
                prop_assert!(!is_fresh || wait <= SOON, "{:?}", wait);
                prop_assert!(wait <= backoff.1.max(backoff.0));
                now += wait.max(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn an_approval_is_looked_for_soon_and_then_each_minute() {
        let mut course = course();
        let now = Instant::now();
        let unknown = ConnectError::new(Stage::Trust, None, "not approved".into());
        assert!(course.failed(now, Way::Anew, &unknown) <= Duration::from_secs(10));
        let later: Vec<_> = (0..10).map(|_| course.failed(now, Way::Anew, &unknown)).collect();
        assert!(later.iter().all(|wait| *wait <= Duration::from_secs(60)), "{later:?}");
        assert!(later.last().is_some_and(|wait| *wait >= Duration::from_secs(30)), "{later:?}");
    }

    #[test]
    fn the_old_session_is_tried_until_the_server_does_not_know_it() {
        let mut course = course();
        let now = Instant::now();
        assert_eq!(course.way(now), Way::Anew);
        let _ = course.lost(now, Some(Duration::from_secs(60)));
        assert_eq!(course.way(now), Way::Resume);
        // Nobody there: the session may still be.
        assert!(course.failed(now, Way::Resume, &refused()) > Duration::ZERO);
        assert_eq!(course.way(now), Way::Resume);
        let unknown = ConnectError::refused(Stage::Activate, StatusCode::BadSessionIdInvalid, "");
        assert_eq!(course.failed(now, Way::Resume, &unknown), Duration::ZERO);
        assert_eq!(course.way(now), Way::Anew);
        let _ = course.lost(now, Some(Duration::from_secs(60)));
        assert_eq!(course.way(now + Duration::from_secs(61)), Way::Anew);
    }

    #[test]
    fn a_session_that_is_refused_when_resumed_is_no_wrong_password_yet() {
        let mut course = course();
        let now = Instant::now();
        let _ = course.lost(now, Some(Duration::from_secs(60)));
        assert_eq!(course.failed(now, Way::Resume, &password()), Duration::ZERO);
        assert!(course.failed(now, Way::Anew, &password()) >= Duration::from_secs(60));
    }

    #[test]
    fn a_session_that_lasted_is_replaced_at_once_and_one_that_did_not_after_a_pause() {
        let mut course = course();
        let mut now = Instant::now();
        course.arrived(now);
        now += Duration::from_secs(10);
        assert_eq!(course.lost(now, None), Duration::ZERO);
        let mut waits = Vec::new();
        for _ in 0..6 {
            course.arrived(now);
            now += Duration::from_secs(1);
            waits.push(course.lost(now, None));
        }
        assert!(waits.iter().all(|wait| *wait > Duration::ZERO), "{waits:?}");
        assert!(waits.last().is_some_and(|wait| *wait >= Duration::from_secs(4)), "{waits:?}");
    }
}
