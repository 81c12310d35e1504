//! One unit of a bus: may it be asked?
//!
//! ```text
//!             answer                    no answer to two askers, or to the only one
//!   probing ─────────► healthy ─────────────────────────────► backing off
//!      ▲                                                            │
//!      └────────────────────── the pause is over ◄──────────────────┘
//! ```
//!
//! # Invariants
//! - Nobody asks a unit that backs off. When its pause is over, one of its askers sends one request
//!   (the probe), and the others wait for what becomes of it.
//! - A unit whose last request was not answered is probed, too, before everybody asks it again; so
//!   is a unit that was never asked.
//! - With several askers two of them must fail in a row before a unit is given up, so that the part
//!   that one of them cannot read does not silence the others.
//! - Nothing here does I/O or has a clock; time comes in.

use std::time::Duration;

use tokio::time::Instant;

use tidegate_translator::grid::Backoff;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Unit {
    askers: usize,
    /// Whether it was ever answered or given up.
    known: bool,
    /// Whether the last request had no answer.
    missed: bool,
    /// Askers that stopped trying since the last answer.
    surrenders: u32,
    /// Left alone until then.
    rest: Option<Instant>,
    /// Whether a probe is under way.
    probing: bool,
    backoff: Backoff,
    returns: u64,
}

/// Whether to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It is healthy: ask.
    Go,
    /// Ask, and tell what became of it: others wait for that.
    Probe {
        /// Whether it was given up before: the bus has a budget for such probes.
        given_up: bool,
    },
    /// Another asker's probe is under way.
    Wait,
    /// It is left alone.
    Rest,
}

impl Unit {
    /// A unit that nobody has asked yet.
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            askers: 0,
            known: false,
            missed: false,
            surrenders: 0,
            rest: None,
            probing: false,
            backoff: Backoff::new(Duration::ZERO, Duration::ZERO, seed),
            returns: 0,
        }
    }

    /// One more asker.
    pub(crate) const fn join(&mut self) {
        self.askers += 1;
    }

    /// One asker less; tells whether that was the last one.
    pub(crate) const fn leave(&mut self) -> bool {
        self.askers = self.askers.saturating_sub(1);
        self.askers == 0
    }

    /// Whether it answers, as far as is known.
    pub(crate) const fn is_healthy(&self) -> bool {
        self.known && self.rest.is_none()
    }

    /// When its present pause ends, where it has one.
    pub(crate) const fn rests_until(&self) -> Option<Instant> {
        self.rest
    }

    /// How often it came back after it had been given up.
    pub(crate) const fn returns(&self) -> u64 {
        self.returns
    }

    /// Whether it may be asked now; changes nothing.
    pub(crate) fn may_be_asked(&self, now: Instant) -> Leave {
        match self.rest {
            _ if self.probing => Leave::Wait,
            Some(until) if now < until => Leave::Rest,
            Some(_) => Leave::Probe { given_up: true },
            None if self.known && !self.missed => Leave::Go,
            None => Leave::Probe { given_up: false },
        }
    }

    /// A probe begins; its end must be told by one of the next three.
    pub(crate) const fn probe(&mut self) {
        self.probing = true;
    }

    /// It answered.
    pub(crate) const fn answered(&mut self) {
        self.probing = false;
        self.known = true;
        self.missed = false;
        self.surrenders = 0;
        if self.rest.take().is_some() {
            self.returns += 1;
        }
        self.backoff.reset();
    }

    /// It did not answer.
    pub(crate) const fn missed(&mut self) {
        self.probing = false;
        self.missed = true;
    }

    /// The probe told nothing: it was cancelled, or the way to the unit failed.
    pub(crate) const fn abandoned(&mut self) {
        self.probing = false;
    }

    /// An asker stops trying for now. Tells whether the unit is given up until its back-off ends;
    /// otherwise the next asker probes it.
    pub(crate) fn given_up(&mut self, now: Instant, backoff: (Duration, Duration)) -> bool {
        if self.probing {
            // Somebody else is finding out.
            return false;
        }
        self.surrenders = self.surrenders.saturating_add(1);
        if self.is_healthy() && self.askers > 1 && self.surrenders < 2 {
            return false;
        }
        self.known = true;
        self.rest = Some(now + self.backoff.next_between(backoff.0, backoff.1));
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(16));

    fn unit(askers: usize) -> Unit {
        let mut unit = Unit::new(7);
        for _ in 0..askers {
            unit.join();
        }
        unit
    }

    #[test]
    fn the_first_request_is_a_probe_that_the_others_wait_for() {
        let (mut unit, now) = (unit(3), Instant::now());
        assert_eq!(unit.may_be_asked(now), Leave::Probe { given_up: false });
        unit.probe();
        assert_eq!(unit.may_be_asked(now), Leave::Wait);
        unit.answered();
        assert_eq!(unit.may_be_asked(now), Leave::Go);
        assert!(unit.is_healthy());
    }

    #[test]
    fn a_unit_that_never_answered_is_given_up_at_once_whoever_asks() {
        for askers in [1, 3] {
            let (mut unit, now) = (unit(askers), Instant::now());
            unit.probe();
            unit.missed();
            assert!(unit.given_up(now, BACKOFF));
            assert_eq!(unit.may_be_asked(now), Leave::Rest);
            assert!(!unit.is_healthy());
        }
    }

    #[test]
    fn one_askers_failure_does_not_silence_the_others() {
        let (mut unit, now) = (unit(2), Instant::now());
        unit.answered();
        unit.missed();
        assert!(!unit.given_up(now, BACKOFF));
        assert_eq!(unit.may_be_asked(now), Leave::Probe { given_up: false });
        unit.probe();
        unit.missed();
        assert!(unit.given_up(now, BACKOFF));
        assert_eq!(unit.may_be_asked(now), Leave::Rest);
    }

    #[test]
    fn a_probe_that_told_nothing_leaves_everything_as_it_was() {
        let (mut unit, now) = (unit(1), Instant::now());
        unit.missed();
        assert!(unit.given_up(now, BACKOFF));
        let due = unit.rests_until().unwrap();
        unit.probe();
        unit.abandoned();
        assert_eq!(unit.may_be_asked(due), Leave::Probe { given_up: true });
        assert!(!unit.is_healthy());
        assert_eq!(unit.returns(), 0);
    }

    proptest! {
        /// Askers come at random times, and the unit lives or is dead as the script says.
        #[test]
        fn a_dead_unit_is_asked_once_for_each_back_off_and_a_live_one_always(
            askers in 1usize..4,
            visits in prop::collection::vec((0u64..3_000, any::<bool>()), 1..200),
            deaths in prop::collection::btree_set(0usize..200, 0..6),
        ) {
            let mut unit = unit(askers);
            let mut now = Instant::now();
            let (mut alive, mut failed_in_a_row, mut rest_until) = (true, 0_u32, None);
            for (at, (millis, _)) in visits.iter().enumerate() {
                now += Duration::from_millis(*millis);
                alive ^= deaths.contains(&at);
                let leave = unit.may_be_asked(now);
                prop_assert_ne!(leave, Leave::Wait, "no probe is left open");
                if let Some(until) = rest_until.filter(|until| now < *until) {
                    prop_assert_eq!(leave, Leave::Rest, "asked {:?} early", until - now);
                    continue;
                }
                prop_assert_ne!(leave, Leave::Rest, "not asked though the pause is over");
                if let Leave::Probe { .. } = leave {
                    unit.probe();
                    prop_assert_eq!(unit.may_be_asked(now), Leave::Wait);
                }
                if alive {
                    unit.answered();
                    (failed_in_a_row, rest_until) = (0, None);
                    prop_assert!(unit.is_healthy());
                    continue;
                }
                unit.missed();
                failed_in_a_row += 1;
                if unit.given_up(now, BACKOFF) {
                    rest_until = unit.rests_until();
                    let pause = rest_until.unwrap() - now;
                    prop_assert!(pause >= BACKOFF.0 / 2 && pause <= BACKOFF.1);
                } else {
                    prop_assert!(failed_in_a_row == 1 && askers > 1, "a second chance for others");
                }
            }
        }
    }
}
