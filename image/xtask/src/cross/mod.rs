//! Programs for each architecture, with the tools of this machine.

use anyhow::bail;

use crate::arch::Arch;
use crate::workspace::Workspace;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct CrossArgs {
    /// For which gateways
    arch: Arch,
}

pub(crate) fn run(workspace: &Workspace, args: &CrossArgs) -> anyhow::Result<()> {
    bail!("cannot be made yet: {}", args.arch.folder(workspace).display())
}
