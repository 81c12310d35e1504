//! Variable-length integers, and bytes that cannot be read past their end.

/// Appends an unsigned integer, seven bits a byte, lowest first.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends a signed integer, small magnitudes first.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends a length.
pub(super) fn put_length(out: &mut Vec<u8>, length: usize) {
    put(out, u64::try_from(length).unwrap_or(u64::MAX));
}

/// Bytes read from the front. `None` means that they do not hold what was asked for.
pub(super) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds one bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// How many things follow, each of which takes a byte at least.
    pub(super) fn length(&mut self) -> Option<usize> {
        let length = usize::try_from(self.unsigned()?).ok()?;
        (length <= self.0.len()).then_some(length)
    }

    pub(super) fn column(&mut self, length: usize) -> Option<Vec<u64>> {
        (0..length).map(|_| self.unsigned()).collect()
    }

    pub(super) fn signed_column(&mut self, length: usize) -> Option<Vec<i64>> {
        (0..length).map(|_| self.signed()).collect()
    }
}

/// The most that a packed piece unpacks to.
const MAX_UNPACKED: usize = 8 << 20;

/// One LZ4 block with the length of what is in it in front.
pub(super) fn pack(bytes: &[u8]) -> Vec<u8> {
    lz4_flex::block::compress_prepend_size(bytes)
}

/// What [`pack`] was given.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let (length, block) = lz4_flex::block::uncompressed_size(packed).ok()?;
    // LZ4 gives 255 bytes for one at the most.
    if length > MAX_UNPACKED || length / 255 > block.len() {
        return None;
    }
    lz4_flex::block::decompress(block, length).ok().filter(|bytes| bytes.len() == length)
}
