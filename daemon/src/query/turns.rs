//! Whose turn it is: so many questions at work, so many waiting, and nobody else.

use std::collections::VecDeque;

/// What becomes of a question that comes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admitted<T> {
    /// It is worked on at once.
    Now(T),
    /// It waits for its turn.
    Later,
    /// There is no room.
    Busy(T),
}

/// Questions at work, and those in front of the door.
#[derive(Debug)]
pub(super) struct Turns<T> {
    most_at_work: usize,
    most_waiting: usize,
    at_work: usize,
    waiting: VecDeque<T>,
}

impl<T> Turns<T> {
    pub(super) const fn new(most_at_work: usize, most_waiting: usize) -> Self {
        Self { most_at_work, most_waiting, at_work: 0, waiting: VecDeque::new() }
    }

    pub(super) fn come(&mut self, question: T) -> Admitted<T> {
        if self.at_work < self.most_at_work {
            self.at_work += 1;
            return Admitted::Now(question);
        }
        if self.waiting.len() < self.most_waiting {
            self.waiting.push_back(question);
            return Admitted::Later;
        }
        Admitted::Busy(question)
    }

    /// One at work has ended; returns who is worked on in its place.
    pub(super) fn leave(&mut self) -> Option<T> {
        match self.waiting.pop_front() {
            Some(next) => Some(next),
            None => {
                self.at_work = self.at_work.saturating_sub(1);
                None
            }
        }
    }

    pub(super) const fn at_work(&self) -> usize {
        self.at_work
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_worked_on_in_the_order_in_which_they_came_and_the_rest_is_turned_away() {
        let mut turns = Turns::new(2, 2);
        assert_eq!(turns.come(1), Admitted::Now(1));
        assert_eq!(turns.come(2), Admitted::Now(2));
        assert_eq!((turns.come(3), turns.come(4)), (Admitted::Later, Admitted::Later));
        assert_eq!(turns.come(5), Admitted::Busy(5));
        assert_eq!((turns.at_work(), turns.waiting()), (2, 2));
        assert_eq!((turns.leave(), turns.leave(), turns.leave()), (Some(3), Some(4), None));
        assert_eq!((turns.at_work(), turns.waiting()), (1, 0));
        assert_eq!(turns.leave(), None);
        assert_eq!(turns.come(6), Admitted::Now(6));
        assert_eq!(turns.at_work(), 1);
    }
}
