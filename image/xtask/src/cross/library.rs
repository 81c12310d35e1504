//! Rust's standard library of a foreign architecture, for Debian's compiler.
//!
//! # Invariants
//! - It is of exactly the version of the compiler that is installed, and is checked against its
//!   pinned SHA-256, or else by apt against Debian's signed list.
//! - It is unpacked below the target directory and put in place whole, by a rename; the machine's
//!   own folders and its lists of packages stay as they are.
//! - Where packages come from is the machine's own configuration; nothing here names a server.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::targets::Targets;
use crate::arch::Arch;
use crate::workspace::Workspace;
use crate::{debian, shell};

/// Where a sysroot has the libraries of each target.
const LIBRARIES: &str = "lib/rustlib";
const PACKAGE: &str = "libstd-rust-web-dev";

/// A sysroot that has the standard library of `arch`.
pub(crate) fn provide(
    workspace: &Workspace,
    targets: &Targets,
    arch: Arch,
) -> anyhow::Result<PathBuf> {
    let installed = shell::ask(Command::new("dpkg-query").args([
        "--show",
        "--showformat=${Version}",
        "rustc-web",
    ]));
    let version = installed.filter(|version| !version.is_empty()).context(
        "the Debian package rustc-web is not installed; install rustc-web and cargo-web",
    )?;
    let sysroot = workspace.tools().join(format!("rust-web-{version}")).join("usr");
    let place = sysroot.join(LIBRARIES).join(arch.triple());
    if place.exists() {
        return Ok(sysroot);
    }
    let scratch = workspace.tools().join(format!("rust-web.{}", std::process::id()));
    std::fs::create_dir_all(&scratch)
        .with_context(|| format!("{} cannot be made", scratch.display()))?;
    let unpacked = match targets.library(&version, arch) {
        Some(sha256) => fetch_pinned(&version, arch, sha256, &scratch),
        None => fetch_listed(&version, arch, &scratch),
    }
    .and_then(|package| unpack(&package, &scratch.join("root"), arch, &place));
    // Nothing in it is needed any more; what it cost is disk space.
    let _ = std::fs::remove_dir_all(&scratch);
    unpacked.map(|()| sysroot)
}

/// From where this machine's own package comes from, under the pinned hash.
fn fetch_pinned(
    version: &str,
    arch: Arch,
    sha256: &str,
    scratch: &Path,
) -> anyhow::Result<PathBuf> {
    let mut ask = Command::new("apt-get");
    ask.args(["download", "--print-uris", &format!("{PACKAGE}={version}")]);
    let said = shell::ask(&mut ask).unwrap_or_default();
    let Some(address) = address_for(&said, arch) else {
        bail!(
            "apt does not know {PACKAGE} {version}; run apt-get update, then upgrade rustc-web and \
             cargo-web so that both are of one version"
        );
    };
    let package = scratch.join("library.deb");
    let what = format!("fetch Rust's standard library for {} (34 MB)", arch.debian());
    debian::download(&what, &address, sha256, &package)
        .with_context(|| format!("it must have the SHA-256 {sha256} of image/targets.toml"))?;
    Ok(package)
}

/// The address of `arch`'s package, from what apt says of this machine's own: the first word, in
/// quotes.
fn address_for(said: &str, arch: Arch) -> Option<String> {
    let own = said.lines().find_map(|line| line.strip_prefix('\'')?.split('\'').next())?;
    let (stem, _own_arch) = own.strip_suffix(".deb")?.rsplit_once('_')?;
    Some(format!("{stem}_{}.deb", arch.debian()))
}

/// By a list of packages of our own, for a version that is not pinned.
fn fetch_listed(version: &str, arch: Arch, scratch: &Path) -> anyhow::Result<PathBuf> {
    shell::say(&format!(
        "{PACKAGE} {version} of {} is not pinned: asking Debian's signed list",
        arch.debian()
    ));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(scratch).args(["--quiet", "--option"]);
        command.arg(format!("Dir::State::Lists={}", scratch.join("lists").display()));
        command.arg("--option").arg(format!("Dir::Cache={}", scratch.join("cache").display()));
        for own in [std::env::consts::ARCH, arch.word()] {
            let debian = Arch::ALL.into_iter().find(|a| a.word() == own).map_or(own, Arch::debian);
            command.args(["--option", &format!("APT::Architectures::={debian}")]);
        }
        command.args(arguments);
        command
    };
    shell::run("fetch Debian's package lists", &mut apt(&["update"]))?;
    let package = format!("{PACKAGE}:{}={version}", arch.debian());
    let unknown = || {
        format!(
            "no list has {package}; add the SHA-256 of its file to image/targets.toml, from a \
             source that you trust"
        )
    };
    shell::run(&format!("fetch {package}"), &mut apt(&["download", &package]))
        .with_context(unknown)?;
    let fetched = std::fs::read_dir(scratch)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|ending| ending == "deb"));
    fetched.with_context(unknown)
}

fn unpack(package: &Path, root: &Path, arch: Arch, place: &Path) -> anyhow::Result<()> {
    let mut unpack = Command::new("dpkg-deb");
    shell::run("unpack it", unpack.arg("--extract").arg(package).arg(root))?;
    std::fs::create_dir_all(place.parent().unwrap_or(place))?;
    std::fs::rename(root.join("usr").join(LIBRARIES).join(arch.triple()), place)
        .with_context(|| format!("{} could not be put in place", place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_differs_from_the_machines_own_only_in_the_architecture() {
        let said = "'http://mirror.example/p/r/libstd-rust-web-dev_1.96.0%2bx_amd64.deb' \
                    libstd-rust-web-dev_1.96.0+x_amd64.deb 35890200 SHA256:e38d\n";
        assert_eq!(
            address_for(said, Arch::Armv7).as_deref(),
            Some("http://mirror.example/p/r/libstd-rust-web-dev_1.96.0%2bx_armhf.deb")
        );
        assert_eq!(address_for("", Arch::Armv7), None);
        assert_eq!(address_for("'http://mirror.example/odd'", Arch::Armv7), None);
    }
}
