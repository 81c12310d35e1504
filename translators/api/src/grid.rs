//! When polls are due, and how long a device that fails is left alone.
//!
//! # Invariants
//! - Slots lie on a fixed grid: a slow poll delays no later one, and none is added or forgotten.
//! - The grid depends on the device's name, so that a fleet of equal intervals does not poll in
//!   step; the first slot is due at once.

use std::ops::{Add, Sub};
use std::time::Duration;

/// The most that names spread slots: enough to part devices, and too little for a person who polls
/// once an hour to wonder where the second reading is.
const MAX_SPREAD: Duration = Duration::from_secs(10);
/// A poll interval of nothing would be a busy loop.
const MIN_PERIOD: Duration = Duration::from_millis(1);
/// Later than any poll: what arithmetic beyond the clock's range gives.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// The slots of one device: slot 0 at the origin, slot 1 about a period later, and one each period
/// from there. `I` is an instant of whatever monotonic clock the translator lives by.
#[derive(Debug, Clone, Copy)]
pub struct Grid<I> {
    origin: I,
    first: Duration,
    period: Duration,
}

impl<I: Copy + Ord + Add<Duration, Output = I> + Sub<I, Output = Duration>> Grid<I> {
    /// Slots from `origin` on; `name` says where in the period the later ones lie.
    #[must_use]
    pub fn new(origin: I, period: Duration, name: &str) -> Self {
        let period = period.max(MIN_PERIOD);
        let spread = period.min(MAX_SPREAD);
        // 0 to 65535 of 65536 parts.
        let part = u32::try_from(hash(name) >> 48).unwrap_or_default();
        let first = period - spread / 2 + (spread / 65_536) * part;
        Self { origin, first, period }
    }

    /// The time between two slots.
    #[must_use]
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// When a slot is due.
    #[must_use]
    pub fn due(&self, slot: u64) -> I {
        let Some(after) = slot.checked_sub(1) else {
            return self.origin;
        };
        let nanos = self.period.as_nanos() * u128::from(after) + self.first.as_nanos();
        let since = u64::try_from(nanos).map_or(FAR, Duration::from_nanos);
        self.origin + since.min(FAR)
    }

    /// The slot whose time it is: the last one due.
    #[must_use]
    pub fn slot_at(&self, now: I) -> u64 {
        let since = if now > self.origin { now - self.origin } else { Duration::ZERO };
        match since.checked_sub(self.first) {
            None => 0,
            Some(rest) => u64::try_from(rest.as_nanos() / self.period.as_nanos())
                .unwrap_or(u64::MAX)
                .saturating_add(1),
        }
    }
}

/// Spaces the attempts on a device that does not answer: doubling from the first delay to the
/// largest, each one shortened at random by up to half, so that devices lost together are not
/// tried together.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    largest: Duration,
    failures: u32,
    random: u64,
}

impl Backoff {
    /// Delays from `first` to `largest`; the seed makes two devices differ.
    #[must_use]
    pub const fn new(first: Duration, largest: Duration, seed: u64) -> Self {
        Self { first, largest, failures: 0, random: seed }
    }

    /// The delay after one more failure.
    #[expect(clippy::should_implement_trait, reason = "it never ends, and nobody iterates over it")]
    pub fn next(&mut self) -> Duration {
        self.next_between(self.first, self.largest)
    }

    /// The delay after one more failure that somebody with delays of their own met.
    pub fn next_between(&mut self, first: Duration, largest: Duration) -> Duration {
        let doubled = first.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = (self.failures + 1).min(31);
        let delay = doubled.min(largest.max(first));
        self.random = mix(self.random);
        let part = u32::try_from(self.random >> 48).unwrap_or_default();
        delay / 2 + (delay / 131_072) * part
    }

    /// The device answered.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// FNV-1a, then mixed: short names differ in the high bits too.
#[must_use]
pub fn hash(name: &str) -> u64 {
    let fnv = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv)
}

/// One step of SplitMix64.
#[must_use]
pub const fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_slot_lasts_from_its_due_time_to_the_next_ones(
            millis in 1u64..100_000, slot in 0u64..1_000_000, name in "[a-z]{1,8}",
        ) {
            let grid = Grid::new(Instant::now(), Duration::from_millis(millis), &name);
            let (due, next) = (grid.due(slot), grid.due(slot + 1));
            prop_assert_eq!(grid.slot_at(due), slot);
            prop_assert_eq!(grid.slot_at(next - Duration::from_nanos(1)), slot);
            if slot > 0 {
                prop_assert_eq!(next - due, Duration::from_millis(millis));
            }
        }

        #[test]
        fn the_first_two_slots_are_half_to_one_and_a_half_periods_apart(
            millis in 1u64..100_000, name in "[a-z]{1,8}",
        ) {
            let period = Duration::from_millis(millis);
            let grid = Grid::new(Instant::now(), period, &name);
            let apart = grid.due(1) - grid.due(0);
            prop_assert!(apart >= period / 2 && apart < period + period / 2, "{:?}", apart);
            let jitter = apart.abs_diff(period);
            prop_assert!(jitter <= MAX_SPREAD / 2, "{:?}", jitter);
        }

        #[test]
        fn back_off_stays_between_half_the_doubled_delay_and_its_cap(
            seed in any::<u64>(), first in 1u64..5_000, largest in 1u64..60_000,
        ) {
            let (first, largest) = (Duration::from_millis(first), Duration::from_millis(largest));
            let mut backoff = Backoff::new(first, largest, seed);
            let mut expected = first;
            for _ in 0..40 {
                let cap = expected.min(largest.max(first));
                let delay = backoff.next();
                prop_assert!(delay >= cap / 2 && delay <= cap, "{:?} of {:?}", delay, cap);
                expected = expected.saturating_mul(2);
            }
            backoff.reset();
            prop_assert!(backoff.next() <= first);
        }
    }

    #[test]
    fn devices_with_like_names_do_not_poll_in_step() {
        let now = Instant::now();
        let mut phases: Vec<_> = (0..100)
            .map(|i| Grid::new(now, Duration::from_secs(1), &format!("press-{i}")).first)
            .collect();
        phases.sort_unstable();
        let widest = phases.windows(2).map(|w| w[1] - w[0]).max().unwrap();
        assert!(widest < Duration::from_millis(120), "a hole of {widest:?}");
        assert!(phases[99] - phases[0] > Duration::from_millis(800), "{phases:?}");
    }

    #[test]
    fn attempts_at_the_cap_are_not_evenly_spaced() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, second, 7);
        let delays: std::collections::BTreeSet<_> = (0..8).map(|_| backoff.next()).collect();
        assert!(delays.len() > 4, "{delays:?}");
    }

    #[test]
    fn a_slot_beyond_the_clock_is_far_away_and_no_panic() {
        let grid = Grid::new(Instant::now(), Duration::from_secs(86_400), "x");
        assert!(grid.due(u64::MAX) > Instant::now() + FAR / 2);
    }
}
