//! Reads a configuration file from disk.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::check::{Loaded, parse_in};
use super::list::{self, Instead, Noted, Source};
use super::mistake::{Mistake, Mistakes, Place};
use super::{Argument, Config, size};

/// The file that commands read when none is named.
pub const DEFAULT_FILE: &str = "/etc/tidegate/tidegate.toml";

/// The largest file that is read. 50,000 tags with every key written take about 15 MB.
pub const MAX_FILE_BYTES: u64 = 32 << 20;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("configuration {} cannot be read", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is larger than any configuration.
    #[error("configuration {} is larger than {}; is it the right file?", file.display(), size::format(MAX_FILE_BYTES))]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// It was read, and has mistakes.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
}

/// Reads and checks a configuration file. An argument wins over a `TIDEGATE_CFG_…` variable, a
/// variable over the file, the file over the default.
///
/// # Errors
/// When the file cannot be read, or with every mistake in it.
pub fn load(
    file: &Path,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    arguments: &[Argument],
) -> Result<Config, LoadError> {
    Ok(load_with(file, environment, arguments, None)?.config)
}

/// The same, with the tag lists that were read, each once: those of devices and of profiles.
///
/// # Errors
/// When the file cannot be read, or with every mistake in it and in its tag lists.
pub fn load_with_lists(
    file: &Path,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    arguments: &[Argument],
) -> Result<(Config, Vec<PathBuf>), LoadError> {
    let noted = Noted::new(&list::read_file);
    let noting = |path: &Path| noted.read(path);
    let source = Source { read: &noting, instead: None, is_there: &Path::exists };
    let loaded = load_from(file, environment, arguments, &source)?;
    Ok((loaded.config, noted.paths()))
}

/// The same, with one tag list from elsewhere, and with where the tags come from.
///
/// # Errors
/// When the file cannot be read, or with every mistake in it and in its tag lists.
pub fn load_with(
    file: &Path,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    arguments: &[Argument],
    instead: Option<Instead<'_>>,
) -> Result<Loaded, LoadError> {
    let source = Source { read: &list::read_file, instead, is_there: &Path::exists };
    load_from(file, environment, arguments, &source)
}

fn load_from(
    file: &Path,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    arguments: &[Argument],
    lists: &Source<'_>,
) -> Result<Loaded, LoadError> {
    let unreadable = |source| LoadError::Unreadable { file: file.to_owned(), source };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE_BYTES) {
        return Err(LoadError::TooLarge { file: file.to_owned() });
    }
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(file, &error))?;
    // The daemon and its children may change their directory; what the file means stays.
    let absolute = std::path::absolute(file).map_err(unreadable)?;
    let directory = absolute.parent().unwrap_or(Path::new("/"));
    Ok(parse_in(directory, file, &text, environment, arguments, lists)?)
}

fn not_utf8(file: &Path, error: &std::string::FromUtf8Error) -> Mistakes {
    let at = error.utf8_error().valid_up_to();
    // Replacement characters come after the place, so that it stays where it is.
    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
    let mistake = Mistake::new("", Place::File { start: at, end: at + 1 }, "the file is not UTF-8")
        .legal("UTF-8 text; save it as such in the editor");
    Mistakes::new(file.to_owned(), text, vec![mistake])
}
