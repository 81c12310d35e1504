//! JSON payloads as values.
//!
//! # Invariants
//! - A number is a double, as most readers of JSON take it, so that a tag has one kind whatever
//!   comes; a whole number that no double holds keeps its digits.
//! - A structure keeps its text but for the space between its parts, and stands on one line.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use tidegate_translator::{Quality, Reason, TagPath, Value};

use crate::path::below;
use crate::{MAX_PARTS, Part};

/// How deep the members of a split object may lie.
const MAX_DEPTH: usize = 4;

/// How deep a structure may be nested: readers of JSON give up at 128 or less.
const MAX_NESTING: usize = 64;

/// Whole numbers up to here are doubles exactly.
const EXACT: u64 = 1 << 53;

/// The members of an object; of equal names the last one.
pub(crate) type Members<'j> = BTreeMap<String, &'j RawValue>;

/// The members, where the text is an object.
pub(crate) fn members(text: &str) -> Option<Members<'_>> {
    text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok()).flatten()
}

/// One JSON text as a value; `None` when it is none.
pub(crate) fn value(text: &str) -> Option<(Value, Quality)> {
    let text = text.trim();
    Some(match text.as_bytes().first()? {
        b'"' => (Value::Text(serde_json::from_str::<String>(text).ok()?.into()), Quality::Good),
        b't' | b'f' => (Value::Bool(serde_json::from_str(text).ok()?), Quality::Good),
        b'n' if text == "null" => (Value::None, Quality::Bad(Reason::Unspecified)),
        b'{' | b'[' => {
            serde_json::from_str::<&RawValue>(text).ok()?;
            (Value::Json(on_one_line(text)?.into()), Quality::Good)
        }
        b'-' | b'0'..=b'9' => number(text)?,
        _ => return None,
    })
}

/// The text of an identifier or a time: of a string what is in it, of a number its digits.
pub(crate) fn plain(text: &str) -> Option<String> {
    match text.as_bytes().first()? {
        b'"' => serde_json::from_str(text).ok(),
        b'-' | b'0'..=b'9' => Some(text.to_owned()),
        _ => None,
    }
}

fn number(text: &str) -> Option<(Value, Quality)> {
    if !text.contains(['.', 'e', 'E']) {
        if let Ok(whole) = text.parse::<i64>()
            && whole.unsigned_abs() > EXACT
        {
            return Some((Value::I64(whole), Quality::Good));
        }
        if let Ok(whole) = text.parse::<u64>()
            && whole > EXACT
        {
            return Some((Value::U64(whole), Quality::Good));
        }
    }
    match serde_json::from_str::<f64>(text) {
        Ok(number) => Some((Value::F64(number), Quality::Good)),
        // A legal number that no double reaches.
        Err(_) => {
            serde_json::from_str::<&RawValue>(text).ok()?;
            Some((Value::Text(text.into()), Quality::Uncertain(Reason::OutOfRange)))
        }
    }
}

/// Each member as a tag of its own, and those of objects within; `None` when there are too many,
/// they lie too deep, or one has a name that no path takes.
pub(crate) fn split(path: &TagPath, members: &Members<'_>) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    split_into(&mut parts, path, members, 1)?;
    (!parts.is_empty()).then_some(parts)
}

fn split_into(
    parts: &mut Vec<Part>,
    path: &TagPath,
    members: &Members<'_>,
    depth: usize,
) -> Option<()> {
    for (name, text) in members {
        let path = below(path, name)?;
        if let Some(members) = self::members(text.get()).filter(|members| !members.is_empty()) {
            if depth >= MAX_DEPTH {
                return None;
            }
            split_into(parts, &path, &members, depth + 1)?;
            continue;
        }
        let (value, quality) = value(text.get())?;
        parts.push(Part { path, value, quality });
        if parts.len() > MAX_PARTS {
            return None;
        }
    }
    Some(())
}

/// Legal JSON without the space between its parts, and with nothing in it that ends a line for
/// some readers; `None` where it is nested deeper than they take.
fn on_one_line(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut inside, mut escaped, mut depth) = (false, false, 0_usize);
    for c in text.chars() {
        match c {
            ' ' | '\t' | '\n' | '\r' if !inside => continue,
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
                escaped = false;
                continue;
            }
            '"' if !escaped => inside = !inside,
            '[' | '{' if !inside => depth += 1,
            ']' | '}' if !inside => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return None;
        }
        escaped = inside && c == '\\' && !escaped;
        out.push(c);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn good(text: &str) -> Value {
        let (value, quality) = value(text).unwrap();
        assert_eq!(quality, Quality::Good, "{text}");
        value
    }

    #[test]
    fn numbers_are_doubles_but_for_whole_ones_that_no_double_holds() {
        assert_eq!(good("12"), Value::F64(12.0));
        assert_eq!(good(" -0.5e1 "), Value::F64(-5.0));
        assert_eq!(good("9007199254740992"), Value::F64(9_007_199_254_740_992.0));
        assert_eq!(good("9007199254740993"), Value::I64(9_007_199_254_740_993));
        assert_eq!(good("18446744073709551615"), Value::U64(u64::MAX));
        assert_eq!(good("-9223372036854775808"), Value::I64(i64::MIN));
    }

    #[test]
    fn a_number_beyond_doubles_is_kept_as_text_and_marked() {
        let (value, quality) = value("1e999").unwrap();
        assert_eq!(value, Value::Text("1e999".into()));
        assert_eq!(quality, Quality::Uncertain(Reason::OutOfRange));
    }

    #[test]
    fn words_texts_and_structures_are_values() {
        assert_eq!(good("true"), Value::Bool(true));
        assert_eq!(good(r#""a\n""#), Value::Text("a\n".into()));
        assert_eq!(
            good("[1, {\"a b\": \"c \\\" d\"}]"),
            Value::Json(r#"[1,{"a b":"c \" d"}]"#.into())
        );
        assert_eq!(value("null"), Some((Value::None, Quality::Bad(Reason::Unspecified))));
        for text in ["", "nul", "tru", "{", "[1,]", "01", "-", "\"a", "NaN", "1 2", "{}x", "'a'"] {
            assert_eq!(value(text), None, "{text}");
        }
    }

    #[test]
    fn nesting_without_end_is_no_json() {
        let deep = "[".repeat(20_000) + &"]".repeat(20_000);
        assert_eq!(value(&deep), None);
        let deep = "{\"a\":".repeat(10_000) + "1" + &"}".repeat(10_000);
        assert_eq!(value(&deep), None);
        let most = "[".repeat(MAX_NESTING) + &"]".repeat(MAX_NESTING);
        assert!(value(&most).is_some() && value(&format!("[{most}]")).is_none());
    }

    proptest! {
        #[test]
        fn one_line_means_the_same(text in "\\PC{0,40}|[\"\\\\ \n\u{2028}a]{0,12}", pretty: bool) {
            let json = serde_json::json!({ text.clone(): [text.clone(), 1, { "x": text }] });
            let written = if pretty {
                serde_json::to_string_pretty(&json).unwrap()
            } else {
                json.to_string()
            };
            let line = on_one_line(&written).unwrap();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), json);
            let ends = line.contains(['\n', '\r', '\u{2028}', '\u{85}']);
            prop_assert!(!ends);
        }
    }
}
