//! `cargo xtask appliance`: the packages built, checked, and lived through in a booted container.
//!
//! # Invariants
//! - Whether a container can be booted is found out first. Where it cannot, the command fails and says
//!   so; `--without-booting` is how somebody says that they know.
//! - A size that is missed is told, and fails nothing here: what has a limit is judged where it is
//!   built, what a scenario promises is judged by the scenario.
//! - What is tried is what `cargo xtask cross` and `cargo xtask deb` leave, and nothing else.

mod preflight;
mod root;
pub(crate) mod scenarios;
mod smoke;

use anyhow::Context as _;

use crate::arch::Arch;
use crate::cross::{self, CrossArgs};
use crate::deb::{self, DebArgs};
use crate::figures::{self, Figure};
use crate::shell;
use crate::workspace::Workspace;

/// The architecture that containers are booted with.
const HERE: Arch = Arch::X86_64;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplianceArgs {
    /// Scenarios whose names contain this; all when left out
    only: Option<String>,
    /// Take the packages that are there instead of making them anew
    #[arg(long)]
    as_built: bool,
    /// Build and check the packages where no container can be booted
    #[arg(long)]
    without_booting: bool,
    /// Another architecture whose package is tried under emulation (repeatable)
    #[arg(long, value_name = "ARCH", default_value = "armv7")]
    smoke: Vec<Arch>,
    /// No other architecture
    #[arg(long)]
    no_smoke: bool,
}

/// Makes, boots, and shows what was found.
pub(crate) fn run(workspace: &Workspace, args: &ApplianceArgs) -> anyhow::Result<Vec<Figure>> {
    if !args.without_booting {
        preflight::provide()?;
    }
    let mut found = Vec::new();
    if !args.as_built {
        found.extend(packages(workspace, HERE)?);
    }
    if args.without_booting {
        shell::say("NOT RUN: every scenario in a booted container, by --without-booting");
    } else {
        found.extend(boot(workspace, args.only.as_deref().unwrap_or_default())?);
    }
    if !args.no_smoke {
        for arch in &args.smoke {
            if !args.as_built {
                found.extend(packages(workspace, *arch)?);
            }
            smoke::run(workspace, *arch, &deb::gateway_package(&arch.folder(workspace), *arch)?)?;
        }
    }
    shell::say(&format!("what was found:\n{}", figures::table(&found)));
    Ok(found)
}

/// The gateway's program and package; those for people are made by `cargo xtask long release`.
pub(crate) fn packages(workspace: &Workspace, arch: Arch) -> anyhow::Result<Vec<Figure>> {
    let cross = CrossArgs { only: Some(cross::Variant::Gateway), ..CrossArgs::of(arch) };
    let deb = DebArgs::of(arch, Some(deb::Variant::Gateway));
    let mut found = cross::run(workspace, &cross)?;
    found.extend(deb::run(workspace, &deb)?);
    Ok(found)
}

/// The scenarios in booted containers.
fn boot(workspace: &Workspace, only: &str) -> anyhow::Result<Vec<Figure>> {
    let folder = HERE.folder(workspace);
    let lines = folder.join("container.jsonl");
    if lines.exists() {
        std::fs::remove_file(&lines).with_context(|| format!("remove {}", lines.display()))?;
    }
    deb::gateway_package(&folder, HERE)?;
    let stage = scenarios::Stage {
        artefacts: folder,
        more: vec![("TIDEGATE_DEBIAN_ROOT", root::provide(workspace)?)],
    };
    scenarios::run(workspace, &stage, "container", only, &lines)
}
