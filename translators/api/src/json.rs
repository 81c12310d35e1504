//! How numbers and texts stand in JSON, wherever a value becomes JSON: in a translator that makes
//! text of a structure, on the live plane, in `tags` and `tap`.
//!
//! # Invariants
//! - What is written is one JSON value on one line.
//! - An integer that a double cannot hold is a string.

use std::fmt::{Display, Write as _};

/// Beyond this a reader that knows only doubles would change an integer.
const EXACT: u64 = 1 << 53;

/// Appends an integer, whose absolute value is `magnitude`.
pub fn write_integer(out: &mut String, value: impl Display, magnitude: u64) {
    // Writing to a String cannot fail.
    let _ = if magnitude > EXACT { write!(out, "\"{value}\"") } else { write!(out, "{value}") };
}

/// Appends a text in quotes.
pub fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Line separators would end a line for some readers of JSON lines.
            c if c < ' ' || matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
