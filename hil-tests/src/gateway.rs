//! The gateway: the real binary with a configuration file, started, stopped and killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::family::{self, Family, Process};
use crate::hub::{Certificates, Credentials};
use crate::{tools, wait};

/// What the gateway is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `PLANT/NAME`.
    pub gateway: String,
    /// Where its leaf connects: to any of them. None is a gateway without a hub.
    pub hubs: Vec<SocketAddr>,
    /// What it shows there.
    pub credentials: Credentials,
    /// The stream that collects frames.
    pub stream: String,
    /// The JetStream domain whose acknowledgements count.
    pub domain: String,
    /// Where the PLC is.
    pub plc: SocketAddr,
    /// What a scenario wants otherwise than usual.
    pub wishes: Wishes,
}

/// What a scenario wants otherwise than usual.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// `journal.max-bytes`.
    pub max_bytes: &'static str,
    /// `journal.when-full`.
    pub when_full: &'static str,
    /// `journal.commit-every-ms`.
    pub commit_every_ms: u64,
    /// Devices beside the one that counts, whose 31 tags are noise, to make the journal grow.
    pub noise: usize,
    /// How often each of them is polled, in milliseconds. Whoever waits for everything at the hub
    /// reads all of it, again and again: a third of the rate is read three times as soon.
    pub noise_every_ms: u64,
    /// A device of 31 noisy tags that is polled every so many milliseconds and whose every value is
    /// live: what asks for more than a thin link has.
    pub chatter: Option<u64>,
    /// The hub's host in the gateway's configuration, where it is not the link's address.
    pub hub_host: Option<String>,
    /// The journal lies on a file system of its own, of so many bytes.
    pub disk_bytes: Option<u64>,
    /// Set for `run`; `TIDEGATE_CFG_<SECTION>__<KEY>` overrides the configuration.
    pub environment: Vec<(String, String)>,
    /// What `run` is started by: a program and its arguments that end by becoming the daemon, such
    /// as `prlimit --nofile=64`.
    pub around: Vec<String>,
    /// The certificates of hub and gateway.
    pub certificates: Certificates,
    /// Further lines of `[hub]`.
    pub hub: String,
    /// Further lines of `[leaf]`.
    pub leaf: String,
    /// A second way to the same hub.
    pub second_way: bool,
    /// The `[[device]]` tables, in place of the device that counts and what is beside it.
    pub devices: Option<String>,
    /// What stands in `[identity]`, in place of the certificate files of the hub.
    pub identity: Option<String>,
    /// The gateway is installed on a machine of its own.
    pub elsewhere: bool,
}

impl Wishes {
    /// With a scalar of the configuration set otherwise, such as `("journal", "max-bytes", "1 GiB")`.
    #[must_use]
    pub fn with(mut self, section: &str, key: &str, value: impl Into<String>) -> Self {
        let name = format!("TIDEGATE_CFG_{section}__{key}").replace('-', "_").to_uppercase();
        self.environment.push((name, value.into()));
        self
    }

    /// With the daemon started by another program, which becomes it.
    #[must_use]
    pub fn started_by(mut self, around: &[&str]) -> Self {
        self.around = around.iter().map(ToString::to_string).collect();
        self
    }
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            max_bytes: "64 MiB",
            when_full: "drop-oldest",
            commit_every_ms: 200,
            noise: 0,
            noise_every_ms: 10,
            chatter: None,
            hub_host: None,
            disk_bytes: None,
            environment: Vec::new(),
            around: Vec::new(),
            certificates: Certificates::default(),
            hub: String::new(),
            leaf: String::new(),
            second_way: false,
            devices: None,
            identity: None,
            elsewhere: false,
        }
    }
}

/// How long the gateway may take to be sure: what shows only as silence takes some messages without
/// an answer, each waited for as long as a thin link might need.
const FOUND_OUT: Duration = Duration::from_secs(90);

/// How often the PLC is polled.
pub const POLL_EVERY: Duration = Duration::from_millis(100);

/// The device that counts.
pub const DEVICE: &str = "press-1";

/// The path that every tag begins with.
pub const BASE_PATH: &str = "PlantA/Line3/Press1";

/// A gateway that can be started, stopped and killed.
#[derive(Debug)]
pub struct Gateway {
    family: Arc<Family>,
    id: String,
    directory: PathBuf,
    config: PathBuf,
    log: PathBuf,
    wishes: Wishes,
    process: Option<Process>,
    /// Who runs it is a machine of its own, which a scenario looks after.
    elsewhere: bool,
}

/// Where a gateway has its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a directory of the rig's, with a leaf that the daemon starts.
    Here,
    /// Where the packages put them, with a leaf that is a service.
    Installed,
}

impl Gateway {
    /// Writes its configuration; nothing runs yet.
    ///
    /// # Errors
    /// When the directory cannot be written or there is no nats-server.
    pub fn configured(
        family: &Arc<Family>,
        directory: &Path,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        Self::placed(family, directory, settings, Place::Here)
    }

    /// Writes the configuration of a gateway that is installed on a machine of its own; it is never
    /// started from here.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn elsewhere(
        family: &Arc<Family>,
        directory: &Path,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        Self::placed(family, directory, settings, Place::Installed)
    }

    fn placed(
        family: &Arc<Family>,
        directory: &Path,
        settings: &Settings,
        place: Place,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let config = directory.join("tidegate.toml");
        std::fs::write(&config, configuration(settings, place)?)?;
        Ok(Self {
            family: Arc::clone(family),
            id: settings.gateway.clone(),
            directory: directory.to_path_buf(),
            config,
            log: directory.with_extension("log"),
            wishes: settings.wishes.clone(),
            process: None,
            elsewhere: place == Place::Installed,
        })
    }

    /// `PLANT/NAME`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A command of the binary that asks this gateway.
    ///
    /// # Errors
    /// When the binary has not been built.
    pub fn command(&self, verb: &str) -> anyhow::Result<Command> {
        let mut command = self.family.command(tools::gateway()?);
        command.arg(verb).arg("--config").arg(&self.config);
        Ok(command)
    }

    /// Starts it and waits for nothing: it may be killed before it answers.
    ///
    /// # Errors
    /// When it runs already.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        if self.process.is_some() || self.elsewhere {
            bail!("the gateway runs already");
        }
        let command = self.run_command()?;
        self.process = Some(Process::start(&self.family, "the gateway", command, &self.log)?);
        Ok(())
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// When it runs already, or ends instead of answering; the error holds its log.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        let mut process = self.process.take().context("the gateway is down")?;
        wait::until(wait::SOON, "the gateway answers", || {
            let status = self
                .command("status")
                .and_then(|mut command| Ok(command.arg("--json").output()?.status.success()));
            let ended = process.ended();
            let log = process.printed_since(0);
            async move {
                if let Some(status) = ended? {
                    bail!("the gateway ended ({status}): {}", log?);
                }
                Ok(status?.then_some(()))
            }
        })
        .await?;
        self.process = Some(process);
        Ok(())
    }

    /// `run`, started the way that is wished for.
    fn run_command(&self) -> anyhow::Result<Command> {
        let run = self.on_own_disk(self.command("run")?)?;
        let mut command = match self.wishes.around.split_first() {
            None => run,
            Some((program, args)) => {
                let mut around = self.family.command(program);
                around.args(args).arg(run.get_program()).args(run.get_args());
                around
            }
        };
        command.envs(self.wishes.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// With the journal's own small file system where one is wished for: a tmpfs in a mount
    /// namespace, which goes with the process.
    fn on_own_disk(&self, run: Command) -> anyhow::Result<Command> {
        let Some(bytes) = self.wishes.disk_bytes else { return Ok(run) };
        let journal = self.journal();
        std::fs::create_dir_all(&journal)?;
        let mut command = self.family.command("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--propagation", "private"]);
        command.args([
            "sh",
            "-c",
            r#"mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@""#,
        ]);
        command.arg("sh").arg(bytes.to_string()).arg(journal);
        command.arg(run.get_program()).args(run.get_args());
        Ok(command)
    }

    /// Where its configuration is.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Where its journal is.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.directory.join("journal")
    }

    /// Where its leaf's configuration is.
    #[must_use]
    pub fn leaf(&self) -> PathBuf {
        self.directory.join("leaf")
    }

    /// Where its certificates for OPC UA are, and those that it trusts.
    #[must_use]
    pub fn opcua(&self) -> PathBuf {
        self.directory.join("opcua")
    }

    /// What `status --json` says.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> anyhow::Result<Value> {
        let output = self.command("status")?.arg("--json").output()?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("status said {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Waits until it raises an alarm, and returns its text.
    ///
    /// # Errors
    /// When it does not within [`FOUND_OUT`].
    pub async fn alarm(&self, kind: &str) -> anyhow::Result<String> {
        self.alarm_saying(kind, "").await
    }

    /// Waits until it raises an alarm whose text has these words, and returns that: a text may
    /// become more precise.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn alarm_saying(&self, kind: &str, words: &str) -> anyhow::Result<String> {
        wait::until(FOUND_OUT, &format!("the alarm {kind} {words}"), || {
            let status = self.status();
            async move {
                let status = status?;
                let alarms = status["alarms"].as_array().context("no alarms in the status")?;
                let texts = alarms.iter().filter(|alarm| alarm["kind"] == kind);
                let mut texts = texts.filter_map(|alarm| alarm["text"].as_str());
                Ok(texts.find(|text| text.contains(words)).map(str::to_owned))
            }
        })
        .await
    }

    /// Waits until it raises an alarm no more.
    ///
    /// # Errors
    /// When it still does after `patience`.
    pub async fn alarm_is_over(&self, kind: &str, patience: Duration) -> anyhow::Result<()> {
        wait::until(patience, &format!("the alarm {kind} is over"), || {
            let status = self.status();
            async move {
                let status = status?;
                let alarms = status["alarms"].as_array().context("no alarms in the status")?;
                Ok((!alarms.iter().any(|alarm| alarm["kind"] == kind)).then_some(()))
            }
        })
        .await
    }

    /// Copies everything that it has on disk, while it is down.
    ///
    /// # Errors
    /// When it runs, or the copy fails.
    pub fn back_up(&self) -> anyhow::Result<()> {
        self.copy(&self.directory, &self.directory.with_extension("backup"))
    }

    /// Puts the copy back in place of what it has on disk, while it is down.
    ///
    /// # Errors
    /// When it runs, or there is no copy.
    pub fn roll_back(&self) -> anyhow::Result<()> {
        self.copy(&self.directory.with_extension("backup"), &self.directory)
    }

    /// Puts another gateway's copy in place of this one's journal, as a cloned card does.
    ///
    /// # Errors
    /// When this one runs, or there is no copy.
    pub fn take_image_of(&self, other: &Self) -> anyhow::Result<()> {
        self.copy(&other.directory.with_extension("backup").join("journal"), &self.journal())
    }

    fn copy(&self, from: &Path, to: &Path) -> anyhow::Result<()> {
        if self.process.is_some() {
            bail!("the gateway must be down while its files are copied");
        }
        family::copy_tree(&self.family, from, to)
    }

    /// What it has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned())
    }

    /// Has it read a configuration with these `[[device]]` tables in place of those that it has:
    /// SIGHUP.
    ///
    /// # Errors
    /// When it is down, or the file cannot be written.
    pub fn reload_with(&self, devices: &str) -> anyhow::Result<()> {
        let before = std::fs::read_to_string(&self.config)?;
        let head = before.find("\n[[device]]").map_or(before.as_str(), |at| &before[..at]);
        std::fs::write(&self.config, format!("{head}\n{devices}"))?;
        self.process.as_ref().context("the gateway is down")?.signal(Signal::HUP)
    }

    /// Waits until it has ended by itself, and says with which code.
    ///
    /// # Errors
    /// When it was not running, does not end, or was ended by a signal.
    pub async fn ends(&mut self) -> anyhow::Result<i32> {
        let mut process = self.process.take().context("the gateway is down already")?;
        let status = wait::until(wait::SOON, "the gateway ends", || {
            let ended = process.ended();
            async move { ended }
        })
        .await?;
        status.code().context("it was ended by a signal")
    }

    /// SIGTERM; waits until it has ended in good order.
    ///
    /// # Errors
    /// When it was not running, does not end, or ends with an error.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let mut process = self.process.take().context("the gateway is down already")?;
        let status = process.stop(wait::SOON).await?;
        if !status.success() {
            bail!("the gateway ended ({status}) after SIGTERM");
        }
        Ok(())
    }

    /// SIGKILL to the daemon alone: its leaf lives on, as it would.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.process.take().context("the gateway is down already")?.kill9()
    }

    /// The daemon's process id.
    ///
    /// # Errors
    /// When it is down.
    pub fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.process.as_ref().context("the gateway is down")?.id())
    }

    /// Where its control socket is.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    /// Where it serves metrics, as its log says.
    ///
    /// # Errors
    /// When it does not say so soon.
    pub async fn metrics(&self) -> anyhow::Result<SocketAddr> {
        self.address_of("metrics and /healthz").await
    }

    /// Where its leaf takes local applications, as its log says.
    ///
    /// # Errors
    /// When it does not say so soon.
    pub async fn local_server(&self) -> anyhow::Result<SocketAddr> {
        self.address_of("leaf listens").await
    }

    /// The address in the last line of the log with these words.
    async fn address_of(&self, words: &str) -> anyhow::Result<SocketAddr> {
        wait::until(wait::SOON, &format!("the log says: {words}"), || {
            let log = self.log();
            async move {
                let log = log?;
                let said = log.rsplit_once(words).map(|(_, after)| after);
                let address = said.and_then(|after| after.split_once("address="));
                Ok(address.and_then(|(_, it)| it.split_whitespace().next()?.parse().ok()))
            }
        })
        .await
    }

    /// Process ids of the nats-servers that the running daemon started.
    ///
    /// # Errors
    /// When it is down.
    pub fn leaves(&self) -> anyhow::Result<Vec<u32>> {
        let process = self.process.as_ref().context("the gateway is down")?;
        family::children_of(process.id(), "nats-server")
    }

    /// Notes that the daemon was ended by somebody else, and says how.
    ///
    /// # Errors
    /// When it runs still.
    pub fn reap(&mut self) -> anyhow::Result<String> {
        let process = self.process.as_mut().context("the gateway is down already")?;
        let status = process.ended()?.context("the gateway runs still")?;
        self.process = None;
        Ok(status.to_string())
    }

    /// Fails when the daemon has ended by itself. One on a machine of its own is looked after there.
    ///
    /// # Errors
    /// When it is not running.
    pub fn must_be_running(&mut self) -> anyhow::Result<()> {
        if self.elsewhere {
            return Ok(());
        }
        let process = self.process.as_mut().context("the gateway is down")?;
        match process.ended()? {
            Some(status) => bail!("the gateway ended by itself ({status})"),
            None => Ok(()),
        }
    }
}

/// Short intervals, so that a scenario shows in seconds what a plant shows in hours.
fn configuration(settings: &Settings, place: Place) -> anyhow::Result<String> {
    let (plant, name) = settings.gateway.split_once('/').context("gateway is not PLANT/NAME")?;
    let Settings { hubs, credentials, stream, domain, plc, wishes, .. } = settings;
    let Wishes { max_bytes, when_full, commit_every_ms, .. } = wishes;
    let Credentials { ca, cert, key } = credentials;
    let host = |hub: &SocketAddr| wishes.hub_host.clone().unwrap_or_else(|| hub.ip().to_string());
    let scheme = if wishes.certificates.websocket { "wss" } else { "tls" };
    let urls: Vec<_> =
        hubs.iter().map(|hub| format!("{scheme}://{}:{}", host(hub), hub.port())).collect();
    let (tls, identity) = match &wishes.identity {
        Some(identity) => (
            String::new(),
            format!(
                "[identity]
{identity}"
            ),
        ),
        None => (format!("tls = {{ ca = {ca:?}, cert = {cert:?}, key = {key:?} }}"), String::new()),
    };
    let (more_hub, more_leaf) = (&wishes.hub, &wishes.leaf);
    let own_files = match place {
        Place::Here => format!(
            r#"
[leaf]
listen = "127.0.0.1:0"
nats-server = {:?}
dir = "leaf"
{more_leaf}

[control]
socket = "control.sock"

[opcua]
dir = "opcua"
"#,
            tools::nats_server()?
        ),
        Place::Installed => format!("[leaf]\n{more_leaf}\n"),
    };
    let journal_dir = match place {
        Place::Here => "dir = \"journal\"",
        Place::Installed => "",
    };
    let hub = if urls.is_empty() {
        String::new()
    } else {
        format!(
            r#"
[hub]
urls = {urls:?}
{tls}
stream = "{stream}"
domain = "{domain}"
{more_hub}
"#
        )
    };
    let mut text = format!(
        r#"
[gateway]
plant = "{plant}"
name = "{name}"
{hub}
{own_files}

[journal]
{journal_dir}
max-bytes = "{max_bytes}"
when-full = "{when_full}"
commit-every-ms = {commit_every_ms}

[uplink]
send-every-ms = 200

{identity}
"#,
    );
    match &wishes.devices {
        Some(devices) => text.push_str(devices),
        None => text.push_str(&counting(*plc, wishes)),
    }
    Ok(text)
}

/// The device that counts, and what is wished for beside it.
fn counting(plc: SocketAddr, wishes: &Wishes) -> String {
    let poll = POLL_EVERY.as_millis();
    let mut text = format!(
        r#"
[[device]]
name = "{DEVICE}"
protocol = "modbus-tcp"
address = "{plc}"
unit = 1
poll-every-ms = {poll}
timeout-ms = 1000
retry-after-ms = 200
retry-at-most-ms = 1000
base-path = "{BASE_PATH}"

[[device.tag]]
path = "counter"
address = "holding:100"
type = "uint64"

[[device.tag]]
path = "triple"
address = "holding:104"
type = "uint32"

[[device.tag]]
path = "tenths"
address = "holding:106"
type = "uint16"

[[device.tag]]
path = "sine"
address = "holding:107"
type = "float32"
deadband = 0.05
"#,
    );
    for number in 0..wishes.noise {
        text.push_str(&noise(&format!("noise-{number}"), plc, wishes.noise_every_ms, "1e30"));
    }
    if let Some(every_ms) = wishes.chatter {
        text.push_str(&noise("chatter", plc, every_ms, "0"));
    }
    text
}

/// A device of tags that cannot be compressed, 248 bytes at each poll: about 30 kB a second when it
/// is polled every 10 ms. It does not wait for others of the same PLC, nor they for it.
fn noise(name: &str, plc: SocketAddr, every_ms: u64, deadband: &str) -> String {
    let mut text = format!(
        r#"
[[device]]
name = "{name}"
protocol = "modbus-tcp"
address = "{plc}"
unit = 1
poll-every-ms = {every_ms}
timeout-ms = 1000
retry-after-ms = 200
retry-at-most-ms = 1000
max-connections = 32
base-path = "PlantA/Line3/{name}"
"#
    );
    for tag in 0..31 {
        let address = 1000 + tag * 4;
        text.push_str(&format!(
            r#"
[[device.tag]]
path = "n{tag}"
address = "holding:{address}"
type = "uint64"
deadband = {deadband}
"#
        ));
    }
    text
}
