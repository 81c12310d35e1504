//! Watching the wall clock against the monotonic one.
//!
//! # Invariants
//! - A step is told in a frame of its own; times that were already given are never rewritten.
//! - Slewing (NTP corrects by at most 500 ppm) is no step.

use std::time::Duration;

use tidegate_journal::ClockState;
use tidegate_record::{ClockEvent, ClockEventKind};
use tidegate_translator::Timestamp;

/// A difference smaller than this is slewing or scheduling, not a step: 500 ppm over the longest
/// commit interval is 2.5 ms, a loaded small gateway delays a thread by up to some 100 ms.
const STEP: i64 = 500_000_000;

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
        let elapsed = i64::try_from(mono.saturating_sub(last_mono).as_nanos()).unwrap_or(i64::MAX);
        let expected = Timestamp(last_wall.0.saturating_add(elapsed));
        let kind = if wall.0.saturating_sub(expected.0).saturating_abs() >= STEP {
            ClockEventKind::Step
        } else if last_state != ClockState::Synchronised && state == ClockState::Synchronised {
            ClockEventKind::FirstSync
        } else if last_state == ClockState::Synchronised && state != ClockState::Synchronised {
            ClockEventKind::Lost
        } else {
            return None;
        };
        let mono = u64::try_from(mono.as_nanos()).unwrap_or(u64::MAX);
        Some(ClockEvent { wall_before: expected.0, wall_after: wall.0, mono, kind })
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
}
