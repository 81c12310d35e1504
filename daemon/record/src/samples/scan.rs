//! Reads the samples of a body tag by tag, without making each of them: only of the tags that are
//! asked for, as columns that whoever counts, adds or looks for extremes goes over directly.
//!
//! # Invariants
//! - Whatever is taken is what [`decode`](super::decode) gives, which is itself such a reading.
//! - What is passed over is not judged beyond its length, so a body that is damaged there may
//!   read without an error. When everything is taken, a damaged body always ends in one.
//! - A visitor may have seen runs of a body that turns out to be damaged further on.
//! - Buffers are kept from one body to the next and hold no more than one body's samples.

use std::iter;
use std::slice::from_ref;

use tidegate_journal::{Codec, Frame};
use tidegate_translator::{Quality, Sample, TagId, Timestamp, Value, ValueKind};

use super::{DecodeError, columns, plain, unpack_into};

/// Which tags are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagSet(Option<Box<[TagId]>>);

impl TagSet {
    /// Every tag.
    #[must_use]
    pub const fn all() -> Self {
        Self(None)
    }

    /// Whether this tag is read.
    #[must_use]
    pub fn contains(&self, tag: TagId) -> bool {
        self.0.as_ref().is_none_or(|tags| tags.binary_search(&tag).is_ok())
    }

    /// How many tags are named; `None` when every tag is read.
    #[must_use]
    pub fn count(&self) -> Option<usize> {
        self.0.as_ref().map(|tags| tags.len())
    }

    pub(super) fn walk(&self) -> Walk<'_> {
        Walk(self.0.as_deref())
    }
}

impl FromIterator<TagId> for TagSet {
    fn from_iter<I: IntoIterator<Item = TagId>>(tags: I) -> Self {
        let mut tags: Vec<_> = tags.into_iter().collect();
        tags.sort_unstable();
        tags.dedup();
        Self(Some(tags.into()))
    }
}

/// Goes along a set with tags that only ascend.
pub(super) struct Walk<'a>(Option<&'a [TagId]>);

impl Walk<'_> {
    /// Whether this tag is read; `None` when neither it nor any later one is.
    #[inline]
    pub(super) fn wants(&mut self, tag: TagId) -> Option<bool> {
        let Some(rest) = &mut self.0 else { return Some(true) };
        if *rest.first()? < tag {
            let passed = rest.partition_point(|wanted| *wanted < tag);
            *rest = rest.get(passed..)?;
        }
        rest.first().map(|wanted| *wanted == tag)
    }
}

/// One property of the samples of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Column<'a, T> {
    /// All of them have the same.
    Same(T),
    /// Each has its own, in order.
    Each(&'a [T]),
}

impl<T: Copy> Column<'_, T> {
    /// That of the sample at this place in the run.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<T> {
        match self {
            Self::Same(value) => Some(*value),
            Self::Each(values) => values.get(index).copied(),
        }
    }

    /// All of them, as many as the run is long.
    pub fn iter(&self, length: usize) -> impl Iterator<Item = T> {
        let (same, each) = match self {
            Self::Same(value) => (Some(*value), [].as_slice()),
            Self::Each(values) => (None, *values),
        };
        let repeated = same.into_iter().flat_map(move |value| iter::repeat_n(value, length));
        repeated.chain(each.iter().copied())
    }
}

/// The values of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values<'a> {
    /// None of the samples has one.
    None,
    /// Coils and bits.
    Bool(&'a [bool]),
    /// Signed integers.
    I64(&'a [i64]),
    /// Unsigned integers.
    U64(&'a [u64]),
    /// Singles.
    F32(&'a [f32]),
    /// Doubles.
    F64(&'a [f64]),
    /// Text, bytes, JSON, or several kinds.
    Other(&'a [Value]),
}

impl Values<'_> {
    /// That of the sample at this place in the run.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<Value> {
        match self {
            Self::None => Some(Value::None),
            Self::Bool(values) => values.get(index).copied().map(Value::Bool),
            Self::I64(values) => values.get(index).copied().map(Value::I64),
            Self::U64(values) => values.get(index).copied().map(Value::U64),
            Self::F32(values) => values.get(index).copied().map(Value::F32),
            Self::F64(values) => values.get(index).copied().map(Value::F64),
            Self::Other(values) => values.get(index).cloned(),
        }
    }

    /// That of the sample at this place in the run as [`Value::as_f64`] gives it: `None` for what
    /// is no number.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "a bucket compares magnitudes, not identity")]
    pub fn number(&self, index: usize) -> Option<f64> {
        match self {
            Self::None | Self::Bool(_) => None,
            Self::I64(values) => values.get(index).map(|v| *v as f64),
            Self::U64(values) => values.get(index).map(|v| *v as f64),
            Self::F32(values) => values.get(index).copied().map(f64::from),
            Self::F64(values) => values.get(index).copied(),
            Self::Other(values) => values.get(index)?.as_f64(),
        }
    }
}

/// The samples of one tag that follow each other in a body.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run<'a> {
    /// Whose they are.
    pub tag: TagId,
    /// The sequence number of the first one; those after it follow without a hole.
    pub first: u64,
    /// When the gateway had each of them in hand: one for each sample, so never empty.
    pub acquired: &'a [Timestamp],
    /// What the device said of when they arose.
    pub source: Column<'a, Option<Timestamp>>,
    /// What the device's server said of when it saw them.
    pub server: Column<'a, Option<Timestamp>>,
    /// The protocol's own status words.
    pub status: Column<'a, u32>,
    /// How far they can be trusted.
    pub quality: Column<'a, Quality>,
    /// What was read.
    pub values: Values<'a>,
}

impl Run<'_> {
    /// How many samples, at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a run is never empty")]
    pub const fn len(&self) -> usize {
        self.acquired.len()
    }

    /// The sequence number of the sample at this place.
    #[must_use]
    pub fn seq(&self, index: usize) -> u64 {
        self.first.saturating_add(u64::try_from(index).unwrap_or(u64::MAX))
    }

    /// The sample at this place, whole.
    #[must_use]
    pub fn sample(&self, index: usize) -> Option<Sample> {
        Some(Sample {
            tag: self.tag,
            acquired: *self.acquired.get(index)?,
            source: self.source.at(index)?,
            server: self.server.at(index)?,
            status: self.status.at(index)?,
            quality: self.quality.at(index)?,
            value: self.values.at(index)?,
        })
    }

    /// Appends all samples, whole, in the order of their sequence numbers.
    pub fn push_to(&self, samples: &mut Vec<Sample>) {
        let whole = |(index, acquired): (usize, &Timestamp), value: Value| Sample {
            tag: self.tag,
            acquired: *acquired,
            source: self.source.at(index).flatten(),
            server: self.server.at(index).flatten(),
            status: self.status.at(index).unwrap_or(0),
            quality: self.quality.at(index).unwrap_or(Quality::Good),
            value,
        };
        let rows = self.acquired.iter().enumerate();
        match self.values {
            Values::None => samples.extend(rows.map(|row| whole(row, Value::None))),
            Values::Bool(values) => {
                samples.extend(rows.zip(values).map(|(row, v)| whole(row, Value::Bool(*v))));
            }
            Values::I64(values) => {
                samples.extend(rows.zip(values).map(|(row, v)| whole(row, Value::I64(*v))));
            }
            Values::U64(values) => {
                samples.extend(rows.zip(values).map(|(row, v)| whole(row, Value::U64(*v))));
            }
            Values::F32(values) => {
                samples.extend(rows.zip(values).map(|(row, v)| whole(row, Value::F32(*v))));
            }
            Values::F64(values) => {
                samples.extend(rows.zip(values).map(|(row, v)| whole(row, Value::F64(*v))));
            }
            Values::Other(values) => {
                samples.extend(rows.zip(values).map(|(row, v)| whole(row, v.clone())));
            }
        }
    }

    /// All samples, whole, in the order of their sequence numbers.
    pub fn samples(&self) -> impl Iterator<Item = Sample> {
        (0..self.len()).filter_map(|index| self.sample(index))
    }
}

/// Room for what a run holds.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub(super) acquired: Vec<Timestamp>,
    pub(super) source: Vec<Option<Timestamp>>,
    pub(super) server: Vec<Option<Timestamp>>,
    pub(super) status: Vec<u32>,
    pub(super) quality: Vec<Quality>,
    pub(super) kinds: Vec<ValueKind>,
    pub(super) values: ValueBuffers,
}

/// Room for the values of a run: those of one kind are in the column of that kind.
#[derive(Debug, Default)]
pub(super) struct ValueBuffers {
    pub(super) bools: Vec<bool>,
    pub(super) signed: Vec<i64>,
    pub(super) unsigned: Vec<u64>,
    pub(super) singles: Vec<f32>,
    pub(super) doubles: Vec<f64>,
    pub(super) others: Vec<Value>,
}

/// Reads bodies; keeps its buffers from one to the next.
#[derive(Debug, Default)]
pub struct Scanner {
    unpacked: Vec<u8>,
    buffers: Buffers,
}

impl Scanner {
    /// A scanner that has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows the samples of the chosen tags, run by run in the order of their sequence numbers.
    /// Runs of one tag follow each other: a body has one for each of its tags, or a few where it
    /// is a handful of samples.
    ///
    /// # Errors
    /// See [`decode`](super::decode); what is passed over is not judged.
    pub fn scan(
        &mut self,
        frame: &Frame<'_>,
        tags: &TagSet,
        visit: impl FnMut(&Run<'_>),
    ) -> Result<(), DecodeError> {
        let header = &frame.header;
        self.scan_body(header.codec, header.count, header.first_seq, frame.body, tags, visit)
    }

    /// [`Scanner::scan`] of a body whose header says this.
    ///
    /// # Errors
    /// See [`Scanner::scan`].
    pub fn scan_body(
        &mut self,
        codec: Codec,
        count: u32,
        first_seq: u64,
        body: &[u8],
        tags: &TagSet,
        visit: impl FnMut(&Run<'_>),
    ) -> Result<(), DecodeError> {
        let Self { unpacked, buffers } = self;
        match codec {
            Codec::Plain => {
                let samples = plain::decode(body, count)?;
                scan_samples(&samples, first_seq, tags, visit);
                Ok(())
            }
            Codec::Columns => columns::scan(body, count, first_seq, tags, buffers, visit),
            Codec::ColumnsLz4 => {
                let columns = unpack_into(body, unpacked)?;
                columns::scan(columns, count, first_seq, tags, buffers, visit)
            }
        }
    }
}

/// Each of a handful of samples as a run of its own, so that its value stands in its own column.
fn scan_samples(
    samples: &[Sample],
    first_seq: u64,
    tags: &TagSet,
    mut visit: impl FnMut(&Run<'_>),
) {
    for (first, sample) in (first_seq..).zip(samples) {
        if !tags.contains(sample.tag) {
            continue;
        }
        visit(&Run {
            tag: sample.tag,
            first,
            acquired: from_ref(&sample.acquired),
            source: Column::Same(sample.source),
            server: Column::Same(sample.server),
            status: Column::Same(sample.status),
            quality: Column::Same(sample.quality),
            values: match &sample.value {
                Value::None => Values::None,
                Value::Bool(value) => Values::Bool(from_ref(value)),
                Value::I64(value) => Values::I64(from_ref(value)),
                Value::U64(value) => Values::U64(from_ref(value)),
                Value::F32(value) => Values::F32(from_ref(value)),
                Value::F64(value) => Values::F64(from_ref(value)),
                other => Values::Other(from_ref(other)),
            },
        });
    }
}
