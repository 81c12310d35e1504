//! The columns read value by value, as slowly and plainly as it goes: what the scanner is held
//! against.

use tidegate_translator::{Sample, TagId, Timestamp, Value, ValueKind};

use super::columns::{COLUMNS, KINDS};
use super::series::{CODE, CONSTANT, SECOND_ORDER, Shape, from_decimal, narrow};
use super::{DecodeError, MAX_SAMPLES, MAX_TEXT_BYTES, kind_of, quality_of};
use crate::wire::{Cursor, RunReader};

/// The samples in these columns.
pub(super) fn decode(bytes: &[u8], count: u32) -> Result<Vec<Sample>, DecodeError> {
    let damaged = |column| DecodeError::Damaged { column };
    let mut columns = Columns::split(bytes).ok_or(damaged("lengths"))?;
    let found = columns.count().ok_or(damaged("tags"))?;
    if found != u64::from(count) {
        return Err(DecodeError::Count { header: count, body: found });
    }
    let total = usize::try_from(count).unwrap_or(usize::MAX);
    if total > MAX_SAMPLES {
        return Err(DecodeError::TooMany { count });
    }
    let mut samples = Vec::with_capacity(total);
    let mut kinds = Vec::new();
    let mut text_bytes = 0;
    let mut tags = Cursor(columns.tags);
    let mut next_tag = 0_u64;
    while !tags.is_empty() {
        let (distance, length, more) = tag_run(&mut tags).ok_or(damaged("tags"))?;
        for _ in 0..=more {
            let tag = next_tag + distance;
            next_tag = tag + 1;
            let tag = u32::try_from(tag).map(TagId).map_err(|_| damaged("tags"))?;
            let from = samples.len();
            columns.put_rows(tag, length, &mut samples, &mut kinds)?;
            columns.put_values(&mut samples[from..], &kinds, &mut text_bytes)?;
        }
    }
    columns.check_end()?;
    Ok(samples)
}

fn tag_run(tags: &mut Cursor<'_>) -> Option<(u64, u64, u64)> {
    let distance = tags.varint().filter(|d| *d <= u64::from(u32::MAX))?;
    let length = tags.varint()?.checked_add(1)?;
    Some((distance, length, tags.varint()?))
}

struct Columns<'a> {
    tags: &'a [u8],
    times: Cursor<'a>,
    times_before: Vec<i64>,
    same: u64,
    source: PresenceReader<'a>,
    server: PresenceReader<'a>,
    quality: RunReader<'a>,
    status: RunReader<'a>,
    kinds: RunReader<'a>,
    bools: Cursor<'a>,
    bool_byte: u8,
    bools_left: u8,
    series: Series<'a>,
    lengths: Cursor<'a>,
    blobs: Cursor<'a>,
}

impl<'a> Columns<'a> {
    fn split(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = Cursor(bytes);
        let mut lengths = [0; COLUMNS];
        for length in &mut lengths {
            *length = rest.length()?;
        }
        let mut columns: [&[u8]; COLUMNS] = [&[]; COLUMNS];
        for (column, length) in columns.iter_mut().zip(lengths) {
            *column = rest.take(length)?;
        }
        let [
            tags,
            times,
            source,
            server,
            quality,
            status,
            kinds,
            bools,
            modes,
            integers,
            shapes,
            bits,
            lengths,
        ] = columns;
        Some(Self {
            tags,
            times: Cursor(times),
            times_before: Vec::new(),
            same: 0,
            source: PresenceReader::new(source),
            server: PresenceReader::new(server),
            quality: RunReader::new(quality),
            status: RunReader::new(status),
            kinds: RunReader::new(kinds),
            bools: Cursor(bools),
            bool_byte: 0,
            bools_left: 0,
            series: Series {
                modes: RunReader::new(modes),
                integers: Cursor(integers),
                shapes: Cursor(shapes),
                bits: Cursor(bits),
            },
            lengths: Cursor(lengths),
            blobs: rest,
        })
    }

    /// How many samples the tag column names.
    fn count(&self) -> Option<u64> {
        let mut tags = Cursor(self.tags);
        let mut count = 0_u64;
        while !tags.is_empty() {
            let (_, length, more) = tag_run(&mut tags)?;
            count = count.checked_add(length.checked_mul(more.checked_add(1)?)?)?;
        }
        Some(count)
    }

    /// Everything of a tag's samples but the values; `kinds` tells what those will be.
    fn put_rows(
        &mut self,
        tag: TagId,
        length: u64,
        samples: &mut Vec<Sample>,
        kinds: &mut Vec<ValueKind>,
    ) -> Result<(), DecodeError> {
        let damaged = |column| DecodeError::Damaged { column };
        let length = usize::try_from(length).map_err(|_| damaged("tags"))?;
        self.read_times(length).ok_or(damaged("times"))?;
        kinds.clear();
        for &time in &self.times_before {
            let acquired = Timestamp(time);
            let kind = self.kinds.next().and_then(kind_of).ok_or(damaged("kinds"))?;
            kinds.push(kind);
            let status = self.status.next().and_then(|s| u32::try_from(s).ok());
            samples.push(Sample {
                tag,
                acquired,
                source: self.source.next(acquired).ok_or(damaged("source times"))?,
                server: self.server.next(acquired).ok_or(damaged("server times"))?,
                status: status.ok_or(damaged("status"))?,
                quality: self.quality.next().and_then(quality_of).ok_or(damaged("quality"))?,
                value: Value::None,
            });
        }
        Ok(())
    }

    fn read_times(&mut self, length: usize) -> Option<()> {
        if self.same > 0 {
            self.same -= 1;
            return (self.times_before.len() == length).then_some(());
        }
        let mut last = self.times_before.first().copied().unwrap_or(0);
        let mut step = 0_i64;
        self.times_before.clear();
        for index in 0..length {
            let read = self.times.signed()?;
            step = if index < 2 { read } else { step.wrapping_add(read) };
            last = last.wrapping_add(step);
            self.times_before.push(last);
        }
        self.same = self.times.varint()?;
        Some(())
    }

    fn put_values(
        &mut self,
        samples: &mut [Sample],
        kinds: &[ValueKind],
        text_bytes: &mut usize,
    ) -> Result<(), DecodeError> {
        let present = kinds.iter().fold(0_u16, |set, kind| set | 1 << *kind as u8);
        for kind in KINDS {
            if present & (1 << kind as u8) == 0 {
                continue;
            }
            let rows = samples.iter_mut().zip(kinds).filter(|(_, k)| **k == kind);
            let values = rows.map(|(sample, _)| &mut sample.value);
            self.put_series(kind, values, text_bytes)
                .ok_or(DecodeError::Damaged { column: "values" })?;
        }
        Ok(())
    }

    fn put_series<'v>(
        &mut self,
        kind: ValueKind,
        mut values: impl Iterator<Item = &'v mut Value>,
        text_bytes: &mut usize,
    ) -> Option<()> {
        match kind {
            ValueKind::None => Some(()),
            ValueKind::Bool => values.try_for_each(|v| {
                *v = Value::Bool(self.next_bool()?);
                Some(())
            }),
            ValueKind::I64 | ValueKind::U64 => {
                let mut series = self.series.open_integers()?;
                values.try_for_each(|v| {
                    let integer = self.series.next_integer(&mut series)?;
                    *v = if kind == ValueKind::I64 {
                        Value::I64(integer)
                    } else {
                        Value::U64(integer.cast_unsigned())
                    };
                    Some(())
                })
            }
            ValueKind::F32 => {
                let mut series = self.series.open_floats()?;
                values.try_for_each(|v| {
                    *v = Value::F32(self.series.next_f32(&mut series)?);
                    Some(())
                })
            }
            ValueKind::F64 => {
                let mut series = self.series.open_floats()?;
                values.try_for_each(|v| {
                    *v = Value::F64(self.series.next_f64(&mut series)?);
                    Some(())
                })
            }
            ValueKind::Text | ValueKind::Bytes | ValueKind::Json => {
                let mut before: Option<&[u8]> = None;
                values.try_for_each(|v| {
                    let blob = match self.lengths.length()?.checked_sub(1) {
                        None => before?,
                        Some(length) => self.blobs.take(length)?,
                    };
                    // A repetition costs one byte here and a copy there: the sum is bounded.
                    *text_bytes += blob.len();
                    if *text_bytes > MAX_TEXT_BYTES {
                        return None;
                    }
                    before = Some(blob);
                    *v = match kind {
                        ValueKind::Bytes => Value::Bytes(blob.into()),
                        ValueKind::Json => Value::Json(std::str::from_utf8(blob).ok()?.into()),
                        _ => Value::Text(std::str::from_utf8(blob).ok()?.into()),
                    };
                    Some(())
                })
            }
        }
    }

    fn next_bool(&mut self) -> Option<bool> {
        if self.bools_left == 0 {
            self.bool_byte = self.bools.byte()?;
            self.bools_left = 8;
        }
        let bit = self.bool_byte & 1 != 0;
        self.bool_byte >>= 1;
        self.bools_left -= 1;
        Some(bit)
    }

    fn check_end(&self) -> Result<(), DecodeError> {
        let ends = [
            ("times", self.times.is_empty() && self.same == 0),
            ("source times", self.source.is_done()),
            ("server times", self.server.is_done()),
            ("quality", self.quality.is_done()),
            ("status", self.status.is_done()),
            ("kinds", self.kinds.is_done()),
            ("bools", self.bools.is_empty() && self.bool_byte == 0),
            ("modes", self.series.modes.is_done()),
            ("integers", self.series.integers.is_empty()),
            ("shapes", self.series.shapes.is_empty()),
            ("bits", self.series.bits.is_empty()),
            ("lengths", self.lengths.is_empty()),
            ("blobs", self.blobs.is_empty()),
        ];
        match ends.into_iter().find(|(_, is_done)| !is_done) {
            None => Ok(()),
            Some((column, _)) => Err(DecodeError::Damaged { column }),
        }
    }
}

/// Reads what [`Presence`] wrote.
struct PresenceReader<'a> {
    cursor: Cursor<'a>,
    is_always_absent: bool,
    /// Whether the run that is being read is one of present times; the first run is not.
    is_present: bool,
    left: Option<u64>,
}

impl<'a> PresenceReader<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self {
            cursor: Cursor(bytes),
            is_always_absent: bytes.is_empty(),
            is_present: false,
            left: None,
        }
    }

    fn next(&mut self, acquired: Timestamp) -> Option<Option<Timestamp>> {
        if self.is_always_absent {
            return Some(None);
        }
        let mut left = match self.left {
            Some(left) => left,
            None => self.cursor.varint()?,
        };
        if left == 0 {
            self.is_present = !self.is_present;
            // Only the first run may be empty, so that input cannot keep the loop turning.
            left = self.cursor.varint().filter(|run| *run > 0)?;
        }
        self.left = Some(left - 1);
        if !self.is_present {
            return Some(None);
        }
        let distance = self.cursor.signed()?;
        Some(Some(Timestamp(acquired.0.wrapping_add(distance))))
    }

    fn is_done(&self) -> bool {
        self.cursor.is_empty() && self.left.is_none_or(|left| left == 0)
    }
}

/// The streams that series are read from.
#[derive(Debug)]
struct Series<'a> {
    modes: RunReader<'a>,
    integers: Cursor<'a>,
    shapes: Cursor<'a>,
    bits: Cursor<'a>,
}

impl Series<'_> {
    fn mode(&mut self) -> Option<u8> {
        u8::try_from(self.modes.next()?)
            .ok()
            .filter(|mode| mode & !(CODE | SECOND_ORDER | CONSTANT) == 0)
    }

    /// Opens a series of integers.
    fn open_integers(&mut self) -> Option<Integers> {
        let mode = self.mode()?;
        (mode & CODE == 0).then(|| Integers::new(mode))
    }

    /// Opens a series of floats.
    fn open_floats(&mut self) -> Option<Floats> {
        let mode = self.mode()?;
        Some(match mode & CODE {
            0 => Floats::Bits { constant: mode & CONSTANT != 0, before: None },
            code => Floats::Decimal { code, integers: Integers::new(mode) },
        })
    }

    fn next_integer(&mut self, state: &mut Integers) -> Option<i64> {
        state.next(&mut self.integers)
    }

    fn next_f64(&mut self, state: &mut Floats) -> Option<f64> {
        match state {
            Floats::Bits { constant, before } => {
                self.next_bits::<8>(*constant, before).map(f64::from_bits)
            }
            Floats::Decimal { code, integers } => {
                from_decimal(*code, integers.next(&mut self.integers)?)
            }
        }
    }

    fn next_f32(&mut self, state: &mut Floats) -> Option<f32> {
        match state {
            Floats::Bits { constant, before } => {
                let bits = self.next_bits::<4>(*constant, before)?;
                u32::try_from(bits).ok().map(f32::from_bits)
            }
            Floats::Decimal { code, integers } => {
                from_decimal(*code, integers.next(&mut self.integers)?).map(narrow)
            }
        }
    }

    fn next_bits<const WIDTH: usize>(
        &mut self,
        constant: bool,
        before: &mut Option<u64>,
    ) -> Option<u64> {
        if let Some(value) = *before
            && constant
        {
            return Some(value);
        }
        let shape = Shape::from_byte::<WIDTH>(self.shapes.byte()?)?;
        let mut bytes = [0; 8];
        let from = 8 - WIDTH + shape.leading;
        bytes[from..from + shape.length].copy_from_slice(self.bits.take(shape.length)?);
        let value = u64::from_be_bytes(bytes) ^ before.unwrap_or(0);
        *before = Some(value);
        Some(value)
    }
}

/// Where a series of integers stands.
#[derive(Debug)]
struct Integers {
    mode: u8,
    last: Option<i64>,
    step: i64,
}

impl Integers {
    const fn new(mode: u8) -> Self {
        Self { mode, last: None, step: 0 }
    }

    fn next(&mut self, integers: &mut Cursor<'_>) -> Option<i64> {
        let value = match self.last {
            None => integers.signed()?,
            Some(last) if self.mode & CONSTANT != 0 => last,
            Some(last) => {
                let read = integers.signed()?;
                self.step =
                    if self.mode & SECOND_ORDER == 0 { read } else { self.step.wrapping_add(read) };
                last.wrapping_add(self.step)
            }
        };
        self.last = Some(value);
        Some(value)
    }
}

/// Where a series of floats stands.
#[derive(Debug)]
enum Floats {
    Bits { constant: bool, before: Option<u64> },
    Decimal { code: u8, integers: Integers },
}
