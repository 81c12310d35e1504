//! A whole release: programs, packages and images for every architecture, the images lived through in
//! emulated machines, and a report of it that is committed.
//!
//! # Invariants
//! - The report names the inputs by their hash: one that speaks of others is not believed.
//! - Nothing is written before everything has passed.

mod inputs;
pub(crate) mod report;

use anyhow::Context as _;

use crate::arch::Arch;
use crate::cross::{self, CrossArgs};
use crate::deb::{self, DebArgs};
use crate::image::{self, ImageArgs};
use crate::machine::{self, MachineArgs};
use crate::shell;
use crate::workspace::Workspace;

/// Makes a release and writes its report; with `if_changed` only when something of it changed.
pub(crate) fn run(workspace: &Workspace, if_changed: bool) -> anyhow::Result<()> {
    let place = workspace.root.join(report::PLACE);
    let inputs = inputs::hash(&workspace.root)?;
    if if_changed {
        let written = std::fs::read_to_string(&place).unwrap_or_default();
        if report::inputs_of(&written) == Some(&inputs) {
            shell::say(&format!("nothing of a release has changed since {}", report::PLACE));
            return Ok(());
        }
        shell::say(&format!("a release would be another one than that of {}", report::PLACE));
    }
    let mut built = Vec::new();
    for arch in Arch::ALL {
        let cross = CrossArgs { check: true, ..CrossArgs::of(arch) };
        built.extend(cross::run(workspace, &cross)?);
        built.extend(deb::run(workspace, &DebArgs::of(arch, None))?);
    }
    for arch in [Arch::X86_64, Arch::Aarch64] {
        built.extend(image::make(workspace, &ImageArgs::of(arch))?);
    }
    let machine = MachineArgs { name: None, prepare: false };
    machine::run(workspace, &machine)?;
    let lines = machine::lines(workspace);
    let lines =
        std::fs::read_to_string(&lines).with_context(|| format!("read {}", lines.display()))?;
    let scenarios = report::scenarios(&lines)?;
    let date = shell::ask(std::process::Command::new("date").args(["-u", "+%Y-%m-%d"]));
    let text = report::write(&date.unwrap_or_default(), &inputs, &built, &scenarios);
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    std::fs::write(&place, text).with_context(|| format!("write {}", place.display()))
}
