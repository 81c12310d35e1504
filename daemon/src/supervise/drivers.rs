//! The drivers: what can be added, replaced and removed while the daemon runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::DeviceFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Restarts;

/// What kind of thing a driver drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DriverKind {
    /// A configured device; its log lines carry `device=`.
    Device,
    /// Something else that can be started again, such as the managed leaf; `part=`.
    Service,
}

/// Which driver.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DriverId {
    /// What it drives.
    pub kind: DriverKind,
    /// Its configured name.
    pub name: Arc<str>,
}

impl DriverId {
    /// The driver of a configured device.
    #[must_use]
    pub fn device(name: impl Into<Arc<str>>) -> Self {
        Self { kind: DriverKind::Device, name: name.into() }
    }

    /// Another restartable part.
    #[must_use]
    pub fn service(name: impl Into<Arc<str>>) -> Self {
        Self { kind: DriverKind::Service, name: name.into() }
    }

    pub(super) fn span(&self) -> tracing::Span {
        match self.kind {
            DriverKind::Device => tracing::error_span!("driver", device = %self.name),
            DriverKind::Service => tracing::error_span!("driver", part = %self.name),
        }
    }
}

impl fmt::Display for DriverId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            DriverKind::Device => write!(f, "device {}", self.name),
            DriverKind::Service => write!(f, "{}", self.name),
        }
    }
}

/// Makes one run of a driver; called again for each restart. It must not block, and the future
/// should end soon after its token is cancelled.
pub type DriverBuild = Box<dyn FnMut(CancellationToken) -> DeviceFuture + Send>;

/// The supervisor has ended or is draining.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the daemon is stopping")]
pub struct SupervisorGone;

/// Adds, replaces and removes drivers of a running supervisor.
#[derive(Debug, Clone)]
pub struct Drivers(pub(super) mpsc::Sender<Command>);

pub(super) struct Command {
    pub(super) id: DriverId,
    pub(super) build: Option<DriverBuild>,
    pub(super) done: oneshot::Sender<()>,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drivers {
    /// Adds a driver, or replaces the one of that name: the new one starts only after the old one
    /// has ended, since many devices take one connection. Returns once it runs.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub async fn put(&self, id: DriverId, build: DriverBuild) -> Result<(), SupervisorGone> {
        self.command(id, Some(build)).await
    }

    /// Removes a driver. Returns once it has ended; at once when there is none of that name.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub async fn remove(&self, id: DriverId) -> Result<(), SupervisorGone> {
        self.command(id, None).await
    }

    async fn command(
        &self,
        id: DriverId,
        build: Option<DriverBuild>,
    ) -> Result<(), SupervisorGone> {
        let (done, wait) = oneshot::channel();
        let command = Command { id, build, done };
        self.0.send(command).await.map_err(|_| SupervisorGone)?;
        wait.await.map_err(|_| SupervisorGone)
    }
}

/// A driver as the supervisor keeps it.
pub(super) struct Driver {
    pub(super) build: DriverBuild,
    pub(super) restarts: Restarts,
    pub(super) over_budget: bool,
    pub(super) run: Run,
}

pub(super) enum Run {
    /// Runs since `started`.
    Running { task: AbortHandle, stop: CancellationToken, started: Instant },
    /// Ended, and is started again at `at`.
    Waiting { at: Instant },
    /// Was asked to end, is cut off at `until`, and is followed by `next` or by nothing.
    Stopping {
        task: AbortHandle,
        until: Instant,
        next: Option<DriverBuild>,
        done: Vec<oneshot::Sender<()>>,
    },
}

impl Driver {
    /// When the supervisor must look at this driver again.
    pub(super) fn due(&self, steady_after: Duration) -> Option<Instant> {
        match &self.run {
            Run::Running { started, .. } => self.over_budget.then(|| *started + steady_after),
            Run::Waiting { at } => Some(*at),
            Run::Stopping { until, .. } => Some(*until),
        }
    }
}
