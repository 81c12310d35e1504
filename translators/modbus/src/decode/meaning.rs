//! What a number means for a tag that has more than a scale: NaN policy, range, states.
//!
//! # Invariants
//! - The kind of a value never changes with its size: what is clamped stays an integer, a single
//!   or a double, and a tag with states has texts.
//! - Integers are compared with the ends of a range exactly, beyond 2^53 too.

use tidegate_translator::{Quality, Reason, Value};

use super::Decoded;
use super::number::Number;
use crate::spec::{LegalRange, NanPolicy, Outside, Special, States};

/// The value whose bits read as `raw` and whose scaled number is `scaled`.
pub(super) fn of(special: &Special, raw: Number, scaled: Number) -> Decoded {
    let (number, quality) = judge(special, scaled);
    let states = special.states.as_deref();
    match (states.zip(raw.integer()), quality) {
        (_, Quality::Bad(reason)) => Decoded::bad(reason),
        (Some((states, integer)), _) => named(states, integer, quality),
        (None, _) => number.give(|value, _| Decoded { value, quality }),
    }
}

/// NaN policy and range. A NaN stays one through scale and offset, so it can be judged after them;
/// it is neither inside nor outside of a range.
fn judge(special: &Special, scaled: Number) -> (Number, Quality) {
    let quality = scaled.own_quality();
    if quality == Quality::Uncertain(Reason::NotANumber) {
        return match special.nan {
            NanPolicy::Mark => (scaled, quality),
            NanPolicy::Bad => (scaled, Quality::Bad(Reason::NotANumber)),
        };
    }
    let Some(range) = special.range else { return (scaled, quality) };
    let uncertain = Quality::Uncertain(Reason::OutOfRange);
    match (place(range, scaled), range.outside) {
        (Place::Inside, _) => (scaled, quality),
        (Place::Outside(_), Outside::Mark) => (scaled, uncertain),
        (Place::Outside(Some(end)), Outside::Clamp) => (end, uncertain),
        (Place::Outside(_), Outside::Clamp | Outside::Bad) => {
            (scaled, Quality::Bad(Reason::OutOfRange))
        }
    }
}

/// Where a number lies.
enum Place {
    Inside,
    /// With the end of the range that is nearer, of the number's own kind, if it can be one.
    Outside(Option<Number>),
}

impl Place {
    fn of<T: PartialOrd>(number: T, (min, max): (T, T), end: impl Fn(T) -> Option<Number>) -> Self {
        if number < min {
            Self::Outside(end(min))
        } else if number > max {
            Self::Outside(end(max))
        } else {
            Self::Inside
        }
    }
}

/// Compares a number with a range.
///
/// The end for an integer is the last whole number inside, such as 10 where `max` is 10.5, and
/// none where the range has no whole number that the kind can hold. The end for a single is the
/// single nearest to what is configured, so that a device which sends its 0.1 is not above a `max`
/// of 0.1. An infinity is outside of every range, and is its own nearer end where the range is
/// open there.
fn place(range: LegalRange, number: Number) -> Place {
    let whole = whole(range);
    let has_whole = whole.0 <= whole.1;
    match number {
        Number::I64(number) => Place::of(number.into(), whole, |end| {
            i64::try_from(end).ok().filter(|_| has_whole).map(Number::I64)
        }),
        Number::U64(number) => Place::of(number.into(), whole, |end| {
            u64::try_from(end).ok().filter(|_| has_whole).map(Number::U64)
        }),
        Number::F32(f32::INFINITY) => Place::Outside(Some(Number::F32(single(range.max)))),
        Number::F32(f32::NEG_INFINITY) => Place::Outside(Some(Number::F32(single(range.min)))),
        Number::F32(number) => {
            Place::of(number, (single(range.min), single(range.max)), |end| Some(Number::F32(end)))
        }
        Number::F64(f64::INFINITY) => Place::Outside(Some(Number::F64(range.max))),
        Number::F64(f64::NEG_INFINITY) => Place::Outside(Some(Number::F64(range.min))),
        Number::F64(number) => {
            Place::of(number, (range.min, range.max), |end| Some(Number::F64(end)))
        }
        Number::Bool(_) | Number::NoDecimal => Place::Inside,
    }
}

/// The first and the last whole number inside; the first is above the last where there is none.
#[expect(
    clippy::cast_possible_truncation,
    reason = "whole already, and what is beyond 128 bits is beyond every integer compared with it"
)]
fn whole(range: LegalRange) -> (i128, i128) {
    (range.min.ceil() as i128, range.max.floor() as i128)
}

#[expect(clippy::cast_possible_truncation, reason = "the nearest single is what is meant")]
const fn single(limit: f64) -> f32 {
    limit as f32
}

/// The name of an integer. One that has none keeps its digits, so that nothing is hidden, and is
/// not called good.
fn named(states: &States, integer: i128, quality: Quality) -> Decoded {
    match i64::try_from(integer).ok().and_then(|number| states.name(number)) {
        Some(name) => Decoded { value: Value::Text(name.into()), quality },
        None => Decoded {
            value: Value::Text(integer.to_string().into()),
            quality: Quality::Uncertain(Reason::OutOfRange),
        },
    }
}
