//! 10,000 OPC UA items ten times a second: what reading them costs, beside node-opcua's client on
//! the same server; and how soon values flow again after the server or the way to it was gone.
//!
//! `cargo xtask bench opcua [-- --seconds 30 --items 10000 --json]`
//!
//! # Invariants
//! - One server of another make serves everybody, one after the other, for the same time. What it
//!   costs counts for nobody, but it shares the machine.
//! - Only values count that came: a server that cannot keep up makes the rate smaller and the
//!   cost of a value no better.

#[path = "../figures/mod.rs"]
mod figures;
#[path = "../plant/mod.rs"]
mod plant;

mod peer;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use figures::{Figures, Table, figure, float, option, progress, ratio};
use peer::Server;
use plant::{Cost, Daemon, Scratch, cost_of};
use tidegate_hil_tests::family::Family;
use tidegate_hil_tests::wan::Wan;
use tidegate_hil_tests::{tools, wait};

const PATIENCE: Duration = Duration::from_secs(90);
/// Connections, first values and allocators have settled by then.
const WARM_UP: Duration = Duration::from_secs(10);
/// How long the way to the server is gone.
const HOLE: Duration = Duration::from_secs(12);
/// How often somebody looks whether values flow again.
const LOOK: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let scratch = Scratch::new("opcua")?;
    let seconds = option("--seconds").map_or(Ok(30), |text| text.parse())?;
    let items = option("--items").map_or(Ok(10_000), |text| text.parse())?;
    let window = Duration::from_secs(seconds);
    let mut figures = Figures::new("opcua", &scratch.0);
    let Some(node_opcua) = peer::place() else {
        bail!(
            "node-opcua is not installed, and there is nothing to read; run: cargo xtask bench opcua"
        );
    };
    let family = Family::new()?;
    let mut server = Server::start(&family, &node_opcua, &scratch.0, items, 0).await?;
    let of_peer =
        peer::client(&family, &node_opcua, &scratch.0, server.address, items, WARM_UP, window)
            .await?;
    let (ours, recovery) = gateway(&family, &scratch.0, &mut server, items, window).await?;

    let mut cost = Table::new(
        format!("Reading {items} items that change every 100 ms, over {seconds} s"),
        &[
            "reader",
            "values/s",
            "CPU ms per 10,000 values",
            "CPU %",
            "RSS MiB",
            "peak MiB",
            "lost",
            "CPU ÷ peer",
            "RSS ÷ peer",
        ],
    );
    let both = Used {
        cpu: ours.daemon.cpu + ours.leaf.cpu,
        rss: ours.daemon.rss + ours.leaf.rss,
        peak: ours.daemon.peak + ours.leaf.peak,
    };
    let lost = ours.lost.to_string();
    cost.row(row("tidegate daemon", ours.rate, ours.daemon, window, lost, &of_peer));
    cost.row(row("  its leaf (nats-server)", ours.rate, ours.leaf, window, "-".into(), &of_peer));
    cost.row(row("  both", ours.rate, both, window, "-".into(), &of_peer));
    let of = of_peer.used;
    cost.row(row("node-opcua client", of_peer.rate, of, window, "-".into(), &of_peer));
    cost.note(format!(
        "server and peer: node-opcua {}; security None, {} items to a subscription for the peer",
        peer::version(&node_opcua),
        peer::ITEMS_PER_SUBSCRIPTION
    ));
    cost.note(
        "the daemon also records every value and publishes it on its leaf; the peer counts it",
    );
    cost.note("'lost': reports of values that the server had and the daemon did not get");
    figures.add(cost);

    let mut times =
        Table::new("Until values flow again", &["after", "seconds", "device said so after"]);
    for (what, back, noticed) in recovery {
        times.row([
            what.to_owned(),
            figure(back.as_secs_f64()),
            noticed.map_or("-".to_owned(), |n| figure(n.as_secs_f64())),
        ]);
    }
    times.note(
        "after a restart of the server: from its port being open; after a black hole: from its end",
    );
    times.note(
        "'device said so': from the fault until `tidegate status` shows the device as not live",
    );
    figures.add(times);
    figures.finish();
    Ok(())
}

/// What a process used in the time, and holds at its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// Seconds of one core.
    pub(crate) cpu: f64,
    /// MiB.
    pub(crate) rss: f64,
    /// MiB; 0 when not known.
    pub(crate) peak: f64,
}

impl Used {
    fn between(before: Cost, after: Cost) -> Self {
        Self { cpu: after.cpu - before.cpu, rss: after.resident, peak: after.peak }
    }
}

/// What a reader got, and what it took.
pub(crate) struct Read {
    /// Values a second.
    pub(crate) rate: f64,
    pub(crate) used: Used,
}

struct Ours {
    rate: f64,
    daemon: Used,
    leaf: Used,
    lost: u64,
}

fn row(
    name: &str,
    rate: f64,
    used: Used,
    window: Duration,
    lost: String,
    peer: &Read,
) -> [String; 9] {
    let seconds = window.as_secs_f64();
    let of_value = |used: Used, rate: f64| used.cpu * 1e7 / (rate * seconds);
    let peak = if used.peak > 0.0 { figure(used.peak) } else { "-".to_owned() };
    [
        name.to_owned(),
        figure(rate),
        figure(of_value(used, rate)),
        figure(used.cpu / seconds * 100.0),
        figure(used.rss),
        peak,
        lost,
        ratio(of_value(used, rate), of_value(peer.used, peer.rate)),
        ratio(used.rss, peer.used.rss),
    ]
}

/// What was recovered from, after how long, and when the device was known to be gone.
type Recovery = (&'static str, Duration, Option<Duration>);

async fn gateway(
    family: &Arc<Family>,
    scratch: &Path,
    server: &mut Server,
    items: usize,
    window: Duration,
) -> anyhow::Result<(Ours, Vec<Recovery>)> {
    progress(&format!("tidegate with {items} items, {} s", (WARM_UP + window).as_secs()));
    let mut wan = Wan::open_to(server.address).await?;
    let config = configure(&scratch.join("gateway"), wan.address(), items)?;
    let mut daemon = Daemon::start(family, &config)?;
    let values = daemon.samples(PATIENCE).await?;
    progress(&format!("first {values} values after {:.2} s", daemon.begun.elapsed().as_secs_f64()));
    tokio::time::sleep(WARM_UP).await;

    let (id, leaf) = (daemon.process.id(), daemon.leaf()?);
    let (begun, before) =
        (Instant::now(), (daemon.counter("samples_acquired")?, daemon.uncounted()?));
    let cost = (cost_of(id)?, cost_of(leaf)?);
    tokio::time::sleep(window).await;
    let after = (daemon.counter("samples_acquired")?, daemon.uncounted()?);
    let (of_daemon, of_leaf) = (cost_of(id)?, cost_of(leaf)?);
    let rate = float(after.0 - before.0) / begun.elapsed().as_secs_f64();
    let ours = Ours {
        rate,
        daemon: Used::between(cost.0, of_daemon),
        leaf: Used::between(cost.1, of_leaf),
        lost: after.1 - before.1,
    };
    let mut recovery = Vec::new();

    progress("a black hole of 12 s");
    let cut = Instant::now();
    wan.cut_black_hole().await?;
    let noticed = noticed(&daemon, cut, HOLE).await?;
    tokio::time::sleep(HOLE.saturating_sub(cut.elapsed())).await;
    wan.restore().await?;
    recovery.push(("a black hole of 12 s", flows(&mut daemon).await?, noticed));

    progress("a restart of the server");
    let killed = Instant::now();
    server.kill()?;
    let noticed = self::noticed(&daemon, killed, Duration::from_secs(10)).await?;
    server.restart(family).await?;
    recovery.push(("a restart of the server", flows(&mut daemon).await?, noticed));

    daemon.process.stop(PATIENCE).await?;
    Ok((ours, recovery))
}

/// Until the device is not live any more; `None` when that does not show.
async fn noticed(
    daemon: &Daemon,
    from: Instant,
    patience: Duration,
) -> anyhow::Result<Option<Duration>> {
    while from.elapsed() < patience {
        if daemon.device_state()? != "live" {
            return Ok(Some(from.elapsed()));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(None)
}

/// Until the device is live and values come.
async fn flows(daemon: &mut Daemon) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let found = wait::until(PATIENCE, "values flow again", || {
        let state = daemon.device_state();
        let counted = daemon.counter("samples_acquired");
        async move { Ok((state? == "live").then_some(counted?)) }
    })
    .await?;
    wait::until(PATIENCE, "a value comes", || {
        let counted = daemon.counter("samples_acquired");
        async move { Ok((counted? > found).then_some(())) }
    })
    .await?;
    Ok(begun.elapsed())
}

/// Defaults wherever there are any, and no hub: what is measured is reading, recording and
/// publishing.
fn configure(directory: &Path, server: SocketAddr, items: usize) -> anyhow::Result<PathBuf> {
    use std::fmt::Write as _;
    std::fs::create_dir_all(directory)?;
    let mut text = format!(
        r#"[gateway]
plant = "PlantA"
name = "gw-bench"
[leaf]
listen = "127.0.0.1:{leaf}"
nats-server = {server:?}
dir = "leaf"
[journal]
dir = "journal"
max-bytes = "1 GiB"
[control]
socket = "control.sock"
[opcua]
dir = "opcua"
[[device]]
name = "d0"
protocol = "opcua"
address = "opc.tcp://{address}"
security = "none"
poll-every-ms = 100
"#,
        leaf = plant::free_port()?,
        server = tools::nats_server()?,
        address = server,
    );
    for item in 0..items {
        write!(
            text,
            "[[device.tag]]\npath = \"c{item}\"\naddress = \"nsu=urn:tidegate:rig;s=c{item}\"\n"
        )?;
    }
    let config = directory.join("tidegate.toml");
    std::fs::write(&config, text).context("the configuration cannot be written")?;
    Ok(config)
}
