//! Handles of sealed segments, opened when they are read.
//!
//! # Invariants
//! - A journal of thousands of segments keeps few files open; a process has 1,024 by default.
//! - A handle is found by the segment's name, which is never given twice.
//! - No lock is held while a file is opened or read.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::{Storage, StoredFile};

/// Handles that stay open: one for the uplink, the rest for queries.
const KEPT_OPEN: usize = 8;

/// The handles that are open at the moment, the one used last at the end.
#[derive(Default)]
pub(crate) struct OpenFiles {
    files: Mutex<Vec<(String, Arc<dyn StoredFile>)>>,
}

impl OpenFiles {
    fn files(&self) -> MutexGuard<'_, Vec<(String, Arc<dyn StoredFile>)>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, name: &str) -> Option<Arc<dyn StoredFile>> {
        let mut files = self.files();
        let at = files.iter().position(|(open, _)| open == name)?;
        Some(files.remove(at).1)
    }

    fn keep(&self, name: &str, file: Arc<dyn StoredFile>) {
        let mut files = self.files();
        files.retain(|(open, _)| open != name);
        files.push((name.to_owned(), file));
        if files.len() > KEPT_OPEN {
            files.remove(0);
        }
    }
}

/// A file that is opened when it is used.
pub(crate) struct LazyFile {
    storage: Arc<dyn Storage>,
    open: Arc<OpenFiles>,
    name: String,
}

impl LazyFile {
    pub(crate) fn new(storage: &Arc<dyn Storage>, open: &Arc<OpenFiles>, name: &str) -> Self {
        Self { storage: Arc::clone(storage), open: Arc::clone(open), name: name.to_owned() }
    }

    fn with<T>(&self, operation: impl FnOnce(&dyn StoredFile) -> io::Result<T>) -> io::Result<T> {
        let file = match self.open.take(&self.name) {
            Some(file) => file,
            None => self.storage.open(&self.name)?,
        };
        self.open.keep(&self.name, Arc::clone(&file));
        operation(&*file)
    }
}

impl Drop for LazyFile {
    fn drop(&mut self) {
        self.open.take(&self.name);
    }
}

impl StoredFile for LazyFile {
    fn size(&self) -> io::Result<u64> {
        self.with(|file| file.size())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|file| file.read_at(into, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|file| file.write_at(bytes, offset))
    }

    fn settle(&self) -> io::Result<()> {
        self.with(|file| file.settle())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|file| file.sync_data())
    }
}
