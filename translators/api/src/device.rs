//! The contract between a device's driver and the daemon.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{FaultReport, Missed, Quality, ReadNow, Sample, TagId, Value};

/// What a driver runs as; it ends only after `stop`.
pub type DeviceFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One reading of every tag.
pub type ReadingFuture = Pin<Box<dyn Future<Output = Vec<Reading>> + Send>>;

/// One tag's answer to "read it now".
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Which tag.
    pub tag: TagId,
    /// What was read; [`Value::None`] when nothing was.
    pub value: Value,
    /// How far it can be trusted.
    pub quality: Quality,
    /// What went wrong, in words for the person who asked.
    pub error: Option<String>,
}

/// How a device is doing, for status and health tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// The first connection is being tried.
    Connecting,
    /// Every block of the last cycle was answered.
    Live,
    /// Some blocks of the last cycle were answered.
    Degraded,
    /// Nothing is answered; attempts are spaced by back-off.
    Down,
    /// The device answers and refuses: only a person can help, and attempts are rare.
    ConfigurationError,
}

impl DeviceState {
    /// The word for people and JSON, such as `configuration-error`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::ConfigurationError => "configuration-error",
        }
    }
}

/// Where a driver puts what it learns. No method blocks; none fails. What cannot be taken is
/// counted by the implementation and becomes a loss record.
pub trait Sink: Send + Sync {
    /// Hands over one poll's samples, in the order in which they were read.
    fn samples(&self, batch: Vec<Sample>);

    /// Reports slots that passed without a reading.
    fn missed(&self, missed: Missed);

    /// Reports a change of state, with the reason for a person where there is one. Repeated, it
    /// tells that the driver is alive: a device that speaks only when something changes is called
    /// down when nothing is heard of its driver.
    fn state(&self, device: &Arc<str>, state: DeviceState, why: Option<String>);

    /// Hands over what went over the wire around a fault. Whoever has no use for it drops it.
    fn fault(&self, device: &Arc<str>, fault: FaultReport) {
        let _ = (device, fault);
    }
}

/// One configured device.
pub trait Device: Send {
    /// The configured name.
    fn name(&self) -> Arc<str>;

    /// Where the device is asked to read now while it runs, taken before [`Self::run`]; `None` for
    /// one that cannot be asked.
    fn fresh(&self) -> Option<Arc<dyn ReadNow>> {
        None
    }

    /// Polls or subscribes until `stop`. A device that cannot be reached is normal: the future
    /// goes on trying, with capped back-off and jitter.
    ///
    /// Cancel safety: dropping the future closes the connection and loses no sample that the
    /// sink already has.
    fn run(self: Box<Self>, sink: Arc<dyn Sink>, stop: CancellationToken) -> DeviceFuture;

    /// Reads every tag once on a connection of its own, for `tidegate check --connect`.
    fn read_once(&self) -> ReadingFuture;
}
