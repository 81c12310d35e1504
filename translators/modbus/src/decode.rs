//! From registers and bits to values.
//!
//! # Invariants
//! - Every pattern of bits decodes: nothing panics, nothing is refused but a wrong count.
//! - With scale 1 and offset 0 the value is exactly what the device holds: integers stay integers,
//!   a single stays a single, a NaN keeps its payload.
//! - What is not a finite number keeps its value and is never called good.

use tidegate_translator::{Quality, Reason, Value};

use crate::spec::{DataType, TagSpec};

/// A value and how far it can be trusted.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// What the device holds, scaled.
    pub value: Value,
    /// Good; uncertain for NaN (`not-a-number`) and infinities (`out-of-range`).
    pub quality: Quality,
}

/// Decodes one coil or discrete input. Scale and offset mean nothing to a bool.
#[must_use]
pub const fn decode_bit(bit: bool) -> Decoded {
    Decoded { value: Value::Bool(bit), quality: Quality::Good }
}

/// Decodes the registers of one tag, in the order in which they travelled; `None` when they are
/// not as many as the tag's type takes.
///
/// A scaled number is computed and kept as a double, so integers beyond 2^53 lose their last bits
/// there, and only there.
#[must_use]
pub fn decode_registers(tag: &TagSpec, registers: &[u16]) -> Option<Decoded> {
    if registers.len() != usize::from(tag.kind.registers()) {
        return None;
    }
    // The value's bits, most significant word first whatever the wire's order.
    let mut raw = 0;
    for at in 0..registers.len() {
        let at = if tag.order.swaps_words() { registers.len() - 1 - at } else { at };
        let word = *registers.get(at)?;
        let word = if tag.order.swaps_bytes() { word.swap_bytes() } else { word };
        raw = (raw << 16) | u64::from(word);
    }
    let value = match tag.kind {
        DataType::Bool => {
            let bit = tag.address.bit.filter(|bit| *bit < 16)?;
            return Some(decode_bit((raw >> bit) & 1 == 1));
        }
        DataType::Uint16 | DataType::Uint32 | DataType::Uint64 => Value::U64(raw),
        DataType::Int16 => Value::I64(sign_extend(raw, 16)),
        DataType::Int32 => Value::I64(sign_extend(raw, 32)),
        DataType::Int64 => Value::I64(sign_extend(raw, 64)),
        DataType::Float32 => Value::F32(f32::from_bits(u32::try_from(raw).ok()?)),
        DataType::Float64 => Value::F64(f64::from_bits(raw)),
        DataType::Bcd16 | DataType::Bcd32 | DataType::Bcd64 | DataType::Text(_) => return None,
    };
    let value = if tag.is_unscaled() { value } else { scaled(&value, tag) };
    Some(Decoded { quality: quality_of(&value), value })
}

/// The low `bits` of `raw` as two's complement.
const fn sign_extend(raw: u64, bits: u32) -> i64 {
    let unused = 64 - bits;
    (raw << unused).cast_signed() >> unused
}

fn scaled(value: &Value, tag: &TagSpec) -> Value {
    value.as_f64().map_or(Value::None, |raw| Value::F64(raw * tag.scale + tag.offset))
}

fn quality_of(value: &Value) -> Quality {
    let number = match *value {
        Value::F32(v) => f64::from(v),
        Value::F64(v) => v,
        _ => return Quality::Good,
    };
    if number.is_nan() {
        Quality::Uncertain(Reason::NotANumber)
    } else if number.is_infinite() {
        Quality::Uncertain(Reason::OutOfRange)
    } else {
        Quality::Good
    }
}

#[cfg(test)]
mod tests;
