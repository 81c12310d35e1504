//! The Python environment under the target directory: pip for the fetching, pymodbus and asyncua
//! for the rig.
//!
//! # Invariants
//! - The environment is built under another name and renamed when whole, so a half-built one is
//!   never used.
//! - Its stamp holds the requirements and the interpreter's version: when either changes, it is
//!   built anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::workspace::Workspace;
use crate::{debian, shell};

/// The interpreter of an environment that has everything in `hil-tests/requirements.txt`.
pub(crate) fn provide(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let requirements = workspace.root.join("hil-tests/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements)
        .with_context(|| format!("{} is not readable", requirements.display()))?;
    let place = workspace.tools().join("venv");
    let interpreter = place.join("bin/python3");
    if stamp_of(&interpreter, &wanted).is_some_and(|stamp| stamped(&place, &stamp)) {
        return Ok(interpreter);
    }
    std::fs::create_dir_all(workspace.tools())?;
    let fresh = workspace.tools().join(format!("venv.{}", std::process::id()));
    let built = build(&fresh, &requirements, &wanted).and_then(|()| put(&fresh, &place));
    if built.is_err() {
        // The error that stopped the build is what counts.
        let _ = std::fs::remove_dir_all(&fresh);
    }
    built.map(|()| interpreter)
}

/// pip of the environment whose interpreter is given, told to touch nothing but what it is asked.
pub(crate) fn pip(interpreter: &Path, verb: &str) -> Command {
    let mut command = Command::new(interpreter);
    command.args(["-m", "pip", verb, "--quiet", "--disable-pip-version-check", "--no-input"]);
    command.args(["--require-hashes", "--no-deps", "--only-binary=:all:"]);
    command
}

fn build(fresh: &Path, requirements: &Path, wanted: &str) -> anyhow::Result<()> {
    if shell::ask(Command::new("python3").arg("--version")).is_none() {
        debian::install("python3", "python3")?;
    }
    // Debian keeps the two modules that a complete environment needs in a package of their own.
    if shell::ask(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_none() {
        debian::install("Python's venv module", "python3-venv")?;
    }
    let mut command = Command::new("python3");
    command.args(["-m", "venv"]).arg(fresh);
    shell::run("make a Python environment for the rig", &mut command)?;
    let interpreter = fresh.join("bin/python3");
    let mut install = pip(&interpreter, "install");
    install.arg("--requirement").arg(requirements);
    shell::run("fetch the rig's Python packages", &mut install)?;
    let stamp = stamp_of(&interpreter, wanted).context("the new Python environment is broken")?;
    std::fs::write(fresh.join("stamp"), stamp)?;
    Ok(())
}

/// Puts the new environment in place of the old. Scripts in it keep the old path in their first
/// line, which is why everything here goes through the interpreter.
fn put(fresh: &Path, place: &Path) -> anyhow::Result<()> {
    if place.exists() {
        let old = fresh.with_extension("old");
        std::fs::rename(place, &old)?;
        std::fs::remove_dir_all(&old)?;
    }
    std::fs::rename(fresh, place)
        .with_context(|| format!("{} could not be put in place", place.display()))
}

fn stamp_of(interpreter: &Path, wanted: &str) -> Option<String> {
    let mut command = Command::new(interpreter);
    let version = shell::ask(command.args(["-c", "import sys; print(sys.version)"]))?;
    Some(format!("{wanted}\n{version}\n"))
}

fn stamped(place: &Path, stamp: &str) -> bool {
    std::fs::read_to_string(place.join("stamp")).is_ok_and(|found| found == stamp)
}
