//! A lock on a folder that several processes change.
//!
//! # Invariants
//! - It ends with the file that holds it, so a process that dies leaves none behind.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::owner::adopt;

/// The lock's name in its folder.
pub(crate) const NAME: &str = ".lock";

/// How often a lock that somebody holds is tried again.
const LOOK: Duration = Duration::from_millis(5);

/// Opens the lock of a folder, at `path` in it, making it if need be. Nothing is held yet.
pub(crate) fn open(path: &Path, folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
    adopt(path, folder);
    Ok(file)
}

/// Takes the lock; `false` when another process still holds it after so long.
pub(crate) fn take(file: &File, within: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if begun.elapsed() < within => std::thread::sleep(LOOK),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}
