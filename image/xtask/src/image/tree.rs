//! The root's tree: Debian's base, the kernel's modules, the gateway's package, this recipe.
//!
//! # Invariants
//! - No program of the root is run: foreign architectures are composed like the machine's own.
//! - Users that own something on the data partition have fixed numbers; the tree is refused else.
//! - Only a development tree holds a shell without a login.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::tools;
use crate::shell;

const KEPT_MODULES: &str = include_str!("../../../kernel.keep");

/// Folders and files that mounts of the initrd and of systemd need.
const PLACES: [&str; 6] = [
    "data",
    "boot/efi",
    "etc/tidegate",
    "var/lib/tidegate",
    "var/lib/systemd",
    "etc/systemd/network",
];

/// What a tree is made of.
pub(super) struct Parts<'a> {
    /// Debian's base.
    pub(super) base: &'a Path,
    /// The gateway's package.
    pub(super) package: &'a Path,
    /// `image/` of the source tree.
    pub(super) recipe: &'a Path,
    /// Copied over everything else, in this order.
    pub(super) overlays: Vec<&'a Path>,
    /// The certificates that updates must be signed by.
    pub(super) keyring: &'a Path,
    /// What a bundle for it must say.
    pub(super) compatible: &'a str,
    /// What people call this build.
    pub(super) version: &'a str,
}

/// A composed tree and what the build needs beside it.
pub(super) struct Tree {
    /// What becomes the slot's root.
    pub(super) root: PathBuf,
    /// Kernel, boot loader and busybox.
    pub(super) build: PathBuf,
    /// The kernel's release, which names the folder of its modules.
    pub(super) kernel: String,
}

/// Composes the tree in `work`, which is emptied first.
pub(super) fn compose(parts: &Parts<'_>, work: &Path) -> anyhow::Result<Tree> {
    let _ = std::fs::remove_dir_all(work);
    let root = work.join("root");
    std::fs::create_dir_all(&root)?;
    let mut unpack = tools::command("tar");
    unpack.args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xf"]).arg(parts.base);
    shell::run("unpack Debian's root", unpack.arg("-C").arg(&root))?;
    let build = work.join("build");
    std::fs::rename(root.join(".build"), &build).context("the base holds no .build folder")?;
    let kernel = only_entry(&build.join("lib/modules"))?;
    keep_modules(&build, &root, &kernel)?;

    // Before the package, so that its own users get these numbers.
    overlay(&parts.recipe.join("root"), &root)?;
    install(parts.package, &root)?;
    for folder in &parts.overlays {
        overlay(folder, &root)?;
    }
    write_facts(parts, &root)?;
    settle(&root)?;
    Ok(Tree { root, build, kernel })
}

/// Moves the modules that gateways may need from the kernel's package to the root.
fn keep_modules(build: &Path, root: &Path, kernel: &str) -> anyhow::Result<()> {
    let from = build.join("lib/modules").join(kernel);
    let to = root.join("usr/lib/modules").join(kernel);
    std::fs::create_dir_all(&to)?;
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        std::fs::copy(from.join(list), to.join(list)).with_context(|| list.to_owned())?;
    }
    for wanted in lines_of(KEPT_MODULES) {
        let source = from.join("kernel").join(wanted);
        if !source.exists() {
            continue;
        }
        let target = to.join("kernel").join(wanted);
        std::fs::create_dir_all(target.parent().unwrap_or(&to))?;
        std::fs::rename(&source, &target).with_context(|| format!("{wanted} not moved"))?;
    }
    let mut index = tools::command("depmod");
    shell::run("index the kernel's modules", index.arg("-b").arg(root).arg(kernel))
}

/// Unpacks a package and enters it in dpkg's list; its maintainer scripts are not run: what they do
/// (users, presets) is done below for everything at once.
fn install(package: &Path, root: &Path) -> anyhow::Result<()> {
    let mut unpack = tools::command("dpkg-deb");
    shell::run("unpack the gateway's package", unpack.arg("-x").arg(package).arg(root))?;
    let fields = shell::ask(Command::new("dpkg-deb").arg("-f").arg(package))
        .with_context(|| format!("{} is no Debian package", package.display()))?;
    let status = root.join("var/lib/dpkg/status");
    let mut list = std::fs::read_to_string(&status).unwrap_or_default();
    let (first, rest) = fields.split_once('\n').unwrap_or((fields.as_str(), ""));
    list.push_str(&format!("\n{first}\nStatus: install ok installed\n{rest}\n"));
    std::fs::write(&status, list).context("dpkg's list not written")
}

fn overlay(from: &Path, root: &Path) -> anyhow::Result<()> {
    ensure!(from.is_dir(), "{} is no folder to lay over the root", from.display());
    let mut copy = tools::command("cp");
    copy.args(["-a", "--no-preserve=ownership", "-T"]).arg(from).arg(root);
    shell::run(&format!("lay {} over the root", from.display()), &mut copy)
}

fn write_facts(parts: &Parts<'_>, root: &Path) -> anyhow::Result<()> {
    let config = root.join("etc/rauc/system.conf");
    let text = std::fs::read_to_string(&config)?.replace("@COMPATIBLE@", parts.compatible);
    std::fs::write(&config, text)?;
    std::fs::copy(parts.keyring, root.join("etc/rauc/keyring.pem"))
        .with_context(|| format!("{} not copied", parts.keyring.display()))?;
    std::fs::write(root.join("etc/tidegate-image"), format!("VERSION={}\n", parts.version))?;
    std::fs::write(root.join("etc/hostname"), "tidegate\n")?;
    // The initrd binds the machine's own over it.
    std::fs::write(root.join("etc/machine-id"), "")?;
    Ok(())
}

/// Users, what starts, and nothing left of the build.
fn settle(root: &Path) -> anyhow::Result<()> {
    for place in PLACES {
        std::fs::create_dir_all(root.join(place))?;
    }
    let mut users = tools::command("systemd-sysusers");
    shell::run("make the services' users", users.arg(format!("--root={}", root.display())))?;
    let passwd = std::fs::read_to_string(root.join("etc/passwd"))?;
    for (user, number) in [("tidegate", "970"), ("tidegate-leaf", "971")] {
        if number_of(&passwd, user) != Some(number) {
            bail!(
                "user {user} has another number than {number}: data of earlier images would not be its own"
            );
        }
    }
    let mut presets = tools::command("systemctl");
    presets.arg(format!("--root={}", root.display())).args(["--quiet", "preset-all"]);
    shell::run("enable what runs", &mut presets)?;
    link(root, "/run/systemd/resolve/resolv.conf", "etc/resolv.conf")?;
    link(root, "../proc/self/mounts", "etc/mtab")?;
    link(root, "/etc/machine-id", "var/lib/dbus/machine-id")?;
    // Consoles get no login: this generator would start one on each.
    link(root, "/dev/null", "etc/systemd/system-generators/systemd-getty-generator")?;
    for unit in
        ["getty@.service", "serial-getty@.service", "console-getty.service", "debug-shell.service"]
    {
        link(root, "/dev/null", &format!("etc/systemd/system/{unit}"))?;
    }
    for emptied in
        ["var/log", "var/cache", "var/lib/apt", "var/lib/systemd", "tmp", "var/tmp", "run"]
    {
        empty(&root.join(emptied))?;
    }
    Ok(())
}

fn number_of<'a>(passwd: &'a str, user: &str) -> Option<&'a str> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(user))?;
    line.split(':').nth(2)
}

fn link(root: &Path, target: &str, at: &str) -> anyhow::Result<()> {
    let path = root.join(at);
    let _ = std::fs::remove_file(&path);
    std::fs::create_dir_all(path.parent().unwrap_or(root))?;
    std::os::unix::fs::symlink(target, &path).with_context(|| format!("{at} not linked"))
}

fn empty(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(&path)?;
        } else {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The lines of a recipe file that are no comments.
pub(super) fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn only_entry(folder: &Path) -> anyhow::Result<String> {
    let mut names = std::fs::read_dir(folder)
        .with_context(|| format!("{} is missing", folder.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.next().with_context(|| format!("{} is empty", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_user_is_read_by_its_whole_name() {
        let passwd = "tidegate-leaf:x:971:971::/:/n\ntidegate:x:970:970::/:/n\n";
        assert_eq!(number_of(passwd, "tidegate"), Some("970"));
        assert_eq!(number_of(passwd, "tide"), None);
    }

    #[test]
    fn the_kept_modules_are_paths_below_the_kernels_folder() {
        let kept: Vec<&str> = lines_of(KEPT_MODULES).collect();
        assert!(kept.contains(&"fs/squashfs") && kept.contains(&"drivers/watchdog"));
        assert!(kept.iter().all(|path| !path.starts_with('/') && !path.contains("..")));
    }
}
