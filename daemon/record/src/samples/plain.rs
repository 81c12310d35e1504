//! Samples as a postcard sequence: what a handful of them costs least in.

use serde::{Deserialize, Serialize};
use tidegate_translator::{Sample, TagId, Timestamp, Value};

use super::{DecodeError, MAX_SAMPLES, quality_of, quality_word};
use crate::wire::{Cursor, put_length};

/// One sample as it stands in the body. Quality is a number rather than an enum, so that a
/// reason of a later version still reads.
#[derive(Serialize)]
struct Written<'a> {
    tag: u32,
    acquired: i64,
    source: Option<i64>,
    server: Option<i64>,
    status: u32,
    quality: u16,
    value: &'a Value,
}

#[derive(Deserialize)]
struct Read {
    tag: u32,
    acquired: i64,
    source: Option<i64>,
    server: Option<i64>,
    status: u32,
    quality: u16,
    value: Value,
}

/// Replaces `out` by the body of these samples. They come out in the order of their tags, as
/// columns give them.
pub(super) fn encode(samples: &[Sample], out: &mut Vec<u8>) {
    out.clear();
    put_length(out, samples.len());
    let mut rows: Vec<&Sample> = samples.iter().collect();
    rows.sort_by_key(|sample| sample.tag);
    for sample in rows {
        let written = Written {
            tag: sample.tag.0,
            acquired: sample.acquired.0,
            source: sample.source.map(|t| t.0),
            server: sample.server.map(|t| t.0),
            status: sample.status,
            quality: quality_word(sample.quality),
            value: &sample.value,
        };
        // Writing into a Vec cannot fail; if it ever did, the count would not fit and say so.
        let _ = postcard::to_io(&written, &mut *out);
    }
}

/// The samples of such a body.
pub(super) fn decode(body: &[u8], count: u32) -> Result<Vec<Sample>, DecodeError> {
    let damaged = DecodeError::Damaged { column: "samples" };
    let mut cursor = Cursor(body);
    let found = cursor.varint().ok_or_else(|| damaged.clone())?;
    if found != u64::from(count) {
        return Err(DecodeError::Count { header: count, body: found });
    }
    let total = usize::try_from(count).unwrap_or(usize::MAX);
    if total > MAX_SAMPLES {
        return Err(DecodeError::TooMany { count });
    }
    let mut rest = cursor.0;
    // Seven bytes is the least that a sample takes.
    let mut samples = Vec::with_capacity(total.min(rest.len() / 7));
    for _ in 0..total {
        let (read, after) = postcard::take_from_bytes::<Read>(rest).map_err(|_| damaged.clone())?;
        rest = after;
        samples.push(Sample {
            tag: TagId(read.tag),
            acquired: Timestamp(read.acquired),
            source: read.source.map(Timestamp),
            server: read.server.map(Timestamp),
            status: read.status,
            quality: quality_of(read.quality.into()).ok_or_else(|| damaged.clone())?,
            value: read.value,
        });
    }
    if rest.is_empty() { Ok(samples) } else { Err(damaged) }
}
