//! How often a device may write into the log.

use std::ops::Add;
use std::time::Duration;

/// Lines that a device may write in a burst: a block that is taken apart tells of its bad tags.
const BURST: u32 = 12;
/// Time after which one more line is allowed: a device that flaps for a day writes 2,880 lines.
const REFILL: Duration = Duration::from_secs(30);

/// Lets a burst of lines through and then one each half minute, and counts the others. `I` is an
/// instant of whatever monotonic clock the translator lives by.
#[derive(Debug, Clone)]
pub struct Restraint<I> {
    left: u32,
    since: I,
    swallowed: u64,
}

impl<I: Copy + Ord + Add<Duration, Output = I>> Restraint<I> {
    /// A whole burst is left.
    #[must_use]
    pub const fn new(now: I) -> Self {
        Self { left: BURST, since: now, swallowed: 0 }
    }

    /// Whether a line may be written now; one that may not is counted.
    pub fn lets_through(&mut self, now: I) -> bool {
        while self.left < BURST && now >= self.since + REFILL {
            self.left += 1;
            self.since = self.since + REFILL;
        }
        if self.left == BURST {
            self.since = now;
        }
        if self.left == 0 {
            self.swallowed += 1;
            return false;
        }
        self.left -= 1;
        true
    }

    /// How many lines were not written before the one that is now, where there were any.
    pub fn take_left_out(&mut self) -> Option<u64> {
        let swallowed = std::mem::take(&mut self.swallowed);
        (swallowed > 0).then_some(swallowed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_burst_goes_through_then_a_line_each_half_minute_and_the_others_are_counted() {
        let mut now = Instant::now();
        let mut restraint = Restraint::new(now);
        for _ in 0..BURST {
            assert!(restraint.lets_through(now));
        }
        assert!(!restraint.lets_through(now) && !restraint.lets_through(now));
        now += REFILL;
        assert!(restraint.lets_through(now));
        assert_eq!(restraint.take_left_out(), Some(2));
        assert_eq!(restraint.take_left_out(), None);
        assert!(!restraint.lets_through(now));
        // A long silence gives one burst, and no more.
        now += REFILL * 100;
        let through = (0..100).filter(|_| restraint.lets_through(now)).count();
        assert_eq!(through, BURST as usize);
    }
}
