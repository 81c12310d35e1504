//! The hash of what a part of a release is made of, so that it is made again when one of it changed.
//!
//! # Invariants
//! - The hash depends on paths and contents alone: not on times, owners, or the order in which a
//!   directory is read.
//! - A file that cannot be read is an error: it must not look like one that is not there.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The hash of these files and folders below `root`, in hexadecimal.
pub(super) fn hash(root: &Path, inputs: &[&str]) -> anyhow::Result<String> {
    let mut files = Vec::new();
    for input in inputs {
        collect(&root.join(input), &mut files)?;
    }
    files.sort_unstable();
    files.dedup();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let content = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy();
        for part in [name.as_bytes(), &content] {
            // With its length, so that nothing can move from one file into the next.
            hasher.update(&u64::try_from(part.len())?.to_le_bytes());
            hasher.update(part);
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let context = || format!("look at {}", path.display());
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(context),
    };
    if kind.is_file() {
        files.push(path.to_owned());
    } else if kind.is_dir() {
        for entry in std::fs::read_dir(path).with_context(context)? {
            collect(&entry?.path(), files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_a_moved_byte_and_a_new_name_each_give_another_hash() {
        let made_of = |files: &[(&str, &str)]| {
            let directory = tempfile::tempdir().unwrap();
            for (name, content) in files {
                let path = directory.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
            hash(directory.path(), &["image", "absent"]).unwrap()
        };
        let first = made_of(&[("image/a", "12"), ("image/b", "3"), ("other", "x")]);
        assert_eq!(first, made_of(&[("image/b", "3"), ("image/a", "12"), ("other", "y")]));
        assert_ne!(first, made_of(&[("image/b", "3"), ("image/a", "12"), ("image/x/c", "4")]));
        assert_ne!(first, made_of(&[("image/a", "12"), ("image/b", "4")]));
        assert_ne!(first, made_of(&[("image/a", "1"), ("image/b", "23")]));
        assert_ne!(first, made_of(&[("image/a", "12"), ("image/c", "3")]));
        assert_ne!(first, made_of(&[("image/a", "12"), ("image/b", "3"), ("image/c", "")]));
    }
}
