//! How fast a backlog leaves after an outage: on loopback, where the daemon and the hub are the
//! limit, and over thin links, where the link should be.
//!
//! `cargo xtask bench drain [-- --samples 10000000 --seconds 45 --json]`
//!
//! # Invariants
//! - The backlog is made by the journal and the packer themselves; it is drained by the real
//!   daemon through its leaf, over mTLS, into a hub as `internal-hub-config` makes it, which syncs
//!   every message before it acknowledges.
//! - Times are the hub's own: when its stream took each message.

#[path = "figures/mod.rs"]
mod figures;
#[path = "plant/mod.rs"]
mod plant;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use async_nats::jetstream;
use figures::{Figures, Table, figure, float, option, progress};
use plant::{Daemon, GATEWAY, Plan, Scratch, cost_of};
use serde_json::Value;
use tidegate_hil_tests::family::Family;
use tidegate_hil_tests::hub::Hub;
use tidegate_hil_tests::wan::Wan;
use tidegate_hil_tests::{stream, wait};

const PATIENCE: Duration = Duration::from_secs(90);
/// By then the size of messages has followed the link.
const RAMP: Duration = Duration::from_secs(15);

/// What one frame of a backlog holds.
#[derive(Clone, Copy)]
struct Shape {
    tags: u32,
    scans: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let scratch = Scratch::new("drain")?;
    let number =
        |name: &str, otherwise: u64| option(name).map_or(Ok(otherwise), |text| text.parse::<u64>());
    let (samples, seconds) = (number("--samples", 10_000_000)?, number("--seconds", 45)?);
    let mut figures = Figures::new("drain", &scratch.0);

    let columns = [
        "backlog",
        "samples",
        "frame B",
        "B/sample",
        "messages",
        "seconds",
        "M samples/s",
        "MB/s",
        "daemon CPU %",
    ];
    let mut fast = Table::new("Draining on loopback", &columns);
    let shapes = [Shape { tags: 5_000, scans: 1 }, Shape { tags: 100, scans: 50 }];
    for (number, shape) in shapes.into_iter().enumerate() {
        let directory = scratch.0.join(format!("loopback-{number}"));
        fast.row(loopback(&directory, shape, samples).await?);
    }
    fast.note(
        "hub as generated: sync_interval always, R1, mTLS, leaf with compression; PLC switched off",
    );
    figures.add(fast);

    let columns =
        ["link", "round trip ms", "messages", "mean message B", "goodput kB/s", "share of link %"];
    let mut thin = Table::new(format!("Draining over thin links, {seconds} s each"), &columns);
    progress(&format!("four thin links side by side, about {} s", seconds + 30));
    let links = [(64_000, 50), (64_000, 200), (1_000_000, 50), (1_000_000, 200)];
    let runs = links.map(|(bits, round_trip)| {
        let directory = scratch.0.join(format!("thin-{bits}-{round_trip}"));
        link(directory, bits, Duration::from_millis(round_trip), seconds)
    });
    let [a, b, c, d] = runs;
    let (a, b, c, d) = tokio::try_join!(a, b, c, d)?;
    for row in [a, b, c, d] {
        thin.row(row);
    }
    thin.note("goodput: bytes of frames that the hub stored; TLS and NATS headers come out of the rest, the leaf's compression puts some back");
    thin.note("a proxy delays and paces each direction; the four links run at one time");
    figures.add(thin);
    figures.finish();
    Ok(())
}

/// A gateway with a backlog and its hub; nothing runs between them yet.
struct Site {
    family: Arc<Family>,
    hub: Hub,
    wan: Wan,
    config: PathBuf,
    backlog: Backlog,
    /// The last message before the backlog.
    before: u64,
}

struct Backlog {
    samples: u64,
    frames: u64,
    body_bytes: u64,
}

impl Site {
    async fn with_backlog(directory: &Path, shape: Shape, samples: u64) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let family = Family::new()?;
        let hub = Hub::start(&family, &directory.join("hub"), &[GATEWAY]).await?;
        let wan = Wan::open_to(hub.leafs()?).await?;
        let (sim, plc) = plant::start_sim(&family, directory).await?;
        let plan = Plan {
            hub: wan.address(),
            credentials: &hub.credentials(GATEWAY)?,
            stream: hub.stream()?,
            domain: hub.domain()?,
            plcs: &[plc],
            tags_per_device: usize::try_from(shape.tags)?,
            leaf_port: plant::free_port()?,
            max_journal: "4 GiB",
        };
        let config = plant::configure(&directory.join("gateway"), &plan)?;
        // A first life, so that epoch and catalog are what the daemon makes.
        let mut daemon = Daemon::start(&family, &config)?;
        daemon.delivered(PATIENCE).await?;
        daemon.process.stop(PATIENCE).await?;
        drop(daemon);
        let mut sim = sim;
        sim.kill9()?;
        let (_, _, before) = stream::span(&hub.admin_url()?, hub.stream()?).await?;
        let journal = directory.join("gateway/journal");
        let backlog = tokio::task::spawn_blocking(move || fill(&journal, shape, samples)).await??;
        Ok(Self { family, hub, wan, config, backlog, before })
    }

    async fn stream(&self) -> anyhow::Result<jetstream::stream::Stream> {
        let client = stream::connect(&self.hub.admin_url()?).await?;
        jetstream::new(client).get_stream(self.hub.stream()?).await.context("the hub's stream")
    }
}

/// Runs the generator, which lies beside this program.
fn fill(journal: &Path, shape: Shape, samples: u64) -> anyhow::Result<Backlog> {
    let own = std::env::current_exe()?;
    let program = own.with_file_name("backlog");
    ensure!(
        program.exists(),
        "the generator is missing; run: cargo build --release --package tidegate-record --example backlog"
    );
    let (plant, name) = GATEWAY.split_once('/').context("no PLANT/NAME")?;
    let mut command = Command::new(program);
    command.arg(journal).args([plant, name]);
    command.args([samples, u64::from(shape.tags), u64::from(shape.scans)].map(|n| n.to_string()));
    let output = command.output()?;
    if !output.status.success() {
        bail!("the generator failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let said: Value = serde_json::from_slice(&output.stdout)?;
    let count = |name: &str| said[name].as_u64().with_context(|| format!("no {name}"));
    Ok(Backlog {
        samples: count("samples")?,
        frames: count("frames")?,
        body_bytes: count("body-bytes")?,
    })
}

async fn loopback(directory: &Path, shape: Shape, samples: u64) -> anyhow::Result<[String; 9]> {
    let Shape { tags, scans } = shape;
    progress(&format!("a backlog of {samples} samples, {tags} tags, {scans} scans in a frame"));
    let site = Site::with_backlog(directory, shape, samples).await?;
    let mut daemon = Daemon::start(&site.family, &site.config)?;
    let id = daemon.process.id();
    let mut stream = site.stream().await?;
    let mut begun = None;
    let mut reported = Instant::now();
    // The daemon's own idea of being done, checked against what the hub holds.
    let cost = wait::until(Duration::from_secs(300), "the backlog is drained", || {
        let status = daemon.status();
        let ended = daemon.process.ended();
        let cost = cost_of(id);
        if begun.is_none() {
            begun = cost.as_ref().ok().map(|cost| (cost.cpu, Instant::now()));
        }
        if reported.elapsed() > Duration::from_secs(5) {
            reported = Instant::now();
            let left = status.as_ref().ok().and_then(|s| s["uplink"]["backlog_samples"].as_u64());
            progress(&format!("{} samples left", left.unwrap_or(0)));
        }
        async move {
            if let Some(status) = ended? {
                bail!("the daemon ended ({status})");
            }
            let Ok(status) = status else { return Ok(None) };
            let left = status["uplink"]["backlog_samples"].as_u64();
            let up = status["uplink"]["acknowledged_seq"].as_u64().is_some_and(|seq| seq > 0);
            Ok((up && left.is_some_and(|left| left < 10_000)).then_some(cost?))
        }
    })
    .await?;
    let begun = begun.map_or(0.0, |(cpu, _)| cpu);
    let state = stream.info().await?.state.clone();
    let (first, last) = (site.before + 1, state.last_sequence);
    let time_of = async |sequence| {
        let message = stream.get_raw_message(sequence).await;
        anyhow::Ok(message.context("a message of the stream")?.time)
    };
    let took = (time_of(last).await? - time_of(first).await?).as_seconds_f64();
    ensure!(last > first + 2 && took > 0.0, "the backlog came in {} messages", last - site.before);
    daemon.process.stop(PATIENCE).await?;
    let backlog = &site.backlog;
    let frame = float(backlog.body_bytes) / float(backlog.frames);
    Ok([
        format!("{tags} tags, {scans} scans in a frame"),
        backlog.samples.to_string(),
        figure(frame),
        figure(float(backlog.body_bytes) / float(backlog.samples)),
        (last - first + 1).to_string(),
        figure(took),
        figure(float(backlog.samples) / took / 1e6),
        figure(float(backlog.body_bytes) / took / 1e6),
        figure((cost.cpu - begun) / took * 100.0),
    ])
}

async fn link(
    directory: PathBuf,
    bits: u32,
    round_trip: Duration,
    seconds: u64,
) -> anyhow::Result<[String; 6]> {
    let bytes_per_s = u64::from(bits / 8);
    // What a gateway with 100 tags writes: commits of five seconds.
    let shape = Shape { tags: 100, scans: 5 };
    // Twice what the link can carry meanwhile, at 3 bytes a sample and more.
    let samples = bytes_per_s * (seconds + 60);
    let mut site = Site::with_backlog(&directory, shape, samples).await?;
    site.wan.shape(round_trip / 2, Some(bytes_per_s)).await?;
    let mut daemon = Daemon::start(&site.family, &site.config)?;
    let stream = site.stream().await?;
    let arrived = async |sequence| {
        wait::until(PATIENCE, "a message of the backlog", || {
            let message = stream.get_raw_message(sequence);
            async move { Ok(message.await.ok()) }
        })
        .await
    };
    let mut sequence = site.before + 1;
    let first = arrived(sequence).await?.time;
    let mut begun = None;
    let (mut bytes, mut messages) = (0, 0_u64);
    let took = loop {
        sequence += 1;
        let message = arrived(sequence).await?;
        let Some(from) = begun else {
            if (message.time - first).unsigned_abs() >= RAMP {
                begun = Some(message.time);
            }
            continue;
        };
        bytes += message.payload.len() as u64;
        messages += 1;
        let last = message.time;
        if (last - from).unsigned_abs() >= Duration::from_secs(seconds) {
            break (last - from).as_seconds_f64();
        }
    };
    let left = daemon.status()?["uplink"]["backlog_samples"].as_u64().unwrap_or(0);
    ensure!(left > 0, "the backlog was too small for the link");
    site.wan.shape(Duration::ZERO, None).await?;
    daemon.process.kill9()?;
    let goodput = float(bytes) / took;
    Ok([
        format!("{} kbit/s", bits / 1000),
        round_trip.as_millis().to_string(),
        messages.to_string(),
        figure(float(bytes) / float(messages)),
        figure(goodput / 1e3),
        figure(goodput / float(bytes_per_s) * 100.0),
    ])
}
