//! Bodies of clock frames: what happened to the wall clock. Readers correct times with them;
//! nobody rewrites a sample.

use serde::{Deserialize, Serialize};

use crate::BodyError;

/// Something happened to the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClockEvent {
    /// What the wall clock showed, or would have shown, just before; nanoseconds since 1970 UTC.
    pub wall_before: i64,
    /// What it showed after.
    pub wall_after: i64,
    /// When, on the monotonic clock of the frame's boot, nanoseconds.
    pub mono: u64,
    /// What happened.
    pub kind: ClockEventKind,
}

/// What happened to the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockEventKind {
    /// It jumped.
    Step,
    /// It was synchronised for the first time since boot: times before are off by the difference.
    FirstSync,
    /// Its synchronisation was lost.
    Lost,
}

impl ClockEvent {
    /// By how much the wall clock moved, nanoseconds; positive is forward.
    #[must_use]
    pub const fn step(&self) -> i64 {
        self.wall_after.saturating_sub(self.wall_before)
    }

    /// The body of a clock frame.
    ///
    /// # Errors
    /// Never in practice; the encoder's signature allows it.
    pub fn encode(&self) -> Result<Vec<u8>, BodyError> {
        postcard::to_stdvec(self).map_err(|_| BodyError { kind: "clock" })
    }

    /// Reads the body of a clock frame.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn decode(body: &[u8]) -> Result<Self, BodyError> {
        crate::whole(body).ok_or(BodyError { kind: "clock" })
    }
}
