//! `tidegate demo`: the whole way from a PLC to the proof, with an outage and a SIGKILL in it.
//!
//! # Invariants
//! - Nothing here is a mock: a real nats-server as hub, mutual TLS, the gateway as a process of its
//!   own. Only the PLC is simulated.
//! - Everything is on loopback and below one temporary directory; every process ends with the demo,
//!   however the demo ends.
//! - The verdict is `prove`'s, from the hub's copy.

mod cast;
mod narrator;
mod script;
mod wan;

use std::path::PathBuf;
use std::process::ExitCode;

/// Show the whole way: live values, an outage, a SIGKILL, the drain, the proof.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// How long to play, without start and proof; 12 at least
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(12..=3600))]
    pub seconds: u32,
    /// Print the proof as one JSON object; the story goes to standard error
    #[arg(long)]
    pub json: bool,
    /// The nats-server to run; else the one beside this program or on PATH
    #[arg(long, value_name = "FILE", env = "TIDEGATE_NATS_SERVER")]
    pub nats_server: Option<PathBuf>,
    /// Keep the hub, the journal and all files here instead of in a temporary directory
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// Runs it: 0 when the proof balanced, 1 when it did not, 69 when something could not be started.
#[must_use]
pub fn run(args: &DemoArgs) -> ExitCode {
    script::run(args)
}
