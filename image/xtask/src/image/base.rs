//! Debian's root before anything of ours is in it, kept as a tar beside the other tools.
//!
//! # Invariants
//! - The tar's name holds the digest of everything that it is made from but Debian's own versions;
//!   `--fresh` makes it again for those.
//! - An interrupted build leaves no tar: it is renamed into place.
//! - What only the build needs (kernel, boot loader, busybox) lies under `.build` and never in the root.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{sources, tools};
use crate::arch::Arch;
use crate::shell;
use crate::workspace::Workspace;

const PACKAGES: &str = include_str!("../../../base.packages");
const FETCH: &str = include_str!("../../../fetch-build-parts");

/// The root's tar for an architecture.
pub(super) fn provide(workspace: &Workspace, arch: Arch, fresh: bool) -> anyhow::Result<PathBuf> {
    let folder = workspace.tools().join("roots");
    std::fs::create_dir_all(&folder)?;
    let digest = super::digest_of(&[PACKAGES, FETCH, &options().join("\n")])?;
    let tar = folder.join(format!("{}-{}.tar", arch.debian(), &digest[..12]));
    if tar.exists() && !fresh {
        return Ok(tar);
    }
    let work = folder.join(format!("{}.sources", arch.debian()));
    std::fs::create_dir_all(&work)?;
    let sources = sources::write(&work)?;
    let fetch = work.join("fetch-build-parts");
    std::fs::write(&fetch, FETCH)?;
    let part = tar.with_extension("part.tar");
    let mut command = emulated(arch)?;
    command.arg("--variant=essential").arg(format!("--architectures={}", arch.debian()));
    command.args(options());
    command.args(sources::settings().iter().map(|setting| format!("--aptopt={setting}")));
    command.arg(format!("--include={}", packages().join(",")));
    let hook = format!("sh {} \"$1\" {} {}", fetch.display(), arch.debian(), grub(arch));
    command.arg(format!("--customize-hook={hook}"));
    command.arg(sources::RELEASE).arg(&part).args(&sources);
    shell::run(&format!("make Debian's root for {}", arch.word()), &mut command)?;
    std::fs::rename(&part, &tar).with_context(|| format!("{} not kept", tar.display()))?;
    Ok(tar)
}

/// Debian's name for the boot loader's modules.
pub(super) const fn grub(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::Aarch64 | Arch::Armv7 => "arm64",
    }
}

/// mmdebstrap; where the architecture is foreign, with an emulator registered for it.
fn emulated(arch: Arch) -> anyhow::Result<std::process::Command> {
    if arch.word() == std::env::consts::ARCH {
        return Ok(tools::command("mmdebstrap"));
    }
    let emulator = Path::new("/usr/bin/qemu-aarch64-static");
    if !emulator.exists() {
        crate::debian::install("qemu-aarch64-static", "qemu-user-static")?;
    }
    let mut command = tools::command("sh");
    command.arg("-c").arg(include_str!("../../../with-emulator")).arg("with-emulator");
    command.arg("mmdebstrap");
    Ok(command)
}

fn packages() -> Vec<&'static str> {
    PACKAGES.lines().filter_map(|line| line.split('#').next()?.split_whitespace().next()).collect()
}

/// What of packages is left out: manuals, translations. Licences stay.
fn options() -> Vec<String> {
    let mut options = vec!["--aptopt=Apt::Install-Recommends \"false\"".to_owned()];
    for path in ["man", "locale", "info", "doc", "lintian", "bash-completion", "zsh"] {
        options.push(format!("--dpkgopt=path-exclude=/usr/share/{path}/*"));
    }
    options.push("--dpkgopt=path-include=/usr/share/doc/*/copyright".to_owned());
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_list_names_packages_without_their_reasons() {
        let packages = packages();
        assert!(packages.contains(&"systemd") && packages.contains(&"rauc-service"));
        assert!(packages.iter().all(|name| {
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-+.".contains(&b))
        }));
    }
}
