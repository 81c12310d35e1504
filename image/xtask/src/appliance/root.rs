//! A small Debian that boots in a container, made once from the machine's own package sources.
//!
//! # Invariants
//! - Its name holds what it was made with: other packages make another root.
//! - An interrupted build leaves none: it is renamed into place.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::image::sources;
use crate::shell;
use crate::workspace::Workspace;

/// Beside what every Debian has, and nothing more: what the package needs it must ask for.
const PACKAGES: [&str; 3] = ["dbus", "systemd", "systemd-sysv"];

/// The root's folder.
pub(super) fn provide(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let name = format!("{}-{}", sources::RELEASE, PACKAGES.join("-"));
    let folder = workspace.tools().join("container").join(name);
    if folder.exists() {
        return Ok(folder);
    }
    let work = folder.with_extension("work");
    let part = work.join("root");
    if work.exists() {
        std::fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    }
    std::fs::create_dir_all(&work)?;
    let sources = sources::write(&work)?;
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", "--format=directory"]);
    command.arg(format!("--include={}", PACKAGES.join(",")));
    for left_out in ["/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*"] {
        command.arg(format!("--dpkgopt=path-exclude={left_out}"));
    }
    // Ours is looked for in the booted system.
    command.arg("--dpkgopt=path-include=/usr/share/doc/tidegate*");
    command.arg("--dpkgopt=path-include=/usr/share/man/*/tidegate*");
    command.args(sources::settings().iter().map(|setting| format!("--aptopt={setting}")));
    command.arg(sources::RELEASE).arg(&part).args(&sources);
    shell::run("make a Debian that boots in a container", &mut command)?;
    std::fs::rename(&part, &folder).with_context(|| format!("{} not kept", folder.display()))?;
    std::fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    Ok(folder)
}
