//! Installing what is missing: by apt-get on Debian as root, otherwise by saying what to install.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::shell;

/// Makes `package` present, because `missing` was not found.
pub(crate) fn install(missing: &str, package: &str) -> anyhow::Result<()> {
    if !Path::new("/etc/debian_version").exists() {
        bail!("{missing} is missing; install it (Debian's package for it is {package})");
    }
    if !is_root() {
        bail!("{missing} is missing; install it with: sudo apt-get install {package}");
    }
    shell::say(&format!(
        "{missing} is missing: installing Debian's package {package} with apt-get"
    ));
    if shell::run(&format!("install {package}"), &mut apt_get(&["install", package])).is_ok() {
        return Ok(());
    }
    // A fresh machine has no package lists yet.
    shell::run("fetch Debian's package lists", &mut apt_get(&["update"]))?;
    shell::run(&format!("install {package}"), &mut apt_get(&["install", package]))
}

pub(crate) fn is_root() -> bool {
    shell::ask(Command::new("id").arg("-u")).as_deref() == Some("0")
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["--quiet", "--yes", "--no-install-recommends"]).args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
