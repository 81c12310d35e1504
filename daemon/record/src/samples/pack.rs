//! From a batch of samples to as many bodies as it takes.

use tidegate_journal::Codec;
use tidegate_translator::{Sample, TagId, Timestamp, ValueKind};

use super::{
    MAX_BODY_BYTES, MAX_COLUMN_BYTES, MAX_SAMPLES, MAX_TEXT_BYTES, blob_of, columns, plain,
};

/// Up to this many samples postcard may be smaller than columns, so both are tried (measured:
/// 22.0 against 20.6 bytes at one sample, 19.3 against 9.6 at ten).
const PLAIN_UP_TO: usize = 8;

/// Below this there is nothing for LZ4 to find.
const COMPRESS_FROM: usize = 64;

/// What a sample takes beside its text, at most: tag 5, three times 11, status 5, quality 3,
/// kind 1, length 5, count 3.
const OVERHEAD: usize = 56;

/// The body of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// How it is packed, for the header.
    pub codec: Codec,
    /// The packed samples, at most [`MAX_BODY_BYTES`].
    pub bytes: Vec<u8>,
    /// How many samples, for the header.
    pub count: u32,
    /// The earliest and the latest acquisition time, for the header.
    pub wall: (i64, i64),
}

/// A sample that no frame can take. Whoever packs records a loss for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "tag {} gave a {kind:?} of {bytes} bytes, more than the {} that a frame takes; \
     read it in parts or leave it out",
    tag.0,
    MAX_BODY_BYTES - OVERHEAD
)]
pub struct Refused {
    /// Whose value it is.
    pub tag: TagId,
    /// When it was read.
    pub acquired: Timestamp,
    /// Text, bytes or JSON.
    pub kind: ValueKind,
    /// The size of the value in bytes.
    pub bytes: usize,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packing {
    /// Bodies in the order in which their frames must follow each other.
    pub bodies: Vec<Body>,
    /// Samples that stand in none of them.
    pub refused: Vec<Refused>,
}

/// Packs batches; keeps its buffers from one to the next.
#[derive(Debug, Default)]
pub struct Packer {
    columns: columns::Encoder,
    plain: Vec<u8>,
    compressed: Vec<u8>,
}

impl Packer {
    /// A packer that has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Packs samples in the order in which they were read, into as few bodies as fit.
    pub fn pack(&mut self, samples: &[Sample]) -> Packing {
        let mut packing = Packing::default();
        let is_too_large = |s: &Sample| {
            blob_of(&s.value).is_some_and(|blob| blob.len() > MAX_BODY_BYTES - OVERHEAD)
        };
        let mut rest = samples;
        while let Some(at) = rest.iter().position(is_too_large) {
            let (fitting, others) = rest.split_at(at);
            self.pack_fitting(fitting, &mut packing.bodies);
            let Some((refused, others)) = others.split_first() else { break };
            packing.refused.push(Refused {
                tag: refused.tag,
                acquired: refused.acquired,
                kind: refused.value.kind(),
                bytes: blob_of(&refused.value).map_or(0, <[u8]>::len),
            });
            rest = others;
        }
        self.pack_fitting(rest, &mut packing.bodies);
        packing
    }

    fn pack_fitting(&mut self, mut rest: &[Sample], bodies: &mut Vec<Body>) {
        let mut attempt = MAX_SAMPLES;
        while !rest.is_empty() {
            let count = within_limits(rest).min(attempt).max(1);
            let (batch, others) = rest.split_at(count);
            let (codec, size) = self.encode(batch);
            if size > MAX_BODY_BYTES && count > 1 {
                let share = count.saturating_mul(MAX_BODY_BYTES) / size;
                attempt = (share * 9 / 10).clamp(1, count - 1);
                continue;
            }
            attempt = (count * (MAX_BODY_BYTES * 9 / 10) / size.max(1)).clamp(1, MAX_SAMPLES);
            let times = batch.iter().map(|s| s.acquired.0);
            let wall = times.fold((i64::MAX, i64::MIN), |(a, b), t| (a.min(t), b.max(t)));
            bodies.push(Body {
                codec,
                bytes: self.bytes(codec).to_vec(),
                count: u32::try_from(count).unwrap_or(u32::MAX),
                wall,
            });
            rest = others;
        }
    }

    /// Packs all of `batch` the shortest way; the bytes are then in the buffer of that codec.
    fn encode(&mut self, batch: &[Sample]) -> (Codec, usize) {
        if batch.len() == 1 {
            plain::encode(batch, &mut self.plain);
            return (Codec::Plain, self.plain.len());
        }
        let columns = self.columns.encode(batch);
        if columns.len() > MAX_COLUMN_BYTES {
            return (Codec::Columns, columns.len());
        }
        let mut best = (Codec::Columns, columns.len());
        if columns.len() >= COMPRESS_FROM
            && let Some(length) = compress(columns, &mut self.compressed)
            && length < columns.len()
        {
            best = (Codec::ColumnsLz4, length);
        }
        if batch.len() <= PLAIN_UP_TO {
            plain::encode(batch, &mut self.plain);
            if self.plain.len() <= best.1 {
                best = (Codec::Plain, self.plain.len());
            }
        }
        best
    }

    fn bytes(&self, codec: Codec) -> &[u8] {
        match codec {
            Codec::Plain => &self.plain,
            Codec::Columns => self.columns.bytes(),
            Codec::ColumnsLz4 => &self.compressed,
        }
    }
}

/// How many samples from the front respect the limits of a reader.
fn within_limits(samples: &[Sample]) -> usize {
    let mut text = 0;
    samples
        .iter()
        .take(MAX_SAMPLES)
        .take_while(|sample| {
            text += blob_of(&sample.value).map_or(0, <[u8]>::len);
            text <= MAX_TEXT_BYTES
        })
        .count()
}

/// One LZ4 block with the length of what is in it in front, as four bytes, lowest first.
pub(super) fn compress(columns: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let length = u32::try_from(columns.len()).ok()?;
    out.clear();
    out.extend_from_slice(&length.to_le_bytes());
    out.resize(4 + lz4_flex::block::get_maximum_output_size(columns.len()), 0);
    let written = lz4_flex::block::compress_into(columns, out.get_mut(4..)?).ok()?;
    out.truncate(4 + written);
    Some(out.len())
}
