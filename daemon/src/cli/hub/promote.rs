//! `tidegate hub promote`: a mirror takes the place of the stream that it mirrored.

use std::io;

use super::super::exit::{self, CONFIG, Failure, NO, OK, PEER, USAGE};
use super::apply::{AdminArgs, as_admin};
use super::{FolderArgs, Surroundings};
use crate::causes::chain;
use crate::hub::{HubFolder, HubFolderError, PromoteError, promote};
use crate::names::Name;

/// Have a mirror take frames in place of the stream that it mirrored: its hub is gone for good
#[derive(Debug, Clone, clap::Args)]
pub struct PromoteArgs {
    /// The stream, from whose section in hub.toml the key mirrors was removed
    #[arg(value_name = "STREAM", value_parser = name)]
    pub stream: Name,
    /// The hub's folder.
    #[command(flatten)]
    pub folder: FolderArgs,
    /// How the admin logs in.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Also when the region is there still: its servers were cut off from all gateways
    #[arg(long)]
    pub although_region_lives: bool,
}

pub(super) fn run(args: &PromoteArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let folder = HubFolder::at(&args.folder.dir);
    let file = match folder.load() {
        Ok(read) => read.file,
        Err(HubFolderError::Mistakes(mistakes)) => {
            writeln!(with.err, "{mistakes}")?;
            return Ok(CONFIG);
        }
        Err(error) => return Failure::from(error).tell(with.err),
    };
    let plan = file.stream_plans().into_iter().find(|plan| plan.stream == args.stream);
    let Some(plan) = plan else {
        let message = format!("hub.toml has no stream {}", args.stream);
        return Failure::new(USAGE, message).tell(with.err);
    };
    let promoted = exit::block_on(async {
        let context = as_admin(&args.admin, &folder, &file).await?;
        promote(&context, &plan, args.although_region_lives).await.map_err(failure)
    });
    let promoted = match promoted {
        Ok(promoted) => promoted,
        Err(failure) => return failure.tell(with.err),
    };
    writeln!(
        with.out,
        "stream {} takes frames now: {} messages, the last is {}",
        plan.stream, promoted.messages, promoted.last_seq
    )?;
    if promoted.lag > 0 {
        writeln!(
            with.out,
            "the region had {} messages more; gateways send them again from their journals",
            promoted.lag
        )?;
    }
    writeln!(with.out, "next: lead the names of the region's servers to this hub's")?;
    Ok(OK)
}

fn name(text: &str) -> Result<Name, crate::names::NameError> {
    Name::new(text)
}

fn failure(error: PromoteError) -> Failure {
    let code = match error {
        PromoteError::Planned { .. } => CONFIG,
        PromoteError::NoMirror { .. } | PromoteError::RegionLives { .. } => NO,
        PromoteError::Look { .. } | PromoteError::Update { .. } => PEER,
    };
    Failure::new(code, chain(&error))
}
