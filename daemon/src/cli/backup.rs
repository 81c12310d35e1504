//! `tidegate backup` and `tidegate restore`: a gateway's identity and configuration in one file.
//!
//! # Invariants
//! - A backup holds keys: it is sealed under a passphrase, or a person asked for it to be open; in
//!   any case its file is made anew and for its owner alone.
//! - The record is not in it. Two devices that run under one name fork the record, and the person
//!   who restores is told so before anything is written.
//! - A restore checks everything before it writes, and replaces nothing that it was not allowed to.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::ask;
use super::check::SetArgs;
use super::exit::{CONFIG, DISK, NO, OK, PERMISSION, USAGE};
use super::identity::Surroundings;
use super::terminal::{count, tame};
use crate::causes::chain;
use crate::config::{self, Config, LoadError};
use crate::observe::control::Client;
use crate::upkeep::archive::Content;
use crate::upkeep::backup::{Backup, BackupError, Manifest, pack};
use crate::upkeep::{belongings, places, seal};

/// The largest file that is read as a backup.
const LARGEST: u64 = 512 << 20;

/// Put identity, trust and configuration of this gateway into one file
#[derive(Debug, Clone, clap::Args)]
pub struct BackupArgs {
    /// The file to make; it must not exist
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    pub config: PathBuf,
    /// Settings that go before the file.
    #[command(flatten)]
    pub set: SetArgs,
    /// How it is closed.
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
    /// Write it open: whoever reads the file has the gateway's keys
    #[arg(long, conflicts_with = "passphrase_file")]
    pub unencrypted: bool,
}

/// Put identity, trust and configuration from a backup into their places
#[derive(Debug, Clone, clap::Args)]
pub struct RestoreArgs {
    /// The backup
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// How it is opened.
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
    /// Replace files that are there
    #[arg(long)]
    pub overwrite: bool,
    /// Show what would be written, and write nothing
    #[arg(long)]
    pub list: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Where the passphrase comes from.
#[derive(Debug, Clone, clap::Args)]
pub struct PassphraseArgs {
    /// The file whose first line is the passphrase, - for standard input; the terminal is asked
    /// without it
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// Why a command ended early: the exit code, and what to tell.
struct Stop(u8, String);

impl From<BackupError> for Stop {
    fn from(error: BackupError) -> Self {
        let code = match &error {
            BackupError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                PERMISSION
            }
            BackupError::Io { .. } => DISK,
            _ => NO,
        };
        Self(code, chain(&error))
    }
}

impl From<LoadError> for Stop {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Mistakes(mistakes) => Self(CONFIG, mistakes.to_string()),
            error => Self(CONFIG, chain(&error)),
        }
    }
}

impl Stop {
    fn disk(what: &str, path: &Path, error: &io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::PermissionDenied { PERMISSION } else { DISK };
        Self(code, format!("{} cannot be {what}: {error}", path.display()))
    }

    fn told(&self, with: &mut Surroundings<'_>) -> io::Result<u8> {
        let text: Vec<_> = self.1.trim_end().lines().map(tame).collect();
        writeln!(with.err, "error: {}", text.join("\n"))?;
        Ok(self.0)
    }
}

/// Makes a backup. Exit code 0 made, 2 no passphrase, 64 mistakes in the configuration, 73 or 77 a
/// file that cannot be read or written.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub fn backup(args: &BackupArgs, mut with: Surroundings<'_>) -> io::Result<u8> {
    match make(args, &mut with)? {
        Ok(()) => Ok(OK),
        Err(stop) => stop.told(&mut with),
    }
}

fn make(args: &BackupArgs, with: &mut Surroundings<'_>) -> io::Result<Result<(), Stop>> {
    let environment = std::mem::take(&mut with.environment);
    let overridden =
        environment.iter().any(|(name, _)| is_setting(name)) || !args.set.set.is_empty();
    let packed = (|| {
        let (config, lists) = config::load_with_lists(&args.config, environment, &args.set.set)?;
        let file = std::path::absolute(&args.config)
            .map_err(|error| Stop::disk("found", &args.config, &error))?;
        if args.to.exists() {
            let text = format!("{} exists already; name a new file", args.to.display());
            return Err(Stop(DISK, text));
        }
        let passphrase = if args.unencrypted { None } else { Some(new_passphrase(args)?) };
        let manifest = Manifest::new(config.gateway.to_string(), time(with.now), &file)?;
        let all = belongings::of(&config, &file, &lists);
        let (archive, taken) = pack(&manifest, &all, seconds(with.now))?;
        let sealed = match &passphrase {
            None => None,
            Some(words) => {
                Some(seal::seal(&archive, words).map_err(|e| Stop(USAGE, e.to_string()))?)
            }
        };
        let content = sealed.as_deref().unwrap_or(&archive);
        places::write_new(&args.to, content)
            .map_err(|error| Stop::disk("written", &args.to, &error))?;
        Ok((taken, content.len()))
    })();
    let (taken, length) = match packed {
        Ok(packed) => packed,
        Err(stop) => return Ok(Err(stop)),
    };
    for path in &taken.missing {
        writeln!(with.err, "warning: {} is not there", tame(&path.display().to_string()))?;
    }
    if overridden {
        let text = "settings from the environment and from --set are not in the backup";
        writeln!(with.err, "warning: {text}")?;
    }
    let files = count(u64::try_from(taken.files.len()).unwrap_or(u64::MAX), "file");
    let open = if args.unencrypted { "; it is open: whoever reads it has the keys" } else { "" };
    let kilobytes = length.div_ceil(1000);
    let to = tame(&args.to.display().to_string());
    writeln!(with.out, "wrote {to}: {files}, {kilobytes} kB{open}")?;
    writeln!(with.out, "the record is not in it; it stays in [journal] dir and at the hub")?;
    Ok(Ok(()))
}

fn is_setting(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with("TIDEGATE_CFG_")
}

fn new_passphrase(args: &BackupArgs) -> Result<Zeroizing<String>, Stop> {
    if let Some(words) = from_file(&args.passphrase)? {
        return Ok(words);
    }
    let terminal = |error: io::Error| Stop(USAGE, format!("the terminal cannot be read: {error}"));
    let first = ask::secret("passphrase for the backup").map_err(terminal)?;
    let Some(first) = first else {
        let text = "nobody can be asked for a passphrase here; use --passphrase-file FILE";
        return Err(Stop(USAGE, text.to_owned()));
    };
    match ask::secret("once more").map_err(terminal)? {
        Some(second) if *second == *first => Ok(first),
        _ => Err(Stop(USAGE, "the two differ; nothing was written".to_owned())),
    }
}

fn from_file(args: &PassphraseArgs) -> Result<Option<Zeroizing<String>>, Stop> {
    let Some(file) = &args.passphrase_file else { return Ok(None) };
    match ask::secret_from(file) {
        Ok(words) => Ok(Some(words)),
        Err(error) => Err(Stop(USAGE, format!("no passphrase in {}: {error}", file.display()))),
    }
}

/// Restores a backup. Exit code 0 done, 1 no backup, a daemon that runs, files that are there, or a
/// person who declined, 2 no passphrase or nobody to ask, 73 or 77 a file that cannot be written.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub fn restore(args: &RestoreArgs, mut with: Surroundings<'_>) -> io::Result<u8> {
    let (backup, config) = match read(args) {
        Ok(read) => read,
        Err(stop) => return stop.told(&mut with),
    };
    let Manifest { gateway, made, version, .. } = &backup.manifest;
    writeln!(
        with.out,
        "backup of {} from {} (tidegate {})",
        tame(gateway),
        tame(made),
        tame(version)
    )?;
    let mut there = 0_u64;
    for (path, _) in &backup.entries {
        let is_there = path.symlink_metadata().is_ok();
        there += u64::from(is_there);
        let mark = if is_there { "  (is there)" } else { "" };
        writeln!(with.out, "  {}{mark}", tame(&path.display().to_string()))?;
    }
    if args.list {
        return Ok(OK);
    }
    if there > 0 && !args.overwrite {
        let text =
            format!("{} of these are there; replace them with --overwrite", count(there, "file"));
        return Stop(NO, text).told(&mut with);
    }
    if Client::connect(&config.control_socket).is_ok() {
        let text =
            "a tidegate runs with this configuration; stop it first: systemctl stop tidegate";
        return Stop(NO, text.to_owned()).told(&mut with);
    }
    writeln!(
        with.err,
        "warning: {} must not run anywhere else from now on: two devices of one name push each \
         other off the hub and fork the record. The record itself is not restored: this device \
         begins a new epoch",
        tame(gateway)
    )?;
    if !args.yes {
        match ask::agreed("restore it here?") {
            Ok(Some(true)) => {}
            Ok(Some(false)) => return Stop(NO, "nothing was written".to_owned()).told(&mut with),
            Ok(None) | Err(_) => {
                let text = "nobody can be asked here; say --yes when this is meant";
                return Stop(USAGE, text.to_owned()).told(&mut with);
            }
        }
    }
    if let Err(stop) = write(&backup) {
        return stop.told(&mut with);
    }
    let files = count(u64::try_from(backup.entries.len()).unwrap_or(u64::MAX), "file");
    writeln!(
        with.out,
        "restored {files}; check it: tidegate check {}",
        tame(&backup.manifest.config)
    )?;
    Ok(OK)
}

fn read(args: &RestoreArgs) -> Result<(Backup, Config), Stop> {
    let failed = |error: &io::Error| Stop::disk("read", &args.from, error);
    if std::fs::metadata(&args.from).map_err(|error| failed(&error))?.len() > LARGEST {
        let text = format!("{} is larger than any backup", args.from.display());
        return Err(Stop(NO, text));
    }
    let file = Zeroizing::new(std::fs::read(&args.from).map_err(|error| failed(&error))?);
    let archive = if seal::is_sealed(&file) {
        let words = match from_file(&args.passphrase)? {
            Some(words) => Some(words),
            None => ask::secret("passphrase of the backup").unwrap_or_default(),
        };
        let Some(words) = words else {
            let text = "the backup is sealed; use --passphrase-file FILE";
            return Err(Stop(USAGE, text.to_owned()));
        };
        let opened = seal::open(&file, &words);
        opened.map_err(|error| Stop(NO, format!("{}: {error}", args.from.display())))?
    } else {
        file
    };
    let backup = Backup::read(&archive)?;
    let config = config_of(&backup)?;
    Ok((backup, config))
}

/// The configuration in a backup, once everything in the backup belongs to it.
fn config_of(backup: &Backup) -> Result<Config, Stop> {
    let file = Path::new(&backup.manifest.config);
    let text = backup.config().and_then(|bytes| std::str::from_utf8(bytes).ok());
    let Some(text) = text else {
        return Err(Stop(NO, "the backup holds no configuration".to_owned()));
    };
    let read = |path: &Path| {
        let list = backup.file(path).map(<[u8]>::to_vec);
        list.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    let (config, lists) = config::parse_with_lists(file, text, &read)
        .map_err(|mistakes| Stop(CONFIG, mistakes.to_string()))?;
    backup.check(&belongings::of(&config, file, &lists))?;
    Ok(config)
}

fn write(backup: &Backup) -> Result<(), Stop> {
    // The configuration last: with it the gateway would start.
    let is_config = |path: &Path| path == Path::new(&backup.manifest.config);
    let (last, first): (Vec<_>, Vec<_>) =
        backup.entries.iter().partition(|(path, _)| is_config(path));
    for (path, content) in first.into_iter().chain(last) {
        let written = match content {
            Content::File(bytes) => places::place(path, bytes),
            Content::Link(target) => places::place_link(path, target),
        };
        written.map_err(|error| Stop::disk("written", path, &error))?;
    }
    Ok(())
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn time(now: SystemTime) -> String {
    format!("{:.0}", jiff::Timestamp::try_from(now).unwrap_or_default())
}

#[cfg(test)]
mod tests;
