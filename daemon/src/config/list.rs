//! Tag lists: CSV as spreadsheets and engineering tools write it, cut into rows and columns.
//!
//! # Invariants
//! - A column is a key of a tag, by the table of keys, or the comment. What a cell may hold is
//!   decided where a key of the file is decided; nothing here judges a value.
//! - Rows are numbered as a spreadsheet numbers them: the header is a row, empty rows count, and
//!   line breaks inside of a cell do not.
//! - Any bytes are a list or mistakes, never a panic. One row is held in parts at a time.

mod encoding;
mod write;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use csv::{ReaderBuilder, StringRecord};
use encoding::{ENCODINGS, decode};

use super::keys::{self, Section};
use super::mistake::{Mistake, Place, shorten};
use super::suggest;
use super::value::Raw;

pub use write::write;

/// The largest list that is read: 100,000 rows with every column take about 20 MB.
pub const MAX_LIST_BYTES: u64 = 64 << 20;
/// The longest row. A longer one is a quote that is not closed.
const MAX_ROW_BYTES: usize = 64 << 10;
/// The most rows; ten times what a gateway is made for, and a bound for memory.
const MAX_ROWS: u32 = 500_000;
/// The column that is kept for people.
pub(crate) const COMMENT: &str = "comment";

/// What other programs call the columns.
pub(crate) const ALIASES: [(&str, &str); 15] = [
    ("name", "path"),
    ("tag", "path"),
    ("tag-name", "path"),
    ("register", "address"),
    ("node", "address"),
    ("node-id", "address"),
    ("nodeid", "address"),
    ("data-type", "type"),
    ("datatype", "type"),
    ("byte-order", "order"),
    ("factor", "scale"),
    ("engineering-unit", "unit"),
    ("units", "unit"),
    ("sampling-interval-ms", "poll-every-ms"),
    ("description", COMMENT),
];

/// What lies around a configuration: where lists come from, and which files there are.
pub(crate) struct Source<'a> {
    /// Reads a file, at most one byte more than [`MAX_LIST_BYTES`].
    pub(crate) read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
    /// A list that stands in for the one of a device.
    pub(crate) instead: Option<Instead<'a>>,
    /// Whether there is a file; it is not read.
    pub(crate) is_there: &'a dyn Fn(&Path) -> bool,
}

/// A list that is not yet where the configuration would look for it.
#[derive(Debug, Clone, Copy)]
pub struct Instead<'a> {
    /// Whose list.
    pub device: &'a str,
    /// What it is called in messages.
    pub file: &'a Path,
    /// Its content.
    pub bytes: &'a [u8],
}

/// Notes which lists are read: a list is read once for each device that uses it.
pub(crate) struct Noted<'a> {
    read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
    paths: RefCell<BTreeSet<PathBuf>>,
}

impl<'a> Noted<'a> {
    pub(crate) fn new(read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Self {
        Self { read, paths: RefCell::default() }
    }

    pub(crate) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.paths.borrow_mut().insert(path.to_owned());
        (self.read)(path)
    }

    /// Each of them once.
    pub(crate) fn paths(self) -> Vec<PathBuf> {
        self.paths.into_inner().into_iter().collect()
    }
}

/// For texts without a file system around them.
pub(crate) const NO_LISTS: Source<'static> =
    Source { read: &|_| Err(io::ErrorKind::NotFound.into()), instead: None, is_there: &|_| false };

/// A list whose header was understood, as far as it could be.
pub(crate) struct List {
    name: Arc<str>,
    /// The key path of its rows, such as `device[0].tag-list`.
    pub(crate) path: String,
    text: String,
    /// Where the header begins, and which row it is.
    header: (usize, u32),
    separator: u8,
    columns: Vec<Column>,
}

struct Column {
    /// `None` for what is no key.
    key: Option<&'static str>,
    name: Arc<str>,
}

/// One row.
pub(crate) struct Row<'l> {
    list: &'l List,
    cells: &'l StringRecord,
    number: u32,
}

impl<'l> Row<'l> {
    /// What stands in the column of a key; an empty cell is none.
    pub(crate) fn get(&self, key: &str) -> Option<(Raw<'l>, Place)> {
        let index = self.index(key)?;
        let text = self.cells.get(index)?.trim();
        let comma = self.list.separator != b',';
        (!text.is_empty()).then(|| (Raw::Cell { text, comma }, self.list.place(self.number, index)))
    }

    /// The text in the column of a key or of the comment.
    fn cell(&self, name: &str) -> Option<&'l str> {
        let text = self.cells.get(self.index(name)?)?.trim();
        (!text.is_empty()).then_some(text)
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.list.columns.iter().position(|column| column.key == Some(name))
    }

    /// The whole row.
    pub(crate) fn place(&self) -> Place {
        self.list.row_place(self.number)
    }

    /// Its number, the header counted.
    pub(crate) const fn number(&self) -> u32 {
        self.number
    }
}

impl List {
    /// Reads the header. The mistakes are those of the encoding and of the columns.
    pub(crate) fn new(file: &Path, path: String, bytes: Vec<u8>) -> (Option<Self>, Vec<Mistake>) {
        let name: Arc<str> = file.display().to_string().into();
        let mut mistakes = Vec::new();
        let text = match decode(bytes) {
            Ok(text) => text,
            Err(bad) => {
                let list = Self::of_text(name, path, bad.before + "\u{fffd}");
                let (mut row, mut column) = list.header_end();
                list.each(|item| {
                    if let Item::Row(item) = item {
                        (row, column) = (item.number, item.cells.len().saturating_sub(1));
                    }
                    true
                });
                let place = list.place(row, column);
                mistakes
                    .push(Mistake::new(list.row_path(row), place, bad.message).legal(ENCODINGS));
                return (None, mistakes);
            }
        };
        let list = Self::of_text(name, path, text);
        let legible = list.check_header(&mut mistakes);
        (legible.then_some(list), mistakes)
    }

    fn of_text(name: Arc<str>, path: String, mut text: String) -> Self {
        if !text.contains('\n') && text.contains('\r') {
            // As the spreadsheets of another age ended their lines.
            text = text.replace('\r', "\n");
        }
        let (mut at, mut row, mut told) = (0, 1, None);
        for line in text.split_inclusive('\n') {
            // What some spreadsheets write, and all of them understand, above the header.
            let separator = line.trim().strip_prefix("sep=").map(str::as_bytes);
            match separator {
                Some(&[byte]) if told.is_none() => told = Some(byte),
                _ if !line.trim().is_empty() => break,
                _ => {}
            }
            (at, row) = (at + line.len(), row + 1);
        }
        let mut list = Self {
            name,
            path,
            header: (at, row),
            separator: told.unwrap_or(b','),
            columns: Vec::new(),
            text,
        };
        let known = |columns: &[Column]| columns.iter().filter(|c| c.key.is_some()).count();
        let candidates = told.map_or_else(|| vec![b',', b';', b'\t'], |byte| vec![byte]);
        let each = candidates.into_iter().map(|byte| (byte, list.columns_by(byte)));
        // Of equals the first one wins, so that a list of one column is a list with commas.
        let best = each.rev().max_by_key(|(_, columns)| (known(columns), columns.len()));
        if let Some((separator, columns)) = best {
            (list.separator, list.columns) = (separator, columns);
        }
        list
    }

    fn rest(&self) -> &str {
        self.text.get(self.header.0..).unwrap_or_default()
    }

    fn columns_by(&self, separator: u8) -> Vec<Column> {
        let mut reader = reader(self.rest(), separator);
        let mut header = StringRecord::new();
        // Of valid text, with any number of cells, nothing can fail.
        let _ = reader.read_record(&mut header);
        let column =
            |name: &str| Column { key: key_of(name), name: shorten(name.trim()).as_str().into() };
        header.iter().map(column).collect()
    }

    fn header_end(&self) -> (u32, usize) {
        (self.header.1, self.columns.len().saturating_sub(1))
    }

    /// Whether the rows can be read.
    fn check_header(&self, mistakes: &mut Vec<Mistake>) -> bool {
        let (_, row) = self.header;
        let path = self.row_path(row);
        if self.columns.iter().all(|column| column.name.is_empty()) {
            let message = "the list is empty";
            let mistake = Mistake::new(self.path.clone(), self.row_place(0), message);
            mistakes.push(mistake.legal("a header row with at least path and address"));
            return false;
        }
        let mut legible = true;
        for (index, column) in self.columns.iter().enumerate() {
            let place = self.place(row, index);
            match column.key {
                None if column.name.is_empty() => {}
                None => {
                    let folded = fold(&column.name);
                    let names = legal_names().chain(ALIASES.iter().map(|(alias, _)| *alias));
                    let near = suggest::nearest(&folded, names);
                    let legal: Vec<&str> = legal_names().collect();
                    mistakes.push(
                        Mistake::new(path.clone(), place, "unknown column")
                            .value(&*column.name)
                            .legal(legal.join(", "))
                            .suggest(near),
                    );
                }
                Some(key) => {
                    let first = self.columns.iter().position(|other| other.key == Some(key));
                    if let Some(first) = first.filter(|first| *first < index) {
                        let message = format!("there is a column for {key:?} already");
                        mistakes.push(
                            Mistake::new(path.clone(), place, message)
                                .value(&*column.name)
                                .legal("one column for each key")
                                .other(self.place(row, first), "the first one"),
                        );
                    }
                }
            }
        }
        for key in ["path", "address"] {
            // The column that was meant is not missing as well.
            let meant =
                mistakes.iter().any(|m| m.suggestion.as_deref().and_then(key_of) == Some(key));
            if self.columns.iter().any(|column| column.key == Some(key)) {
                continue;
            }
            legible = false;
            if !meant {
                let found: Vec<&str> = self.columns.iter().map(|column| &*column.name).collect();
                let message = format!("there is no column {key:?}");
                let legal = format!(
                    "a header row with path and address; found {}",
                    shorten(&found.join(", "))
                );
                mistakes
                    .push(Mistake::new(path.clone(), self.row_place(row), message).legal(legal));
            }
        }
        legible
    }

    /// The rows below the header that are not empty, in order, as long as `with` asks for more.
    pub(crate) fn each(&self, mut with: impl FnMut(Item<'_>) -> bool) {
        let text = self.rest().as_bytes();
        let mut reader = reader(self.rest(), self.separator);
        let mut cells = StringRecord::new();
        // Where the counted lines end, the row that begins there, and lines inside of cells.
        let (mut counted, mut row) = (0_usize, self.header.1);
        let mut inside = 0;
        let mut is_header = true;
        while matches!(reader.read_record(&mut cells), Ok(true)) {
            let begins = cells.position().and_then(|at| usize::try_from(at.byte()).ok());
            let mut start = begins.unwrap_or(counted);
            start += run(text, start, |byte| matches!(byte, b'\n' | b'\r'));
            let breaks = newlines(text.get(counted..start).unwrap_or_default());
            row = row.saturating_add(breaks.saturating_sub(inside));
            counted = start;
            inside =
                cells.iter().map(|cell| newlines(cell.as_bytes())).fold(0, u32::saturating_add);
            if std::mem::take(&mut is_header) || cells.iter().all(|cell| cell.trim().is_empty()) {
                continue;
            }
            let end = usize::try_from(reader.position().byte()).unwrap_or(start);
            let raw = text.get(start..end).unwrap_or_default();
            let more = match self.refusal(&cells, row, raw, inside > 0 && end >= text.len()) {
                Some(mistake) => with(Item::Refused(Box::new(mistake))),
                None => with(Item::Row(Row { list: self, cells: &cells, number: row })),
            };
            if !more || row > MAX_ROWS {
                return;
            }
        }
    }

    /// Why a row is none. `may_be_open` says that it ends the list, with a line break inside.
    fn refusal(
        &self,
        cells: &StringRecord,
        row: u32,
        raw: &[u8],
        may_be_open: bool,
    ) -> Option<Mistake> {
        let refuse = |message: String, legal: &str| {
            Some(Mistake::new(self.row_path(row), self.row_place(row), message).legal(legal))
        };
        if row > MAX_ROWS {
            return refuse(format!("the list has more than {MAX_ROWS} rows"), "several devices");
        }
        if raw.len() > MAX_ROW_BYTES {
            let message = format!("the row has {} bytes", raw.len());
            return refuse(message, "at most 65536 bytes; a quote may not be closed");
        }
        if may_be_open && raw.iter().filter(|byte| **byte == b'"').count() % 2 == 1 {
            let message = "a quote in this row is never closed".to_owned();
            return refuse(message, "text in quotes, and two quotes for one inside");
        }
        let index = self.beyond(cells)?;
        let message = match self.columns.len() {
            most if index >= most => {
                format!("the row has {} cells, and the header {most}", index + 1)
            }
            _ => "the cell stands in a column without a name".to_owned(),
        };
        let value = format!("{:?}", shorten(cells.get(index).unwrap_or_default().trim()));
        let legal = "as many cells as the header has; text with a separator in quotes";
        let mistake = Mistake::new(self.row_path(row), self.place(row, index), message);
        Some(mistake.value(value).legal(legal))
    }

    /// The last cell that stands below no name.
    fn beyond(&self, cells: &StringRecord) -> Option<usize> {
        let named = |index: usize| self.columns.get(index).is_some_and(|c| !c.name.is_empty());
        let mut beyond = None;
        for (index, cell) in cells.iter().enumerate().skip(self.first_unnamed()) {
            if !named(index) && !cell.trim().is_empty() {
                beyond = Some(index);
            }
        }
        beyond
    }

    fn first_unnamed(&self) -> usize {
        let unnamed = self.columns.iter().position(|column| column.name.is_empty());
        unnamed.unwrap_or(self.columns.len())
    }

    fn row_path(&self, row: u32) -> String {
        format!("{}[{row}]", self.path)
    }

    fn row_place(&self, row: u32) -> Place {
        Place::Cell { list: Arc::clone(&self.name), row, column: 0, name: Arc::default() }
    }

    fn place(&self, row: u32, index: usize) -> Place {
        let name = self.columns.get(index).map(|column| Arc::clone(&column.name));
        Place::Cell {
            list: Arc::clone(&self.name),
            row,
            column: u32::try_from(index + 1).unwrap_or(u32::MAX),
            name: name.unwrap_or_default(),
        }
    }

    /// What its messages call it.
    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
}

/// What stands below the header.
pub(crate) enum Item<'l> {
    /// A row.
    Row(Row<'l>),
    /// What is no row.
    Refused(Box<Mistake>),
}

/// Reads a list from disk, and of a larger one no more than is needed to see that.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_LIST_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn reader(text: &str, separator: u8) -> csv::Reader<&[u8]> {
    let mut builder = ReaderBuilder::new();
    builder.has_headers(false).flexible(true).delimiter(separator);
    builder.from_reader(text.as_bytes())
}

/// The names of all columns.
pub(crate) fn legal_names() -> impl Iterator<Item = &'static str> {
    keys::of(Section::Tag).map(|key| key.name).chain([COMMENT])
}

/// The key that a column's name means.
fn key_of(name: &str) -> Option<&'static str> {
    let folded = fold(name);
    let alias = ALIASES.iter().find(|(alias, _)| *alias == folded).map(|(_, key)| *key);
    legal_names().find(|key| *key == folded).or(alias)
}

fn fold(name: &str) -> String {
    name.trim().to_lowercase().replace(['_', ' '], "-")
}

fn newlines(bytes: &[u8]) -> u32 {
    let count = bytes.iter().filter(|byte| **byte == b'\n').count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn run(bytes: &[u8], from: usize, is_in: impl Fn(u8) -> bool) -> usize {
    bytes.get(from..).unwrap_or_default().iter().take_while(|byte| is_in(**byte)).count()
}

#[cfg(test)]
mod tests;
