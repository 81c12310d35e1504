//! The seam between the journal and what it is stored on.
//!
//! # Invariants
//! - Nothing outside this module touches a file system.
//! - A write counts for nothing before [`StoredFile::sync_data`], a new or changed name for
//!   nothing before [`Storage::sync_dir`]. Implementations may lose both at a power cut.

use std::io;
use std::sync::Arc;

mod dir;
mod reserve;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

pub use dir::DirStorage;

/// One flat directory that belongs to the journal alone.
pub trait Storage: Send + Sync {
    /// Where this is, for messages.
    fn place(&self) -> String;

    /// The names in it, in no order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a file of this size whose blocks are reserved, replacing one of the same name.
    ///
    /// # Errors
    /// When there is no room or no permission.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StoredFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// When it is not there or not allowed.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>>;

    /// Says that the first bytes of a file are about to be read, so that a device answers for many
    /// files side by side. A hint: nothing depends on it.
    fn announce(&self, _name: &str, _bytes: u64) {}

    /// Gives a file another name, replacing what has that name.
    ///
    /// # Errors
    /// When the directory cannot be changed.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; open handles go on reading it.
    ///
    /// # Errors
    /// When the directory cannot be changed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable.
    ///
    /// # Errors
    /// When the device refuses; what was renamed may or may not last.
    fn sync_dir(&self) -> io::Result<()>;

    /// Bytes that an unprivileged process may still take.
    ///
    /// # Errors
    /// When the file system cannot be asked.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Takes the directory for this process until the guard is dropped.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another holds it.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;
}

/// One file, read and written at positions; shared between the writer and readers.
pub trait StoredFile: Send + Sync {
    /// Its size in bytes.
    ///
    /// # Errors
    /// When the file system cannot be asked.
    fn size(&self) -> io::Result<u64>;

    /// Reads as much of `into` as the file has at `offset`; fewer bytes only at the end.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// When the device cannot be written or is full; any part of it may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes durable what an earlier process may have left in the cache, and forgets the cache, so
    /// that what is read next is what a power cut would leave.
    ///
    /// # Errors
    /// When the sync fails; the cache is forgotten all the same.
    fn settle(&self) -> io::Result<()>;

    /// Makes everything written durable (`fdatasync`).
    ///
    /// # Errors
    /// After an error nothing written since the last success may be trusted in this file.
    fn sync_data(&self) -> io::Result<()>;
}

/// Reads exactly up to `bytes`, fewer at the end of the file.
pub(crate) fn read_up_to(file: &dyn StoredFile, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    let got = file.read_at(&mut buffer, offset)?;
    buffer.truncate(got);
    Ok(buffer)
}
