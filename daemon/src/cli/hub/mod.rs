//! `tidegate hub`: what a hub of plain nats-servers is made of, and who may use it.
//!
//! # Invariants
//! - The folder's `hub.toml` is the only truth; everything else in it is printed from there, or
//!   secret.
//! - Nothing is printed that opens a door, but the enrolment token that was asked for.

mod init;

use std::io::{self, Write};
use std::path::PathBuf;

/// Set up a hub, say who may deliver to it, and see who does
#[derive(Debug, Clone, clap::Args)]
pub struct HubArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: HubCommand,
}

/// What can be done.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum HubCommand {
    /// Write a hub's files: one server, or three in a cluster
    Init(init::InitArgs),
}

/// Where a hub's files are.
#[derive(Debug, Clone, clap::Args)]
pub struct FolderArgs {
    /// The hub's folder
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

/// What the commands need from outside.
pub struct Surroundings<'a> {
    /// What time it is.
    pub now: std::time::SystemTime,
    /// Whether results are coloured.
    pub colour: bool,
    /// Where results go.
    pub out: &'a mut dyn Write,
    /// Where mistakes go.
    pub err: &'a mut dyn Write,
}

/// Runs it and returns the exit code: 0 done, 1 the answer is no, 2 usage, 64 mistakes in
/// `hub.toml`, 69 a server that cannot be reached or refuses, 73 a folder that cannot be used.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub fn run(args: &HubArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    match &args.command {
        HubCommand::Init(args) => init::run(args, with),
    }
}
