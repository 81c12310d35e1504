//! The frame: the unit of fsync, of WAN delivery, of hub storage and of history.
//!
//! ```text
//! offset  size  field (integers are little-endian)
//!      0     4  magic "TGFR"
//!      4     4  length of the whole frame in bytes, envelope included
//!      8     1  format version
//!      9     1  lowest reader version that can understand it
//!     10     1  kind
//!     11     1  reserved, 0
//!     12     4  CRC-32C of the whole frame with this field taken as 0
//!     16     2  header length in bytes
//!     18     …  header (postcard)
//!      …     …  body
//! ```
//!
//! # Invariants
//! - The first 16 bytes are fixed for ever; test vectors in `tests/vectors` hold them.
//! - A header may grow at its end: a reader takes what it knows and skips the rest.
//! - A frame of an unknown kind is carried unchanged. A frame of a newer version is never called
//!   damage: reading it says which reader it needs.
//! - `number` counts frames and `first_seq` counts samples, both gap-free within an epoch, so a
//!   frame without samples (catalog, loss, clock) still has its place in the chain.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Stamp;

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"TGFR";
/// Bytes before the header length.
pub const ENVELOPE_BYTES: usize = 16;
/// The version that this code writes.
pub const FORMAT_VERSION: u8 = 1;
/// The largest frame. Small enough that a link of 64 kbit/s sends one in 8 s; large enough that
/// its overhead of about 150 bytes does not count.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Readings of tags.
    Samples,
    /// Tag numbers and what they stand for.
    Catalog,
    /// What was dropped, damaged or never captured.
    Loss,
    /// A step or a first synchronisation of the wall clock.
    Clock,
    /// A signed statement over the chain; reserved in version 1.
    Checkpoint,
    /// A kind of a later version, carried unchanged.
    Unknown(u8),
}

impl Kind {
    /// The number in the envelope.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Samples => 1,
            Self::Catalog => 2,
            Self::Loss => 3,
            Self::Clock => 4,
            Self::Checkpoint => 5,
            Self::Unknown(code) => code,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Samples,
            2 => Self::Catalog,
            3 => Self::Loss,
            4 => Self::Clock,
            5 => Self::Checkpoint,
            other => Self::Unknown(other),
        }
    }
}

/// The random identity of one life of a journal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub [u8; 16]);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

impl std::str::FromStr for Epoch {
    type Err = ParseHexError;
    fn from_str(text: &str) -> Result<Self, ParseHexError> {
        parse_hex(text).map(Self)
    }
}

/// BLAKE3 of a whole frame, envelope included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FrameHash(pub [u8; 32]);

impl FrameHash {
    /// What stands before the first frame of an epoch.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash of a frame's bytes.
    #[must_use]
    pub fn of(frame: &[u8]) -> Self {
        Self(*blake3::hash(frame).as_bytes())
    }
}

impl fmt::Display for FrameHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FrameHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameHash({self})")
    }
}

/// A text that is not the expected number of hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {digits} hexadecimal digits")]
pub struct ParseHexError {
    text: String,
    digits: usize,
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseHexError> {
    let wrong = || ParseHexError { text: text.to_owned(), digits: N * 2 };
    if text.len() != N * 2 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(out)
}

/// Whether the wall clock could be trusted when the frame was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClockState {
    /// Nobody could be asked.
    Unknown,
    /// The kernel says that the clock is synchronised.
    Synchronised,
    /// The kernel says that it is not.
    Unsynchronised,
}

/// How the body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Codec {
    /// Postcard as it is.
    Plain,
    /// Columns.
    Columns,
    /// Columns, then one LZ4 block with its length in front.
    ColumnsLz4,
}

/// Everything about a frame but its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The gateway's plant.
    pub plant: String,
    /// The gateway's name, unique in the fleet.
    pub gateway: String,
    /// The journal's identity.
    pub epoch: Epoch,
    /// The frame's place in the epoch, from 0, gap-free.
    pub number: u64,
    /// The sequence number of the first sample in it, or of the next sample when it has none.
    pub first_seq: u64,
    /// How many samples it holds.
    pub count: u32,
    /// Wall-clock range of the content, nanoseconds since 1970 UTC.
    pub wall: (i64, i64),
    /// The same range on the monotonic clock, nanoseconds since boot.
    pub mono: (u64, u64),
    /// Which boot the monotonic clock belongs to.
    pub boot: [u8; 16],
    /// The wall clock's standing.
    pub clock: ClockState,
    /// Hash of the frame before this one; [`FrameHash::ZERO`] for the first.
    pub previous: FrameHash,
    /// How the body is packed.
    pub codec: Codec,
}

impl Header {
    /// The sequence number after the last sample of this frame.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.first_seq.saturating_add(self.count as u64)
    }

    /// When the content was made, by both clocks.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        Stamp { wall: self.wall, mono: self.mono, boot: self.boot, clock: self.clock }
    }
}

/// A frame read from bytes, borrowing them.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame<'a> {
    /// What it holds.
    pub kind: Kind,
    /// Everything but the body.
    pub header: Header,
    /// The body, packed as `header.codec` says.
    pub body: &'a [u8],
    /// The whole frame, as it is on disk and at the hub.
    pub bytes: &'a [u8],
}

impl Frame<'_> {
    /// The hash that the next frame carries.
    #[must_use]
    pub fn hash(&self) -> FrameHash {
        FrameHash::of(self.bytes)
    }
}

/// Why bytes are no frame that this version can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than the frame says it has; more may come.
    #[error("frame is cut off: {have} bytes of {need}")]
    CutOff {
        /// Bytes at hand.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// The magic is not there.
    #[error("no frame begins here")]
    NoMagic,
    /// A length outside what a frame can have.
    #[error("frame length {length} is outside {ENVELOPE_BYTES}..={MAX_FRAME_BYTES}")]
    Length {
        /// The length in the envelope.
        length: u32,
    },
    /// The checksum does not fit the bytes.
    #[error("frame checksum is {found:08x}, its bytes give {computed:08x}")]
    Checksum {
        /// In the envelope.
        found: u32,
        /// Over the bytes.
        computed: u32,
    },
    /// Whole, but for a later reader.
    #[error("frame needs a reader of version {needs}; this one is version {FORMAT_VERSION}")]
    NeedsNewer {
        /// The lowest version that can read it.
        needs: u8,
        /// The length of the frame, to step over it.
        length: usize,
    },
    /// Whole by its checksum, but its header does not parse.
    #[error("frame header does not parse")]
    Header,
}

/// Writes a frame and returns its bytes.
///
/// # Errors
/// When header and body together are larger than [`MAX_FRAME_BYTES`].
pub fn encode(kind: Kind, header: &Header, body: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let packed = postcard::to_stdvec(header).map_err(|_| EncodeError::Header)?;
    let header_length = u16::try_from(packed.len()).map_err(|_| EncodeError::Header)?;
    let length = ENVELOPE_BYTES + 2 + packed.len() + body.len();
    let too_large = EncodeError::TooLarge { length };
    if length > MAX_FRAME_BYTES {
        return Err(too_large);
    }
    let length_field = u32::try_from(length).map_err(|_| too_large)?;
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&length_field.to_le_bytes());
    out.extend_from_slice(&[FORMAT_VERSION, FORMAT_VERSION, kind.code(), 0]);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&header_length.to_le_bytes());
    out.extend_from_slice(&packed);
    out.extend_from_slice(body);
    let sum = checksum(&out);
    out[12..16].copy_from_slice(&sum.to_le_bytes());
    Ok(out)
}

/// Why a frame could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The body must be split.
    #[error("frame of {length} bytes is larger than {MAX_FRAME_BYTES}")]
    TooLarge {
        /// What it would take.
        length: usize,
    },
    /// Plant or gateway name too long to be real.
    #[error("frame header does not fit")]
    Header,
}

/// Reads the frame at the start of `bytes`; what follows it is left alone.
///
/// # Errors
/// See [`FrameError`]. Never panics, whatever the bytes are.
pub fn decode(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let length = whole_length(bytes)?;
    let Some(whole) = bytes.get(..length) else {
        return Err(FrameError::CutOff { have: bytes.len(), need: length });
    };
    let found = u32_at(whole, 12);
    let computed = checksum(whole);
    if found != computed {
        return Err(FrameError::Checksum { found, computed });
    }
    let needs = whole[9];
    if needs > FORMAT_VERSION {
        return Err(FrameError::NeedsNewer { needs, length });
    }
    let rest = whole.get(ENVELOPE_BYTES + 2..).ok_or(FrameError::Header)?;
    let header_length = usize::from(u16::from_le_bytes([whole[16], whole[17]]));
    let (header, body) = rest.split_at_checked(header_length).ok_or(FrameError::Header)?;
    let (header, _later_fields) =
        postcard::take_from_bytes::<Header>(header).map_err(|_| FrameError::Header)?;
    Ok(Frame { kind: Kind::from_code(whole[10]), header, body, bytes: whole })
}

/// The length of the frame at the start of `bytes`, from its envelope alone.
///
/// # Errors
/// When there is no envelope, or its length cannot be.
pub fn whole_length(bytes: &[u8]) -> Result<usize, FrameError> {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Err(FrameError::NoMagic);
    }
    if bytes.len() < ENVELOPE_BYTES {
        return Err(FrameError::CutOff { have: bytes.len(), need: ENVELOPE_BYTES });
    }
    let length = u32_at(bytes, 4);
    match usize::try_from(length) {
        Ok(n) if (ENVELOPE_BYTES..=MAX_FRAME_BYTES).contains(&n) => Ok(n),
        _ => Err(FrameError::Length { length }),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn checksum(whole: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&whole[..12]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    crc32c::crc32c_append(sum, &whole[ENVELOPE_BYTES..])
}
