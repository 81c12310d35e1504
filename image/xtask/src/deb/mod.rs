//! `cargo xtask deb ARCH`: the Debian packages of the gateway and of the tools.
//!
//! # Invariants
//! - Programs are taken as `cargo xtask cross` left them: nothing is compiled here.
//! - Everything else in a package is made from what is in the repository and in Cargo.lock, so the
//!   same programs and the same commit give the same bytes.
//! - A package is put in place whole, after lintian found no error in it.

mod changelog;
mod crates;
pub(crate) mod go;
mod notices;
mod pack;
mod sbom;
pub(crate) mod server;
mod stage;

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::arch::Arch;
use crate::figures::{self, Figure};
use crate::shell;
use crate::workspace::Workspace;

/// A gateway's package with its nats-server is no larger (the order for packages).
const GATEWAY_BYTES: u64 = 9_000_000;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct DebArgs {
    /// For which gateways
    pub(crate) arch: Arch,
    /// One package alone; both when left out
    #[arg(long)]
    pub(crate) only: Option<Variant>,
    /// Another version than that of the sources, such as `0.1.1-1`; for trying upgrades
    #[arg(long, value_name = "VERSION")]
    pub(crate) deb_version: Option<String>,
    /// Say that the journal it writes needs a reader of this version; for trying downgrades
    #[arg(long, value_name = "N")]
    pub(crate) journal_needs: Option<u8>,
    /// Compress quickly and not well; for trials, where the bound of size is not judged
    #[arg(long)]
    pub(crate) fast: bool,
    /// Where the packages go; beside the programs when left out
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

impl DebArgs {
    /// One package, or both, as they are released.
    pub(crate) const fn of(arch: Arch, only: Option<Variant>) -> Self {
        Self { arch, only, deb_version: None, journal_needs: None, fast: false, out: None }
    }
}

/// The two packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Variant {
    /// The gateway: no analysis, its units
    Gateway,
    /// The same commands with everything in them, and no units
    Tools,
}

impl Variant {
    /// What Debian calls the package, and the file that `cargo xtask cross` leaves.
    pub(crate) const fn package(self) -> &'static str {
        match self {
            Self::Gateway => "tidegate",
            Self::Tools => "tidegate-tools",
        }
    }

    /// The variant in the manifest.
    const fn word(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Tools => "tools",
        }
    }
}

/// Packs, looks over and measures.
pub(crate) fn run(workspace: &Workspace, args: &DebArgs) -> anyhow::Result<Vec<Figure>> {
    let variants = match args.only {
        Some(variant) => vec![variant],
        None => vec![Variant::Gateway, Variant::Tools],
    };
    let server = server::provide(workspace, args.arch)?;
    let epoch = workspace.epoch()?;
    let mut figures = Vec::new();
    let mut packages = Vec::new();
    for variant in variants {
        let stage = stage::lay(workspace, args, variant, &server, epoch)?;
        let package = pack::pack(workspace, args, variant, &stage, epoch)?;
        let bytes = std::fs::metadata(&package)?.len();
        let what = format!("{}, {}", variant.package(), args.arch.debian());
        figures.push(match variant {
            Variant::Gateway if !args.fast => Figure::bytes_at_most(what, bytes, GATEWAY_BYTES),
            _ => Figure::bytes(what, bytes),
        });
        packages.push(package.display().to_string());
    }
    shell::say(&format!("{}\n{}", packages.join("\n"), figures::table(&figures)));
    Ok(figures)
}

/// The gateway's own package among what was made for an architecture.
pub(crate) fn gateway_package(folder: &Path, arch: Arch) -> anyhow::Result<PathBuf> {
    let suffix = format!("_{}.deb", arch.debian());
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with("tidegate_") && name.ends_with(&suffix)
        })
        .collect();
    found.sort();
    match found.as_slice() {
        [] => bail!(
            "{} holds no tidegate_*{suffix}; make it: cargo xtask deb {}",
            folder.display(),
            arch.word()
        ),
        [one] => Ok(one.clone()),
        several => bail!(
            "{} packages in {}; remove the old ones or name one with --package",
            several.len(),
            folder.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_package_is_found_among_others_and_two_of_them_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        make("tidegate-tools_0.1.0-1_amd64.deb");
        make("tidegate_0.1.0-1_arm64.deb");
        let missing = gateway_package(folder.path(), Arch::X86_64).unwrap_err().to_string();
        assert!(missing.contains("cargo xtask deb x86_64"), "{missing}");
        make("tidegate_0.1.0-1_amd64.deb");
        let found = gateway_package(folder.path(), Arch::X86_64).unwrap();
        assert!(found.ends_with("tidegate_0.1.0-1_amd64.deb"));
        make("tidegate_0.2.0-1_amd64.deb");
        assert!(
            gateway_package(folder.path(), Arch::X86_64)
                .unwrap_err()
                .to_string()
                .contains("--package")
        );
    }
}
