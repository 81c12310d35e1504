//! The journal and other stores behind one face: append at one end, read in order, drop at the
//! other.
//!
//! # Invariants
//! - Every store keeps the same bytes: what is a whole frame to the journal is one value to the
//!   others, so nobody is charged for less.
//! - `commit` returns when the store says that a power cut cannot take it any more.
//! - Caches of 64 MiB: what a gateway with 512 MiB of memory can spare.

mod ours;
mod redb;
mod sled;
mod sqlite;
mod unsynced;

use std::path::Path;

use anyhow::bail;

/// What is read at once: the largest message of the uplink's default.
pub const MESSAGE_BYTES: usize = 256 * 1024;
/// The cache that each store with a cache of its own gets.
pub const CACHE_BYTES: u64 = 64 << 20;

/// A store of numbered records.
pub trait Store {
    /// Takes a record.
    ///
    /// # Errors
    /// When the store refuses.
    fn append(&mut self, record: &[u8]) -> anyhow::Result<()>;

    /// Makes everything appended and everything dropped durable.
    ///
    /// # Errors
    /// When it is not durable.
    fn commit(&mut self) -> anyhow::Result<()>;

    /// Shows the next records, about [`MESSAGE_BYTES`] of them, from the oldest on; `false` after
    /// the last.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read(&mut self, visit: &mut dyn FnMut(&[u8])) -> anyhow::Result<bool>;

    /// Lets everything go that was read so far.
    ///
    /// # Errors
    /// When the store refuses.
    fn delivered(&mut self) -> anyhow::Result<()>;
}

/// The stores by name.
pub const STORES: [&str; 4] = ["tidegate", "sled", "redb", "sqlite"];

/// Opens a store, so that it can append and read.
///
/// # Errors
/// When it cannot be opened, or has another name than one of [`STORES`], `sled-flush` (sled with
/// its own `flush` alone) and `unsynced` (files without any `fdatasync`).
pub fn open(name: &str, place: &Path, max_bytes: u64) -> anyhow::Result<Box<dyn Store>> {
    Ok(match name {
        "tidegate" => Box::new(ours::Ours::open(place, max_bytes)?),
        "sled" => Box::new(sled::Sled::open(place, true)?),
        "sled-flush" => Box::new(sled::Sled::open(place, false)?),
        "redb" => Box::new(redb::Redb::open(place)?),
        "sqlite" => Box::new(sqlite::Sqlite::open(place)?),
        "unsynced" => Box::new(unsynced::Unsynced::open(place)?),
        other => bail!("no store is called {other}"),
    })
}

/// The bytes that the journal adds to a body to make it a frame.
///
/// # Errors
/// Never, while the journal's own names are short.
pub fn frame_overhead() -> anyhow::Result<usize> {
    ours::overhead()
}

/// Fills a record with its number and what nobody can compress.
pub fn fill(record: &mut [u8], number: u64) {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in record.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    if let Some(head) = record.first_chunk_mut::<8>() {
        *head = number.to_le_bytes();
    }
}

/// The number of a record, when it holds what [`fill`] put in.
#[must_use]
pub fn number_of(record: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(*record.first_chunk()?);
    let mut expected = vec![0; record.len()];
    fill(&mut expected, number);
    (expected == record).then_some(number)
}
