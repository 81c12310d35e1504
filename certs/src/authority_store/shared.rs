//! A folder that several processes change.
//!
//! # Invariants
//! - A file is replaced whole. Whoever changes anything holds the lock while it reads and writes.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::disk::{io_at, steps, write_file};
use crate::generations::StoreError;
use crate::owner::adopt;

const LOCK: &str = ".lock";

/// A change takes some fsyncs; a disk that needs longer is broken.
const LOCK_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let mut before = |_| Ok(());
    write_file(path, content, &mut steps(&mut before))
}

/// Waits for other processes that change the folder, but not for ever.
pub(super) fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(io_at("open", &path))?;
    adopt(&path, dir);
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WITHIN => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Busy { dir: dir.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(io_at("lock", &path)(error)),
        }
    }
}
