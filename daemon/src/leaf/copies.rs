//! The certificate files of a leaf that is a service of its own: copies in its folder.
//!
//! # Invariants
//! - A copy's name is a digest of all three contents: what is there under a name never changes, and
//!   a certificate never meets the key of another one.
//! - They are readable through the folder's group, which is the service's; no folder is made here,
//!   since only the one that is there has that group.
//! - A key that the server does not use any more is removed once it said so.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::config::LeafPlan;
use super::credentials::{FileError, GROUP, write_whole};
use crate::config::TlsFiles;

/// How the names begin.
const PREFIX: &str = "tls-";

/// A short digest of what comes one after the other.
pub(super) fn digest<'b>(parts: impl IntoIterator<Item = &'b [u8]>) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().chars().take(32).collect()
}

/// Makes copies of the plan's files, where they are not there yet, and names those in the plan.
pub(super) fn make(plan: &mut LeafPlan, dir: &Path) -> Result<(), FileError> {
    let Some(files) = plan.hub.as_mut().and_then(|hub| hub.tls.as_mut()) else { return Ok(()) };
    let contents = [read(&files.ca)?, read(&files.cert)?, read(&files.key)?];
    let digest = digest(contents.iter().map(|content| content.as_slice()));
    let path = |word: &str| dir.join(format!("{PREFIX}{digest}-{word}.pem"));
    *files = TlsFiles { ca: path("ca"), cert: path("cert"), key: path("key") };
    for (path, content) in [&files.ca, &files.cert, &files.key].into_iter().zip(&contents) {
        if !path.exists() {
            write_whole(path, content, GROUP)?;
        }
    }
    Ok(())
}

/// Removes all copies but these.
pub(super) fn keep_only(files: Option<&TlsFiles>, dir: &Path) {
    let kept = files.map(|files| [&files.ca, &files.cert, &files.key]);
    let is_kept = |path: &PathBuf| kept.is_some_and(|kept| kept.contains(&path));
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(PREFIX) && !is_kept(&path) {
            // What cannot be removed now is tried again next time.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|source| FileError::Tls { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn tls(dir: &Path, generation: &str) -> TlsFiles {
        let path = |word: &str| dir.join(format!("{generation}.{word}"));
        let files = TlsFiles { ca: path("ca"), cert: path("cert"), key: path("key") };
        for (path, content) in [(&files.ca, "ca"), (&files.cert, "cert"), (&files.key, generation)]
        {
            std::fs::write(path, content).unwrap();
        }
        files
    }

    fn copy(files: &TlsFiles, dir: &Path) -> Result<TlsFiles, FileError> {
        let mut plan = super::super::config::plan_with(files.clone());
        make(&mut plan, dir)?;
        Ok(plan.hub.unwrap().tls.unwrap())
    }

    #[test]
    fn copies_are_for_the_group_and_a_change_of_one_file_gives_others() {
        let (identity, leaf) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (first, second) = (tls(identity.path(), "1"), tls(identity.path(), "2"));
        let one = copy(&first, leaf.path()).unwrap();
        assert_eq!(copy(&first, leaf.path()).unwrap(), one);
        let two = copy(&second, leaf.path()).unwrap();
        assert_eq!(std::fs::read(&two.key).unwrap(), b"2");
        assert!(one.cert != two.cert && one.cert.exists(), "certificate and key stay together");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&two.key), 0o640);
        keep_only(Some(&two), leaf.path());
        let left = std::fs::read_dir(leaf.path()).unwrap().count();
        assert!(left == 3 && two.key.exists());
        keep_only(None, leaf.path());
        assert_eq!(std::fs::read_dir(leaf.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let files = tls(dir.path(), "1");
        std::fs::remove_file(&files.key).unwrap();
        let error = copy(&files, dir.path()).unwrap_err().to_string();
        assert!(error.contains("1.key") && error.contains("[hub] tls"), "{error}");
    }
}
