//! The whole recorder: real ingress, writer thread, journal on this disk; then the same with a
//! publisher beside it. Peers write the same samples to a file of their own, as JSON lines and as
//! postcard, made durable as often.
//!
//! Processor times are what is compared: elapsed time depends on what else the machine does.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tidegate::live::LiveQueue;
use tidegate::observe::state::Board;
use tidegate::recorder::{Ingress, Losses, Recorder, SystemClock};
use tidegate::supervise::Pulses;
use tidegate_journal::{DirStorage, Journal, Reader, Settings};
use tidegate_record::catalog::Definition;
use tidegate_translator::{CancellationToken, Sample, Sink as _, TagPath, ValueKind};

use crate::Failure;
use crate::codec::json_lines;
use crate::live::Leaf;
use crate::signals::{SIGNALS, Signal, TAGS, batch};

/// Samples of one row: some seconds of work.
const SAMPLES: i64 = 2_000_000;
/// Samples in a batch: one answered scan of all tags.
const SCAN: i64 = 100;
/// How many may wait for the recorder before the feeder does.
const AHEAD: usize = 100_000;
/// A peer makes durable what the recorder would: its largest commit.
const PEER_COMMIT: usize = 174_762;
/// The largest gateway that is planned for: 50,000 tags, each read once a second.
const PLANNED_RATE: i64 = 50_000;

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    what: &'static str,
    signal: &'static str,
    samples: i64,
    elapsed_s: f64,
    samples_per_s: f64,
    /// Of the feeding thread: handing batches over.
    feed_ns: f64,
    /// Of the thread that writes: packing, hashing, the kernel's writing.
    write_ns: f64,
    /// Of everything else: the publisher, its client.
    other_ns: f64,
    /// Samples that the writing thread takes in one second of one core.
    samples_per_core_s: f64,
    /// The whole process, in cores.
    cores: f64,
    bytes_per_sample: f64,
    published: u64,
    not_published: u64,
    lost: u64,
}

pub(crate) fn rows() -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (name, value) in SIGNALS {
        rows.push(record("recorder alone", name, value, SAMPLES, None, None)?);
    }
    let (name, value) = SIGNALS[SIGNALS.len() - 1];
    rows.push(peer("JSON lines", name, value, json_lines)?);
    rows.push(peer("postcard", name, value, |b| postcard::to_stdvec(b).unwrap_or_default())?);
    match Leaf::start()? {
        Some(leaf) => {
            let planned = Some(PLANNED_RATE);
            rows.push(record("recorder, 50k/s", name, value, 5 * PLANNED_RATE, planned, None)?);
            rows.push(record(
                "  + live, 50k/s",
                name,
                value,
                5 * PLANNED_RATE,
                planned,
                Some(&leaf),
            )?);
            rows.push(record("  + live, flat out", name, value, SAMPLES, None, Some(&leaf))?);
        }
        None => eprintln!(
            "no nats-server, so nothing was published: cargo xtask setup, or name one with \
             TIDEGATE_NATS_SERVER"
        ),
    }
    Ok(rows)
}

fn cpu(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn batches(value: Signal, samples: i64) -> Vec<Vec<Sample>> {
    let scans = SCAN / i64::from(TAGS);
    (0..samples / SCAN).map(|n| batch(value, n * scans, SCAN)).collect()
}

struct Run {
    board: Arc<Board>,
    ingress: Ingress,
    live: Arc<LiveQueue>,
    stop: CancellationToken,
    writer: std::thread::JoinHandle<Duration>,
}

fn begin(dir: &Path) -> Result<Run, Failure> {
    let clock = Arc::new(SystemClock);
    let board = Arc::new(Board::new("PlantA/gw-1".parse()?, clock.clone()));
    let live = Arc::new(LiveQueue::new(Arc::clone(&board)));
    let losses = Arc::new(Losses::new(clock.clone()));
    let (ingress, queue) =
        Ingress::new(Arc::clone(&board), Arc::clone(&live), Arc::clone(&losses), clock.clone());
    let storage = Arc::new(DirStorage::new(dir)?);
    let settings = Settings::new("PlantA", "gw-1", 1 << 30);
    let commit_every = Duration::from_secs(1);
    let (writer, handle) = Recorder::open(
        dir,
        move |stamp, reader: &Reader| {
            Journal::open_for(reader, storage.clone(), settings.clone(), stamp)
        },
        commit_every,
        queue,
        losses,
        Arc::clone(&board),
        clock,
    )?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pulse = Pulses::new(Duration::from_secs(60)).register("recorder");
    let writer = std::thread::spawn(move || {
        runtime.block_on(writer.run(pulse, stopped));
        cpu(ClockId::ThreadCPUTime)
    });
    let asking = tokio::runtime::Builder::new_current_thread().build()?;
    asking.block_on(handle.define(definitions()?))?;
    Ok(Run { board, ingress, live, stop, writer })
}

/// The catalog's entries of the tags that the signals number from 0; numbers begin at 1, so one
/// more than there are.
fn definitions() -> Result<Vec<Definition>, Failure> {
    let definition = |tag: u32| {
        Ok(Definition {
            path: TagPath::new(format!("PlantA/Line3/Press1/tag{tag}"))?,
            kind: ValueKind::F64,
            unit: Some("degC".into()),
            device: "press-1".into(),
            address: format!("holding:{tag}").into(),
            source: "modbus".into(),
        })
    };
    (0..=TAGS).map(definition).collect()
}

fn record(
    what: &'static str,
    signal: &'static str,
    value: Signal,
    samples: i64,
    per_second: Option<i64>,
    leaf: Option<&Leaf>,
) -> Result<Row, Failure> {
    let batches = batches(value, samples);
    let dir = tempfile::tempdir()?;
    let run = begin(dir.path())?;
    let publishing = match leaf {
        Some(leaf) => Some(leaf.publish(Arc::clone(&run.live), Arc::clone(&run.board))?),
        None => None,
    };
    let (process, thread) = (cpu(ClockId::ProcessCPUTime), cpu(ClockId::ThreadCPUTime));
    let begun = Instant::now();
    for (number, batch) in (0..).zip(batches) {
        if let Some(rate) = per_second {
            let due = Duration::from_secs_f64((number * SCAN) as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        while run.ingress.waiting() > AHEAD {
            std::thread::sleep(Duration::from_millis(1));
        }
        run.ingress.samples(batch);
    }
    let feed = cpu(ClockId::ThreadCPUTime) - thread;
    run.stop.cancel();
    let write = run.writer.join().map_err(|_| "the writer panicked")?;
    let elapsed = begun.elapsed();
    drop(publishing);
    let all = cpu(ClockId::ProcessCPUTime) - process;
    let counters = &run.board.counters;
    let recorded = counters.samples_recorded.read();
    let lost = counters.recorder_overflow.read();
    if recorded + lost != u64::try_from(samples)? {
        return Err(format!("{recorded} recorded and {lost} lost of {samples}").into());
    }
    let not_published = counters.live_overflow.read()
        + counters.live_late.read()
        + counters.live_disconnected.read();
    let other = all.saturating_sub(feed + write);
    let bytes = written(dir.path())?;
    let count = samples as f64;
    let each = |time: Duration| time.as_nanos() as f64 / count;
    Ok(Row {
        what,
        signal,
        samples,
        elapsed_s: elapsed.as_secs_f64(),
        samples_per_s: count / elapsed.as_secs_f64(),
        feed_ns: each(feed),
        write_ns: each(write),
        other_ns: each(other),
        samples_per_core_s: count / write.as_secs_f64(),
        cores: all.as_secs_f64() / elapsed.as_secs_f64(),
        bytes_per_sample: bytes as f64 / count,
        published: counters.live_published.read(),
        not_published: if leaf.is_some() { not_published } else { 0 },
        lost,
    })
}

/// The bytes of frames in a closed journal, envelopes and headers included.
fn written(dir: &Path) -> Result<usize, Failure> {
    let storage: Arc<dyn tidegate_journal::Storage> = Arc::new(DirStorage::new(dir)?);
    let (reader, _) = tidegate_journal::inspect(&storage)?;
    let mut bytes = 0;
    for span in reader.epochs() {
        let mut at = span.first_frame;
        while let tidegate_journal::Read::Frames(batch) =
            reader.read_from(span.epoch, at, 1 << 20)?
        {
            bytes += batch.bytes.len();
            at = batch.next().unwrap_or(u64::MAX);
        }
    }
    Ok(bytes)
}

fn peer(
    what: &'static str,
    signal: &'static str,
    value: Signal,
    encode: impl Fn(&[Sample]) -> Vec<u8>,
) -> Result<Row, Failure> {
    let batches = batches(value, SAMPLES);
    let dir = tempfile::tempdir()?;
    let mut file = File::create(dir.path().join("peer"))?;
    let (thread, begun) = (cpu(ClockId::ThreadCPUTime), Instant::now());
    let (mut bytes, mut unsynced) = (0, 0);
    for batch in &batches {
        let encoded = encode(batch);
        file.write_all(&encoded)?;
        bytes += encoded.len();
        unsynced += batch.len();
        if unsynced >= PEER_COMMIT {
            file.sync_data()?;
            unsynced = 0;
        }
    }
    file.sync_data()?;
    let (write, elapsed) = (cpu(ClockId::ThreadCPUTime) - thread, begun.elapsed());
    let count = SAMPLES as f64;
    Ok(Row {
        what,
        signal,
        samples: SAMPLES,
        elapsed_s: elapsed.as_secs_f64(),
        samples_per_s: count / elapsed.as_secs_f64(),
        feed_ns: 0.0,
        write_ns: write.as_nanos() as f64 / count,
        other_ns: 0.0,
        samples_per_core_s: count / write.as_secs_f64(),
        cores: write.as_secs_f64() / elapsed.as_secs_f64(),
        bytes_per_sample: bytes as f64 / count,
        published: 0,
        not_published: 0,
        lost: 0,
    })
}

pub(crate) fn print(rows: &[Row]) {
    println!(
        "\n{:>18} {:>10} | {:>9} {:>7} {:>8} {:>8} {:>8} {:>11} {:>6} | {:>8} | {:>9} {:>9} {:>5}",
        "",
        "signal",
        "samples/s",
        "elapsed",
        "feed ns",
        "write ns",
        "other ns",
        "write: /s·core",
        "cores",
        "B/sample",
        "published",
        "left out",
        "lost"
    );
    for row in rows {
        println!(
            "{:>18} {:>10} | {:>9.0} {:>7.2} {:>8.0} {:>8.0} {:>8.0} {:>14.0} {:>6.2} | {:>8.2} | \
             {:>9} {:>9} {:>5}",
            row.what,
            row.signal,
            row.samples_per_s,
            row.elapsed_s,
            row.feed_ns,
            row.write_ns,
            row.other_ns,
            row.samples_per_core_s,
            row.cores,
            row.bytes_per_sample,
            row.published,
            row.not_published,
            row.lost
        );
    }
    let alone = rows.iter().find(|row| row.what == "recorder alone" && row.signal == "mixed");
    for row in rows.iter().filter(|row| matches!(row.what, "JSON lines" | "postcard")) {
        if let Some(alone) = alone {
            println!(
                "{:>18}: {:.2} of its processor time, {:.3} of its bytes",
                format!("recorder ÷ {}", row.what),
                alone.write_ns / row.write_ns,
                alone.bytes_per_sample / row.bytes_per_sample
            );
        }
    }
}
