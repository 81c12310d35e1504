//! What people see on a terminal: tables, values, ages, colour.
//!
//! # Invariants
//! - Colour only on a terminal, and not where `NO_COLOR` is set.
//! - Text from devices and hubs cannot steer the terminal: control characters are shown, not sent.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

/// Whether to use colour on a stream.
#[must_use]
pub fn colour(is_terminal: bool) -> bool {
    // https://no-color.org: any value but the empty one.
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A colour by what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As the terminal writes.
    Plain,
    /// A heading.
    Strong,
    /// All is well.
    Good,
    /// Something to look at.
    Caution,
    /// Something is wrong.
    Wrong,
    /// Of little interest.
    Faint,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Caution => "\x1b[33m",
            Self::Wrong => "\x1b[31m",
            Self::Faint => "\x1b[2m",
        }
    }

    /// The text in this tone.
    #[must_use]
    pub fn paint(self, text: &str, colour: bool) -> String {
        if colour && self != Self::Plain {
            format!("{}{text}\x1b[0m", self.code())
        } else {
            text.to_owned()
        }
    }
}

/// A text without control characters.
#[must_use]
pub fn tame(text: &str) -> String {
    let mut tamed = String::with_capacity(text.len());
    for c in text.chars() {
        // Bidirectional overrides can make a line read as something else than it says.
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            tamed.extend(c.escape_default());
        } else {
            tamed.push(c);
        }
    }
    tamed
}

/// How the cells of a column stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table with aligned columns.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<(String, Tone)>>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; control characters are escaped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = (String, Tone)>) {
        self.rows.push(cells.into_iter().map(|(text, tone)| (tame(&text), tone)).collect());
    }

    /// Writes the lines, each with `indent` blanks in front.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write(
        &self,
        out: &mut (impl Write + ?Sized),
        indent: usize,
        colour: bool,
    ) -> io::Result<()> {
        self.lines(indent, colour).iter().try_for_each(|line| writeln!(out, "{line}"))
    }

    /// The lines, each with `indent` blanks in front.
    #[must_use]
    pub fn lines(&self, indent: usize, colour: bool) -> Vec<String> {
        let width = |text: &str| text.chars().count();
        let mut widths: Vec<usize> = self.columns.iter().map(|(name, _)| width(name)).collect();
        for row in &self.rows {
            for (known, (text, _)) in widths.iter_mut().zip(row) {
                *known = (*known).max(width(text));
            }
        }
        let head: Vec<_> =
            self.columns.iter().map(|(name, _)| ((*name).to_owned(), Tone::Faint)).collect();
        std::iter::once(&head)
            .chain(&self.rows)
            .map(|row| {
                let mut line = " ".repeat(indent);
                for (i, ((text, tone), (_, align))) in row.iter().zip(&self.columns).enumerate() {
                    let blanks = " ".repeat(widths[i].saturating_sub(width(text)));
                    let painted = tone.paint(text, colour);
                    let last = i + 1 == row.len();
                    // Writing to a String cannot fail.
                    let _ = match align {
                        Align::Right => write!(line, "{blanks}{painted}"),
                        Align::Left if last => write!(line, "{painted}"),
                        Align::Left => write!(line, "{painted}{blanks}"),
                    };
                    if !last {
                        line.push_str("  ");
                    }
                }
                line.trim_end().to_owned()
            })
            .collect()
    }
}

/// A duration with the precision that a person needs: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 4 min`,
/// `6 d 1 h`.
#[must_use]
pub fn age(age: Duration) -> String {
    let s = age.as_secs();
    match s {
        0..10 => format!("{:.1} s", age.as_secs_f64()),
        10..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86400, s % 86400 / 3600),
    }
}

/// A value: a text without quotes, a dash for none.
#[must_use]
pub fn value(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "–".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The text, or of a longer one its beginning.
#[must_use]
pub fn cut(text: String, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text,
        Some(_) => text.chars().take(longest.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A quality with its reason, and how it looks: `bad (timeout)`.
#[must_use]
pub fn quality(word: &str, why: Option<&str>) -> (String, Tone) {
    let tone = match word {
        "good" => Tone::Good,
        "uncertain" => Tone::Caution,
        _ => Tone::Wrong,
    };
    (why.map_or_else(|| word.to_owned(), |why| format!("{word} ({why})")), tone)
}

/// A count with its noun: `1 frame`, `2 frames`.
#[must_use]
pub fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters_and_not_by_bytes() {
        let mut table = Table::new(&[("NAME", Align::Left), ("N", Align::Right)]);
        table.row([("Öl".to_owned(), Tone::Plain), ("7".to_owned(), Tone::Good)]);
        table.row([("press-1".to_owned(), Tone::Plain), ("100".to_owned(), Tone::Good)]);
        assert_eq!(table.lines(2, false), ["  NAME       N", "  Öl         7", "  press-1  100"]);
        assert!(table.lines(0, true)[1].ends_with("\x1b[32m7\x1b[0m"));
    }

    #[test]
    fn a_device_cannot_steer_the_terminal() {
        let mut table = Table::new(&[("VALUE", Align::Left)]);
        table.row([("\x1b[2Jx\n\u{202e}".to_owned(), Tone::Plain)]);
        assert_eq!(table.lines(0, true)[1], "\\u{1b}[2Jx\\n\\u{202e}");
    }

    #[test]
    fn ages_and_counts_read_like_a_person_would_say_them() {
        let ages = [0.44, 12.0, 185.0, 7500.0, 522_000.0].map(|s| age(Duration::from_secs_f64(s)));
        assert_eq!(ages, ["0.4 s", "12 s", "3 min 5 s", "2 h 5 min", "6 d 1 h"]);
        assert_eq!((count(1, "frame"), count(0, "frame")), ("1 frame".into(), "0 frames".into()));
    }
}
