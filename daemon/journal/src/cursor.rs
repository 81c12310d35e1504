//! How far the hub has acknowledged, kept in two slots of one file that are written in turn.
//!
//! # Invariants
//! - A slot is one block with its own checksum; a torn write spoils the slot being written and
//!   never the other.
//! - A slot that cannot be read takes nothing from the other. A file whose sync failed is replaced
//!   by one that is whole and durable before it gets the name.
//! - It is written lazily. An old cursor only means that frames are sent again, which the hub
//!   refuses as known; it is durable before anything is dropped on its word.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::scan::Hole;
use crate::segment::{BLOCK, BLOCK_OFFSET, HeaderFault, Tail, open_block, sealed_block};
use crate::storage::{Storage, StoredFile, read_up_to};
use crate::{Epoch, Position};

/// The file's name.
pub(crate) const CURSOR: &str = "cursor";
/// The name of one that is not durable yet.
pub(crate) const NEXT_CURSOR: &str = "cursor-next";
/// What a caller may keep with the cursor.
pub const MAX_DESTINATION_BYTES: usize = 2048;
/// Bridged holes that are remembered, so that a restart does not name them again.
pub(crate) const MAX_REMEMBERED_HOLES: usize = 32;

const MAGIC: [u8; 4] = *b"TGCU";

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Grows with each write; the slot with the larger one counts.
    pub generation: u64,
    pub plant: String,
    pub gateway: String,
    /// The epoch being delivered. Every epoch before it in the log is done with.
    pub epoch: Epoch,
    /// The last frame of it that the hub has.
    pub acknowledged: Option<Position>,
    /// Frames of it before this number are delivered or named by a bridge.
    pub accounted: u64,
    /// The epoch being written and where it ended when this was written.
    pub tail: (Epoch, Tail),
    /// The caller's.
    pub destination: Vec<u8>,
    /// Frames of an older epoch that are still being carried into the one being written.
    pub carry: Option<Carry>,
    /// Holes that have their bridge: epoch, first frame, number after the last.
    pub bridged: Vec<(Epoch, u64, u64)>,
    /// The last range that was dropped: the next one that is adjacent is named together with it.
    pub dropped: Option<Hole>,
}

/// Where a carry-over stands: every frame of the new epoch from `into` on is a carried one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Carry {
    /// The older epoch.
    pub epoch: Epoch,
    /// The first of its frames that is to be carried.
    pub from: u64,
    /// The number that it gets, or its first part gets.
    pub into: u64,
}

/// What was found in the file.
pub(crate) enum Found {
    /// No file, or nothing readable in it.
    Nothing,
    Record(Box<Record>),
    NeedsNewer(u8),
    /// The device gives neither slot.
    Unreadable(io::Error),
}

/// The open file.
pub(crate) struct CursorFile {
    file: Option<Arc<dyn StoredFile>>,
}

impl CursorFile {
    /// Opens the file if it is there and reads the newer slot.
    pub(crate) fn open(storage: &dyn Storage, present: bool) -> io::Result<(Self, Found)> {
        if !present {
            return Ok((Self { file: None }, Found::Nothing));
        }
        let file = storage.open(CURSOR)?;
        let mut found = Found::Nothing;
        let mut refused = Vec::new();
        for offset in [0, BLOCK_OFFSET] {
            let slot = match read_up_to(&*file, offset, BLOCK) {
                Ok(slot) => slot,
                Err(error) => {
                    refused.push(error);
                    continue;
                }
            };
            match (open_block::<Record>(MAGIC, &slot), &found) {
                (Err(HeaderFault::NeedsNewer(needs)), _) => found = Found::NeedsNewer(needs),
                (Ok(record), Found::Nothing) => found = Found::Record(Box::new(record)),
                (Ok(record), Found::Record(other)) if record.generation > other.generation => {
                    found = Found::Record(Box::new(record));
                }
                _ => {}
            }
        }
        match refused.pop() {
            // What cannot be read cannot be relied on to be written.
            Some(error) if !refused.is_empty() => {
                Ok((Self { file: None }, Found::Unreadable(error)))
            }
            _ => Ok((Self { file: Some(file) }, found)),
        }
    }

    /// Writes the next generation into the slot that does not hold the last one.
    pub(crate) fn write(&mut self, storage: &dyn Storage, record: &mut Record) -> io::Result<()> {
        let generation = record.generation.saturating_add(1);
        let next = Record { generation, ..record.clone() };
        let body = postcard::to_stdvec(&next).map_err(io::Error::other)?;
        let block = sealed_block(MAGIC, &body)
            .ok_or_else(|| io::Error::other("cursor record larger than its slot"))?;
        // Even after a failure the generation moves on: what a failed write left in its slot
        // must never be newer than what the other slot gets next.
        *record = next;
        let slot = (generation % 2) * BLOCK_OFFSET;
        let written = match &self.file {
            Some(file) => {
                file.write_at(&block, slot).and_then(|()| file.sync_data()).map(|()| None)
            }
            None => replace(storage, &block, slot).map(Some),
        };
        match written {
            Ok(None) => {}
            Ok(replaced) => self.file = replaced,
            Err(error) => {
                // A file whose sync failed is not trusted again.
                self.file = None;
                return Err(error);
            }
        }
        Ok(())
    }
}

/// What the old file says counts until the new one says more.
fn replace(storage: &dyn Storage, block: &[u8], slot: u64) -> io::Result<Arc<dyn StoredFile>> {
    let file = storage.create(NEXT_CURSOR, 2 * BLOCK_OFFSET)?;
    file.write_at(block, slot)?;
    file.sync_data()?;
    storage.rename(NEXT_CURSOR, CURSOR)?;
    storage.sync_dir()?;
    Ok(file)
}
