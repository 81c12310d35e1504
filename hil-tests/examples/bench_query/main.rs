//! Questions to a gateway: frames from memory, a day of record with and without its sidecars, and
//! the running daemon through its leaf while everything is scanned; beside SQLite.
//!
//! `cargo xtask bench query [-- --tags 1000 --hours 24 --only frames|peer|record|gateway --json]`
//!
//! # Invariants
//! - A day is made by the journal and the packer themselves, in frames as the recorder makes them,
//!   and removed at the end.
//! - The peer has the very same samples, of an hour, in a table clustered by tag and time: the
//!   best that it can have for one tag.

mod day;
#[path = "../figures/mod.rs"]
mod figures;
mod gateway;
#[path = "../plant/mod.rs"]
mod plant;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use figures::{Figures, Table, figure, float, option, progress, ratio};
use gateway::Asker;
use plant::{Daemon, Scratch, cost_of};
use serde_json::{Value, json};
use tidegate_hil_tests::family::Family;

const PATIENCE: Duration = Duration::from_secs(60);
/// Questions of one kind that are timed.
const TIMES: usize = 3_000;
/// How long the record is scanned beside collection, and how long collection is watched without.
const WATCHED: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let scratch = Scratch::new("query")?;
    let mut figures = Figures::new("query", &scratch.0);
    let tags = option("--tags").unwrap_or_else(|| "1000".into());
    let hours: u64 = option("--hours").map_or(Ok(24), |text| text.parse())?;

    let only = option("--only");
    let is_wanted = |part: &str| only.as_ref().is_none_or(|only| only == part);
    if is_wanted("frames") {
        progress("frames from memory");
        figures.add(frames(&day::say(&["frames"], None)?));
    }
    if is_wanted("peer") {
        progress("an hour beside SQLite");
        let hour = scratch.0.join("hour");
        day::say(&["make", &tags, "3600"], Some(&hour))?;
        let ours = day::say(&["ask", &tags], Some(&hour))?;
        let peer = day::sqlite(&scratch.0.join("hour.db"), &tags, "3600")?;
        figures.add(beside(&ours, peer.as_ref()));
        std::fs::remove_dir_all(&hour)?;
        let _ = std::fs::remove_file(scratch.0.join("hour.db"));
    }
    if !is_wanted("record") && !is_wanted("gateway") {
        figures.finish();
        return Ok(());
    }

    progress(&format!("{hours} hours of {tags} tags"));
    let gateway = scratch.0.join("gateway");
    std::fs::create_dir_all(&gateway)?;
    let journal = gateway.join("journal");
    let seconds = (hours * 3_600).to_string();
    let made = day::say(&["make", &tags, &seconds], Some(&journal))?;
    if is_wanted("record") {
        let asked = day::say(&["ask", &tags], Some(&journal))?;
        figures.add(record(&tags, hours, &made, &asked));
    }
    if is_wanted("gateway") {
        running(&gateway, tags.parse()?, &made, &mut figures).await?;
    }
    figures.finish();
    Ok(())
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or(0.0)
}

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or("-").to_owned()
}

fn of_table<'a>(rows: &'a [Value], table: &'a str) -> impl Iterator<Item = &'a Value> {
    rows.iter().filter(move |row| row["table"] == table)
}

fn frames(rows: &[Value]) -> Table {
    let columns = ["frame", "B/sample", "reading", "M samples/s of a core"];
    let mut table = Table::new("Reading frames from memory", &columns);
    for row in of_table(rows, "frames") {
        table.row([
            text(row, "frame"),
            figure(number(row, "bytes_per_sample")),
            text(row, "how"),
            figure(number(row, "samples_per_s") / 1e6),
        ]);
    }
    table.note("best round by the thread's processor time; values as PLCs send them: states, constants, counters, tenths, noise");
    table.note(
        "'buckets': count, sum and extremes of each tag; 'whole': what `tap` makes of a frame",
    );
    table
}

fn beside(ours: &[Value], peer: Option<&(String, Vec<Value>)>) -> Table {
    let columns = ["question", "tidegate ms", "SQLite ms", "SQLite ÷ tidegate", "rows"];
    let mut table = Table::new("An hour beside SQLite", &columns);
    let Some((version, peer)) = peer else {
        table.note("no peer: there is no Python with sqlite3");
        return table;
    };
    for row in of_table(ours, "ask") {
        let Some(theirs) = peer.iter().find(|theirs| theirs["what"] == row["what"]) else {
            continue;
        };
        let (own, theirs) = (number(row, "cpu_s") * 1e3, number(theirs, "cpu_s") * 1e3);
        table.row([
            text(row, "what"),
            figure(own),
            figure(theirs),
            ratio(theirs, own),
            row["rows"].to_string(),
        ]);
    }
    let files = of_table(ours, "files").next().cloned().unwrap_or_default();
    let (samples, bytes) = (number(&files, "samples"), number(&files, "journal_bytes"));
    let theirs = peer.iter().find(|row| !row["bytes"].is_null()).cloned().unwrap_or_default();
    table.note(format!(
        "SQLite {version}, WITHOUT ROWID, key (tag, time), all in its cache, rows as Python tuples; \
         tidegate's rows are JSON with units and RFC 3339; processor time",
    ));
    table.note(format!(
        "bytes a sample: tidegate {} in whole segments of 8 MiB, SQLite {}",
        figure(bytes / samples),
        figure(number(&theirs, "bytes") / number(&theirs, "samples"))
    ));
    table
}

fn record(tags: &str, hours: u64, made: &[Value], asked: &[Value]) -> Table {
    let columns =
        ["question", "rows", "ms", "CPU ms", "M samples/s of a core", "kB read", "% of the record"];
    let mut table = Table::new(format!("{hours} h of {tags} tags @1 s, from files"), &columns);
    for row in of_table(asked, "ask") {
        table.row([
            text(row, "what"),
            row["rows"].to_string(),
            figure(number(row, "seconds") * 1e3),
            figure(number(row, "cpu_s") * 1e3),
            figure(number(row, "samples_per_core_s") / 1e6),
            figure(number(row, "bytes_read") / 1e3),
            figure(number(row, "read_percent")),
        ]);
    }
    let made = of_table(made, "day").next().cloned().unwrap_or_default();
    let files = of_table(asked, "files").next().cloned().unwrap_or_default();
    let (journal, sidecars) = (number(&files, "journal_bytes"), number(&files, "sidecar_bytes"));
    table.note(format!(
        "{} M samples in {} frames, {} bytes a sample; journal {} MB, sidecars {} MB ({} %)",
        figure(number(&made, "samples") / 1e6),
        made["frames"],
        figure(number(&made, "bytes_per_sample")),
        figure(journal / 1e6),
        figure(sidecars / 1e6),
        figure(sidecars * 100.0 / journal)
    ));
    table.note("files in the page cache; 'the first question' finds sidecars on the disk and nothing in memory");
    table
}

fn quantile(sorted: &[Duration], per_mille: usize) -> String {
    let at = (sorted.len().saturating_sub(1)) * per_mille / 1_000;
    sorted.get(at).map_or_else(|| "-".to_owned(), |time| figure(time.as_secs_f64() * 1e3))
}

/// Polls that did not come about, whatever the cause.
fn missed(status: &Value) -> anyhow::Result<u64> {
    let devices = status["devices"].as_array().context("the status names no devices")?;
    let causes = devices.iter().filter_map(|device| device["missed"].as_object());
    Ok(causes.flat_map(|causes| causes.values()).filter_map(|cause| cause["slots"].as_u64()).sum())
}

async fn running(
    directory: &Path,
    tags: u32,
    made: &[Value],
    figures: &mut Figures,
) -> anyhow::Result<()> {
    progress("the running gateway");
    let family = Family::new()?;
    let (_sim, plc) = plant::start_sim(&family, directory).await?;
    let leaf_port = gateway::free_port()?;
    let config = gateway::configure(directory, plc, leaf_port, tags)?;
    let mut daemon = Daemon::start(&family, &config)?;
    daemon.samples(PATIENCE).await?;
    let asker = Arc::new(Asker::connected(leaf_port).await?);
    let made = of_table(made, "day").next().context("no day was made")?;
    let moment = |key: &str| {
        let at = made[key].as_i64().context("a time")?;
        anyhow::Ok(jiff::Timestamp::from_nanosecond(at.into())?.to_string())
    };
    let (from, to) = (moment("from")?, moment("to")?);

    let columns = ["question", "p50 ms", "p99 ms", "max ms", "rows"];
    let mut times = Table::new("Questions through the leaf", &columns);
    let one = json!({ "tags": ["PlantA/Bench/D0/t507"] });
    let day = json!({
        "tags": ["PlantA/Bench/D0/t507"], "from": from, "to": to, "every": "5m",
    });
    let all = json!({ "tags": ["PlantA/Bench/**"] });
    let questions = [
        ("latest, one tag", "latest", &one, TIMES),
        ("latest, every tag", "latest", &all, TIMES / 10),
        ("tags, one", "tags", &one, TIMES),
        ("history, one tag, whole day, every 5 min", "history", &day, TIMES / 30),
    ];
    for (what, op, question, count) in questions {
        // The first one of a kind may have to open files.
        let (answer, _) = asker.ask(op, question).await.with_context(|| what.to_owned())?;
        let took = asker.times(op, question, count).await?;
        let rows = answer["rows"].as_array().map_or(0, Vec::len);
        times.row([
            what.to_owned(),
            quantile(&took, 500),
            quantile(&took, 990),
            quantile(&took, 1_000),
            rows.to_string(),
        ]);
    }

    figures.add(times);

    let columns = [
        "beside collection",
        "missed polls",
        "samples acquired/s",
        "scanned M samples/s",
        "daemon CPU %",
        "latest p50 ms",
        "latest p99 ms",
    ];
    let mut collection = Table::new("Collection while the record is scanned", &columns);
    let scan = json!({
        "tags": ["PlantA/Bench/**"], "from": from, "to": to, "every": "4m", "agg": ["count"],
    });
    let samples = made["samples"].as_u64().unwrap_or(0);
    for scanned in [false, true] {
        progress(if scanned { "a scan at full speed" } else { "nothing is asked" });
        let stop = Arc::new(AtomicBool::new(false));
        let scanning = scanned.then(|| {
            let (asker, scan, stop) = (Arc::clone(&asker), scan.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut scans = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let (_, _, summary) = asker.stream(scan.clone()).await?;
                    anyhow::ensure!(summary["partial"].is_null(), "a scan was cut: {summary}");
                    scans += 1;
                }
                anyhow::Ok((scans, Instant::now()))
            })
        });
        let id = daemon.process.id();
        let begun = Instant::now();
        let before =
            (missed(&daemon.status()?)?, daemon.counter("samples_acquired")?, cost_of(id)?);
        let mut took = Vec::new();
        while begun.elapsed() < WATCHED {
            took.push(asker.ask("latest", &one).await?.1);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        took.sort_unstable();
        stop.store(true, Ordering::Relaxed);
        let after = (missed(&daemon.status()?)?, daemon.counter("samples_acquired")?, cost_of(id)?);
        let seconds = begun.elapsed().as_secs_f64();
        let rate = match scanning {
            Some(scanning) => {
                let (scans, ended) = scanning.await??;
                let took = ended.saturating_duration_since(begun).as_secs_f64();
                figure(float(scans * samples) / took / 1e6)
            }
            None => "-".to_owned(),
        };
        collection.row([
            if scanned { "a scan of everything, again and again" } else { "nothing" }.to_owned(),
            (after.0 - before.0).to_string(),
            figure(float(after.1 - before.1) / seconds),
            rate,
            figure((after.2.cpu - before.2.cpu) / seconds * 100.0),
            quantile(&took, 500),
            quantile(&took, 990),
        ]);
    }
    collection.note("`history` of every tag in steps of 4 min, which no sidecar has, streamed with credit to a client on the same cores");
    daemon.process.stop(PATIENCE).await?;
    figures.add(collection);
    Ok(())
}
