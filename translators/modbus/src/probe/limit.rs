//! How many cells a device gives at once: bisection between what it gave and what it did not.
//!
//! # Invariants
//! - Only readable addresses are asked for, so whatever is refused is refused for its size.
//! - After a silence the device is asked for one cell, and when that is not answered either, the
//!   search ends: it is the device that is gone.
//! - At most [`MAX_SILENCES`] silences are provoked, because each can cost a serial device its
//!   rest; what is known by then is a lower limit.

use super::scan::Told;

/// Silences that a search may provoke.
pub(super) const MAX_SILENCES: u8 = 4;

/// What keeps larger blocks from being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The protocol has no larger ones.
    Protocol,
    /// No longer run was found, so larger ones may work.
    Run,
    /// The device refuses them with this exception: 3, illegal data value, by the specification.
    Refused(u8),
    /// The device does not answer.
    Silence,
}

/// The largest block that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Largest {
    /// Registers or bits.
    pub cells: u16,
    /// Why not more.
    pub bound: Bound,
    /// Whether one more is known not to work; else there may be a larger one.
    pub exact: bool,
}

/// The search.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    good: u16,
    bad: Option<(u16, Bound)>,
    most: u16,
    top: Bound,
    asked: u16,
    silences: u8,
    /// Whether the device must show that it is still there.
    check: bool,
    ended: bool,
}

impl Limit {
    /// A search among the first `run` cells of a readable run, of which `good` were answered at
    /// once; `protocol` is the most that the protocol allows.
    pub(super) fn new(good: u16, run: u32, protocol: u16) -> Self {
        let most = u16::try_from(run).unwrap_or(u16::MAX).min(protocol);
        let top = if most == protocol { Bound::Protocol } else { Bound::Run };
        let good = good.min(most).max(1);
        Self { good, bad: None, most, top, asked: 0, silences: 0, check: false, ended: false }
    }

    /// How many to ask for now.
    pub(super) fn next(&mut self) -> Option<u16> {
        if self.ended {
            return None;
        }
        self.asked = if self.check {
            1
        } else {
            match self.bad {
                None if self.good >= self.most => return None,
                None => self.most,
                Some((bad, _)) if bad - self.good <= 1 || self.silences >= MAX_SILENCES => {
                    return None;
                }
                Some((bad, _)) => u16::midpoint(self.good, bad),
            }
        };
        Some(self.asked)
    }

    pub(super) fn told(&mut self, told: Told) {
        match told {
            _ if self.check => {
                self.check = false;
                self.ended = told == Told::Silent;
            }
            Told::Answered => self.good = self.good.max(self.asked),
            Told::Refused(code) => self.bad = Some((self.asked, Bound::Refused(code))),
            Told::Silent => {
                self.silences += 1;
                self.check = true;
                self.bad = Some((self.asked, Bound::Silence));
            }
        }
    }

    pub(super) fn largest(&self) -> Largest {
        let (bound, exact) = match self.bad {
            Some((bad, bound)) => (bound, bad - self.good <= 1),
            None if self.good >= self.most => (self.top, self.top == Bound::Protocol),
            None => (Bound::Run, false),
        };
        Largest { cells: self.good, bound, exact }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn search(mut limit: Limit, answer: impl Fn(u16) -> Told) -> (Largest, u32) {
        let mut asked = 0;
        while let Some(count) = limit.next() {
            asked += 1;
            limit.told(answer(count));
        }
        (limit.largest(), asked)
    }

    proptest! {
        #[test]
        fn the_limit_is_found_exactly_whatever_it_is(most in 1_u16..=2000, code in 2_u8..4) {
            let answer =
                |count| if count <= most { Told::Answered } else { Told::Refused(code) };
            let (largest, asked) = search(Limit::new(1, 5000, 2000), answer);
            let bound = if most == 2000 { Bound::Protocol } else { Bound::Refused(code) };
            prop_assert_eq!(largest, Largest { cells: most, bound, exact: true });
            prop_assert!(asked <= 12, "{}", asked);
        }
    }

    #[test]
    fn a_short_run_tells_only_that_larger_blocks_may_work() {
        let (largest, asked) = search(Limit::new(20, 20, 125), |_| Told::Answered);
        assert_eq!(largest, Largest { cells: 20, bound: Bound::Run, exact: false });
        assert_eq!(asked, 0);
    }

    #[test]
    fn silence_is_told_from_a_refusal_and_provoked_only_a_few_times() {
        let answer = |count| if count <= 100 { Told::Answered } else { Told::Silent };
        let (largest, asked) = search(Limit::new(100, 125, 125), answer);
        assert_eq!((largest.cells, largest.bound), (100, Bound::Silence));
        assert!(!largest.exact && asked <= 2 * u32::from(MAX_SILENCES));
        let answer = |count| if count <= 120 { Told::Answered } else { Told::Silent };
        let (largest, _) = search(Limit::new(100, 125, 125), answer);
        assert_eq!(largest, Largest { cells: 120, bound: Bound::Silence, exact: true });
    }

    #[test]
    fn a_device_that_is_gone_after_a_silence_is_left_alone() {
        let (largest, asked) = search(Limit::new(10, 125, 125), |_| Told::Silent);
        assert_eq!((largest.cells, largest.exact, asked), (10, false, 2));
    }
}
