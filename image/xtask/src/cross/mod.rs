//! `cargo xtask cross ARCH`: the programs of a release for one architecture, with the tools of this
//! machine, tried out and measured.
//!
//! # Invariants
//! - What lands in the architecture's folder was built from the sources as they are, is within its
//!   bounds and did its essential work; a program that fails is told, and the command fails.
//! - A build that was interrupted goes on where it was: cargo's own target directory is kept.

mod build;
#[cfg(test)]
mod container;
mod elf;
mod essential;
mod judge;
mod library;
mod plc;
mod targets;
mod toolchain;
mod twice;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::arch::Arch;
use crate::figures::{self, Figure};
use crate::shell;
use crate::workspace::Workspace;
use build::Place;
pub(crate) use build::Variant;
use judge::Judge;
use targets::Target;
pub(crate) use targets::Targets;
use toolchain::{Route, Toolchain};

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct CrossArgs {
    /// For which gateways
    pub(crate) arch: Arch,
    /// Build each program twice, in different directories, and compare them byte by byte
    #[arg(long)]
    pub(crate) check: bool,
    /// One variant alone; both when left out
    #[arg(long)]
    pub(crate) only: Option<Variant>,
    /// Measure and try out this gateway's program, which was built elsewhere, and build nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["check", "only", "toolchain"])]
    pub(crate) built: Option<PathBuf>,
    /// The compiler to use; the first that is there when left out
    #[arg(long)]
    pub(crate) toolchain: Option<Route>,
}

impl CrossArgs {
    /// Both programs, by the first compiler that is there.
    pub(crate) const fn of(arch: Arch) -> Self {
        Self { arch, check: false, only: None, built: None, toolchain: None }
    }
}

/// Builds, tries out, measures, and shows the table.
pub(crate) fn run(workspace: &Workspace, args: &CrossArgs) -> anyhow::Result<Vec<Figure>> {
    let targets = Targets::load()?;
    if let Some(built) = &args.built {
        return told(
            Judge { workspace, targets: &targets, arch: args.arch }
                .figures(Variant::Gateway, built)?,
        );
    }
    let toolchain = toolchain::provide(workspace, &targets, args.arch, args.toolchain)?;
    shell::say(&format!("{} by {:?}: {}", args.arch.triple(), toolchain.route, toolchain.version));
    let judge = Judge { workspace, targets: &targets, arch: args.arch };
    let work = Work { workspace, judge, toolchain, arch: args.arch };
    let variants = match args.only {
        Some(variant) => vec![variant],
        None => vec![Variant::Gateway, Variant::Tools],
    };
    let mut figures =
        vec![Figure::told(format!("compiler, {}", args.arch.word()), &*work.toolchain.version)];
    for variant in variants {
        figures.extend(work.variant(variant, args.check)?);
    }
    told(figures)
}

/// Shows the table. What has a bound of its own says so there; a program that is not what it must be
/// is an error.
fn told(figures: Vec<Figure>) -> anyhow::Result<Vec<Figure>> {
    shell::say(&format!("what was built\n{}", figures::table(&figures)));
    Ok(figures)
}

/// One architecture's build.
struct Work<'a> {
    workspace: &'a Workspace,
    judge: Judge<'a>,
    toolchain: Toolchain,
    arch: Arch,
}

impl Work<'_> {
    fn variant(&self, variant: Variant, twice: bool) -> anyhow::Result<Vec<Figure>> {
        let place = self.place();
        let shipped = self.arch.folder(self.workspace).join(variant.file());
        if !twice {
            self.build_into(&place, variant, &shipped)?;
            return self.judge.figures(variant, &shipped);
        }
        let elsewhere = twice::another(self.workspace, self.arch, &place)?;
        let again = elsewhere.target.join("shipped").join(variant.file());
        // Linking takes most of the time, and one processor.
        std::thread::scope(|scope| {
            let other = scope.spawn(|| self.build_into(&elsewhere, variant, &again));
            let built = self.build_into(&place, variant, &shipped);
            built.and(other.join().unwrap_or_else(|_| bail!("the second build ended in a panic")))
        })?;
        let mut figures = self.judge.figures(variant, &shipped)?;
        figures.push(self.compared(variant, &shipped, &again)?);
        twice::clear(self.workspace, self.arch);
        Ok(figures)
    }

    fn place(&self) -> Place {
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
        Place {
            root: self.workspace.root.clone(),
            // One for each compiler: neither can use what the other made.
            target: self.workspace.target.join(match self.toolchain.route {
                Route::Rustup => "cross-rustup",
                Route::Debian => "cross",
                Route::Cross => "cross-container",
            }),
            cargo_home: home.unwrap_or_else(|| self.workspace.target.join("cargo-home")),
        }
    }

    fn build_into(&self, place: &Place, variant: Variant, shipped: &Path) -> anyhow::Result<()> {
        let epoch = self.workspace.epoch()?.to_string();
        let built =
            build::build(place, &self.toolchain, self.arch, self.target()?, variant, &epoch)?;
        build::split(&built, &self.target()?.gnu, shipped)
    }

    /// The same program, built in two directories.
    fn compared(&self, variant: Variant, one: &Path, other: &Path) -> anyhow::Result<Figure> {
        if let Some(difference) = twice::difference(&read(one)?, &read(other)?) {
            bail!("built twice, {} and {} differ: {difference}", one.display(), other.display());
        }
        Ok(Figure::told(format!("{}, built twice", self.judge.named(variant)), "equal"))
    }

    fn target(&self) -> anyhow::Result<&Target> {
        self.judge.targets.of(self.arch)
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{} is not readable", path.display()))
}
