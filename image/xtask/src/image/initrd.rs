//! The initrd: busybox, one script, the modules and the two programs that the root needs to stand.
//!
//! # Invariants
//! - It holds nothing that differs from machine to machine.
//! - A program is taken with every library that it names, from the root that it starts.
//! - The archive depends on its content alone: sorted, without times and owners.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};

use super::tools;
use super::tree::{Tree, lines_of};
use crate::shell;

const INIT: &str = include_str!("../../../initrd/init");
const MODULES: &str = include_str!("../../../initrd/modules");
const PLACES: &str = include_str!("../../../initrd/places");

/// Programs of the root that busybox has no equal of.
const PROGRAMS: [(&str, &str); 2] =
    [("usr/sbin/dmsetup", "dmsetup"), ("usr/sbin/e2fsck", "e2fsck")];

/// Packs the initrd for a tree into `to`.
pub(super) fn pack(tree: &Tree, work: &Path, to: &Path) -> anyhow::Result<()> {
    let folder = work.join("initrd");
    let _ = std::fs::remove_dir_all(&folder);
    for name in ["bin", "proc", "sys", "dev", "run", "sysroot", "etc"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    std::os::unix::fs::symlink("bin", folder.join("sbin"))?;
    place(&busybox(&tree.build)?, &folder.join("bin/busybox"))?;
    // The script names the shell it begins with; everything else it installs itself.
    std::os::unix::fs::symlink("busybox", folder.join("bin/sh"))?;
    for (from, name) in PROGRAMS {
        place(&tree.root.join(from), &folder.join("bin").join(name))?;
        for library in libraries(&tree.root, from)? {
            let to = folder.join(&library);
            if !to.exists() {
                std::fs::create_dir_all(to.parent().unwrap_or(&folder))?;
                place(&tree.root.join(&library), &to)?;
            }
        }
    }
    for (name, text) in [("init", INIT), ("modules", MODULES), ("places", PLACES)] {
        let text = lines_without_comments(name, text);
        std::fs::write(folder.join(name), text)?;
    }
    std::fs::set_permissions(folder.join("init"), std::fs::Permissions::from_mode(0o755))?;
    take_modules(tree, &folder)?;
    archive(&folder, to)
}

/// busybox reads these files line by line and knows no comments.
fn lines_without_comments(name: &str, text: &str) -> String {
    if name == "init" {
        return text.to_owned();
    }
    lines_of(text).fold(String::new(), |all, line| all + line + "\n")
}

fn busybox(build: &Path) -> anyhow::Result<PathBuf> {
    ["usr/bin/busybox", "bin/busybox"]
        .iter()
        .map(|path| build.join(path))
        .find(|path| path.exists())
        .context("busybox-static did not bring busybox")
}

fn place(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::copy(from, to).with_context(|| format!("{} not copied", from.display()))?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Every library that a program of the root needs, and its loader, as paths below the root.
fn libraries(root: &Path, program: &str) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut open = vec![PathBuf::from(program)];
    while let Some(next) = open.pop() {
        let file = root.join(&next);
        let headers = shell::ask(tools::command("readelf").arg("-ldW").arg(&file))
            .with_context(|| format!("{} is no program", file.display()))?;
        let (needed, loader) = needs(&headers);
        let places = library_places(root);
        for name in needed {
            let path = places
                .iter()
                .map(|place| place.join(name))
                .find(|path| root.join(path).exists())
                .with_context(|| format!("{program} needs {name}, which the root lacks"))?;
            if found.insert(path.clone()) {
                open.push(path);
            }
        }
        found.extend(loader.map(|path| PathBuf::from(path.trim_start_matches('/'))));
    }
    Ok(found)
}

/// The libraries that `readelf -ld` names, and the loader.
fn needs(headers: &str) -> (Vec<&str>, Option<&str>) {
    let bracketed =
        |line: &'_ str| -> Option<(usize, usize)> { Some((line.find('[')? + 1, line.rfind(']')?)) };
    let needed = headers.lines().filter(|line| line.contains("(NEEDED)"));
    let needed = needed.filter_map(|line| bracketed(line).map(|(from, to)| &line[from..to]));
    let loader = headers.lines().find_map(|line| {
        let (_, path) = line.split_once("interpreter: ")?;
        path.split(']').next()
    });
    (needed.collect(), loader)
}

fn library_places(root: &Path) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for entry in std::fs::read_dir(root.join("usr/lib")).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with("-linux-gnu") {
            places.push(Path::new("usr/lib").join(entry.file_name()));
        }
    }
    places.push(PathBuf::from("usr/lib"));
    places
}

/// Copies the wanted modules with what they depend on, and their index.
fn take_modules(tree: &Tree, folder: &Path) -> anyhow::Result<()> {
    let from = tree.root.join("usr/lib/modules").join(&tree.kernel);
    let to = folder.join("lib/modules").join(&tree.kernel);
    let index = std::fs::read_to_string(from.join("modules.dep")).context("modules.dep")?;
    let wanted: Vec<&str> = lines_of(MODULES).collect();
    let taken = closure(&index, &wanted);
    ensure!(!taken.is_empty(), "the kernel {} has none of the wanted modules", tree.kernel);
    for path in &taken {
        let target = to.join(path);
        std::fs::create_dir_all(target.parent().unwrap_or(&to))?;
        std::fs::copy(from.join(path), &target).with_context(|| path.clone())?;
    }
    for list in ["modules.builtin", "modules.order"] {
        std::fs::copy(from.join(list), to.join(list))?;
    }
    let mut depmod = tools::command("depmod");
    shell::run("index the initrd's modules", depmod.arg("-b").arg(folder).arg(&tree.kernel))
}

/// The paths of the wanted modules and of all that they need, by the kernel's own index.
fn closure(index: &str, wanted: &[&str]) -> BTreeSet<String> {
    let mut by_name = BTreeMap::new();
    for line in index.lines() {
        if let Some((path, needs)) = line.split_once(':') {
            by_name.insert(module_name(path), (path, needs));
        }
    }
    let mut taken = BTreeSet::new();
    for name in wanted {
        if let Some((path, needs)) = by_name.get(&module_name(name)) {
            taken.insert((*path).to_owned());
            taken.extend(needs.split_whitespace().map(str::to_owned));
        }
    }
    taken
}

/// `kernel/x/dm-mod.ko` and `dm_mod` are the same module.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

fn archive(folder: &Path, to: &Path) -> anyhow::Result<()> {
    let script = "find . -print0 | LC_ALL=C sort -z | xargs -0 touch --no-dereference --date=@0; \
                  find . -print0 | LC_ALL=C sort -z | \
                  cpio --null --quiet --create --format=newc --reproducible --owner=+0:+0 | zstd -q -12 -T1";
    let file = std::fs::File::create(to).with_context(|| format!("{} not made", to.display()))?;
    let mut command = tools::command("sh");
    command.args(["-ec", script]).current_dir(folder).stdout(Stdio::from(file));
    shell::run("pack the initrd", &mut command)?;
    if std::fs::metadata(to)?.len() < 100_000 {
        bail!("the initrd {} is empty", to.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_with_everything_they_need() {
        let index = "kernel/a/dm-verity.ko: kernel/a/dm-bufio.ko kernel/a/dm-mod.ko\n\
                     kernel/a/dm-bufio.ko: kernel/a/dm-mod.ko\nkernel/a/dm-mod.ko:\nkernel/b/snd.ko:\n";
        let taken = closure(index, &["dm_verity", "not_there"]);
        let taken: Vec<&str> = taken.iter().map(String::as_str).collect();
        assert_eq!(taken, ["kernel/a/dm-bufio.ko", "kernel/a/dm-mod.ko", "kernel/a/dm-verity.ko"]);
    }

    #[test]
    fn libraries_and_the_loader_are_read_from_headers() {
        let headers = "      [Requesting program interpreter: /lib64/ld-linux-x86-64.so.2]\n \
                       0x0000000000000001 (NEEDED)  Shared library: [libc.so.6]\n";
        assert_eq!(needs(headers), (vec!["libc.so.6"], Some("/lib64/ld-linux-x86-64.so.2")));
    }

    #[test]
    fn lists_reach_busybox_without_comments_and_the_script_whole() {
        assert_eq!(lines_without_comments("modules", "# why\na\n\nb\n"), "a\nb\n");
        assert!(lines_without_comments("init", INIT).starts_with("#!/bin/sh\n#"));
    }
}
