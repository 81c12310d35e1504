//! What PLCs send, made up the same each time.

use tidegate_translator::{Sample, TagId, Timestamp, Value};

/// Gives a tag's value at a scan.
pub(crate) type Signal = fn(u32, i64) -> Value;

/// The sorts of signals, by name.
pub(crate) const SIGNALS: [(&str, Signal); 6] = [
    ("constant", constant),
    ("counter", counter),
    ("quantised", quantised),
    ("noisy f32", noisy),
    ("noisy f64", noisy_double),
    ("mixed", mixed),
];

pub(crate) const TAGS: u32 = 100;
const START: i64 = 1_790_000_000_000_000_000;

pub(crate) fn noise(tag: u32, scan: i64) -> u64 {
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

pub(crate) fn mixed(tag: u32, scan: i64) -> Value {
    match tag % 10 {
        0 | 1 => Value::Bool(noise(tag, scan / 20) & 1 == 0),
        2 => constant(tag, scan),
        3 | 4 => counter(tag, scan),
        5 | 6 => quantised(tag, scan),
        7 | 8 => noisy(tag, scan),
        _ => noisy_double(tag, scan),
    }
}

pub(crate) fn batch(value: fn(u32, i64) -> Value, from: i64, count: i64) -> Vec<Sample> {
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
