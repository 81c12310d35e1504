//! When links go back to the URL that this gateway begins with. Pure.
//!
//! # Invariants
//! - The links go back only from another URL that works: while the hub does not answer, nats-server
//!   tries all of them by itself.
//! - The first URL must have been good without a break for as long as the configuration asks; one
//!   bad look begins anew.
//! - A first URL that is good to ask and bad to be linked to is tried ever more rarely.

use std::time::Duration;

use tokio::time::Instant;

/// Looks within the time that is asked for: as many as show a server that restarts in between.
const LOOKS: u32 = 4;
/// The longest and the shortest time between two looks: each is a handshake at the hub.
const EVERY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// How long the links may take to stand at the first URL: twice what one over a satellite needs.
const GOES_WITHIN: Duration = Duration::from_secs(30);
/// The longest time between two attempts that did not help.
const SELDOM: Duration = Duration::from_secs(6 * 3600);

/// Decides when to look at the first URL, and when to go back to it.
#[derive(Debug)]
pub(super) struct FailBack {
    after: Duration,
    /// Linked elsewhere, with the hub answering there.
    away: bool,
    /// Since when each look was good.
    good_since: Option<Instant>,
    looked: Option<Instant>,
    /// When it was tried, and how long to wait for the next time.
    tried: Option<(Instant, Duration)>,
}

impl FailBack {
    pub(super) const fn new(after: Duration) -> Self {
        Self { after, away: false, good_since: None, looked: None, tried: None }
    }

    /// Notes where the record's link is: whether the hub answers there, and whether it is the first
    /// URL; `None` while that is not known.
    pub(super) fn linked(&mut self, answers: bool, at_first: Option<bool>, now: Instant) {
        let away = answers && at_first == Some(false);
        if away && !self.away {
            self.looked = Some(now);
        }
        if !away {
            self.good_since = None;
        }
        // It stands there, and for long enough to say that it can.
        let stands = self.tried.is_some_and(|(at, _)| now.duration_since(at) > GOES_WITHIN);
        if answers && at_first == Some(true) && stands {
            self.tried = None;
        }
        self.away = away;
    }

    /// Whether to look at the first URL now; says so once for each look.
    pub(super) fn look_is_due(&mut self, now: Instant) -> bool {
        let every = (self.after / LOOKS).clamp(EVERY.0, EVERY.1);
        let due = self.away && self.looked.is_none_or(|at| now.duration_since(at) >= every);
        if due {
            self.looked = Some(now);
        }
        due
    }

    /// Takes in a look, and says whether to go back now.
    pub(super) fn looked(&mut self, good: bool, now: Instant) -> bool {
        if !good || !self.away {
            self.good_since = None;
            return false;
        }
        let since = *self.good_since.get_or_insert(now);
        let long = now.duration_since(since) >= self.after;
        let again = self.tried.is_none_or(|(at, wait)| now.duration_since(at) >= wait);
        if !(long && again) {
            return false;
        }
        let wait = self.tried.map_or(GOES_WITHIN.max(self.after), |(_, wait)| wait);
        self.tried = Some((now, (wait * 2).min(SELDOM.max(self.after))));
        self.good_since = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(100);

    /// The seconds of two days at which the links go back; `good` and `at_first` say how it is at
    /// each. Each going back succeeds where `sticks` says so, from the next second on.
    fn goings(good: impl Fn(u64) -> bool, answers: impl Fn(u64) -> bool, sticks: bool) -> Vec<u64> {
        let begin = Instant::now();
        let mut fail_back = FailBack::new(AFTER);
        let (mut out, mut at_first) = (Vec::new(), false);
        for second in 0..172_800 {
            let now = begin + Duration::from_secs(second);
            fail_back.linked(answers(second), Some(at_first), now);
            if fail_back.look_is_due(now) && fail_back.looked(good(second), now) {
                out.push(second);
                at_first = sticks;
            }
        }
        out
    }

    #[test]
    fn the_links_go_back_once_after_the_first_url_was_good_for_long_enough() {
        let at = goings(|_| true, |_| true, true);
        assert!(matches!(at[..], [100..=150]), "{at:?}");
    }

    #[test]
    fn a_bad_look_begins_anew() {
        let at = goings(|second| second > 90 && second / 60 != 2, |_| true, true);
        assert!(matches!(at[..], [280..=330]), "{at:?}");
    }

    #[test]
    fn nothing_goes_back_while_the_hub_does_not_answer_where_the_links_are() {
        assert!(goings(|_| true, |_| false, true).is_empty());
        assert!(goings(|_| true, |second| second % 20 != 0, true).is_empty());
    }

    #[test]
    fn a_first_url_that_never_takes_the_links_is_tried_ever_more_rarely() {
        let at = goings(|_| true, |_| true, false);
        assert!((6..=14).contains(&at.len()), "{at:?}");
        let waits: Vec<_> = at.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(waits.windows(2).all(|two| two[1] + 60 >= two[0]), "{waits:?}");
        assert!(*waits.last().unwrap() >= SELDOM.as_secs(), "{waits:?}");
    }

    #[test]
    fn a_link_of_which_nobody_knows_where_it_leads_stays() {
        let begin = Instant::now();
        let mut fail_back = FailBack::new(AFTER);
        for second in 0..1000 {
            let now = begin + Duration::from_secs(second);
            fail_back.linked(true, None, now);
            assert!(!fail_back.look_is_due(now));
        }
    }
}
