//! `tidegate appliance`: what a gateway does that nobody logs in to: it takes its configuration from a
//! medium, says whether a boot went well, and becomes as new.
//!
//! # Invariants
//! - Nothing is asked of a person: whoever calls is a service.
//! - The last line on standard output is for that service: `changed`, `reset requested` or
//!   `nothing to do`.

mod healthy;
mod provision;
mod reset;

use std::io;
use std::path::PathBuf;

use super::identity::Surroundings;
use crate::config;

pub use healthy::HealthyArgs;
pub use provision::ProvisionArgs;
pub use reset::ResetArgs;

/// Provision a gateway without a login, judge its boots, reset it
#[derive(Debug, Clone, clap::Args)]
pub struct ApplianceArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ApplianceCommand,
}

/// What can be done.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ApplianceCommand {
    /// Take configuration and token from a stick, a partition or system credentials
    Provision(ProvisionArgs),
    /// Wait until this boot is healthy, which decides whether an update is kept
    Healthy(HealthyArgs),
    /// Make the gateway as new at the next boot: its keys, configuration and record are destroyed
    Reset(ResetArgs),
}

/// Where the configuration is.
#[derive(Debug, Clone, clap::Args)]
pub struct PlaceArgs {
    /// The configuration file; what these commands remember lies in appliance/ beside it
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    pub config: PathBuf,
}

/// Runs it and returns the exit code; each command says which there are.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub fn run(args: &ApplianceArgs, mut with: Surroundings<'_>) -> io::Result<u8> {
    let with = &mut with;
    match &args.command {
        ApplianceCommand::Provision(args) => provision::provision(args, with),
        ApplianceCommand::Healthy(args) => healthy::healthy(args, with),
        ApplianceCommand::Reset(args) => reset::reset(args, with),
    }
}

#[cfg(test)]
mod tests;
