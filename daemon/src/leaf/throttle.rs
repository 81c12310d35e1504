//! How much of what nats-server says is passed on.
//!
//! # Invariants
//! - At most [`PER_SECOND`] lines a second, whatever they say.
//! - Lines that differ only in numbers, such as those of each attempt at a hub that refuses, are one
//!   kind: [`BURST`] of a kind are passed on at once, then one every [`REFILL`].
//! - What was left out is counted and said before the next line that is passed on.
//! - The kinds that are remembered are bounded.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A start writes about fifteen lines at once; a storm of refused connections, thousands.
const PER_SECOND: u32 = 50;
/// Enough for a person who watches a link come and go a few times.
const BURST: u32 = 6;
/// A hub that refuses for a week is worth a line of each kind now and then, not every two seconds.
const REFILL: Duration = Duration::from_secs(300);
/// Kinds of lines remembered; nats-server has a few dozen that concern a leaf.
const KINDS: usize = 64;

/// Lets lines through and counts the others.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    window: Option<Instant>,
    passed: u32,
    held_back: u64,
    kinds: HashMap<String, Budget>,
}

/// What happens to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is passed on; before it, this many were not.
    Pass { held_back: u64 },
    /// It is not.
    Hold,
}

/// What is left for one kind of line.
#[derive(Debug, Clone, Copy)]
struct Budget {
    left: u32,
    /// When the last line was added to what is left.
    since: Instant,
}

impl Throttle {
    pub(super) fn judge(&mut self, line: &str, now: Instant) -> Verdict {
        let is_over = |start: Instant| now.duration_since(start) >= Duration::from_secs(1);
        if self.window.is_none_or(is_over) {
            self.window = Some(now);
            self.passed = 0;
        }
        if self.passed >= PER_SECOND || !self.budget(line, now).spend(now) {
            self.held_back = self.held_back.saturating_add(1);
            return Verdict::Hold;
        }
        self.passed += 1;
        Verdict::Pass { held_back: std::mem::take(&mut self.held_back) }
    }

    fn budget(&mut self, line: &str, now: Instant) -> &mut Budget {
        let kind: String = line.chars().filter(|c| !c.is_ascii_digit()).collect();
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(&kind) {
            let oldest = self.kinds.iter().min_by_key(|(_, budget)| budget.since);
            if let Some(oldest) = oldest.map(|(kind, _)| kind.clone()) {
                self.kinds.remove(&oldest);
            }
        }
        self.kinds.entry(kind).or_insert(Budget { left: BURST, since: now })
    }
}

impl Budget {
    fn spend(&mut self, now: Instant) -> bool {
        while self.left < BURST && now.duration_since(self.since) >= REFILL {
            self.left += 1;
            self.since += REFILL;
        }
        if self.left == BURST {
            self.since = now;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(number: u32) -> String {
        format!("127.0.0.1:{} - lid:{number} - Leafnode Error 'Authorization Violation'", 7422)
    }

    #[test]
    fn a_flood_of_lines_is_thinned_and_counted() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let kinds = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let lines = || kinds.iter().cycle().take(1_000);
        let passed = lines().filter(|line| throttle.judge(line, start) != Verdict::Hold).count();
        assert_eq!(passed, 50);
        let later = start + Duration::from_secs(1);
        assert_eq!(throttle.judge("new", later), Verdict::Pass { held_back: 950 });
        assert_eq!(throttle.judge("newer", later), Verdict::Pass { held_back: 0 });
    }

    #[test]
    fn a_hub_that_refuses_for_a_week_is_told_of_a_few_times_a_day_and_other_lines_pass() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let every = Duration::from_secs(2);
        let attempts = 7 * 86_400 / 2;
        let told = (0..attempts)
            .filter(|n| throttle.judge(&refusal(*n), start + every * *n) != Verdict::Hold)
            .count();
        assert!((2_000..2_030).contains(&told), "{told}");
        let now = start + every * attempts;
        assert!(matches!(throttle.judge("slow consumer", now), Verdict::Pass { held_back: 1.. }));
    }

    #[test]
    fn the_kinds_that_are_remembered_are_bounded() {
        let (mut throttle, mut now) = (Throttle::default(), Instant::now());
        for length in 1..1_000 {
            now += Duration::from_secs(1);
            assert_ne!(throttle.judge(&"x".repeat(length), now), Verdict::Hold);
            assert!(throttle.kinds.len() <= KINDS);
        }
    }
}
