//! What is wrong with a configuration, and how a person is told.
//!
//! # Invariants
//! - A mistake names the key by its path, the place, what was found, and what would be legal.
//! - Nothing of the file reaches the terminal unescaped: control characters are replaced.
//! - `Display` of [`Mistakes`] is stable; tests compare it literally.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    /// Bytes of the file.
    File { start: usize, end: usize },
    /// A cell of a tag list.
    Cell {
        /// The list's file.
        list: Arc<str>,
        /// From 1, the header counted; 0 for the whole list.
        row: u32,
        /// From 1; 0 for the whole row.
        column: u32,
        /// What the header calls the column; empty for the whole row.
        name: Arc<str>,
    },
    /// Nowhere in particular: something is missing from the file.
    WholeFile,
    /// An environment variable, by its name.
    Variable(String),
    /// A command-line argument, as it is written there.
    Argument(String),
}

impl Place {
    /// The place in a tag list, in words; `None` elsewhere.
    fn in_list(&self) -> Option<String> {
        match self {
            Self::Cell { list, row: 0, .. } => Some(list.to_string()),
            Self::Cell { list, row, column: 0, .. } => Some(format!("{list}: row {row}")),
            Self::Cell { list, row, column, name } if name.is_empty() => {
                Some(format!("{list}: row {row}, column {column}"))
            }
            Self::Cell { list, row, name, .. } => {
                Some(format!("{list}: row {row}, column {name:?}"))
            }
            _ => None,
        }
    }
}

impl From<toml_span::Span> for Place {
    fn from(span: toml_span::Span) -> Self {
        Self::File { start: span.start, end: span.end }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The key's path, such as `device[2].tag[0].order`; empty for broken TOML.
    pub(crate) path: String,
    /// Where it stands.
    pub(crate) place: Place,
    /// What is wrong.
    pub(crate) message: String,
    /// What was written, shortened.
    pub(crate) value: Option<String>,
    /// What would be legal.
    pub(crate) legal: Option<String>,
    /// What was probably meant.
    pub(crate) suggestion: Option<String>,
    /// The names of device and tag, for a person who does not count tables.
    pub(crate) context: Option<String>,
    /// Another place that has to do with it, and what stands there.
    pub(crate) other: Option<(Place, String)>,
}

impl Mistake {
    pub(crate) fn new(path: impl Into<String>, place: Place, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            place,
            message: message.into(),
            value: None,
            legal: None,
            suggestion: None,
            context: None,
            other: None,
        }
    }

    pub(crate) fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(shorten(&value.into()));
        self
    }

    pub(crate) fn legal(mut self, legal: impl Into<String>) -> Self {
        self.legal = Some(legal.into());
        self
    }

    pub(crate) fn suggest(mut self, word: Option<impl Into<String>>) -> Self {
        self.suggestion = word.map(Into::into);
        self
    }

    pub(crate) fn other(mut self, place: Place, text: impl Into<String>) -> Self {
        self.other = Some((place, text.into()));
        self
    }

    pub(crate) fn context(mut self, context: Option<String>) -> Self {
        self.context = context;
        self
    }
}

/// Every mistake of one configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    pub(crate) file: PathBuf,
    pub(crate) text: String,
    pub(crate) list: Vec<Mistake>,
    /// Tag lists with more mistakes than are told, and how many more.
    pub(crate) more: Vec<(Arc<str>, usize)>,
}

/// How many mistakes of one tag list are told; the others are counted. A list with the wrong type
/// in each row is understood after a few, and a terminal keeps the first of them in sight.
const MOST_OF_A_LIST: usize = 100;

impl std::error::Error for Mistakes {}

impl Mistakes {
    /// Sorts by place: the file from top to bottom, then tag lists, then variables, then arguments.
    pub(crate) fn new(file: PathBuf, text: String, mut list: Vec<Mistake>) -> Self {
        list.sort_by(|a, b| a.place.cmp(&b.place));
        list.dedup();
        let mut more: Vec<(Arc<str>, usize)> = Vec::new();
        let mut of_this = 0;
        let mut last: Option<Arc<str>> = None;
        list.retain(|mistake| {
            let Place::Cell { list, .. } = &mistake.place else { return true };
            if last.as_ref() != Some(list) {
                (last, of_this) = (Some(Arc::clone(list)), 0);
            }
            of_this += 1;
            if of_this > MOST_OF_A_LIST {
                match more.last_mut().filter(|(other, _)| other == list) {
                    Some((_, count)) => *count += 1,
                    None => more.push((Arc::clone(list), 1)),
                }
            }
            of_this <= MOST_OF_A_LIST
        });
        Self { file, text, list, more }
    }

    /// The same with mistakes of tag lists that were counted and not kept.
    pub(crate) fn with_more(mut self, counted: Vec<(Arc<str>, usize)>) -> Self {
        for (list, count) in counted {
            match self.more.iter_mut().find(|(other, _)| *other == list) {
                Some((_, known)) => *known += count,
                None => self.more.push((list, count)),
            }
        }
        self
    }

    /// The same of a file with another name.
    pub(crate) fn named(mut self, file: PathBuf) -> Self {
        self.file = file;
        self
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len() + self.more.iter().map(|(_, count)| count).sum::<usize>()
    }

    /// The key paths of those that are told, in the order of the report; an empty one stands for
    /// broken TOML.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|mistake| mistake.path.as_str())
    }

    /// Each of them in a line for a log: place, key, what is wrong and what would be legal.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let lines = Lines::of(&self.text);
        let file = self.file.display().to_string();
        self.list
            .iter()
            .map(move |mistake| {
                let place = match &mistake.place {
                    Place::Variable(name) => format!("environment variable {name}"),
                    Place::Argument(text) => format!("argument {text}"),
                    place @ Place::Cell { .. } => place.in_list().unwrap_or_default(),
                    place @ (Place::File { .. } | Place::WholeFile) => {
                        match lines.of_place(place) {
                            (Some(line), _) => format!("{file}:{line}"),
                            _ => file.clone(),
                        }
                    }
                };
                let mut text = format!("{place}: ");
                if !mistake.path.is_empty() {
                    text += &format!("{}: ", mistake.path);
                }
                text += &mistake.message;
                if let Some(legal) = &mistake.legal {
                    text += &format!("; legal: {legal}");
                }
                visible(&text)
            })
            .chain(
                self.more
                    .iter()
                    .map(|(list, count)| visible(&format!("{list}: {count} more mistakes"))),
            )
    }

    /// All of them for programs: an array with one object for each. Where a tag list has more than
    /// are told, an object with `file` and `more` counts the others.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let lines = Lines::of(&self.text);
        let file = self.file.display().to_string();
        let list: Vec<_> = self.list.iter().map(|m| Row::new(&file, &lines, m)).collect();
        // Strings and numbers only: this cannot fail.
        let mut list = serde_json::to_value(list).unwrap_or_default();
        if let serde_json::Value::Array(list) = &mut list {
            let more = self.more.iter();
            list.extend(
                more.map(|(file, count)| serde_json::json!({ "file": file, "more": count })),
            );
        }
        list
    }
}

/// One mistake as JSON.
#[derive(Serialize)]
struct Row<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variable: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    argument: Option<&'a str>,
    line: Option<usize>,
    column: Option<usize>,
    /// Of a tag list.
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<u32>,
    /// What a tag list's header calls the column.
    #[serde(skip_serializing_if = "Option::is_none")]
    column_name: Option<&'a str>,
    message: &'a str,
    value: Option<&'a str>,
    legal: Option<&'a str>,
    suggestion: Option<&'a str>,
    context: Option<&'a str>,
    other: Option<Other<'a>>,
}

#[derive(Serialize)]
struct Other<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    line: Option<usize>,
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<u32>,
    message: &'a str,
}

impl<'a> Row<'a> {
    fn new(file: &'a str, lines: &Lines<'_>, mistake: &'a Mistake) -> Self {
        let (line, column) = lines.of_place(&mistake.place);
        let (variable, argument) = match &mistake.place {
            Place::Variable(name) => (Some(name.as_str()), None),
            Place::Argument(text) => (None, Some(text.as_str())),
            Place::File { .. } | Place::Cell { .. } | Place::WholeFile => (None, None),
        };
        let in_file = variable.is_none() && argument.is_none();
        let (list, row, column_name) = of_cell(&mistake.place);
        Self {
            path: &mistake.path,
            file: list.or(in_file.then_some(file)),
            row,
            column_name,
            variable,
            argument,
            line,
            column,
            message: &mistake.message,
            value: mistake.value.as_deref(),
            legal: mistake.legal.as_deref(),
            suggestion: mistake.suggestion.as_deref(),
            context: mistake.context.as_deref(),
            other: mistake.other.as_ref().map(|(place, message)| {
                let (line, column) = lines.of_place(place);
                let (file, row, _) = of_cell(place);
                Other { file, line, column, row, message }
            }),
        }
    }
}

/// File, row and column name of a cell.
fn of_cell(place: &Place) -> (Option<&str>, Option<u32>, Option<&str>) {
    match place {
        Place::Cell { list, row, name, .. } => {
            (Some(list), (*row > 0).then_some(*row), (!name.is_empty()).then_some(name))
        }
        _ => (None, None, None),
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = Lines::of(&self.text);
        let file = visible(&self.file.display().to_string());
        for mistake in &self.list {
            render(f, &file, &lines, mistake)?;
            f.write_char('\n')?;
        }
        for (list, count) in &self.more {
            writeln!(f, "{}: {count} more mistakes, not shown\n", visible(list))?;
        }
        match self.count() {
            1 => write!(f, "1 mistake in {file}"),
            n => write!(f, "{n} mistakes in {file}"),
        }
    }
}

fn render(
    f: &mut fmt::Formatter<'_>,
    file: &str,
    lines: &Lines<'_>,
    mistake: &Mistake,
) -> fmt::Result {
    let path = match (mistake.path.as_str(), &mistake.place) {
        ("", Place::File { .. } | Place::WholeFile) => "not TOML: ".to_owned(),
        ("", _) => String::new(),
        (path, _) => format!("{}: ", visible(path)),
    };
    writeln!(f, "error: {path}{}", visible(&mistake.message))?;
    let mut margin = 1;
    match &mistake.place {
        Place::File { start, end } => {
            let at = lines.locate(*start);
            let other = mistake.other.as_ref().and_then(|(place, _)| lines.of_place(place).0);
            margin = (at.line.max(other.unwrap_or(0))).to_string().len();
            writeln!(f, "{:margin$}--> {file}:{}:{}", "", at.line, at.column)?;
            let hint = mistake.suggestion.as_ref().map(|word| format!("did you mean `{word}`?"));
            excerpt(f, lines, *start..*end, margin, '^', hint.as_deref())?;
        }
        place @ Place::Cell { .. } => {
            writeln!(f, " --> {}", visible(&place.in_list().unwrap_or_default()))?;
            if let Some(value) = mistake.value.as_ref().filter(|v| !mistake.message.contains(*v)) {
                writeln!(f, "  = found: {}", visible(value))?;
            }
        }
        Place::WholeFile => writeln!(f, " --> {file}")?,
        Place::Variable(name) => writeln!(f, " --> environment variable {}", visible(name))?,
        Place::Argument(text) => writeln!(f, " --> argument {}", visible(text))?,
    }
    if let (Some(word), false) = (&mistake.suggestion, matches!(mistake.place, Place::File { .. }))
    {
        writeln!(f, "{:margin$} = did you mean `{}`?", "", visible(word))?;
    }
    if let Some((place, text)) = &mistake.other {
        match place {
            Place::File { start, end } => {
                let at = lines.locate(*start);
                writeln!(f, "{:margin$}::: {file}:{}:{}", "", at.line, at.column)?;
                excerpt(f, lines, *start..*end, margin, '-', Some(text))?;
            }
            place @ Place::Cell { .. } => {
                let place = visible(&place.in_list().unwrap_or_default());
                writeln!(f, "{:margin$} = {}: {place}", "", visible(text))?;
            }
            _ => writeln!(f, "{:margin$} = {}", "", visible(text))?,
        }
    }
    if let Some(context) = &mistake.context {
        writeln!(f, "{:margin$} = in {}", "", visible(context))?;
    }
    if let Some(legal) = &mistake.legal {
        writeln!(f, "{:margin$} = legal: {}", "", visible(legal))?;
    }
    Ok(())
}

/// The line with its number, and a mark under the bytes that are meant.
fn excerpt(
    f: &mut fmt::Formatter<'_>,
    lines: &Lines<'_>,
    span: Range<usize>,
    margin: usize,
    mark: char,
    text: Option<&str>,
) -> fmt::Result {
    /// Characters of the file's line that are shown, so that a line of a megabyte stays readable.
    const WIDTH: usize = 100;
    let at = lines.locate(span.start);
    let line: Vec<char> = without_credentials(at.text).chars().collect();
    let from = at.column - 1;
    let inside = span.end.saturating_sub(span.start).min(at.text.len());
    let marked = at
        .text
        .get(at.byte..(at.byte + inside).min(at.text.len()))
        .map_or(1, |text| text.chars().count())
        .max(1);
    let first = if line.len() > WIDTH { from.saturating_sub(WIDTH / 4) } else { 0 };
    let shown: String = line.iter().skip(first).take(WIDTH).collect();
    let marked = marked.min((first + WIDTH).saturating_sub(from).max(1));
    writeln!(f, "{:margin$} |", "")?;
    writeln!(f, "{:>margin$} | {}", at.line, visible(&shown).trim_end())?;
    write!(f, "{:margin$} | {:indent$}", "", "", indent = from - first)?;
    for _ in 0..marked {
        f.write_char(mark)?;
    }
    match text {
        Some(text) => writeln!(f, " {}", visible(text)),
        None => writeln!(f),
    }
}

/// One character for each character, none of them one that a terminal obeys.
fn visible(text: &str) -> String {
    let plain = |c: char| match c {
        '\t' => ' ',
        // Bidirectional overrides can make a line read as something else than it says.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(plain).collect()
}

/// Stars for what stands between `://` and `@`: a report may end in a log.
fn without_credentials(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end = after.find(['"', '\'', ' ', '/']).unwrap_or(after.len());
        let at = after.get(..end).and_then(|host| host.rfind('@')).unwrap_or(0);
        let (secret, tail) = after.split_at(at);
        out.extend(secret.chars().map(|_| '*'));
        rest = tail;
    }
    out.push_str(rest);
    without_password(out)
}

/// Stars for what stands behind `password =`, where nobody should have written one.
fn without_password(line: String) -> String {
    let behind = |at: usize| {
        let rest = line.get(at..)?;
        let value =
            rest.trim_start().trim_start_matches(['"', '\'']).trim_start().strip_prefix('=')?;
        Some(line.len() - value.len())
    };
    let keys = line.match_indices("password").map(|(at, key)| at + key.len());
    let Some(start) = keys.filter_map(behind).next() else { return line };
    let (before, secret) = line.split_at(start);
    // Up to the end of the line: what is in quotes may hold quotes itself.
    before.chars().chain(secret.chars().map(|c| if c.is_whitespace() { c } else { '*' })).collect()
}

/// A value that fits into a sentence.
pub(crate) fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// The lines of a text, found by offset.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

struct Located<'a> {
    /// From 1.
    line: usize,
    /// In characters, from 1.
    column: usize,
    /// Offset in the line, in bytes.
    byte: usize,
    /// The line without its end.
    text: &'a str,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        Self { text, starts: std::iter::once(0).chain(after).collect() }
    }

    /// Any offset is somewhere: one behind the end is the end, one inside a character is before it.
    fn locate(&self, offset: usize) -> Located<'a> {
        let offset = offset.min(self.text.len());
        let index = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let start = self.starts.get(index).copied().unwrap_or(0);
        let end = self.starts.get(index + 1).copied().unwrap_or(self.text.len());
        let line = self.text.get(start..end).unwrap_or_default();
        let line = line.trim_end_matches(['\n', '\r']);
        let mut byte = (offset - start).min(line.len());
        while !line.is_char_boundary(byte) {
            byte -= 1;
        }
        let column = line.get(..byte).unwrap_or_default().chars().count() + 1;
        Located { line: index + 1, column, byte, text: line }
    }

    fn of_place(&self, place: &Place) -> (Option<usize>, Option<usize>) {
        match place {
            Place::File { start, .. } => {
                let at = self.locate(*start);
                (Some(at.line), Some(at.column))
            }
            _ => (None, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_of_the_file_never_reach_the_terminal() {
        let text = "a = \"\u{1b}[2J\u{202e}\"";
        let mistake = Mistake::new("a", Place::File { start: 4, end: 10 }, "bad \u{7}");
        let shown = Mistakes::new("x.toml".into(), text.into(), vec![mistake]).to_string();
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
        assert!(!shown.contains('\u{202e}'), "{shown:?}");
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        let text = r#"urls = ["tls://a", "tls://me:secret@hub", "tls://b"]"#;
        assert_eq!(
            without_credentials(text),
            r#"urls = ["tls://a", "tls://*********@hub", "tls://b"]"#
        );
    }

    #[test]
    fn a_line_of_a_megabyte_is_shown_in_part() {
        let text = "x".repeat(1_000_000);
        let mistake = Mistake::new("a", Place::File { start: 500_000, end: 900_000 }, "bad");
        let shown = Mistakes::new("x.toml".into(), text, vec![mistake]).to_string();
        assert!(shown.len() < 500, "{} bytes", shown.len());
        assert!(shown.contains("x.toml:1:500001"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_place_in_any_text_can_be_shown(
            text in "(?s).{0,80}", start in 0_usize..400, length in 0_usize..400
        ) {
            let place = Place::File { start, end: start + length };
            let mistake = Mistake::new("a", place.clone(), "bad").other(place, "there");
            let mistakes = Mistakes::new("x.toml".into(), text, vec![mistake]);
            let _ = (mistakes.to_string(), mistakes.to_json());
        }
    }
}
