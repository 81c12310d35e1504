//! Packing and reading alone: bytes and nanoseconds per sample.

use std::hint::black_box;
use std::time::Instant;

use serde::Serialize;
use tidegate_record::samples::{self, Packer};
use tidegate_translator::{Sample, Value};

use crate::Failure;
use crate::signals::{SIGNALS, Signal, TAGS, batch};

/// Samples per row: enough that a row takes tens of milliseconds.
const SAMPLES: i64 = 300_000;

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    signal: &'static str,
    batch: i64,
    bytes_per_sample: f64,
    json_bytes: f64,
    postcard_bytes: f64,
    pack_ns: f64,
    json_ns: f64,
    postcard_ns: f64,
    read_ns: f64,
}

pub(crate) fn rows() -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (name, value) in SIGNALS {
        for size in [100, 500, 5000] {
            rows.push(row(name, value, size)?);
        }
    }
    Ok(rows)
}

fn row(signal: &'static str, value: Signal, size: i64) -> Result<Row, Failure> {
    let scans = size / i64::from(TAGS);
    let batches: Vec<_> = (0..SAMPLES / size).map(|n| batch(value, n * scans, size)).collect();
    let total = batches.iter().map(Vec::len).sum::<usize>() as f64;
    let mut packer = Packer::new();
    let (packed, pack_ns) =
        timed(total, || batches.iter().map(|b| packer.pack(b)).collect::<Vec<_>>());
    let bodies = || packed.iter().flat_map(|p| &p.bodies);
    let (read, read_ns): (Result<usize, _>, _) = timed(total, || {
        bodies().map(|b| samples::decode(b.codec, b.count, &b.bytes).map(|s| s.len())).sum()
    });
    let read = read?;
    if read as f64 != total {
        return Err(format!("{read} samples came back of {total}").into());
    }
    let (json, json_ns) =
        timed(total, || batches.iter().map(|b| black_box(json_lines(b)).len()).sum::<usize>());
    let (postcard, postcard_ns): (Result<usize, _>, _) = timed(total, || {
        batches.iter().map(|b| postcard::to_stdvec(b).map(|v| black_box(v).len())).sum()
    });
    let postcard = postcard?;
    Ok(Row {
        signal,
        batch: size,
        bytes_per_sample: bodies().map(|b| b.bytes.len()).sum::<usize>() as f64 / total,
        json_bytes: json as f64 / total,
        postcard_bytes: postcard as f64 / total,
        pack_ns,
        json_ns,
        postcard_ns,
        read_ns,
    })
}

fn timed<T>(samples: f64, work: impl FnOnce() -> T) -> (T, f64) {
    let begun = Instant::now();
    let done = work();
    (done, begun.elapsed().as_nanos() as f64 / samples)
}

/// The live plane's shape, one line for each sample.
pub(crate) fn json_lines(samples: &[Sample]) -> Vec<u8> {
    use std::io::Write as _;
    let mut out = Vec::new();
    for sample in samples {
        let at = sample.acquired.as_millis();
        // Writing to a Vec cannot fail.
        let _ = write!(out, r#"{{"t":{},"v":"#, sample.tag.0);
        let _ = match &sample.value {
            Value::Bool(v) => write!(out, "{v}"),
            Value::U64(v) => write!(out, "{v}"),
            Value::F32(v) => write!(out, "{v}"),
            Value::F64(v) => write!(out, "{v}"),
            _ => write!(out, "null"),
        };
        let _ = writeln!(out, r#","ts":{at},"q":"good","u":"degC"}}"#);
    }
    out
}

pub(crate) fn print(rows: &[Row]) {
    println!(
        "{:>10} {:>6} | {:>8} {:>7} {:>8} {:>7} {:>8} | {:>7} {:>7} {:>8} {:>7}",
        "signal",
        "batch",
        "B/sample",
        "JSON",
        "postcard",
        "÷ JSON",
        "÷ postc.",
        "pack ns",
        "JSON",
        "postcard",
        "read ns"
    );
    for row in rows {
        println!(
            "{:>10} {:>6} | {:>8.2} {:>7.1} {:>8.1} {:>7.3} {:>8.3} | {:>7.0} {:>7.0} {:>8.0} {:>7.0}",
            row.signal,
            row.batch,
            row.bytes_per_sample,
            row.json_bytes,
            row.postcard_bytes,
            row.bytes_per_sample / row.json_bytes,
            row.bytes_per_sample / row.postcard_bytes,
            row.pack_ns,
            row.json_ns,
            row.postcard_ns,
            row.read_ns
        );
    }
}
