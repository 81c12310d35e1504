//! Two networks of a scenario's own, for what a proxy cannot show: real TCP over a thin link, and
//! packets that vanish.
//!
//! ```text
//!   gateway's namespace                      the scenario's namespace
//!   10.77.0.1 ── wan0 ══ shaped ══ wan1 ── 10.77.0.2   leads to the hub
//!   10.78.0.1 ── plc0 ────────────  plc1 ── 10.78.0.2   leads to the PLC
//! ```
//!
//! # Invariants
//! - Neither namespace has a name: each is held by a process of the family and goes with it, also
//!   when the test is killed. Nothing outside is touched.
//! - The scenario runs on threads inside its namespace, and so does whatever it starts there.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::family::{Family, Process};
use crate::wait;

/// Where the gateway finds the hub.
pub const HUB: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));
/// Where the gateway finds the PLC.
pub const PLC: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 78, 0, 2));

/// A device address that nobody has.
const NOBODY: &str = "02:00:00:00:00:01";

/// Both networks, and who holds them.
#[derive(Debug)]
pub struct Net {
    family: Arc<Family>,
    here: Process,
    gateway: Process,
    /// The holders' logs.
    _directory: tempfile::TempDir,
}

/// Which packets vanish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// What the gateway sends.
    ToHub,
    /// What the hub sends.
    ToGateway,
    /// Everything.
    Both,
}

/// Runs a scenario inside two networks of its own, on a runtime of its own.
///
/// # Errors
/// When the networks cannot be made (only root may), or the scenario says so.
pub fn isolated<F>(scenario: impl FnOnce(Net) -> F + Send + 'static) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let run = || {
        let net = Net::hold()?;
        let place = std::fs::File::open(format!("/proc/{}/ns/net", net.here.id()))?;
        move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network))
            .context("only root can enter a network")?;
        net.connect()?;
        // Its workers are started from this thread, so they are inside as well.
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(2).enable_all().build()?.block_on(scenario(net))
    };
    // A thread of its own: who called stays where it was.
    let ended = std::thread::Builder::new().name("scenario".to_owned()).spawn(run)?.join();
    ended.map_err(|_| anyhow!("the scenario panicked"))?
}

impl Net {
    fn hold() -> anyhow::Result<Self> {
        let family = Family::new()?;
        let directory = tempfile::tempdir()?;
        let hold = |name: &str| {
            let mut command = family.command("unshare");
            command.args(["--net", "sleep", "infinity"]);
            let log = directory.path().join(name);
            Process::start(&family, name, command, &log)
        };
        let (here, gateway) = (hold("here")?, hold("there")?);
        for holder in [&here, &gateway] {
            wait_for_namespace(holder.id())?;
        }
        Ok(Self { family, here, gateway, _directory: directory })
    }

    fn connect(&self) -> anyhow::Result<()> {
        let there = self.gateway.id();
        self.run_here(&format!(
            "set -e
             ip link set lo up
             ip link add wan1 type veth peer name wan0 netns {there}
             ip link add plc1 type veth peer name plc0 netns {there}
             ip address add {HUB}/24 dev wan1
             ip address add {PLC}/24 dev plc1
             ip link set wan1 up
             ip link set plc1 up"
        ))?;
        self.run_at_gateway(
            "set -e
             ip link set lo up
             ip address add 10.77.0.1/24 dev wan0
             ip address add 10.78.0.1/24 dev plc0
             ip link set wan0 up
             ip link set plc0 up",
        )
    }

    /// What starts a program on the gateway's side and becomes it.
    #[must_use]
    pub fn at_gateway(&self) -> Vec<String> {
        let target = self.gateway.id().to_string();
        ["nsenter", "--target", &target, "--net"].map(str::to_owned).to_vec()
    }

    /// Gives the wide-area link this rate in each direction, in bits a second. Up to `queue` worth
    /// of packets waits before it, as in a modem; what comes on top is dropped.
    ///
    /// # Errors
    /// When the kernel has no token bucket.
    pub fn narrow(&self, bits_per_s: u64, queue: Duration) -> anyhow::Result<()> {
        let latency = queue.as_millis();
        // A bucket of two packets: the rate holds over less than half a second.
        let shape = |device: &str| {
            format!(
                "tc qdisc replace dev {device} root tbf rate {bits_per_s}bit burst 3200 \
                 latency {latency}ms"
            )
        };
        self.run_here(&shape("wan1"))?;
        self.run_at_gateway(&shape("wan0"))
    }

    /// Gives the wide-area link its full rate back.
    ///
    /// # Errors
    /// When it was not narrow.
    pub fn widen(&self) -> anyhow::Result<()> {
        self.run_here("tc qdisc del dev wan1 root")?;
        self.run_at_gateway("tc qdisc del dev wan0 root")
    }

    /// Packets vanish, and nobody is told: they go to a device address that nobody has.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn lose(&self, lost: Lost) -> anyhow::Result<()> {
        if lost != Lost::ToGateway {
            self.run_at_gateway(&format!(
                "ip neighbour replace {HUB} lladdr {NOBODY} dev wan0 nud permanent"
            ))?;
        }
        if lost != Lost::ToHub {
            self.run_here(&format!(
                "ip neighbour replace 10.77.0.1 lladdr {NOBODY} dev wan1 nud permanent"
            ))?;
        }
        Ok(())
    }

    /// Packets arrive again.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn find(&self) -> anyhow::Result<()> {
        // What was not lost has an ordinary entry, or none: both are found again.
        self.run_here("ip neighbour del 10.77.0.1 dev wan1 || true")?;
        self.run_at_gateway(&format!("ip neighbour del {HUB} dev wan0 || true"))
    }

    /// Bytes that the gateway has sent over the wide-area link, headers included.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn sent(&self) -> anyhow::Result<u64> {
        let table = std::fs::read_to_string(format!("/proc/{}/net/dev", self.gateway.id()))?;
        let line = table.lines().find_map(|line| line.trim_start().strip_prefix("wan0:"));
        let sent = line.and_then(|numbers| numbers.split_whitespace().nth(8));
        Ok(sent.context("no wan0")?.parse()?)
    }

    /// Runs shell commands on the gateway's side.
    ///
    /// # Errors
    /// When one fails.
    pub fn run_at_gateway(&self, script: &str) -> anyhow::Result<()> {
        let around = self.at_gateway();
        let mut command = self.family.command(&around[0]);
        command.args(&around[1..]).args(["sh", "-c", script]);
        done(command, script)
    }

    /// Runs shell commands on the scenario's side.
    ///
    /// # Errors
    /// When one fails.
    pub fn run_here(&self, script: &str) -> anyhow::Result<()> {
        let mut command = self.family.command("sh");
        command.args(["-c", script]);
        done(command, script)
    }
}

fn done(mut command: Command, script: &str) -> anyhow::Result<()> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{script}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// `unshare` needs a moment until it is another namespace than ours.
fn wait_for_namespace(id: u32) -> anyhow::Result<()> {
    let first = std::fs::read_link(format!("/proc/{}/ns/net", std::process::id()))?;
    let begun = std::time::Instant::now();
    while std::fs::read_link(format!("/proc/{id}/ns/net"))? == first {
        if begun.elapsed() > wait::SOON {
            bail!("process {id} has no network of its own; only root may make one");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
