//! The same registers in every type and order, for a person who knows the value and not the type.

use super::{Decoded, raw};
use crate::spec::{DataType, MAX_TEXT, Order};

/// One way to read registers.
#[derive(Debug, Clone, PartialEq)]
pub struct Interpretation {
    /// As what.
    pub kind: DataType,
    /// In which order; the first of those that read the same.
    pub order: Order,
    /// What comes out, unscaled.
    pub decoded: Decoded,
}

/// Every way to read a value that begins with the first of these registers: each type that they
/// suffice for, and a text of all of them, 250 bytes at most. Bits in a register are left out,
/// and so is an order that reads the same as an earlier one.
#[must_use]
pub fn interpretations(registers: &[u16]) -> Vec<Interpretation> {
    let bytes = registers.len().saturating_mul(2);
    let text = u16::try_from(bytes).unwrap_or(MAX_TEXT).min(MAX_TEXT);
    let mut ways: Vec<Interpretation> = Vec::new();
    for kind in DataType::all(text) {
        let Some(words) = registers.get(..usize::from(kind.registers())) else { continue };
        for order in Order::all().filter(|order| kind.travels_in(*order)) {
            let Some(decoded) = raw(kind, order, words) else { continue };
            let is_known = |way: &Interpretation| {
                way.kind == kind
                    && way.decoded.quality == decoded.quality
                    && way.decoded.value.is_same(&decoded.value)
            };
            if !ways.iter().any(is_known) {
                ways.push(Interpretation { kind, order, decoded });
            }
        }
    }
    ways
}
