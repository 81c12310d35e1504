//! How large a message is, how long its answer may take, and how fast back-fill may go.
//!
//! # Invariants
//! - A message takes about a second at the measured rate; its size never more than doubles from
//!   one acknowledgement to the next.
//! - A deadline grows with every repeat, and what it grew to is kept until a message is acknowledged
//!   that was sent once: on a link that became thin, repeats would otherwise fill what is left of it,
//!   each behind the one before.
//! - Rates come from messages that were at least half full: a small message measures only the round
//!   trip. One that was sent again can only lower the rate, because its acknowledgement may belong
//!   to any of its transmissions.
//! - A lower rate is believed at once, a higher one step by step.

use std::time::Duration;

/// The size before anything was measured: 2 s on a 64 kbit/s link.
pub(crate) const FIRST_SIZE: usize = 16 * 1024;
/// Below this, headers and round trips cost more than they save.
pub(crate) const SMALLEST: usize = 1024;
/// The smallest size for slowness alone: below it, a link that is shared with a greedy neighbour
/// goes to the neighbour, because ours is idle for a round trip after each message.
const SMALL: usize = 4 * 1024;
/// What a message should take.
const TARGET: Duration = Duration::from_secs(1);
/// Bounds of a deadline. Lower: three round trips of a satellite link. Upper: a frame of 64 KiB at
/// 8 kbit/s.
const SHORTEST_DEADLINE: Duration = Duration::from_secs(2);
const LONGEST_DEADLINE: Duration = Duration::from_secs(64);
/// From the shortest deadline to beyond the longest.
const MOST_DOUBLINGS: u32 = 6;
/// To 16 s: a question asked into a cut must not hold delivery up for long once it is over.
const MOST_QUESTION_DOUBLINGS: u32 = 3;
/// Before one was measured.
const FIRST_ROUND_TRIP: Duration = Duration::from_millis(500);
/// The weight of a new measurement.
const WEIGHT: f64 = 0.3;

/// The measured link.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    size: usize,
    /// Bytes per second.
    rate: Option<f64>,
    round_trip: Option<Duration>,
    cut_short: u32,
    closed: bool,
    /// How many times deadlines are doubled from the first transmission on.
    doubled: u32,
    /// Small requests in a row that got no answer in time.
    unheard: u32,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Self {
            size: FIRST_SIZE,
            rate: None,
            round_trip: None,
            cut_short: 0,
            closed: false,
            doubled: 0,
            unheard: 0,
        }
    }

    /// The size of the next message, in bytes.
    pub(crate) fn size(&self, most: usize) -> usize {
        self.size.min(most).max(SMALLEST)
    }

    /// Bytes per second, once measured.
    pub(crate) const fn rate(&self) -> Option<f64> {
        self.rate
    }

    pub(crate) fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or(FIRST_ROUND_TRIP)
    }

    /// A small request was answered after this time.
    pub(crate) fn answered(&mut self, took: Duration) {
        let smooth = self
            .round_trip
            .map_or(took, |old| old.mul_f64(1.0 - WEIGHT).saturating_add(took.mul_f64(WEIGHT)));
        self.round_trip = Some(smooth);
        self.unheard = 0;
    }

    /// A small request got no answer in time: the way may have become longer than was measured, and
    /// only an answer could tell.
    pub(crate) fn unheard(&mut self) {
        self.unheard = self.unheard.saturating_add(1);
    }

    /// A message was acknowledged; `took` only when it was sent once.
    pub(crate) fn acknowledged(&mut self, bytes: usize, took: Option<Duration>, most: usize) {
        self.cut_short = 0;
        self.closed = false;
        let Some(took) = took else { return };
        self.doubled = 0;
        if bytes.saturating_mul(2) < self.size(most) {
            return;
        }
        // A millisecond keeps the quotient finite on loopback.
        let on_the_wire = took.saturating_sub(self.round_trip.unwrap_or_default());
        let rate = to_f64(bytes) / on_the_wire.max(Duration::from_millis(1)).as_secs_f64();
        let smooth = self.rate.map_or(rate, |old| {
            if rate < old {
                // The mean of the times, which the longer one decides.
                (((1.0 - WEIGHT) / old) + (WEIGHT / rate)).recip()
            } else {
                old.mul_add(1.0 - WEIGHT, rate * WEIGHT)
            }
        });
        self.rate = Some(smooth);
        let wanted = to_usize(smooth * TARGET.as_secs_f64());
        self.size = wanted.min(self.size.saturating_mul(2)).clamp(SMALLEST, most.max(SMALLEST));
    }

    /// A message was acknowledged this long after it was first sent, and had been sent `repeats`
    /// times more. To be followed by [`Pace::acknowledged`].
    pub(crate) fn late(&mut self, bytes: usize, since_first: Duration, repeats: u32) {
        self.doubled = self.doubled.saturating_add(repeats).min(MOST_DOUBLINGS);
        let at_least = to_f64(bytes) / since_first.max(Duration::from_millis(1)).as_secs_f64();
        let believed = self.rate.map_or(at_least, |rate| rate.min(at_least));
        self.rate = Some(believed);
        let wanted = to_usize(believed * TARGET.as_secs_f64()).max(SMALL);
        self.size = self.size.min(wanted);
    }

    /// A message got no answer. Returns whether the size was halved: two in a row, and the link
    /// closed meanwhile or the hub answered a question.
    pub(crate) fn unanswered(&mut self, link_closed: bool) -> bool {
        self.cut_short = self.cut_short.saturating_add(1);
        self.closed |= link_closed;
        if self.cut_short < 2 || !self.closed {
            return false;
        }
        self.cut_short = 0;
        self.closed = false;
        let halved = (self.size / 2).max(SMALLEST);
        let smaller = halved < self.size;
        self.size = halved;
        self.rate = self.rate.map(|rate| rate / 2.0);
        smaller
    }

    /// Between two transmissions the link closed, or the hub answered a question after a message
    /// that it had not answered.
    pub(crate) fn suspect_size(&mut self) {
        self.closed |= self.cut_short > 0;
    }

    /// How long the answer to a message may take.
    pub(crate) fn deadline(&self, bytes: usize, attempt: u32) -> Duration {
        let rate = self.rate.unwrap_or_else(|| to_f64(FIRST_SIZE)).max(1.0);
        let wire = Duration::try_from_secs_f64(to_f64(bytes) / rate).unwrap_or(LONGEST_DEADLINE);
        let once = wire.saturating_add(self.round_trip() * 3);
        let doublings = attempt.saturating_sub(1).saturating_add(self.doubled);
        let grown = once.max(SHORTEST_DEADLINE).saturating_mul(1 << doublings.min(MOST_DOUBLINGS));
        grown.clamp(SHORTEST_DEADLINE, LONGEST_DEADLINE)
    }

    /// How long the answer to a small request may take.
    pub(crate) fn question_deadline(&self) -> Duration {
        let usual = (self.round_trip() * 6).clamp(SHORTEST_DEADLINE, LONGEST_DEADLINE);
        usual.max(SHORTEST_DEADLINE * (1 << self.unheard.min(MOST_QUESTION_DOUBLINGS)))
    }
}

/// Lets back-fill pass at a bounded rate. It may go into debt by one message, so a message larger
/// than a second's worth still passes.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    per_second: Option<f64>,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a rate, not an identity")]
        let per_second = limit.map(|limit| limit.max(1) as f64);
        Self { per_second, tokens: per_second.unwrap_or(0.0), at: Duration::ZERO }
    }

    /// When the next message may go; `now` or earlier means at once.
    pub(crate) fn free_at(&mut self, now: Duration) -> Duration {
        let Some(per_second) = self.per_second else { return now };
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = passed.mul_add(per_second, self.tokens).min(per_second);
        if self.tokens >= 0.0 {
            return now;
        }
        let wait = Duration::try_from_secs_f64(-self.tokens / per_second);
        now.saturating_add(wait.unwrap_or(LONGEST_DEADLINE))
    }

    pub(crate) fn take(&mut self, bytes: usize) {
        if self.per_second.is_some() {
            self.tokens -= to_f64(bytes);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
pub(crate) const fn to_f64(bytes: usize) -> f64 {
    bytes as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and rates are not negative"
)]
const fn to_usize(bytes: f64) -> usize {
    bytes as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 256 * 1024;

    /// Runs full messages over a link of this many bytes per second and returns the last size.
    fn settle(bytes_per_second: f64, round_trip: Duration) -> usize {
        let mut pace = Pace::new();
        pace.answered(round_trip);
        for _ in 0..30 {
            let bytes = pace.size(MOST);
            let wire = Duration::from_secs_f64(to_f64(bytes) / bytes_per_second);
            pace.acknowledged(bytes, Some(round_trip + wire), MOST);
        }
        pace.size(MOST)
    }

    #[test]
    fn a_message_takes_about_a_second_on_a_thin_link() {
        let size = settle(40_000.0, Duration::from_millis(100));
        assert!((36_000..44_000).contains(&size), "{size}");
    }

    #[test]
    fn a_fast_link_gets_the_largest_message() {
        assert_eq!(settle(10e6, Duration::from_millis(200)), MOST);
    }

    #[test]
    fn the_size_at_most_doubles_from_one_acknowledgement_to_the_next() {
        let mut pace = Pace::new();
        pace.acknowledged(FIRST_SIZE, Some(Duration::from_millis(2)), MOST);
        assert_eq!(pace.size(MOST), 2 * FIRST_SIZE);
    }

    #[test]
    fn two_timeouts_halve_the_size_only_when_the_link_closed() {
        let mut pace = Pace::new();
        assert!(!pace.unanswered(false));
        assert!(!pace.unanswered(false));
        pace.suspect_size();
        assert!(pace.unanswered(false));
        assert_eq!(pace.size(MOST), FIRST_SIZE / 2);
        assert!(!pace.unanswered(true));
        pace.acknowledged(10, None, MOST);
        assert!(!pace.unanswered(true), "an acknowledgement between them starts the count again");
    }

    #[test]
    fn a_deadline_is_size_by_rate_and_three_round_trips_and_doubles_with_each_repeat() {
        let mut pace = Pace::new();
        pace.answered(Duration::from_secs(1));
        pace.acknowledged(FIRST_SIZE, Some(Duration::from_secs(5)), MOST);
        // 16 KiB in 4 s on the wire.
        let once = pace.deadline(FIRST_SIZE, 1);
        assert!((once.as_secs_f64() - 7.0).abs() < 0.01, "{once:?}");
        assert_eq!(pace.deadline(FIRST_SIZE, 2), once * 2);
        assert_eq!(pace.deadline(FIRST_SIZE, 60), LONGEST_DEADLINE);
        assert_eq!(Pace::new().deadline(1, 1), SHORTEST_DEADLINE);
    }

    #[test]
    fn a_link_that_became_thin_is_believed_after_few_messages() {
        let mut pace = Pace::new();
        for _ in 0..10 {
            let bytes = pace.size(MOST);
            pace.acknowledged(bytes, Some(Duration::from_millis(20)), MOST);
        }
        assert_eq!(pace.size(MOST), MOST);
        // 4 kB a second from here on, each message sent once.
        for _ in 0..4 {
            let bytes = pace.size(MOST);
            let took = Duration::from_secs_f64(to_f64(bytes) / 4_000.0);
            pace.acknowledged(bytes, Some(took), MOST);
        }
        let size = pace.size(MOST);
        assert!((4_000..8_000).contains(&size), "{size}");
    }

    #[test]
    fn a_message_that_had_to_be_repeated_makes_the_next_one_smaller_and_its_deadline_longer() {
        let mut pace = Pace::new();
        pace.acknowledged(FIRST_SIZE, Some(Duration::from_millis(10)), MOST);
        let before = (pace.size(MOST), pace.deadline(FIRST_SIZE, 1));
        pace.late(FIRST_SIZE, Duration::from_secs(8), 2);
        pace.acknowledged(FIRST_SIZE, None, MOST);
        assert_eq!(pace.size(MOST), SMALL);
        assert_eq!(before.1, SHORTEST_DEADLINE);
        assert!(pace.deadline(FIRST_SIZE, 1) >= Duration::from_secs(8));
        assert!(pace.deadline(1, 1) >= SHORTEST_DEADLINE * 4);
        // One that was sent once ends it.
        pace.acknowledged(FIRST_SIZE, Some(Duration::from_millis(10)), MOST);
        assert_eq!(pace.deadline(1, 1), SHORTEST_DEADLINE);
        for _ in 0..8 {
            pace.acknowledged(pace.size(MOST), Some(Duration::from_millis(10)), MOST);
        }
        assert_eq!(pace.size(MOST), MOST, "a link that was away is fast again soon");
    }

    #[test]
    fn a_way_that_became_longer_than_every_deadline_is_waited_for_in_the_end() {
        let mut pace = Pace::new();
        pace.answered(Duration::from_millis(3));
        let round_trip = Duration::from_millis(2_500);
        let asked = (1..).find(|_| {
            let heard = pace.question_deadline() > round_trip;
            if heard {
                pace.answered(round_trip);
            } else {
                pace.unheard();
            }
            heard
        });
        assert_eq!(asked, Some(2));
        assert!(pace.question_deadline() > round_trip, "{:?}", pace.question_deadline());
        for _ in 0..50 {
            pace.unheard();
        }
        assert_eq!(pace.question_deadline(), Duration::from_secs(16));
    }

    #[test]
    fn back_fill_keeps_to_its_rate_over_time() {
        let mut bucket = Bucket::new(Some(10_000));
        let mut now = Duration::ZERO;
        let mut sent = 0;
        while now < Duration::from_secs(100) {
            let free = bucket.free_at(now);
            if free <= now {
                bucket.take(25_000);
                sent += 25_000;
            } else {
                now = free;
            }
        }
        assert!((950_000..1_060_000).contains(&sent), "{sent}");
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let mut bucket = Bucket::new(None);
        bucket.take(1 << 30);
        assert_eq!(bucket.free_at(Duration::from_secs(1)), Duration::from_secs(1));
    }
}
