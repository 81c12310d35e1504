//! What can go wrong, per operation.

use std::io;

use crate::Epoch;

/// The storage refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {object} in journal {place}")]
pub struct StorageError {
    /// What was tried, such as `write`.
    pub action: &'static str,
    /// The file, or `the directory`.
    pub object: String,
    /// The journal's directory.
    pub place: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl StorageError {
    /// Whether room is missing, so that the same works once there is some.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Why a journal cannot be opened. Nothing on the disk was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("journal {place} is in use by another process; stop it, or set another journal.dir")]
    Locked {
        /// The journal's directory.
        place: String,
    },
    /// Not allowed.
    #[error("no permission for journal {place}; make it owned by the user that runs this process")]
    Denied {
        /// The journal's directory.
        place: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The directory is another gateway's.
    #[error(
        "journal {place} belongs to gateway {found}, this is {expected}; \
         set another journal.dir, or move that journal away"
    )]
    Foreign {
        /// The journal's directory.
        place: String,
        /// `PLANT/NAME` in the journal.
        found: String,
        /// `PLANT/NAME` of this gateway.
        expected: String,
    },
    /// Written by a later version.
    #[error(
        "{object} in journal {place} needs a reader of version {needs}, this one is version \
         {version}; install the newer release again",
        version = crate::frame::FORMAT_VERSION
    )]
    NeedsNewer {
        /// The journal's directory.
        place: String,
        /// The file.
        object: String,
        /// The lowest version that can read it.
        needs: u8,
    },
    /// The settings cannot work.
    #[error("journal setting {setting} is {value} bytes; {legal}")]
    Settings {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: u64,
        /// What would be legal.
        legal: String,
    },
    /// The storage failed.
    #[error("journal cannot be opened")]
    Storage(#[from] StorageError),
    /// The first frames of an epoch could not be written.
    #[error("journal cannot begin an epoch")]
    Begin(#[source] WriteError),
}

/// Why something was not made durable.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// `max_bytes` is used up and nothing may be dropped, or the disk leaves no headroom. Nothing
    /// was taken; it works again once frames are delivered or room is made.
    #[error(
        "journal {place} is full: {used} of {max} bytes in use, {free} bytes free on the disk; \
         free some space, or raise journal.max-bytes"
    )]
    Full {
        /// The journal's directory.
        place: String,
        /// Bytes of all its files.
        used: u64,
        /// The most it may take.
        max: u64,
        /// Free bytes of the file system.
        free: u64,
    },
    /// The frame is too large and must be split.
    #[error("frame of {length} bytes is larger than {limit}")]
    TooLarge {
        /// What it would take.
        length: usize,
        /// The largest.
        limit: usize,
    },
    /// The storage failed. What was pending is still pending, the commit can be tried again.
    #[error("journal cannot be written")]
    Storage(#[from] StorageError),
    /// An earlier failure left it unknown what the directory holds: reopen.
    #[error("journal {place} must be reopened after a failure of its directory")]
    NeedsReopen {
        /// The journal's directory.
        place: String,
    },
    /// The old frames that must be carried over or folded cannot be read.
    #[error("journal cannot read what it must keep")]
    Read(#[from] ReadError),
}

/// Why frames could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The storage failed.
    #[error("journal cannot be read")]
    Storage(#[from] StorageError),
    /// Written by a later version.
    #[error("frame after {frame} of epoch {epoch} needs a reader of version {needs}")]
    NeedsNewer {
        /// The epoch.
        epoch: Epoch,
        /// The last frame that can be read, plus one.
        frame: u64,
        /// The lowest version that can read it.
        needs: u8,
    },
    /// This journal never had the epoch, or keeps nothing of it.
    #[error("journal keeps nothing of epoch {epoch}")]
    UnknownEpoch {
        /// The epoch.
        epoch: Epoch,
    },
    /// The segment changes under the reader; try again.
    #[error("frame {frame} of epoch {epoch} cannot be read at the moment")]
    Unsettled {
        /// The epoch.
        epoch: Epoch,
        /// The frame.
        frame: u64,
    },
}

/// Why a sidecar was not kept. Questions are answered all the same, by reading the segment.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The directory is only looked at, or the journal keeps none.
    #[error("sidecars are not written here")]
    ReadOnly,
    /// More may come into the segment, or it is not kept any more.
    #[error("segment {segment} is not sealed, or not kept")]
    NotSealed {
        /// Its number.
        segment: u64,
    },
    /// More than a sidecar may have.
    #[error("sidecar of {length} bytes is larger than {limit}")]
    TooLarge {
        /// Its length.
        length: usize,
        /// The largest.
        limit: u64,
    },
    /// It would not fit the journal's limits.
    #[error("no room for a sidecar of {bytes} bytes beside the segments")]
    NoRoom {
        /// What it would take.
        bytes: u64,
    },
    /// The storage failed.
    #[error("sidecar cannot be written")]
    Storage(#[from] StorageError),
}

/// Why a position cannot be acknowledged or returned to.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    /// The journal holds no such frame yet.
    #[error("frame {frame} of epoch {epoch} is not in the journal, which ends before {end}")]
    Beyond {
        /// The epoch.
        epoch: Epoch,
        /// The frame that was named.
        frame: u64,
        /// The number of the next frame.
        end: u64,
    },
    /// The journal does not know the epoch.
    #[error("journal keeps nothing of epoch {epoch}")]
    UnknownEpoch {
        /// The epoch.
        epoch: Epoch,
    },
    /// The destination's bytes do not fit the cursor.
    #[error("destination of {length} bytes is larger than {limit}")]
    Destination {
        /// Its length.
        length: usize,
        /// The largest.
        limit: usize,
    },
    /// The cursor could not be made durable.
    #[error("cursor cannot be written")]
    Storage(#[from] StorageError),
}
