//! Broken TOML: each place is reported, blanked out, and the rest is read all the same.
//!
//! The parser stops at its first mistake; a person wants all of them. So the statement that holds
//! the mistake is overwritten with spaces, which moves no other byte, and parsing begins again.
//!
//! # Invariants
//! - Offsets in the repaired text are offsets in the file.
//! - Nothing that follows from blanking is reported: a key that was blanked is not "missing".

use std::ops::Range;

use toml_span::{Error, ErrorKind};

use super::mistake::{Mistake, Place};

/// How many places are repaired before the rest is left for the next run. Far more than a hand
/// makes; it bounds the time that a file which is not TOML at all can take.
const MOST_REPAIRS: usize = 32;

/// A text that parses, and what had to go for it.
#[derive(Debug, Default)]
pub(crate) struct Repaired {
    /// The file with its broken statements blanked.
    pub(crate) text: String,
    /// What was broken.
    pub(crate) mistakes: Vec<Mistake>,
    /// What was blanked.
    pub(crate) blanked: Vec<Blanked>,
}

/// A statement that was blanked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Blanked {
    /// Where it began.
    pub(crate) at: usize,
    /// Its last key, or its header's name.
    pub(crate) name: String,
    /// Whether it was a header with everything under it.
    pub(crate) header: bool,
}

impl Repaired {
    /// Whether a key of the table that begins at `table` was blanked.
    pub(crate) fn lost_key(&self, table: usize, key: &str) -> bool {
        let mut lost = self.blanked.iter().filter(|b| !b.header && b.at >= table && b.name == key);
        lost.any(|b| {
            let between = self.text.get(table..b.at).unwrap_or_default();
            // The table's own header is the first line; another one ends the table.
            !between.lines().skip(1).any(|line| line.trim_start().starts_with('['))
        })
    }

    /// How many headers of that name were blanked in a range of the file.
    pub(crate) fn lost_headers(&self, name: &str, range: Range<usize>) -> usize {
        let lost = |b: &&Blanked| b.header && b.name == name && range.contains(&b.at);
        self.blanked.iter().filter(lost).count()
    }

    /// Whether a section's header, or everything from some place on, was blanked.
    pub(crate) fn lost_section(&self, path: &str) -> bool {
        let below = |name: &str| name.strip_prefix(path).is_some_and(|r| r.starts_with('.'));
        self.blanked
            .iter()
            .any(|b| b.header && (b.name.is_empty() || b.name == path || below(&b.name)))
    }
}

/// Finds a text that parses. `None` in `text` cannot be: at worst everything is blanked.
pub(crate) fn repair(original: &str) -> Repaired {
    let mut out = Repaired { text: original.to_owned(), mistakes: Vec::new(), blanked: Vec::new() };
    while let Err(error) = toml_span::parse(&out.text) {
        let start = error.span.start.min(out.text.len());
        let statement = statement(&out.text, start, &error.kind);
        out.mistakes.push(mistake(original, &error, start, &statement));
        let gives_up = out.mistakes.len() > MOST_REPAIRS;
        let range = if gives_up { statement.range.start..out.text.len() } else { statement.range };
        let name = if gives_up { String::new() } else { statement.name };
        let header = statement.header || gives_up;
        if !blank(&mut out.text, range.clone()) {
            // Nothing left to take away here: take the whole rest, then everything.
            let from = if out.text.get(range.start..).is_some_and(|t| !t.trim().is_empty()) {
                range.start
            } else {
                0
            };
            let all = from..out.text.len();
            blank(&mut out.text, all);
            out.blanked.push(Blanked { at: from, name: String::new(), header: true });
            continue;
        }
        out.blanked.push(Blanked { at: range.start, name, header });
    }
    out
}

/// Overwrites with spaces, line ends excepted; `false` when there was nothing but space.
fn blank(text: &mut String, range: Range<usize>) -> bool {
    let mut start = range.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = range.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    let old = text.get(start..end).unwrap_or_default();
    if old.bytes().all(|b| matches!(b, b' ' | b'\n')) {
        return false;
    }
    let new: String = old.bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
    text.replace_range(start..end, &new);
    true
}

/// The statement that holds a mistake.
struct Statement {
    range: Range<usize>,
    name: String,
    header: bool,
    /// Where the statement begins, when that is a line above the mistake.
    begins_above: Option<usize>,
}

fn statement(text: &str, at: usize, kind: &ErrorKind) -> Statement {
    let line = line_start(text, at);
    let first = first_line_of_statement(text, line);
    let here = text.get(first..).unwrap_or_default();
    let begins_above = (first < line).then_some(first);
    let unclosed_above = begins_above.is_some() && is_header(text, line);
    if is_header(text, first) && !matches!(kind, ErrorKind::UnterminatedString) {
        let name = header_name(here).to_owned();
        let end = end_of_section(text, first, &name);
        return Statement { range: first..end, name, header: true, begins_above };
    }
    let end = if unclosed_above {
        // The next section is whole; only the value before it is not closed.
        line
    } else {
        line_end(text, at.max(first))
    };
    let key = here.split(['=', '\n']).next().unwrap_or_default();
    let name = key.rsplit('.').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    Statement { range: first..end, name: name.to_owned(), header: false, begins_above }
}

/// The line on which the statement that reaches `line` begins: everything above it is whole.
fn first_line_of_statement(text: &str, line: usize) -> usize {
    /// A value over more lines than this is looked for no further.
    const LONGEST: usize = 64;
    let mut first = line;
    for _ in 0..LONGEST {
        let syntax = |error: &Error| {
            !matches!(
                error.kind,
                ErrorKind::DuplicateKey { .. }
                    | ErrorKind::DuplicateTable { .. }
                    | ErrorKind::RedefineAsArray
                    | ErrorKind::DottedKeyInvalidType { .. }
            )
        };
        let above = text.get(..first).unwrap_or_default();
        if first == 0 || !toml_span::parse(above).is_err_and(|error| syntax(&error)) {
            return first;
        }
        first = line_start(text, first - 1);
    }
    line
}

fn line_start(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at.min(text.len())).unwrap_or_default();
    before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1)
}

fn line_end(text: &str, at: usize) -> usize {
    let after = text.as_bytes().get(at..).unwrap_or_default();
    after.iter().position(|b| *b == b'\n').map_or(text.len(), |i| at + i)
}

fn is_header(text: &str, line: usize) -> bool {
    let line = text.get(line..line_end(text, line)).unwrap_or_default().trim_start();
    line.starts_with('[') && !line.contains(',') && !line.contains('"')
}

fn header_name(header: &str) -> &str {
    let name = header.trim_start().trim_start_matches('[').trim_start();
    name.split([']', ' ', '\t', '#', '\n', '\r']).next().unwrap_or_default()
}

/// The next header that is not below `name`.
fn end_of_section(text: &str, from: usize, name: &str) -> usize {
    let mut at = line_end(text, from);
    while at < text.len() {
        let line = at + 1;
        if is_header(text, line) {
            let next = header_name(text.get(line..).unwrap_or_default());
            let below = next.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
            if !below || name.is_empty() {
                return line;
            }
        }
        at = line_end(text, line);
    }
    text.len()
}

fn mistake(text: &str, error: &Error, start: usize, statement: &Statement) -> Mistake {
    let end = error.span.end.max(start + 1);
    let place = Place::File { start, end };
    let (message, legal) = explain(&error.kind);
    let path = key_path(text, statement);
    let mut mistake = Mistake::new(path, place, message);
    if let Some(legal) = legal {
        mistake = mistake.legal(legal);
    }
    let first = match &error.kind {
        ErrorKind::DuplicateTable { first, .. }
        | ErrorKind::DuplicateKey { first, .. }
        | ErrorKind::DottedKeyInvalidType { first } => Some(*first),
        _ => None,
    };
    if let Some(first) = first {
        return mistake.other(first.into(), "first written here");
    }
    match statement.begins_above {
        Some(above) => {
            let place = Place::File { start: above, end: above + 1 };
            mistake.other(place, "the value that begins here is not finished before")
        }
        None => mistake,
    }
}

/// The path of the statement's key, as far as headers above it tell.
fn key_path(text: &str, statement: &Statement) -> String {
    let plain = |name: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        !name.is_empty() && name.len() <= 64 && name.bytes().all(legal)
    };
    if !plain(&statement.name) {
        return String::new();
    }
    let (mut section, mut tag) = (String::new(), None::<usize>);
    let (mut device, mut profile) = (None::<usize>, None::<usize>);
    let above = text.get(..statement.range.start).unwrap_or_default();
    let header = text.get(statement.range.clone()).filter(|_| statement.header);
    for line in above.lines().chain(header.and_then(|header| header.lines().next())) {
        if !is_header(line, 0) {
            continue;
        }
        section = match header_name(line) {
            name @ ("device" | "profile") => {
                let count = if name == "device" { &mut device } else { &mut profile };
                *count = Some(count.map_or(0, |n| n + 1));
                tag = None;
                format!("{name}[{}]", count.unwrap_or(0))
            }
            name @ ("device.tag" | "profile.tag") => {
                let (name, count) = match name {
                    "device.tag" => ("device", device),
                    _ => ("profile", profile),
                };
                tag = Some(tag.map_or(0, |n| n + 1));
                format!("{name}[{}].tag[{}]", count.unwrap_or(0), tag.unwrap_or(0))
            }
            name if plain(name) => name.to_owned(),
            _ => return String::new(),
        };
    }
    match (statement.header, section.as_str()) {
        (true, _) => section,
        (false, "") => statement.name.clone(),
        (false, _) => format!("{section}.{}", statement.name),
    }
}

fn explain(kind: &ErrorKind) -> (String, Option<&'static str>) {
    const VALUE: &str = "\"text\", 123, 1.5, true or false";
    const HEADER: &str = "a section as \"[journal]\", a device as \"[[device]]\", a setting as \
                          \"key = value\"";
    match kind {
        ErrorKind::UnquotedString => ("the text is not in quotes".to_owned(), Some(VALUE)),
        ErrorKind::DuplicateKey { key, .. } => {
            (format!("{key:?} is written twice"), Some("each key once in its section"))
        }
        ErrorKind::DuplicateTable { name, .. } => (
            format!("section [{name}] is written twice"),
            Some("each section once; devices and their tags repeat with double brackets"),
        ),
        ErrorKind::RedefineAsArray => {
            ("the section is written with single and with double brackets".to_owned(), Some(HEADER))
        }
        ErrorKind::InvalidCharInString('\n') => {
            ("the quote is not closed on this line".to_owned(), None)
        }
        ErrorKind::UnterminatedString => ("the quote is never closed".to_owned(), None),
        ErrorKind::UnexpectedEof => ("the file ends in the middle of a value".to_owned(), None),
        ErrorKind::InvalidNumber => {
            ("this is no number".to_owned(), Some("numbers like 502, -40 or 0.1; text in quotes"))
        }
        ErrorKind::InvalidEscape(_) | ErrorKind::InvalidHexEscape(_) => (
            "a backslash in double quotes begins an escape".to_owned(),
            Some("\\\\ for one backslash, or single quotes around the text"),
        ),
        ErrorKind::Wanted { expected: "a value", found } => {
            (format!("expected a value, found {found}"), Some(VALUE))
        }
        ErrorKind::Wanted { expected, found } => {
            (format!("expected {expected}, found {found}"), Some(HEADER))
        }
        ErrorKind::Unexpected(c) => (format!("unexpected character {c:?}"), Some(HEADER)),
        other => {
            let error =
                Error { kind: other.clone(), span: toml_span::Span::default(), line_info: None };
            (error.to_string(), None)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages(text: &str) -> Vec<(usize, String)> {
        let line = |place: &Place| match place {
            Place::File { start, .. } => text[..*start].matches('\n').count() + 1,
            _ => 0,
        };
        repair(text).mistakes.iter().map(|m| (line(&m.place), m.message.clone())).collect()
    }

    #[test]
    fn every_broken_line_is_reported_and_the_others_are_kept() {
        let text = "[a]\nx = \ny = 1\nz = word\n[b\nq = 1\n[c]\nw = 1\nw = 2\n";
        let repaired = repair(text);
        assert_eq!(
            messages(text).iter().map(|(line, _)| *line).collect::<Vec<_>>(),
            [2, 4, 5, 9],
            "{repaired:#?}"
        );
        assert_eq!(
            repaired.text.split_whitespace().collect::<Vec<_>>().join(" "),
            "[a] y = 1 [c] w = 1"
        );
        assert_eq!(repaired.text.len(), text.len());
    }

    #[test]
    fn a_list_that_is_not_closed_costs_only_itself() {
        let text = "[hub]\nurls = [\"a\",\n  \"b\"\n[leaf]\nmode = 1\n";
        let repaired = repair(text);
        assert_eq!(repaired.mistakes.len(), 1, "{repaired:#?}");
        assert!(repaired.text.contains("[leaf]\nmode = 1"), "{repaired:#?}");
        assert!(repaired.lost_key(0, "urls"));
    }

    #[test]
    fn a_blanked_key_is_lost_only_for_its_own_table() {
        let text = "[[t]]\na = 1\n[[t]]\nb = \n[[t]]\na = 1\n";
        let repaired = repair(text);
        let at = |n| text.match_indices("[[t]]").nth(n).map(|(i, _)| i).unwrap();
        assert!(repaired.lost_key(at(1), "b"));
        assert!(!repaired.lost_key(at(0), "b"));
        assert!(!repaired.lost_key(at(2), "b"));
    }

    #[test]
    fn a_broken_device_header_takes_its_tags_with_it() {
        let text = "[[device]\nname = 1\n[[device.tag]]\npath = 1\n[[device]]\nname = 2\n";
        let repaired = repair(text);
        assert_eq!(repaired.mistakes.len(), 1);
        assert_eq!(repaired.text.trim(), "[[device]]\nname = 2");
        assert!(repaired.lost_section("device"));
    }

    #[test]
    fn a_file_that_is_not_toml_at_all_is_given_up_soon() {
        let text = "this is a letter, not a table\n".repeat(5000);
        assert_eq!(repair(&text).mistakes.len(), MOST_REPAIRS + 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_text_is_repaired_into_toml_of_the_same_length(
            text in "(?s)([\\[\\]\"'=.,#{} \n\r\tabé0-9\\\\]|.){0,60}"
        ) {
            let repaired = repair(&text);
            prop_assert!(toml_span::parse(&repaired.text).is_ok());
            prop_assert_eq!(repaired.text.len(), text.len());
            prop_assert_eq!(
                repaired.mistakes.is_empty(), toml_span::parse(&text).is_ok()
            );
        }
    }
}
