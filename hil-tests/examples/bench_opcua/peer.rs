//! node-opcua: the server that everybody reads, and a client that reads the same items and does
//! nothing else with them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tidegate_hil_tests::family::{Family, Process};
use tidegate_hil_tests::wait;

use crate::figures::progress;
use crate::plant::cost_of;
use crate::{PATIENCE, Read, Used};

/// As many as node-opcua's own examples take.
pub(crate) const ITEMS_PER_SUBSCRIPTION: usize = 1000;

/// Where `cargo xtask bench` has installed it; `None` when it has not.
pub(crate) fn place() -> Option<PathBuf> {
    let place = std::env::var_os("TIDEGATE_NODE_OPCUA").map(PathBuf::from)?;
    place.join("node_modules/node-opcua").exists().then_some(place)
}

pub(crate) fn version(place: &Path) -> String {
    let text = std::fs::read_to_string(place.join("node_modules/node-opcua/package.json"));
    let value: Value =
        text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    value["version"].as_str().unwrap_or("unknown").to_owned()
}

fn script(family: &Arc<Family>, place: &Path, name: &str) -> Command {
    let mut command = family.command("node");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("plc/node_opcua").join(name));
    command.env("TIDEGATE_NODE_OPCUA", place);
    command
}

/// What a process has printed as JSON so far, the last line of it.
fn last_line(printed: &str) -> Option<Value> {
    printed.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

/// Waits until a process prints a line of JSON with this key.
async fn says(process: &mut Process, what: &str, key: &str) -> anyhow::Result<Value> {
    wait::until(PATIENCE, what, || {
        let said = process.printed_since(0);
        let ended = process.ended();
        async move {
            let said = said?;
            let line = last_line(&said).filter(|line| !line[key].is_null());
            match (line, ended?) {
                (Some(line), _) => Ok(Some(line)),
                (None, Some(status)) => bail!("it ended ({status}): {said}"),
                (None, None) => Ok(None),
            }
        }
    })
    .await
}

/// A server whose items all change every 100 ms.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    process: Process,
    place: PathBuf,
    scratch: PathBuf,
    items: usize,
    starts: u32,
}

impl Server {
    pub(crate) async fn start(
        family: &Arc<Family>,
        place: &Path,
        scratch: &Path,
        items: usize,
        port: u16,
    ) -> anyhow::Result<Self> {
        let (process, port) = serve(family, place, scratch, items, port, 0).await?;
        Ok(Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            process,
            place: place.to_path_buf(),
            scratch: scratch.to_path_buf(),
            items,
            starts: 1,
        })
    }

    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill9()
    }

    /// Starts it again on its port; its port is open when this returns.
    pub(crate) async fn restart(&mut self, family: &Arc<Family>) -> anyhow::Result<()> {
        let port = self.address.port();
        let starts = self.starts;
        let begun = serve(family, &self.place, &self.scratch, self.items, port, starts).await?;
        self.process = begun.0;
        self.starts += 1;
        Ok(())
    }
}

async fn serve(
    family: &Arc<Family>,
    place: &Path,
    scratch: &Path,
    items: usize,
    port: u16,
    starts: u32,
) -> anyhow::Result<(Process, u16)> {
    progress(&format!("node-opcua serves {items} items"));
    let mut command = script(family, place, "server.js");
    command.args(["--port", &port.to_string(), "--items", &items.to_string()]);
    command.args(["--interval", "100", "--log", "/dev/null"]);
    let printed = scratch.join(format!("server-{starts}.log"));
    let mut process = Process::start(family, "node-opcua's server", command, &printed)?;
    let line = says(&mut process, "the server listens", "port").await?;
    let port = line["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    Ok((process, port.context("the server names no port")?))
}

/// node-opcua's client on all items: what it received a second and what it took.
pub(crate) async fn client(
    family: &Arc<Family>,
    place: &Path,
    scratch: &Path,
    server: SocketAddr,
    items: usize,
    warm_up: Duration,
    window: Duration,
) -> anyhow::Result<Read> {
    progress(&format!(
        "node-opcua's client with {items} items, {} s",
        (warm_up + window).as_secs()
    ));
    let mut command = script(family, place, "client.js");
    command.args(["--url", &format!("opc.tcp://{server}"), "--items", &items.to_string()]);
    command.args(["--interval", "100", "--warm-up", &warm_up.as_secs().to_string()]);
    command.args(["--per-subscription", &ITEMS_PER_SUBSCRIPTION.to_string()]);
    command.args(["--seconds", &window.as_secs().to_string()]);
    let mut process =
        Process::start(family, "node-opcua's client", command, &scratch.join("client.log"))?;
    says(&mut process, "the client has its items", "ready").await?;
    tokio::time::sleep(warm_up + window).await;
    let peak = cost_of(process.id()).map_or(0.0, |cost| cost.peak);
    let line = says(&mut process, "the client's figures", "received").await?;
    let number = |key: &str| line[key].as_f64().with_context(|| format!("no {key} in {line}"));
    Ok(Read {
        rate: number("received")? / number("seconds")?,
        used: Used { cpu: number("cpu_seconds")?, rss: number("rss_bytes")? / 1048576.0, peak },
    })
}
