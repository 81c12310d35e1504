//! What a sample costs: bytes and time, beside JSON and postcard in the same run.
//!
//! `cargo run --release -p tidegate-record --example bench_pipeline`
#![expect(clippy::print_stdout, reason = "a table for people is what this program is for")]
#![expect(clippy::cast_precision_loss, reason = "ratios for people")]

use std::time::Instant;

use tidegate_record::samples::{self, Packer};
use tidegate_translator::{Sample, TagId, Timestamp, Value};

const TAGS: u32 = 100;
const START: i64 = 1_790_000_000_000_000_000;

fn noise(tag: u32, scan: i64) -> u64 {
    let mut x = (u64::from(tag) << 32) ^ scan.cast_unsigned() ^ 0x9e37_79b9_7f4a_7c15;
    for _ in 0..3 {
        x ^= x >> 30;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 27;
    }
    x
}

/// From 0 to 1.
fn unit(tag: u32, scan: i64) -> f64 {
    (noise(tag, scan) >> 11) as f64 / (1_u64 << 53) as f64
}

fn slow(tag: u32, scan: i64) -> f64 {
    ((scan as f64) / 60.0 + f64::from(tag)).sin() * 20.0 + 50.0
}

fn constant(tag: u32, _: i64) -> Value {
    Value::F64(f64::from(tag) * 1.37)
}

fn counter(tag: u32, scan: i64) -> Value {
    Value::U64(1_000_000 * u64::from(tag) + scan.cast_unsigned() * u64::from(1 + tag % 7))
}

fn quantised(tag: u32, scan: i64) -> Value {
    Value::F64(((slow(tag, scan) + unit(tag, scan) * 0.3) * 10.0).round() / 10.0)
}

#[expect(clippy::cast_possible_truncation, reason = "single precision is what PLCs send")]
fn noisy(tag: u32, scan: i64) -> Value {
    Value::F32((slow(tag, scan) + unit(tag, scan)) as f32)
}

fn noisy_double(tag: u32, scan: i64) -> Value {
    Value::F64(slow(tag, scan) + unit(tag, scan))
}

fn mixed(tag: u32, scan: i64) -> Value {
    match tag % 10 {
        0 | 1 => Value::Bool(noise(tag, scan / 20) & 1 == 0),
        2 => constant(tag, scan),
        3 | 4 => counter(tag, scan),
        5 | 6 => quantised(tag, scan),
        7 | 8 => noisy(tag, scan),
        _ => noisy_double(tag, scan),
    }
}

fn batch(value: fn(u32, i64) -> Value, from: i64, count: i64) -> Vec<Sample> {
    let scans = from..from + count / i64::from(TAGS);
    scans
        .flat_map(|scan| {
            (0..TAGS).map(move |tag| {
                // A block of 50 registers is answered at once; each poll is late by up to 2 ms.
                let late = (noise(tag / 50, scan + 7) % 2_000_000).cast_signed();
                Sample::good(
                    TagId(tag),
                    Timestamp(START + scan * 1_000_000_000 + late),
                    value(tag, scan),
                )
            })
        })
        .collect()
}

/// The live plane's shape.
fn json_bytes(samples: &[Sample]) -> usize {
    let line = |s: &Sample| {
        let value = match &s.value {
            Value::Bool(v) => v.to_string(),
            Value::U64(v) => v.to_string(),
            Value::F32(v) => v.to_string(),
            Value::F64(v) => v.to_string(),
            _ => String::new(),
        };
        format!(
            r#"{{"t":{},"v":{value},"ts":{},"q":"good","u":"degC"}}"#,
            s.tag.0,
            s.acquired.as_millis()
        )
    };
    samples.iter().map(|s| line(s).len() + 1).sum()
}

fn main() {
    println!(
        "{:>13} {:>6} {:>8} {:>8} {:>9} {:>7} {:>9} {:>11} {:>11}",
        "signal",
        "batch",
        "B/sample",
        "JSON",
        "postcard",
        "÷ JSON",
        "÷ postc.",
        "pack ns",
        "read ns"
    );
    type Signal = (&'static str, fn(u32, i64) -> Value);
    let signals: [Signal; 6] = [
        ("constant", constant),
        ("counter", counter),
        ("quantised", quantised),
        ("noisy f32", noisy),
        ("noisy f64", noisy_double),
        ("mixed", mixed),
    ];
    for (name, value) in signals {
        for size in [100, 500, 5000] {
            row(name, value, size);
        }
    }
}

fn row(name: &str, value: fn(u32, i64) -> Value, size: i64) {
    let scans = size / i64::from(TAGS);
    let batches: Vec<_> = (0..300_000 / size).map(|n| batch(value, n * scans, size)).collect();
    let total = batches.iter().map(Vec::len).sum::<usize>() as f64;
    let mut packer = Packer::new();
    let started = Instant::now();
    let packed: Vec<_> = batches.iter().map(|b| packer.pack(b)).collect();
    let pack = started.elapsed().as_nanos() as f64 / total;
    let bodies = || packed.iter().flat_map(|p| &p.bodies);
    let started = Instant::now();
    let read = bodies()
        .map(|b| samples::decode(b.codec, b.count, &b.bytes).map_or(0, |s| s.len()))
        .sum::<usize>();
    let unpack = started.elapsed().as_nanos() as f64 / total;
    assert!(read as f64 == total, "{read} samples came back of {total}");
    let own = bodies().map(|b| b.bytes.len()).sum::<usize>() as f64 / total;
    let json = batches.iter().map(|b| json_bytes(b)).sum::<usize>() as f64 / total;
    let postcard =
        batches.iter().map(|b| postcard::to_stdvec(b).map_or(0, |v| v.len())).sum::<usize>();
    let postcard = postcard as f64 / total;
    println!(
        "{name:>13} {size:>6} {own:>8.2} {json:>8.1} {postcard:>9.1} {:>7.3} {:>9.3} {pack:>11.0} {unpack:>11.0}",
        own / json,
        own / postcard
    );
}
