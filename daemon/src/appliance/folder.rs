//! A folder that somebody else filled: a stick, a partition, credentials.
//!
//! # Invariants
//! - Nothing outside of the folder is read, written or destroyed through it: names have no `..`, and
//!   no link is followed at any level.
//! - Only regular files are read, within a size; opening never waits.
//! - A file is replaced whole, under a name of its own first.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use zeroize::Zeroizing;

/// Such a folder, held open.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens it; `None` where there is none.
    ///
    /// # Errors
    /// When there is one that cannot be opened.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path: path.to_owned() })),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    /// A file's bytes, wiped when dropped; `None` where there is none.
    ///
    /// # Errors
    /// When it is no regular file, longer than `most`, or cannot be read.
    pub fn read(&self, name: &Path, most: u64) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(file) = self.file(name, OFlags::RDONLY)? else { return Ok(None) };
        let length = file.metadata()?.len();
        if length > most {
            let text = format!("it has {length} bytes, and may have {most}");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        // One allocation, so that no part of a secret stays behind.
        let room = usize::try_from(length.saturating_add(1)).unwrap_or_default();
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        file.take(length).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Writes zeros over a file and removes it; whether there was one.
    ///
    /// # Errors
    /// When it cannot be written or removed.
    pub fn destroy(&self, name: &Path) -> io::Result<bool> {
        let Some(mut file) = self.file(name, OFlags::WRONLY)? else { return Ok(false) };
        let length = file.metadata()?.len();
        io::copy(&mut io::repeat(0).take(length), &mut file)?;
        file.sync_all()?;
        let (above, last) = self.above(name)?;
        let folder = above.as_ref().unwrap_or(&self.fd);
        rustix::fs::unlinkat(folder, last, AtFlags::empty())?;
        rustix::fs::fsync(folder)?;
        Ok(true)
    }

    /// Writes a file at the top, in the place of one that is there.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let draft = format!("{name}.new");
        match rustix::fs::unlinkat(&self.fd, &draft, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let mut file = File::from(rustix::fs::openat(&self.fd, &draft, flags, mode)?);
        file.write_all(content)?;
        file.sync_all()?;
        self.rename(&draft, name)
    }

    /// Gives a file at the top another name.
    ///
    /// # Errors
    /// When there is none, or the folder cannot be written.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        rustix::fs::renameat(&self.fd, from, &self.fd, to)?;
        rustix::fs::fsync(&self.fd)?;
        Ok(())
    }

    /// A regular file in it, opened; `None` where there is none.
    fn file(&self, name: &Path, how: OFlags) -> io::Result<Option<File>> {
        let (above, last) = match self.above(name) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened =
            rustix::fs::openat(above.as_ref().unwrap_or(&self.fd), last, flags, Mode::empty());
        let fd = match opened {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO | rustix::io::Errno::ISDIR) => {
                return Err(not_a_file());
            }
            Err(error) => return Err(error.into()),
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        if kind == FileType::RegularFile { Ok(Some(File::from(fd))) } else { Err(not_a_file()) }
    }

    /// The folder that a name is in, where that is not this one, and its last part.
    fn above<'a>(&self, name: &'a Path) -> io::Result<(Option<OwnedFd>, &'a OsStr)> {
        let mut parts = Vec::new();
        for part in name.components() {
            match part {
                Component::Normal(part) => parts.push(part),
                _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, OUTSIDE)),
            }
        }
        let last = parts.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let mut above: Option<OwnedFd> = None;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for part in parts {
            let from = above.as_ref().unwrap_or(&self.fd);
            match rustix::fs::openat(from, part, flags, Mode::empty()) {
                Ok(fd) => above = Some(fd),
                Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
                    return Err(io::ErrorKind::NotFound.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok((above, last))
    }
}

const OUTSIDE: &str = "the name leads out of the folder";

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("stick")).unwrap();
        let folder = Folder::open(&dir.path().join("stick")).unwrap().unwrap();
        (dir, folder)
    }

    fn read(folder: &Folder, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(folder.read(Path::new(name), 100)?.map(|bytes| bytes.to_vec()))
    }

    #[test]
    fn a_folder_that_is_not_there_is_no_folder_and_no_error() {
        let (dir, _) = folder();
        assert!(Folder::open(&dir.path().join("nothing")).unwrap().is_none());
        fs::write(dir.path().join("file"), "x").unwrap();
        assert!(Folder::open(&dir.path().join("file")).unwrap().is_none());
    }

    #[test]
    fn nothing_outside_of_it_is_reached_by_links_or_by_names() {
        let (dir, folder) = folder();
        let secret = dir.path().join("shadow");
        fs::write(&secret, "root's").unwrap();
        symlink(&secret, folder.path().join("provision.toml")).unwrap();
        symlink(dir.path(), folder.path().join("up")).unwrap();
        for name in ["provision.toml", "../shadow", "up/shadow", "/etc/passwd", "."] {
            let found = read(&folder, name);
            assert!(found.as_ref().is_err() || found.as_ref().is_ok_and(Option::is_none), "{name}");
            let destroyed = folder.destroy(Path::new(name));
            assert!(destroyed.is_err() || destroyed.is_ok_and(|gone| !gone), "{name}");
        }
        symlink(&secret, folder.path().join("tidegate-result.txt")).unwrap();
        symlink(&secret, folder.path().join("tidegate-result.txt.new")).unwrap();
        folder.write("tidegate-result.txt", b"applied").unwrap();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "root's");
        assert_eq!(read(&folder, "tidegate-result.txt").unwrap().unwrap(), b"applied");
    }

    #[test]
    fn a_pipe_is_refused_without_waiting_and_a_long_file_with_its_length() {
        let (_dir, folder) = folder();
        let pipe = folder.path().join("provision.toml");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let error = read(&folder, "provision.toml").unwrap_err();
        assert_eq!(error.to_string(), "it is no regular file");
        fs::write(folder.path().join("long"), [b'x'; 101]).unwrap();
        let error = read(&folder, "long").unwrap_err();
        assert_eq!(error.to_string(), "it has 101 bytes, and may have 100");
        assert_eq!(read(&folder, "none").unwrap(), None);
        assert_eq!(read(&folder, "none/below").unwrap(), None);
    }

    #[test]
    fn what_is_destroyed_was_overwritten_first() {
        let (_dir, folder) = folder();
        fs::create_dir(folder.path().join("keys")).unwrap();
        let path = folder.path().join("keys/gw.key");
        fs::write(&path, "secret").unwrap();
        let twin = folder.path().join("twin");
        fs::hard_link(&path, &twin).unwrap();
        assert!(folder.destroy(Path::new("keys/gw.key")).unwrap());
        assert!(!path.exists());
        assert_eq!(fs::read(&twin).unwrap(), [0; 6]);
        assert!(!folder.destroy(Path::new("keys/gw.key")).unwrap());
    }
}
