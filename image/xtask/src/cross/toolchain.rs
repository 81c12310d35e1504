//! Which compiler makes the programs of an architecture, and having it.
//!
//! # Invariants
//! - The order is fixed: rustup's target where it is installed, Debian's packaged compiler on
//!   Debian, `cross` where it and a container engine are.
//! - Nothing that a machine has is changed but by apt-get installing packages that are missing:
//!   neither rustup's toolchains nor the folders of Debian's compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::library;
use super::targets::Targets;
use crate::arch::Arch;
use crate::pins::Version;
use crate::workspace::Workspace;
use crate::{debian, shell};

/// `rust-version` of the workspace.
const MINIMUM: Version = Version(1, 95, 0);

/// A way to a compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Route {
    /// The toolchain in use, with the target that rustup installed
    Rustup,
    /// Debian's packages `rustc-web` and `cargo-web`
    Debian,
    /// `cross`, in the container images that Cross.toml pins
    Cross,
}

/// What a machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The targets of rustup's toolchain in use.
    pub(crate) rustup: Vec<String>,
    /// Whether it is a Debian machine.
    pub(crate) is_debian: bool,
    /// Whether `cross` is there, and a container engine.
    pub(crate) has_cross: bool,
}

impl Found {
    fn look() -> Self {
        let rustup = Command::new("rustup").args(["target", "list", "--installed"]).output();
        let rustup = rustup.map(|output| output.stdout).unwrap_or_default();
        let answers = |program| shell::ask(Command::new(program).arg("--version")).is_some();
        Self {
            rustup: String::from_utf8_lossy(&rustup).lines().map(str::to_owned).collect(),
            is_debian: Path::new("/etc/debian_version").exists(),
            has_cross: answers("cross") && (answers("docker") || answers("podman")),
        }
    }
}

/// The way to take; the wished one, or else the first that is open.
pub(crate) fn choose(arch: Arch, found: &Found, wished: Option<Route>) -> anyhow::Result<Route> {
    let has_target = found.rustup.iter().any(|target| target == arch.triple());
    let ways = [
        (Route::Rustup, has_target, format!("rustup target add {}", arch.triple())),
        (Route::Debian, found.is_debian, "a Debian machine, for its package rustc-web".to_owned()),
        (Route::Cross, found.has_cross, "`cross` with docker or podman".to_owned()),
    ];
    let asked = |route| wished.is_none_or(|wished| wished == route);
    if let Some((route, ..)) = ways.iter().find(|(route, open, _)| asked(*route) && *open) {
        return Ok(*route);
    }
    let missing: Vec<_> =
        ways.into_iter().filter(|(route, ..)| asked(*route)).map(|(.., lacks)| lacks).collect();
    bail!("nothing here compiles for {}; one of these does: {}", arch.triple(), missing.join("; "))
}

/// A compiler that makes programs of one architecture.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// How it was come by.
    pub(crate) route: Route,
    /// Cargo, or what stands in for it.
    pub(crate) cargo: PathBuf,
    /// The compiler; `None` where cargo finds it itself.
    pub(crate) rustc: Option<PathBuf>,
    /// Where its own standard library's sources are, as panics name them.
    pub(crate) sources: Option<PathBuf>,
    /// Where the foreign standard library is, when it is not the compiler's own.
    pub(crate) sysroot: Option<PathBuf>,
    /// What it calls itself.
    pub(crate) version: String,
}

/// Makes a compiler for `arch` present.
pub(crate) fn provide(
    workspace: &Workspace,
    targets: &Targets,
    arch: Arch,
    wished: Option<Route>,
) -> anyhow::Result<Toolchain> {
    let route = choose(arch, &Found::look(), wished)?;
    if route == Route::Cross {
        return in_container();
    }
    let compiler = format!("{}-gcc", targets.of(arch)?.gnu);
    for package in &targets.of(arch)?.packages {
        if !has_program(&compiler) || !has_library(&targets.of(arch)?.gnu) {
            debian::install(&compiler, package)?;
        }
    }
    match route {
        Route::Rustup => rustup(),
        Route::Debian | Route::Cross => packaged(workspace, targets, arch),
    }
}

fn rustup() -> anyhow::Result<Toolchain> {
    let which = |program| {
        let mut command = Command::new("rustup");
        shell::ask(command.args(["which", program])).map(PathBuf::from)
    };
    let (Some(cargo), Some(rustc)) = (which("cargo"), which("rustc")) else {
        bail!("rustup names no cargo and rustc; repair its toolchain with: rustup update stable");
    };
    finished(Route::Rustup, cargo, rustc, None)
}

/// Debian's compiler, with the standard library of `arch` beside it when that is a foreign one.
fn packaged(workspace: &Workspace, targets: &Targets, arch: Arch) -> anyhow::Result<Toolchain> {
    let (cargo, rustc) = (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc"));
    for (program, package) in [(&rustc, "rustc-web"), (&cargo, "cargo-web")] {
        if version_of(program).is_none_or(|version| version < MINIMUM) {
            debian::install(&format!("{} {MINIMUM} or later", program.display()), package)?;
        }
    }
    let sysroot = if host_of(&rustc).as_deref() == Some(arch.triple()) {
        None
    } else {
        Some(library::provide(workspace, targets, arch)?)
    };
    finished(Route::Debian, cargo, rustc, sysroot)
}

/// `cross` brings compiler, linker and libraries in its image.
fn in_container() -> anyhow::Result<Toolchain> {
    let version = shell::ask(Command::new("cross").arg("--version")).unwrap_or_default();
    let version = version.lines().next().context("cross does not say its version")?.to_owned();
    Ok(Toolchain {
        route: Route::Cross,
        cargo: "cross".into(),
        rustc: None,
        sources: None,
        sysroot: None,
        version,
    })
}

fn finished(
    route: Route,
    cargo: PathBuf,
    rustc: PathBuf,
    sysroot: Option<PathBuf>,
) -> anyhow::Result<Toolchain> {
    match version_of(&rustc) {
        Some(version) if version >= MINIMUM => {}
        version => bail!("{} is {version:?}; at least {MINIMUM} is needed", rustc.display()),
    }
    let own = shell::ask(Command::new(&rustc).args(["--print", "sysroot"]));
    let own = own.with_context(|| format!("{} names no sysroot", rustc.display()))?;
    let version = shell::ask(Command::new(&rustc).arg("--version")).unwrap_or_default();
    Ok(Toolchain {
        route,
        cargo,
        sources: Some(Path::new(&own).join("lib/rustlib/src/rust")),
        rustc: Some(rustc),
        sysroot,
        version,
    })
}

/// `rustc 1.95.0 (…)` and `cargo 1.95.0 (…)`.
fn version_of(program: &Path) -> Option<Version> {
    let said = shell::ask(Command::new(program).arg("--version"))?;
    Version::parse(said.split_whitespace().nth(1)?)
}

fn host_of(rustc: &Path) -> Option<String> {
    let said = shell::ask(Command::new(rustc).arg("-vV"))?;
    said.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

fn has_program(program: &str) -> bool {
    shell::ask(Command::new(program).arg("--version")).is_some()
}

/// Whether a C library to link with is there: a cross compiler's own, or this machine's.
fn has_library(gnu: &str) -> bool {
    [format!("/usr/{gnu}/lib/libc.so"), format!("/usr/lib/{gnu}/libc.so")]
        .iter()
        .any(|place| Path::new(place).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Found {
        Found { rustup: vec!["x86_64-unknown-linux-gnu".into()], is_debian: true, has_cross: true }
    }

    #[test]
    fn an_installed_target_comes_before_debian_and_debian_before_containers() {
        let mut found = machine();
        assert_eq!(choose(Arch::X86_64, &found, None).unwrap(), Route::Rustup);
        assert_eq!(choose(Arch::Armv7, &found, None).unwrap(), Route::Debian);
        found.is_debian = false;
        assert_eq!(choose(Arch::Armv7, &found, None).unwrap(), Route::Cross);
    }

    #[test]
    fn a_wish_is_followed_or_refused_and_never_replaced() {
        let found = machine();
        let wish = |route| choose(Arch::Armv7, &found, Some(route));
        assert_eq!(wish(Route::Cross).unwrap(), Route::Cross);
        let refused = wish(Route::Rustup).unwrap_err().to_string();
        assert!(refused.ends_with("rustup target add armv7-unknown-linux-gnueabihf"), "{refused}");
    }

    #[test]
    fn a_machine_with_nothing_is_told_every_way() {
        let bare = Found { rustup: Vec::new(), is_debian: false, has_cross: false };
        let told = choose(Arch::Aarch64, &bare, None).unwrap_err().to_string();
        for way in ["rustup target add aarch64-unknown-linux-gnu", "rustc-web", "`cross`"] {
            assert!(told.contains(way), "{told}");
        }
    }

    #[test]
    fn the_lowest_compiler_is_the_workspaces() {
        let manifest = include_str!("../../../../Cargo.toml");
        assert!(manifest.contains(&format!("rust-version = \"{}.{}\"", MINIMUM.0, MINIMUM.1)));
    }
}
