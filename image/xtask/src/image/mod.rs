//! Flashable images and signed updates.

use anyhow::bail;

use crate::arch::Arch;
use crate::workspace::Workspace;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct ImageArgs {
    /// For which gateways
    arch: Arch,
}

pub(crate) fn run(workspace: &Workspace, args: &ImageArgs) -> anyhow::Result<()> {
    bail!("cannot be made yet: {}", args.arch.folder(workspace).display())
}
