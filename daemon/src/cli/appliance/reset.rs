//! `tidegate appliance reset`.

use std::io;
use std::path::{Path, PathBuf};

use tidegate_identity::IdentityFolder;

use super::super::exit::{DISK, NO, OK, PERMISSION, USAGE};
use super::super::identity::Surroundings;
use super::super::terminal::{count, tame};
use super::PlaceArgs;
use crate::appliance::erase::{self, Erased};
use crate::appliance::record::{FOLDER, Record};
use crate::config::{self, Config};
use crate::observe::control::Client;

/// Make the gateway as new at the next boot: its keys, configuration and record are destroyed
///
/// With --yes it only asks for it; the next boot does it before the daemon starts. What was recorded
/// and not yet delivered is lost.
#[derive(Debug, Clone, clap::Args)]
#[command(group = clap::ArgGroup::new("act").required(true).args(["yes", "requested", "cancel"]))]
pub struct ResetArgs {
    /// Ask for it
    #[arg(long)]
    pub yes: bool,
    /// Do it at once; the daemon must not run
    #[arg(long, requires = "yes")]
    pub now: bool,
    /// Do it if it was asked for: what the service of the boot calls
    #[arg(long)]
    pub requested: bool,
    /// Take the request back
    #[arg(long)]
    pub cancel: bool,
    /// The folder of journal and identity
    #[arg(long, value_name = "DIR", default_value = "/var/lib/tidegate")]
    pub data: PathBuf,
    /// Where the configuration is.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Exit code 0 asked for, done, or not asked for; 1 the daemon runs, 2 a folder that cannot be meant,
/// 73 or 77 something stays.
pub(super) fn reset(args: &ResetArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let file = std::path::absolute(&args.place.config)?;
    let record = Record::beside(&file);
    let done = if args.cancel {
        record.withdraw_reset().map(|()| "no reset is asked for")
    } else if args.yes && !args.now {
        record
            .request_reset()
            .map(|()| "reset requested: the next boot destroys keys, configuration and record")
    } else if args.requested && !record.reset_is_requested() {
        Ok("no reset is asked for")
    } else {
        return perform(args, &file, &record, with);
    };
    match done {
        Ok(line) => {
            writeln!(with.out, "{line}")?;
            Ok(OK)
        }
        Err(error) => {
            writeln!(with.err, "error: {} cannot be written: {error}", record.dir().display())?;
            Ok(code_of(&error))
        }
    }
}

fn perform(
    args: &ResetArgs,
    file: &Path,
    record: &Record,
    with: &mut Surroundings<'_>,
) -> io::Result<u8> {
    let config = config::load(file, with.environment.clone(), &[]).ok();
    let home = file.parent().unwrap_or(Path::new("/"));
    if let Some(why) = unfit(home).or_else(|| unfit(&args.data)) {
        writeln!(with.err, "error: {why}")?;
        return Ok(USAGE);
    }
    let runs =
        config.as_ref().is_some_and(|config| Client::connect(&config.control_socket).is_ok());
    if runs {
        writeln!(
            with.err,
            "error: the daemon runs and uses what would be destroyed; stop it first: systemctl stop \
             tidegate"
        )?;
        return Ok(NO);
    }
    // Interrupted, it is asked for again by the next boot.
    if let Err(error) = record.request_reset() {
        writeln!(with.err, "error: {} cannot be written: {error}", record.dir().display())?;
        return Ok(code_of(&error));
    }
    let elsewhere = config.as_ref().map(|config| wipe_elsewhere(config, args, home));
    let mut erased = Erased::default();
    erase::empty(&args.data, None, &mut erased);
    erase::empty(home, Some(FOLDER), &mut erased);
    let mut code = OK;
    for (path, error) in &erased.left {
        let path = tame(&path.display().to_string());
        writeln!(with.err, "error: {path} stays: {error}")?;
        code = code.max(code_of(error));
    }
    for path in elsewhere.unwrap_or_default() {
        writeln!(with.out, "left: {}: remove it by hand", tame(&path.display().to_string()))?;
    }
    if code == OK
        && let Err(error) = record.forget_all()
    {
        writeln!(with.err, "error: {} stays: {error}", record.dir().display())?;
        code = code_of(&error);
    }
    let files = count(erased.files, "file");
    if code == OK {
        writeln!(
            with.out,
            "as new: {files} removed; keys were overwritten, which flash may not honour"
        )?;
        writeln!(with.out, "now tell the hub: tidegate hub revoke, and revoke the certificate")?;
    }
    Ok(code)
}

/// Destroys the keys that the configuration has elsewhere. What else is there is not ours alone, and
/// only named.
fn wipe_elsewhere(config: &Config, args: &ResetArgs, home: &Path) -> Vec<PathBuf> {
    let inside = |path: &Path| path.starts_with(&args.data) || path.starts_with(home);
    let own = config.opcua.dir.join("own");
    let keys = config.identity.iter().map(|identity| identity.dir.clone()).chain([own]);
    for dir in keys.filter(|dir| !inside(dir)) {
        let _ = IdentityFolder::at(dir).wipe();
    }
    let others = [&config.journal.dir, &config.leaf.dir, &config.opcua.dir];
    others.into_iter().filter(|path| !inside(path) && path.exists()).cloned().collect()
}

/// Why a folder cannot be the one to empty.
fn unfit(folder: &Path) -> Option<String> {
    let parts = folder.components().count();
    // "/" and what lies directly in it: nobody keeps a gateway there, and a slip would be dear.
    (!folder.is_absolute() || parts < 3)
        .then(|| format!("{} is not emptied; name a folder of Tidegate's own", folder.display()))
}

fn code_of(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::PermissionDenied { PERMISSION } else { DISK }
}
