//! Frames written by hand, after the format's description alone: what another program, or a later
//! version, would write.
//!
//! # Invariants
//! - What is not understood of a frame is kept byte for byte.

use anyhow::{Context as _, ensure};

const ENVELOPE: usize = 16;

/// A frame taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The first 16 bytes; length and checksum are computed anew.
    pub envelope: [u8; ENVELOPE],
    /// Plant, gateway and epoch.
    pub names: Vec<u8>,
    /// The frame's number.
    pub number: u64,
    /// The sequence number of its first sample.
    pub first_seq: u64,
    /// How many samples.
    pub count: u64,
    /// Times, boot and clock.
    pub times: Vec<u8>,
    /// The hash of the frame before.
    pub previous: [u8; 32],
    /// The codec, and whatever a later version adds.
    pub rest: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
}

impl Parts {
    /// Takes a whole frame apart.
    ///
    /// # Errors
    /// When it is cut off.
    pub fn of(frame: &[u8]) -> anyhow::Result<Self> {
        let (envelope, after) = frame.split_first_chunk::<ENVELOPE>().context("no envelope")?;
        let (length, after) = after.split_first_chunk::<2>().context("no header length")?;
        let length = usize::from(u16::from_le_bytes(*length));
        let (header, body) = after.split_at_checked(length).context("the header is cut off")?;
        let mut at = header;
        for _name in ["plant", "gateway"] {
            let length = usize::try_from(varint(&mut at)?)?;
            at = at.get(length..).context("a name is cut off")?;
        }
        at = at.get(16..).context("the epoch is cut off")?;
        let names = header[..header.len() - at.len()].to_vec();
        let (number, first_seq, count) = (varint(&mut at)?, varint(&mut at)?, varint(&mut at)?);
        let begin = at;
        for _time in ["wall from", "wall to", "monotonic from", "monotonic to"] {
            varint(&mut at)?;
        }
        at = at.get(16..).context("the boot is cut off")?;
        varint(&mut at).context("clock")?;
        let times = begin[..begin.len() - at.len()].to_vec();
        let (previous, rest) = at.split_first_chunk::<32>().context("no hash")?;
        Ok(Self {
            envelope: *envelope,
            names,
            number,
            first_seq,
            count,
            times,
            previous: *previous,
            rest: rest.to_vec(),
            body: body.to_vec(),
        })
    }

    /// Puts it together, with a length and a checksum that fit.
    ///
    /// # Errors
    /// When it is larger than a frame may be.
    pub fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        let mut header = self.names.clone();
        for number in [self.number, self.first_seq, self.count] {
            put_varint(&mut header, number);
        }
        header.extend_from_slice(&self.times);
        header.extend_from_slice(&self.previous);
        header.extend_from_slice(&self.rest);
        let length = u32::try_from(ENVELOPE + 2 + header.len() + self.body.len())?;
        ensure!(length <= 64 * 1024, "{length} bytes are no frame");
        let mut frame = self.envelope.to_vec();
        frame[4..8].copy_from_slice(&length.to_le_bytes());
        frame[12..16].fill(0);
        frame.extend_from_slice(&u16::try_from(header.len())?.to_le_bytes());
        frame.extend_from_slice(&header);
        frame.extend_from_slice(&self.body);
        let sum = crc32c::crc32c(&frame);
        frame[12..16].copy_from_slice(&sum.to_le_bytes());
        Ok(frame)
    }
}

/// Makes the last frame of a segment one that only readers from `version` on understand.
///
/// # Errors
/// When the segment holds no frame.
pub fn demand_newer_for_last_frame(segment: &mut [u8], version: u8) -> anyhow::Result<()> {
    let begin = segment.windows(4).rposition(|four| four == b"TGFR").context("no frame")?;
    let length = segment.get(begin + 4..).and_then(|rest| rest.first_chunk::<4>());
    let length = usize::try_from(u32::from_le_bytes(*length.context("no length")?))?;
    let frame = segment.get_mut(begin..begin + length).context("the frame is cut off")?;
    let mut parts = Parts::of(frame)?;
    ensure!(parts.bytes()? == frame, "what looks like the last frame is none");
    parts.envelope[8..10].fill(version);
    frame.copy_from_slice(&parts.bytes()?);
    Ok(())
}

/// Makes a segment one whose layout only readers from `version` on understand.
///
/// # Errors
/// When it does not begin with a segment's header.
pub fn demand_newer_for_layout(segment: &mut [u8], version: u8) -> anyhow::Result<()> {
    let header = segment.first_chunk_mut::<4096>().context("no header")?;
    ensure!(header.starts_with(b"TGSG"), "not a segment");
    header[8..10].fill(version);
    header[4..8].fill(0);
    let sum = crc32c::crc32c(header);
    header[4..8].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

/// The hash by which the next frame names this one.
#[must_use]
pub fn hash(frame: &[u8]) -> [u8; 32] {
    *blake3::hash(frame).as_bytes()
}

fn varint(at: &mut &[u8]) -> anyhow::Result<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = at.split_first().context("a number is cut off")?;
        *at = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    anyhow::bail!("a number does not end")
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_survive() {
        for value in [0, 1, 127, 128, 300, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(varint(&mut bytes.as_slice()).unwrap(), value);
        }
        assert!(varint(&mut [0x80].as_slice()).is_err());
    }
}
