//! Rows as people and programs want them: aligned for a terminal, JSON lines, CSV, Parquet.
//!
//! # Invariants
//! - Memory is bounded by a page of a table, a row group of Parquet, or one row, however many rows
//!   there are.
//! - Every format says the same: numbers, times and texts come back as they are in the JSON line.
//! - Text from devices cannot steer the terminal.
//! - A file of Parquet has its own name only when it is whole.

mod cell;
mod columns;
mod delimited;
mod output;
#[cfg(feature = "analysis")]
mod parquet;
mod table;

use std::io::{self, Write};

use tidegate_record::Reading;
use tidegate_translator::Timestamp;

use crate::names::GatewayId;

use cell::Cell;
pub use columns::Shape;
use columns::{Column, Kind};
pub use output::Output;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns for people
    Table,
    /// One JSON object per line, with all that is known of a row
    Jsonl,
    /// A line of column names, then one line per row (RFC 4180)
    Csv,
    /// Typed columns in compressed row groups, for pandas, DuckDB and the like
    Parquet,
}

/// What the rows of a sheet are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Which rows.
    pub shape: Shape,
    /// Whether each row names its gateway, because there may be several.
    pub gateway: bool,
    /// Whether samples have `corrected`.
    pub corrected: bool,
    /// Whether a table is coloured.
    pub colour: bool,
}

impl Layout {
    /// Rows of this shape without more.
    #[must_use]
    pub const fn of(shape: Shape) -> Self {
        Self { shape, gateway: false, corrected: false, colour: false }
    }
}

/// Why rows cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SheetError {
    /// The output fails.
    #[error("output cannot be written")]
    Output(#[from] io::Error),
    /// A row is no JSON object.
    #[error("row {row:.80?} is no JSON object")]
    Row {
        /// Its beginning.
        row: String,
    },
    /// The format is not part of this build.
    #[error(
        "a gateway's program writes no Parquet; ask from a machine with the package tidegate-tools, or take --format csv"
    )]
    NoParquet,
}

impl SheetError {
    /// Whether whoever read the output has had enough: no mistake.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Rows in, a format out.
pub struct Sheet {
    layout: Layout,
    columns: Vec<Column>,
    state: State,
    /// The line in the making, kept for its room.
    line: String,
    rows: u64,
}

enum State {
    /// The columns are those of the first row.
    Unknown(Format, Box<dyn Write + Send>),
    Lines(Box<dyn Write + Send>),
    Table(table::Pages),
    Csv(Box<delimited::Csv>),
    #[cfg(feature = "analysis")]
    Parquet(Box<parquet::File>),
    Closed,
}

impl std::fmt::Debug for Sheet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sheet").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Sheet {
    /// An empty sheet. `out` is written in large pieces; [`Sheet::flush`] says when more.
    ///
    /// # Errors
    /// When the format is not part of this build, or `out` cannot be written.
    pub fn open(
        format: Format,
        layout: Layout,
        out: Box<dyn Write + Send>,
    ) -> Result<Self, SheetError> {
        let out: Box<dyn Write + Send> = Box::new(io::BufWriter::with_capacity(64 * 1024, out));
        let columns = layout.shape.columns(layout.gateway, layout.corrected);
        let state = State::Unknown(format, out);
        let mut sheet = Self { layout, columns, state, line: String::new(), rows: 0 };
        if format == Format::Jsonl || layout.shape != Shape::Any {
            sheet.begin()?;
        } else if format == Format::Parquet && !cfg!(feature = "analysis") {
            return Err(SheetError::NoParquet);
        }
        Ok(sheet)
    }

    /// Rows so far.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes the columns as they are now.
    fn begin(&mut self) -> Result<(), SheetError> {
        let State::Unknown(format, out) = std::mem::replace(&mut self.state, State::Closed) else {
            return Ok(());
        };
        self.state = match format {
            Format::Jsonl => State::Lines(out),
            Format::Table => {
                State::Table(table::Pages::new(&self.columns, self.layout.colour, out))
            }
            Format::Csv => State::Csv(Box::new(delimited::Csv::begin(&self.columns, out)?)),
            #[cfg(feature = "analysis")]
            Format::Parquet => State::Parquet(Box::new(parquet::File::begin(&self.columns, out)?)),
            #[cfg(not(feature = "analysis"))]
            Format::Parquet => return Err(SheetError::NoParquet),
        };
        Ok(())
    }

    /// Adds a row of an answer: one JSON object. What the columns do not know is left out of every
    /// format but JSON lines.
    ///
    /// # Errors
    /// When it is no JSON object, or the output fails.
    pub fn row(&mut self, gateway: Option<&str>, json: &str) -> Result<(), SheetError> {
        let gateway = gateway.filter(|_| self.layout.gateway);
        let no_object = || SheetError::Row { row: json.chars().take(80).collect() };
        if let State::Lines(out) = &mut self.state {
            let body = json.trim_ascii().strip_prefix('{').ok_or_else(no_object)?;
            self.line.clear();
            self.line.push('{');
            if let Some(gateway) = gateway {
                self.line.push_str("\"gateway\":");
                tidegate_record::json::write_text(&mut self.line, gateway);
                if body.trim_ascii_start() != "}" {
                    self.line.push(',');
                }
            }
            self.line.push_str(body);
            self.line.push('\n');
            out.write_all(self.line.as_bytes())?;
            self.rows += 1;
            return Ok(());
        }
        if matches!(self.state, State::Unknown(..)) {
            let found = cell::kinds(json).ok_or_else(no_object)?;
            self.columns.extend(found.into_iter().map(|(key, kind)| Column::found(key, kind)));
            self.begin()?;
        }
        let mut cells = cell::of_json(json, &self.columns).ok_or_else(no_object)?;
        if let (Some(gateway), Some(cell)) = (gateway, cells.first_mut()) {
            *cell = Cell::Text(gateway.into());
        }
        self.cells(&cells)
    }

    /// Adds a sample of the record.
    ///
    /// # Errors
    /// When the output fails.
    pub fn sample(
        &mut self,
        gateway: &GatewayId,
        reading: &Reading<'_>,
        corrected: Option<Timestamp>,
    ) -> Result<(), SheetError> {
        let gateway = self.layout.gateway.then(|| gateway.to_string());
        let gateway = gateway.as_deref();
        if let State::Lines(out) = &mut self.state {
            self.line.clear();
            reading.write_json(&mut self.line, gateway, corrected);
            self.line.push('\n');
            out.write_all(self.line.as_bytes())?;
            self.rows += 1;
            return Ok(());
        }
        let columns = std::mem::take(&mut self.columns);
        let cells: Vec<Cell<'_>> = columns
            .iter()
            .map(|column| cell::of_reading(column, gateway, reading, corrected))
            .collect();
        let written = self.cells(&cells);
        self.columns = columns;
        written
    }

    fn cells(&mut self, cells: &[Cell<'_>]) -> Result<(), SheetError> {
        match &mut self.state {
            State::Table(pages) => pages.row(cells)?,
            State::Csv(csv) => csv.row(cells)?,
            #[cfg(feature = "analysis")]
            State::Parquet(file) => file.row(cells)?,
            State::Unknown(..) | State::Lines(_) | State::Closed => {}
        }
        self.rows += 1;
        Ok(())
    }

    /// Hands on what is there, for somebody who looks at it while it grows. Parquet waits for a
    /// whole row group.
    ///
    /// # Errors
    /// When the output fails.
    pub fn flush(&mut self) -> Result<(), SheetError> {
        match &mut self.state {
            State::Lines(out) => out.flush()?,
            State::Table(pages) => pages.flush()?,
            State::Csv(csv) => csv.flush()?,
            #[cfg(feature = "analysis")]
            State::Parquet(_) => {}
            State::Unknown(..) | State::Closed => {}
        }
        Ok(())
    }

    /// Writes the end. Without it a file of Parquet cannot be read.
    ///
    /// # Errors
    /// When the output fails.
    pub fn finish(mut self) -> Result<u64, SheetError> {
        if matches!(self.state, State::Unknown(..)) {
            if self.columns.is_empty() {
                self.columns.push(Column::found("path".into(), Kind::Text));
            }
            self.begin()?;
        }
        match self.state {
            State::Lines(mut out) => out.flush()?,
            State::Table(pages) => pages.finish()?,
            State::Csv(csv) => csv.finish()?,
            #[cfg(feature = "analysis")]
            State::Parquet(file) => file.finish()?,
            State::Unknown(..) | State::Closed => {}
        }
        Ok(self.rows)
    }
}

#[cfg(test)]
mod tests;
