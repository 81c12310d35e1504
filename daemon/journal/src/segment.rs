//! What the journal writes around frames: the block at the head of a segment and the mark in
//! front of every commit.
//!
//! # Invariants
//! - A commit begins on a block boundary and fills its last block with zeros. A write that a power
//!   cut tears may spoil whole blocks, so it must never share a block with what was promised.
//! - A mark says where its commit stands in the chain, so every commit can be found and placed
//!   without the bytes before it, and the mark of a later commit proves that the earlier ones were
//!   durable.
//! - Marks and headers carry their segment's number, which only grows: what an earlier life of a
//!   recycled file left behind is never taken for live.

use serde::{Deserialize, Serialize};

use crate::{Epoch, FrameHash};

/// The unit that a power cut spoils whole, and the page of the page cache.
pub(crate) const BLOCK: usize = 4096;
/// [`BLOCK`] as a file offset.
pub(crate) const BLOCK_OFFSET: u64 = 4096;
/// The version of header and mark that this code writes.
pub(crate) const LAYOUT_VERSION: u8 = 1;
/// The length of a mark.
pub(crate) const MARK_BYTES: usize = 104;
/// The largest segment; a file that claims more is damaged. Scanning holds one in memory.
pub(crate) const MAX_SEGMENT_BYTES: u64 = 64 << 20;

const HEADER_MAGIC: [u8; 4] = *b"TGSG";
const MARK_MAGIC: [u8; 4] = *b"TGCM";

/// The first offset on a block boundary at or after `offset`.
pub(crate) const fn align(offset: u64) -> u64 {
    offset.div_ceil(BLOCK_OFFSET).saturating_mul(BLOCK_OFFSET)
}

/// The place where the next frame of a chain goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tail {
    /// The number of the next frame.
    pub frame: u64,
    /// The sequence number of the next sample.
    pub seq: u64,
    /// The hash of the last frame.
    pub hash: FrameHash,
}

impl Tail {
    /// Where an epoch begins.
    pub(crate) const START: Self = Self { frame: 0, seq: 0, hash: FrameHash::ZERO };

    /// The last frame before this place, when there is one.
    pub(crate) fn last(self) -> Option<crate::Position> {
        let frame = self.frame.checked_sub(1)?;
        Some(crate::Position { frame, next_seq: self.seq, hash: self.hash })
    }

    /// The place after a frame.
    pub(crate) const fn after(position: crate::Position) -> Self {
        Self {
            frame: position.frame.saturating_add(1),
            seq: position.next_seq,
            hash: position.hash,
        }
    }
}

/// What the first block of a segment says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentHeader {
    pub plant: String,
    pub gateway: String,
    pub epoch: Epoch,
    /// The segment's number, growing over all epochs of the directory.
    pub number: u64,
    /// Where its first frame stands.
    pub start: Tail,
}

/// Why a block is no segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Damaged, or never written.
    Unreadable,
    /// Whole, for a later reader.
    NeedsNewer(u8),
}

impl SegmentHeader {
    /// The block; `None` when the names are too long for it.
    pub(crate) fn encode(&self) -> Option<[u8; BLOCK]> {
        sealed_block(HEADER_MAGIC, &postcard::to_stdvec(self).ok()?)
    }

    pub(crate) fn decode(block: &[u8]) -> Result<Self, HeaderFault> {
        open_block(HEADER_MAGIC, block)
    }
}

/// A block with magic, version, lowest reader, length, CRC-32C over the whole block, and a body.
pub(crate) fn sealed_block(magic: [u8; 4], body: &[u8]) -> Option<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    block.get_mut(16..16 + body.len())?.copy_from_slice(body);
    block[..4].copy_from_slice(&magic);
    block[8] = LAYOUT_VERSION;
    block[9] = LAYOUT_VERSION;
    block[12..16].copy_from_slice(&u32::try_from(body.len()).ok()?.to_le_bytes());
    let sum = block_checksum(&block);
    block[4..8].copy_from_slice(&sum.to_le_bytes());
    Some(block)
}

/// Reads what [`sealed_block`] wrote; fields that a later version added at the end are skipped.
pub(crate) fn open_block<T: for<'a> Deserialize<'a>>(
    magic: [u8; 4],
    block: &[u8],
) -> Result<T, HeaderFault> {
    let block = block.get(..BLOCK).ok_or(HeaderFault::Unreadable)?;
    if block[..4] != magic || u32_at(block, 4) != block_checksum(block) {
        return Err(HeaderFault::Unreadable);
    }
    if block[9] > LAYOUT_VERSION {
        return Err(HeaderFault::NeedsNewer(block[9]));
    }
    let length = usize::try_from(u32_at(block, 12)).map_err(|_| HeaderFault::Unreadable)?;
    let body = block[16..].get(..length).ok_or(HeaderFault::Unreadable)?;
    postcard::take_from_bytes(body).map(|(it, _)| it).map_err(|_| HeaderFault::Unreadable)
}

fn block_checksum(block: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&block[..4]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    crc32c::crc32c_append(sum, &block[8..])
}

/// What stands in front of the frames of one commit.
///
/// ```text
/// offset  size  field (integers are little-endian)
///      0     4  magic "TGCM"
///      4     4  CRC-32C of the mark with this field taken as 0
///      8    16  epoch
///     24     8  segment number
///     32     8  number of the first frame
///     40     8  sequence number of the next sample before it
///     48    32  hash of the frame before it
///     80     4  bytes of frames that follow
///     84     4  how many frames
///     88    16  wall-clock range of all of them
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub epoch: Epoch,
    pub segment: u64,
    pub start: Tail,
    pub bytes: u32,
    pub frames: u32,
    pub wall: (i64, i64),
}

impl Mark {
    pub(crate) fn encode(&self) -> [u8; MARK_BYTES] {
        let mut out = [0; MARK_BYTES];
        out[..4].copy_from_slice(&MARK_MAGIC);
        out[8..24].copy_from_slice(&self.epoch.0);
        out[24..32].copy_from_slice(&self.segment.to_le_bytes());
        out[32..40].copy_from_slice(&self.start.frame.to_le_bytes());
        out[40..48].copy_from_slice(&self.start.seq.to_le_bytes());
        out[48..80].copy_from_slice(&self.start.hash.0);
        out[80..84].copy_from_slice(&self.bytes.to_le_bytes());
        out[84..88].copy_from_slice(&self.frames.to_le_bytes());
        out[88..96].copy_from_slice(&self.wall.0.to_le_bytes());
        out[96..104].copy_from_slice(&self.wall.1.to_le_bytes());
        let sum = mark_checksum(&out);
        out[4..8].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// The mark at the start of `bytes`; `None` when there is none.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..MARK_BYTES)?;
        if bytes[..4] != MARK_MAGIC || u32_at(bytes, 4) != mark_checksum(bytes) {
            return None;
        }
        Some(Self {
            epoch: Epoch(array(bytes, 8)?),
            segment: u64::from_le_bytes(array(bytes, 24)?),
            start: Tail {
                frame: u64::from_le_bytes(array(bytes, 32)?),
                seq: u64::from_le_bytes(array(bytes, 40)?),
                hash: FrameHash(array(bytes, 48)?),
            },
            bytes: u32_at(bytes, 80),
            frames: u32_at(bytes, 84),
            wall: (i64::from_le_bytes(array(bytes, 88)?), i64::from_le_bytes(array(bytes, 96)?)),
        })
    }
}

fn mark_checksum(mark: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&mark[..4]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    crc32c::crc32c_append(sum, &mark[8..])
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    array(bytes, at).map_or(0, u32::from_le_bytes)
}

/// The name of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("seg-{number:020}.tgj")
}

/// The name of a file kept ready to become a segment.
pub(crate) fn spare_name(number: u64) -> String {
    format!("spare-{number:020}.tgj")
}

/// The name of a segment's sidecar.
pub(crate) fn sidecar_name(number: u64) -> String {
    format!("seg-{number:020}.tgx")
}

/// What a name in the directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Segment(u64),
    Spare(u64),
    Sidecar(u64),
    Other,
}

impl Name {
    pub(crate) fn parse(name: &str) -> Self {
        let number = |prefix, suffix| {
            let digits: &str = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
            let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse().ok())?
        };
        if let Some(number) = number("seg-", ".tgj") {
            return Self::Segment(number);
        }
        if let Some(number) = number("seg-", ".tgx") {
            return Self::Sidecar(number);
        }
        number("spare-", ".tgj").map_or(Self::Other, Self::Spare)
    }
}
