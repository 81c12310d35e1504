//! What the benchmarks of the whole daemon share: a hub, a simulated PLC, a gateway with very many
//! tags, and what a process costs.
#![allow(dead_code, reason = "each program that includes this file uses a part of it")]

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tidegate_hil_tests::family::{Family, Process, children_of};
use tidegate_hil_tests::hub::Credentials;
use tidegate_hil_tests::{tools, wait};

/// The gateway's name at the hub.
pub(crate) const GATEWAY: &str = "PlantA/gw-bench";
/// Tags of one device: counters of two registers, which fill 10,000 of its 65,536 registers.
pub(crate) const TAGS_PER_DEVICE: usize = 5_000;
/// How long a start may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory that is empty at the start and gone at the end; a run that was killed leaves at
/// most one.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        let base = std::env::var_os("TIDEGATE_BENCH_DIR")
            .map_or_else(|| std::env::temp_dir().join("tidegate-bench"), PathBuf::from);
        let place = base.join(name);
        if place.exists() {
            std::fs::remove_dir_all(&place)?;
        }
        std::fs::create_dir_all(&place)?;
        Ok(Self(place))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `tidegate sim` with counters; everything is served at any unit.
pub(crate) async fn start_sim(
    family: &Arc<Family>,
    directory: &Path,
) -> anyhow::Result<(Process, SocketAddr)> {
    let mut command = family.command(tools::gateway()?);
    command.args(["sim", "--listen", "127.0.0.1:0", "--profile", "counter", "--json"]);
    let mut process = Process::start(family, "the PLC", command, &directory.join("sim.log"))?;
    let address = wait::until(PATIENCE, "the simulated PLC listens", || {
        let said = process.printed_since(0);
        let ended = process.ended();
        async move {
            let said = said?;
            if let Some(status) = ended? {
                bail!("the simulated PLC ended ({status}): {said}");
            }
            let line: Option<Value> = serde_json::from_str(said.trim()).ok();
            Ok(line.and_then(|line| line["listen"].as_str()?.parse().ok()))
        }
    })
    .await?;
    Ok((process, address))
}

/// What a gateway is told.
pub(crate) struct Plan<'a> {
    pub(crate) hub: SocketAddr,
    pub(crate) credentials: &'a Credentials,
    pub(crate) stream: &'a str,
    pub(crate) domain: &'a str,
    /// One device each.
    pub(crate) plcs: &'a [SocketAddr],
    pub(crate) tags_per_device: usize,
    pub(crate) leaf_port: u16,
    pub(crate) max_journal: &'a str,
}

/// Defaults wherever there are any: what is measured is what an operator gets.
pub(crate) fn configure(directory: &Path, plan: &Plan<'_>) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(directory)?;
    let (plant, name) = GATEWAY.split_once('/').context("no PLANT/NAME")?;
    let Credentials { ca, cert, key } = plan.credentials;
    let mut text = format!(
        r#"[gateway]
plant = "{plant}"
name = "{name}"
[hub]
urls = ["tls://127.0.0.1:{port}"]
tls = {{ ca = {ca:?}, cert = {cert:?}, key = {key:?} }}
stream = "{stream}"
domain = "{domain}"
[leaf]
listen = "127.0.0.1:{leaf}"
nats-server = {server:?}
dir = "leaf"
[journal]
dir = "journal"
max-bytes = "{max}"
[control]
socket = "control.sock"
"#,
        port = plan.hub.port(),
        stream = plan.stream,
        domain = plan.domain,
        leaf = plan.leaf_port,
        server = tools::nats_server()?,
        max = plan.max_journal,
    );
    for (number, plc) in plan.plcs.iter().enumerate() {
        write!(
            text,
            "[[device]]\nname = \"d{number}\"\nprotocol = \"modbus-tcp\"\naddress = \"{plc}\"\n\
             unit = 1\npoll-every-ms = 1000\nbase-path = \"PlantA/Bench/D{number}\"\n"
        )?;
        for tag in 0..plan.tags_per_device {
            let address = tag * 2;
            write!(
                text,
                "[[device.tag]]\npath = \"t{tag}\"\naddress = \"holding:{address}\"\ntype = \"uint32\"\n"
            )?;
        }
    }
    let config = directory.join("tidegate.toml");
    std::fs::write(&config, text)?;
    Ok(config)
}

/// A port that is free now.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The daemon as it runs.
pub(crate) struct Daemon {
    pub(crate) process: Process,
    pub(crate) begun: Instant,
    config: PathBuf,
    family: Arc<Family>,
}

impl Daemon {
    pub(crate) fn start(family: &Arc<Family>, config: &Path) -> anyhow::Result<Self> {
        let mut command = family.command(tools::gateway()?);
        command.arg("run").arg("--config").arg(config);
        let log = config.with_extension("log");
        let begun = Instant::now();
        let process = Process::start(family, "the daemon", command, &log)?;
        Ok(Self { process, begun, config: config.to_path_buf(), family: Arc::clone(family) })
    }

    pub(crate) fn status(&self) -> anyhow::Result<Value> {
        let mut command = self.family.command(tools::gateway()?);
        let output = command.arg("status").arg("--config").arg(&self.config).arg("--json").output();
        let output = output?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("status said {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Waits until the hub has taken everything that was recorded.
    pub(crate) async fn delivered(&mut self, patience: Duration) -> anyhow::Result<()> {
        wait::until(patience, "the hub answers and has everything", || {
            let status = self.status();
            let ended = self.process.ended();
            async move {
                if let Some(status) = ended? {
                    bail!("the daemon ended ({status})");
                }
                // It does not answer before it runs.
                let Ok(status) = status else { return Ok(None) };
                let acknowledged = status["uplink"]["acknowledged_seq"].as_u64().unwrap_or(0);
                let few = status["uplink"]["backlog_seconds"].as_f64().unwrap_or(0.0) < 10.0;
                Ok((acknowledged > 0 && few).then_some(()))
            }
        })
        .await
    }

    /// Waits until values have come; how many.
    pub(crate) async fn samples(&mut self, patience: Duration) -> anyhow::Result<u64> {
        wait::until(patience, "values come", || {
            let count = self.counter("samples_acquired");
            let ended = self.process.ended();
            async move {
                if let Some(status) = ended? {
                    bail!("the daemon ended ({status})");
                }
                // It does not answer before it runs.
                Ok(count.ok().filter(|count| *count > 0))
            }
        })
        .await
    }

    /// One of the daemon's counters.
    pub(crate) fn counter(&self, name: &str) -> anyhow::Result<u64> {
        let status = self.status()?;
        status["counters"][name].as_u64().with_context(|| format!("no counter {name}"))
    }

    /// What its first device says of itself.
    pub(crate) fn device_state(&self) -> anyhow::Result<String> {
        let status = self.status()?;
        Ok(status["devices"][0]["state"].as_str().context("no device")?.to_owned())
    }

    /// Reports of values of its first device that are missing and that nobody can count.
    pub(crate) fn uncounted(&self) -> anyhow::Result<u64> {
        let status = self.status()?;
        let causes = status["devices"][0]["missed"].as_object().context("no device")?;
        Ok(causes.values().filter_map(|cause| cause["uncounted"].as_u64()).sum())
    }

    pub(crate) fn leaf(&self) -> anyhow::Result<u32> {
        let leaves = children_of(self.process.id(), "nats-server")?;
        leaves.first().copied().context("the daemon runs no leaf")
    }
}

/// What a process has used so far, and what it holds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Seconds of one core.
    pub(crate) cpu: f64,
    /// Bytes given to the file system.
    pub(crate) written: f64,
    /// MiB.
    pub(crate) resident: f64,
    pub(crate) anonymous: f64,
    pub(crate) proportional: f64,
    pub(crate) peak: f64,
}

/// Clock ticks of `/proc` in a second, on every Linux that Rust supports.
const TICKS: f64 = 100.0;

pub(crate) fn cost_of(id: u32) -> anyhow::Result<Cost> {
    let read = |name: &str| {
        let place = format!("/proc/{id}/{name}");
        std::fs::read_to_string(&place).with_context(|| format!("{place} cannot be read"))
    };
    let stat = read("stat")?;
    let (_, after) = stat.rsplit_once(") ").context("a strange /proc/PID/stat")?;
    let ticks = |at: usize| after.split(' ').nth(at).and_then(|ticks| ticks.parse::<f64>().ok());
    let cpu = (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / TICKS;
    let status = read("status")?;
    let rollup = read("smaps_rollup").unwrap_or_default();
    let io = read("io").unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    Ok(Cost {
        cpu,
        written: field(&io, "write_bytes:"),
        resident: field(&status, "VmRSS:") / 1024.0,
        anonymous: field(&status, "RssAnon:") / 1024.0,
        proportional: field(&rollup, "Pss:") / 1024.0,
        peak: field(&status, "VmHWM:") / 1024.0,
    })
}
