//! What a raw value means for its tag: scale and offset, NaN policy, range, states.
//!
//! # Invariants
//! - The kind of a value never changes with its size: what is clamped stays an integer, a single
//!   or a double, and a tag with states has texts.
//! - Integers are compared with the ends of a range exactly, beyond 2^53 too.

use tidegate_translator::{Quality, Reason, Value};

use super::{Decoded, float};
use crate::spec::{LegalRange, NanPolicy, Outside, Special, States, TagSpec};

/// The value of `tag` whose bits read as `raw`.
pub(super) fn of(tag: &TagSpec, raw: Decoded) -> Decoded {
    let integer = integer(&raw.value);
    let scaled = scaled(tag, raw);
    let Some(special) = &tag.special else { return scaled };
    let judged = judged(special, scaled);
    match (&special.states, integer) {
        (Some(states), Some(integer)) if judged.value != Value::None => {
            named(states, integer, judged.quality)
        }
        _ => judged,
    }
}

/// What states can name.
fn integer(raw: &Value) -> Option<i128> {
    match *raw {
        Value::Bool(bit) => Some(bit.into()),
        Value::I64(number) => Some(number.into()),
        Value::U64(number) => Some(number.into()),
        _ => None,
    }
}

fn scaled(tag: &TagSpec, raw: Decoded) -> Decoded {
    match raw.value.as_f64() {
        Some(number) if !tag.is_unscaled() => {
            let number = number * tag.scale + tag.offset;
            float(Value::F64(number), number.is_finite(), number.is_nan())
        }
        _ => raw,
    }
}

/// NaN policy and range. A NaN stays one through scale and offset, so it can be judged after them;
/// it is neither inside nor outside of a range.
fn judged(special: &Special, scaled: Decoded) -> Decoded {
    if scaled.quality == Quality::Uncertain(Reason::NotANumber) {
        return match special.nan {
            NanPolicy::Mark => scaled,
            NanPolicy::Bad => Decoded::bad(Reason::NotANumber),
        };
    }
    let Some(range) = special.range else { return scaled };
    let Some(end) = nearer_end(range, &scaled.value) else { return scaled };
    match range.outside {
        Outside::Mark => Decoded::uncertain(scaled.value, Reason::OutOfRange),
        Outside::Clamp if end != Value::None => Decoded::uncertain(end, Reason::OutOfRange),
        Outside::Clamp | Outside::Bad => Decoded::bad(Reason::OutOfRange),
    }
}

/// The end of the range that is nearer to a value outside; `None` for a value inside.
///
/// The end of an integer is the last whole number inside, such as 10 where `max` is 10.5, and
/// [`Value::None`] where the range has no whole number that the kind can hold. The end of a single
/// is the single nearest to what is configured, so that a device which sends its 0.1 is not above
/// a `max` of 0.1. An infinity is outside of every range, and is its own nearer end where the
/// range is open there.
fn nearer_end(range: LegalRange, value: &Value) -> Option<Value> {
    match *value {
        Value::I64(number) => {
            let end = whole_end(range, number.into())?;
            Some(end.and_then(|end| i64::try_from(end).ok()).map_or(Value::None, Value::I64))
        }
        Value::U64(number) => {
            let end = whole_end(range, number.into())?;
            Some(end.and_then(|end| u64::try_from(end).ok()).map_or(Value::None, Value::U64))
        }
        Value::F32(number) => {
            let (min, max) = (single(range.min), single(range.max));
            let end = if number < min || number == f32::NEG_INFINITY {
                min
            } else if number > max || number == f32::INFINITY {
                max
            } else {
                return None;
            };
            Some(Value::F32(end))
        }
        Value::F64(number) => {
            let end = if number < range.min || number == f64::NEG_INFINITY {
                range.min
            } else if number > range.max || number == f64::INFINITY {
                range.max
            } else {
                return None;
            };
            Some(Value::F64(end))
        }
        _ => None,
    }
}

/// The same for an integer; `Some(None)` when it is outside and no whole number is inside.
#[expect(clippy::option_option, reason = "inside, outside with an end, outside without one")]
#[expect(
    clippy::cast_possible_truncation,
    reason = "whole already, and what is beyond 128 bits is beyond every integer compared with it"
)]
fn whole_end(range: LegalRange, number: i128) -> Option<Option<i128>> {
    let (low, high) = (range.min.ceil() as i128, range.max.floor() as i128);
    let end = if number < low {
        low
    } else if number > high {
        high
    } else {
        return None;
    };
    Some((low <= high).then_some(end))
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
        None => Decoded::uncertain(Value::Text(integer.to_string().into()), Reason::OutOfRange),
    }
}
