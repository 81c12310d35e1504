//! From columns to runs of samples.

use tidegate_translator::{TagId, Timestamp, Value, ValueKind};

use super::{COLUMNS, KINDS};
use crate::samples::scan::{Buffers, Column, Run, TagSet, ValueBuffers, Values};
use crate::samples::series::Series;
use crate::samples::{DecodeError, MAX_SAMPLES, MAX_TEXT_BYTES, kind_of, quality_of};
use crate::wire::{Cursor, RunReader};

/// Shows the runs of these columns that are wanted.
pub(in crate::samples) fn scan(
    bytes: &[u8],
    count: u32,
    first_seq: u64,
    tags: &TagSet,
    buffers: &mut Buffers,
    mut visit: impl FnMut(&Run<'_>),
) -> Result<(), DecodeError> {
    let damaged = |column| DecodeError::Damaged { column };
    let mut columns = Columns::split(bytes).ok_or(damaged("lengths"))?;
    let found = columns.count().ok_or(damaged("tags"))?;
    if found != u64::from(count) {
        return Err(DecodeError::Count { header: count, body: found });
    }
    if usize::try_from(count).unwrap_or(usize::MAX) > MAX_SAMPLES {
        return Err(DecodeError::TooMany { count });
    }
    // The times of a run may stand for those after it, but not for those of another body.
    buffers.acquired.clear();
    let mut walk = tags.walk();
    let mut runs = Cursor(columns.tags);
    let mut next_tag = 0_u64;
    let mut first = first_seq;
    while !runs.is_empty() {
        let (distance, samples, more) = tag_run(&mut runs).ok_or(damaged("tags"))?;
        let length = usize::try_from(samples).map_err(|_| damaged("tags"))?;
        for _ in 0..=more {
            let tag = next_tag + distance;
            next_tag = tag + 1;
            let tag = u32::try_from(tag).map(TagId).map_err(|_| damaged("tags"))?;
            let Some(is_wanted) = walk.wants(tag) else { return Ok(()) };
            columns.read_times(length, &mut buffers.acquired).ok_or(damaged("times"))?;
            if is_wanted {
                columns.show(tag, first, length, buffers, &mut visit)?;
            } else {
                columns.pass_over(length)?;
            }
            first = first.saturating_add(samples);
        }
    }
    columns.check_end()
}

fn tag_run(tags: &mut Cursor<'_>) -> Option<(u64, u64, u64)> {
    let distance = tags.varint().filter(|d| *d <= u64::from(u32::MAX))?;
    let length = tags.varint()?.checked_add(1)?;
    Some((distance, length, tags.varint()?))
}

/// The next values of a column of runs: as one where they are the same.
#[inline]
fn column<'b, T: Copy>(
    runs: &mut RunReader<'_>,
    count: usize,
    buffer: &'b mut Vec<T>,
    read: impl Fn(u64) -> Option<T>,
) -> Option<Column<'b, T>> {
    if let Some(same) = runs.take_same(u64::try_from(count).ok()?)? {
        return read(same).map(Column::Same);
    }
    buffer.clear();
    for _ in 0..count {
        buffer.push(read(runs.next()?)?);
    }
    Some(Column::Each(buffer))
}

struct Columns<'a> {
    tags: &'a [u8],
    times: Cursor<'a>,
    same: u64,
    source: PresenceReader<'a>,
    server: PresenceReader<'a>,
    quality: RunReader<'a>,
    status: RunReader<'a>,
    kinds: RunReader<'a>,
    bools: &'a [u8],
    /// Bits of `bools` that were read.
    bool_at: usize,
    series: Series<'a>,
    lengths: Cursor<'a>,
    blobs: Cursor<'a>,
    text_bytes: usize,
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
            same: 0,
            source: PresenceReader::new(source),
            server: PresenceReader::new(server),
            quality: RunReader::new(quality),
            status: RunReader::new(status),
            kinds: RunReader::new(kinds),
            bools,
            bool_at: 0,
            series: Series {
                modes: RunReader::new(modes),
                integers: Cursor(integers),
                shapes: Cursor(shapes),
                bits: Cursor(bits),
            },
            lengths: Cursor(lengths),
            blobs: rest,
            text_bytes: 0,
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

    /// `before` holds the times of the tag before and gets those of this one.
    #[inline]
    fn read_times(&mut self, length: usize, before: &mut Vec<Timestamp>) -> Option<()> {
        if self.same > 0 {
            self.same -= 1;
            return (before.len() == length).then_some(());
        }
        let mut last = before.first().map_or(0, |time| time.0);
        let mut step = 0_i64;
        before.clear();
        for index in 0..length {
            let read = self.times.signed()?;
            step = if index < 2 { read } else { step.wrapping_add(read) };
            last = last.wrapping_add(step);
            before.push(Timestamp(last));
        }
        self.same = self.times.varint()?;
        Some(())
    }

    /// Shows the samples of a tag whose times have been read.
    #[inline]
    fn show(
        &mut self,
        tag: TagId,
        first: u64,
        length: usize,
        buffers: &mut Buffers,
        visit: &mut impl FnMut(&Run<'_>),
    ) -> Result<(), DecodeError> {
        let damaged = |column| DecodeError::Damaged { column };
        let Buffers { acquired, source, server, status, quality, kinds, values } = buffers;
        let acquired: &[Timestamp] = acquired;
        let kinds = column(&mut self.kinds, length, kinds, kind_of).ok_or(damaged("kinds"))?;
        let status = column(&mut self.status, length, status, |s| u32::try_from(s).ok());
        let quality = column(&mut self.quality, length, quality, quality_of);
        let values = match kinds {
            Column::Same(kind) => self.values(kind, length, values),
            Column::Each(kinds) => self.mixed(kinds, &mut values.others),
        };
        visit(&Run {
            tag,
            first,
            acquired,
            source: self.source.column(acquired, source).ok_or(damaged("source times"))?,
            server: self.server.column(acquired, server).ok_or(damaged("server times"))?,
            status: status.ok_or(damaged("status"))?,
            quality: quality.ok_or(damaged("quality"))?,
            values: values.ok_or(damaged("values"))?,
        });
        Ok(())
    }

    /// So many values of one kind.
    #[inline]
    fn values<'b>(
        &mut self,
        kind: ValueKind,
        count: usize,
        room: &'b mut ValueBuffers,
    ) -> Option<Values<'b>> {
        let ValueBuffers { bools, signed, unsigned, singles, doubles, others } = room;
        Some(match kind {
            ValueKind::None => Values::None,
            ValueKind::Bool => {
                bools.clear();
                self.each_bool(count, |value| bools.push(value))?;
                Values::Bool(bools)
            }
            ValueKind::I64 => {
                signed.clear();
                self.series.integers(count, |value| signed.push(value))?;
                Values::I64(signed)
            }
            ValueKind::U64 => {
                unsigned.clear();
                self.series.integers(count, |value| unsigned.push(value.cast_unsigned()))?;
                Values::U64(unsigned)
            }
            ValueKind::F32 => {
                singles.clear();
                self.series.singles(count, |value| singles.push(value))?;
                Values::F32(singles)
            }
            ValueKind::F64 => {
                doubles.clear();
                self.series.doubles(count, |value| doubles.push(value))?;
                Values::F64(doubles)
            }
            ValueKind::Text | ValueKind::Bytes | ValueKind::Json => {
                others.clear();
                self.each_blob(kind, count, |value| others.push(value))?;
                Values::Other(others)
            }
        })
    }

    /// Values of several kinds, those of one kind after those of another.
    fn mixed<'b>(&mut self, kinds: &[ValueKind], values: &'b mut Vec<Value>) -> Option<Values<'b>> {
        values.clear();
        values.resize(kinds.len(), Value::None);
        for kind in KINDS {
            let count = kinds.iter().filter(|k| **k == kind).count();
            if count == 0 {
                continue;
            }
            let places = values.iter_mut().zip(kinds).filter(|(_, k)| **k == kind);
            let mut places = places.map(|(place, _)| place);
            let mut put = |value| {
                if let Some(place) = places.next() {
                    *place = value;
                }
            };
            match kind {
                ValueKind::None => {}
                ValueKind::Bool => self.each_bool(count, |v| put(Value::Bool(v)))?,
                ValueKind::I64 => self.series.integers(count, |v| put(Value::I64(v)))?,
                ValueKind::U64 => {
                    self.series.integers(count, |v| put(Value::U64(v.cast_unsigned())))?;
                }
                ValueKind::F32 => self.series.singles(count, |v| put(Value::F32(v)))?,
                ValueKind::F64 => self.series.doubles(count, |v| put(Value::F64(v)))?,
                ValueKind::Text | ValueKind::Bytes | ValueKind::Json => {
                    self.each_blob(kind, count, put)?;
                }
            }
        }
        Some(Values::Other(values))
    }

    fn each_bool(&mut self, count: usize, mut put: impl FnMut(bool)) -> Option<()> {
        let end = self.bool_at.checked_add(count).filter(|e| e.div_ceil(8) <= self.bools.len())?;
        for at in self.bool_at..end {
            put(self.bools.get(at / 8)? >> (at % 8) & 1 != 0);
        }
        self.bool_at = end;
        Some(())
    }

    fn each_blob(
        &mut self,
        kind: ValueKind,
        count: usize,
        mut put: impl FnMut(Value),
    ) -> Option<()> {
        let mut before: Option<&[u8]> = None;
        for _ in 0..count {
            let blob = match self.lengths.length()?.checked_sub(1) {
                None => before?,
                Some(length) => self.blobs.take(length)?,
            };
            // A repetition costs one byte here and a copy there: the sum is bounded.
            self.text_bytes += blob.len();
            if self.text_bytes > MAX_TEXT_BYTES {
                return None;
            }
            before = Some(blob);
            put(match kind {
                ValueKind::Bytes => Value::Bytes(blob.into()),
                ValueKind::Json => Value::Json(std::str::from_utf8(blob).ok()?.into()),
                _ => Value::Text(std::str::from_utf8(blob).ok()?.into()),
            });
        }
        Some(())
    }

    /// Leaves out the samples of a tag whose times have been read.
    #[inline]
    fn pass_over(&mut self, length: usize) -> Result<(), DecodeError> {
        let damaged = |column| DecodeError::Damaged { column };
        let samples = u64::try_from(length).map_err(|_| damaged("tags"))?;
        self.source.pass_over(samples).ok_or(damaged("source times"))?;
        self.server.pass_over(samples).ok_or(damaged("server times"))?;
        self.quality.skip(samples).ok_or(damaged("quality"))?;
        self.status.skip(samples).ok_or(damaged("status"))?;
        self.pass_over_values(length, samples).ok_or(damaged("values"))
    }

    #[inline]
    fn pass_over_values(&mut self, length: usize, samples: u64) -> Option<()> {
        if let Some(kind) = self.kinds.take_same(samples)? {
            return self.pass_over_kind(kind_of(kind)?, length);
        }
        let mut counts = [0_usize; KINDS.len() + 1];
        for _ in 0..length {
            let kind = kind_of(self.kinds.next()?)?;
            *counts.get_mut(usize::from(kind as u8))? += 1;
        }
        for kind in KINDS {
            let count = *counts.get(usize::from(kind as u8))?;
            if count > 0 {
                self.pass_over_kind(kind, count)?;
            }
        }
        Some(())
    }

    #[inline]
    fn pass_over_kind(&mut self, kind: ValueKind, count: usize) -> Option<()> {
        match kind {
            ValueKind::None => Some(()),
            ValueKind::Bool => {
                self.bool_at = self.bool_at.checked_add(count)?;
                (self.bool_at.div_ceil(8) <= self.bools.len()).then_some(())
            }
            ValueKind::I64 | ValueKind::U64 => self.series.skip_integers(count),
            ValueKind::F32 | ValueKind::F64 => self.series.skip_floats(count),
            ValueKind::Text | ValueKind::Bytes | ValueKind::Json => {
                for _ in 0..count {
                    let length = self.lengths.length()?.saturating_sub(1);
                    self.blobs.take(length)?;
                }
                Some(())
            }
        }
    }

    fn check_end(&self) -> Result<(), DecodeError> {
        let ends = [
            ("times", self.times.is_empty() && self.same == 0),
            ("source times", self.source.is_done()),
            ("server times", self.server.is_done()),
            ("quality", self.quality.is_done()),
            ("status", self.status.is_done()),
            ("kinds", self.kinds.is_done()),
            ("bools", self.are_bools_done()),
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

    /// What fills up the last byte is zero.
    fn are_bools_done(&self) -> bool {
        self.bool_at.div_ceil(8) == self.bools.len()
            && (self.bool_at.is_multiple_of(8)
                || self.bools.last().is_none_or(|byte| byte >> (self.bool_at % 8) == 0))
    }
}

/// Reads what `Presence` wrote.
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

    /// How many more are as present as the next one is, at least one.
    fn ahead(&mut self) -> Option<u64> {
        let mut left = match self.left {
            Some(left) => left,
            None => self.cursor.varint()?,
        };
        if left == 0 {
            self.is_present = !self.is_present;
            // Only the first run may be empty, so that input cannot keep the loop turning.
            left = self.cursor.varint().filter(|run| *run > 0)?;
        }
        self.left = Some(left);
        Some(left)
    }

    fn next(&mut self, acquired: Timestamp) -> Option<Option<Timestamp>> {
        self.left = Some(self.ahead()? - 1);
        if !self.is_present {
            return Some(None);
        }
        let distance = self.cursor.signed()?;
        Some(Some(Timestamp(acquired.0.wrapping_add(distance))))
    }

    /// The times of samples that were acquired then.
    #[inline]
    fn column<'b>(
        &mut self,
        acquired: &[Timestamp],
        buffer: &'b mut Vec<Option<Timestamp>>,
    ) -> Option<Column<'b, Option<Timestamp>>> {
        if self.is_always_absent {
            return Some(Column::Same(None));
        }
        buffer.clear();
        for &acquired in acquired {
            buffer.push(self.next(acquired)?);
        }
        Some(Column::Each(buffer))
    }

    #[inline]
    fn pass_over(&mut self, mut samples: u64) -> Option<()> {
        while samples > 0 && !self.is_always_absent {
            let left = self.ahead()?;
            let taken = left.min(samples);
            if self.is_present {
                self.cursor.skip_varints(usize::try_from(taken).ok()?)?;
            }
            self.left = Some(left - taken);
            samples -= taken;
        }
        Some(())
    }

    fn is_done(&self) -> bool {
        self.cursor.is_empty() && self.left.is_none_or(|left| left == 0)
    }
}
