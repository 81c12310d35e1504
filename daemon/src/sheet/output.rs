//! Where rows go: the standard output, or a file.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Format;

/// Where rows go.
#[derive(Debug)]
pub struct Output {
    /// The name that a file has until it is whole, and its own.
    unfinished: Option<(PathBuf, PathBuf)>,
}

impl Output {
    /// Opens the file, or the standard output without one. A file of Parquet is made beside its
    /// place, and moved there by [`Output::finish`].
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn open(path: Option<&Path>, format: Format) -> io::Result<(Self, Box<dyn Write + Send>)> {
        let Some(path) = path else {
            return Ok((Self { unfinished: None }, Box::new(io::stdout())));
        };
        if format != Format::Parquet {
            return Ok((Self { unfinished: None }, Box::new(File::create(path)?)));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".unfinished");
        let beside = path.with_file_name(name);
        let file = File::create(&beside)?;
        Ok((Self { unfinished: Some((beside, path.to_owned())) }, Box::new(file)))
    }

    /// Gives a file its name. Only after [`super::Sheet::finish`].
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn finish(mut self) -> io::Result<()> {
        match self.unfinished.take() {
            Some((beside, path)) => std::fs::rename(beside, path),
            None => Ok(()),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some((beside, _)) = &self.unfinished {
            // Nobody can read it without its end.
            let _ = std::fs::remove_file(beside);
        }
    }
}
