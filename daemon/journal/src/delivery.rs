//! What the hub has: acknowledging, rewinding, the cursor.
//!
//! # Invariants
//! - An acknowledgement costs no I/O; the cursor is durable before anything is dropped on its word.
//! - A rewind is durable when it returns: it takes back a promise.

use crate::cursor::{CURSOR, MAX_DESTINATION_BYTES};
use crate::error::CursorError;
use crate::journal::Journal;
use crate::report::{Delivered, Rewound};
use crate::{Epoch, Position};

impl Journal {
    /// Notes that the hub has everything up to and including `position`, and keeps `destination`
    /// with it. Lazy: it is durable after some more acknowledgements or commits, before anything
    /// is dropped on its word, and on [`Self::close`].
    ///
    /// # Errors
    /// When the frame is not in the journal, or `destination` is larger than 2048 bytes.
    pub fn acknowledge(
        &mut self,
        epoch: Epoch,
        position: Position,
        destination: &[u8],
    ) -> Result<(), CursorError> {
        check_size(destination)?;
        self.check_in_log(epoch, position.frame)?;
        self.name_holes_before_stepping_over();
        if self.cursor.epoch != epoch {
            self.cursor.accounted = 0;
        }
        self.cursor.epoch = epoch;
        self.cursor.acknowledged = Some(position);
        destination.clone_into(&mut self.cursor.destination);
        self.unsaved_acks = self.unsaved_acks.saturating_add(1);
        Ok(())
    }

    /// Keeps `destination` without an acknowledgement, as lazily: it is durable after some commits,
    /// before anything is dropped that the hub may not have, and on [`Self::close`].
    ///
    /// # Errors
    /// When it is larger than 2048 bytes.
    pub fn remember(&mut self, destination: &[u8]) -> Result<(), CursorError> {
        check_size(destination)?;
        destination.clone_into(&mut self.cursor.destination);
        self.unsaved_acks = self.unsaved_acks.max(1);
        Ok(())
    }

    fn check_in_log(&self, epoch: Epoch, frame: u64) -> Result<(), CursorError> {
        let span = self.shared.log().span(epoch);
        let (_, end) = span.ok_or(CursorError::UnknownEpoch { epoch })?;
        if frame >= end.frame {
            return Err(CursorError::Beyond { epoch, frame, end: end.frame });
        }
        Ok(())
    }

    /// What the hub has, as last acknowledged.
    #[must_use]
    pub fn delivered(&self) -> Delivered {
        Delivered {
            epoch: self.cursor.epoch,
            position: self.cursor.acknowledged,
            destination: self.cursor.destination.clone(),
        }
    }

    /// Takes back acknowledgements: the hub holds `last` as its last frame of this epoch, or
    /// nothing. Durable when it returns.
    ///
    /// # Errors
    /// When the journal does not know the epoch, or the cursor cannot be written.
    pub fn rewind(&mut self, epoch: Epoch, last: Option<Position>) -> Result<Rewound, CursorError> {
        let span = self.shared.log().span(epoch);
        let (first, end) = span.ok_or(CursorError::UnknownEpoch { epoch })?;
        let wanted = last.map_or(0, |last| last.frame.saturating_add(1));
        if wanted > end.frame {
            return Err(CursorError::Beyond { epoch, frame: wanted - 1, end: end.frame });
        }
        let resume = wanted.max(first.frame);
        self.cursor.epoch = epoch;
        self.cursor.acknowledged = last;
        self.cursor.accounted = self.cursor.accounted.min(resume);
        self.save_cursor()?;
        Ok(Rewound { resume, incomplete: resume > wanted })
    }

    /// Writes the cursor now.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub fn save_cursor(&mut self) -> Result<(), crate::StorageError> {
        self.cursor.tail = (self.epoch, self.durable);
        self.cursor_file
            .write(&*self.storage, &mut self.cursor)
            .map_err(|source| self.shared.storage_error("write", CURSOR, source))?;
        self.unsaved_acks = 0;
        self.commits_since_save = 0;
        Ok(())
    }
}

fn check_size(destination: &[u8]) -> Result<(), CursorError> {
    let (length, limit) = (destination.len(), MAX_DESTINATION_BYTES);
    if length > limit { Err(CursorError::Destination { length, limit }) } else { Ok(()) }
}
