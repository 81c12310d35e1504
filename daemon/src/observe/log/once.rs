//! An aid against log floods: one line per change instead of one per attempt.

/// Remembers what was logged last.
#[derive(Debug, Clone, Default)]
pub struct OncePerChange<T> {
    last: Option<T>,
    repeats: u64,
}

impl<T: PartialEq> OncePerChange<T> {
    /// Nothing was logged yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None, repeats: 0 }
    }

    /// Notes an occurrence. `Some` when it is worth a line, with how often the one before was
    /// repeated without one.
    pub fn note(&mut self, occurrence: T) -> Option<u64> {
        if self.last.as_ref() == Some(&occurrence) {
            self.repeats = self.repeats.saturating_add(1);
            return None;
        }
        self.last = Some(occurrence);
        Some(std::mem::take(&mut self.repeats))
    }

    /// Forgets what was logged, for instance because the trouble is over: the same trouble is then
    /// news again. Returns how often it was repeated.
    pub fn forget(&mut self) -> u64 {
        self.last = None;
        std::mem::take(&mut self.repeats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_worth_a_line_and_repeats_are_counted() {
        let mut once = OncePerChange::new();
        assert_eq!(once.note("timeout"), Some(0));
        assert_eq!(once.note("timeout"), None);
        assert_eq!(once.note("timeout"), None);
        assert_eq!(once.note("refused"), Some(2));
        assert_eq!(once.forget(), 0);
        assert_eq!(once.note("refused"), Some(0));
    }
}
