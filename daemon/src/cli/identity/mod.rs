//! `tidegate identity`: the certificates that the gateway shows to its hub and to OPC UA servers, and
//! whom it trusts.
//!
//! # Invariants
//! - Files are the only truth: the daemon reads them, so nothing is told to it and nothing needs a
//!   restart.
//! - No key and no token is ever printed, exported, or taken from an argument.

mod gateway;
mod own;
mod trust;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use gateway::{EnrolArgs, InitArgs, RehearseArgs, RenewArgs, ShowArgs, WipeArgs};
pub(crate) use gateway::{facts_json, gateway_json};

use super::check::SetArgs;
use super::exit::{CONFIG, DISK, PERMISSION};
use super::terminal::{self, tame};
use crate::causes::chain;
use crate::config::{self, Config, LoadError};

/// Manage the gateway's certificates and whom it trusts
#[derive(Debug, Clone, clap::Args)]
pub struct IdentityArgs {
    /// Of which kind.
    #[command(subcommand)]
    pub command: IdentityCommand,
}

/// What can be managed.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum IdentityCommand {
    /// Make a key and a request for a certificate, and say whom to trust
    Init(InitArgs),
    /// Get the gateway's certificate: from the authority by a token, or from a file
    Enrol(EnrolArgs),
    /// Show the certificate that the hub sees, when it is renewed, and what is wrong with it
    Show(ShowArgs),
    /// Get a new certificate for a new key by the present one, now
    Renew(RenewArgs),
    /// Renew against the authority and throw the result away: does it work, and until when?
    Rehearse(RehearseArgs),
    /// Destroy the gateway's keys and certificates, for ever
    Wipe(WipeArgs),
    /// Say which OPC UA servers are trusted
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// Show, export or renew the gateway's own OPC UA certificate
    #[command(subcommand)]
    Opcua(own::OwnCommand),
}

/// Where the certificates are.
#[derive(Debug, Clone, clap::Args)]
pub struct FolderArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    pub config: PathBuf,
    /// The folder of OPC UA certificates, instead of the configured one
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Settings that go before the file.
    #[command(flatten)]
    pub set: SetArgs,
}

/// What the commands need from outside.
pub struct Surroundings<'a> {
    /// The process's environment.
    pub environment: Vec<(OsString, OsString)>,
    /// What time it is.
    pub now: SystemTime,
    /// The host name, as far as there is one.
    pub host: Option<String>,
    /// Whether results are coloured.
    pub colour: bool,
    /// Where results go.
    pub out: &'a mut dyn Write,
    /// Where mistakes go.
    pub err: &'a mut dyn Write,
}

/// Runs it and returns the exit code: 0 done, 1 there is no such certificate, 2 a file or a
/// thumbprint that cannot be meant, 64 mistakes, 73 a folder that cannot be used, 77 one that may
/// not be.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub fn run(args: &IdentityArgs, mut with: Surroundings<'_>) -> io::Result<u8> {
    let with = &mut with;
    match &args.command {
        IdentityCommand::Init(args) => gateway::init(args, with),
        IdentityCommand::Enrol(args) => gateway::enrol(args, with),
        IdentityCommand::Show(args) => gateway::show(args, with),
        IdentityCommand::Renew(args) => gateway::renew(args, with),
        IdentityCommand::Rehearse(args) => gateway::rehearse(args, with),
        IdentityCommand::Wipe(args) => gateway::wipe(args, with),
        IdentityCommand::Trust(command) => trust::run(command, with),
        IdentityCommand::Opcua(command) => own::run(command, with),
    }
}

impl FolderArgs {
    fn load(&self, with: &mut Surroundings<'_>) -> io::Result<Result<Config, u8>> {
        load(&self.config, &self.set.set, with)
    }

    /// The folder; with `--dir` without a look at the configuration.
    fn folder(&self, with: &mut Surroundings<'_>) -> io::Result<Result<PathBuf, u8>> {
        if let Some(dir) = &self.dir {
            return Ok(Ok(dir.clone()));
        }
        Ok(self.load(with)?.map(|config| config.opcua.dir))
    }
}

/// Reads the configuration, or tells what is wrong with it.
fn load(
    file: &Path,
    settings: &[config::Argument],
    with: &mut Surroundings<'_>,
) -> io::Result<Result<Config, u8>> {
    let environment = std::mem::take(&mut with.environment);
    match config::load(file, environment, settings) {
        Ok(config) => Ok(Ok(config)),
        Err(LoadError::Mistakes(mistakes)) => {
            writeln!(with.err, "{mistakes}")?;
            Ok(Err(CONFIG))
        }
        Err(error) => {
            writeln!(with.err, "error: {}", chain(&error))?;
            Ok(Err(CONFIG))
        }
    }
}

/// Tells what failed, and returns `code`, or another one where the user may not do it.
fn fail(
    with: &mut Surroundings<'_>,
    code: u8,
    error: &(dyn std::error::Error + 'static),
) -> io::Result<u8> {
    writeln!(with.err, "error: {}", tame(&chain(error)))?;
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let denied = error.kind() == io::ErrorKind::PermissionDenied;
            return Ok(if denied { PERMISSION } else { DISK });
        }
        cause = error.source();
    }
    Ok(code)
}

/// A time of day in UTC, to the second.
fn time(at: SystemTime) -> String {
    // Certificates hold whole seconds, and years up to 9999, as jiff does.
    let time = jiff::Timestamp::try_from(at).unwrap_or_default();
    format!("{time:.0}")
}

/// The day, for tables.
fn day(at: SystemTime) -> String {
    time(at).chars().take_while(|c| *c != 'T').collect()
}

fn shown(path: &Path) -> String {
    terminal::tame(&path.display().to_string())
}

#[cfg(test)]
mod tests;
