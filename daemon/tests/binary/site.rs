//! A gateway's folder, its PLC, and the daemon that runs there.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tidegate::leaf::HubLink;

use crate::common::{Hub, eventually, nats_server};

/// A command of the binary in a clean environment.
pub(crate) fn tidegate() -> Command {
    clean(env!("CARGO_BIN_EXE_tidegate"))
}

/// A program that inherits nothing but the search path: a variable of whoever runs the tests must
/// not configure what is tested.
pub(crate) fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::from(command.output().unwrap())
    }

    /// Fails unless it ended with this code and told all of this on stderr.
    pub(crate) fn refused(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "no {part:?} in\n{}", self.err);
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A simulated PLC: `tidegate sim`.
pub(crate) struct Plc {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Plc {
    /// One whose registers count, fifty times a second.
    pub(crate) fn start() -> Self {
        Self::playing("counter")
    }

    pub(crate) fn playing(profile: &str) -> Self {
        let mut command = tidegate();
        command.args(["sim", "--listen", "127.0.0.1:0", "--profile", profile, "--json"]);
        command.args(["--step-ms", "20"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let address = told["listen"].as_str().unwrap().parse().unwrap();
        Self { child, address }
    }

    /// From now on nobody listens there.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Plc {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A gateway's folder with its configuration, and its PLC.
pub(crate) struct Site {
    pub(crate) plc: Plc,
    pub(crate) dir: tempfile::TempDir,
}

impl Site {
    /// `P/g1` without a hub.
    pub(crate) async fn alone() -> Self {
        Self::with("P/g1", "").await
    }

    /// `P/g1` with this hub.
    pub(crate) async fn at(hub: &Hub) -> Self {
        Self::with("P/g1", &hub_section(&hub.link("P/g1"), "hub")).await
    }

    pub(crate) async fn with(gateway: &str, hub: &str) -> Self {
        let (plant, name) = gateway.split_once('/').unwrap();
        let (plc, dir) = (Plc::start(), tempfile::tempdir().unwrap());
        let server = nats_server().await.canonicalize().unwrap();
        let text = format!(
            "[gateway]\nplant = \"{plant}\"\nname = \"{name}\"\n\n{hub}\n\
             [leaf]\ndir = \"leaf\"\nlisten = \"127.0.0.1:0\"\nnats-server = {server:?}\n\n\
             [journal]\ndir = \"journal\"\nmax-bytes = \"32 MiB\"\ncommit-every-ms = 50\n\n\
             [uplink]\nsend-every-ms = 50\n\n\
             [control]\nsocket = \"c.sock\"\n\n\
             {}",
            device("press", plc.address)
        );
        let site = Self { plc, dir };
        site.write(&text);
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("tidegate.toml")
    }

    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.config()).unwrap()
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(self.config(), text).unwrap();
    }

    /// Replaces a part of the configuration that must be there.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = self.text();
        assert!(text.contains(from), "no {from:?} in\n{text}");
        self.write(&text.replace(from, to));
    }

    pub(crate) fn append(&self, text: &str) {
        self.write(&format!("{}\n{text}\n", self.text()));
    }

    /// `tidegate VERB --config …`.
    pub(crate) fn command(&self, verb: &str) -> Command {
        let mut command = tidegate();
        command.arg(verb).arg("--config").arg(self.config());
        command
    }

    /// Runs the daemon, which is expected to end by itself.
    pub(crate) fn run_to_the_end(&self) -> Said {
        Said::of(&mut self.command("run"))
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) async fn start(&self) -> Daemon {
        let mut daemon = Daemon::spawn(self.command("run"), &self.path("run.log"));
        eventually("the daemon answers", async || {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended ({ended:?}):\n{}", daemon.log());
            self.status()
        })
        .await;
        daemon
    }

    /// `tidegate status --json`, when there is an answer.
    pub(crate) fn status(&self) -> Option<Value> {
        let mut command = tidegate();
        command.args(["status", "--json", "--socket"]).arg(self.path("c.sock"));
        let said = Said::of(&mut command);
        (said.code == 0).then(|| said.json())
    }

    /// Waits until the status says this.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || self.status().filter(&holds)).await
    }

    /// Waits until this alarm is raised, and returns its text.
    pub(crate) async fn alarm(&self, kind: &str) -> String {
        let status = self.until(kind, |status| alarm(status, kind).is_some()).await;
        alarm(&status, kind).unwrap()
    }

    /// Waits until more samples are durable than now.
    pub(crate) async fn records(&self) {
        let before = recorded(&self.status().unwrap());
        self.until("samples are recorded", |status| recorded(status) > before + 3).await;
    }

    /// Waits until the hub has everything but what was just read.
    pub(crate) async fn delivers(&self) {
        let before = recorded(&self.status().unwrap());
        let arrived = |status: &Value| {
            status["uplink"]["acknowledged_seq"].as_u64().is_some_and(|seq| seq > before)
        };
        self.until("samples are delivered", arrived).await;
    }

    /// `tidegate prove` of `P/g1` with the local journal.
    pub(crate) fn prove(&self, hub: &Hub) -> Said {
        let mut command = prove(hub);
        Said::of(command.arg("--journal").arg(self.path("journal")).arg("--json"))
    }
}

/// `tidegate prove` of `P/g1` at this hub.
pub(crate) fn prove(hub: &Hub) -> Command {
    let mut command = tidegate();
    command.args(["prove", "--gateway", "P/g1", "--server"]);
    command.arg(format!("nats://{}", hub.server.client));
    command
}

pub(crate) fn alarm(status: &Value, kind: &str) -> Option<String> {
    let alarms = status["alarms"].as_array().unwrap();
    let found = alarms.iter().find(|alarm| alarm["kind"] == kind)?;
    Some(found["text"].as_str().unwrap().to_owned())
}

pub(crate) fn recorded(status: &Value) -> u64 {
    status["counters"]["samples_recorded"].as_u64().unwrap()
}

/// A device with one tag, `P/NAME/n`, a counter.
pub(crate) fn device(name: &str, address: SocketAddr) -> String {
    format!(
        "[[device]]\nname = \"{name}\"\nprotocol = \"modbus-tcp\"\naddress = \"{address}\"\n\
         poll-every-ms = 100\n\n[[device.tag]]\npath = \"n\"\naddress = \"holding:0\"\n\
         type = \"uint32\"\n"
    )
}

/// `[hub]` for a link.
pub(crate) fn hub_section(link: &HubLink, domain: &str) -> String {
    let (url, tls) = (&link.urls[0], link.tls.as_ref().unwrap());
    format!(
        "[hub]\nurls = [\"tls://{}:{}\"]\ndomain = \"{domain}\"\n\
         tls = {{ ca = {:?}, cert = {:?}, key = {:?} }}\n",
        url.host, url.port, tls.ca, tls.cert, tls.key
    )
}

/// A running daemon. It is killed when it is dropped.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn spawn(mut command: Command, log: &Path) -> Self {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Self { child, log: log.to_owned() }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for a line with all of this.
    pub(crate) async fn logs(&self, parts: &[&str]) -> String {
        eventually(&format!("a line with {parts:?}"), async || {
            let log = self.log();
            let found = log.lines().find(|line| parts.iter().all(|part| line.contains(part)));
            found.map(str::to_owned)
        })
        .await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        eventually("the daemon ends", async || self.child.try_wait().unwrap()).await
    }

    /// SIGTERM; it has to end with 0.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended().await;
        assert!(status.success(), "{status}:\n{}", self.log());
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }
}

impl Drop for Daemon {
    #[allow(clippy::print_stderr, reason = "a test that fails shows what the daemon said")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the daemon\n{}", self.log());
        }
    }
}
