//! Installing what is missing: by apt-get on Debian as root, otherwise by saying what to install.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::shell;

/// Makes `package` present unless `program` is found.
pub(crate) fn need(program: &str, package: &str) -> anyhow::Result<()> {
    // Not every program knows a word that does nothing.
    match shell::ask(Command::new("sh").args(["-c", &format!("command -v {program}")])) {
        Some(_) => Ok(()),
        None => install(program, package),
    }
}

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

/// Fetches a file of a mirror that this machine's apt uses; refused unless it has this SHA-256.
pub(crate) fn fetch(path: &str, sha256: &str, place: &Path) -> anyhow::Result<()> {
    // Missing, it would be missing for every mirror.
    downloader()?;
    let mut mirrors = Command::new("apt-get");
    mirrors.args(["indextargets", "--format", "$(REPO_URI)"]);
    let mut mirrors: Vec<_> =
        shell::ask(&mut mirrors).unwrap_or_default().lines().map(str::to_owned).collect();
    mirrors.sort_unstable();
    mirrors.dedup();
    for mirror in mirrors.iter().filter(|mirror| !mirror.contains("security")) {
        let address = format!("{}/{path}", mirror.trim_end_matches('/'));
        let name = path.rsplit('/').next().unwrap_or(path);
        let what = format!("fetch {name} from this machine's mirror");
        if download(&what, &address, sha256, place).is_ok() {
            return Ok(());
        }
    }
    bail!("no mirror in this machine's apt has {path} with the SHA-256 {sha256}")
}

/// Fetches one file as apt does; refused unless it has this SHA-256.
pub(crate) fn download(
    what: &str,
    address: &str,
    sha256: &str,
    place: &Path,
) -> anyhow::Result<()> {
    let mut download = downloader()?;
    download.args(["-o", "APT::Sandbox::User=root", "download-file"]);
    download.arg(address).arg(place).arg(format!("SHA256:{sha256}"));
    shell::run(what, &mut download)
}

fn downloader() -> anyhow::Result<Command> {
    const PLACE: &str = "/usr/lib/apt/apt-helper";
    if !Path::new(PLACE).exists() {
        bail!("{PLACE} is missing; files of Debian's mirrors are fetched by Debian's apt");
    }
    Ok(Command::new(PLACE))
}
