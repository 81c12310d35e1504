//! The demo's story, act by act.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt as _;
use tidegate_record::proof::Report;
use tidegate_translator::CancellationToken;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::DemoArgs;
use super::cast::{CastError, GatewayFile, Player, client_address, free_port};
use super::narrator::Narrator;
use super::wan::Wan;
use crate::causes::chain;
use crate::cli::exit::{self, Failure};
use crate::cli::prove::{self, ProveArgs};
use crate::cli::terminal;
use crate::hub::{LabError, LabHub, StreamPlan, ensure_stream, write_lab};
use crate::hubread::{Access, AccessError, Login};
use crate::leaf::{Launcher, Search, ServerError, find_server};
use crate::names::{GatewayId, GatewayIdError, Name, NameError};
use crate::observe::control::Client as Control;
use crate::observe::state::{StatusReport, UplinkState};
use crate::sim::{self, Behaviour, Profile};

/// The demo's plant.
pub(super) const PLANT: &str = "Demo";
/// The demo's gateway.
pub(super) const NAME: &str = "gw-1";

/// What is shown of the press: path, address, type, unit.
pub(super) const SHOWN: [(&str, &str, &str, &str); 4] = [
    ("temperature", "holding:0", "float32", "degC"),
    ("pressure", "holding:2", "float32", "bar"),
    ("steps", "holding:6", "uint32", ""),
    ("running", "holding:8.0", "bool", ""),
];

/// A backlog that has not drained by then will not.
const DRAIN: Duration = Duration::from_secs(120);

/// Why the demo ended early.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    /// The directory.
    #[error("the demo's directory {path} cannot be used", path = path.display())]
    Dir {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The hub's files.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// There is no nats-server.
    #[error("no nats-server; `cargo xtask demo` fetches one, --nats-server names one")]
    Server(#[source] ServerError),
    /// Somebody did not play.
    #[error(transparent)]
    Cast(#[from] CastError),
    /// Loopback.
    #[error("loopback cannot be listened on")]
    Loopback(#[source] std::io::Error),
    /// The hub does not answer.
    #[error("the hub does not answer")]
    Hub(#[from] AccessError),
    /// The stream.
    #[error(transparent)]
    Stream(#[from] crate::hub::StreamError),
    /// Never in practice: the demo's own names are legal.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Never in practice.
    #[error(transparent)]
    Gateway(#[from] GatewayIdError),
    /// The backlog stayed.
    #[error("the backlog did not drain within {} s; the files are in {dir}", DRAIN.as_secs(), dir = dir.display())]
    Stuck {
        /// Where to look.
        dir: PathBuf,
    },
}

pub(super) fn run(args: &DemoArgs) -> ExitCode {
    let told = exit::block_on(async {
        tokio::select! {
            told = demo(args) => told,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(exit::NO, "interrupted".to_owned())),
        }
    });
    match told {
        Ok(report) if report.is_balanced() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(exit::NO),
        Err(failure) => failure.told(),
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        Self::new(exit::PEER, chain(&error))
    }
}

/// Plays it.
async fn demo(args: &DemoArgs) -> Result<Report, Failure> {
    let say = Narrator::new(args.json);
    let (dir, _temporary) = directory(args)?;
    let mut tasks = JoinSet::new();
    let mut stage = Stage::set(args, &dir, &say, &mut tasks).await?;
    let play = Duration::from_secs(u64::from(args.seconds));

    say.act("live values, at the gateway's own NATS server");
    stage.show(play / 5).await;

    say.act("the WAN is cut; the PLC goes on, local programs go on, the journal fills");
    stage.wan.cut();
    stage.show(play * 3 / 10).await;

    say.act("the gateway is killed with SIGKILL in the middle of the outage");
    stage.kill_gateway().await?;
    say.see("started again: the journal is as it was at the last fdatasync");
    stage.show(play * 3 / 10).await;

    say.act("the WAN is back");
    stage.wan.restore();
    stage.drain().await?;
    stage.show(play / 5).await;

    say.act("the gateway stops, and the hub's copy is asked for the proof");
    let report = stage.prove().await?;
    tell(&report, args.json, &say);
    if report.is_balanced() {
        say.act("proved: complete, nothing twice, nothing out of order, every loss named");
    } else {
        say.act("NOT proved; the report above says why");
    }
    if args.keep.is_some() {
        say.see(&format!("everything is kept in {}", dir.display()));
    }
    Ok(report)
}

fn tell(report: &Report, json: bool, say: &Narrator) {
    if json {
        let mut out = std::io::stdout().lock();
        // A reader that went away has its answer in the exit code.
        let _ = serde_json::to_writer(&mut out, report)
            .map_err(Into::into)
            .and_then(|()| writeln!(out));
    } else {
        say.plain(&format!("\n{report}"));
    }
}

fn directory(args: &DemoArgs) -> Result<(PathBuf, Option<Temporary>), DemoError> {
    let (path, temporary) = match &args.keep {
        Some(dir) => (dir.clone(), false),
        None => {
            let name = format!("tidegate-demo-{}", std::process::id());
            (std::env::temp_dir().join(name), true)
        }
    };
    let made = std::fs::create_dir_all(&path).and_then(|()| path.canonicalize());
    let dir = made.map_err(|source| DemoError::Dir { path, source })?;
    let temporary = temporary.then(|| Temporary(dir.clone()));
    Ok((dir, temporary))
}

/// A directory that goes with the demo.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed is in the system's directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Everything that is set up.
struct Stage<'a> {
    say: &'a Narrator,
    dir: PathBuf,
    launcher: Launcher,
    _hub: Player,
    client_url: String,
    /// Who vouches for the gateway's signatures.
    authority: PathBuf,
    gateway: Option<Player>,
    config: PathBuf,
    wan: Wan,
    leaf: SocketAddr,
}

impl<'a> Stage<'a> {
    async fn set(
        args: &DemoArgs,
        dir: &Path,
        say: &'a Narrator,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, DemoError> {
        let search = Search::usual(args.nats_server.clone());
        let server = find_server(&search).await.map_err(DemoError::Server)?;
        let launcher = Launcher::this_binary().map_err(DemoError::Loopback)?;
        let gateway: GatewayId = format!("{PLANT}/{NAME}").parse()?;
        let leaf_port = free_port().map_err(DemoError::Loopback)?;
        let lab = write_lab(&dir.join("hub"), &[gateway], &[], leaf_port, true)?;
        say.act(&format!("a hub: nats-server {}, mutual TLS 1.3, stream TIDE", server.version));
        let arguments = [OsStr::new("-c"), lab.config.as_os_str()];
        let log = dir.join("hub.log");
        let mut hub = Player::start("the hub", &launcher, &server.path, &arguments, log)?;
        let client_url = hub.until(async || client_address(&lab)).await?;
        make_stream(&lab, &client_url).await?;

        say.act("a PLC: a simulated press and 600 counters, Modbus TCP, polled every 100 ms");
        let press = plc(Profile::Press, tasks).await?;
        let counters = plc(Profile::Counter, tasks).await?;
        let hub_leaf = SocketAddr::from(([127, 0, 0, 1], leaf_port));
        let wan = Wan::new(hub_leaf, tasks).await.map_err(DemoError::Loopback)?;

        let leaf = free_port().map_err(DemoError::Loopback)?;
        let leaf = SocketAddr::from(([127, 0, 0, 1], leaf));
        let home = dir.join("gateway");
        let config = home.join("tidegate.toml");
        let file = GatewayFile {
            lab: &lab,
            nats_server: &server.path,
            wan: wan.address(),
            leaf,
            press,
            counters,
        };
        let made =
            std::fs::create_dir_all(&home).and_then(|()| std::fs::write(&config, file.text()));
        made.map_err(|source| DemoError::Dir { path: home, source })?;
        say.act("a gateway, connected to the hub over a WAN of 64 kbit/s");
        let mut stage = Self {
            say,
            dir: dir.to_owned(),
            launcher,
            _hub: hub,
            client_url,
            authority: lab.ca.clone(),
            gateway: None,
            config,
            wan,
            leaf,
        };
        stage.start_gateway().await?;
        Ok(stage)
    }

    async fn start_gateway(&mut self) -> Result<(), DemoError> {
        let failed = |source| CastError::Start { who: "the gateway", source };
        let binary = std::env::current_exe().map_err(failed)?;
        let arguments = [OsStr::new("run"), OsStr::new("--config"), self.config.as_os_str()];
        let log = self.dir.join("gateway.log");
        let mut gateway = Player::start("the gateway", &self.launcher, &binary, &arguments, log)?;
        let socket = self.socket();
        gateway
            .until(async || {
                let report = status(&socket).await?;
                (report.tags.good > 0 && report.link.leaf_up).then_some(())
            })
            .await?;
        self.gateway = Some(gateway);
        Ok(())
    }

    async fn kill_gateway(&mut self) -> Result<(), DemoError> {
        if let Some(gateway) = self.gateway.take() {
            gateway.kill().await;
        }
        self.start_gateway().await
    }

    fn socket(&self) -> PathBuf {
        self.config.with_file_name("control.sock")
    }

    /// Shows live values and the backlog, a line a second.
    async fn show(&self, time: Duration) {
        let end = Instant::now() + time;
        let mut latest: BTreeMap<String, String> = BTreeMap::new();
        let connected = async_nats::connect(self.leaf.to_string()).await;
        let subscribed = match connected {
            Ok(client) => client.subscribe(format!("uns.{PLANT}.Line1.Press.>")).await.ok(),
            Err(_) => None,
        };
        let Some(mut values) = subscribed else {
            self.say.see("the local NATS server cannot be reached");
            tokio::time::sleep_until(end).await;
            return;
        };
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.tick().await;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                Some(message) = values.next() => {
                    let name = message.subject.rsplit('.').next().unwrap_or_default();
                    latest.insert(name.to_owned(), shown(&message.payload));
                }
                _ = second.tick() => {
                    let backlog = status(&self.socket()).await.map(|it| backlog(&it));
                    let values = SHOWN.iter().map(|(name, ..)| {
                        // What has not changed since is not sent again: live values are changes.
                        let value = latest.get(*name).map_or("(as before)", String::as_str);
                        format!("{name} {value:<11}")
                    });
                    let values: Vec<_> = values.collect();
                    let backlog = backlog.unwrap_or_default();
                    self.say.see(&format!("{} │ {backlog}", values.join("  ")));
                }
            }
        }
    }

    /// Waits for the backlog to go, and shows how.
    async fn drain(&self) -> Result<(), DemoError> {
        let deadline = Instant::now() + DRAIN;
        let mut most = 0;
        loop {
            if let Some(report) = status(&self.socket()).await {
                most = most.max(report.uplink.backlog_frames);
                // What was recorded since the last message is not a backlog.
                let drained =
                    report.uplink.backlog_frames <= 8 && report.uplink.ack_age_ms < Some(3000);
                if drained && report.uplink.ack_age_ms.is_some() {
                    self.say.see(&format!("drained: {most} frames of backlog are at the hub"));
                    return Ok(());
                }
                let linked = report.uplink.state != UplinkState::Disconnected;
                let waiting = if linked { "" } else { ", the link is coming back" };
                self.say.see(&format!("{}{waiting}", backlog(&report)));
            }
            if Instant::now() >= deadline {
                return Err(DemoError::Stuck { dir: self.dir.clone() });
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Stops the gateway in good order and reads the hub's copy.
    async fn prove(&mut self) -> Result<Report, Failure> {
        if let Some(gateway) = self.gateway.take() {
            gateway.stop().await;
        }
        let usage = |error: String| Failure::new(exit::USAGE, error);
        let gateway = format!("{PLANT}/{NAME}").parse();
        let args = ProveArgs {
            access: anonymous(&self.client_url).map_err(|error| usage(error.to_string()))?,
            gateway: gateway.map_err(|error: GatewayIdError| usage(error.to_string()))?,
            from: None,
            to: None,
            journal: Some(self.config.with_file_name("journal")),
            authority: Some(self.authority.clone()),
            json: false,
        };
        prove::look(&args).await
    }
}

async fn plc(profile: Profile, tasks: &mut JoinSet<()>) -> Result<SocketAddr, DemoError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(DemoError::Loopback)?;
    let address = listener.local_addr().map_err(DemoError::Loopback)?;
    let behaviour = Behaviour { profile, ..Behaviour::default() };
    tasks.spawn(sim::serve(listener, behaviour, CancellationToken::new()));
    Ok(address)
}

async fn make_stream(lab: &LabHub, url: &str) -> Result<(), DemoError> {
    let options = async_nats::ConnectOptions::new()
        .user_and_password(lab.admin.user.clone(), lab.admin.password.clone());
    let client = options
        .connect(url)
        .await
        .map_err(|source| AccessError::Connect { server: url.to_owned(), source })?;
    let stream = Name::new(lab.stream.clone())?;
    let plan = StreamPlan::of_every_gateway(stream, 1);
    ensure_stream(&async_nats::jetstream::new(client), &plan).await?;
    Ok(())
}

fn anonymous(server: &str) -> Result<Access, NameError> {
    Ok(Access {
        server: Some(server.to_owned()),
        login: Login::default(),
        stream: Name::new("TIDE")?,
    })
}

/// Asks the gateway, beside the demo's own thread.
async fn status(socket: &Path) -> Option<StatusReport> {
    let socket = socket.to_owned();
    let ask = move || Control::connect(&socket).and_then(|mut it| it.status()).ok();
    tokio::task::spawn_blocking(ask).await.ok().flatten()
}

fn backlog(report: &StatusReport) -> String {
    let uplink = &report.uplink;
    let left = match uplink.drain_seconds {
        Some(seconds) if uplink.backlog_frames > 8 => {
            format!(", drained in about {}", terminal::age(Duration::from_secs_f64(seconds)))
        }
        _ => String::new(),
    };
    let bytes = crate::config::size::format(uplink.backlog_bytes);
    format!("backlog {} samples, {bytes}{left}", uplink.backlog_samples)
}

/// The value of a live message with its unit.
fn shown(payload: &[u8]) -> String {
    let Ok(message) = serde_json::from_slice::<serde_json::Value>(payload) else {
        return "?".to_owned();
    };
    let value = match &message["v"] {
        serde_json::Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(String::new, |value| format!("{value:.1}"))
        }
        other => other.to_string(),
    };
    let unit = message["u"].as_str().map_or_else(String::new, |unit| format!(" {unit}"));
    format!("{value}{unit}")
}
