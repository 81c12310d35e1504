//! Reading at intervals, for servers without subscriptions.
//!
//! # Invariants
//! - Slots lie on a grid of the group's interval; each is read once or counted as missed.
//! - A group has one request under way at most: a read that takes longer than its interval costs
//!   the slots in between, and delays no other group.

use std::time::Duration;

use tokio::time::Instant;

use tidegate_translator::grid::Grid;

/// The slots of one group.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    grid: Grid<Instant>,
    /// The first slot that is not accounted for.
    next: u64,
    /// Values of one slot.
    values: u64,
    reading: bool,
}

/// A slot that is to be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    /// Values of the slots before it that passed without a reading.
    pub(crate) passed: u64,
}

impl Slots {
    pub(crate) fn new(now: Instant, every: Duration, name: &str, values: usize) -> Self {
        let values = u64::try_from(values).unwrap_or(u64::MAX);
        Self { grid: Grid::new(now, every, name), next: 0, values, reading: false }
    }

    /// When there is something to read; `None` while a request is under way.
    pub(crate) fn due(&self) -> Option<Instant> {
        (!self.reading).then(|| self.grid.due(self.next))
    }

    /// Takes the slot whose time it is.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Due> {
        let slot = self.grid.slot_at(now);
        if self.reading || slot < self.next {
            return None;
        }
        let passed = slot - self.next;
        self.next = slot + 1;
        self.reading = true;
        Some(Due { passed: passed.saturating_mul(self.values) })
    }

    /// The request has an end.
    pub(crate) const fn done(&mut self) {
        self.reading = false;
    }

    /// Accounts for every slot until now without reading. Gives how many values those had.
    pub(crate) fn pass(&mut self, now: Instant) -> u64 {
        let end = self.grid.slot_at(now) + 1;
        let passed = end.saturating_sub(self.next);
        self.next = self.next.max(end);
        self.reading = false;
        passed.saturating_mul(self.values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_slot_is_read_or_counted(
            steps in proptest::collection::vec((1_u64..5_000, 0_u64..3_000, any::<bool>()), 1..60),
        ) {
            let begin = Instant::now();
            let mut slots = Slots::new(begin, Duration::from_millis(700), "press", 1);
            let (mut now, mut read, mut passed) = (begin, 0, 0);
            for (wait, takes, away) in steps {
                now += Duration::from_millis(wait);
                if away {
                    passed += slots.pass(now);
                } else if let Some(due) = slots.take(now) {
                    read += 1;
                    passed += due.passed;
                    prop_assert_eq!(slots.take(now), None);
                    now += Duration::from_millis(takes);
                    slots.done();
                }
            }
            passed += slots.pass(now);
            prop_assert_eq!(read + passed, slots.grid.slot_at(now) + 1);
        }
    }
}
