//! Who plays in the demo: the hub, the gateway, and where they live.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::hub::LabHub;
use crate::leaf::Launcher;

/// nats-server listens in 14 ms on an idle machine; the gateway answers in well under a second.
const START: Duration = Duration::from_secs(20);
/// How often a start is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a process may take to end in good order; the daemon's own drain takes 21 s at most.
const GRACE: Duration = Duration::from_secs(25);

/// Why one of them does not play.
#[derive(Debug, thiserror::Error)]
pub(super) enum CastError {
    /// The process could not be started.
    #[error("{who} cannot be started")]
    Start {
        /// Which.
        who: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It does not come up.
    #[error("{who} did not come up within {} s; its log is {log}", START.as_secs(), log = log.display())]
    Late {
        /// Which.
        who: &'static str,
        /// Its log.
        log: PathBuf,
    },
    /// It ended by itself.
    #[error("{who} ended ({status}); its log is {log}", log = log.display())]
    Ended {
        /// Which.
        who: &'static str,
        /// How.
        status: std::process::ExitStatus,
        /// Its log.
        log: PathBuf,
    },
}

/// A process that ends with the demo.
#[derive(Debug)]
pub(super) struct Player {
    who: &'static str,
    child: Child,
    log: PathBuf,
}

impl Player {
    /// Starts `program` through the launcher, which ties it to this process.
    pub(super) fn start(
        who: &'static str,
        launcher: &Launcher,
        program: &Path,
        arguments: &[&std::ffi::OsStr],
        log: PathBuf,
    ) -> Result<Self, CastError> {
        let failed = |source| CastError::Start { who, source };
        let file = std::fs::File::options().create(true).append(true).open(&log).map_err(failed)?;
        let mut command: Command = launcher.command(program);
        let child = command
            .args(arguments)
            .env_remove("TIDEGATE_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        Ok(Self { who, child, log })
    }

    /// Waits until `look` sees what it looks for.
    pub(super) async fn until<T>(
        &mut self,
        mut look: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T, CastError> {
        let deadline = tokio::time::Instant::now() + START;
        loop {
            if let Some(seen) = look().await {
                return Ok(seen);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(CastError::Ended { who: self.who, status, log: self.log.clone() });
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(CastError::Late { who: self.who, log: self.log.clone() });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// SIGKILL.
    pub(super) async fn kill(mut self) {
        // It can only have ended before.
        let _ = self.child.kill().await;
    }

    /// SIGTERM, and SIGKILL when that takes too long.
    pub(super) async fn stop(mut self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            if tokio::time::timeout(GRACE, self.child.wait()).await.is_ok() {
                return;
            }
        }
        let _ = self.child.kill().await;
    }
}

/// The hub's client address, once its server has written it down.
pub(super) fn client_address(lab: &LabHub) -> Option<String> {
    let entry = std::fs::read_dir(&lab.ports_dir).ok()?.flatten().next()?;
    let ports: serde_json::Value =
        serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok()?;
    Some(ports.get("nats")?.get(0)?.as_str()?.to_owned())
}

/// A loopback port that was free a moment ago.
pub(super) fn free_port() -> std::io::Result<u16> {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    Ok(std::net::TcpListener::bind(any)?.local_addr()?.port())
}

/// What the demo's gateway is told.
#[derive(Debug)]
pub(super) struct GatewayFile<'a> {
    pub(super) lab: &'a LabHub,
    pub(super) nats_server: &'a Path,
    pub(super) wan: SocketAddr,
    pub(super) leaf: SocketAddr,
    pub(super) press: SocketAddr,
    pub(super) counters: SocketAddr,
}

/// Counters read besides the press, so that an outage makes a backlog worth draining.
const COUNTERS: u16 = 600;

impl GatewayFile<'_> {
    pub(super) fn text(&self) -> String {
        use std::fmt::Write as _;
        let quoted = |path: &Path| format!("{:?}", path.display().to_string());
        let cert = self.lab.gateways.first().map(|it| quoted(&it.cert)).unwrap_or_default();
        let key = self.lab.gateways.first().map(|it| quoted(&it.key)).unwrap_or_default();
        let mut out = format!(
            r#"[gateway]
plant = "{plant}"
name = "{name}"

[hub]
urls = ["tls://{wan}"]
tls = {{ ca = {ca}, cert = {cert}, key = {key} }}

[leaf]
listen = "{leaf}"
dir = "leaf"
nats-server = {nats}

[journal]
dir = "journal"
max-bytes = "256 MiB"
commit-every-ms = 200

[uplink]
send-every-ms = 500

[control]
socket = "control.sock"

[[device]]
name = "press"
protocol = "modbus-tcp"
address = "{press}"
poll-every-ms = 100
base-path = "{plant}/Line1/Press"
"#,
            plant = super::script::PLANT,
            name = super::script::NAME,
            wan = self.wan,
            ca = quoted(&self.lab.ca),
            leaf = self.leaf,
            nats = quoted(self.nats_server),
            press = self.press,
        );
        for (path, address, kind, unit) in super::script::SHOWN {
            let unit = if unit.is_empty() { String::new() } else { format!("unit = \"{unit}\"\n") };
            // Writing to a String cannot fail.
            let _ = write!(
                out,
                "\n[[device.tag]]\npath = \"{path}\"\naddress = \"{address}\"\ntype = \"{kind}\"\n{unit}"
            );
        }
        let _ = write!(
            out,
            "\n[[device]]\nname = \"counters\"\nprotocol = \"modbus-tcp\"\naddress = \"{}\"\n\
             poll-every-ms = 100\nbase-path = \"{}/Line1/Counters\"\n",
            self.counters,
            super::script::PLANT
        );
        for counter in 0..COUNTERS {
            let _ = write!(
                out,
                "\n[[device.tag]]\npath = \"{counter:03}\"\naddress = \"holding:{}\"\ntype = \"uint32\"\n",
                2 * counter
            );
        }
        out
    }
}
