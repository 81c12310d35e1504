//! The same program a second time, from a copy of the sources in another directory.
//!
//! # Invariants
//! - The copy has exactly the files that git has or would take, and shares only the fetched
//!   crates with the first build: by a link, so that even their path differs.
//! - Equal means byte by byte.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::build::Place;
use crate::arch::Arch;
use crate::shell;
use crate::workspace::Workspace;

/// Another place to build in, with all that the first has, below the target directory.
pub(crate) fn another(workspace: &Workspace, arch: Arch, first: &Place) -> anyhow::Result<Place> {
    let all = folder(workspace, arch);
    let place = Place {
        root: all.join("elsewhere").join("sources"),
        target: all.join("built"),
        cargo_home: all.join("home"),
    };
    let _ = std::fs::remove_dir_all(&place.root);
    for file in files(&workspace.root)? {
        let (from, to) = (workspace.root.join(&file), place.root.join(&file));
        // Removed from the working tree, not yet from git.
        if !from.exists() {
            continue;
        }
        let folder = to.parent().context("a file lies in a folder")?;
        std::fs::create_dir_all(folder)?;
        std::fs::copy(&from, &to)
            .with_context(|| format!("{} could not be copied", from.display()))?;
    }
    std::fs::create_dir_all(&place.cargo_home)?;
    let link = place.cargo_home.join("registry");
    if !link.exists() {
        std::os::unix::fs::symlink(first.cargo_home.join("registry"), &link)?;
    }
    Ok(place)
}

/// Gives back the room that the second build took.
pub(crate) fn clear(workspace: &Workspace, arch: Arch) {
    // What is left costs disk space alone.
    let _ = std::fs::remove_dir_all(folder(workspace, arch));
}

fn folder(workspace: &Workspace, arch: Arch) -> PathBuf {
    workspace.target.join("cross-again").join(arch.word())
}

fn files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
    let listed = shell::ask(&mut git).unwrap_or_default();
    if listed.is_empty() {
        bail!("git lists no files in {}; the comparison needs a checkout", root.display());
    }
    Ok(listed.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}

/// Where two files differ first; `None` where they do not.
pub(crate) fn difference(first: &[u8], second: &[u8]) -> Option<String> {
    if first == second {
        return None;
    }
    let at = first.iter().zip(second).position(|(a, b)| a != b);
    let differing = first.iter().zip(second).filter(|(a, b)| a != b).count();
    Some(match at {
        Some(at) => format!(
            "{} and {} bytes, {differing} of them differ, first at {at:#x}",
            first.len(),
            second.len()
        ),
        None => format!("{} and {} bytes, one begins as the other", first.len(), second.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_differs_is_told() {
        assert_eq!(difference(b"same", b"same"), None);
        let told = difference(b"same", b"sane").unwrap();
        assert_eq!(told, "4 and 4 bytes, 1 of them differ, first at 0x2");
        let told = difference(b"same", b"same.").unwrap();
        assert_eq!(told, "4 and 5 bytes, one begins as the other");
    }
}
