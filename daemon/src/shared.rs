//! Equal things kept once.

use std::collections::VecDeque;
use std::sync::Arc;

/// How many different things are looked through. Tags of a device have a handful of units and
/// deadbands; a configuration in which each tag has its own gains nothing and must not get slow.
const RECENT: usize = 32;

/// Gives out one allocation for things that are equal and come near each other.
#[derive(Debug)]
pub(crate) struct Recent<T>(VecDeque<Arc<T>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: PartialEq> Recent<T> {
    /// The one that is equal to `it`, or `it`.
    pub(crate) fn one_of(&mut self, it: T) -> Arc<T> {
        if let Some(known) = self.0.iter().rev().find(|known| ***known == it) {
            return Arc::clone(known);
        }
        if self.0.len() >= RECENT {
            self.0.pop_front();
        }
        let fresh = Arc::new(it);
        self.0.push_back(Arc::clone(&fresh));
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_is_kept_once() {
        let mut recent = Recent::default();
        let (a, b, again) = (recent.one_of(1), recent.one_of(2), recent.one_of(1));
        assert!(Arc::ptr_eq(&a, &again) && !Arc::ptr_eq(&a, &b));
    }

    #[test]
    fn what_was_not_seen_for_long_is_forgotten() {
        let mut recent = Recent::default();
        for n in 0..1000 {
            assert_eq!(*recent.one_of(n), n);
            assert!(recent.0.len() <= RECENT);
        }
        let last = recent.one_of(999);
        assert_eq!(Arc::strong_count(&last), 2);
        assert_eq!(Arc::strong_count(&recent.one_of(968)), 2);
        assert!(!recent.0.iter().any(|known| **known == 967));
    }
}
