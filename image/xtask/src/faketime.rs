//! libfaketime, which gives the rig's daemon a wall clock of its own.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::{debian, shell};

/// What the rig looks at.
pub(crate) const VARIABLE: &str = "TIDEGATE_FAKETIME";

/// The library for programs with threads.
const LIBRARY: &str = "libfaketimeMT.so.1";

/// Where the library is; installed when it is missing.
pub(crate) fn provide() -> anyhow::Result<PathBuf> {
    if let Some(found) = find() {
        return Ok(found);
    }
    debian::install(LIBRARY, "libfaketime")?;
    find().with_context(|| {
        format!("libfaketime is installed and {LIBRARY} not found; set {VARIABLE} to the library")
    })
}

fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        return Some(PathBuf::from(named));
    }
    // Debian's dpkg knows best; others have it in one of these.
    let listed = shell::ask(Command::new("dpkg").args(["--listfiles", "libfaketime"]));
    let listed = listed.unwrap_or_default();
    let listed = listed.lines().filter(|line| line.ends_with(LIBRARY)).map(PathBuf::from);
    let usual = ["/usr/lib64", "/usr/lib", "/usr/local/lib"]
        .map(|root| PathBuf::from(root).join("faketime").join(LIBRARY));
    listed.chain(usual).find(|library| library.exists())
}
