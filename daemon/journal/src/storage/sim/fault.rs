//! What can be made to fail on the simulated disk, and what was.

use std::io;
use std::ops::Range;

/// `EIO`; `std` has no kind for it.
const EIO: i32 = 5;

/// An operation that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Reading a file.
    Read,
    /// Writing a file.
    Write,
    /// Syncing a file.
    Sync,
    /// Syncing the directory.
    SyncDir,
    /// Making a file.
    Create,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
}

impl Op {
    const ALL: [Self; 7] = [
        Self::Read,
        Self::Write,
        Self::Sync,
        Self::SyncDir,
        Self::Create,
        Self::Rename,
        Self::Remove,
    ];

    pub(super) fn index(self) -> usize {
        Self::ALL.iter().position(|op| *op == self).unwrap_or(0)
    }
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The device refuses.
    Io,
    /// There is no room; of a write, the first block may be done.
    Full,
    /// The file system is mounted read-only.
    ReadOnly,
    /// The device refuses in the middle: of a write, the first block may be done.
    Short,
}

impl Fault {
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Io | Self::Short => io::Error::from_raw_os_error(EIO),
            Self::Full => io::ErrorKind::StorageFull.into(),
            Self::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
        }
    }
}

/// What was asked of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Operations that change something.
    pub operations: u64,
    /// File syncs.
    pub syncs: u64,
    /// Directory syncs.
    pub dir_syncs: u64,
    /// Bytes written.
    pub written: u64,
    /// Files made.
    pub created: u64,
    /// Operations that only look: reading a file, listing the directory.
    pub reads: u64,
    /// Operations that were refused on purpose, by their kind in the order of [`Op`].
    pub refused: [u64; 7],
}

impl Counters {
    /// Operations of this kind that were refused on purpose.
    #[must_use]
    pub fn refused(&self, op: Op) -> u64 {
        self.refused.get(op.index()).copied().unwrap_or(0)
    }
}

/// Operations that fail whatever they are, counted from 0 over the life of the disk.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) during: Range<u64>,
    pub(super) fault: Fault,
}
