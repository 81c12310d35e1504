//! `tidegate hub`: what a hub of plain nats-servers is made of, and who may use it.
//!
//! # Invariants
//! - The folder's `hub.toml` is the only truth; everything else in it is printed from there, or
//!   secret.
//! - Nothing is printed that opens a door, but the enrolment token that was asked for.

mod admit;
mod apply;
mod audit;
mod ca;
mod init;
pub mod lab;
mod list;
mod papers;
mod promote;
mod reach;
mod replace;
mod revoke;
mod rotate;
mod token;

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::{terminal, written};

// The commands for hubs: that of people, and the hidden ones of the rig. What is said of each stands
// at its arguments; what stood here would be printed as what the whole program is.
#[derive(Debug, clap::Subcommand)]
pub(super) enum HubCommands {
    Hub(HubArgs),
    #[command(hide = true)]
    InternalHubConfig(lab::HubConfigArgs),
    #[command(hide = true)]
    InternalHubStream(lab::HubStreamArgs),
}

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
    Init(Box<init::InitArgs>),
    /// Print the servers' files anew from hub.toml, and bring the streams to what it says
    Apply(apply::ApplyArgs),
    /// Have a mirror take frames in place of the stream that it mirrored: its hub is gone for good
    Promote(promote::PromoteArgs),
    /// Let a gateway deliver: its name, where its live values may stand, and its budget
    Admit(admit::AdmitArgs),
    /// Shut a gateway out: take it from every server, cut its connections, see that it is gone
    Revoke(revoke::RevokeArgs),
    /// Let a new device take the place of a dead one: same name and rights, new certificate and journal
    Replace(replace::ReplaceArgs),
    /// List who is admitted: connected since when and from where, certificate, backlog, watermark
    List(list::ListArgs),
    /// Find what is not as hub.toml says, and see who came and went
    Audit(audit::AuditArgs),
    /// Give the hub's servers new certificates, and see that every port shows them
    Rotate(rotate::RotateArgs),
    /// The hub's own authority, for labs and pilots
    Ca(ca::CaArgs),
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

/// Runs one of them, and lets it say what it does on the standard streams.
pub(super) fn main(command: &HubCommands) -> ExitCode {
    match command {
        HubCommands::Hub(args) => {
            let mut surroundings = Surroundings {
                now: std::time::SystemTime::now(),
                colour: terminal::colour(io::stdout().is_terminal()),
                out: &mut io::stdout(),
                err: &mut io::stderr(),
            };
            written(run(args, &mut surroundings))
        }
        HubCommands::InternalHubConfig(args) => lab::hub_config(args),
        HubCommands::InternalHubStream(args) => lab::hub_stream(args),
    }
}

/// Runs it and returns the exit code: 0 done, 1 the answer is no, 2 usage, 64 mistakes in
/// `hub.toml`, 69 a server that cannot be reached or refuses, 73 a folder that cannot be used.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub fn run(args: &HubArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    match &args.command {
        HubCommand::Init(args) => init::run(args, with),
        HubCommand::Apply(args) => apply::run(args, with),
        HubCommand::Promote(args) => promote::run(args, with),
        HubCommand::Admit(args) => admit::run(args, with),
        HubCommand::Revoke(args) => revoke::run(args, with),
        HubCommand::Replace(args) => replace::run(args, with),
        HubCommand::List(args) => list::run(args, with),
        HubCommand::Audit(args) => audit::run(args, with),
        HubCommand::Rotate(args) => rotate::run(args, with),
        HubCommand::Ca(args) => ca::run(args, with),
    }
}
