//! Which samples of an epoch have been given.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use tidegate_journal::Epoch;

/// Ranges of sequence numbers by epoch. One of them for each hole that a copy has.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(HashMap<Epoch, BTreeMap<u64, u64>>);

impl Seen {
    /// Takes a range in; returns the parts of it that are new, in order.
    pub(super) fn insert(&mut self, epoch: Epoch, range: Range<u64>) -> Vec<Range<u64>> {
        if range.is_empty() {
            return Vec::new();
        }
        let known = self.0.entry(epoch).or_default();
        let (mut begin, mut end) = (range.start, range.end);
        let (mut new, mut at) = (Vec::new(), range.start);
        // Ranges that touch this one, the first of which may begin before it.
        let before = known.range(..begin).next_back().filter(|(_, last)| **last >= begin);
        let first = before.map_or(begin, |(first, _)| *first);
        let touched: Vec<(u64, u64)> =
            known.range(first..=end).map(|(first, last)| (*first, *last)).collect();
        for (first, last) in touched {
            if first > at {
                new.push(at..first.min(range.end));
            }
            at = at.max(last);
            begin = begin.min(first);
            end = end.max(last);
            known.remove(&first);
        }
        if at < range.end {
            new.push(at..range.end);
        }
        known.insert(begin, end);
        new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_new_is_what_no_range_before_had(
            ranges in prop::collection::vec((0_u64..60, 0_u64..12), 1..40),
        ) {
            let epoch = Epoch([1; 16]);
            let (mut seen, mut model) = (Seen::default(), BTreeSet::new());
            for (first, length) in ranges {
                let range = first..first + length;
                let expected: Vec<u64> =
                    range.clone().filter(|seq| model.insert(*seq)).collect();
                let new: Vec<u64> = seen.insert(epoch, range).into_iter().flatten().collect();
                prop_assert_eq!(new, expected);
                let held: u64 =
                    seen.0.values().flatten().map(|(first, end)| end - first).sum();
                prop_assert_eq!(usize::try_from(held).unwrap(), model.len());
            }
        }
    }
}
