//! What one tag did in one span of time.
//!
//! # Invariants
//! - Cells merge to what the samples of both would have given, whatever the order; only the last
//!   digits of a sum depend on it.
//! - The smallest and the largest keep the form that the sample had: nothing is widened or rounded.

use std::cmp::Ordering;
use std::ops::Range;

use tidegate_record::samples::{Column, Run, Values};
use tidegate_translator::{Quality, Sample, Value};

/// A number as a sample holds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A signed integer.
    I64(i64),
    /// An unsigned integer.
    U64(u64),
    /// A single.
    F32(f32),
    /// A double.
    F64(f64),
}

impl Number {
    /// The number of a value; `None` for what is none, or not finite.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::I64(v) => Some(Self::I64(*v)),
            Value::U64(v) => Some(Self::U64(*v)),
            Value::F32(v) => v.is_finite().then_some(Self::F32(*v)),
            Value::F64(v) => v.is_finite().then_some(Self::F64(*v)),
            _ => None,
        }
    }

    /// As a double, for sums: integers beyond 2^53 are rounded.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean is a double")]
    pub const fn double(self) -> f64 {
        match self {
            Self::I64(v) => v as f64,
            Self::U64(v) => v as f64,
            Self::F32(v) => v as f64,
            Self::F64(v) => v,
        }
    }

    /// The value that a sample would hold.
    #[must_use]
    pub const fn value(self) -> Value {
        match self {
            Self::I64(v) => Value::I64(v),
            Self::U64(v) => Value::U64(v),
            Self::F32(v) => Value::F32(v),
            Self::F64(v) => Value::F64(v),
        }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::I64(_) => 0,
            Self::U64(_) => 1,
            Self::F32(_) => 2,
            Self::F64(_) => 3,
        }
    }

    /// By size; equal ones of different forms by their form, so that merging knows no order.
    #[must_use]
    #[inline]
    pub fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::I64(a), Self::I64(b)) => a.cmp(&b),
            (Self::U64(a), Self::U64(b)) => a.cmp(&b),
            (Self::F32(a), Self::F32(b)) => a.total_cmp(&b),
            (Self::F64(a), Self::F64(b)) => a.total_cmp(&b),
            (Self::I64(a), Self::U64(b)) => {
                i128::from(a).cmp(&i128::from(b)).then(self.rank().cmp(&other.rank()))
            }
            (Self::U64(a), Self::I64(b)) => {
                i128::from(a).cmp(&i128::from(b)).then(self.rank().cmp(&other.rank()))
            }
            _ => self.double().total_cmp(&other.double()).then(self.rank().cmp(&other.rank())),
        }
    }
}

/// The last sample of a span by its place in the record.
#[derive(Debug, Clone, PartialEq)]
pub struct Last {
    /// Its sequence number.
    pub seq: u64,
    /// When it was acquired, nanoseconds since 1970 UTC.
    pub acquired: i64,
    /// Whether it is vouched for.
    pub quality: Quality,
    /// Its value.
    pub value: Value,
}

/// What one tag did in one span of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cell {
    /// Samples.
    pub count: u64,
    /// Samples that are vouched for.
    pub good: u64,
    /// Usable numbers: finite, of a sample that is not bad.
    pub numbers: u64,
    /// The smallest of them.
    pub min: Option<Number>,
    /// The largest of them.
    pub max: Option<Number>,
    /// Their sum.
    pub sum: f64,
    /// The last sample.
    pub last: Option<Last>,
}

impl Cell {
    /// Takes in a sample.
    pub fn add(&mut self, seq: u64, sample: &Sample) {
        self.count += 1;
        self.good += u64::from(sample.quality == Quality::Good);
        if !matches!(sample.quality, Quality::Bad(_))
            && let Some(number) = Number::of(&sample.value)
        {
            self.add_number(number);
        }
        if self.last.as_ref().is_none_or(|last| last.seq <= seq) {
            self.last = Some(Last {
                seq,
                acquired: sample.acquired.0,
                quality: sample.quality,
                value: sample.value.clone(),
            });
        }
    }

    /// Takes in some samples of a run that follow each other.
    pub fn add_run(&mut self, run: &Run<'_>, part: Range<usize>) {
        let Some(end) = part.end.checked_sub(1).filter(|end| *end >= part.start) else { return };
        let length = part.len();
        self.count += length as u64;
        match run.quality {
            Column::Same(quality) => {
                self.good += if quality == Quality::Good { length as u64 } else { 0 };
                if !matches!(quality, Quality::Bad(_)) {
                    self.add_values(run.values, part);
                }
            }
            Column::Each(qualities) => {
                for (at, quality) in part.clone().zip(qualities.get(part).unwrap_or_default()) {
                    self.good += u64::from(*quality == Quality::Good);
                    if !matches!(quality, Quality::Bad(_)) {
                        self.add_values(run.values, at..at + 1);
                    }
                }
            }
        }
        let seq = run.seq(end);
        if self.last.as_ref().is_none_or(|last| last.seq <= seq)
            && let (Some(acquired), Some(quality), Some(value)) =
                (run.acquired.get(end), run.quality.at(end), run.values.at(end))
        {
            self.last = Some(Last { seq, acquired: acquired.0, quality, value });
        }
    }

    fn add_values(&mut self, values: Values<'_>, part: Range<usize>) {
        match values {
            Values::None | Values::Bool(_) => {}
            Values::I64(values) => self.add_ordered(values.get(part), Number::I64),
            Values::U64(values) => self.add_ordered(values.get(part), Number::U64),
            Values::F32(values) => {
                let finite = values.get(part).unwrap_or_default().iter().copied();
                self.add_floats(finite.filter(|v| v.is_finite()), f32::total_cmp, Number::F32);
            }
            Values::F64(values) => {
                let finite = values.get(part).unwrap_or_default().iter().copied();
                self.add_floats(finite.filter(|v| v.is_finite()), f64::total_cmp, Number::F64);
            }
            Values::Other(values) => {
                for number in values.get(part).unwrap_or_default().iter().filter_map(Number::of) {
                    self.add_number(number);
                }
            }
        }
    }

    fn add_ordered<T: Copy + Ord>(&mut self, values: Option<&[T]>, number: fn(T) -> Number) {
        let values = values.unwrap_or_default();
        self.numbers += values.len() as u64;
        self.sum += values.iter().map(|value| number(*value).double()).sum::<f64>();
        let (min, max) = (values.iter().copied().min(), values.iter().copied().max());
        self.take_extremes(min.map(number), max.map(number));
    }

    #[inline]
    fn add_floats<T: Copy>(
        &mut self,
        values: impl Iterator<Item = T>,
        order: fn(&T, &T) -> Ordering,
        number: fn(T) -> Number,
    ) {
        let mut extremes: Option<(T, T)> = None;
        for value in values {
            self.numbers += 1;
            self.sum += number(value).double();
            let (min, max) = extremes.get_or_insert((value, value));
            if order(&value, min).is_lt() {
                *min = value;
            }
            if order(&value, max).is_gt() {
                *max = value;
            }
        }
        if let Some((min, max)) = extremes {
            self.take_extremes(Some(number(min)), Some(number(max)));
        }
    }

    fn add_number(&mut self, number: Number) {
        self.numbers += 1;
        self.sum += number.double();
        self.take_extremes(Some(number), Some(number));
    }

    /// Takes in what the same tag did in another part of the same epoch.
    pub fn merge(&mut self, other: &Self) {
        self.merge_numbers(other);
        if let Some(theirs) = &other.last
            && self.last.as_ref().is_none_or(|ours| ours.seq <= theirs.seq)
        {
            self.last = Some(theirs.clone());
        }
    }

    /// Takes in what the same tag did later, in a later epoch: sequence numbers do not compare.
    pub fn merge_later(&mut self, other: &Self) {
        self.merge_numbers(other);
        if other.last.is_some() {
            self.last.clone_from(&other.last);
        }
    }

    /// The mean of the usable numbers.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no span has 2^53 samples")]
    pub fn mean(&self) -> Option<f64> {
        (self.numbers > 0).then(|| self.sum / self.numbers as f64)
    }

    fn merge_numbers(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.good = self.good.saturating_add(other.good);
        self.numbers = self.numbers.saturating_add(other.numbers);
        self.sum += other.sum;
        self.take_extremes(other.min, other.max);
    }

    #[inline]
    fn take_extremes(&mut self, min: Option<Number>, max: Option<Number>) {
        if let Some(min) = min
            && self.min.is_none_or(|ours| min.order(ours) == Ordering::Less)
        {
            self.min = Some(min);
        }
        if let Some(max) = max
            && self.max.is_none_or(|ours| max.order(ours) == Ordering::Greater)
        {
            self.max = Some(max);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_translator::{Reason, TagId, Timestamp};

    use super::*;

    fn number() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::I64),
            any::<u64>().prop_map(Value::U64),
            any::<f32>().prop_map(Value::F32),
            (-10_i64..10).prop_map(Value::I64),
            (0_u8..10).prop_map(|v| Value::F64(v.into())),
            Just(Value::F64(f64::NAN)),
            Just(Value::Bool(true)),
        ]
    }

    fn sample(value: Value, quality: Quality) -> Sample {
        Sample { quality, ..Sample::good(TagId(1), Timestamp(5), value) }
    }

    #[test]
    fn bad_samples_and_what_is_no_number_count_and_are_no_part_of_the_mean() {
        let mut cell = Cell::default();
        cell.add(0, &sample(Value::F64(2.0), Quality::Good));
        cell.add(1, &sample(Value::F64(4.0), Quality::Uncertain(Reason::Stale)));
        cell.add(2, &sample(Value::F64(90.0), Quality::Bad(Reason::Timeout)));
        cell.add(3, &sample(Value::F64(f64::INFINITY), Quality::Good));
        assert_eq!((cell.count, cell.good, cell.numbers), (4, 2, 2));
        assert_eq!((cell.mean(), cell.max), (Some(3.0), Some(Number::F64(4.0))));
        assert_eq!(cell.last.unwrap().seq, 3);
    }

    #[test]
    fn integers_that_a_double_would_make_equal_are_told_apart() {
        let mut cell = Cell::default();
        let large = 1 << 60;
        for (seq, v) in [(0, large + 1), (1, large), (2, large + 2)] {
            cell.add(seq, &sample(Value::I64(v), Quality::Good));
        }
        assert_eq!(cell.min, Some(Number::I64(large)));
        assert_eq!(cell.max, Some(Number::I64(large + 2)));
    }

    proptest! {
        #[test]
        fn parts_merge_to_the_whole_whatever_their_order(
            values in prop::collection::vec((number(), 0..2_u8), 1..40),
            cut in 0..40_usize,
        ) {
            let (mut whole, mut first, mut second) = Default::default();
            for (at, (value, part)) in values.into_iter().enumerate() {
                let sample = sample(value, Quality::Good);
                let seq = at as u64;
                Cell::add(&mut whole, seq, &sample);
                let half: &mut Cell =
                    if (at + cut).is_multiple_of(2) ^ (part == 0) { &mut first } else { &mut second };
                half.add(seq, &sample);
            }
            let mut other = second.clone();
            other.merge(&first);
            first.merge(&second);
            for merged in [&first, &other] {
                prop_assert_eq!(merged.count, whole.count);
                prop_assert_eq!(merged.numbers, whole.numbers);
                prop_assert_eq!(merged.min, whole.min);
                prop_assert_eq!(merged.max, whole.max);
                prop_assert_eq!(merged.last.as_ref().map(|l| l.seq), whole.last.as_ref().map(|l| l.seq));
            }
        }
    }
}
