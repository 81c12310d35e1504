//! Reading frames alone, from memory: what the codec gives without a disk.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tidegate_journal::Codec;
use tidegate_record::samples::{self, Body, Packer, Run, Scanner, TagSet, Values};
use tidegate_translator::TagId;

use crate::make::Day;
use crate::{Failure, cpu, float};

/// Each way of reading goes on for at least so long.
const LASTING: Duration = Duration::from_millis(1_500);
/// Scans that are packed, whatever the shape: as many as take some megabytes.
const SCANS: i64 = 240;

/// Count, sum and extremes, as a bucket has them: kept for each tag.
#[derive(Clone, Copy)]
pub(crate) struct Tally {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Tally {
    pub(crate) const NOTHING: Self =
        Self { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };

    pub(crate) fn add(&mut self, run: &Run<'_>) {
        self.count += run.len() as u64;
        match run.values {
            Values::F64(values) => values.iter().for_each(|v| self.number(*v)),
            Values::F32(values) => values.iter().for_each(|v| self.number(f64::from(*v))),
            Values::U64(values) => values.iter().for_each(|v| self.number(float(*v))),
            Values::None | Values::Bool(_) => {}
            values => {
                (0..run.len()).filter_map(|index| values.number(index)).for_each(|v| self.number(v))
            }
        }
    }

    fn number(&mut self, value: f64) {
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }
}

pub(crate) fn rows() -> Result<Vec<Json>, Failure> {
    let mut rows = Vec::new();
    for (tags, scans) in [(1_000, 1), (1_000, 3), (100, 30)] {
        let (bodies, total) = packed(tags, scans);
        let bytes: usize = bodies.iter().map(|body| body.bytes.len()).sum();
        let mut row = |how: &str, rate: f64| {
            rows.push(json!({
                "table": "frames",
                "frame": format!("{tags} tags, {scans} scans"),
                "bytes_per_sample": float(bytes as u64) / float(total),
                "how": how,
                "samples_per_s": rate,
            }));
        };
        let mut scanner = Scanner::new();
        let mut tallies = vec![Tally::NOTHING; usize::try_from(tags)? + 1];
        let all = TagSet::all();
        row(
            "buckets of every tag",
            rate(total, || {
                for body in &bodies {
                    scan(&mut scanner, body, &all, |run| {
                        if let Some(tally) = tallies.get_mut(run.tag.0 as usize) {
                            tally.add(run);
                        }
                    })?;
                }
                Ok(())
            })?,
        );
        black_box(tallies.iter().map(|t| t.sum + t.min + t.max + float(t.count)).sum::<f64>());
        let one = TagSet::from_iter([TagId(tags / 2 + 6)]);
        row(
            "one tag of all",
            rate(total, || {
                let mut sum = 0.0;
                for body in &bodies {
                    scan(&mut scanner, body, &one, |run| {
                        sum += run.values.number(0).unwrap_or(0.0);
                    })?;
                }
                black_box(sum);
                Ok(())
            })?,
        );
        row(
            "every sample whole",
            rate(total, || {
                for body in &bodies {
                    black_box(samples::decode(body.codec, body.count, &body.bytes)?);
                }
                Ok(())
            })?,
        );
        let mut unpacked = Vec::new();
        row(
            "LZ4 alone",
            rate(total, || {
                for body in bodies.iter().filter(|body| body.codec == Codec::ColumnsLz4) {
                    let (length, block) = lz4_flex::block::uncompressed_size(&body.bytes)?;
                    unpacked.resize(length, 0);
                    black_box(lz4_flex::block::decompress_into(block, &mut unpacked)?);
                }
                Ok(())
            })?,
        );
    }
    Ok(rows)
}

fn packed(tags: u32, scans: i64) -> (Vec<Body>, u64) {
    let mut packer = Packer::new();
    let (mut bodies, mut batch, mut total) = (Vec::new(), Vec::new(), 0);
    let day = Day { tags, seconds: SCANS, start: 1_790_000_000_000_000_000 };
    for scan in 0..SCANS {
        day.scan(scan, &mut batch);
        if (scan + 1) % scans == 0 {
            total += batch.len() as u64;
            bodies.extend(packer.pack(&batch).bodies);
            batch.clear();
        }
    }
    (bodies, total)
}

fn scan(
    scanner: &mut Scanner,
    body: &Body,
    tags: &TagSet,
    visit: impl FnMut(&Run<'_>),
) -> Result<(), Failure> {
    Ok(scanner.scan_body(body.codec, body.count, 0, &body.bytes, tags, visit)?)
}

/// Samples for each second of a core in the best round: what the machine does beside it slows the
/// others.
fn rate(samples: u64, mut round: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let mut best = Duration::MAX;
    let begun = Instant::now();
    while begun.elapsed() < LASTING {
        let from = cpu();
        round()?;
        best = best.min(cpu().saturating_sub(from));
    }
    Ok(float(samples) / best.as_secs_f64())
}
