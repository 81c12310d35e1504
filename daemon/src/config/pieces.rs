//! Cuts a file at the headers of its devices and profiles and of their tags, so that it can be
//! parsed one table at a time: the tree of a whole file takes twenty times the memory of what is kept of it.
//!
//! # Invariants
//! - The pieces are the file: in order, without gap or overlap.
//! - A cut is made only where a statement can begin, outside of strings and brackets. Of a file
//!   that is not TOML a piece may be anything; whoever parses the pieces finds that out, because
//!   then one of them is no TOML either, or not of the shape that its kind must have.

use std::ops::Range;

/// What a piece begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The beginning of the file, or the header of any other section.
    Rest,
    /// `[[device]]`
    Device,
    /// `[[device.tag]]`
    Tag,
    /// `[[profile]]`
    Profile,
    /// `[[profile.tag]]`
    ProfileTag,
}

/// A run of whole statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
}

/// The pieces of a text, in order.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = Piece> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let kind = header(rest(text, start)).unwrap_or(Kind::Rest);
        while at < text.len() {
            at += statement(rest(text, at).as_bytes());
            if header(rest(text, at)).is_some() {
                break;
            }
        }
        (start < at).then_some(Piece { kind, range: start..at })
    })
}

fn rest(text: &str, at: usize) -> &str {
    text.get(at..).unwrap_or_default()
}

/// What the line is the header of; `None` when it is no header, or one that belongs to what
/// stands above it.
fn header(text: &str) -> Option<Kind> {
    let line = text.lines().next().unwrap_or_default().trim_start();
    let inner = line.strip_prefix('[')?;
    let name = inner.strip_prefix('[').unwrap_or(inner).trim_start();
    let end = name.find([']', '.', ' ', '\t']).unwrap_or(name.len());
    let first = name.get(..end).unwrap_or_default();
    if !matches!(first, "device" | "profile") {
        return Some(Kind::Rest);
    }
    let whole = line.split('#').next().unwrap_or_default().trim_end();
    match whole {
        "[[device]]" => Some(Kind::Device),
        "[[device.tag]]" => Some(Kind::Tag),
        "[[profile]]" => Some(Kind::Profile),
        "[[profile.tag]]" => Some(Kind::ProfileTag),
        _ => None,
    }
}

/// How many bytes the statement takes with which the text begins: up to the end of the line on
/// which no string and no bracket is open any more.
fn statement(text: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'\n' if depth == 0 => return at,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'#' => at += tail(text, at).iter().take_while(|b| **b != b'\n').count(),
            b'"' | b'\'' => at += string(tail(text, at), byte),
            _ => {}
        }
    }
    at
}

/// How many bytes follow the first quote of a string up to its end.
fn string(text: &[u8], quote: u8) -> usize {
    let escapes = quote == b'"';
    let is_long = text.starts_with(&[quote; 2]);
    let mut at = if is_long { 2 } else { 0 };
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if escapes => at += 2,
            b'\n' if !is_long => return at,
            byte if byte == quote && !is_long => return at + 1,
            byte if byte == quote && tail(text, at).starts_with(&[quote; 3]) => {
                // Up to two quotes of the content may stand before the closing three.
                let run = tail(text, at).iter().take_while(|b| **b == quote).count();
                return at + run.min(5);
            }
            _ => at += 1,
        }
    }
    text.len()
}

fn tail(text: &[u8], at: usize) -> &[u8] {
    text.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<(Kind, &str)> {
        pieces(text).map(|piece| (piece.kind, &text[piece.range])).collect()
    }

    #[test]
    fn a_file_is_cut_at_the_headers_of_devices_and_tags() {
        let text = "a = 1\n[hub]\nx = 1\n[[device]] # one\nn = 1\n  [[device.tag]]\np = 1\n\
                    [[device.tag]]\n[[device]]\n[journal]\n";
        assert_eq!(
            cut(text),
            [
                (Kind::Rest, "a = 1\n"),
                (Kind::Rest, "[hub]\nx = 1\n"),
                (Kind::Device, "[[device]] # one\nn = 1\n"),
                (Kind::Tag, "  [[device.tag]]\np = 1\n"),
                (Kind::Tag, "[[device.tag]]\n"),
                (Kind::Device, "[[device]]\n"),
                (Kind::Rest, "[journal]\n"),
            ]
        );
        assert_eq!(cut("[[device]]\na = 1"), [(Kind::Device, "[[device]]\na = 1")]);
    }

    #[test]
    fn what_looks_like_a_header_inside_a_value_is_none() {
        for text in [
            "x = \"\"\"\n[[device]]\n\"\"\"\n",
            "x = '''\n[[device]]\n''' # '''\n",
            "x = [ # \"\n[[device]]\n]\n",
            "x = [\"]\", '[', {a = 1}\n]\n",
            "x = \"\"\"a\"\"\"\"\ny = \"\\\"[\"\n",
            "x = \"\"\"\\\"\"\"\n[[device]]\n\"\"\"\n",
            "x = 'c:\\'\n",
        ] {
            assert_eq!(cut(text), [(Kind::Rest, text)]);
            let before = format!("{text}[[device]]\n");
            assert_eq!(cut(&before), [(Kind::Rest, text), (Kind::Device, "[[device]]\n")]);
        }
    }

    #[test]
    fn other_headers_of_a_device_stay_with_what_is_above_them() {
        for header in ["[device]", "[device.x]", "[[device.x]]", "[[device . tag]]"] {
            let text = format!("[[device]]\n{header}\n");
            assert_eq!(cut(&text), [(Kind::Device, text.as_str())]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_pieces_of_any_text_are_the_text(
            text in "(?s)((\\[\\[(device|profile)(\\.tag)?\\]\\])|\"\"\"|'''|[\\[\\]\"'=.,#{} \n\r\tabé0-9\\\\]|.){0,60}"
        ) {
            let joined: String = cut(&text).into_iter().map(|(_, piece)| piece).collect();
            prop_assert_eq!(joined, text);
        }
    }
}
