//! Hidden commands of the rig: a lab hub's files and its stream.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::super::exit::{self, Failure};
use crate::hub::{StreamPlan, ensure_stream, write_lab};
use crate::hubread::Access;
use crate::names::GatewayId;

/// Write a lab hub's configuration and certificates.
#[derive(Debug, Clone, clap::Args)]
pub struct HubConfigArgs {
    /// Where to
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// A gateway that may deliver; can be repeated
    #[arg(long, value_name = "PLANT/NAME")]
    pub admit: Vec<GatewayId>,
    /// A further host name or address in the hub's certificate; can be repeated
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
}

/// Make the stream of a lab hub.
#[derive(Debug, Clone, clap::Args)]
pub struct HubStreamArgs {
    /// How the hub is reached, as its admin.
    #[command(flatten)]
    pub access: Access,
}

/// Runs `internal-hub-config`.
#[must_use]
pub fn hub_config(args: &HubConfigArgs) -> ExitCode {
    let lab = match write_lab(&args.dir, &args.admit, &args.host, 0, false) {
        Ok(lab) => lab,
        Err(error) => return Failure::new(exit::DISK, crate::causes::chain(&error)).told(),
    };
    let mut out = std::io::stdout().lock();
    let written = serde_json::to_writer(&mut out, &lab).map_err(Into::into);
    match written.and_then(|()| writeln!(out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(exit::DISK),
    }
}

/// Runs `internal-hub-stream`.
#[must_use]
pub fn hub_stream(args: &HubStreamArgs) -> ExitCode {
    match exit::block_on(make_stream(&args.access)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.told(),
    }
}

async fn make_stream(access: &Access) -> Result<(), Failure> {
    let client = access.connect().await?;
    let plan = StreamPlan::of_every_gateway(access.stream.clone(), 1);
    ensure_stream(&async_nats::jetstream::new(client), &plan)
        .await
        .map(drop)
        .map_err(|error| Failure::new(exit::PEER, crate::causes::chain(&error)))
}
