//! The packages, lived through in a booted container.

use anyhow::bail;

use crate::workspace::Workspace;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplianceArgs {}

pub(crate) fn run(_workspace: &Workspace, _args: &ApplianceArgs) -> anyhow::Result<()> {
    bail!("cannot be done yet")
}
