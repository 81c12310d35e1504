//! What every benchmark prints: the machine, aligned tables with units, or one JSON object.
//!
//! # Invariants
//! - A head tells cores, kernel and file system, never the name of a machine or a path.
//! - Tables and the JSON object go to standard output, progress to standard error.
// Each benchmark uses its own part of this.
#![allow(dead_code, reason = "each program that includes this file uses a part of it")]

use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

/// Tables under one head.
pub(crate) struct Figures {
    bench: &'static str,
    machine: Value,
    tables: Vec<Table>,
    as_json: bool,
}

/// One table.
pub(crate) struct Table {
    title: String,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Figures {
    /// Figures measured with files at `place`; printed as JSON when the arguments hold `--json`.
    pub(crate) fn new(bench: &'static str, place: &Path) -> Self {
        let as_json = std::env::args().any(|argument| argument == "--json");
        let mut figures = Self { bench, machine: Value::Null, tables: Vec::new(), as_json };
        figures.measured_at(place);
        figures
    }

    /// Says that the files lie elsewhere than was thought.
    pub(crate) fn measured_at(&mut self, place: &Path) {
        self.machine = json!({
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "architecture": std::env::consts::ARCH,
            "kernel": kernel(),
            "memory-mib": memory_mib(),
            "file-system": file_system(place),
            "load-before": first_line("/proc/loadavg").split(' ').next(),
        });
    }

    /// Adds a table and shows it, unless everything comes as JSON at the end.
    pub(crate) fn add(&mut self, table: Table) {
        if !self.as_json {
            if self.tables.is_empty() {
                print(&self.head());
            }
            print(&table.text());
        }
        self.tables.push(table);
    }

    /// Prints the JSON object when that was asked for.
    pub(crate) fn finish(self) {
        if !self.as_json {
            return;
        }
        let tables: Vec<_> = self.tables.iter().map(Table::json).collect();
        let all = json!({ "bench": self.bench, "machine": self.machine, "tables": tables });
        print(&format!("{all}\n"));
    }

    fn head(&self) -> String {
        let machine = &self.machine;
        let word = |key: &str| machine[key].as_str().unwrap_or("unknown").to_owned();
        format!(
            "\nbench {}: {} cores, {}, {} MiB of memory, Linux {}, files on {}, load before {}\n",
            self.bench,
            machine["cores"],
            word("architecture"),
            machine["memory-mib"],
            word("kernel"),
            word("file-system"),
            word("load-before"),
        )
    }
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, columns: &[&'static str]) -> Self {
        let columns = columns.to_vec();
        Self { title: title.into(), columns, rows: Vec::new(), notes: Vec::new() }
    }

    /// One cell for each column; the first is a name, the others are figures.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// A sentence below the table.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    fn text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let head = self.columns.get(column).copied().unwrap_or_default();
            cells.map(|cell| cell.chars().count()).chain([head.chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &[String]| {
            let mut line = String::from(" ");
            for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                line += " ";
                line += &if column == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!(" {cell:>width$}")
                };
            }
            line.trim_end().to_owned() + "\n"
        };
        let heads: Vec<String> = self.columns.iter().map(ToString::to_string).collect();
        let mut text = format!("\n{}\n{}", self.title, line(&heads));
        for row in &self.rows {
            text += &line(row);
        }
        for note in &self.notes {
            text += &format!("  - {note}\n");
        }
        text
    }

    fn json(&self) -> Value {
        let row = |row: &Vec<String>| {
            let cells = self.columns.iter().zip(row);
            let cells = cells.map(|(name, cell)| ((*name).to_owned(), value(cell)));
            Value::Object(cells.collect())
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        json!({ "title": self.title, "rows": rows, "notes": self.notes })
    }
}

/// A cell for programs: a number where it is one, nothing where there is a dash.
fn value(cell: &str) -> Value {
    match cell.parse::<f64>() {
        Ok(number) if number.is_finite() => json!(number),
        _ if cell == "-" => Value::Null,
        _ => json!(cell),
    }
}

/// One line of progress.
pub(crate) fn progress(line: &str) {
    // A closed terminal must not end the work.
    let _ = writeln!(std::io::stderr(), "bench: {line}");
}

fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Three significant digits, as people read figures.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// How many times the second, or a dash when there is none.
pub(crate) fn ratio(value: f64, of: f64) -> String {
    if of > 0.0 && value.is_finite() { figure(value / of) } else { "-".to_owned() }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

/// The value behind `--name`, such as `--gib 1`.
pub(crate) fn option(name: &str) -> Option<String> {
    let mut arguments = std::env::args();
    arguments.find(|argument| argument == name)?;
    arguments.next()
}

fn first_line(place: &str) -> String {
    let text = std::fs::read_to_string(place).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").trim().to_owned()
}

/// Major and minor version: what a distribution appends says nothing of speed.
fn kernel() -> String {
    let release = first_line("/proc/sys/kernel/osrelease");
    release.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn memory_mib() -> u64 {
    let total = first_line("/proc/meminfo");
    let kib = total.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// The type of the file system that holds a directory.
fn file_system(place: &Path) -> String {
    let place = place.canonicalize().unwrap_or_else(|_| place.to_path_buf());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut found = (0, "unknown".to_owned());
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(at), Some(kind)) = (fields.next(), fields.next()) else { continue };
        // A later mount hides an earlier one at the same place.
        if place.starts_with(at) && at.len() >= found.0 {
            found = (at.len(), kind.to_owned());
        }
    }
    found.1
}
