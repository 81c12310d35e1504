//! Which notifications of a subscription arrived, and which did not.
//!
//! # Invariants
//! - Every number between two notifications that arrived is named as missing exactly once.
//! - A notification that comes again, or late, is told apart from a new one.
//! - Numbers run from 1 to 2^32 − 1 and begin again at 1 (Part 4, 7.26); 0 is never used.

/// The most notifications that are asked for again; servers hold back fewer than that.
const MAX_MISSING: u32 = 100;

/// What a sequence number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It is the one that was due.
    Next,
    /// It was here before.
    Again,
    /// Those before it are missing.
    Gap(Missing),
}

/// Notifications that did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

impl Missing {
    /// Their numbers, when they are few enough to be asked for again.
    pub(crate) fn numbers(self) -> impl Iterator<Item = u32> {
        let count = if self.count > MAX_MISSING { 0 } else { self.count };
        (0..count).map(move |after| advance(self.first, after))
    }

    /// Those that are left after the first `settled`; `None` when there are none.
    pub(crate) fn after(self, settled: u32) -> Option<Self> {
        let count = self.count.checked_sub(settled).filter(|count| *count > 0)?;
        Some(Self { first: advance(self.first, settled), count })
    }
}

/// The numbers of one subscription.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sequence {
    /// The one that is due; none before the first notification.
    next: Option<u32>,
}

const fn advance(from: u32, by: u32) -> u32 {
    match from.checked_add(by) {
        Some(number) => number,
        // One less than the difference: 0 is left out.
        None => from.wrapping_add(by).wrapping_add(1),
    }
}

/// How many numbers lie from one to the other, around the end.
const fn distance(from: u32, to: u32) -> u32 {
    if to >= from { to - from } else { to.wrapping_sub(from).wrapping_sub(1) }
}

impl Sequence {
    /// A new subscription, of which the first notification is number 1.
    pub(crate) const fn new() -> Self {
        Self { next: Some(1) }
    }

    /// A notification with data came.
    pub(crate) const fn data(&mut self, number: u32) -> Seen {
        let seen = self.look(number);
        if !matches!(seen, Seen::Again) {
            self.next = Some(advance(number, 1));
        }
        seen
    }

    /// A keep-alive came: it bears the number of the next notification, and takes none.
    pub(crate) const fn keep_alive(&mut self, number: u32) -> Seen {
        let seen = self.look(number);
        if !matches!(seen, Seen::Again) {
            self.next = Some(number);
        }
        seen
    }

    const fn look(&self, number: u32) -> Seen {
        let Some(next) = self.next else { return Seen::Next };
        if number == next || number == 0 {
            return Seen::Next;
        }
        let ahead = distance(next, number);
        // What lies more than half of all numbers ahead lies behind.
        if ahead > u32::MAX / 2 {
            return Seen::Again;
        }
        Seen::Gap(Missing { first: next, count: ahead })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(sequence: &mut Sequence, numbers: &[u32]) -> Vec<Seen> {
        numbers.iter().map(|number| sequence.data(*number)).collect()
    }

    #[test]
    fn numbers_in_order_leave_no_gap_also_around_the_end() {
        let mut sequence = Sequence { next: Some(u32::MAX - 1) };
        let all = seen(&mut sequence, &[u32::MAX - 1, u32::MAX, 1, 2]);
        assert_eq!(all, [Seen::Next; 4]);
    }

    #[test]
    fn a_gap_names_what_is_missing_around_the_end() {
        let mut sequence = Sequence { next: Some(u32::MAX) };
        let Seen::Gap(missing) = sequence.data(3) else { panic!("no gap") };
        assert_eq!(missing.numbers().collect::<Vec<_>>(), [u32::MAX, 1, 2]);
    }

    #[test]
    fn a_keep_alive_shows_a_gap_and_takes_no_number() {
        let mut sequence = Sequence::new();
        assert_eq!(sequence.keep_alive(1), Seen::Next);
        assert_eq!(sequence.keep_alive(1), Seen::Next);
        assert_eq!(sequence.data(1), Seen::Next);
        assert_eq!(sequence.keep_alive(3), Seen::Gap(Missing { first: 2, count: 1 }));
        assert_eq!(sequence.data(3), Seen::Next);
        assert_eq!(sequence.data(2), Seen::Again);
    }

    #[test]
    fn too_many_are_lost_and_not_asked_for() {
        let missing = Missing { first: 1, count: MAX_MISSING + 1 };
        assert_eq!(missing.numbers().count(), 0);
    }

    proptest! {
        #[test]
        fn what_arrived_and_what_is_missing_are_all_numbers(
            start in prop_oneof![Just(1_u32), u32::MAX - 20..=u32::MAX, 1_u32..1000],
            lost in proptest::collection::vec(any::<bool>(), 1..60),
        ) {
            let mut sequence = Sequence { next: Some(start) };
            let numbers: Vec<u32> =
                (0..u32::try_from(lost.len()).unwrap()).map(|n| advance(start, n)).collect();
            let mut found = Vec::new();
            for (number, lost) in numbers.iter().zip(&lost) {
                if !lost {
                    if let Seen::Gap(missing) = sequence.data(*number) {
                        found.extend(missing.numbers());
                    }
                    found.push(*number);
                }
            }
            let until = lost.iter().rposition(|lost| !lost).map_or(0, |last| last + 1);
            prop_assert_eq!(&found[..], &numbers[..until]);
        }
    }
}
