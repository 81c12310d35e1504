//! `tidegate tags import`: a tag list from elsewhere becomes the list of a device.
//!
//! # Invariants
//! - A list is checked within the whole configuration before anything is written.
//! - The file of the list is replaced as one: whoever reads it sees the old list or the new one.
//!   The old one is kept beside it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::super::check::SetArgs;
use super::super::exit::{CONFIG, DISK, OK, USAGE};
use crate::causes::chain;
use crate::config::estimate::estimate;
use crate::config::list::{self, List};
use crate::config::polls::{self, Plan};
use crate::config::{
    self, Config, Device, Instead, LoadError, Loaded, MAX_LIST_BYTES, Origin, size,
};
use tidegate_modbus::DeviceSpec;

/// Check a CSV tag list and make it the list of a device
#[derive(Debug, Clone, clap::Args)]
pub struct ImportArgs {
    /// The list: CSV with comma, semicolon or tab, in UTF-8 or UTF-16
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    pub config: PathBuf,
    /// Whose tags they are.
    #[arg(long, value_name = "NAME")]
    pub device: String,
    /// Check and show what would be polled; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Settings that go before the file.
    #[command(flatten)]
    pub set: SetArgs,
}

/// Runs it and returns the exit code: 0 written or legal, 2 no such device, 64 mistakes, 73 a file
/// cannot be read or written.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub fn run(
    args: &ImportArgs,
    environment: Vec<(OsString, OsString)>,
    plan: &dyn Fn(&DeviceSpec) -> Plan,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let shown = args.file.display();
    let bytes = match list::read_file(&args.file) {
        Ok(bytes) if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_LIST_BYTES) => {
            let most = size::format(MAX_LIST_BYTES);
            writeln!(err, "error: {shown} is larger than {most}; is it the right file?")?;
            return Ok(DISK);
        }
        Ok(bytes) => bytes,
        Err(error) => {
            writeln!(err, "error: {shown} cannot be read: {error}")?;
            return Ok(DISK);
        }
    };
    let instead = Instead { device: &args.device, file: &args.file, bytes: &bytes };
    let loaded = config::load_with(&args.config, environment, &args.set.set, Some(instead));
    let Loaded { config, origins } = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return refused(&error, err),
    };
    let Some(origin) = origins.iter().find(|origin| origin.device == args.device) else {
        return no_device(&args.device, &args.config, &origins, err);
    };
    let (list, _) = List::new(&args.file, String::new(), bytes);
    let Some(list) = list else {
        // It was understood a moment ago.
        writeln!(err, "error: {shown} cannot be understood")?;
        return Ok(CONFIG);
    };
    summary(out, &config, &args.device, &list, &shown.to_string(), plan)?;
    for warning in config::warnings::of(&config.only(&args.device)) {
        writeln!(err, "warning: {warning}")?;
    }
    if args.dry_run {
        writeln!(out, "\nnothing was written")?;
        return Ok(OK);
    }
    let folder = args.config.parent().unwrap_or(Path::new(""));
    let beside = format!("{}.csv", args.device);
    let file = origin.list.clone().unwrap_or_else(|| folder.join(&beside));
    match replace(&file, &list.canonical()) {
        Ok(kept) => {
            writeln!(out, "\nwrote {}", file.display())?;
            if let Some(kept) = kept {
                writeln!(out, "the list before is {}", kept.display())?;
            }
            if origin.list.is_none() {
                writeln!(
                    out,
                    "add this line to [[device]] {:?} in {}:",
                    args.device,
                    args.config.display()
                )?;
                writeln!(out, "  tag-list = {beside:?}")?;
            }
            writeln!(out, "next: systemctl reload tidegate")?;
            Ok(OK)
        }
        Err(error) => {
            writeln!(err, "error: {} cannot be written: {error}", file.display())?;
            Ok(DISK)
        }
    }
}

/// Tells why there is no configuration.
pub(super) fn refused(error: &LoadError, err: &mut dyn Write) -> io::Result<u8> {
    match error {
        LoadError::Mistakes(mistakes) => writeln!(err, "{mistakes}")?,
        _ => writeln!(err, "error: {}", chain(error))?,
    }
    Ok(CONFIG)
}

/// Tells which devices there are.
pub(super) fn no_device(
    name: &str,
    file: &Path,
    origins: &[Origin],
    err: &mut dyn Write,
) -> io::Result<u8> {
    let names: Vec<&str> = origins.iter().map(|origin| origin.device.as_str()).collect();
    let legal = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    writeln!(err, "error: there is no device {name:?} in {}; devices: {legal}", file.display())?;
    Ok(USAGE)
}

fn summary(
    out: &mut dyn Write,
    config: &Config,
    device: &str,
    list: &List,
    shown: &str,
    plan: &dyn Fn(&DeviceSpec) -> Plan,
) -> io::Result<()> {
    let only = config.only(device);
    if let Some(spec) = only.devices.iter().find_map(Device::opcua) {
        return summary_of_nodes(out, spec, list, shown);
    }
    let groups = polls::groups(&only, plan);
    let cost = estimate(&only, &groups);
    let rows = list.rows();
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    let mut tags = 0;
    for spec in only.devices.iter().filter_map(Device::modbus).flat_map(|spec| spec.tags.iter()) {
        *types.entry(spec.kind.word()).or_default() += 1;
        tags += 1;
    }
    let types: Vec<String> = types.iter().map(|(word, count)| format!("{count} {word}")).collect();
    writeln!(out, "{shown} is legal for device {device:?}")?;
    writeln!(out)?;
    writeln!(out, "  rows      {rows}")?;
    writeln!(out, "  tags      {tags}, all of this device: {}", types.join(", "))?;
    for group in groups.iter().flatten() {
        let tags = if group.tags == 1 { "tag" } else { "tags" };
        let requests = if group.plan.len() == 1 { "request" } else { "requests" };
        writeln!(
            out,
            "  every     {} ms: {} {tags} in {} {requests} per poll",
            group.every.as_millis(),
            group.tags,
            group.plan.len()
        )?;
        writeln!(out, "            {}", super::super::check::blocks(&group.plan))?;
    }
    let day = super::super::check::bytes(cost.journal_bytes_per_day);
    writeln!(out, "  journal   about {day} a day, all tags of this device")
}

/// The same for nodes, of which only the server knows the types and how often they change.
fn summary_of_nodes(
    out: &mut dyn Write,
    spec: &tidegate_opcua::DeviceSpec,
    list: &List,
    shown: &str,
) -> io::Result<()> {
    writeln!(out, "{shown} is legal for device {:?}", spec.name)?;
    writeln!(out)?;
    writeln!(out, "  rows      {}", list.rows())?;
    let subtrees = match spec.subtrees.len() {
        0 => String::new(),
        1 => " and 1 subtree".to_owned(),
        n => format!(" and {n} subtrees"),
    };
    writeln!(out, "  tags      {}{subtrees}, all of this device", spec.tags.len())?;
    for part in polls::publications(spec) {
        writeln!(out, "  every     {}", super::super::check::opcua::publication_line(&part))?;
    }
    Ok(())
}

/// Puts a file in the place of another, which is kept with `.bak` behind its name; returns where.
///
/// The new content is on the disk before the name leads to it, and the old one before that.
pub(super) fn replace(file: &Path, content: &[u8]) -> io::Result<Option<PathBuf>> {
    // Behind a link the file is replaced, not the link.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let with = |ending: &str| {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(ending);
        folder.join(name)
    };
    let old = match fs::read(&file) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let rights = fs::metadata(&file).ok().map(|metadata| metadata.permissions());
    let mut kept = None;
    if let Some(old) = old {
        let bak = with(".bak");
        put(&with(".bak.new"), &bak, &old, rights.clone())?;
        kept = Some(bak);
    }
    put(&with(".new"), &file, content, rights)?;
    File::open(folder)?.sync_all()?;
    Ok(kept)
}

/// Writes a file under one name, and gives it the other.
fn put(new: &Path, file: &Path, content: &[u8], rights: Option<fs::Permissions>) -> io::Result<()> {
    let written = (|| {
        let mut opened = File::create(new)?;
        opened.write_all(content)?;
        if let Some(rights) = rights {
            opened.set_permissions(rights)?;
        }
        opened.sync_all()?;
        fs::rename(new, file)
    })();
    if written.is_err() {
        // What is left of it would only be in the way; the error says more than a second one.
        let _ = fs::remove_file(new);
    }
    written
}

#[cfg(test)]
mod tests;
