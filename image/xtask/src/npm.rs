//! Packages of npm under the target directory, by their lock file.
//!
//! # Invariants
//! - What is installed is exactly what the lock file names, hashes included, and nothing of it runs
//!   while it is installed.
//! - Its stamp is the lock file: when that changes, it is installed anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::workspace::Workspace;
use crate::{debian, shell};

/// What is installed.
pub(crate) struct Packages {
    /// For progress and errors, with its size where it is large.
    pub(crate) what: &'static str,
    /// Where `package.json` and its lock file are, relative to the workspace root.
    pub(crate) from: &'static str,
    /// The directory's name among the tools.
    pub(crate) name: &'static str,
}

/// The directory that holds `node_modules`.
pub(crate) fn provide(workspace: &Workspace, packages: &Packages) -> anyhow::Result<PathBuf> {
    let place = workspace.tools().join(packages.name);
    let from = workspace.root.join(packages.from);
    let lock = std::fs::read_to_string(from.join("package-lock.json"))?;
    let stamp = place.join("stamp");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == lock) {
        return Ok(place);
    }
    for program in ["node", "npm"] {
        if shell::ask(Command::new(program).arg("--version")).is_none() {
            debian::install(program, if program == "node" { "nodejs" } else { program })?;
        }
    }
    std::fs::create_dir_all(&place)?;
    copy(&from, &place, "package.json")?;
    copy(&from, &place, "package-lock.json")?;
    let mut install = Command::new("npm");
    install.current_dir(&place).args(["ci", "--ignore-scripts", "--omit=optional"]);
    install.args(["--no-audit", "--no-fund", "--loglevel=error"]);
    // Its summary is no table.
    install.stdout(std::io::stderr());
    shell::run(&format!("fetch {}", packages.what), &mut install)?;
    std::fs::write(&stamp, lock)?;
    Ok(place)
}

fn copy(from: &Path, to: &Path, name: &str) -> anyhow::Result<()> {
    std::fs::copy(from.join(name), to.join(name))
        .with_context(|| format!("{name} could not be copied to {}", to.display()))?;
    Ok(())
}
