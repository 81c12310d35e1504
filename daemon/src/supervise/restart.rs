//! When a driver or child process that ended is started again: a pure decision.
//!
//! # Invariants
//! - There is always a next start: nothing is given up inside a living daemon.
//! - No wait is longer than the policy's longest, and none shorter than four fifths of the first.
//! - What ran long enough to be steady waits the shortest again, unless it is over its budget.

use std::collections::VecDeque;
use std::time::Duration;

/// How restarts are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// The wait before the first restart.
    pub first: Duration,
    /// The longest wait within the budget.
    pub longest: Duration,
    /// How many ends within `window` are still ordinary.
    pub budget: u32,
    /// The time over which ends are counted.
    pub window: Duration,
    /// The wait beyond the budget.
    pub over_budget: Duration,
    /// A run of this length has proved that it can; the next wait is the first again.
    pub steady: Duration,
}

impl Default for RestartPolicy {
    /// A driver handles its device's failures itself, so an end is a defect in the driver: soon
    /// again for a rare one, once a minute for one that comes at every start.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(60),
            budget: 5,
            window: Duration::from_secs(300),
            over_budget: Duration::from_secs(60),
            steady: Duration::from_secs(300),
        }
    }
}

/// The restarts of one driver or child.
#[derive(Debug, Clone)]
pub struct Restarts {
    policy: RestartPolicy,
    /// Monotonic times of the ends within the window; never more than the budget and one.
    ends: VecDeque<Duration>,
    streak: u32,
}

/// The next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// How long to wait.
    pub wait: Duration,
    /// Whether it ended more often than is ordinary: an operator is needed.
    pub over_budget: bool,
}

impl Restarts {
    /// Nothing has ended yet.
    #[must_use]
    pub const fn new(policy: RestartPolicy) -> Self {
        Self { policy, ends: VecDeque::new(), streak: 0 }
    }

    /// Decides after an end at `now`, of a run that began at `started` (both monotonic, of one
    /// origin). `jitter` in 0–1 spreads the restarts of what ended together; 1 is none.
    pub fn ended(&mut self, started: Duration, now: Duration, jitter: f64) -> Next {
        let policy = self.policy;
        if now.saturating_sub(started) >= policy.steady {
            self.streak = 0;
        }
        self.ends.retain(|end| now.saturating_sub(*end) < policy.window);
        self.ends.push_back(now);
        let budget = usize::try_from(policy.budget).unwrap_or(usize::MAX);
        while self.ends.len() > budget.saturating_add(1) {
            self.ends.pop_front();
        }
        let over_budget = self.ends.len() > budget;
        let factor = 2u32.saturating_pow(self.streak.min(16));
        self.streak = self.streak.saturating_add(1);
        let wait = if over_budget {
            policy.over_budget
        } else {
            policy.first.saturating_mul(factor).min(policy.longest)
        };
        Next { wait: wait.mul_f64(0.8 + 0.2 * jitter.clamp(0.0, 1.0)), over_budget }
    }
}

/// Numbers in 0–1 that need not be good, only different (SplitMix64, Steele et al. 2014).
pub(super) struct Jitter(pub(super) u64);

impl Jitter {
    #[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> RestartPolicy {
        RestartPolicy {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(10),
            budget: 5,
            window: Duration::from_secs(100),
            over_budget: Duration::from_secs(30),
            steady: Duration::from_secs(50),
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_long_beyond_the_budget() {
        let mut restarts = Restarts::new(policy());
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let next = restarts.ended(now, now, 1.0);
            waits.push((next.wait.as_secs(), next.over_budget));
            now += next.wait;
        }
        assert_eq!(waits[..5], [(1, false), (2, false), (4, false), (8, false), (10, false)]);
        assert_eq!(waits[5..], [(30, true); 3]);
    }

    #[test]
    fn a_driver_that_ran_for_a_window_begins_anew() {
        let mut restarts = Restarts::new(policy());
        for i in 0..8 {
            restarts.ended(Duration::from_secs(i), Duration::from_secs(i), 1.0);
        }
        let next = restarts.ended(Duration::from_secs(8), Duration::from_secs(108), 1.0);
        assert_eq!(next, Next { wait: Duration::from_secs(1), over_budget: false });
    }

    #[test]
    fn a_steady_run_begins_with_the_first_wait_but_within_the_same_budget() {
        let mut restarts = Restarts::new(policy());
        let ended = |restarts: &mut Restarts, started, now| {
            restarts.ended(Duration::from_secs(started), Duration::from_secs(now), 1.0)
        };
        for at in 0..4 {
            ended(&mut restarts, at, at);
        }
        let next = ended(&mut restarts, 4, 54);
        assert_eq!(next, Next { wait: Duration::from_secs(1), over_budget: false });
        assert!(ended(&mut restarts, 55, 56).over_budget, "the sixth end in the window");
    }

    proptest! {
        #[test]
        fn a_wait_is_bounded_on_both_sides_and_so_is_the_memory(
            runs in prop::collection::vec((0u64..200, 0.0..1.0f64), 1..60),
        ) {
            let mut restarts = Restarts::new(policy());
            let mut now = Duration::ZERO;
            for (ran, jitter) in runs {
                let started = now;
                now += Duration::from_secs(ran);
                let next = restarts.ended(started, now, jitter);
                prop_assert!(next.wait <= policy().over_budget);
                prop_assert!(next.wait >= policy().first.mul_f64(0.8));
                prop_assert!(restarts.ends.len() <= 6);
                now += next.wait;
            }
        }
    }
}
