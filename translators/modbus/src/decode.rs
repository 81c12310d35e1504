//! From registers and bits to values.
//!
//! A value goes through these steps, in this order, and a step that takes the value away is the
//! last one:
//!
//! 1. *raw*: the bits in order, read as the tag's type;
//! 2. *NaN policy*: what is not a number stays, or goes;
//! 3. *scale*, then *offset*;
//! 4. *range*, on the scaled number;
//! 5. *states*, which name the raw integer, not the scaled or clamped one.
//!
//! # Invariants
//! - Every pattern of bits decodes: nothing panics, nothing is refused but a wrong count.
//! - With scale 1 and offset 0 the value is exactly what the device holds: integers stay integers,
//!   a single stays a single, a NaN keeps its payload.
//! - What is not a finite number, not within its range, not a decimal digit or not text is never
//!   called good.
//! - A bad reading has no value, and a reading without a value is bad.

mod meaning;
mod side_by_side;
mod text;

use tidegate_translator::{Quality, Reason, Value};

pub use self::side_by_side::{Interpretation, interpretations};
use crate::spec::{DataType, Order, TagSpec};

/// A value and how far it can be trusted.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// What the device holds, scaled and named.
    pub value: Value,
    /// Good, or why not:
    ///
    /// | reason | when |
    /// |---|---|
    /// | `not-a-number` | a NaN |
    /// | `out-of-range` | outside of the tag's range; an infinity; a nibble above 9 in a BCD number; a number that has no name among the tag's states |
    /// | `malformed` | a text with bytes that are no text |
    pub quality: Quality,
}

impl Decoded {
    const fn good(value: Value) -> Self {
        Self { value, quality: Quality::Good }
    }

    const fn uncertain(value: Value, reason: Reason) -> Self {
        Self { value, quality: Quality::Uncertain(reason) }
    }

    const fn bad(reason: Reason) -> Self {
        Self { value: Value::None, quality: Quality::Bad(reason) }
    }
}

/// Decodes one coil or discrete input. Scale, offset and range mean nothing to a bool; its states
/// name 0 and 1.
#[must_use]
pub fn decode_bit(tag: &TagSpec, bit: bool) -> Decoded {
    refined(tag, Decoded::good(Value::Bool(bit)))
}

/// Decodes the registers of one tag, in the order in which they travelled; `None` when they are
/// not as many as the tag's type takes.
///
/// A scaled number is computed and kept as a double, so integers beyond 2^53 lose their last bits
/// there, and only there. Scale, offset, range and states mean nothing to a text.
#[must_use]
pub fn decode_registers(tag: &TagSpec, registers: &[u16]) -> Option<Decoded> {
    let raw = raw(tag.kind, tag.order, tag.address.bit, registers)?;
    Some(refined(tag, raw))
}

/// Everything after the first step. Most tags have none of it, so it costs them two comparisons.
#[inline]
fn refined(tag: &TagSpec, raw: Decoded) -> Decoded {
    if tag.special.is_none() && tag.is_unscaled() { raw } else { meaning::of(tag, raw) }
}

/// The bits as the type says.
#[inline]
fn raw(kind: DataType, order: Order, bit: Option<u8>, registers: &[u16]) -> Option<Decoded> {
    // The type alone decides: one jump, and then straight on.
    let integer = |value| Some(Decoded::good(value));
    match kind {
        DataType::Bool => {
            let bit = bit.filter(|bit| *bit < 16)?;
            integer(Value::Bool((one(order, registers)? >> bit) & 1 == 1))
        }
        DataType::Int16 => integer(Value::I64(one(order, registers)?.cast_signed().into())),
        DataType::Uint16 => integer(Value::U64(one(order, registers)?.into())),
        DataType::Int32 => integer(Value::I64(two(order, registers)?.cast_signed().into())),
        DataType::Uint32 => integer(Value::U64(two(order, registers)?.into())),
        DataType::Int64 => integer(Value::I64(four(order, registers)?.cast_signed())),
        DataType::Uint64 => integer(Value::U64(four(order, registers)?)),
        DataType::Float32 => {
            let number = f32::from_bits(two(order, registers)?);
            Some(float(Value::F32(number), number.is_finite(), number.is_nan()))
        }
        DataType::Float64 => {
            let number = f64::from_bits(four(order, registers)?);
            Some(float(Value::F64(number), number.is_finite(), number.is_nan()))
        }
        DataType::Bcd16 => Some(decimal(one(order, registers)?.into(), 4)),
        DataType::Bcd32 => Some(decimal(two(order, registers)?.into(), 8)),
        DataType::Bcd64 => Some(decimal(four(order, registers)?, 16)),
        DataType::Text(bytes) => text::decode(bytes, order, registers),
    }
}

/// A word after its bytes were put in order.
#[inline]
const fn word(order: Order, register: u16) -> u16 {
    if order.swaps_bytes() { register.swap_bytes() } else { register }
}

#[inline]
fn one(order: Order, registers: &[u16]) -> Option<u16> {
    let [only] = *registers else { return None };
    Some(word(order, only))
}

#[inline]
fn two(order: Order, registers: &[u16]) -> Option<u32> {
    let [first, second] = *registers else { return None };
    let (high, low) = if order.swaps_words() { (second, first) } else { (first, second) };
    Some(u32::from(word(order, high)) << 16 | u32::from(word(order, low)))
}

#[inline]
fn four(order: Order, registers: &[u16]) -> Option<u64> {
    let [first, second, third, fourth] = *registers else { return None };
    let (high, low) = if order.swaps_words() {
        ([fourth, third], [second, first])
    } else {
        ([first, second], [third, fourth])
    };
    // The words stand in order now.
    let order = if order.swaps_bytes() { Order::Badc } else { Order::Abcd };
    Some(u64::from(two(order, &high)?) << 32 | u64::from(two(order, &low)?))
}

/// A float as it is: a NaN and an infinity keep their bits.
#[inline]
const fn float(value: Value, is_finite: bool, is_nan: bool) -> Decoded {
    if is_finite {
        Decoded::good(value)
    } else if is_nan {
        Decoded::uncertain(value, Reason::NotANumber)
    } else {
        Decoded::uncertain(value, Reason::OutOfRange)
    }
}

/// A binary-coded decimal of so many digits. A nibble above 9 is no digit, and then the number is
/// none: guessing at the others would be a wrong value.
fn decimal(bits: u64, digits: u32) -> Decoded {
    let mut number = 0;
    for place in (0..digits).rev() {
        let digit = (bits >> (4 * place)) & 0xf;
        if digit > 9 {
            return Decoded::bad(Reason::OutOfRange);
        }
        number = number * 10 + digit;
    }
    Decoded::good(Value::U64(number))
}

#[cfg(test)]
mod tests;
