//! Bodies of catalog frames.

use serde::{Deserialize, Serialize};

use super::CatalogEntry;
use crate::BodyError;
use crate::samples::MAX_BODY_BYTES;

/// Room for version, snapshot and count in front of the entries.
const PART_OVERHEAD: usize = 32;

/// The body of one catalog frame (postcard, [`tidegate_journal::Codec::Plain`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogPart {
    /// The catalog's version with these entries in it.
    pub version: u64,
    /// Which part of a whole snapshot this is; `None` for changes.
    pub snapshot: Option<Snapshot>,
    /// The entries.
    pub entries: Vec<CatalogEntry>,
}

/// A place in a snapshot that takes several frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Snapshot {
    /// From 0.
    pub part: u32,
    /// How many there are.
    pub of: u32,
}

impl CatalogPart {
    /// Reads the body of a catalog frame.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn decode(body: &[u8]) -> Result<Self, BodyError> {
        crate::whole(body).ok_or(BodyError { kind: "catalog" })
    }

    /// The body of a catalog frame.
    ///
    /// # Errors
    /// Never in practice; the encoder's signature allows it.
    pub fn encode(&self) -> Result<Vec<u8>, BodyError> {
        postcard::to_stdvec(self).map_err(|_| BodyError { kind: "catalog" })
    }
}

/// The bodies, each small enough for a frame, that bring these entries to a reader. With
/// `is_snapshot` they say which part of how many they are, and there is one even for no entries.
///
/// # Errors
/// Never in practice; the encoder's signature allows it.
pub fn bodies<'a>(
    version: u64,
    entries: impl IntoIterator<Item = &'a CatalogEntry>,
    is_snapshot: bool,
) -> Result<Vec<Vec<u8>>, BodyError> {
    let mut parts: Vec<Vec<CatalogEntry>> = Vec::new();
    let mut room = 0;
    for entry in entries {
        let size = postcard::to_stdvec(entry).map_err(|_| BodyError { kind: "catalog" })?.len();
        match parts.last_mut() {
            Some(part) if size <= room => part.push(entry.clone()),
            _ => {
                parts.push(vec![entry.clone()]);
                room = MAX_BODY_BYTES - PART_OVERHEAD;
            }
        }
        room = room.saturating_sub(size);
    }
    if is_snapshot && parts.is_empty() {
        parts.push(Vec::new());
    }
    let of = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    (0..)
        .zip(parts)
        .map(|(part, entries)| {
            let snapshot = is_snapshot.then_some(Snapshot { part, of });
            CatalogPart { version, snapshot, entries }.encode()
        })
        .collect()
}
