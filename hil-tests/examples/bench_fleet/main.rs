//! A thousand uplinks on one stream: what a hub takes in, what it costs, and what a leaf has to know.
//!
//! `cargo xtask bench fleet [-- --uplinks 1000 --seconds 10 --json]`
//!
//! # Invariants
//! - The hub is one real nats-server, configured by the binary: mutual TLS for each uplink with a
//!   certificate and permissions of its own, accounts apart, every message synced before it is
//!   acknowledged.
//! - An uplink is a leaf link without a daemon and a leaf process behind it, which would need 25 GB
//!   of memory for a thousand. It sends one message at a time, as the uplink does.
//! - Each row is beside one uplink alone on the same hub, in the same run.

#[path = "../figures/mod.rs"]
mod figures;
mod light;
#[path = "../plant/mod.rs"]
mod plant;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use figures::{Figures, Table, figure, float, option, progress, ratio};
use light::{Delivered, Light, Pace, QUESTIONS};
use plant::{Scratch, cost_of};
use tidegate_hil_tests::family::Family;
use tidegate_hil_tests::hub::Hub;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A message of an uplink that has little to say, and of one that drains.
const SMALL: usize = 4 << 10;
const LARGE: usize = 64 << 10;
/// How often an uplink with little to say sends.
const SELDOM: Duration = Duration::from_secs(5);

/// What was under way before a phase is over by then.
const SETTLING: Duration = Duration::from_secs(5);

/// What one phase came to.
struct Phase {
    what: String,
    pace: Pace,
    from: Instant,
    to: Instant,
    hub_cpu: f64,
    own_cpu: f64,
    resident: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let scratch = Scratch::new("fleet")?;
    let number = |name: &str, otherwise: usize| {
        option(name).map_or(Ok(otherwise), |text| text.parse::<usize>())
    };
    let uplinks = number("--uplinks", 1_000)?;
    let lasting = Duration::from_secs(u64::try_from(number("--seconds", 10)?)?);
    let mut figures = Figures::new("fleet", &scratch.0);

    let names: Vec<_> = (0..uplinks).map(|number| format!("PlantA/gw-{number}")).collect();
    let family = Family::new()?;
    progress(&format!("a hub that admits {uplinks} gateways"));
    let admitted: Vec<_> = names.iter().map(String::as_str).collect();
    let hub = Hub::start(&family, &scratch.0.join("hub"), &admitted).await?;
    let (server, leafs) = (hub.pid_of(0)?, hub.leafs()?);

    let (pace, paces) = watch::channel(Pace::Idle);
    let mut phases = Vec::new();
    let mut results = Vec::new();
    // One alone, then all of them.
    for count in [1, uplinks] {
        let begun = Instant::now();
        let before = cost_of(server)?;
        let mut running = JoinSet::new();
        let free = Arc::new(tokio::sync::Semaphore::new(32));
        for (at, name) in names.iter().take(count).enumerate() {
            let turn = float(u64::try_from(at)?) / float(u64::try_from(count)?);
            let (credentials, name) = (hub.credentials(name)?, name.clone());
            let (paces, free) = (paces.clone(), Arc::clone(&free));
            let permit = free.acquire_owned().await?;
            running.spawn(async move {
                let linked = Light::linked(leafs, &name, &credentials).await;
                drop(permit);
                linked.with_context(|| name)?.run(paces, turn).await
            });
        }
        drop(free.acquire_many(32).await?);
        let after = cost_of(server)?;
        progress(&format!(
            "{count} linked within {:.1} s, {:.1} s of the hub's processor",
            begun.elapsed().as_secs_f64(),
            after.cpu - before.cpu
        ));
        let idle = (count > 1).then_some(Pace::Idle);
        let seldom = (count > 1).then_some(Pace::Every(SELDOM, SMALL));
        let all = [idle, seldom, Some(Pace::FlatOut(SMALL)), Some(Pace::FlatOut(LARGE))];
        let mut own = Vec::new();
        for now in all.into_iter().flatten() {
            own.push(measured(&pace, now, count, server, lasting).await?);
        }
        pace.send(Pace::Over)?;
        let mut delivered = Vec::new();
        while let Some(ended) = running.join_next().await {
            delivered.push(ended??);
        }
        // The next ones begin with nothing to do; the subject of the first goes on elsewhere.
        pace.send(Pace::Idle)?;
        results.push((count, delivered));
        phases.push(own);
        ensure!(results.iter().all(|(_, all)| !all.is_empty()), "no uplink came to an end");
        if count == 1 {
            hub_forgets(&hub).await?;
        }
    }
    figures.add(rates(&phases, &results));
    figures.add(interest(&results));
    figures.finish();
    Ok(())
}

/// The stream is purged between one uplink and all of them, so that each expects nothing there.
async fn hub_forgets(hub: &Hub) -> anyhow::Result<()> {
    let (url, stream) = (hub.admin_url()?, hub.stream()?);
    tidegate_hil_tests::stream::put(&url, stream, &[]).await
}

async fn measured(
    pace: &watch::Sender<Pace>,
    now: Pace,
    count: usize,
    server: u32,
    lasting: Duration,
) -> anyhow::Result<Phase> {
    let what = match now {
        Pace::Every(pause, bytes) => {
            format!("{count}, {} KiB every {} s", bytes >> 10, pause.as_secs())
        }
        Pace::FlatOut(bytes) => format!("{count}, {} KiB flat out", bytes >> 10),
        _ => format!("{count}, idle"),
    };
    progress(&what);
    pace.send(now)?;
    tokio::time::sleep(SETTLING).await;
    let (hub_before, own_before) = (cost_of(server)?, cost_of(std::process::id())?);
    let from = Instant::now();
    tokio::time::sleep(lasting).await;
    let to = Instant::now();
    let (hub_after, own_after) = (cost_of(server)?, cost_of(std::process::id())?);
    let share = |before: f64, after: f64| (after - before) / (to - from).as_secs_f64() * 100.0;
    Ok(Phase {
        what,
        pace: now,
        from,
        to,
        hub_cpu: share(hub_before.cpu, hub_after.cpu),
        own_cpu: share(own_before.cpu, own_after.cpu),
        resident: hub_after.resident,
    })
}

fn rates(phases: &[Vec<Phase>], results: &[(usize, Vec<Delivered>)]) -> Table {
    let columns = [
        "uplinks",
        "messages/s",
        "MB/s",
        "ack p50 ms",
        "ack p99 ms",
        "hub CPU %",
        "hub CPU ms/message",
        "hub RSS MiB",
        "load's CPU %",
        "times one alone",
    ];
    let mut table = Table::new("one stream, one server, every message synced", &columns);
    let mut alone = Vec::new();
    for (own, (count, delivered)) in phases.iter().zip(results) {
        for phase in own {
            let within = |at: &Instant| (phase.from..phase.to).contains(at);
            let acks = delivered.iter().flat_map(|one| &one.acks);
            let mut took: Vec<_> =
                acks.filter(|(at, _)| within(at)).map(|(_, took)| took.as_secs_f64()).collect();
            took.sort_by(f64::total_cmp);
            let seconds = (phase.to - phase.from).as_secs_f64();
            let rate = float(u64::try_from(took.len()).unwrap_or(0)) / seconds;
            let bytes = match phase.pace {
                Pace::Every(_, bytes) | Pace::FlatOut(bytes) => bytes,
                _ => 0,
            };
            if *count == 1 {
                alone.push((phase.pace, rate));
            }
            let of = alone.iter().find(|(pace, _)| *pace == phase.pace).map_or(0.0, |(_, it)| *it);
            let part = |part: usize| {
                let at = took.len() * part / 100;
                took.get(at).map_or_else(|| "-".to_owned(), |it| figure(it * 1_000.0))
            };
            table.row([
                phase.what.clone(),
                figure(rate),
                figure(rate * float(u64::try_from(bytes).unwrap_or(0)) / 1e6),
                part(50),
                part(99),
                figure(phase.hub_cpu),
                ratio(phase.hub_cpu * 10.0, rate),
                figure(phase.resident),
                figure(phase.own_cpu),
                ratio(rate, of),
            ]);
        }
    }
    table.note("100 % is one core; the load runs on the same cores");
    table
}

fn interest(results: &[(usize, Vec<Delivered>)]) -> Table {
    let columns = ["uplinks", "subscriptions at the hub", "least of a leaf", "most of a leaf"];
    let mut table = Table::new("what the hub tells a leaf of its subscriptions", &columns);
    for (count, delivered) in results {
        let told: Vec<_> = delivered.iter().map(|one| one.subscriptions).collect();
        let text =
            |count: Option<&usize>| count.map_or_else(|| "-".to_owned(), ToString::to_string);
        table.row([
            count.to_string(),
            (count * (QUESTIONS + 1)).to_string(),
            text(told.iter().min()),
            text(told.iter().max()),
        ]);
    }
    table.note(format!("each leaf has {QUESTIONS} questions and an inbox"));
    table
}
