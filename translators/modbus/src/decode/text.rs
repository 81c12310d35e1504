//! Texts in registers: two bytes in each, as PLCs keep names, batch numbers and bar codes.
//!
//! The bytes are taken in the order of the registers, the high byte of each first, or the low one
//! where the order swaps bytes. The text ends at the first NUL, or at its length. A tab and a line
//! break become one space each, and spaces at the end are padding and go, so that a reader's
//! `CR LF` goes as well.
//!
//! # Invariants
//! - What comes out is UTF-8 without control characters: it can stand in a terminal, a log line
//!   and a JSON text. What does not fit becomes U+FFFD, and then the text is uncertain
//!   (`malformed`).

use tidegate_translator::{Quality, Reason, Value};

use super::Decoded;
use super::number::word;
use crate::spec::Order;

/// The text of this many bytes; `None` when the registers are not as many as it takes. The order
/// of words means nothing to a text; the planner refuses one.
pub(super) fn decode(bytes: u16, order: Order, registers: &[u16]) -> Option<Decoded> {
    let length = usize::from(bytes);
    if registers.len() != length.div_ceil(2) {
        return None;
    }
    let bytes = registers.iter().flat_map(|register| word(order, *register).to_be_bytes());
    let bytes = bytes.take(length).take_while(|byte| *byte != 0).collect();
    let (mut text, mut whole) = match String::from_utf8(bytes) {
        Ok(text) => (text, true),
        Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), false),
    };
    if text.contains(char::is_control) {
        whole &= !text.contains(is_stray);
        text = text.replace(['\t', '\n', '\r'], " ").replace(is_stray, "\u{fffd}");
    }
    text.truncate(text.trim_end_matches(' ').len());
    let value = Value::Text(text.into());
    let quality = if whole { Quality::Good } else { Quality::Uncertain(Reason::Malformed) };
    Some(Decoded { value, quality })
}

/// Whether it is a control character that no text means.
fn is_stray(char: char) -> bool {
    char.is_control() && !matches!(char, '\t' | '\n' | '\r')
}
