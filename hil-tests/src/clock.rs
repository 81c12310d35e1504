//! The gateway's wall clock, set as a scenario wishes: libfaketime under the daemon alone.
//!
//! # Invariants
//! - The machine's own clock is never touched, and no other process sees another time: the leaf is
//!   linked statically and asks the kernel itself.
//! - Only the wall clock is set; the monotonic ones go on.
//! - A new time is there at once and whole: its file is put in place of the old one.

use std::path::PathBuf;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::{Wishes, tools};

/// The right time, in milliseconds since 1970 UTC.
///
/// # Errors
/// When the machine's clock stands before that.
pub fn now_ms() -> anyhow::Result<i64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(i64::try_from(now.as_millis())?)
}

/// A wall clock that can be set.
#[derive(Debug)]
pub struct WallClock {
    directory: TempDir,
    library: PathBuf,
}

impl WallClock {
    /// A clock that is right.
    ///
    /// # Errors
    /// When there is no libfaketime.
    pub fn right() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("tidegate-clock-").tempdir()?;
        let clock = Self { directory, library: tools::faketime()? };
        clock.set_off_by(0)?;
        Ok(clock)
    }

    /// Sets it so many seconds ahead of the right time, or behind it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_off_by(&self, seconds: i64) -> anyhow::Result<()> {
        let fresh = self.directory.path().join("fresh");
        std::fs::write(&fresh, format!("{seconds:+}\n"))?;
        std::fs::rename(fresh, self.file()).context("the clock cannot be set")
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("offset")
    }
}

impl Wishes {
    /// With the daemon on this clock.
    #[must_use]
    pub fn on_clock(mut self, clock: &WallClock) -> Self {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        self.environment.extend([
            ("LD_PRELOAD".to_owned(), path(clock.library.clone())),
            ("FAKETIME_TIMESTAMP_FILE".to_owned(), path(clock.file())),
            ("FAKETIME_NO_CACHE".to_owned(), "1".to_owned()),
            ("DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
        ]);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Family;

    #[test]
    fn a_process_on_a_clock_that_is_off_sees_that_and_nobody_else_does() {
        let clock = WallClock::right().unwrap();
        clock.set_off_by(-315_360_000).unwrap();
        let family = Family::new().unwrap();
        let year = |wishes: &Wishes| {
            let mut date = family.command("date");
            date.args(["--utc", "+%Y"]).envs(wishes.environment.iter().cloned());
            let said = String::from_utf8(date.output().unwrap().stdout).unwrap();
            said.trim().parse::<i64>().unwrap()
        };
        let usual = Wishes::default();
        let off = Wishes::default().on_clock(&clock);
        // Ten years without their leap days.
        assert!([10, 9].contains(&(year(&usual) - year(&off))));
        clock.set_off_by(0).unwrap();
        assert_eq!(year(&usual), year(&off));
    }
}
