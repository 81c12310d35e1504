//! The record's integers, and bytes that cannot be read past their end.

pub(super) use tidegate_record::wire::{put_length, put_signed, put_varint as put};

use tidegate_record::wire::Cursor;

/// Bytes read from the front. `None` means that they do not hold what was asked for.
pub(super) struct Bytes<'a>(Cursor<'a>);

impl<'a> Bytes<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(Cursor(bytes))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.0.byte()
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        self.0.take(length)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn unsigned(&mut self) -> Option<u64> {
        self.0.varint()
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        self.0.signed()
    }

    /// How many things follow, each of which takes a byte at least.
    pub(super) fn length(&mut self) -> Option<usize> {
        let length = usize::try_from(self.unsigned()?).ok()?;
        (length <= self.0.0.len()).then_some(length)
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
