//! The time that it is at least, for machines whose clock cannot be believed.
//!
//! A gateway without a battery for its clock starts in 1970 or at the build of its system, and every
//! certificate is "not yet valid" to it. The floor is the latest of: when the program was built, the
//! last time that was kept, and the beginning of a certificate that was taken.
//!
//! # Invariants
//! - The floor is a lower bound and only rises, except by a person ([`TimeFloor::reset`]).
//! - A clock that jumps ahead does not take the floor along: the floor moves by the time that
//!   really passed, and to the clock's time only when something confirmed that time, which is a peer
//!   whose certificate was valid then. Otherwise one bad answer of a time server would make every
//!   certificate look expired for years.
//! - Nothing here reads a clock or a disk.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// How often the floor is written down, at most: flash is worn by writing, and an hour is less than
/// any certificate of the field allows for.
pub const KEPT_EVERY: Duration = Duration::from_secs(3_600);

/// A clock is called behind from here on; time servers move a clock by less.
const TOLERATED: Duration = Duration::from_secs(300);

/// Where the floor comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloorFrom {
    /// The program cannot run before it was built.
    Build,
    /// It was this late before.
    Kept,
    /// A certificate that was taken began then.
    Certificate,
    /// It was this late since the start.
    Clock,
}

impl fmt::Display for FloorFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Build => "when this program was built",
            Self::Kept => "the time that was kept before the last stop",
            Self::Certificate => "the beginning of the certificate",
            Self::Clock => "the time that it was before",
        })
    }
}

/// What speaks for the clock's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credence {
    /// Nothing but the clock.
    Plain,
    /// A peer showed a trusted certificate that was valid at this time.
    Confirmed,
}

/// The floor.
#[derive(Debug, Clone)]
pub struct TimeFloor {
    built: SystemTime,
    floor: SystemTime,
    from: FloorFrom,
    kept: SystemTime,
    shared: SharedFloor,
}

/// The floor as TLS reads it, in whole seconds; all copies are one.
#[derive(Debug, Clone, Default)]
pub struct SharedFloor(Arc<AtomicU64>);

impl TimeFloor {
    /// The floor at the start: `kept` is what an earlier run wrote down.
    #[must_use]
    pub fn new(built: SystemTime, kept: Option<SystemTime>) -> Self {
        let mut floor = Self {
            built,
            floor: built,
            from: FloorFrom::Build,
            kept: kept.unwrap_or(SystemTime::UNIX_EPOCH),
            shared: SharedFloor::default(),
        };
        floor.raise(floor.kept, FloorFrom::Kept);
        floor.share();
        floor
    }

    /// The floor now, and where it comes from.
    #[must_use]
    pub fn floor(&self) -> (SystemTime, FloorFrom) {
        (self.floor, self.from)
    }

    /// What TLS reads; it follows this floor.
    #[must_use]
    pub fn shared(&self) -> SharedFloor {
        self.shared.clone()
    }

    /// The time to judge certificates by.
    #[must_use]
    pub fn at_least(&self, clock: SystemTime) -> SystemTime {
        clock.max(self.floor)
    }

    /// By how much the clock is certainly behind; nothing when it may be right.
    #[must_use]
    pub fn behind(&self, clock: SystemTime) -> Option<Duration> {
        self.floor.duration_since(clock).ok().filter(|behind| *behind > TOLERATED)
    }

    /// Takes note of what the clock says, `passed` after the last time (by a clock that never
    /// steps).
    pub fn observe(&mut self, clock: SystemTime, passed: Duration, credence: Credence) {
        let believed = match credence {
            Credence::Confirmed => clock,
            Credence::Plain => clock.min(self.floor.checked_add(passed).unwrap_or(self.floor)),
        };
        self.raise(believed, FloorFrom::Clock);
        self.share();
    }

    /// A certificate was taken that begins then: signed by whom we trust, and no earlier.
    pub fn took_certificate(&mut self, not_before: SystemTime) {
        self.raise(not_before, FloorFrom::Certificate);
        self.share();
    }

    /// A person says that the clock is right.
    pub fn reset(&mut self, clock: SystemTime) {
        self.floor = self.built;
        self.from = FloorFrom::Build;
        self.kept = SystemTime::UNIX_EPOCH;
        self.raise(clock, FloorFrom::Clock);
        self.share();
    }

    /// What to write down now; nothing while the last is recent enough. `stopping` writes whatever
    /// is newer than the last.
    #[must_use]
    pub fn to_keep(&self, stopping: bool) -> Option<SystemTime> {
        let newer = self.floor.duration_since(self.kept).unwrap_or_default();
        let due = if stopping { newer >= Duration::from_secs(1) } else { newer >= KEPT_EVERY };
        due.then_some(self.floor)
    }

    /// It was written down.
    pub fn was_kept(&mut self, time: SystemTime) {
        self.kept = time;
    }

    fn raise(&mut self, to: SystemTime, from: FloorFrom) {
        if to > self.floor {
            self.floor = to;
            self.from = from;
        }
    }

    fn share(&self) {
        let since = self.floor.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.shared.0.store(since.as_secs(), Ordering::Relaxed);
    }
}

/// A clock for TLS that never tells less than the floor.
pub struct FloorClock {
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
    floor: SharedFloor,
}

impl FloorClock {
    /// `clock` says the time; `floor` what it is at least.
    #[must_use]
    pub fn new(clock: impl Fn() -> SystemTime + Send + Sync + 'static, floor: SharedFloor) -> Self {
        Self { clock: Box::new(clock), floor }
    }
}

impl TimeProvider for FloorClock {
    fn current_time(&self) -> Option<UnixTime> {
        let clock = (self.clock)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let floor = Duration::from_secs(self.floor.0.load(Ordering::Relaxed));
        Some(UnixTime::since_unix_epoch(clock.max(floor)))
    }
}

impl fmt::Debug for FloorClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FloorClock").field("floor", &self.floor).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::{DAY, NOW, at};

    const SECOND: Duration = Duration::from_secs(1);
    const YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);

    fn built() -> SystemTime {
        at(NOW - 100 * 86_400)
    }

    #[test]
    fn the_floor_is_the_latest_of_build_kept_time_and_certificate() {
        assert_eq!(TimeFloor::new(built(), None).floor(), (built(), FloorFrom::Build));
        assert_eq!(TimeFloor::new(built(), Some(at(5))).floor(), (built(), FloorFrom::Build));
        let mut floor = TimeFloor::new(built(), Some(at(NOW)));
        assert_eq!(floor.floor(), (at(NOW), FloorFrom::Kept));
        floor.took_certificate(at(NOW - 1));
        assert_eq!(floor.floor(), (at(NOW), FloorFrom::Kept));
        floor.took_certificate(at(NOW + 1));
        assert_eq!(floor.floor(), (at(NOW + 1), FloorFrom::Certificate));
    }

    #[test]
    fn a_clock_of_1970_is_behind_and_certificates_are_judged_by_the_floor() {
        let floor = TimeFloor::new(built(), Some(at(NOW)));
        assert_eq!(floor.behind(at(0)), Some(Duration::from_secs(NOW)));
        assert_eq!(floor.at_least(at(0)), at(NOW));
        assert_eq!(floor.behind(at(NOW) - TOLERATED), None, "a time server moves it by less");
        assert_eq!(floor.behind(at(NOW) + YEARS), None);
        assert_eq!(floor.at_least(at(NOW + 5)), at(NOW + 5));
    }

    #[test]
    fn a_step_back_never_lowers_it() {
        let mut floor = TimeFloor::new(built(), None);
        floor.observe(at(NOW), SECOND, Credence::Confirmed);
        for credence in [Credence::Plain, Credence::Confirmed] {
            floor.observe(at(NOW) - YEARS, SECOND, credence);
            assert_eq!(floor.floor(), (at(NOW), FloorFrom::Clock));
        }
        assert_eq!(floor.behind(at(NOW) - YEARS), Some(YEARS));
    }

    #[test]
    fn a_jump_ahead_takes_the_floor_along_only_when_a_peer_confirms_it() {
        let mut floor = TimeFloor::new(built(), Some(at(NOW)));
        floor.observe(at(NOW) + YEARS, 60 * SECOND, Credence::Plain);
        assert_eq!(floor.floor().0, at(NOW + 60), "no more than what really passed");
        floor.observe(at(NOW + 120), 60 * SECOND, Credence::Plain);
        assert_eq!(floor.behind(at(NOW + 120)), None, "and back again nothing is spoilt");
        floor.observe(at(NOW) + DAY, SECOND, Credence::Confirmed);
        assert_eq!(floor.floor().0, at(NOW) + DAY);
    }

    #[test]
    fn it_is_kept_once_an_hour_and_at_the_stop() {
        let mut floor = TimeFloor::new(built(), Some(at(NOW)));
        assert_eq!(floor.to_keep(false), None);
        assert_eq!(floor.to_keep(true), None, "nothing new");
        floor.observe(at(NOW + 3_599), 3_599 * SECOND, Credence::Plain);
        assert_eq!(floor.to_keep(false), None);
        assert_eq!(floor.to_keep(true), Some(at(NOW + 3_599)));
        floor.observe(at(NOW + 3_600), SECOND, Credence::Plain);
        assert_eq!(floor.to_keep(false), Some(at(NOW + 3_600)));
        floor.was_kept(at(NOW + 3_600));
        assert_eq!(floor.to_keep(true), None);
    }

    #[test]
    fn a_person_may_lower_it_and_it_is_written_down_at_once() {
        let mut floor = TimeFloor::new(built(), Some(at(NOW) + YEARS));
        floor.reset(at(NOW));
        assert_eq!(floor.floor(), (at(NOW), FloorFrom::Clock));
        assert_eq!(floor.to_keep(false), Some(at(NOW)));
        floor.reset(at(0));
        assert_eq!(floor.floor(), (built(), FloorFrom::Build), "but not below the build");
    }

    #[test]
    fn tls_reads_the_floor_as_it_rises() {
        let mut floor = TimeFloor::new(built(), None);
        let clock = FloorClock::new(|| at(5), floor.shared());
        let seconds = |clock: &FloorClock| clock.current_time().map(|time| time.as_secs());
        assert_eq!(seconds(&clock), Some(NOW - 100 * 86_400));
        floor.took_certificate(at(NOW));
        assert_eq!(seconds(&clock), Some(NOW));
        assert_eq!(seconds(&FloorClock::new(|| at(NOW + 7), floor.shared())), Some(NOW + 7));
        assert_eq!(seconds(&FloorClock::new(|| at(0) - SECOND, floor.shared())), Some(NOW));
    }
}
