//! What may be spent on units that do not answer.
//!
//! # Invariants
//! - Probes of units that were given up take at most [`SHARE_PERCENT`] of the bus' time, beyond the
//!   first one, while the budget is asked. A probe that is answered costs nothing.
//! - One such probe is under way at a time.
//! - Units that wait for the budget get it in the order in which their pauses ended; one that does
//!   not come for it holds up the others for [`PATIENCE`] only.
//! - Nothing here has a clock; time comes in.

use std::time::Duration;

use tokio::time::Instant;

/// Of 32 units the healthy ones shall keep 90 % of their rate, whatever the others do; two of the
/// ten hundredths are left for connections that such probes cost.
pub(crate) const SHARE_PERCENT: u32 = 8;
/// How long the one whose turn it is may let the others wait: units come once for each of their
/// slots.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Nothing may be spent before.
    free_at: Option<Instant>,
    spending: bool,
    /// Who waits, and when their pauses ended.
    waiting: Vec<(u8, Instant)>,
}

impl Budget {
    /// Takes the budget for a probe of `unit`, whose pause ended at `since`; tells whether it may
    /// be sent. If so, its end must be told by [`Self::spent`].
    pub(crate) fn take(&mut self, now: Instant, unit: u8, since: Instant) -> bool {
        let free = self.free_at.is_none_or(|at| at <= now);
        let patience_ends = self.free_at.map(|at| at + PATIENCE);
        let is_first = self
            .waiting
            .iter()
            .all(|(other, waits)| *other == unit || (since, unit) <= (*waits, *other))
            || patience_ends.is_none_or(|at| at <= now);
        self.waiting.retain(|(other, _)| *other != unit);
        if self.spending || !free || !is_first {
            self.waiting.push((unit, since));
            return false;
        }
        self.spending = true;
        true
    }

    /// A probe ended: `cost` is what it took when nobody answered.
    pub(crate) fn spent(&mut self, now: Instant, cost: Option<Duration>) {
        self.spending = false;
        if let Some(cost) = cost {
            self.free_at = Some(now + cost * (100 - SHARE_PERCENT) / SHARE_PERCENT);
        }
    }

    /// A unit needs the budget no more.
    pub(crate) fn forget(&mut self, unit: u8) {
        self.waiting.retain(|(other, _)| *other != unit);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_unit_that_does_not_come_for_its_turn_does_not_hold_up_the_others() {
        let mut budget = Budget::default();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        assert!(budget.take(start, 1, start));
        assert!(!budget.take(start, 2, start), "one at a time");
        assert!(!budget.take(start + second, 3, start + second));
        budget.spent(start + second, Some(second));
        let free = start + second + second * 92 / 8;
        assert!(!budget.take(free - Duration::from_millis(1), 3, start + second));
        assert!(!budget.take(free, 3, start + second), "unit 2 waits for longer");
        assert!(budget.take(free + PATIENCE, 3, start + second));
        budget.spent(free + PATIENCE, None);
        assert!(budget.take(free + PATIENCE, 2, start), "an answer costs nothing");
    }

    proptest! {
        /// Dead units come once a second each, as soon as their pause is over.
        #[test]
        fn dead_units_share_eight_hundredths_of_the_time_evenly(
            units in 1u8..32, timeout_ms in 100u64..3_000, phases in any::<u64>(),
        ) {
            let mut budget = Budget::default();
            let start = Instant::now();
            let timeout = Duration::from_millis(timeout_ms);
            let phase = |unit: u8| (phases.rotate_left(u32::from(unit)) % 1_000, unit);
            let mut order: Vec<_> = (0..units).map(phase).collect();
            order.sort_unstable();
            let mut since: BTreeMap<u8, Instant> = (0..units).map(|unit| (unit, start)).collect();
            let mut probes: BTreeMap<u8, u32> = BTreeMap::new();
            let (mut spent, mut ends) = (Duration::ZERO, None);
            let seconds = 2_000;
            for second in 0..seconds {
                for (millis, unit) in &order {
                    let now = start + Duration::from_millis(second * 1_000 + millis);
                    if let Some((at, cost)) = ends.filter(|(at, _)| *at <= now) {
                        budget.spent(at, Some(cost));
                        ends = None;
                    }
                    if now >= since[unit] && budget.take(now, *unit, since[unit]) {
                        prop_assert_eq!(ends, None, "two probes at a time");
                        ends = Some((now + timeout, timeout));
                        spent += timeout;
                        since.insert(*unit, now + timeout + Duration::from_secs(1));
                        *probes.entry(*unit).or_default() += 1;
                    }
                }
            }
            let most = Duration::from_secs(seconds) * SHARE_PERCENT / 100 + timeout;
            prop_assert!(spent <= most, "{:?} of {:?}", spent, most);
            let (fewest, most) = (
                (0..units).map(|unit| probes.get(&unit).copied().unwrap_or(0)).min().unwrap(),
                probes.values().max().unwrap(),
            );
            prop_assert!(most - fewest <= 1, "{:?}", probes);
        }
    }
}
