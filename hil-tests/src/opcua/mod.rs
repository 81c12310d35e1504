//! OPC UA servers for the gateway to collect from: asyncua and node-opcua, and what they wrote down.
//!
//! # Invariants
//! - A server keeps its port across a restart, and says that it serves before anything is expected.
//! - What a server holds is the same for both makes: `plc/asyncua_space.py`, `plc/node_opcua/space.js`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::family::Process;
use crate::field::Site;
use crate::{tools, wait};

pub mod devices;
pub mod papers;
pub mod truth;

/// The namespace of everything that the servers hold of ours.
pub const NAMESPACE: &str = "urn:tidegate:rig";

/// How much a counter grows with each write, so that its rest is its own number.
pub const STRIDE: u64 = 100_000;

/// How long a server may take to serve: node-opcua reads the standard's nodes at each start.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// asyncua, in Python.
    Asyncua,
    /// node-opcua, in JavaScript.
    NodeOpcua,
    /// Our own, which breaks as told: `plc/hostile_opcua.py`.
    Hostile,
}

/// A server that can be told, killed and started again.
#[derive(Debug)]
pub struct OpcUaServer {
    make: Make,
    name: String,
    options: Vec<String>,
    control: PathBuf,
    log: PathBuf,
    printed: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl OpcUaServer {
    /// Starts one with these options of `plc/asyncua_server.py`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(
        site: &Site,
        make: Make,
        name: &str,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        let mut server = Self {
            make,
            name: name.to_owned(),
            options: options.iter().map(ToString::to_string).collect(),
            control: site.path(&format!("{name}.sock")),
            log: site.path(&format!("{name}.jsonl")),
            printed: site.path(&format!("{name}.log")),
            port: 0,
            process: None,
        };
        server.run(site, &[]).await?;
        Ok(server)
    }

    /// SIGKILL, and a new start on the same port with options more; the counters go on where they
    /// were. Says when it served again.
    ///
    /// # Errors
    /// When it had ended by itself, or does not come up.
    pub async fn restart(&mut self, site: &Site, more: &[&str]) -> anyhow::Result<Instant> {
        self.kill9()?;
        self.start_again(site, more).await
    }

    /// The second half of [`OpcUaServer::restart`].
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_again(&mut self, site: &Site, more: &[&str]) -> anyhow::Result<Instant> {
        let last = self.ticks()?.last().map_or(0, |tick| tick.k);
        let from = last.to_string();
        let mut more = more.to_vec();
        more.extend(["--from", &from]);
        self.run(site, &more).await
    }

    async fn run(&mut self, site: &Site, more: &[&str]) -> anyhow::Result<Instant> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("plc");
        let mut command = match self.make {
            Make::Asyncua => {
                let mut command = site.family.command(tools::python()?);
                command.arg(directory.join("asyncua_server.py"));
                command
            }
            Make::Hostile => {
                let mut command = site.family.command(tools::python()?);
                command.arg(directory.join("hostile_opcua.py"));
                command
            }
            Make::NodeOpcua => {
                let mut command = site.family.command("node");
                command.arg(directory.join("node_opcua/server.js"));
                command.env("TIDEGATE_NODE_OPCUA", tools::node_opcua()?);
                // Certificates that node-opcua would make for itself stay with the scenario.
                command.env("HOME", site.path(""));
                command
            }
        };
        // The socket of one that was killed lies there still.
        let _ = std::fs::remove_file(&self.control);
        command.arg("--log").arg(&self.log).arg("--control").arg(&self.control);
        command.args(["--port", &self.port.to_string()]).args(&self.options).args(more);
        let before = std::fs::metadata(&self.printed).map_or(0, |metadata| metadata.len());
        let mut process = Process::start(&site.family, &self.name, command, &self.printed)?;
        let (port, since) = wait::until(STARTS_WITHIN, &format!("{} serves", self.name), || {
            let said = process.printed_since(before);
            let ended = process.ended();
            async move {
                let said = said?;
                if let Some(status) = ended? {
                    bail!("the server ended ({status}): {said}");
                }
                let is_it = |line: &&str| line.ends_with('\n') && line.starts_with("{\"port\"");
                let line = said.split_inclusive('\n').rfind(is_it);
                let port = line.map(serde_json::from_str::<Value>).transpose()?;
                Ok(port.and_then(|said| said["port"].as_u64()).map(|port| (port, Instant::now())))
            }
        })
        .await?;
        self.port = u16::try_from(port)?;
        self.process = Some(process);
        Ok(since)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The URL of it, or of whatever stands before it.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.address())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.process.take().context("the server is down already")?.kill9()
    }

    /// SIGSTOP: it accepts connections, and never answers.
    ///
    /// # Errors
    /// When it is down.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.process.as_ref().context("the server is down")?.signal(Signal::STOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it is down.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.process.as_ref().context("the server is down")?.signal(Signal::CONT)
    }

    /// Has it do what `plc/asyncua_server.py` lists, and returns what it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn tell(&self, command: &Value) -> anyhow::Result<Value> {
        let mut stream = UnixStream::connect(&self.control).context("the server's socket")?;
        stream.set_read_timeout(Some(wait::SOON))?;
        stream.write_all(format!("{command}\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        ensure!(answer["ok"] == true, "{command}: {answer}");
        Ok(answer)
    }

    /// Gives a node another value or status.
    ///
    /// # Errors
    /// When it does not.
    pub fn put(&self, node: &str, value: &Value, code: &str) -> anyhow::Result<()> {
        let mut command = json!({"do": "put", "node": node, "code": code});
        if !value.is_null() {
            command["value"] = value.clone();
        }
        self.tell(&command).map(|_| ())
    }

    /// Everything of a kind that it wrote down.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn events(&self, kind: &str) -> anyhow::Result<Vec<Value>> {
        let log = std::fs::read_to_string(&self.log)?;
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let marked = format!("\"{kind}\"");
        let lines = whole.lines().filter(|line| line.contains(&marked));
        let events: Result<Vec<Value>, _> = lines.map(serde_json::from_str).collect();
        Ok(events?.into_iter().filter(|event| event["event"] == kind).collect())
    }

    /// Every write of the counters.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn ticks(&self) -> anyhow::Result<Vec<truth::Tick>> {
        let tick = |event: &Value| {
            let read = || {
                Some(truth::Tick { k: event["k"].as_u64()?, at_ms: event["at"].as_i64()? / 1000 })
            };
            read().with_context(|| format!("no tick: {event}"))
        };
        self.events("tick")?.iter().map(tick).collect()
    }

    /// Fails when anything but reading was ever asked of it.
    ///
    /// # Errors
    /// When it was.
    pub fn was_only_read(&self) -> anyhow::Result<()> {
        let touched = [self.events("write")?, self.events("call")?].concat();
        ensure!(touched.is_empty(), "the gateway touched the server: {touched:?}");
        Ok(())
    }
}

/// The URL of what listens there.
#[must_use]
pub fn url(address: SocketAddr) -> String {
    format!("opc.tcp://{address}/rig")
}
