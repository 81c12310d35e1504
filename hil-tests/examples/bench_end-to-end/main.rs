//! The whole path on one machine: 5,000 and 50,000 Modbus tags each second, from the PLC's answer
//! to a local subscriber, recorded and delivered to a hub; beside Node-RED.
//!
//! `cargo xtask bench end-to-end [-- --seconds 60 --json]`
//!
//! # Invariants
//! - The PLC is the product's own simulator: a PLC of pymodbus uses a core of its own up at
//!   50,000 tags and would measure itself. Its cost, the tap's, the hub's and the subscriber's
//!   count for nobody, but they share the machine.
//! - A tap between gateway and PLC counts what really was read; nobody is believed.

#[path = "../figures/mod.rs"]
mod figures;
#[path = "../plant/mod.rs"]
mod plant;

mod node_red;
mod subscriber;
mod tap;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use figures::{Figures, Table, figure, float, option, progress, ratio};
use plant::{Cost, Daemon, GATEWAY, Plan, Scratch, TAGS_PER_DEVICE, cost_of};
use serde_json::Value;
use subscriber::Subscriber;
use tap::Tap;
use tidegate_hil_tests::family::Family;
use tidegate_hil_tests::hub::Hub;
use tidegate_hil_tests::wait;

const PATIENCE: Duration = Duration::from_secs(90);
/// Connections, first catalogs and allocators have settled by then.
const WARM_UP: Duration = Duration::from_secs(10);
/// Registers that are read for each tag.
const REGISTERS: u64 = 2;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let scratch = Scratch::new("end-to-end")?;
    let seconds = option("--seconds").map_or(Ok(60), |text| text.parse())?;
    let window = Duration::from_secs(seconds);
    let mut figures = Figures::new("end-to-end", &scratch.0);
    let mut cost = Table::new(
        format!("Reading tags once a second, over {seconds} s"),
        &[
            "reader",
            "tags",
            "tags read/s",
            "CPU %",
            "RSS MiB",
            "PSS MiB",
            "anonymous MiB",
            "peak MiB",
            "written kB/s",
            "missed polls",
            "dropped",
            "RSS ÷ peer",
            "CPU ÷ peer",
        ],
    );
    let mut times = Table::new(
        "Time from the PLC's answer to a subscriber at the leaf",
        &["tags", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "values", "overtaken", "first value s"],
    );
    let peer = match node_red::place() {
        Some(place) => {
            let found = peer(&scratch.0, &place, window).await?;
            cost.note(format!(
                "peer: {}; it reads and decodes, nothing is published, recorded or delivered",
                node_red::versions(&place)
            ));
            Some(found)
        }
        None => {
            cost.note("no peer: Node-RED is not installed (node and npm are needed)");
            None
        }
    };
    for devices in [1, 10] {
        let run = gateway(&scratch.0, devices, window).await?;
        let of_peer = peer.as_ref().filter(|peer| peer.tags == run.tags);
        let both = Cost {
            cpu: run.daemon.cpu + run.leaf.cpu,
            resident: run.daemon.resident + run.leaf.resident,
            anonymous: run.daemon.anonymous + run.leaf.anonymous,
            proportional: run.daemon.proportional + run.leaf.proportional,
            peak: run.daemon.peak + run.leaf.peak,
            written: run.daemon.written + run.leaf.written,
        };
        let missed = run.missed.to_string();
        let lost = [missed, run.dropped.to_string()];
        let nothing = || ["-".to_owned(), "-".to_owned()];
        cost.row(cells("tidegate daemon", &run, run.daemon, lost.clone(), of_peer));
        cost.row(cells("  its leaf (nats-server)", &run, run.leaf, nothing(), of_peer));
        cost.row(cells("  both", &run, both, lost, of_peer));
        let at = |share: f64| quantile(&run.latencies, share);
        times.row([
            run.tags.to_string(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            run.latencies.len().to_string(),
            run.unmatched.to_string(),
            figure(run.first_value.as_secs_f64()),
        ]);
    }
    if let Some(peer) = &peer {
        let unknown = ["-".to_owned(), "-".to_owned()];
        cost.row(cells("Node-RED", peer, peer.daemon, unknown, Some(peer)));
    }
    cost.note("PLC: `tidegate sim`, counters that change with every poll; 5,000 tags to a device; every value is published to a subscriber of all, recorded and delivered over mTLS");
    cost.note("CPU in percent of one core; memory at the end of the time");
    times.note("stamped in one process: by a tap before the answer's first byte goes to the gateway, and when the subscriber's read returns");
    times.note("'overtaken': another answer with the same tag came before the value was received; 'first value': from starting the process, with an empty journal");
    figures.add(cost);
    figures.add(times);
    figures.finish();
    Ok(())
}

struct Run {
    tags: u64,
    read_per_s: f64,
    daemon: Cost,
    leaf: Cost,
    missed: u64,
    /// What any queue of the daemon dropped.
    dropped: u64,
    latencies: Vec<Duration>,
    unmatched: u64,
    first_value: Duration,
}

fn cells(
    name: &str,
    run: &Run,
    cost: Cost,
    [missed, dropped]: [String; 2],
    peer: Option<&Run>,
) -> [String; 13] {
    [
        name.to_owned(),
        run.tags.to_string(),
        figure(run.read_per_s),
        figure(cost.cpu),
        figure(cost.resident),
        figure(cost.proportional),
        figure(cost.anonymous),
        figure(cost.peak),
        figure(cost.written / 1e3),
        missed,
        dropped,
        peer.map_or("-".to_owned(), |peer| ratio(cost.resident, peer.daemon.resident)),
        peer.map_or("-".to_owned(), |peer| ratio(cost.cpu, peer.daemon.cpu)),
    ]
}

fn quantile(sorted: &[Duration], share: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index below the length"
    )]
    let at = (float(sorted.len().saturating_sub(1) as u64) * share) as usize;
    sorted.get(at).map_or("-".to_owned(), |time| figure(time.as_secs_f64() * 1e3))
}

/// What was used between two looks, in percent of a core and bytes a second; memory as it is now.
fn between(before: Cost, after: Cost, took: Duration) -> Cost {
    let seconds = took.as_secs_f64();
    Cost {
        cpu: (after.cpu - before.cpu) / seconds * 100.0,
        written: (after.written - before.written) / seconds,
        ..after
    }
}

fn registers(taps: &[Tap]) -> u64 {
    taps.iter().map(Tap::registers).sum()
}

async fn gateway(scratch: &Path, devices: usize, window: Duration) -> anyhow::Result<Run> {
    let tags = devices * TAGS_PER_DEVICE;
    progress(&format!("tidegate with {tags} tags, {} s", (WARM_UP + window).as_secs()));
    let directory = scratch.join(format!("tags-{tags}"));
    std::fs::create_dir_all(&directory)?;
    let family = Family::new()?;
    let hub = Hub::start(&family, &directory.join("hub"), &[GATEWAY]).await?;
    let (_sim, plc) = plant::start_sim(&family, &directory).await?;
    let mut taps = Vec::new();
    for _ in 0..devices {
        taps.push(Tap::before(plc, TAGS_PER_DEVICE).await?);
    }
    let plcs: Vec<_> = taps.iter().map(|tap| tap.address).collect();
    let leaf_port = plant::free_port()?;
    let plan = Plan {
        hub: hub.leafs()?,
        credentials: &hub.credentials(GATEWAY)?,
        stream: hub.stream()?,
        domain: hub.domain()?,
        plcs: &plcs,
        tags_per_device: TAGS_PER_DEVICE,
        leaf_port,
        max_journal: "1 GiB",
    };
    let config = plant::configure(&directory.join("gateway"), &plan)?;
    let subscriber = Subscriber::start(leaf_port, taps.iter().map(Tap::stamps).collect());
    let mut daemon = Daemon::start(&family, &config)?;
    let first = wait::until(PATIENCE, "a first value", || {
        let first = subscriber.first();
        async move { Ok(first) }
    })
    .await?;
    daemon.delivered(PATIENCE).await?;
    tokio::time::sleep(WARM_UP).await;

    let (id, leaf) = (daemon.process.id(), daemon.leaf()?);
    let status = daemon.status()?;
    let (missed_before, dropped_before) = (missed(&status)?, dropped(&status));
    drop(subscriber.take_latencies());
    let (unmatched, messages) = (subscriber.unmatched(), subscriber.messages());
    let (read, begun) = (registers(&taps), Instant::now());
    let before = (cost_of(id)?, cost_of(leaf)?);
    tokio::time::sleep(window).await;
    let after = (cost_of(id)?, cost_of(leaf)?);
    let took = begun.elapsed();
    let read = registers(&taps) - read;
    let latencies = subscriber.take_latencies();
    let received = subscriber.messages() - messages;
    let unmatched = subscriber.unmatched() - unmatched;
    let status = daemon.status()?;
    let missed = missed(&status)? - missed_before;
    let dropped = dropped(&status) - dropped_before;
    subscriber.stop()?;
    let refused: u64 = taps.iter().map(Tap::refused).sum();
    anyhow::ensure!(refused == 0, "the PLC refused {refused} requests");
    progress(&format!("{received} values received of {} read", read / REGISTERS));
    daemon.process.stop(PATIENCE).await?;
    Ok(Run {
        tags: tags as u64,
        read_per_s: float(read / REGISTERS) / took.as_secs_f64(),
        daemon: between(before.0, after.0, took),
        leaf: between(before.1, after.1, took),
        missed,
        dropped,
        latencies,
        unmatched,
        first_value: first.saturating_duration_since(daemon.begun),
    })
}

/// Polls and readings that did not come about, whatever the cause.
fn missed(status: &Value) -> anyhow::Result<u64> {
    let devices = status["devices"].as_array().context("the status names no devices")?;
    let causes = devices.iter().filter_map(|device| device["missed"].as_object());
    Ok(causes.flat_map(|causes| causes.values()).filter_map(|cause| cause["slots"].as_u64()).sum())
}

/// What queues let go since the start; each such counter is named in the progress.
fn dropped(status: &Value) -> u64 {
    let counters = status["counters"].as_object().into_iter().flatten();
    let of_queues =
        counters.filter(|(name, _)| name.contains("overflow") || name.contains("dropped"));
    let mut sum = 0;
    for (name, count) in of_queues {
        let count = count.as_u64().unwrap_or(0);
        if count > 0 {
            progress(&format!("{name} {count}"));
        }
        sum += count;
    }
    sum
}

async fn peer(scratch: &Path, place: &Path, window: Duration) -> anyhow::Result<Run> {
    let tags = TAGS_PER_DEVICE;
    progress(&format!("Node-RED with {tags} tags, {} s", (WARM_UP + window).as_secs()));
    let directory = scratch.join("peer");
    std::fs::create_dir_all(&directory)?;
    let family: Arc<Family> = Family::new()?;
    let (_sim, plc) = plant::start_sim(&family, &directory).await?;
    let taps = [Tap::before(plc, tags).await?];
    let begun = Instant::now();
    let process =
        node_red::start(&family, place, &directory.join("node-red"), taps[0].address, tags)?;
    let first = wait::until(PATIENCE, "Node-RED reads", || {
        let found = (taps[0].answers() > 0).then(Instant::now);
        async move { Ok(found) }
    })
    .await
    .with_context(|| process.printed_since(0).unwrap_or_default())?;
    tokio::time::sleep(WARM_UP).await;
    let (read, from) = (registers(&taps), Instant::now());
    let before = cost_of(process.id())?;
    tokio::time::sleep(window).await;
    let after = cost_of(process.id())?;
    let took = from.elapsed();
    let read = registers(&taps) - read;
    Ok(Run {
        tags: tags as u64,
        read_per_s: float(read / REGISTERS) / took.as_secs_f64(),
        daemon: between(before, after, took),
        leaf: Cost::default(),
        missed: 0,
        dropped: 0,
        latencies: Vec::new(),
        unmatched: 0,
        first_value: first.saturating_duration_since(begun),
    })
}
