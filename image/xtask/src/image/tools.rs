//! The programs that images are made with.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::debian;

/// Programs and Debian's packages of them.
const PROGRAMS: [(&str, &str); 14] = [
    ("mmdebstrap", "mmdebstrap"),
    ("mksquashfs", "squashfs-tools"),
    ("veritysetup", "cryptsetup-bin"),
    ("genimage", "genimage"),
    ("rauc", "rauc"),
    ("grub-mkstandalone", "grub-common"),
    ("grub-editenv", "grub-common"),
    ("mkfs.vfat", "dosfstools"),
    ("mcopy", "mtools"),
    ("mkfs.ext4", "e2fsprogs"),
    ("depmod", "kmod"),
    ("cpio", "cpio"),
    ("zstd", "zstd"),
    ("openssl", "openssl"),
];

/// Where administrators' programs are; an ordinary PATH lacks them.
const ADMINISTRATORS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Makes every program present, or names the first that is not.
pub(super) fn provide() -> anyhow::Result<()> {
    if !debian::is_root() {
        bail!(
            "an image holds files of root's and of services' own users: run this command as root"
        );
    }
    for (program, package) in PROGRAMS.iter().chain(&[("readelf", "binutils")]) {
        if find(program).is_none() {
            debian::install(program, package)?;
        }
    }
    Ok(())
}

/// A command that finds administrators' programs too.
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| PathBuf::from(program)));
    command.env("PATH", path()).env("LC_ALL", "C");
    command
}

fn path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    for folder in ADMINISTRATORS {
        path.push(":");
        path.push(folder);
    }
    path
}

fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&path())
        .map(|folder| folder.join(program))
        .find(|candidate: &PathBuf| Path::is_file(candidate))
}
