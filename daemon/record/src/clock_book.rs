//! What the wall clock showed when, boot by boot: with it a reader corrects times.
//!
//! # Invariants
//! - A time is corrected to what the same boot's best clock would have shown: the one that was
//!   synchronised last, and where none was, the one that ran last. Whoever sets a clock by hand
//!   means the new time.
//! - A time that the clock in question cannot have shown is given as it was captured: it is of
//!   another boot.
//! - Only frames say anything; nothing is guessed across boots, whose monotonic clocks have nothing
//!   in common.
//! - Memory is bounded: beyond [`MAX_STEPS`] steps, times are given as they were captured.

use std::collections::BTreeMap;

use tidegate_journal::{ClockState, Frame, Kind, Stamp};

use crate::ClockEvent;

/// The most steps that are kept. A clock that is set this often has no time worth correcting to.
const MAX_STEPS: usize = 1024;

/// Less than this is no step: the writer reads two clocks one after the other, and NTP slews.
const SMALLEST_STEP: u64 = 500_000_000;

/// How long a step may have gone unnoticed, and a sample under way: the writer looks at the clock
/// once a second and at each commit.
const UNNOTICED: u64 = 2_000_000_000;

/// The steps of the wall clock, as the frames of a gateway tell them.
#[derive(Debug, Clone, Default)]
pub struct ClockBook {
    boots: BTreeMap<[u8; 16], Boot>,
    steps: usize,
}

#[derive(Debug, Clone, Default)]
struct Boot {
    /// By the monotonic time at which they were noticed.
    steps: BTreeMap<u64, Step>,
    /// The latest monotonic time at which the clock was known to be synchronised.
    synchronised: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    before: i64,
    after: i64,
}

impl Step {
    const fn by(&self) -> i64 {
        self.after.saturating_sub(self.before)
    }
}

impl ClockBook {
    /// A book that knows of no step.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what a frame says of the clock. Frames may come again.
    pub fn observe(&mut self, frame: &Frame<'_>) {
        let header = &frame.header;
        // Zeros: the kernel did not say which boot it was.
        if header.boot == [0; 16] {
            return;
        }
        if header.clock == ClockState::Synchronised {
            let boot = self.boots.entry(header.boot).or_default();
            boot.synchronised = boot.synchronised.max(Some(header.mono.1));
        }
        if frame.kind == Kind::Clock
            && let Ok(event) = ClockEvent::decode(frame.body)
            && event.step().unsigned_abs() >= SMALLEST_STEP
            && self.steps < MAX_STEPS
        {
            let step = Step { before: event.wall_before, after: event.wall_after };
            let boot = self.boots.entry(header.boot).or_default();
            self.steps += usize::from(boot.steps.insert(event.mono, step).is_none());
        }
    }

    /// What a time in content with this stamp would be by the best clock of its boot. The same
    /// time where no step is known.
    #[must_use]
    pub fn corrected(&self, time: i64, stamp: &Stamp) -> i64 {
        let boot = self.boots.get(&stamp.boot);
        boot.and_then(|boot| boot.shift(time, stamp.mono))
            .map_or(time, |by| time.saturating_add(by))
    }

    /// The same for a span of time of one clock that ended not long before it was told by a frame
    /// with this stamp. It may have begun in the boot before, whose clock nobody knows.
    #[must_use]
    pub fn corrected_span(&self, (from, to): (i64, i64), stamp: &Stamp) -> (i64, i64) {
        let boot = self.boots.get(&stamp.boot);
        let Some((boot, by)) = boot.and_then(|boot| Some((boot, boot.shift(to, stamp.mono)?)))
        else {
            return (from, to);
        };
        let of_this_boot = boot.distance(from, boot.clock_of(to, stamp.mono), (0, stamp.mono.1));
        let begins =
            if of_this_boot <= drift(stamp.mono.1) { from.saturating_add(by) } else { from };
        (begins, to.saturating_add(by))
    }
}

impl Boot {
    /// By how much the steps between the clock that gave the time and the best one move it; `None`
    /// for a time that this clock cannot have given.
    fn shift(&self, time: i64, content: (u64, u64)) -> Option<i64> {
        let (given_by, best) = (self.clock_of(time, content), self.best());
        if self.distance(time, given_by, content) > drift(content.1) {
            return None;
        }
        let sum = |from: usize, to: usize| {
            let between = self.steps.values().skip(from).take(to.saturating_sub(from));
            between.fold(0_i64, |sum, step| sum.saturating_add(step.by()))
        };
        Some(sum(given_by, best).saturating_sub(sum(best, given_by)))
    }

    /// How far a time lies outside of what a clock showed in a range.
    fn distance(&self, time: i64, clock: usize, range: (u64, u64)) -> i64 {
        let offset = match clock.checked_sub(1) {
            None => self.steps.iter().next().map(|(at, step)| offset(step.before, *at)),
            Some(last) => self.steps.iter().nth(last).map(|(at, step)| offset(step.after, *at)),
        };
        offset.map_or(0, |offset| distance(time, range, offset))
    }

    /// How many steps precede the best clock.
    fn best(&self) -> usize {
        match self.synchronised {
            Some(at) => self.steps.range(..=at).count(),
            None => self.steps.len(),
        }
    }

    /// How many steps precede the clock that gave this time to content of this monotonic range. A
    /// step is noticed late, and content is packed late: near a step the time itself decides.
    fn clock_of(&self, time: i64, (begin, end): (u64, u64)) -> usize {
        // A header may be anything: its range may run backwards.
        let earliest = begin.saturating_sub(UNNOTICED);
        let latest = end.max(begin).saturating_add(UNNOTICED);
        let certain = self.steps.range(..earliest).count();
        // As far as the range tells, the content is older than a step noticed at its end.
        let mut nearest = (certain, i64::MAX);
        for (at, (&noticed, step)) in self.steps.range(earliest..=latest).enumerate() {
            if at == 0 {
                nearest.1 = distance(time, (begin, end), offset(step.before, noticed));
            }
            let after = distance(time, (begin, end), offset(step.after, noticed));
            if after < nearest.1 || (after == nearest.1 && noticed <= begin) {
                nearest = (certain + at + 1, after);
            }
        }
        nearest.0
    }
}

/// How far a clock that nobody set may run off until then: NTP slews by at most 500 ppm, which is
/// doubled; and a minute for what was told late.
fn drift(mono: u64) -> i64 {
    nanos(mono) / 1000 + 60_000_000_000
}

/// What a clock showed at monotonic time 0.
fn offset(wall: i64, mono: u64) -> i64 {
    wall.saturating_sub(nanos(mono))
}

fn nanos(mono: u64) -> i64 {
    i64::try_from(mono).unwrap_or(i64::MAX)
}

/// How far a time lies outside of what a clock with this offset showed in a range.
fn distance(time: i64, (begin, end): (u64, u64), offset: i64) -> i64 {
    let first = nanos(begin.saturating_sub(UNNOTICED)).saturating_add(offset);
    let last = nanos(end).saturating_add(offset);
    first.saturating_sub(time).max(time.saturating_sub(last)).max(0)
}

#[cfg(test)]
mod tests {
    use tidegate_journal::{Codec, Epoch, FrameHash, Header, frame};

    use super::*;
    use crate::ClockEventKind;

    const SECOND: i64 = 1_000_000_000;
    const HOUR: i64 = 3600;

    fn header(boot: u8, mono: (i64, i64), clock: ClockState) -> Header {
        Header {
            plant: "P".to_owned(),
            gateway: "g".to_owned(),
            epoch: Epoch([1; 16]),
            number: 0,
            first_seq: 0,
            count: 0,
            wall: (0, 0),
            mono: ((mono.0 * SECOND).unsigned_abs(), (mono.1 * SECOND).unsigned_abs()),
            boot: [boot; 16],
            clock,
            previous: FrameHash::ZERO,
            codec: Codec::Plain,
        }
    }

    impl ClockBook {
        /// A step noticed at this second of the boot.
        fn step(&mut self, boot: u8, at: i64, before: i64, after: i64, clock: ClockState) {
            let event = ClockEvent {
                wall_before: before * SECOND,
                wall_after: after * SECOND,
                mono: (at * SECOND).unsigned_abs(),
                kind: ClockEventKind::Step,
            };
            let body = event.encode().unwrap();
            let bytes = frame::encode(Kind::Clock, &header(boot, (at, at), clock), &body).unwrap();
            self.observe(&frame::decode(&bytes).unwrap());
        }

        fn seconds(&self, time: i64, boot: u8, mono: (i64, i64)) -> i64 {
            self.corrected(time * SECOND, &header(boot, mono, ClockState::Unknown).stamp()) / SECOND
        }
    }

    const UNKNOWN: ClockState = ClockState::Unknown;

    #[test]
    fn a_boot_without_a_clock_is_corrected_by_the_step_to_the_right_time() {
        let mut book = ClockBook::new();
        assert_eq!(book.seconds(10, 1, (9, 11)), 10);
        book.step(1, 60, 60, 1_790_000_060, UNKNOWN);
        assert_eq!(book.seconds(10, 1, (9, 11)), 1_790_000_010);
        assert_eq!(book.seconds(1_790_000_070, 1, (69, 71)), 1_790_000_070);
        // Another boot has another clock.
        assert_eq!(book.seconds(10, 2, (9, 11)), 10);
    }

    #[test]
    fn an_hour_forth_and_back_moves_only_what_lies_between() {
        let mut book = ClockBook::new();
        book.step(1, 100, 1000, 1000 + HOUR, UNKNOWN);
        book.step(1, 200, 1100 + HOUR, 1100, UNKNOWN);
        assert_eq!(book.seconds(950, 1, (49, 51)), 950);
        assert_eq!(book.seconds(1050 + HOUR, 1, (149, 151)), 1050);
        assert_eq!(book.seconds(1150, 1, (249, 251)), 1150);
    }

    #[test]
    fn in_a_frame_across_a_step_each_time_is_of_the_clock_that_it_fits() {
        for begin_end in [(96, 101), (97, 99), (100, 104)] {
            for far in [HOUR, -HOUR, 10 * 365 * 24 * HOUR, -10 * 365 * 24 * HOUR] {
                let mut book = ClockBook::new();
                // The clock was set at second 99 and that was noticed at second 100.
                book.step(1, 100, 1000, 1000 + far, UNKNOWN);
                assert_eq!(book.seconds(998, 1, begin_end), 998 + far, "{begin_end:?} {far}");
                let after = 999 + far;
                assert_eq!(book.seconds(after, 1, begin_end), after, "{begin_end:?} {far}");
            }
        }
    }

    #[test]
    fn a_synchronised_clock_counts_more_than_one_that_was_set_later() {
        let mut book = ClockBook::new();
        book.step(1, 100, 50, 1000, ClockState::Synchronised);
        book.step(1, 200, 1100, 1100 - HOUR, UNKNOWN);
        assert_eq!(book.seconds(30, 1, (79, 81)), 980);
        assert_eq!(book.seconds(1050, 1, (149, 151)), 1050);
        assert_eq!(book.seconds(1150 - HOUR, 1, (249, 251)), 1150);
    }

    #[test]
    fn steps_read_twice_count_once_and_too_many_are_left_out() {
        let mut book = ClockBook::new();
        for _ in 0..2 {
            for at in 0..i64::try_from(MAX_STEPS).unwrap() + 10 {
                book.step(1, at * 100, 0, 1, UNKNOWN);
            }
        }
        assert_eq!(book.seconds(-5, 1, (0, 0)), -5 + i64::try_from(MAX_STEPS).unwrap());
    }

    #[test]
    fn a_span_is_of_one_clock_and_may_have_begun_in_the_boot_before() {
        let mut book = ClockBook::new();
        book.step(2, 60, 60, 1_790_000_060, UNKNOWN);
        let span = |book: &ClockBook, from: i64, to: i64, told: i64| {
            let stamp = header(2, (told, told), UNKNOWN).stamp();
            let (from, to) = book.corrected_span((from * SECOND, to * SECOND), &stamp);
            (from / SECOND, to / SECOND)
        };
        assert_eq!(span(&book, 20, 30, 31), (1_790_000_020, 1_790_000_030));
        // The last sample of the boot before, and the start of this one at second 5.
        assert_eq!(span(&book, 1_789_999_000, 5, 6), (1_789_999_000, 1_790_000_005));
        // A start whose time nobody knew.
        let unknown = (1_789_999_000, 1_789_999_000);
        assert_eq!(span(&book, unknown.0, unknown.1, 6), unknown);
        assert_eq!(span(&book, 1_790_000_070, 1_790_000_080, 81), (1_790_000_070, 1_790_000_080));
    }

    #[test]
    fn no_time_is_too_far_away() {
        let mut book = ClockBook::new();
        book.step(1, 100, i64::MIN / SECOND, i64::MAX / SECOND, UNKNOWN);
        for time in [i64::MIN, i64::MAX] {
            for mono in [(0, 0), (100, 100)] {
                let _ = book.corrected(time, &header(1, mono, UNKNOWN).stamp());
                let _ = book.corrected_span((i64::MAX, time), &header(1, mono, UNKNOWN).stamp());
            }
        }
        let mut edge = header(1, (0, 0), UNKNOWN);
        edge.mono = (u64::MAX, 0);
        let _ = book.corrected(0, &edge.stamp());
    }
}
