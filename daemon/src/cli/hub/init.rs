//! `tidegate hub init`: writes a hub's files.

use std::io;

use super::{FolderArgs, Surroundings};

/// Write a hub's files: one server, or three in a cluster.
#[derive(Debug, Clone, clap::Args)]
pub struct InitArgs {
    /// Where to.
    #[command(flatten)]
    pub folder: FolderArgs,
}

pub(super) fn run(args: &InitArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    writeln!(with.err, "error: nothing is written to {} yet", args.folder.dir.display())?;
    Ok(super::super::exit::NO)
}
