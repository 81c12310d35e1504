//! Values as JSON, one way for the live plane, for `tags` and for `tap`.
//!
//! # Invariants
//! - The output is one line of valid JSON whatever the value is.
//! - Nothing is widened or rounded: a single prints with the fewest digits that give it back, and
//!   an integer that a double cannot hold is a string.
//! - What JSON cannot say is `null` or a string, with the reason beside it.

use std::fmt::Write as _;

use tidegate_translator::Value;
use tidegate_translator::json::write_integer;
pub use tidegate_translator::json::write_text;

/// Structures nested deeper than this are carried as text: common parsers stop at 100 to 128
/// levels, and what a value is embedded in takes some of them.
const MAX_DEPTH: u32 = 64;

/// What was lost on the way to JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inexact {
    /// The value is a NaN, written as `null`.
    NotANumber,
    /// The value is +∞, written as `null`.
    PositiveInfinity,
    /// The value is −∞, written as `null`.
    NegativeInfinity,
    /// A structure whose text is no JSON, or nests too deeply for common parsers; written as a
    /// string.
    Malformed,
}

impl Inexact {
    /// The word for people and JSON, such as `not-a-number`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotANumber => "not-a-number",
            Self::PositiveInfinity => "positive-infinity",
            Self::NegativeInfinity => "negative-infinity",
            Self::Malformed => "malformed",
        }
    }
}

/// Appends a value as JSON. Bytes are base64 (RFC 4648, padded); no value is `null`.
pub fn write_value(out: &mut String, value: &Value) -> Option<Inexact> {
    match value {
        Value::None => out.push_str("null"),
        Value::Bool(v) => out.push_str(if *v { "true" } else { "false" }),
        Value::I64(v) => write_integer(out, v, v.unsigned_abs()),
        Value::U64(v) => write_integer(out, v, *v),
        Value::F32(v) => return write_float(out, v, f64::from(*v)),
        Value::F64(v) => return write_float(out, v, *v),
        Value::Text(v) => write_text(out, v),
        Value::Bytes(v) => write_base64(out, v),
        Value::Json(v) => return write_json(out, v),
    }
    None
}

/// Debug is the shortest text that gives the bits back, with an exponent where digits would be
/// many; both forms are JSON.
fn write_float(out: &mut String, value: &impl std::fmt::Debug, wide: f64) -> Option<Inexact> {
    let inexact = if wide.is_nan() {
        Inexact::NotANumber
    } else if wide == f64::INFINITY {
        Inexact::PositiveInfinity
    } else if wide == f64::NEG_INFINITY {
        Inexact::NegativeInfinity
    } else {
        let _ = write!(out, "{value:?}");
        return None;
    };
    out.push_str("null");
    Some(inexact)
}

fn write_base64(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len().div_ceil(3) * 4 + 2);
    out.push('"');
    for chunk in bytes.chunks(3) {
        let at = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            if digit <= chunk.len() {
                let index = (bits >> (18 - 6 * digit)) & 0x3f;
                out.push(char::from(DIGITS[index as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out.push('"');
}

/// Embeds JSON text without the white space between its tokens, which may hold line feeds.
fn write_json(out: &mut String, text: &str) -> Option<Inexact> {
    let begin = out.len();
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() && embed(out, text) {
        return None;
    }
    out.truncate(begin);
    write_text(out, text);
    Some(Inexact::Malformed)
}

/// Appends valid JSON; `false`, with a part of it appended, when it nests too deeply.
fn embed(out: &mut String, json: &str) -> bool {
    let mut depth = 0;
    let (mut in_string, mut is_escaped) = (false, false);
    for c in json.chars() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if in_string => is_escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            c if c.is_ascii_whitespace() => continue,
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return false;
        }
        out.push(c);
    }
    true
}

/// The same rendering as a tree, for answers that are built as one.
#[must_use]
pub fn value_tree(value: &Value) -> (serde_json::Value, Option<Inexact>) {
    let mut text = String::new();
    let inexact = write_value(&mut text, value);
    match serde_json::from_str(&text) {
        Ok(tree) => (tree, inexact),
        // A structure with a number that no double holds, such as 1e999.
        Err(_) => (serde_json::Value::String(text), Some(Inexact::Malformed)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(value: Value) -> (String, Option<Inexact>) {
        let mut out = String::new();
        let inexact = write_value(&mut out, &value);
        (out, inexact)
    }

    #[test]
    fn singles_print_the_digits_that_were_meant() {
        assert_eq!(json(Value::F32(0.1)).0, "0.1");
        assert_eq!(json(Value::F64(0.1)).0, "0.1");
        assert_eq!(json(Value::F64(f64::from(0.1_f32))).0, "0.10000000149011612");
        assert_eq!(json(Value::F64(-0.0)).0, "-0.0");
        assert_eq!(json(Value::F64(1e300)).0, "1e300");
        assert_eq!(json(Value::F32(72.0)).0, "72.0");
    }

    #[test]
    fn what_is_no_number_is_null_with_the_reason() {
        assert_eq!(json(Value::F64(f64::NAN)), ("null".into(), Some(Inexact::NotANumber)));
        assert_eq!(json(Value::F32(f32::INFINITY)).1.unwrap().word(), "positive-infinity");
        let negative = json(Value::F64(f64::NEG_INFINITY));
        assert_eq!(negative, ("null".into(), Some(Inexact::NegativeInfinity)));
        assert_eq!(json(Value::None), ("null".into(), None));
    }

    #[test]
    fn integers_that_a_double_would_change_are_strings() {
        assert_eq!(json(Value::U64(1 << 53)).0, "9007199254740992");
        assert_eq!(json(Value::U64((1 << 53) + 1)).0, "\"9007199254740993\"");
        assert_eq!(json(Value::I64(-(1 << 53))).0, "-9007199254740992");
        assert_eq!(json(Value::I64(i64::MIN)).0, "\"-9223372036854775808\"");
    }

    #[test]
    fn bytes_are_base64() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(json(Value::Bytes(bytes.as_bytes().into())).0, format!("\"{text}\""));
        }
        assert_eq!(json(Value::Bytes([0xfb, 0xff].into())).0, "\"+/8=\"");
    }

    #[test]
    fn structures_are_embedded_on_one_line() {
        let text = "{ \"a\" :\n [1.50, \"x\\\" y\"] }";
        assert_eq!(json(Value::Json(text.into())), ("{\"a\":[1.50,\"x\\\" y\"]}".into(), None));
    }

    #[test]
    fn a_structure_that_is_no_json_cannot_break_the_line() {
        let (out, inexact) = json(Value::Json("{\"a\":\n}".into()));
        assert_eq!(inexact, Some(Inexact::Malformed));
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), "{\"a\":\n}");
    }

    #[test]
    fn a_structure_nested_without_end_is_carried_as_text() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(json(Value::Json(nested(64).into())), (nested(64), None));
        for deep in [nested(65), nested(100_000)] {
            let (out, inexact) = json(Value::Json(deep.as_str().into()));
            assert_eq!(inexact, Some(Inexact::Malformed));
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), deep);
        }
        let flat = format!("{{\"a{}\\\"[\":[1,[2]]}}", "[".repeat(100));
        assert_eq!(json(Value::Json(flat.as_str().into())), (flat, None), "brackets inside text");
    }

    #[test]
    fn the_tree_says_what_the_text_says() {
        assert_eq!(value_tree(&Value::F32(0.1)), (serde_json::json!(0.1), None));
        let (tree, inexact) = value_tree(&Value::F64(f64::NAN));
        assert_eq!((tree, inexact), (serde_json::Value::Null, Some(Inexact::NotANumber)));
        let (tree, inexact) = value_tree(&Value::Json("[1e999]".into()));
        assert_eq!((tree, inexact), (serde_json::json!("[1e999]"), Some(Inexact::Malformed)));
    }

    proptest! {
        #[test]
        fn any_text_comes_back_and_stays_on_one_line(text: String) {
            let (out, _) = json(Value::Text(text.as_str().into()));
            prop_assert!(!out.contains(char::is_control));
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }

        #[test]
        fn any_finite_float_comes_back_bit_for_bit(bits: u64, small: u32) {
            let double = f64::from_bits(bits);
            if double.is_finite() {
                let back: f64 = serde_json::from_str(&json(Value::F64(double)).0).unwrap();
                prop_assert_eq!(back.to_bits(), bits);
            }
            let single = f32::from_bits(small);
            if single.is_finite() {
                let back: f32 = json(Value::F32(single)).0.parse().unwrap();
                prop_assert_eq!(back.to_bits(), small);
            }
        }
    }
}
