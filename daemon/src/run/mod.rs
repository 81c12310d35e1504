//! What the daemon is made of, in one page.
//!
//! # Invariants
//! - READY waits for the disk and for nothing else: no PLC, leaf or hub is waited for.
//! - Draining goes with the data: drivers, recorder, live values and uplink, then what watches.

mod book;
mod checkpoints;
mod descriptors;
mod devices;
mod found;
mod fresh;
mod heap;
pub mod modbus_tls;
pub(crate) mod opcua;
pub mod opcua_credentials;
mod refusal;
mod roster;
mod stages;
mod watch;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tidegate_journal::{DirStorage, Journal, OpenError, Reader, Stamp, StorageError};
use tidegate_translator::Clock;

use crate::cli::check::SetArgs;
use crate::cli::exit;
use crate::config::{self, Config, LoadError, WhenFull};
use crate::leaf::FileError;
use crate::live::LiveQueue;
use crate::observe::control::{ControlError, ControlLimits, ControlServer};
use crate::observe::log::{self, LogArgs, LogError};
use crate::observe::state::{Board, HealthLimits};
use crate::query::Sources;
use crate::recorder::{Ingress, Losses, Opened, Recorder, RecorderGone, StartError, SystemClock};
use crate::supervise::{self, Notice, Outcome, ServiceManager as _, Signals, Supervisor, Systemd};

use devices::Devices;
pub use fresh::{FreshReading, FreshReads, MAX_FRESH_TAGS};
use roster::Roster;
use watch::Watch;

/// How long threads may take after the drain, which has waited for them before.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// Run the daemon.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/tidegate/tidegate.toml")]
    pub config: PathBuf,
    /// Settings that go before the file.
    #[command(flatten)]
    pub set: SetArgs,
    /// How much is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("the log cannot begin")]
    Log(#[from] LogError),
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error("the runtime cannot start")]
    Runtime(#[source] std::io::Error),
    #[error("journal directory {path} cannot be made; set another journal.dir", path = path.display())]
    JournalDir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the recorder cannot start")]
    Recorder(#[from] StartError),
    #[error(transparent)]
    Gone(#[from] RecorderGone),
    #[error("the control socket cannot be opened")]
    Control(#[from] ControlError),
    #[error("the leaf cannot be prepared")]
    Leaf(#[from] FileError),
    #[error("the identity's folder cannot be used; set another identity.dir")]
    Identity(#[from] tidegate_identity::StoreError),
    #[error("identity.est {url} is no URL of an EST server")]
    Authority {
        url: String,
        #[source]
        source: tidegate_identity::est::EstUrlError,
    },
    #[error("the leaf cannot be launched")]
    Launcher(#[source] std::io::Error),
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
    #[error("{0}")]
    Ended(Outcome),
}

impl RunError {
    /// 2 usage, 64 configuration, 73 disk, 77 permission, 1 anything else.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Log(LogError::Filter { .. }) => exit::USAGE,
            Self::Config(LoadError::Mistakes(_) | LoadError::TooLarge { .. })
            | Self::Control(ControlError::NotASocket { .. })
            | Self::Recorder(StartError::Open(
                OpenError::Foreign { .. } | OpenError::Settings { .. },
            )) => exit::CONFIG,
            error if is_denied(error) => exit::PERMISSION,
            Self::Config(_) => exit::CONFIG,
            Self::JournalDir { .. }
            | Self::Recorder(_)
            | Self::Control(_)
            | Self::Leaf(_)
            | Self::Identity(_) => exit::DISK,
            _ => exit::NO,
        }
    }
}

/// Whether the system refused something for want of permission.
fn is_denied(error: &RunError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Runs until a signal, and says how it ended.
#[must_use]
pub fn run(args: &RunArgs) -> ExitCode {
    heap::settle();
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let line = refusal::in_a_line(&error);
            Systemd.notify(&Notice::Status(line.clone()));
            let text = if log::stderr_is_journald() {
                refusal::for_journald(&line)
            } else {
                match &error {
                    RunError::Config(LoadError::Mistakes(mistakes)) => mistakes.to_string(),
                    _ => format!("error: {line}"),
                }
            };
            // Nobody is left to tell when stderr is gone.
            let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
            ExitCode::from(error.exit_code())
        }
    }
}

fn start(args: &RunArgs) -> Result<(), RunError> {
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let config = config::load(&args.config, environment, &args.set.set)?;
    let lost_lines = log::begin(&args.log)?;
    stages::warn_of(&config);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let board = Board::new(config.gateway.clone(), Arc::clone(&clock)).with_log(lost_lines);
    // Two workers: one may wait for the disk while the other polls.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let outcome = runtime.block_on(daemon(args, config, Arc::new(board), clock));
    // A thread that hangs in a disk must not keep a process that was told to end.
    runtime.shutdown_timeout(SHUTDOWN);
    let outcome = outcome?;
    if outcome.is_clean() { Ok(()) } else { Err(RunError::Ended(outcome)) }
}

async fn daemon(
    args: &RunArgs,
    config: Config,
    board: Arc<Board>,
    clock: Arc<dyn Clock>,
) -> Result<Outcome, RunError> {
    tracing::info!(
        gateway = %config.gateway,
        version = env!("CARGO_PKG_VERSION"),
        devices = config.devices.len(),
        "tidegate starts"
    );
    descriptors::make_room(&config, &board);
    let live = Arc::new(LiveQueue::new(Arc::clone(&board)));
    let losses = Arc::new(Losses::new(Arc::clone(&clock)));
    let (ingress, queue) = Ingress::new(
        Arc::clone(&board),
        Arc::clone(&live),
        Arc::clone(&losses),
        Arc::clone(&clock),
    );
    let ingress = Arc::new(ingress);

    let opener = opener(&config)?;
    let (recording, recorder) = tokio::task::block_in_place(|| {
        Recorder::open(
            &config.journal.dir,
            opener,
            config.journal.commit_every,
            queue,
            losses,
            Arc::clone(&board),
            Arc::clone(&clock),
        )
    })?;

    let settings = supervise::Settings {
        watchdog: supervise::watchdog_period(),
        seed: seed(&config),
        ..Default::default()
    };
    let witness = Watch { board: Arc::clone(&board), ingress: Arc::clone(&ingress) };
    let mut supervisor = Supervisor::new(settings, Arc::new(witness), Arc::new(Systemd));

    // What watches comes first, so that a start can be watched.
    let health = HealthLimits::default();
    make_parent(&config.control_socket);
    let control = ControlServer::bind(
        &config.control_socket,
        Arc::clone(&board),
        health,
        ControlLimits::default(),
    )?;
    stages::control(&mut supervisor, control);
    if let Some(metrics) = &config.metrics {
        stages::http(&mut supervisor, metrics.listen, health, Arc::clone(&board));
    }

    let keeper = stages::keeper(&config, &board, &clock)?;
    let proxy = stages::proxy(&config, &board);
    let leaf =
        stages::leaf(&mut supervisor, &config, keeper.as_ref(), Arc::clone(&board), proxy.clone())?;
    let wake = stages::identity(&mut supervisor, keeper, &leaf, &config, &board);
    stages::recorder(&mut supervisor, recording);
    stages::live(&mut supervisor, leaf.clone(), Arc::clone(&live), Arc::clone(&board));
    let fresh = Arc::new(FreshReads::new(Arc::clone(&board)));
    if config.query.enabled {
        let sources = Sources {
            board: Arc::clone(&board),
            health,
            names: recorder.catalog(),
            fresh: Arc::clone(&fresh),
            clock: Arc::clone(&clock),
        };
        stages::questions(&mut supervisor, leaf.clone(), &config.query, recorder.clone(), sources);
    }
    let door = stages::ingest(&mut supervisor, leaf.clone(), &config);
    let feed = stages::feed(&config, door, &recorder, &ingress, &clock);
    if let Some(hub) = &config.hub {
        let (recorder, board) = (recorder.clone(), Arc::clone(&board));
        stages::uplink(&mut supervisor, leaf, &config, hub, proxy, recorder, board);
    }

    checkpoints::checkpoints(&mut supervisor, &config, recorder.clone());
    let roster = Roster::new(Arc::clone(&ingress), live, recorder, Arc::clone(&board));
    let credentials = opcua::credentials(&config, Arc::clone(&clock)).telling(Arc::clone(&board));
    let credentials = Arc::new(credentials);
    opcua::tended(&mut supervisor, Arc::clone(&credentials));
    let opcua = opcua::maker(Arc::clone(&clock), credentials);
    let devices = Devices::new(roster, ingress, Arc::clone(&board), clock, opcua, fresh, feed);
    let devices = Arc::new(devices);
    // The recorder answers only once it runs, so the first devices come through the same door as
    // those of a reload, right after the start.
    let drivers = supervisor.drivers();
    let first = Arc::clone(&devices);
    let config = Arc::new(config);
    let initial = Arc::clone(&config);
    supervisor.core("devices", supervise::Stage::Record, move |stop| async move {
        first.number_health(&initial.gateway).await?;
        first.apply(&initial, &drivers).await?;
        first.start_health(health, &drivers).await?;
        stop.cancelled().await;
        Ok(())
    });
    stages::reload(&mut supervisor, args, &config, devices, wake);

    let status = Arc::clone(&board);
    supervisor.on_status(move || stages::status_line(&status, &health));
    let signals = Signals::system().map_err(RunError::Signals)?;
    let outcome = supervisor.run(signals).await;
    tracing::info!("{outcome}");
    Ok(outcome)
}

/// A segment's sidecar is a twentieth of it at the most.
const SIDECAR_SHARE: u64 = 20;
/// A smaller segment is read as fast as its sidecar would be.
const LEAST_WITH_SIDECARS: u64 = 1 << 20;

/// How the journal is opened.
fn opener(config: &Config) -> Result<impl Fn(Stamp, &Reader) -> Opened + Send + 'static, RunError> {
    let dir = config.journal.dir.clone();
    make_dir(&dir)?;
    let plant = config.gateway.plant.as_str();
    let gateway = config.gateway.name.as_str();
    let mut settings = tidegate_journal::Settings::new(plant, gateway, config.journal.max_bytes);
    settings.when_full = match config.journal.when_full {
        WhenFull::DropOldest => tidegate_journal::WhenFull::DropOldest,
        WhenFull::StopRecording => tidegate_journal::WhenFull::StopRecording,
    };
    fit_segments(&mut settings);
    if config.query.enabled && settings.segment_bytes >= LEAST_WITH_SIDECARS {
        settings.sidecar_bytes = settings.segment_bytes / SIDECAR_SHARE;
    }
    Ok(move |stamp, reader: &Reader| {
        let storage = DirStorage::new(&dir).map_err(|source| {
            OpenError::Storage(StorageError {
                action: "open",
                object: "the directory".to_owned(),
                place: dir.display().to_string(),
                source,
            })
        })?;
        Journal::open_for(reader, Arc::new(storage), settings.clone(), stamp)
    })
}

/// A small journal gets small segments, so that it drops little at a time: sixteen at least.
fn fit_segments(settings: &mut tidegate_journal::Settings) {
    let wanted = settings.max_bytes / 16 / 4096 * 4096;
    settings.segment_bytes =
        wanted.clamp(tidegate_journal::MIN_SEGMENT_BYTES, tidegate_journal::DEFAULT_SEGMENT_BYTES);
    settings.headroom = 2 * settings.segment_bytes;
}

fn make_dir(path: &Path) -> Result<(), RunError> {
    std::fs::create_dir_all(path)
        .map_err(|source| RunError::JournalDir { path: path.to_owned(), source })
}

/// Binding tells better than this why a socket cannot be there.
fn make_parent(path: &Path) {
    if let Some(dir) = path.parent() {
        let _ = std::fs::create_dir_all(dir);
    }
}

/// Spreads what gateways do at the same time, by name.
fn seed(config: &Config) -> u64 {
    let hash = blake3::hash(config.gateway.to_string().as_bytes());
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
