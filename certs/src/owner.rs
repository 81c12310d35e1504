//! Whose files are.
//!
//! People call the command line as root; what it writes must be readable for the daemon, which is
//! another user. So new entries are given to the owner of the folder that they are made in.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::Path;

/// Gives `path` to the owner of `folder`. Only root can; for anybody else there is nothing to do,
/// because what they make is theirs as the folder is, so a refusal is no error.
pub(crate) fn adopt(path: &Path, folder: &Path) {
    let (Ok(own), Ok(wanted)) = (fs::symlink_metadata(path), fs::metadata(folder)) else {
        return;
    };
    if (own.uid(), own.gid()) != (wanted.uid(), wanted.gid()) {
        let _ = chown(path, Some(wanted.uid()), Some(wanted.gid()));
    }
}

/// Makes a folder with everything above it, for its owner alone, each level the property of
/// whoever owns the one above.
///
/// # Errors
/// When a level can neither be made nor is there.
pub(crate) fn make_folder(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        make_folder(above)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {
            adopt(dir, above.unwrap_or(Path::new(".")));
            Ok(())
        }
        // Another process was faster.
        Err(_) if dir.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}
