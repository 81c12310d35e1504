//! `tidegate tags export`: all tags of a device as a tag list, wherever they are written.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use super::super::check::SetArgs;
use super::super::exit::{DISK, OK};
use super::import::{no_device, refused, replace};
use crate::config::{self, Loaded, list};

/// Print all tags of a device as a CSV tag list
#[derive(Debug, Clone, clap::Args)]
pub struct ExportArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    pub config: PathBuf,
    /// Whose tags.
    #[arg(long, value_name = "NAME")]
    pub device: String,
    /// Where to write; the terminal when left out
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Settings that go before the file.
    #[command(flatten)]
    pub set: SetArgs,
}

/// Runs it and returns the exit code: 0 written, 2 no such device, 64 mistakes, 73 not writable.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub fn run(
    args: &ExportArgs,
    environment: Vec<(OsString, OsString)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let loaded = config::load_with(&args.config, environment, &args.set.set, None);
    let Loaded { config, origins } = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return refused(&error, err),
    };
    let of_it = config.devices.iter().zip(&origins);
    let found = of_it.into_iter().find(|(_, origin)| origin.device == args.device);
    let Some((device, origin)) = found else {
        return no_device(&args.device, &args.config, &origins, err);
    };
    let content = list::write(device, &origin.base_path);
    let Some(file) = &args.output else {
        out.write_all(&content)?;
        return Ok(OK);
    };
    match replace(file, &content) {
        Ok(kept) => {
            let rows = device.tags.len() + device.subtrees.len();
            writeln!(out, "wrote {} ({rows} tags)", file.display())?;
            if let Some(kept) = kept {
                writeln!(out, "the file before is {}", kept.display())?;
            }
            Ok(OK)
        }
        Err(error) => {
            writeln!(err, "error: {} cannot be written: {error}", file.display())?;
            Ok(DISK)
        }
    }
}
