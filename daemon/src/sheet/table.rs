//! Aligned columns, page by page: widths are those of the first page, and grow where a later one
//! needs more.

use std::io::Write;

use super::SheetError;
use super::cell::Cell;
use super::columns::Column;
use crate::cli::terminal::{Tone, cut, quality, tame};

/// Rows whose widths are looked at together: more than a person's screen.
const PAGE_ROWS: usize = 500;

/// The most characters of a value; the other formats have all of it.
const MAX_WIDTH: usize = 72;

pub(super) struct Pages {
    columns: Vec<Shown>,
    colour: bool,
    out: Box<dyn Write + Send>,
    page: Vec<Vec<Text>>,
    begun: bool,
}

struct Shown {
    /// Among all columns.
    at: usize,
    /// Where the reason of a quality stands.
    why: Option<usize>,
    title: String,
    width: usize,
}

struct Text {
    text: String,
    tone: Tone,
    right: bool,
}

impl Pages {
    pub(super) fn new(columns: &[Column], colour: bool, out: Box<dyn Write + Send>) -> Self {
        let why = columns.iter().position(|column| column.key == "why");
        let shown = columns.iter().enumerate().filter_map(|(at, column)| {
            let title = column.title.as_deref()?.to_owned();
            let why = why.filter(|_| column.key == "q");
            Some(Shown { at, why, width: title.chars().count(), title })
        });
        Self { columns: shown.collect(), colour, out, page: Vec::new(), begun: false }
    }

    pub(super) fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SheetError> {
        let mut row = Vec::with_capacity(self.columns.len());
        for column in &mut self.columns {
            let cell = cells.get(column.at).unwrap_or(&Cell::None);
            let mut text = String::new();
            match cell {
                Cell::Time(at) => text.push_str(&millis(*at)),
                cell => cell.write(&mut text),
            }
            let mut tone = Tone::Plain;
            if let Some(why) = column.why {
                let mut reason = String::new();
                cells.get(why).unwrap_or(&Cell::None).write(&mut reason);
                (text, tone) = quality(&text, Some(reason.as_str()).filter(|why| !why.is_empty()));
            }
            let text = cut(tame(&text), MAX_WIDTH);
            column.width = column.width.max(text.chars().count());
            row.push(Text { text, tone, right: cell.is_number() });
        }
        self.page.push(row);
        if self.page.len() >= PAGE_ROWS { self.print() } else { Ok(()) }
    }

    fn print(&mut self) -> Result<(), SheetError> {
        let mut lines = String::new();
        if !std::mem::replace(&mut self.begun, true) {
            let head = self.columns.iter().map(|column| Text {
                text: column.title.clone(),
                tone: Tone::Faint,
                right: false,
            });
            self.line(&head.collect::<Vec<_>>(), &mut lines);
        }
        for row in std::mem::take(&mut self.page) {
            self.line(&row, &mut lines);
        }
        Ok(self.out.write_all(lines.as_bytes())?)
    }

    fn line(&self, row: &[Text], lines: &mut String) {
        let begin = lines.len();
        for (i, (cell, column)) in row.iter().zip(&self.columns).enumerate() {
            if i > 0 {
                lines.push_str("  ");
            }
            let blanks = column.width.saturating_sub(cell.text.chars().count());
            let painted = cell.tone.paint(&cell.text, self.colour);
            if cell.right {
                lines.extend(std::iter::repeat_n(' ', blanks));
                lines.push_str(&painted);
            } else {
                lines.push_str(&painted);
                lines.extend(std::iter::repeat_n(' ', blanks));
            }
        }
        let end = begin + lines[begin..].trim_end_matches(' ').len();
        lines.truncate(end);
        lines.push('\n');
    }

    pub(super) fn flush(&mut self) -> Result<(), SheetError> {
        if !self.page.is_empty() {
            self.print()?;
        }
        Ok(self.out.flush()?)
    }

    pub(super) fn finish(mut self) -> Result<(), SheetError> {
        if !self.begun || !self.page.is_empty() {
            self.print()?;
        }
        Ok(self.out.flush()?)
    }
}

/// A time to the millisecond, always as long.
fn millis(at: i64) -> String {
    let whole = jiff::Timestamp::from_nanosecond(at.into());
    whole.map_or_else(|_| at.to_string(), |time| format!("{time:.3}"))
}
