//! The managed leaf: a child process, started, watched, restarted and stopped.
//!
//! # Invariants
//! - Whatever goes wrong is retried for ever, with growing waits; the state says what and when.
//! - The daemon's passwords stay the same over the child's restarts, so its connections come back
//!   by themselves. So does a port that the system chose.
//! - One reload at a time: what is heard of one is not taken for the answer to another.
//! - One child at a time: the next is started after the last was reaped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStderr};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::config::{Dialled, LeafPlan, RECORD, generate_again};
use super::credentials::{CONFIG, Credentials, FileError, OWNER, make_dir, write_whole};
use super::handle::{LeafHandle, LeafState, Order};
use super::launch::{Launcher, Spawner};
use super::log::{Line, Lines};
use super::papers::{LinksMade, Papers, RELOAD_DEADLINE, papers};
use super::server::{Search, ServerError, find_server};
use super::throttle::{Throttle, Verdict};
use crate::causes::chain;
use crate::config::{HubUrl, TlsFiles};
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
    credentials: Arc<Credentials>,
    state: watch::Sender<LeafState>,
    complaint: watch::Sender<Option<String>>,
    hub: watch::Sender<Option<String>>,
    orders: mpsc::Receiver<Order>,
    papers: Papers,
    /// The reload whose end was not heard of yet.
    reload: Option<Reload>,
    /// The number of the files that this child began with.
    started_with: u64,
    /// Of this child's links.
    dialled: Dialled,
    /// What this child was told at its start, before a port was chosen: a reload with another one
    /// is refused.
    told_to_listen: SocketAddr,
}

/// A reload that was asked for.
#[derive(Debug)]
struct Reload {
    since: Instant,
    /// The number of the files that it is about, and those before; nothing where it is about links.
    files: Option<(u64, Option<TlsFiles>)>,
    /// The links that had been made before.
    before: LinksMade,
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
        let credentials = Arc::new(Credentials::random()?);
        let (state, state_seen) = watch::channel(LeafState::Starting);
        let (complaint, complaint_seen) = watch::channel(None);
        let (hub, hub_seen) = watch::channel(None);
        // One order waits at most: a second restart before the first means the same.
        let (orders_in, orders) = mpsc::channel(1);
        let files = settings.plan.hub.as_ref().and_then(|hub| hub.tls.clone());
        let (papers, showing) = papers(files);
        let handle = LeafHandle {
            credentials: Arc::clone(&credentials),
            state: state_seen,
            complaint: complaint_seen,
            hub: hub_seen,
            orders: orders_in,
            showing,
        };
        let (dialled, told_to_listen) = (Dialled::default(), settings.plan.listen);
        let process = Self {
            settings,
            credentials,
            state,
            complaint,
            hub,
            orders,
            papers,
            reload: None,
            started_with: 0,
            dialled,
            told_to_listen,
        };
        Ok((process, handle))
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
            if matches!(*self.state.borrow(), LeafState::Listening { .. }) {
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
            let (next_start_in, over_budget) = (next.wait, next.over_budget);
            self.state.send_replace(LeafState::Down { reason, next_start_in, over_budget });
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(next.wait) => {}
            }
        }
        self.state.send_replace(LeafState::Stopped);
    }

    async fn live_once(
        &mut self,
        spawner: &mut Option<Spawner>,
        throttle: &mut Throttle,
        stop: &CancellationToken,
    ) -> End {
        self.state.send_replace(LeafState::Starting);
        self.complaint.send_replace(None);
        self.hub.send_replace(None);
        self.dialled = Dialled::default();
        self.told_to_listen = self.settings.plan.listen;
        // Orders from before this start were meant for the child that is gone.
        while self.orders.try_recv().is_ok() {}
        self.reload = None;
        let wanted = self.papers.wanted.borrow_and_update().clone();
        self.started_with = wanted.number;
        self.put(wanted.files);
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
        &self,
        spawner: &mut Option<Spawner>,
    ) -> Result<(Child, Lines<ChildStderr>), LeafError> {
        let LeafSettings { plan, dir, search, launcher, memory_limit, .. } = &self.settings;
        let server = find_server(search).await.map_err(LeafError::Server)?;
        let config = self.write_config(plan.clone(), dir).map_err(LeafError::Files)?;
        let mut command = launcher.command(&server.path);
        command.arg("-c").arg(&config);
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

    /// `plan` is the settings' one, and listens where this child was told to.
    fn write_config(&self, mut plan: LeafPlan, dir: &Path) -> Result<PathBuf, FileError> {
        plan.listen = self.told_to_listen;
        make_dir(dir, 0o700)?;
        make_dir(&plan.ports_dir, 0o700)?;
        let text =
            generate_again(&plan, &self.credentials, self.dialled).map_err(FileError::Plan)?;
        let text = Zeroizing::new(text);
        let path = dir.join(CONFIG);
        write_whole(&path, text.as_bytes(), OWNER)?;
        Ok(path)
    }

    /// Until it ends, fails to listen, or is asked to be restarted.
    async fn watch(
        &mut self,
        child: &mut Child,
        lines: &mut Lines<ChildStderr>,
        throttle: &mut Throttle,
    ) -> LeafError {
        let pid = child.id().unwrap_or_default();
        let ports = PortsFile::of(&self.settings.plan.ports_dir, pid);
        let started = Instant::now();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let (mut listening, mut talking) = (false, true);
        let started_with = self.started_with;
        loop {
            tokio::select! {
                line = lines.next(), if talking => match line {
                    Some(line) => {
                        if let Some(end) = self.hear(&line, throttle) {
                            self.reloaded(end);
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
                Some(order) = self.orders.recv(), if self.reload.is_none() => match order {
                    Order::Restart { reason } => return LeafError::Asked { reason },
                    Order::Dial { live, record, reason } => {
                        self.dial_anew(child, live, record, &reason);
                    }
                    Order::FailBack { reason } => self.fail_back(child, &reason),
                },
                Ok(()) = self.papers.wanted.changed(), if listening && self.reload.is_none() => {
                    self.take_files(child);
                }
                () = overdue(self.reload.as_ref()) => {
                    let seconds = RELOAD_DEADLINE.as_secs();
                    self.reloaded(Err(format!("no word of the reload within {seconds} s")));
                }
                _ = look.tick(), if !listening => {
                    if let Some(port) = ports.port() {
                        listening = true;
                        // Clients know this port now, so a restart has to keep it.
                        self.settings.plan.listen.set_port(port);
                        let address = reachable(self.settings.plan.listen);
                        tracing::info!(%address, pid, "leaf listens");
                        self.state.send_replace(LeafState::Listening { address, pid });
                        // What is wanted by now, if it is newer, is taken in the next round.
                        self.papers.settle(started_with, None, LinksMade::default());
                    } else if started.elapsed() > START_DEADLINE {
                        return LeafError::NotListening { waited: START_DEADLINE };
                    }
                }
            }
        }
    }

    /// Has the child read its configuration again, with other remotes in place of these. What was
    /// linked by one that stays, and every local connection, goes on.
    fn dial_anew(&mut self, child: &Child, live: bool, record: bool, reason: &str) {
        if live {
            self.dialled.live = self.dialled.live.next();
        }
        if record {
            self.dialled.record = self.dialled.record.next();
        }
        tracing::warn!(live, record, "leaf dials the hub anew: {reason}");
        self.read_links_again(child);
    }

    /// Has the child make both links from the first URL on.
    fn fail_back(&mut self, child: &Child, reason: &str) {
        self.dialled.live = self.dialled.live.again();
        self.dialled.record = self.dialled.record.again();
        tracing::info!("leaf goes back to the first of the hub's URLs: {reason}");
        self.read_links_again(child);
    }

    fn read_links_again(&mut self, child: &Child) {
        let LeafSettings { plan, dir, .. } = &self.settings;
        if let Err(error) = self.write_config(plan.clone(), dir) {
            tracing::warn!("links are not dialled anew: {}", chain(&error));
            return;
        }
        self.hang_up(child, None);
    }

    /// Has the child make both links with the files that are wanted now.
    fn take_files(&mut self, child: &Child) {
        let wanted = self.papers.wanted.borrow_and_update().clone();
        let former = self.put(wanted.files.clone());
        let settled = self.papers.taken.borrow().refused.is_some() && former == wanted.files;
        if settled {
            // Back to what it never let go of.
            return self.papers.kept(wanted.number);
        }
        self.dialled.live = self.dialled.live.again();
        self.dialled.record = self.dialled.record.again();
        let LeafSettings { plan, dir, .. } = &self.settings;
        if let Err(error) = self.write_config(plan.clone(), dir) {
            self.put(former);
            let before = self.papers.count();
            return self.papers.settle(wanted.number, Some(chain(&error)), before);
        }
        tracing::info!("leaf makes its links with other certificate files");
        self.hang_up(child, Some((wanted.number, former)));
    }

    /// Puts other files into the plan; returns those before.
    fn put(&mut self, files: Option<TlsFiles>) -> Option<TlsFiles> {
        let hub = self.settings.plan.hub.as_mut()?;
        std::mem::replace(&mut hub.tls, files)
    }

    fn hang_up(&mut self, child: &Child, files: Option<(u64, Option<TlsFiles>)>) {
        let (since, before) = (Instant::now(), self.papers.count());
        self.reload = Some(Reload { since, files, before });
        if let Some(pid) = pid_of(child) {
            // Fails only when it has ended meanwhile, and then it is started again.
            let _ = kill_process(pid, Signal::HUP);
        }
    }

    /// Takes in what became of a reload.
    fn reloaded(&mut self, end: Result<(), String>) {
        let Some(reload) = self.reload.take() else { return };
        if let Err(why) = &end {
            tracing::warn!("leaf did not take its configuration: {why}");
        }
        let Some((number, former)) = reload.files else { return };
        if end.is_err() {
            self.put(former);
            let LeafSettings { plan, dir, .. } = &self.settings;
            if let Err(error) = self.write_config(plan.clone(), dir) {
                tracing::warn!("leaf's former configuration is not back: {}", chain(&error));
            }
        }
        self.papers.settle(number, end.err(), reload.before);
    }

    /// Takes a line in; returns what it tells of a reload.
    fn hear(&self, line: &str, throttle: &mut Throttle) -> Option<Result<(), String>> {
        let line = Line::parse(&self.scrub(line));
        let made = line.link_made();
        if let Some((_, account)) = made {
            self.papers.link_made(account);
        }
        if let Some((remote, RECORD)) = made {
            let urls = self.settings.plan.hub.as_ref().map(|hub| hub.urls.as_slice());
            self.hub.send_replace(Some(url_of(remote, urls.unwrap_or_default())));
        }
        if let Some(complaint) = line.complaint() {
            self.complaint.send_replace(Some(complaint));
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
        let line = self.credentials.scrub(line);
        let proxy = self.settings.plan.hub.as_ref().and_then(|hub| hub.proxy.as_ref());
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
        let complaint = self.complaint.borrow().clone();
        let in_use = complaint.as_ref().is_some_and(|text| text.contains("address already in use"));
        if in_use {
            let listen = self.settings.plan.listen;
            return LeafError::PortInUse { ip: listen.ip(), port: listen.port() };
        }
        LeafError::Ended { status, complaint: complaint.unwrap_or_else(|| "none".to_owned()) }
    }
}

/// When the end of a reload should have been heard of; never where there is none.
async fn overdue(reload: Option<&Reload>) {
    match reload {
        Some(reload) => tokio::time::sleep_until((reload.since + RELOAD_DEADLINE).into()).await,
        None => std::future::pending().await,
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
fn url_of(remote: &str, urls: &[HubUrl]) -> String {
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
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
