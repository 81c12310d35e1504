//! Identifiers of messages that came before.
//!
//! # Invariants
//! - One that is on its way to the disk is known already, so that a repeat that overtakes the answer
//!   is not recorded; one that did not arrive there is forgotten, so that its repeat is.
//! - Of what is recorded the newest `capacity` are remembered, however old: no clock can make a
//!   repeat new.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What is known of an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known<P> {
    /// Nothing.
    Nothing,
    /// It is on its way to the disk.
    Underway,
    /// It is recorded there.
    Recorded(P),
}

/// The identifiers of one device; `P` is a place in the record.
#[derive(Debug, Clone)]
pub struct Window<P> {
    capacity: usize,
    entries: HashMap<Arc<str>, Option<P>>,
    /// Those that are recorded, oldest first.
    order: VecDeque<Arc<str>>,
}

impl<P: Copy> Window<P> {
    /// Remembers nothing yet, and `capacity` identifiers at most.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new(), order: VecDeque::new() }
    }

    /// What is known of one.
    #[must_use]
    pub fn look(&self, id: &str) -> Known<P> {
        match self.entries.get(id) {
            None => Known::Nothing,
            Some(None) => Known::Underway,
            Some(Some(place)) => Known::Recorded(*place),
        }
    }

    /// Notes that a message is on its way to the disk.
    pub fn begin(&mut self, id: &Arc<str>) {
        self.entries.entry(Arc::clone(id)).or_insert(None);
    }

    /// Notes where a message is recorded; of one that did not begin, too: it was found there.
    pub fn recorded(&mut self, id: &Arc<str>, place: P) {
        if self.entries.insert(Arc::clone(id), Some(place)).flatten().is_none() {
            self.order.push_back(Arc::clone(id));
        }
        self.shrink();
    }

    /// Notes that a message that was on its way is not recorded.
    pub fn failed(&mut self, id: &str) {
        if self.entries.get(id).is_some_and(Option::is_none) {
            self.entries.remove(id);
        }
    }

    /// Remembers another number from now on.
    pub fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.shrink();
    }

    /// How many recorded ones are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.order.len()
    }

    fn shrink(&mut self) {
        while self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_repeat_is_known_underway_and_recorded_and_forgotten_when_it_failed() {
        let mut window = Window::new(10);
        let id: Arc<str> = "a".into();
        assert_eq!(window.look("a"), Known::Nothing);
        window.begin(&id);
        assert_eq!(window.look("a"), Known::Underway);
        window.failed("a");
        assert_eq!(window.look("a"), Known::<u8>::Nothing);
        window.begin(&id);
        window.recorded(&id, 7);
        // What is recorded is not taken back.
        window.failed("a");
        window.begin(&id);
        assert_eq!(window.look("a"), Known::Recorded(7));
    }

    proptest! {
        #[test]
        fn the_newest_are_remembered_and_no_more_than_that(
            ids in prop::collection::vec(0_u8..20, 0..100), capacity in 0_usize..12,
        ) {
            let mut window = Window::new(capacity);
            let mut model: Vec<u8> = Vec::new();
            for (place, id) in ids.iter().enumerate() {
                let text: Arc<str> = id.to_string().into();
                let is_known = matches!(window.look(&text), Known::Recorded(_));
                prop_assert_eq!(is_known, model.contains(id));
                if !is_known {
                    window.begin(&text);
                    window.recorded(&text, place);
                    model.push(*id);
                    let beyond = model.len().saturating_sub(capacity);
                    model.drain(..beyond);
                }
            }
            prop_assert_eq!(window.count(), model.len());
            prop_assert_eq!(window.entries.len(), model.len());
        }
    }
}
