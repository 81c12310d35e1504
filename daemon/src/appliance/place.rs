//! Putting files in place.
//!
//! # Invariants
//! - A file is written under another name, synced, and renamed; its folder is synced.
//! - The configuration and what belongs to it are root's, and readable for the daemon's group.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::Path;

use crate::observe::control;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Its owner alone.
    Root,
    /// The daemon as well.
    Daemon,
}

/// Writes a file, in the place of one that is there.
///
/// # Errors
/// When the disk refuses.
pub fn file(path: &Path, content: &[u8], whose: Whose) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let draft = path.with_file_name(name);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(content)?;
        if whose == Whose::Daemon
            && let Some(group) = control::group()
            // Only root can; elsewhere the file is for whoever calls.
            && chown(&draft, None, Some(group)).is_ok()
        {
            file.set_permissions(fs::Permissions::from_mode(0o640))?;
        }
        file.sync_all()?;
        fs::rename(&draft, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written?;
    File::open(folder)?.sync_all()
}

/// Makes a folder for its owner alone.
///
/// # Errors
/// When the disk refuses.
pub fn own_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes the folders below `home` that a file is in, each as readable as `home` is.
///
/// # Errors
/// When the disk refuses.
pub fn folders_of(path: &Path, home: &Path) -> io::Result<()> {
    let Some(folder) = path.parent().filter(|folder| *folder != home && !folder.is_dir()) else {
        return Ok(());
    };
    folders_of(folder, home)?;
    DirBuilder::new().mode(0o750).create(folder)?;
    if let Some(group) = control::group() {
        let _ = chown(folder, None, Some(group));
    }
    Ok(())
}
