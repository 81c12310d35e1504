//! The clocks of the machine, as frames carry them.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use tidegate_journal::{ClockState, Stamp};
use tidegate_translator::{Clock, Timestamp};

/// systemd-timesyncd makes this file once the clock is synchronised in this boot.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// The machine's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let nanos = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        Timestamp(match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => nanos(after),
            Err(before) => -nanos(before.duration()),
        })
    }
}

/// Time since boot, sleep included: the monotonic clock of the record.
#[must_use]
pub fn boot_time() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos.min(999_999_999))
}

/// Two clocks read further apart than this say nothing of each other.
const APART: Duration = Duration::from_millis(20);

/// Both clocks at one moment. A thread that was put aside between the two reads them again, or it
/// would see a step of the wall clock that there was not.
pub(super) fn both_clocks(clock: &dyn Clock) -> (Timestamp, Duration) {
    let mut before = boot_time();
    loop {
        let (wall, after) = (clock.now(), boot_time());
        if after.saturating_sub(before) < APART {
            return (wall, after);
        }
        before = after;
    }
}

/// Stamps frames of one boot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamper {
    boot: [u8; 16],
}

impl Stamper {
    /// Reads which boot this is; zeros where the kernel does not say.
    pub(super) fn new() -> Self {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let boot = digits.parse::<tidegate_journal::Epoch>().map_or([0; 16], |id| id.0);
        Self { boot }
    }

    /// The wall clock's standing. Where nobody keeps it, nobody can be asked.
    pub(super) fn clock_state() -> ClockState {
        if Path::new(SYNCHRONISED).exists() {
            ClockState::Synchronised
        } else {
            ClockState::Unknown
        }
    }

    /// The stamp of content between two moments.
    pub(super) fn between(&self, wall: (i64, i64), mono: (Duration, Duration)) -> Stamp {
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        Stamp {
            wall,
            mono: (nanos(mono.0), nanos(mono.1)),
            boot: self.boot,
            clock: Self::clock_state(),
        }
    }

    /// The stamp of this moment.
    pub(super) fn now(&self, wall: Timestamp) -> Stamp {
        let mono = boot_time();
        self.between((wall.0, wall.0), (mono, mono))
    }
}
