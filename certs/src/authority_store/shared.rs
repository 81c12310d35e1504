//! A folder that several processes change.
//!
//! # Invariants
//! - A file is replaced whole. Whoever changes anything holds the lock while it reads and writes.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::disk::{io_at, steps, write_file};
use crate::generations::StoreError;
use crate::lock;

/// A change takes some fsyncs; a disk that needs longer is broken.
const LOCK_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let mut before = |_| Ok(());
    write_file(path, content, &mut steps(&mut before))
}

/// Waits for other processes that change the folder, but not for ever.
pub(super) fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(lock::NAME);
    let file = lock::open(&path, dir).map_err(io_at("open", &path))?;
    match lock::take(&file, LOCK_WITHIN).map_err(io_at("lock", &path))? {
        true => Ok(file),
        false => Err(StoreError::Busy { dir: dir.to_owned() }),
    }
}
