//! Watching the wall clock against the monotonic one.
//!
//! # Invariants
//! - A step is told in a frame of its own; times that were already given are never rewritten.
//! - Slewing (NTP corrects by at most 500 ppm) is no step.
//! - How long the daemon did not run is told by the clock of the samples before, as far as it is
//!   known; never from a later time to an earlier one.

use std::time::Duration;

use tidegate_journal::{ClockState, Stamp};
use tidegate_record::{ClockEvent, ClockEventKind};
use tidegate_translator::Timestamp;

/// A difference smaller than this is slewing or scheduling, not a step: 500 ppm over the longest
/// commit interval is 2.5 ms, a loaded small gateway delays a thread by up to some 100 ms.
const STEP: i64 = 500_000_000;

/// The same across a restart, where a stamp on disk is as precise as a commit is long: five times
/// the usual interval, twice.
const STEP_WHILE_DOWN: i64 = 10_000_000_000;

/// Remembers what both clocks said last.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    last: Option<(Timestamp, Duration, ClockState)>,
}

impl ClockWatch {
    /// Compares one reading of both clocks with the one before.
    pub(super) fn observe(
        &mut self,
        wall: Timestamp,
        mono: Duration,
        state: ClockState,
    ) -> Option<ClockEvent> {
        let (last_wall, last_mono, last_state) = self.last.replace((wall, mono, state))?;
        let expected = later(last_wall, mono.saturating_sub(last_mono));
        let kind = if last_state != ClockState::Synchronised && state == ClockState::Synchronised {
            // Also when it jumped at that: what readers must know is that it is right from now on.
            ClockEventKind::FirstSync
        } else if wall.0.saturating_sub(expected.0).saturating_abs() >= STEP {
            ClockEventKind::Step
        } else if last_state == ClockState::Synchronised && state != ClockState::Synchronised {
            ClockEventKind::Lost
        } else {
            return None;
        };
        let mono = u64::try_from(mono.as_nanos()).unwrap_or(u64::MAX);
        Some(ClockEvent { wall_before: expected.0, wall_after: wall.0, mono, kind })
    }
}

/// A moment so much later on the same clock.
fn later(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp(time.0.saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
}

/// What a start can say of the time before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Downtime {
    /// The last durable sample.
    pub(super) from: Timestamp,
    /// This start, by the same clock; `from` where nobody can know.
    pub(super) to: Timestamp,
    /// The clock was set while the daemon was down.
    pub(super) step: Option<ClockEvent>,
    /// The clock stands before the last sample.
    pub(super) behind: Option<Behind>,
}

impl Downtime {
    /// The time between the last stamp on disk and this moment.
    pub(super) fn between(last: &Stamp, now: &Stamp) -> Self {
        let (from, wall) = (Timestamp(last.wall.1), now.wall.0);
        let expected = expected_wall(last, now);
        let step = expected
            .filter(|expected| wall.saturating_sub(*expected).saturating_abs() >= STEP_WHILE_DOWN)
            .map(|wall_before| ClockEvent {
                wall_before,
                wall_after: wall,
                mono: now.mono.0,
                kind: ClockEventKind::Step,
            });
        let to = Timestamp(step.map_or(wall, |step| step.wall_before)).max(from);
        let behind = (wall < from.0).then_some(Behind {
            last: from,
            started: now.mono.0,
            is_length_known: step.is_some(),
        });
        Self { from, to, step, behind }
    }
}

/// What the wall clock would show now had nobody set it: known within one boot.
fn expected_wall(last: &Stamp, now: &Stamp) -> Option<i64> {
    let is_same_boot = last.boot == now.boot && last.boot != [0; 16];
    let mono = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
    // A sample is acquired before the recorder takes it and before its frame is packed.
    let offset = |wall: i64, at: u64| wall.saturating_sub(mono(at));
    let offset = offset(last.wall.0, last.mono.0).max(offset(last.wall.1, last.mono.1));
    (is_same_boot && now.mono.0 >= last.mono.1).then(|| mono(now.mono.0).saturating_add(offset))
}

/// A start while the wall clock stands before the last sample of the run before: there is no
/// battery behind the clock, or somebody set it wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Behind {
    last: Timestamp,
    started: u64,
    is_length_known: bool,
}

impl Behind {
    /// The last sample, before which the clock stands.
    pub(super) const fn last(&self) -> Timestamp {
        self.last
    }

    /// Whether the clock has passed the last sample.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        now >= self.last
    }

    /// When this run began, by the clock as it was set now; `None` while that is no better, or when
    /// it was known before.
    pub(super) fn began(&self, event: &ClockEvent) -> Option<Timestamp> {
        let ran = i64::try_from(event.mono.saturating_sub(self.started)).unwrap_or(i64::MAX);
        let began = Timestamp(event.wall_after.saturating_sub(ran));
        (!self.is_length_known && began >= self.last).then_some(began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn after(seconds: u64, wall: i64, state: ClockState) -> Option<ClockEvent> {
        let mut watch = ClockWatch::default();
        assert_eq!(watch.observe(Timestamp(0), Duration::ZERO, ClockState::Unknown), None);
        watch.observe(Timestamp(wall), Duration::from_secs(seconds), state)
    }

    #[test]
    fn a_clock_that_keeps_pace_tells_nothing() {
        assert_eq!(after(10, 10 * SECOND + 4_000_000, ClockState::Unknown), None);
    }

    #[test]
    fn a_step_back_of_ten_years_is_told_with_both_times() {
        let event = after(1, -315_360_000 * SECOND, ClockState::Unknown).unwrap();
        assert_eq!(event.kind, ClockEventKind::Step);
        assert_eq!((event.wall_before, event.wall_after), (SECOND, -315_360_000 * SECOND));
    }

    #[test]
    fn the_first_synchronisation_is_told_without_a_step() {
        let event = after(1, SECOND, ClockState::Synchronised).unwrap();
        assert_eq!(event.kind, ClockEventKind::FirstSync);
    }

    #[test]
    fn a_synchronisation_that_makes_the_clock_jump_is_told_as_one() {
        let event = after(1, 1_790_000_000 * SECOND, ClockState::Synchronised).unwrap();
        assert_eq!(event.kind, ClockEventKind::FirstSync);
        assert_eq!(event.step(), 1_789_999_999 * SECOND);
    }

    fn stamp(boot: u8, wall: i64, mono: u64) -> Stamp {
        let second = SECOND.unsigned_abs();
        Stamp {
            wall: (wall * SECOND, wall * SECOND),
            mono: (mono * second, mono * second),
            boot: [boot; 16],
            clock: ClockState::Unknown,
        }
    }

    fn whole(downtime: &Downtime) -> (i64, i64) {
        (downtime.from.0 / SECOND, downtime.to.0 / SECOND)
    }

    #[test]
    fn a_downtime_lasts_from_the_last_sample_to_the_start() {
        let same_boot = Downtime::between(&stamp(1, 1000, 50), &stamp(1, 1060, 110));
        assert_eq!(
            (whole(&same_boot), same_boot.step, same_boot.behind),
            ((1000, 1060), None, None)
        );
        let other_boot = Downtime::between(&stamp(1, 1000, 50), &stamp(2, 1060, 7));
        assert_eq!((whole(&other_boot), other_boot.step), ((1000, 1060), None));
    }

    #[test]
    fn a_clock_set_while_nobody_looked_lengthens_and_shortens_no_downtime() {
        for set_to in [1060 + 3600, 1060 - 3600] {
            let down = Downtime::between(&stamp(1, 1000, 50), &stamp(1, set_to, 110));
            assert_eq!(whole(&down), (1000, 1060));
            let step = down.step.unwrap();
            assert_eq!(step.step() / SECOND, set_to - 1060);
            assert_eq!(down.behind.is_some(), set_to < 1000);
        }
    }

    #[test]
    fn after_a_boot_without_a_clock_the_end_is_told_once_it_is_known() {
        let down = Downtime::between(&stamp(1, 1_790_000_000, 50), &stamp(2, 12, 12));
        assert_eq!((whole(&down), down.step), ((1_790_000_000, 1_790_000_000), None));
        let behind = down.behind.unwrap();
        assert!(!behind.is_over(Timestamp(20 * SECOND)));
        // Set 30 s after the boot, 18 s after the start.
        let set = |wall_after| ClockEvent {
            wall_before: 30 * SECOND,
            wall_after: wall_after * SECOND,
            mono: 30 * SECOND.unsigned_abs(),
            kind: ClockEventKind::Step,
        };
        assert_eq!(behind.began(&set(1_000_000_000)), None);
        let began = Timestamp((1_790_000_100 - 18) * SECOND);
        assert_eq!(behind.began(&set(1_790_000_100)), Some(began));
        assert!(behind.is_over(Timestamp(1_790_000_100 * SECOND)));
    }
}
