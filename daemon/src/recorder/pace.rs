//! When to commit: pure.
//!
//! # Invariants
//! - A reading waits at most `commit_every` when there is much to write, and at most five times
//!   that when there is little: small commits wear flash (1.9 kB a commit costs 3.1 bytes at the
//!   device per byte, 27 kB 1.15; measured on ext4).
//! - The gateway's own health tags never cause a commit; they ride along.

use std::time::Duration;

/// Above this a commit is worth its block writes.
const LITTLE_BYTES: usize = 16 * 1024;
/// A commit is due at once: it bounds what one `fdatasync` has to carry.
const MUCH_BYTES: usize = 1024 * 1024;
/// How much longer little may wait.
const PATIENCE: u32 = 5;

/// Decides when the pending samples are committed.
#[derive(Debug)]
pub(super) struct CommitPace {
    every: Duration,
    since: Option<Duration>,
    /// Somebody waits for the disk, until then at most.
    awaited: Option<Duration>,
    bytes: usize,
}

impl CommitPace {
    /// Commits `every` so often while there is much.
    #[must_use]
    pub(super) const fn new(every: Duration) -> Self {
        Self { every, since: None, awaited: None, bytes: 0 }
    }

    /// Notes that something waits for the next commit; `urgent` starts the clock.
    pub(super) fn waiting(&mut self, bytes: usize, urgent: bool, now: Duration) {
        self.bytes = self.bytes.saturating_add(bytes);
        if urgent && self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// Notes that somebody waits for the next commit, `until` then at most.
    pub(super) fn awaited(&mut self, until: Duration) {
        self.awaited = Some(self.awaited.map_or(until, |known| known.min(until)));
    }

    /// Notes that a commit was done.
    pub(super) fn committed(&mut self) {
        self.since = None;
        self.awaited = None;
        self.bytes = 0;
    }

    /// When the next commit is due; `None` while nothing urgent waits.
    #[must_use]
    pub(super) fn due_at(&self) -> Option<Duration> {
        [self.usually_due_at(), self.awaited].into_iter().flatten().min()
    }

    fn usually_due_at(&self) -> Option<Duration> {
        let since = self.since?;
        if self.bytes >= MUCH_BYTES {
            return Some(since);
        }
        let wait = if self.bytes >= LITTLE_BYTES { self.every } else { self.every * PATIENCE };
        Some(since.saturating_add(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn little_waits_five_intervals_and_much_waits_one() {
        let mut pace = CommitPace::new(SECOND);
        pace.waiting(100, true, SECOND);
        assert_eq!(pace.due_at(), Some(6 * SECOND));
        pace.waiting(LITTLE_BYTES, true, 2 * SECOND);
        assert_eq!(pace.due_at(), Some(2 * SECOND));
    }

    #[test]
    fn a_very_large_commit_is_due_at_once() {
        let mut pace = CommitPace::new(SECOND);
        pace.waiting(MUCH_BYTES, true, SECOND);
        assert_eq!(pace.due_at(), Some(SECOND));
    }

    #[test]
    fn whoever_waits_for_the_disk_waits_no_longer_than_agreed() {
        let mut pace = CommitPace::new(SECOND);
        pace.waiting(1, true, SECOND);
        pace.awaited(3 * SECOND);
        pace.awaited(2 * SECOND);
        pace.awaited(4 * SECOND);
        assert_eq!(pace.due_at(), Some(2 * SECOND));
        pace.committed();
        assert_eq!(pace.due_at(), None);
        pace.waiting(LITTLE_BYTES, true, SECOND);
        pace.awaited(9 * SECOND);
        assert_eq!(pace.due_at(), Some(2 * SECOND));
    }

    #[test]
    fn health_tags_alone_never_make_a_commit_due() {
        let mut pace = CommitPace::new(SECOND);
        pace.waiting(LITTLE_BYTES, false, SECOND);
        assert_eq!(pace.due_at(), None);
        pace.waiting(1, true, 3 * SECOND);
        assert_eq!(pace.due_at(), Some(4 * SECOND));
    }
}
