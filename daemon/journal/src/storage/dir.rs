//! A real directory.
//!
//! # Invariants
//! - A segment's blocks are reserved by `fallocate` when it is made, so a later commit meets a full
//!   disk only on file systems that cannot reserve.
//! - What opens a file has a reserve of descriptors.
//! - Dropping the lock guard, or the death of the process, frees the directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Advice, FallocateFlags};

use super::reserve::Reserve;
use super::{Storage, StoredFile};

/// The file whose lock says that the directory is in use.
const LOCK: &str = "lock";
/// A sync that changes reserved blocks into written ones costs ext4 about 12 KiB of its own journal
/// (measured 2026-11). Up to this size of a write it is cheaper to write the blocks ahead once.
const SMALL_WRITE: u64 = 8 << 10;
/// How much is written ahead at a time: 16 small commits or more share one such change.
const AHEAD_BYTES: u64 = 128 << 10;

/// A directory of the local file system.
#[derive(Debug)]
pub struct DirStorage {
    path: PathBuf,
    reserve: Reserve,
}

impl DirStorage {
    /// The directory at `path`, made with mode 0750 when it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(path: impl AsRef<Path>) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = path.as_ref().to_owned();
        fs::DirBuilder::new().recursive(true).mode(0o750).create(&path)?;
        Ok(Self { reserve: Reserve::of(&path), path })
    }

    /// The directory at `path`, which must be there.
    ///
    /// # Errors
    /// When it is not there, or is no directory.
    pub fn existing(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        if !fs::metadata(&path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { reserve: Reserve::of(&path), path })
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        // Readings may be confidential: nobody outside the group reads them.
        options.read(true).write(true).mode(0o640);
        options
    }
}

impl Storage for DirStorage {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.reserve.run(|| fs::read_dir(&self.path))? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StoredFile>> {
        let path = self.path.join(name);
        let open = || Self::options().create(true).truncate(true).open(&path);
        let file = self.reserve.run(open)?;
        let reserved = match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // Some file systems cannot reserve; there a full disk shows at the commit instead.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(bytes),
            other => other.map_err(io::Error::from),
        };
        if let Err(error) = reserved {
            // A half-reserved file would only take the room that is missing.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(Arc::new(DirFile { file, reached: Some(AtomicU64::new(0)) }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        let path = self.path.join(name);
        match self.reserve.run(|| Self::options().open(&path)) {
            Ok(file) => Ok(Arc::new(DirFile { file, reached: None })),
            // Reading must work where writing does not; a write then says why.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
                ) =>
            {
                let file = self.reserve.run(|| File::open(&path))?;
                Ok(Arc::new(DirFile { file, reached: None }))
            }
            Err(error) => Err(error),
        }
    }

    fn announce(&self, name: &str, bytes: u64) {
        if let Ok(file) = File::open(self.path.join(name)) {
            // What the kernel has begun to fetch stays when the file is closed.
            let _ = rustix::fs::fadvise(&file, 0, NonZeroU64::new(bytes), Advice::WillNeed);
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.reserve.run(|| File::open(&self.path))?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let file = Self::options().create(true).truncate(false).open(self.path.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

struct DirFile {
    file: File,
    /// In a file that was made by this process: up to where it has been written, for the first
    /// time ever.
    reached: Option<AtomicU64>,
}

impl DirFile {
    /// Writes zeros, which is what the file reads as already, ahead of small first writes.
    fn go_ahead(&self, length: u64, end: u64) {
        let Some(reached) = &self.reached else { return };
        if end <= reached.load(Ordering::Relaxed) {
            return;
        }
        reached.store(end, Ordering::Relaxed);
        let size = self.file.metadata().map_or(0, |metadata| metadata.len());
        let until = end.saturating_add(AHEAD_BYTES).min(size);
        if length > SMALL_WRITE || until <= end {
            return;
        }
        let zeros = vec![0; usize::try_from(until - end).unwrap_or(0)];
        // Only wear is at stake; a device that fails says so at the sync.
        if self.file.write_all_at(&zeros, end).is_ok() {
            reached.store(until, Ordering::Relaxed);
        }
    }
}

impl StoredFile for DirFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            let at = offset.saturating_add(done as u64);
            match self.file.read_at(&mut into[done..], at) {
                Ok(0) => break,
                Ok(got) => done += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        let length = bytes.len() as u64;
        self.go_ahead(length, offset.saturating_add(length));
        Ok(())
    }

    fn settle(&self) -> io::Result<()> {
        let synced = self.file.sync_data();
        // After a failed writeback the kernel keeps the pages and calls them clean. Without this
        // they would read as if they were on the disk.
        rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?;
        synced
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_go_ahead_of_small_first_writes_and_never_over_what_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let storage = DirStorage::new(directory.path()).unwrap();
        let file = storage.create("a", 1 << 20).unwrap();
        let block = |byte: u8| vec![byte; 4096];
        let large = vec![3; 300 << 10];
        file.write_at(&block(1), 4096).unwrap();
        file.write_at(&block(2), 8192).unwrap();
        file.write_at(&large, 12288).unwrap();
        // Behind the end, and before it: neither may touch what lies between.
        file.write_at(&block(4), 12288 + (300 << 10)).unwrap();
        file.write_at(&block(5), 0).unwrap();
        let mut found = vec![9; 1 << 20];
        assert_eq!(file.read_at(&mut found, 0).unwrap(), 1 << 20);
        let written = [block(5), block(1), block(2), large, block(4)].concat();
        assert!(found[..written.len()] == written);
        assert!(found[written.len()..].iter().all(|byte| *byte == 0));
        assert_eq!(file.size().unwrap(), 1 << 20, "a file never grows by it");
    }
}
