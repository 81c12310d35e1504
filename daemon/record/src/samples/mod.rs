//! Bodies of sample frames.
//!
//! # Invariants
//! - The order in which samples come out is the order of their sequence numbers: sample *i* of
//!   the decoded body has `first_seq + i`. Samples of one tag keep the order in which they were
//!   packed; samples of different tags may change places within a body.
//! - Values, times and float bits come back exactly.
//! - Reading never panics, and takes memory only for as many samples as both the header and the
//!   body name, at most [`MAX_SAMPLES`], with at most [`MAX_TEXT_BYTES`] of text.
//! - Format version 1 is what `vectors/samples.json` says.

mod columns;
mod pack;
mod plain;
mod scan;
mod series;

use tidegate_journal::{Codec, Frame, MAX_FRAME_BYTES};
use tidegate_translator::{Quality, Reason, Sample, Value, ValueKind};

pub use pack::{Body, Packer, Packing, Refused};
pub use scan::{Column, Run, Scanner, TagSet, Values};

/// Room for the body beside an envelope of 18 bytes and the longest header that names of 31
/// bytes give, which is 195 bytes.
pub const MAX_BODY_BYTES: usize = MAX_FRAME_BYTES - 18 - 200;

/// The most samples in one body. Constant tags pack to almost nothing, so the size alone would
/// not bound what a reader must hold: these take about 3 MB.
pub const MAX_SAMPLES: usize = 32 * 1024;

/// The most bytes of columns before LZ4: a reader unpacks no more than this.
pub const MAX_COLUMN_BYTES: usize = 4 * MAX_FRAME_BYTES;

/// The most bytes of text, opaque bytes and JSON in one body once repetitions are written out.
pub const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More than any writer puts into one body.
    #[error("body claims {count} samples, more than the {MAX_SAMPLES} that a frame may hold")]
    TooMany {
        /// By the header.
        count: u32,
    },
    /// Header and body disagree.
    #[error("header counts {header} samples, the body holds {body}")]
    Count {
        /// By the header.
        header: u32,
        /// By the body.
        body: u64,
    },
    /// The bytes are no LZ4 block of the length in front of it.
    #[error("body does not unpack to at most {MAX_COLUMN_BYTES} bytes")]
    Compression,
    /// A column ends too early, too late, or holds what no writer writes.
    #[error("column {column:?} of the body is damaged")]
    Damaged {
        /// Which one.
        column: &'static str,
    },
}

/// The samples of a body, in the order of their sequence numbers.
///
/// # Errors
/// When the body is damaged or holds another number of samples than `count`.
pub fn decode(codec: Codec, count: u32, body: &[u8]) -> Result<Vec<Sample>, DecodeError> {
    if codec == Codec::Plain {
        return plain::decode(body, count);
    }
    let mut samples = Vec::new();
    Scanner::new().scan_body(codec, count, 0, body, &TagSet::all(), |run| {
        // Only once the body was found to hold as many is there a first run.
        if samples.is_empty() {
            samples.reserve_exact(MAX_SAMPLES.min(usize::try_from(count).unwrap_or(0)));
        }
        run.push_to(&mut samples);
    })?;
    Ok(samples)
}

/// The samples of a frame, each with its sequence number.
///
/// # Errors
/// See [`decode`].
pub fn decode_frame(frame: &Frame<'_>) -> Result<Vec<(u64, Sample)>, DecodeError> {
    let samples = decode(frame.header.codec, frame.header.count, frame.body)?;
    Ok((frame.header.first_seq..).zip(samples).collect())
}

/// Replaces `columns` by what is in the block.
fn unpack_into<'a>(body: &[u8], columns: &'a mut Vec<u8>) -> Result<&'a [u8], DecodeError> {
    let (length, block) =
        lz4_flex::block::uncompressed_size(body).map_err(|_| DecodeError::Compression)?;
    if length > MAX_COLUMN_BYTES {
        return Err(DecodeError::Compression);
    }
    columns.resize(length, 0);
    match lz4_flex::block::decompress_into(block, columns) {
        Ok(written) if written == length => Ok(columns),
        _ => Err(DecodeError::Compression),
    }
}

/// A quality as bodies and digests hold it: good is 0; otherwise 1 (uncertain) or 2 (bad) in the two
/// lowest bits and the reason above.
#[must_use]
pub fn quality_word(quality: Quality) -> u16 {
    let word = |class: u16, reason: Reason| class | u16::from(reason.code()) << 2;
    match quality {
        Quality::Good => 0,
        Quality::Uncertain(reason) => word(1, reason),
        Quality::Bad(reason) => word(2, reason),
    }
}

/// What [`quality_word`] wrote. A reason of a later version reads as unspecified; another class is no
/// quality.
#[must_use]
pub fn quality_of(word: u64) -> Option<Quality> {
    let reason = Reason::from_code(u8::try_from(word >> 2).ok()?);
    match word & 3 {
        0 if word == 0 => Some(Quality::Good),
        1 => Some(Quality::Uncertain(reason)),
        2 => Some(Quality::Bad(reason)),
        _ => None,
    }
}

fn kind_of(code: u64) -> Option<ValueKind> {
    Some(match code {
        0 => ValueKind::None,
        1 => ValueKind::Bool,
        2 => ValueKind::I64,
        3 => ValueKind::U64,
        4 => ValueKind::F32,
        5 => ValueKind::F64,
        6 => ValueKind::Text,
        7 => ValueKind::Bytes,
        8 => ValueKind::Json,
        _ => return None,
    })
}

/// The bytes of a text, of opaque bytes or of JSON.
fn blob_of(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Text(text) | Value::Json(text) => Some(text.as_bytes()),
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
mod naive;
#[cfg(test)]
mod scan_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vector_tests;
