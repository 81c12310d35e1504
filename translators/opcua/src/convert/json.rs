//! JSON text that cannot grow without end.
//!
//! The rendering is that of the live plane: integers beyond ±2^53 are strings, floats have the
//! fewest digits that give them back, what is no finite number is `null`, bytes are Base64.
//!
//! # Invariants
//! - Whatever is written, the text stays below its limit or the write fails.
//! - A number that became `null` is remembered, so that the value is not called good.

use std::fmt::{self, Write as _};

use tidegate_translator::Reason;
use tidegate_translator::json::{write_integer, write_text};

use super::Flaw;

/// JSON text in the making.
#[derive(Debug)]
pub(super) struct Json {
    text: String,
    limit: usize,
    /// Why the value is not good although its status is.
    lost: Option<Reason>,
}

impl Json {
    /// Text of at most `limit` bytes.
    pub(super) const fn new(limit: usize) -> Self {
        Self { text: String::new(), limit, lost: None }
    }

    /// The text, and what was lost on the way.
    pub(super) fn finish(self) -> (Box<str>, Option<Reason>) {
        (self.text.into(), self.lost)
    }

    /// Where the next byte will stand.
    pub(super) const fn at(&self) -> usize {
        self.text.len()
    }

    /// The text from a place on.
    pub(super) fn cut(&mut self, at: usize) -> String {
        self.text.split_off(at.min(self.text.len()))
    }

    /// Appends what is JSON already.
    pub(super) fn raw(&mut self, json: &str) -> Result<(), Flaw> {
        if json.len() > self.limit.saturating_sub(self.text.len()) {
            return Err(Flaw::TooLarge { limit: self.limit });
        }
        self.text.push_str(json);
        Ok(())
    }

    pub(super) fn null(&mut self) -> Result<(), Flaw> {
        self.raw("null")
    }

    pub(super) fn bool(&mut self, value: bool) -> Result<(), Flaw> {
        self.raw(if value { "true" } else { "false" })
    }

    pub(super) fn signed(&mut self, value: i64) -> Result<(), Flaw> {
        self.integer(value, value.unsigned_abs())
    }

    pub(super) fn unsigned(&mut self, value: u64) -> Result<(), Flaw> {
        self.integer(value, value)
    }

    fn integer(&mut self, value: impl fmt::Display, magnitude: u64) -> Result<(), Flaw> {
        write_integer(&mut self.text, value, magnitude);
        self.bounded()
    }

    /// Debug is the shortest text that gives the bits back, of the float's own width.
    pub(super) fn float(&mut self, value: impl fmt::Debug + Into<f64> + Copy) -> Result<(), Flaw> {
        match not_finite(value.into()) {
            None => self.show(format_args!("{value:?}")),
            Some(reason) => {
                // Of both, "no number" tells more.
                if self.lost != Some(Reason::NotANumber) {
                    self.lost = Some(reason);
                }
                self.null()
            }
        }
    }

    /// Marks the value as one that its type does not allow.
    pub(super) fn out_of_range(&mut self) {
        self.lost.get_or_insert(Reason::OutOfRange);
    }

    /// A text in quotes.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Flaw> {
        // Every character takes a byte at least: what cannot fit is not copied first.
        if text.len() > self.limit.saturating_sub(self.text.len()) {
            return Err(Flaw::TooLarge { limit: self.limit });
        }
        write_text(&mut self.text, text);
        self.bounded()
    }

    /// Something short that needs quotes and no escape.
    pub(super) fn quoted(&mut self, value: impl fmt::Display) -> Result<(), Flaw> {
        self.show(format_args!("\"{value}\""))
    }

    fn show(&mut self, arguments: fmt::Arguments<'_>) -> Result<(), Flaw> {
        // Writing to a String cannot fail.
        let _ = self.text.write_fmt(arguments);
        self.bounded()
    }

    fn bounded(&self) -> Result<(), Flaw> {
        if self.text.len() > self.limit {
            return Err(Flaw::TooLarge { limit: self.limit });
        }
        Ok(())
    }

    /// Base64 (RFC 4648, padded).
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Flaw> {
        if bytes.len() > self.limit.saturating_sub(self.text.len()) {
            return Err(Flaw::TooLarge { limit: self.limit });
        }
        self.quoted(opcua::types::ByteString::from(bytes.to_vec()).as_base64())
    }
}

/// Why a number is not good by itself.
pub(super) const fn not_finite(value: f64) -> Option<Reason> {
    if value.is_finite() {
        None
    } else if value.is_nan() {
        Some(Reason::NotANumber)
    } else {
        Some(Reason::OutOfRange)
    }
}
