//! Parquet: one typed column for each kind of value, in row groups of bounded size.
//!
//! A value of a tag is in `v` when it is a number that a double holds exactly, in `v_int` when it
//! is an integer, in `v_bool`, `v_text`, `v_bytes` or `v_json` (structures, as text) when it is one
//! of these. A single is the double that its shortest decimal text gives, as in JSON. Integers
//! beyond 64 bits with sign are digits in `v_text`.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use ::parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::ByteArray;
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::{Type, TypePtr};

use super::SheetError;
use super::cell::Cell;
use super::columns::{Column, Kind};

/// Rows of a group: some ten megabytes in memory with all columns of samples.
const GROUP_ROWS: usize = 128 * 1024;

/// Bytes of texts of a group, each counted as often as it stands there unless it was shared.
const GROUP_BYTES: usize = 16 << 20;

/// Different texts of a column that are kept once each within a group.
const SHARED_TEXTS: usize = 16 * 1024;

/// Longer texts are hardly ever the same.
const SHARED_LENGTH: usize = 512;

pub(super) struct File {
    writer: SerializedFileWriter<Box<dyn Write + Send>>,
    columns: Vec<(Kind, usize)>,
    leaves: Vec<Leaf>,
    rows: usize,
    bytes: usize,
}

impl File {
    pub(super) fn begin(
        columns: &[Column],
        out: Box<dyn Write + Send>,
    ) -> Result<Self, SheetError> {
        let mut types: Vec<TypePtr> = Vec::new();
        let (mut leaves, mut places) = (Vec::new(), Vec::new());
        for column in columns {
            places.push((column.kind, leaves.len()));
            for (suffix, of) in parts(column.kind) {
                types.push(Arc::new(of.build(&format!("{}{suffix}", column.key)).map_err(failed)?));
                leaves.push(Leaf::of(*of));
            }
        }
        let schema = Type::group_type_builder("tidegate").with_fields(types).build();
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("tidegate ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let schema = Arc::new(schema.map_err(failed)?);
        let writer =
            SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(failed)?;
        Ok(Self { writer, columns: places, leaves, rows: 0, bytes: 0 })
    }

    pub(super) fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SheetError> {
        for ((kind, first), cell) in self.columns.iter().zip(cells) {
            let parts = parts(*kind);
            let leaves = self.leaves.iter_mut().skip(*first).take(parts.len());
            for ((_, of), leaf) in parts.iter().zip(leaves) {
                self.bytes += leaf.push(*of, *kind, cell);
            }
        }
        self.rows += 1;
        if self.rows >= GROUP_ROWS || self.bytes >= GROUP_BYTES { self.group() } else { Ok(()) }
    }

    fn group(&mut self) -> Result<(), SheetError> {
        let mut group = self.writer.next_row_group().map_err(failed)?;
        for leaf in &mut self.leaves {
            if let Some(mut column) = group.next_column().map_err(failed)? {
                leaf.write(column.untyped()).map_err(failed)?;
                column.close().map_err(failed)?;
            }
        }
        group.close().map_err(failed)?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), SheetError> {
        if self.rows > 0 {
            self.group()?;
        }
        let mut out = self.writer.into_inner().map_err(failed)?;
        Ok(out.flush()?)
    }
}

fn failed(error: ParquetError) -> SheetError {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => SheetError::Output(*error),
            Err(other) => SheetError::Output(io::Error::other(other)),
        },
        other => SheetError::Output(io::Error::other(other)),
    }
}

/// The type of a column in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Double,
    Int,
    Count,
    Time,
    Bool,
    Text,
    Bytes,
    Json,
}

/// The columns in the file for one of ours, each with the end of its name.
const fn parts(kind: Kind) -> &'static [(&'static str, Of)] {
    match kind {
        Kind::Value => &[
            ("", Of::Double),
            ("_int", Of::Int),
            ("_bool", Of::Bool),
            ("_text", Of::Text),
            ("_bytes", Of::Bytes),
            ("_json", Of::Json),
        ],
        Kind::Number => &[("", Of::Double), ("_int", Of::Int)],
        Kind::Float => &[("", Of::Double)],
        Kind::Count => &[("", Of::Count)],
        Kind::Time => &[("", Of::Time)],
        Kind::Text => &[("", Of::Text)],
        Kind::Bool => &[("", Of::Bool)],
    }
}

impl Of {
    fn build(self, name: &str) -> Result<Type, ParquetError> {
        let (physical, logical) = match self {
            Self::Double => (Physical::DOUBLE, None),
            Self::Int => (Physical::INT64, Some(LogicalType::integer(64, true))),
            Self::Count => (Physical::INT64, Some(LogicalType::integer(64, false))),
            Self::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::NANOS))),
            Self::Bool => (Physical::BOOLEAN, None),
            Self::Text | Self::Json => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Self::Bytes => (Physical::BYTE_ARRAY, None),
        };
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()
    }
}

/// The values of one column of a group.
struct Leaf {
    /// 1 where there is a value.
    present: Vec<i16>,
    values: Values,
}

enum Values {
    Doubles { values: Vec<f64>, last: Option<(f32, f64)> },
    Ints(Vec<i64>),
    Bools(Vec<bool>),
    Texts { values: Vec<ByteArray>, shared: HashMap<Box<[u8]>, ByteArray> },
}

impl Leaf {
    fn of(of: Of) -> Self {
        let values = match of {
            Of::Double => Values::Doubles { values: Vec::new(), last: None },
            Of::Int | Of::Count | Of::Time => Values::Ints(Vec::new()),
            Of::Bool => Values::Bools(Vec::new()),
            Of::Text | Of::Bytes | Of::Json => {
                Values::Texts { values: Vec::new(), shared: HashMap::new() }
            }
        };
        Self { present: Vec::new(), values }
    }

    /// Adds a cell's part in this column; returns the bytes that it takes beside its place.
    fn push(&mut self, of: Of, kind: Kind, cell: &Cell<'_>) -> usize {
        let mut bytes = 0;
        let is_there = match &mut self.values {
            Values::Doubles { values, last } => {
                let exact = kind == Kind::Value;
                let double = double(cell, exact, last);
                values.extend(double);
                double.is_some()
            }
            Values::Ints(values) => {
                let int = match (of, cell) {
                    (Of::Time, Cell::Time(v)) | (Of::Int, Cell::Int(v)) => Some(*v),
                    (Of::Int, Cell::Count(v)) => i64::try_from(*v).ok(),
                    (Of::Count, Cell::Count(v)) => Some(v.cast_signed()),
                    _ => None,
                };
                values.extend(int);
                int.is_some()
            }
            Values::Bools(values) => {
                let bool = if let Cell::Bool(v) = cell { Some(*v) } else { None };
                values.extend(bool);
                bool.is_some()
            }
            Values::Texts { values, shared } => {
                let digits;
                let text: Option<&[u8]> = match (of, cell) {
                    (Of::Text, Cell::Text(v)) | (Of::Json, Cell::Json(v)) => Some(v.as_bytes()),
                    (Of::Text, Cell::Json(v)) if kind == Kind::Text => Some(v.as_bytes()),
                    (Of::Text, Cell::Count(v)) if i64::try_from(*v).is_err() => {
                        digits = v.to_string();
                        Some(digits.as_bytes())
                    }
                    (Of::Bytes, Cell::Bytes(v)) => Some(v),
                    _ => None,
                };
                if let Some(text) = text {
                    let (value, new) = share(text, shared);
                    values.push(value);
                    bytes = new;
                }
                text.is_some()
            }
        };
        self.present.push(i16::from(is_there));
        bytes
    }

    /// Writes and forgets the values.
    fn write(&mut self, column: &mut ColumnWriter<'_>) -> Result<(), ParquetError> {
        let present = Some(self.present.as_slice());
        match (&mut self.values, column) {
            (Values::Doubles { values, .. }, ColumnWriter::DoubleColumnWriter(column)) => {
                column.write_batch(values, present, None)?;
                values.clear();
            }
            (Values::Ints(values), ColumnWriter::Int64ColumnWriter(column)) => {
                column.write_batch(values, present, None)?;
                values.clear();
            }
            (Values::Bools(values), ColumnWriter::BoolColumnWriter(column)) => {
                column.write_batch(values, present, None)?;
                values.clear();
            }
            (Values::Texts { values, shared }, ColumnWriter::ByteArrayColumnWriter(column)) => {
                column.write_batch(values, present, None)?;
                values.clear();
                shared.clear();
            }
            _ => return Err(ParquetError::General("column of another type".to_owned())),
        }
        self.present.clear();
        Ok(())
    }
}

/// The number of a cell; with `exact` only where the double is that number.
fn double(cell: &Cell<'_>, exact: bool, last: &mut Option<(f32, f64)>) -> Option<f64> {
    let fits = |v: f64, back: bool| (!exact || back).then_some(v);
    match cell {
        Cell::Double(v) => Some(*v),
        Cell::Single(v) if !v.is_finite() => Some(f64::from(*v)),
        Cell::Single(v) => {
            // Texts are slow, and values repeat.
            if let Some((known, wide)) = last
                && known.to_bits() == v.to_bits()
            {
                return Some(*wide);
            }
            let wide = format!("{v:?}").parse().unwrap_or_else(|_| f64::from(*v));
            *last = Some((*v, wide));
            Some(wide)
        }
        Cell::Int(v) => fits(whole(*v), v.unsigned_abs() <= 1 << 53),
        Cell::Count(v) => fits(whole_count(*v), *v <= 1 << 53),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53; beyond, the caller decides")]
const fn whole(v: i64) -> f64 {
    v as f64
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53; beyond, the caller decides")]
const fn whole_count(v: u64) -> f64 {
    v as f64
}

/// The text, once for all that are the same; and the bytes that it newly takes.
fn share(text: &[u8], shared: &mut HashMap<Box<[u8]>, ByteArray>) -> (ByteArray, usize) {
    if let Some(known) = shared.get(text) {
        return (known.clone(), 0);
    }
    let value = ByteArray::from(text.to_vec());
    if text.len() <= SHARED_LENGTH && shared.len() < SHARED_TEXTS {
        shared.insert(text.into(), value.clone());
    }
    (value, text.len())
}
