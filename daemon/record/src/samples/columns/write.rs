//! From samples to columns.

use tidegate_translator::{Sample, Timestamp, Value, ValueKind};

use super::{COLUMNS, KINDS};
use crate::samples::series::Streams;
use crate::samples::{blob_of, quality_word};
use crate::wire::{RunWriter, put_length, put_signed, put_varint};

/// Packs samples into columns; keeps its buffers from one batch to the next.
#[derive(Debug, Default)]
pub(in crate::samples) struct Encoder {
    order: Vec<(u32, u32)>,
    tags: Vec<u8>,
    times: Times,
    source: Presence,
    server: Presence,
    quality: Runs,
    status: Runs,
    kinds: Runs,
    bools: Bits,
    series: Streams,
    lengths: Vec<u8>,
    blobs: Vec<u8>,
    integers: Vec<i64>,
    floats: Vec<u64>,
    out: Vec<u8>,
}

impl Encoder {
    /// The columns of these samples. More than [`crate::samples::MAX_COLUMN_BYTES`] no reader unpacks.
    pub(in crate::samples) fn encode(&mut self, samples: &[Sample]) -> &[u8] {
        self.clear();
        self.order.extend((0_u32..).zip(samples).map(|(index, s)| (s.tag.0, index)));
        self.order.sort();
        let rows: Vec<&Sample> =
            self.order.iter().filter_map(|(_, index)| samples.get(*index as usize)).collect();
        self.put_tags(&rows);
        for run in rows.chunk_by(|a, b| a.tag == b.tag) {
            self.times.put(run);
            let mut present = 0_u16;
            for sample in run {
                self.source.put(sample.acquired, sample.source);
                self.server.put(sample.acquired, sample.server);
                self.quality.put(u64::from(quality_word(sample.quality)));
                self.status.put(u64::from(sample.status));
                let kind = sample.value.kind();
                self.kinds.put(kind as u64);
                present |= 1 << kind as u8;
            }
            for kind in KINDS {
                if present & (1 << kind as u8) != 0 {
                    self.put_values(kind, run);
                }
            }
        }
        self.join()
    }

    /// What [`Self::encode`] gave last.
    pub(in crate::samples) fn bytes(&self) -> &[u8] {
        &self.out
    }

    fn clear(&mut self) {
        self.order.clear();
        self.tags.clear();
        self.times.clear();
        self.source.clear();
        self.server.clear();
        self.quality.clear();
        self.status.clear();
        self.kinds.clear();
        self.bools.clear();
        self.series.clear();
        self.lengths.clear();
        self.blobs.clear();
        self.out.clear();
    }

    fn put_tags(&mut self, rows: &[&Sample]) {
        let mut next_tag = 0_u32;
        let mut pending: Option<(u32, usize, u64)> = None;
        for run in rows.chunk_by(|a, b| a.tag == b.tag) {
            let Some(tag) = run.first().map(|s| s.tag.0) else { continue };
            let distance = tag.wrapping_sub(next_tag);
            next_tag = tag.wrapping_add(1);
            match &mut pending {
                Some((d, length, more)) if *d == distance && *length == run.len() => *more += 1,
                _ => {
                    put_tag_run(&mut self.tags, pending);
                    pending = Some((distance, run.len(), 0));
                }
            }
        }
        put_tag_run(&mut self.tags, pending);
    }

    fn put_values(&mut self, kind: ValueKind, run: &[&Sample]) {
        let values = run.iter().map(|s| &s.value).filter(|v| v.kind() == kind);
        match kind {
            ValueKind::None => {}
            ValueKind::Bool => {
                values.for_each(|v| self.bools.put(matches!(v, Value::Bool(true))));
            }
            ValueKind::I64 | ValueKind::U64 => {
                self.integers.clear();
                self.integers.extend(values.filter_map(|v| match *v {
                    Value::I64(v) => Some(v),
                    Value::U64(v) => Some(v.cast_signed()),
                    _ => None,
                }));
                self.series.put_integers(&self.integers);
            }
            ValueKind::F32 | ValueKind::F64 => {
                self.floats.clear();
                self.floats.extend(values.filter_map(|v| match *v {
                    Value::F32(v) => Some(u64::from(v.to_bits())),
                    Value::F64(v) => Some(v.to_bits()),
                    _ => None,
                }));
                if kind == ValueKind::F32 {
                    self.series.put_f32(&self.floats);
                } else {
                    self.series.put_f64(&self.floats);
                }
            }
            ValueKind::Text | ValueKind::Bytes | ValueKind::Json => {
                let mut before: Option<&[u8]> = None;
                for blob in values.filter_map(blob_of) {
                    if before == Some(blob) {
                        self.lengths.push(0);
                    } else {
                        put_length(&mut self.lengths, blob.len() + 1);
                        self.blobs.extend_from_slice(blob);
                    }
                    before = Some(blob);
                }
            }
        }
    }

    fn join(&mut self) -> &[u8] {
        self.source.finish();
        self.server.finish();
        self.times.finish();
        self.series.finish();
        let columns: [&[u8]; COLUMNS] = [
            &self.tags,
            &self.times.bytes,
            &self.source.bytes,
            &self.server.bytes,
            self.quality.finish(),
            self.status.finish(),
            self.kinds.finish(),
            self.bools.finish(),
            &self.series.modes,
            &self.series.integers,
            &self.series.shapes,
            &self.series.bits,
            &self.lengths,
        ];
        for column in columns {
            put_length(&mut self.out, column.len());
        }
        for column in columns {
            self.out.extend_from_slice(column);
        }
        // The last column needs no length: it is what remains.
        self.out.extend_from_slice(&self.blobs);
        &self.out
    }
}

fn put_tag_run(out: &mut Vec<u8>, run: Option<(u32, usize, u64)>) {
    if let Some((distance, length, more)) = run {
        put_varint(out, distance.into());
        put_length(out, length - 1);
        put_varint(out, more);
    }
}

/// The column of acquisition times.
#[derive(Debug, Default)]
struct Times {
    bytes: Vec<u8>,
    before: Vec<i64>,
    same: u64,
    is_open: bool,
}

impl Times {
    fn clear(&mut self) {
        self.bytes.clear();
        self.before.clear();
        self.same = 0;
        self.is_open = false;
    }

    fn put(&mut self, run: &[&Sample]) {
        let is_same = self.before.len() == run.len()
            && self.before.iter().zip(run).all(|(t, s)| *t == s.acquired.0);
        if is_same {
            self.same += 1;
            return;
        }
        self.finish();
        let mut last = self.before.first().copied().unwrap_or(0);
        let mut step = 0;
        self.before.clear();
        for (index, sample) in run.iter().enumerate() {
            let distance = sample.acquired.0.wrapping_sub(last);
            let written = if index < 2 { distance } else { distance.wrapping_sub(step) };
            put_signed(&mut self.bytes, written);
            step = distance;
            last = sample.acquired.0;
            self.before.push(last);
        }
        self.is_open = true;
    }

    fn finish(&mut self) {
        if self.is_open {
            put_varint(&mut self.bytes, self.same);
        }
        self.same = 0;
        self.is_open = false;
    }
}

/// A column of times that may be absent.
#[derive(Debug, Default)]
struct Presence {
    bytes: Vec<u8>,
    run: u64,
    is_present: bool,
    pending: Vec<i64>,
}

impl Presence {
    fn clear(&mut self) {
        self.bytes.clear();
        self.pending.clear();
        self.run = 0;
        self.is_present = false;
    }

    fn put(&mut self, acquired: Timestamp, time: Option<Timestamp>) {
        if time.is_some() != self.is_present {
            self.end_run();
            self.is_present = !self.is_present;
        }
        self.run += 1;
        if let Some(time) = time {
            self.pending.push(time.0.wrapping_sub(acquired.0));
        }
    }

    fn end_run(&mut self) {
        put_varint(&mut self.bytes, self.run);
        for &distance in &self.pending {
            put_signed(&mut self.bytes, distance);
        }
        self.pending.clear();
        self.run = 0;
    }

    fn finish(&mut self) {
        // All absent, which is usual, is an empty column.
        if self.is_present || !self.bytes.is_empty() {
            self.end_run();
        }
    }
}

/// A column of runs.
#[derive(Debug, Default)]
struct Runs {
    bytes: Vec<u8>,
    writer: RunWriter,
}

impl Runs {
    fn clear(&mut self) {
        self.bytes.clear();
        self.writer = RunWriter::default();
    }

    fn put(&mut self, value: u64) {
        self.writer.push(&mut self.bytes, value);
    }

    fn finish(&mut self) -> &[u8] {
        self.writer.finish(&mut self.bytes);
        &self.bytes
    }
}

/// A column of bits, lowest first.
#[derive(Debug, Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    fn put(&mut self, bit: bool) {
        if self.count.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.count % 8);
        }
        self.count += 1;
    }

    fn finish(&self) -> &[u8] {
        &self.bytes
    }
}
