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

/// A part as it is written, without a copy of its entries.
#[derive(Serialize)]
struct PartOf<'a> {
    version: u64,
    snapshot: Option<Snapshot>,
    entries: &'a [&'a CatalogEntry],
}

/// The bodies, each small enough for a frame, that bring these entries to a reader. With
/// `is_snapshot` they say which part of how many they are, and there is one even for no entries.
/// Each is made when it is asked for.
///
/// # Errors
/// Never in practice; the encoder's signature allows it.
pub fn bodies<'a>(
    version: u64,
    entries: impl IntoIterator<Item = &'a CatalogEntry>,
    is_snapshot: bool,
) -> Result<impl Iterator<Item = Result<Vec<u8>, BodyError>>, BodyError> {
    let wrong = |_| BodyError { kind: "catalog" };
    let entries: Vec<&CatalogEntry> = entries.into_iter().collect();
    // Where each part ends.
    let mut ends = Vec::new();
    let mut room = 0;
    let mut encoded = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        encoded.clear();
        encoded = postcard::to_extend(entry, encoded).map_err(wrong)?;
        let size = encoded.len();
        if size > room || ends.is_empty() {
            ends.push(at);
            room = MAX_BODY_BYTES - PART_OVERHEAD;
        }
        room = room.saturating_sub(size);
        if let Some(end) = ends.last_mut() {
            *end = at + 1;
        }
    }
    if is_snapshot && ends.is_empty() {
        ends.push(0);
    }
    let of = u32::try_from(ends.len()).unwrap_or(u32::MAX);
    let mut start = 0;
    Ok((0..).zip(ends).map(move |(part, end)| {
        let snapshot = is_snapshot.then_some(Snapshot { part, of });
        let entries = entries.get(start..end).unwrap_or_default();
        start = end;
        postcard::to_stdvec(&PartOf { version, snapshot, entries }).map_err(wrong)
    }))
}
