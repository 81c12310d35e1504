//! The parts of a release: what each is made of, and what making and trying it means.
//!
//! # Invariants
//! - A part stands by itself: what it needs of another one it makes, so that one alone can be made
//!   again.
//! - A part's inputs are recipes, locked dependencies and scenarios. Most of the daemon's own code and
//!   what packs it are not among them: `cargo xtask test` and `cargo xtask appliance` go over that
//!   every time.

use std::path::PathBuf;

use anyhow::Context as _;

use super::report::{self, Scenario};
use crate::appliance;
use crate::arch::Arch;
use crate::cross::{self, CrossArgs};
use crate::deb::{self, DebArgs};
use crate::figures::Figure;
use crate::image::{self, ImageArgs};
use crate::machine::{self, MachineArgs};
use crate::workspace::Workspace;

/// What programs and packages are made of, relative to the workspace.
const OF_PROGRAMS: [&str; 10] = [
    ".cargo",
    "Cargo.lock",
    "Cargo.toml",
    "Cross.toml",
    "daemon/Cargo.toml",
    "image/deb",
    "image/licences",
    "image/pins.toml",
    "image/targets.toml",
    "image/xtask/src/cross",
];

/// What images are made of and lived through with, relative to the workspace.
const OF_IMAGES: [&str; 18] = [
    "daemon/src/appliance",
    "daemon/src/cli/appliance",
    "daemon/src/leaf",
    "hil-tests/src/machine",
    "hil-tests/src/outpost.rs",
    "hil-tests/src/system.rs",
    "hil-tests/tests/appliance/machine",
    "image/base.packages",
    "image/deb",
    "image/development",
    "image/fetch-build-parts",
    "image/grub",
    "image/initrd",
    "image/kernel.keep",
    "image/root",
    "image/xtask/src/image",
    "image/xtask/src/machine",
    "systemd",
];

/// One part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Both programs and both packages; the gateway's program built twice and compared.
    Programs(Arch),
    /// The image and its update, lived through in an emulated machine.
    Image(Arch),
}

/// What a part came to.
pub(super) struct Made {
    /// What was found of its files, and by its scenarios.
    pub(super) figures: Vec<Figure>,
    /// The scenarios.
    pub(super) scenarios: Vec<Scenario>,
}

impl Part {
    /// All of them, in the order in which they are made: what a later one needs comes first.
    pub(super) const ALL: [Self; 5] = [
        Self::Programs(Arch::X86_64),
        Self::Image(Arch::X86_64),
        Self::Programs(Arch::Aarch64),
        Self::Image(Arch::Aarch64),
        Self::Programs(Arch::Armv7),
    ];

    /// What it is called.
    pub(super) fn name(self) -> String {
        match self {
            Self::Programs(arch) => format!("programs-{}", arch.word()),
            Self::Image(arch) => format!("image-{}", arch.word()),
        }
    }

    /// Where its report lies, relative to the workspace.
    pub(super) fn report(self) -> PathBuf {
        PathBuf::from(format!("docs/reports/{}.md", self.name()))
    }

    /// What it is made of.
    pub(super) const fn inputs(self) -> &'static [&'static str] {
        match self {
            Self::Programs(_) => &OF_PROGRAMS,
            Self::Image(_) => &OF_IMAGES,
        }
    }

    /// Makes and tries it.
    pub(super) fn make(self, workspace: &Workspace) -> anyhow::Result<Made> {
        match self {
            Self::Programs(arch) => programs(workspace, arch),
            Self::Image(arch) => image(workspace, arch),
        }
    }
}

fn programs(workspace: &Workspace, arch: Arch) -> anyhow::Result<Made> {
    let of = |only, check| CrossArgs { check, only: Some(only), ..CrossArgs::of(arch) };
    let mut figures = cross::run(workspace, &of(cross::Variant::Gateway, true))?;
    figures.extend(cross::run(workspace, &of(cross::Variant::Tools, false))?.into_iter().skip(1));
    figures.extend(deb::run(workspace, &DebArgs::of(arch, None))?);
    Ok(Made { figures, scenarios: Vec::new() })
}

fn image(workspace: &Workspace, arch: Arch) -> anyhow::Result<Made> {
    if deb::gateway_package(&arch.folder(workspace), arch).is_err() {
        appliance::packages(workspace, arch)?;
    }
    let mut figures = image::make(workspace, &ImageArgs::of(arch))?;
    let machine = MachineArgs { name: Some(arch.word().to_owned()), prepare: false };
    figures.extend(machine::run(workspace, &machine)?);
    let lines = machine::lines(workspace);
    let text =
        std::fs::read_to_string(&lines).with_context(|| format!("read {}", lines.display()))?;
    Ok(Made { figures, scenarios: report::scenarios(&text)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::inputs;

    #[test]
    fn every_input_that_is_named_is_there() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for part in Part::ALL {
            for input in part.inputs() {
                assert!(root.join(input).exists(), "{}: {input} is not there", part.name());
            }
            assert_eq!(inputs::hash(&root, part.inputs()).unwrap().len(), 64);
        }
    }
}
