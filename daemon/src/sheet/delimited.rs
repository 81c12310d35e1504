//! CSV: a line of column names, then a line per row.

use std::io::Write;

use super::SheetError;
use super::cell::Cell;
use super::columns::Column;

pub(super) struct Csv {
    writer: csv::Writer<Box<dyn Write + Send>>,
    field: String,
}

impl Csv {
    pub(super) fn begin(
        columns: &[Column],
        out: Box<dyn Write + Send>,
    ) -> Result<Self, SheetError> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(columns.iter().map(|column| column.key.as_ref())).map_err(failed)?;
        Ok(Self { writer, field: String::new() })
    }

    pub(super) fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SheetError> {
        for cell in cells {
            self.field.clear();
            cell.write(&mut self.field);
            self.writer.write_field(&self.field).map_err(failed)?;
        }
        self.writer.write_record(None::<&[u8]>).map_err(failed)
    }

    pub(super) fn flush(&mut self) -> Result<(), SheetError> {
        Ok(self.writer.flush()?)
    }

    pub(super) fn finish(mut self) -> Result<(), SheetError> {
        self.flush()
    }
}

fn failed(error: csv::Error) -> SheetError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => SheetError::Output(error),
        other => SheetError::Output(std::io::Error::other(format!("{other:?}"))),
    }
}
