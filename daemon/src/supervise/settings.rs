//! What the supervisor is told, and how it says that it ended.

use std::fmt;
use std::time::Duration;

use super::RestartPolicy;

/// When a core task is asked to end. Drivers always go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Makes durable what the drivers have delivered.
    Record,
    /// Delivers: live values and the uplink, with what the recorder has just made durable.
    Deliver,
    /// Lets others see: control socket, metrics. Last, so that the drain can be watched.
    Observe,
}

/// How long each part of the drain may take. Their sum must stay below the unit's
/// `TimeoutStopSec`, or systemd cuts the recorder off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainPolicy {
    /// Drivers: one answer that is still on its way.
    pub drivers: Duration,
    /// The recorder: one commit to a slow disk.
    pub record: Duration,
    /// Live values and uplink: one message that is still on its way.
    pub deliver: Duration,
    /// The rest.
    pub observe: Duration,
}

impl Default for DrainPolicy {
    /// 5 + 10 + 5 + 1 s.
    fn default() -> Self {
        Self {
            drivers: Duration::from_secs(5),
            record: Duration::from_secs(10),
            deliver: Duration::from_secs(5),
            observe: Duration::from_secs(1),
        }
    }
}

impl DrainPolicy {
    pub(super) const fn of(&self, stage: Stage) -> Duration {
        match stage {
            Stage::Record => self.record,
            Stage::Deliver => self.deliver,
            Stage::Observe => self.observe,
        }
    }
}

/// The supervisor's settings.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// How restarts are spaced.
    pub restart: RestartPolicy,
    /// How long the drain may take.
    pub drain: DrainPolicy,
    /// How often the service manager wants to hear; [`super::watchdog_period`].
    pub watchdog: Option<Duration>,
    /// Seeds the jitter, so that gateways that start together do not restart together.
    pub seed: u64,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything ended in order.
    Stopped,
    /// It was stopped, and these had to be cut off.
    Late(Vec<String>),
    /// A second signal came before everything had ended.
    Forced,
    /// A core task ended unasked.
    CoreFailed {
        /// Which.
        part: String,
        /// Why.
        why: String,
    },
}

impl Outcome {
    /// Whether the exit code should say that all is well.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        matches!(self, Self::Stopped)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => write!(f, "stopped"),
            Self::Late(parts) => write!(f, "stopped, but cut off {}", parts.join(", ")),
            Self::Forced => write!(f, "stopped at once by a second signal"),
            Self::CoreFailed { part, why } => write!(f, "{part} failed: {why}"),
        }
    }
}
