//! Making a gateway as new: what is in its folders goes, keys overwritten first.
//!
//! # Invariants
//! - No link is followed, and nothing outside of the given folders is touched.
//! - Every small file is overwritten before it goes: keys, tokens and passwords are small, whatever
//!   they are called. Flash may keep old blocks: what makes a key worthless is its revocation.
//! - The folders themselves and those directly in them stay, with their owners: they are the
//!   package's.
//! - Whoever calls it does so before the daemon starts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Files up to here are overwritten, in bytes. Segments of the journal are larger and hold no keys.
const SMALL: u64 = 1 << 20;

/// What was done.
#[derive(Debug, Default)]
pub struct Erased {
    /// Files that are gone.
    pub files: u64,
    /// What could not be removed, and why.
    pub left: Vec<(PathBuf, io::Error)>,
}

impl Erased {
    fn note(&mut self, path: &Path, done: io::Result<()>) -> bool {
        match done {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => {
                self.left.push((path.to_owned(), error));
                false
            }
        }
    }
}

/// Empties a folder, but leaves the entry `except` at its top. One that is not there is empty.
pub fn empty(folder: &Path, except: Option<&str>, erased: &mut Erased) {
    each(folder, erased, |path, kind, erased| {
        if except.is_some_and(|name| path.file_name().is_some_and(|own| own == name)) {
            return;
        }
        if kind.is_dir() {
            each(path, erased, remove);
        } else {
            remove(path, kind, erased);
        }
    });
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

fn each(folder: &Path, erased: &mut Erased, act: impl Fn(&Path, fs::FileType, &mut Erased) + Copy) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            erased.note(folder, Err(error));
            return;
        }
    };
    for entry in entries {
        match entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) {
            Ok((path, kind)) => act(&path, kind, erased),
            Err(error) => {
                erased.note(folder, Err(error));
            }
        }
    }
}

/// Removes an entry with all that is in it.
fn remove(path: &Path, kind: fs::FileType, erased: &mut Erased) {
    if kind.is_dir() {
        each(path, erased, remove);
        erased.note(path, fs::remove_dir(path));
        return;
    }
    if kind.is_file() {
        let overwritten = overwrite(path);
        erased.note(path, overwritten);
    }
    if erased.note(path, fs::remove_file(path)) {
        erased.files += 1;
    }
}

/// Writes zeros over a small file.
fn overwrite(path: &Path) -> io::Result<()> {
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let length = fs::symlink_metadata(path)?.len();
    if length > SMALL {
        return Ok(());
    }
    let mut file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
    io::copy(&mut io::repeat(0).take(length), &mut file)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn everything_goes_but_the_folders_of_the_package_and_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir_all(data.join("identity/gen-1")).unwrap();
        fs::create_dir_all(data.join("journal")).unwrap();
        fs::write(data.join("identity/gen-1/key.pem"), "key").unwrap();
        fs::hard_link(data.join("identity/gen-1/key.pem"), dir.path().join("twin")).unwrap();
        fs::write(data.join("journal/1.seg"), vec![b'x'; (1 << 20) + 1]).unwrap();
        fs::write(data.join("state"), "x").unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        symlink(&outside, data.join("link")).unwrap();
        symlink(outside.join("file"), data.join("identity/link")).unwrap();
        fs::create_dir(data.join("kept")).unwrap();
        fs::write(data.join("kept/request"), "x").unwrap();

        let mut erased = Erased::default();
        empty(&data, Some("kept"), &mut erased);
        assert!(erased.left.is_empty(), "{:?}", erased.left);
        assert_eq!(erased.files, 5);
        let mut names: Vec<_> =
            fs::read_dir(&data).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["identity", "journal", "kept"]);
        assert_eq!(fs::read_dir(data.join("identity")).unwrap().count(), 0);
        assert_eq!(fs::read(dir.path().join("twin")).unwrap(), [0; 3]);
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "kept");
        assert!(data.join("kept/request").exists());
        empty(&dir.path().join("nothing"), None, &mut erased);
        assert!(erased.left.is_empty());
    }
}
