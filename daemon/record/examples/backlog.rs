//! Puts a backlog of samples into a journal, as the recorder would in hours: for the benchmark of
//! the drain.
//!
//! `backlog DIR PLANT NAME SAMPLES TAGS SCANS-PER-FRAME`, while no daemon has the journal open.
#![expect(clippy::print_stdout, reason = "one line of JSON is what it answers")]

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_journal::{ClockState, DirStorage, Draft, Journal, Kind, Settings, Stamp};
use tidegate_record::samples::Packer;
use tidegate_translator::{Sample, TagId, Timestamp, Value};

/// Frames between two commits.
const FRAMES_PER_COMMIT: usize = 16;

fn noise(tag: u32, scan: i64) -> u64 {
    let mut x = (u64::from(tag) << 32) ^ scan.cast_unsigned() ^ 0x9e37_79b9_7f4a_7c15;
    for _ in 0..3 {
        x ^= x >> 30;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 27;
    }
    x
}

/// A mixture: states, constants, counters, readings in tenths, noisy floats, noisy doubles.
#[expect(clippy::cast_precision_loss, reason = "a simulated sensor rounds")]
fn value(tag: u32, scan: i64) -> Value {
    let noise = noise(tag, scan);
    let unit = (noise >> 11) as f64 / (1_u64 << 53) as f64;
    match tag % 10 {
        0 | 1 => Value::Bool((scan / 20 + i64::from(tag)) % 3 == 0),
        2 => Value::F64(f64::from(tag) * 1.37),
        3 | 4 => Value::U64(1_000_000 * u64::from(tag) + scan.cast_unsigned()),
        5 | 6 => Value::F64(((50.0 + unit * 3.0) * 10.0).round() / 10.0),
        7 | 8 => Value::F32(50.0 + (noise >> 40) as f32 / 16_777_216.0),
        _ => Value::F64(50.0 + unit),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [place, plant, name, samples, tags, scans] = &arguments[..] else {
        return Err("backlog DIR PLANT NAME SAMPLES TAGS SCANS-PER-FRAME".into());
    };
    let (samples, tags, scans): (u64, u32, i64) = (samples.parse()?, tags.parse()?, scans.parse()?);
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    let stamp = |wall| Stamp { wall, mono: (1, 1), boot: [0; 16], clock: ClockState::Synchronised };
    let settings = Settings::new(plant, name, 4 << 30);
    let storage = Arc::new(DirStorage::existing(place)?);
    let (mut journal, _) = Journal::open(storage, settings, stamp((now, now)))?;
    let from = journal.upcoming();
    let total = i64::try_from(samples / u64::from(tags))?;
    // The outage ended just now.
    let start = now - (total + 1) * 1_000_000_000;
    let mut packer = Packer::new();
    let (mut batch, mut frames, mut bytes) = (Vec::new(), 0, 0);
    for scan in 0..total {
        let at = |tag: u32| {
            let late = noise(tag / 60, scan) % 2_000_000;
            Timestamp(start + scan * 1_000_000_000 + late.cast_signed())
        };
        batch.extend((0..tags).map(|tag| Sample::good(TagId(tag), at(tag), value(tag, scan))));
        if (scan + 1) % scans != 0 && scan + 1 != total {
            continue;
        }
        for body in packer.pack(&batch).bodies {
            let wall = start + scan * 1_000_000_000;
            journal.append(&Draft {
                kind: Kind::Samples,
                codec: body.codec,
                body: &body.bytes,
                count: body.count,
                stamp: stamp((wall - (scans - 1) * 1_000_000_000, wall)),
            })?;
            bytes += body.bytes.len();
            frames += 1;
            if frames % FRAMES_PER_COMMIT == 0 {
                journal.commit()?;
            }
        }
        batch.clear();
    }
    journal.commit()?;
    let to = journal.upcoming();
    journal.close()?;
    println!(
        "{{\"samples\":{},\"frames\":{},\"body-bytes\":{bytes},\"next-seq\":{}}}",
        to.first_seq - from.first_seq,
        to.number - from.number,
        to.first_seq
    );
    Ok(())
}
