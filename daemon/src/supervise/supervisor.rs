//! The supervisor's loop: signals, ends, commands, restarts, proof of life.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, warn};

use super::drain::Forced;
use super::drivers::{Command, Driver, Run};
use super::restart::Jitter;
use super::{
    DriverBuild, DriverId, Drivers, Notice, Outcome, Pulses, Restarts, ServiceManager, Settings,
    Signal, Signals, Stage, Witness,
};
use crate::causes::chain;

/// Commands that wait; a reload sends one at a time.
const COMMANDS: usize = 16;

/// How often the pulses are looked at when there is no watchdog.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How a core task ends: in order after its token was cancelled, or with what went wrong.
pub type CoreResult = Result<(), Box<dyn Error + Send + Sync>>;

/// A reload: what was applied, or why nothing was, in a line for a person.
pub type ReloadFuture = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

pub(super) enum Task {
    Driver(DriverId),
    Core { name: String, stage: Stage },
    Reload,
}

pub(super) enum End {
    Driver,
    Core(CoreResult),
    Reload(Result<String, String>),
}

/// Owns every task of the daemon.
pub struct Supervisor {
    pub(super) settings: Settings,
    witness: Arc<dyn Witness>,
    manager: Arc<dyn ServiceManager>,
    pulses: Pulses,
    pub(super) tasks: JoinSet<End>,
    pub(super) running: HashMap<Id, (Task, AbortHandle)>,
    pub(super) stages: BTreeMap<Stage, CancellationToken>,
    pub(super) drivers: BTreeMap<DriverId, Driver>,
    pub(super) commands: mpsc::Receiver<Command>,
    handle: Drivers,
    reload: Option<Box<dyn FnMut(Drivers) -> ReloadFuture + Send>>,
    reloading: Reloading,
    status: Option<Box<dyn Fn() -> String + Send>>,
    last_status: String,
    late: Vec<String>,
    origin: Instant,
    jitter: Jitter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reloading {
    No,
    Yes,
    /// Asked for again while one was going on: what it read may already be old.
    Again,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("tasks", &self.running.len()).finish_non_exhaustive()
    }
}

impl Supervisor {
    /// A supervisor without tasks. Must be called on a runtime.
    #[must_use]
    pub fn new(
        settings: Settings,
        witness: Arc<dyn Witness>,
        manager: Arc<dyn ServiceManager>,
    ) -> Self {
        let (sender, commands) = mpsc::channel(COMMANDS);
        // Half the period: systemd then hears of a hang after one and a half periods at most.
        let limit = settings.watchdog.map_or(Duration::from_secs(30), |period| period / 2);
        Self {
            jitter: Jitter(settings.seed),
            settings,
            witness,
            manager,
            pulses: Pulses::new(limit),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            stages: [Stage::Record, Stage::Deliver, Stage::Observe]
                .map(|stage| (stage, CancellationToken::new()))
                .into(),
            drivers: BTreeMap::new(),
            commands,
            handle: Drivers(sender),
            reload: None,
            reloading: Reloading::No,
            status: None,
            last_status: String::new(),
            late: Vec::new(),
            origin: Instant::now(),
        }
    }

    /// The pulses of this process; every critical loop registers one.
    #[must_use]
    pub const fn pulses(&self) -> &Pulses {
        &self.pulses
    }

    /// Adds, replaces and removes drivers while the supervisor runs.
    #[must_use]
    pub fn drivers(&self) -> Drivers {
        self.handle.clone()
    }

    /// Starts a core task. It must end soon after its token is cancelled, and not before.
    pub fn core<F>(&mut self, name: &str, stage: Stage, start: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = CoreResult> + Send + 'static,
    {
        let stop = self.stages.entry(stage).or_default().clone();
        let span = tracing::error_span!("core", part = name);
        let task = start(stop);
        let spawned = self.tasks.spawn(async move { End::Core(task.await) }.instrument(span));
        let task = Task::Core { name: name.to_owned(), stage };
        self.running.insert(spawned.id(), (task, spawned));
    }

    /// Starts a driver before [`Supervisor::run`]; later ones go through [`Supervisor::drivers`].
    pub fn driver(&mut self, id: DriverId, build: DriverBuild) {
        self.start(id, build, Restarts::new(self.settings.restart), false);
    }

    /// Sets what SIGHUP does. The future runs as a task of its own and changes drivers through the
    /// handle; a signal during a reload is answered by one more reload after it.
    pub fn on_reload(&mut self, reload: impl FnMut(Drivers) -> ReloadFuture + Send + 'static) {
        self.reload = Some(Box::new(reload));
    }

    /// Sets the line for `systemctl status`, asked for at every look at the pulses.
    pub fn on_status(&mut self, status: impl Fn() -> String + Send + 'static) {
        self.status = Some(Box::new(status));
    }

    /// Runs until a signal or a failed core task, drains, and says how it ended. Whatever runs
    /// longer than its stage allows is cut off.
    pub async fn run(mut self, mut signals: Signals) -> Outcome {
        self.manager.notify(&Notice::Ready);
        // Three looks per period, so that one that comes late does not matter.
        let every = self.settings.watchdog.map_or(LOOK_EVERY, |period| period / 3);
        let mut look = tokio::time::interval(every);
        let failed = loop {
            let due = self.due();
            tokio::select! {
                biased;
                signal = signals.next() => match signal {
                    Signal::Stop => break None,
                    Signal::Reload => self.reload(),
                },
                Some(ended) = self.tasks.join_next_with_id() => {
                    if let Some(failed) = self.ended(ended) {
                        break Some(failed);
                    }
                }
                Some(command) = self.commands.recv() => self.command(command),
                () = until(due) => self.act_on_due(),
                _ = look.tick() => self.look(),
            }
        };
        self.manager.notify(&Notice::Stopping);
        match self.drain(&mut signals, &mut look, failed).await {
            Ok(outcome) => {
                if !outcome.is_clean() {
                    error!("{outcome}");
                }
                outcome
            }
            Err(Forced) => {
                error!("second signal: ending at once, what was not yet durable is lost");
                Outcome::Forced
            }
        }
    }

    fn start(&mut self, id: DriverId, mut build: DriverBuild, restarts: Restarts, unsteady: bool) {
        let stop = CancellationToken::new();
        let span = id.span();
        // A build that panics is a run that panicked.
        let driver = span.in_scope(|| catch_unwind(AssertUnwindSafe(|| build(stop.clone()))));
        let driver = driver.unwrap_or_else(|panic| Box::pin(async { resume_unwind(panic) }));
        let task = self.tasks.spawn(
            async move {
                driver.await;
                End::Driver
            }
            .instrument(span),
        );
        self.running.insert(task.id(), (Task::Driver(id.clone()), task.clone()));
        let run = Run::Running { task, stop, started: Instant::now() };
        self.drivers.insert(id, Driver { build, restarts, over_budget: unsteady, run });
    }

    fn command(&mut self, Command { id, build, done }: Command) {
        let fresh = Restarts::new(self.settings.restart);
        let Some(Driver { build: old, restarts, over_budget, run }) = self.drivers.remove(&id)
        else {
            if let Some(build) = build {
                self.start(id, build, fresh, false);
            }
            let _ = done.send(());
            return;
        };
        let (task, until, mut waiting) = match run {
            Run::Waiting { .. } => {
                self.witness.driver_steady(&id);
                if let Some(build) = build {
                    self.start(id, build, fresh, false);
                }
                let _ = done.send(());
                return;
            }
            Run::Running { task, stop, .. } => {
                stop.cancel();
                (task, Instant::now() + self.settings.drain.drivers, Vec::new())
            }
            Run::Stopping { task, until, done, .. } => (task, until, done),
        };
        waiting.push(done);
        let run = Run::Stopping { task, until, next: build, done: waiting };
        self.drivers.insert(id, Driver { build: old, restarts, over_budget, run });
    }

    /// The earliest moment at which a driver needs something.
    fn due(&self) -> Option<Instant> {
        let window = self.settings.restart.window;
        self.drivers.values().filter_map(|driver| driver.due(window)).min()
    }

    fn act_on_due(&mut self) {
        let (now, window) = (Instant::now(), self.settings.restart.window);
        let due: Vec<DriverId> = self
            .drivers
            .iter()
            .filter(|(_, driver)| driver.due(window).is_some_and(|at| at <= now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            let Some(mut driver) = self.drivers.remove(&id) else { continue };
            match driver.run {
                Run::Waiting { .. } => {
                    id.span().in_scope(|| info!("starting driver again"));
                    self.start(id, driver.build, driver.restarts, driver.over_budget);
                    continue;
                }
                Run::Running { .. } => {
                    driver.over_budget = false;
                    self.witness.driver_steady(&id);
                }
                Run::Stopping { ref task, ref mut until, .. } => {
                    id.span().in_scope(|| warn!("driver did not end in time and is cut off"));
                    task.abort();
                    // An abort takes effect when the task next yields; do not spin until then.
                    *until = now + self.settings.drain.drivers;
                }
            }
            self.drivers.insert(id, driver);
        }
    }

    /// Returns the core task whose end ends the process.
    pub(super) fn ended(&mut self, ended: Result<(Id, End), JoinError>) -> Option<Failed> {
        let (id, end) = match ended {
            Ok((id, end)) => (id, Ok(end)),
            Err(error) => (error.id(), Err(describe(error))),
        };
        match (self.running.remove(&id)?.0, end) {
            (Task::Driver(id), end) => {
                let why = end.err().unwrap_or_else(|| "returned without being asked to".to_owned());
                self.driver_ended(id, &why);
                None
            }
            (Task::Reload, end) => {
                match end {
                    Ok(End::Reload(Ok(applied))) => info!("configuration reloaded: {applied}"),
                    Ok(End::Reload(Err(why))) => error!("configuration not reloaded: {why}"),
                    Ok(_) => {}
                    Err(why) => error!("reload failed: {why}"),
                }
                self.manager.notify(&Notice::Ready);
                let again = self.reloading == Reloading::Again;
                self.reloading = Reloading::No;
                if again {
                    self.reload();
                }
                None
            }
            (Task::Core { name, stage }, end) => {
                let asked = self.stages.get(&stage).is_some_and(CancellationToken::is_cancelled);
                let why = match end {
                    Ok(End::Core(Ok(()))) if asked => return None,
                    Ok(End::Core(Err(error))) => chain(error.as_ref()),
                    Ok(_) => "ended without being asked to".to_owned(),
                    Err(why) => why,
                };
                error!(part = name, "core task failed, the daemon ends: {why}");
                Some(Failed { part: name, why })
            }
        }
    }

    fn driver_ended(&mut self, id: DriverId, why: &str) {
        let Some(Driver { build, mut restarts, over_budget, run }) = self.drivers.remove(&id)
        else {
            return;
        };
        match run {
            Run::Stopping { next, done, .. } => {
                self.witness.driver_steady(&id);
                if let Some(next) = next {
                    let fresh = Restarts::new(self.settings.restart);
                    self.start(id, next, fresh, false);
                }
                for done in done {
                    let _ = done.send(());
                }
            }
            Run::Running { started, .. } => {
                let now = Instant::now();
                let next = restarts.ended(
                    started.duration_since(self.origin),
                    now.duration_since(self.origin),
                    self.jitter.next(),
                );
                let wait_ms = u64::try_from(next.wait.as_millis()).unwrap_or(u64::MAX);
                id.span().in_scope(|| {
                    if next.over_budget && !over_budget {
                        error!(wait_ms, "driver ends again and again: {why}");
                    } else {
                        warn!(wait_ms, "driver ended: {why}");
                    }
                });
                self.witness.driver_ended(&id, why, &next);
                let over_budget = next.over_budget || over_budget;
                let run = Run::Waiting { at: now + next.wait };
                self.drivers.insert(id, Driver { build, restarts, over_budget, run });
            }
            Run::Waiting { .. } => {}
        }
    }

    fn reload(&mut self) {
        let Some(reload) = &mut self.reload else {
            warn!("asked to reload, but this run has no configuration file");
            return;
        };
        if self.reloading != Reloading::No {
            self.reloading = Reloading::Again;
            return;
        }
        self.reloading = Reloading::Yes;
        self.manager.notify(&Notice::Reloading);
        let reload = reload(self.handle.clone());
        let span = tracing::error_span!("reload");
        let task = self.tasks.spawn(async move { End::Reload(reload.await) }.instrument(span));
        self.running.insert(task.id(), (Task::Reload, task));
    }

    /// Tells the service manager that all is alive, or the log what is not.
    pub(super) fn look(&mut self) {
        let late = self.pulses.late();
        if late.is_empty() {
            self.manager.notify(&Notice::Alive);
        }
        if late != self.late {
            if late.is_empty() {
                info!("every part comes round again");
            } else {
                error!(late = late.join(","), "a part hangs; the watchdog is not fed");
            }
            self.witness.late(&late);
            self.late = late;
        }
        if let Some(status) = &self.status {
            let line = status();
            if line != self.last_status {
                self.manager.notify(&Notice::Status(line.clone()));
                self.last_status = line;
            }
        }
    }
}

impl Task {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Driver(id) => id.to_string(),
            Self::Core { name, .. } => name.clone(),
            Self::Reload => "reload".to_owned(),
        }
    }
}

pub(super) struct Failed {
    pub(super) part: String,
    pub(super) why: String,
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn describe(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(ToString::to_string)
                .or_else(|| panic.downcast_ref::<String>().cloned());
            format!("panicked: {}", text.unwrap_or_else(|| "without a text".to_owned()))
        }
        Err(_) => "was cut off".to_owned(),
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
