//! Writing files of a gateway where they belong, for whoever owns the place.
//!
//! # Invariants
//! - A file is written under another name, synced, and renamed: what is read is whole.
//! - What is made is its owner's alone, and belongs to the owner of the folder that it is made in.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::Path;

/// Writes a file with all folders above it.
pub(crate) fn place(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = made_folder_of(path)?;
    let draft = draft_of(path);
    let _ = fs::remove_file(&draft);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        adopt(&draft, folder);
        fs::rename(&draft, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written?;
    File::open(folder)?.sync_all()
}

/// Makes a link with all folders above it.
pub(crate) fn place_link(path: &Path, target: &str) -> io::Result<()> {
    let folder = made_folder_of(path)?;
    let draft = draft_of(path);
    let _ = fs::remove_file(&draft);
    std::os::unix::fs::symlink(target, &draft)?;
    fs::rename(&draft, path)?;
    File::open(folder)?.sync_all()
}

/// Writes a file that must not be there yet, for its owner alone.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

fn draft_of(path: &Path) -> std::path::PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".restored");
    path.with_file_name(name)
}

fn made_folder_of(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    make(folder)?;
    Ok(folder)
}

fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().ok_or(io::ErrorKind::NotFound)?;
    make(above)?;
    DirBuilder::new().mode(0o700).create(folder)?;
    adopt(folder, above);
    Ok(())
}

/// Only root can give; what anybody else makes is theirs as the folder is.
fn adopt(path: &Path, folder: &Path) {
    let Ok(owner) = fs::metadata(folder) else { return };
    let _ = chown(path, Some(owner.uid()), Some(owner.gid()));
}
