//! A number on its way from the registers to the value.
//!
//! It is copied freely and fits into two machine words, so that a value is written once, where it
//! stays.

use tidegate_translator::{Quality, Reason, Value};

use super::Decoded;
use crate::spec::{DataType, Order, TagSpec};

/// What the bits say as a type that is no text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Bool(bool),
    I64(i64),
    U64(u64),
    F32(f32),
    F64(f64),
    /// A nibble above 9 in a binary-coded decimal is no digit, and then the number is none:
    /// guessing at the other digits would be a wrong value.
    NoDecimal,
}

impl Number {
    /// Reads registers in the order in which they travelled; `None` when they are not as many as
    /// the type takes, or the type is a text.
    #[inline]
    pub(super) fn read(
        kind: DataType,
        order: Order,
        bit: Option<u8>,
        registers: &[u16],
    ) -> Option<Self> {
        // The type alone decides: one jump, and then straight on.
        Some(match kind {
            DataType::Bool => {
                let bit = bit.filter(|bit| *bit < 16)?;
                Self::Bool((one(order, registers)? >> bit) & 1 == 1)
            }
            DataType::Int16 => Self::I64(one(order, registers)?.cast_signed().into()),
            DataType::Uint16 => Self::U64(one(order, registers)?.into()),
            DataType::Int32 => Self::I64(two(order, registers)?.cast_signed().into()),
            DataType::Uint32 => Self::U64(two(order, registers)?.into()),
            DataType::Int64 => Self::I64(four(order, registers)?.cast_signed()),
            DataType::Uint64 => Self::U64(four(order, registers)?),
            DataType::Float32 => Self::F32(f32::from_bits(two(order, registers)?)),
            DataType::Float64 => Self::F64(f64::from_bits(four(order, registers)?)),
            DataType::Bcd16 => decimal(one(order, registers)?.into(), 4),
            DataType::Bcd32 => decimal(two(order, registers)?.into(), 8),
            DataType::Bcd64 => decimal(four(order, registers)?, 16),
            DataType::Text(_) => return None,
        })
    }

    /// The value, with what it says about itself: a NaN and an infinity keep their bits and are
    /// uncertain.
    pub(super) fn decoded(self) -> Decoded {
        self.give(|value, quality| Decoded { value, quality })
    }

    /// The same, written by `take`.
    #[inline]
    pub(super) fn give<R>(self, take: impl FnOnce(Value, Quality) -> R) -> R {
        match self {
            Self::Bool(bit) => take(Value::Bool(bit), Quality::Good),
            Self::I64(number) => take(Value::I64(number), Quality::Good),
            Self::U64(number) => take(Value::U64(number), Quality::Good),
            Self::F32(number) => take(Value::F32(number), self.own_quality()),
            Self::F64(number) => take(Value::F64(number), self.own_quality()),
            Self::NoDecimal => take(Value::None, self.own_quality()),
        }
    }

    #[inline]
    pub(super) const fn own_quality(self) -> Quality {
        let (is_finite, is_nan) = match self {
            Self::F32(number) => (number.is_finite(), number.is_nan()),
            Self::F64(number) => (number.is_finite(), number.is_nan()),
            Self::Bool(_) | Self::I64(_) | Self::U64(_) => return Quality::Good,
            Self::NoDecimal => return Quality::Bad(Reason::OutOfRange),
        };
        if is_finite {
            Quality::Good
        } else if is_nan {
            Quality::Uncertain(Reason::NotANumber)
        } else {
            Quality::Uncertain(Reason::OutOfRange)
        }
    }

    /// `raw * scale + offset`, as a double, unless that changes nothing; a bool, and what is no number, stays what it is.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "a scaled number is a double, by its contract")]
    pub(super) fn scaled(self, tag: &TagSpec) -> Self {
        if tag.is_unscaled() {
            return self;
        }
        let number = match self {
            Self::I64(number) => number as f64,
            Self::U64(number) => number as f64,
            Self::F32(number) => number.into(),
            Self::F64(number) => number,
            Self::Bool(_) | Self::NoDecimal => return self,
        };
        Self::F64(number * tag.scale + tag.offset)
    }

    /// What states can name: integers, and a bool as 0 or 1.
    pub(super) fn integer(self) -> Option<i128> {
        match self {
            Self::Bool(bit) => Some(bit.into()),
            Self::I64(number) => Some(number.into()),
            Self::U64(number) => Some(number.into()),
            Self::F32(_) | Self::F64(_) | Self::NoDecimal => None,
        }
    }
}

/// A word after its bytes were put in order.
#[inline]
pub(super) const fn word(order: Order, register: u16) -> u16 {
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
    let words = if order.swaps_words() {
        [fourth, third, second, first]
    } else {
        [first, second, third, fourth]
    };
    Some(words.into_iter().fold(0, |bits, each| bits << 16 | u64::from(word(order, each))))
}

/// A binary-coded decimal of so many digits.
fn decimal(bits: u64, digits: u32) -> Number {
    let mut number = 0;
    for place in (0..digits).rev() {
        let digit = (bits >> (4 * place)) & 0xf;
        if digit > 9 {
            return Number::NoDecimal;
        }
        number = number * 10 + digit;
    }
    Number::U64(number)
}
