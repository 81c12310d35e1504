//! The managed leaf: a child process, started, watched, restarted and stopped.
//!
//! # Invariants
//! - Whatever goes wrong is retried for ever, with growing waits; the state says what and when.
//! - The daemon's passwords stay the same over the child's restarts, so its connections come back
//!   by themselves. So does a port that the system chose.
//! - One child at a time: the next is started after the last was reaped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStderr};
use tokio_util::sync::CancellationToken;

use super::config::{LeafPlan, RECORD};
use super::credentials::{Credentials, FileError};
use super::handle::{LeafHandle, LeafState};
use super::launch::{Launcher, Spawner};
use super::log::{Line, Lines};
use super::papers::{LinksMade, RELOAD_DEADLINE};
use super::server::{Search, ServerError, find_server};
use super::throttle::{Throttle, Verdict};
use super::told::{Step, Told};
use crate::causes::chain;
use crate::config::HubUrl;
use crate::observe::log::OncePerChange;
use crate::supervise::{RestartPolicy, Restarts};

/// nats-server listens within 14 ms on an idle machine; a gateway that boots is not idle.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How often the file with the port is looked for while the child starts.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the log of an ended child is read on: another process may hold its end open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How starts are spaced. The first wait is long enough for a port to be free again; within the
/// budget local applications are without a server for ten seconds at most.
const RESTARTS: RestartPolicy = RestartPolicy {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(10),
    budget: 10,
    window: Duration::from_secs(600),
    over_budget: Duration::from_secs(60),
    steady: Duration::from_secs(30),
};

/// What a managed leaf needs.
#[derive(Debug, Clone)]
pub struct LeafSettings {
    /// What it is to be.
    pub plan: LeafPlan,
    /// Where its configuration is written.
    pub dir: PathBuf,
    /// Where nats-server is looked for, at every start.
    pub search: Search,
    /// What ties the child to this process.
    pub launcher: Launcher,
    /// `GOMEMLIMIT` of the child, in bytes: from there on its collector works harder. 14 MB idle
    /// and 18 MB at 5,000 messages a second were measured, 354 MB in a flood without it.
    pub memory_limit: u64,
    /// From SIGTERM to SIGKILL when it is stopped.
    pub grace: Duration,
}

impl LeafSettings {
    /// The usual limits: 64 MiB, 5 s.
    #[must_use]
    pub fn usual(plan: LeafPlan, dir: PathBuf, search: Search, launcher: Launcher) -> Self {
        let grace = Duration::from_secs(5);
        Self { plan, dir, search, launcher, memory_limit: 64 << 20, grace }
    }
}

/// Why the leaf does not run.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// There is no program.
    #[error("there is no nats-server to run as the leaf")]
    Server(#[source] ServerError),
    /// Its configuration could not be written.
    #[error("the leaf's configuration cannot be written")]
    Files(#[source] FileError),
    /// It could not be started.
    #[error("nats-server {path} cannot be started", path = path.display())]
    Spawn {
        /// The program.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody else listens there.
    #[error(
        "port {port} of {ip} is in use; stop what listens there, or choose another [leaf] listen"
    )]
    PortInUse {
        /// The address.
        ip: IpAddr,
        /// The port.
        port: u16,
    },
    /// It ended by itself.
    #[error("nats-server ended ({status}); its last complaint: {complaint}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// Its last error, or "none".
        complaint: String,
    },
    /// It runs and does not listen.
    #[error("nats-server does not listen {waited:?} after its start")]
    NotListening {
        /// How long it was given.
        waited: Duration,
    },
    /// The system lost track of it.
    #[error("cannot wait for nats-server")]
    Wait(#[source] io::Error),
    /// It was asked to be restarted.
    #[error("restarted: {reason}")]
    Asked {
        /// Who asked, and why.
        reason: String,
    },
}

/// The leaf, before it runs.
#[derive(Debug)]
pub struct LeafProcess {
    settings: LeafSettings,
    told: Told,
}

/// How one life of the child ended.
enum End {
    Stopped,
    Failed(LeafError),
}

impl LeafProcess {
    /// Makes passwords and a handle; nothing runs yet.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn new(settings: LeafSettings) -> Result<(Self, LeafHandle), FileError> {
        let credentials = Credentials::random()?;
        let (told, handle) = Told::new(settings.plan.clone(), settings.dir.clone(), credentials);
        Ok((Self { settings, told }, handle))
    }

    /// Runs the leaf until `stop`, then stops it gracefully. Dropping the future kills the child.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut restarts = Restarts::new(RESTARTS);
        let origin = Instant::now();
        let mut throttle = Throttle::default();
        // The thread starts with the first child and lives as long as this future: see `launch`.
        let mut spawner = None;
        let mut told = OncePerChange::new();
        loop {
            let started = Instant::now();
            let error = match self.live_once(&mut spawner, &mut throttle, &stop).await {
                End::Stopped => break,
                End::Failed(error) => error,
            };
            // One child: there is nothing to spread.
            let next = restarts.ended(started.duration_since(origin), origin.elapsed(), 1.0);
            let reason = chain(&error);
            if matches!(*self.told.state.borrow(), LeafState::Listening { .. }) {
                // What ends a leaf that ran is news, also when it ended the one before.
                told.forget();
            }
            if told.note((reason.clone(), next.over_budget)).is_none() {
                tracing::debug!(next_start_in = ?next.wait, "leaf is still down: {reason}");
            } else if next.over_budget {
                tracing::error!(next_start_in = ?next.wait, "leaf is down again and again: {reason}");
            } else {
                tracing::warn!(next_start_in = ?next.wait, "leaf is down: {reason}");
            }
            let (next_start_in, over_budget) = (Some(next.wait), next.over_budget);
            self.told.state.send_replace(LeafState::Down { reason, next_start_in, over_budget });
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(next.wait) => {}
            }
        }
        self.told.state.send_replace(LeafState::Stopped);
    }

    async fn live_once(
        &mut self,
        spawner: &mut Option<Spawner>,
        throttle: &mut Throttle,
        stop: &CancellationToken,
    ) -> End {
        self.told.begin();
        let started = tokio::select! {
            () = stop.cancelled() => return End::Stopped,
            started = self.start(spawner) => started,
        };
        let (mut child, mut lines) = match started {
            Ok(started) => started,
            Err(error) => return End::Failed(error),
        };
        let error = tokio::select! {
            () = stop.cancelled() => None,
            error = self.watch(&mut child, &mut lines, throttle) => Some(error),
        };
        if !matches!(error, Some(LeafError::Ended { .. } | LeafError::PortInUse { .. })) {
            end(&mut child, self.settings.grace).await;
            self.read_last_words(&mut lines, throttle).await;
        }
        error.map_or(End::Stopped, End::Failed)
    }

    async fn start(
        &mut self,
        spawner: &mut Option<Spawner>,
    ) -> Result<(Child, Lines<ChildStderr>), LeafError> {
        let LeafSettings { search, launcher, memory_limit, .. } = &self.settings;
        let server = find_server(search).await.map_err(LeafError::Server)?;
        let config = self.told.write().map_err(LeafError::Files)?;
        let mut command = launcher.command(&server.path);
        command.arg("-c").arg(&config.path);
        command.env("GOMEMLIMIT", memory_limit.to_string());
        // What the service manager wants to hear of the daemon is not for a child to say.
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // A key press at the terminal stops the daemon, and the daemon stops the leaf, last.
        command.process_group(0);
        let spawn_error = |source| LeafError::Spawn { path: server.path.clone(), source };
        let parent = match spawner {
            Some(parent) => parent,
            None => spawner.insert(Spawner::start().map_err(spawn_error)?),
        };
        let mut child = parent.spawn(command).await.map_err(spawn_error)?;
        let stderr = child.stderr.take();
        let stderr = stderr.ok_or_else(|| spawn_error(io::Error::other("no standard error")))?;
        tracing::info!(version = %server.version, path = %server.path.display(), "leaf started");
        Ok((child, Lines::new(stderr)))
    }

    /// Until it ends, fails to listen, or is asked to be restarted.
    async fn watch(
        &mut self,
        child: &mut Child,
        lines: &mut Lines<ChildStderr>,
        throttle: &mut Throttle,
    ) -> LeafError {
        let pid = child.id().unwrap_or_default();
        let ports = PortsFile::of(&self.told.plan.ports_dir, pid);
        let started = Instant::now();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let (mut listening, mut talking) = (false, true);
        let started_with = self.told.number;
        loop {
            let overdue = self.told.overdue();
            tokio::select! {
                line = lines.next(), if talking => match line {
                    Some(line) => {
                        if let Some(end) = self.hear(&line, throttle) {
                            self.told.reloaded(end);
                        }
                    }
                    None => talking = false,
                },
                ended = child.wait() => {
                    self.read_last_words(lines, throttle).await;
                    ports.remove();
                    return match ended {
                        Ok(status) => self.ended(status),
                        Err(source) => LeafError::Wait(source),
                    };
                }
                Some(order) = self.told.orders.recv(), if !self.told.is_reloading() => {
                    match self.told.follow(order) {
                        Step::Restart(reason) => return LeafError::Asked { reason },
                        Step::Reload => hang_up(child),
                        Step::Stay => {}
                    }
                }
                Ok(()) = self.told.papers.wanted.changed(),
                    if listening && !self.told.is_reloading() =>
                {
                    if self.told.take_files() == Step::Reload {
                        hang_up(child);
                    }
                }
                () = overdue => {
                    let seconds = RELOAD_DEADLINE.as_secs();
                    self.told.unheard(format!("no word of the reload within {seconds} s"));
                }
                _ = look.tick(), if !listening => {
                    if let Some(port) = ports.port() {
                        listening = true;
                        // Clients know this port now, so a restart has to keep it.
                        self.told.plan.listen.set_port(port);
                        let address = reachable(self.told.plan.listen);
                        tracing::info!(%address, pid, "leaf listens");
                        let life = pid.to_string();
                        self.told.state.send_replace(LeafState::Listening { address, life });
                        // What is wanted by now, if it is newer, is taken in the next round.
                        self.told.papers.settle(started_with, None, LinksMade::default());
                    } else if started.elapsed() > START_DEADLINE {
                        return LeafError::NotListening { waited: START_DEADLINE };
                    }
                }
            }
        }
    }

    /// Takes a line in; returns what it tells of a reload.
    fn hear(&self, line: &str, throttle: &mut Throttle) -> Option<Result<(), String>> {
        let line = Line::parse(&self.scrub(line));
        let made = line.link_made();
        if let Some((_, account)) = made {
            self.told.papers.link_made(account);
        }
        if let Some((remote, RECORD)) = made {
            let urls = self.told.plan.hub.as_ref().map(|hub| hub.urls.as_slice());
            self.told.hub.send_replace(Some(url_of(remote, urls.unwrap_or_default())));
        }
        if let Some(complaint) = line.complaint() {
            self.told.complaint.send_replace(Some(complaint));
        }
        if let Verdict::Pass { held_back } = throttle.judge(&line.text, Instant::now()) {
            if held_back > 0 {
                tracing::info!(held_back, "lines of the leaf were left out");
            }
            line.forward();
        }
        line.reload()
    }

    fn scrub(&self, line: &str) -> String {
        let line = self.told.credentials.scrub(line);
        let proxy = self.told.plan.hub.as_ref().and_then(|hub| hub.proxy.as_ref());
        proxy.map_or(line.clone(), |proxy| proxy.scrub(line))
    }

    async fn read_last_words(&self, lines: &mut Lines<ChildStderr>, throttle: &mut Throttle) {
        let all = async {
            while let Some(line) = lines.next().await {
                self.hear(&line, throttle);
            }
        };
        // What is not said by then is not waited for.
        let _ = tokio::time::timeout(LAST_WORDS, all).await;
    }

    fn ended(&self, status: ExitStatus) -> LeafError {
        let complaint = self.told.complaint.borrow().clone();
        let in_use = complaint.as_ref().is_some_and(|text| text.contains("address already in use"));
        if in_use {
            let listen = self.told.plan.listen;
            return LeafError::PortInUse { ip: listen.ip(), port: listen.port() };
        }
        LeafError::Ended { status, complaint: complaint.unwrap_or_else(|| "none".to_owned()) }
    }
}

/// Has the child read its configuration again.
fn hang_up(child: &Child) {
    if let Some(pid) = pid_of(child) {
        // Fails only when it has ended meanwhile, and then it is started again.
        let _ = kill_process(pid, Signal::HUP);
    }
}

/// SIGTERM, then SIGKILL when it takes longer than `grace`.
async fn end(child: &mut Child, grace: Duration) {
    if let Some(pid) = pid_of(child)
        && kill_process(pid, Signal::TERM).is_ok()
        && tokio::time::timeout(grace, child.wait()).await.is_ok()
    {
        return;
    }
    // Fails only when it has ended meanwhile.
    let _ = child.kill().await;
}

fn pid_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

/// The configured URL of a remote as nats-server logs it; its address where that tells none.
pub(super) fn url_of(remote: &str, urls: &[HubUrl]) -> String {
    // A host name is followed by the address that it stands for.
    let (host_and_port, _) = remote.split_once('(').unwrap_or((remote, ""));
    let is_it = |url: &&HubUrl| url.to_string().ends_with(&format!("://{host_and_port}"));
    let known = urls.iter().find(is_it);
    let known = known.or(if let [only] = urls { Some(only) } else { None });
    known.map_or_else(|| remote.to_owned(), ToString::to_string)
}

/// What nats-server writes when it listens: `nats-server_PID.ports`.
struct PortsFile {
    dir: PathBuf,
    ending: String,
}

impl PortsFile {
    fn of(dir: &Path, pid: u32) -> Self {
        Self { dir: dir.to_owned(), ending: format!("_{pid}.ports") }
    }

    /// The program's own name stands before the process id, and it may be any.
    fn path(&self) -> Option<PathBuf> {
        let mut entries = std::fs::read_dir(&self.dir).ok()?.filter_map(Result::ok);
        entries
            .find(|entry| entry.file_name().to_str().is_some_and(|n| n.ends_with(&self.ending)))
            .map(|entry| entry.path())
    }

    /// The client port; `None` while the file is not there or not whole.
    fn port(&self) -> Option<u16> {
        let text = std::fs::read(self.path()?).ok()?;
        let ports: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let url = ports.get("nats")?.get(0)?.as_str()?;
        url.rsplit_once(':')?.1.parse().ok()
    }

    /// A child that was killed leaves it behind.
    fn remove(&self) {
        if let Some(path) = self.path() {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The address that reaches a listener on this machine.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
