//! Variable-length integers, run lengths and a cursor that cannot run past its bytes.

/// Appends an unsigned integer, seven bits a byte, lowest first.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

/// Appends a signed integer, small magnitudes first.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

/// How many bytes [`put_signed`] takes.
pub(crate) fn signed_length(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).unwrap_or(usize::MAX)
}

/// Appends a length or a count.
pub fn put_length(out: &mut Vec<u8>, length: usize) {
    put_varint(out, u64::try_from(length).unwrap_or(u64::MAX));
}

const fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// The bit of each byte that says that more follow.
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Puts the lower seven bits of each byte together.
const fn join_sevens(word: u64) -> u64 {
    let word = word & !HIGH_BITS;
    let word = (word & 0x007f_007f_007f_007f) | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let word = (word & 0x0000_3fff_0000_3fff) | (word & 0x3fff_0000_3fff_0000) >> 2;
    (word & 0x0fff_ffff) | (word & 0x0fff_ffff_0000_0000) >> 4
}

/// Bytes read from the front. `None` means that they do not hold what was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// The next bytes, so many.
    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// What [`put_varint`] wrote.
    #[inline]
    pub fn varint(&mut self) -> Option<u64> {
        // Nearly all that is written fits one byte, and most of the rest eight.
        let (&first, rest) = self.0.split_first()?;
        if first & 0x80 == 0 {
            self.0 = rest;
            return Some(first.into());
        }
        if let Some(bytes) = self.0.first_chunk::<8>() {
            let word = u64::from_le_bytes(*bytes);
            let ends = !word & HIGH_BITS;
            if ends != 0 {
                let bits = ends.trailing_zeros() + 1;
                self.0 = self.0.get(bits as usize / 8..)?;
                return Some(join_sevens(word & (u64::MAX >> (64 - bits))));
            }
        }
        self.long_varint()
    }

    #[cold]
    fn long_varint(&mut self) -> Option<u64> {
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

    /// Passes over so many integers; whether they fit 64 bits nobody asks.
    pub(crate) fn skip_varints(&mut self, mut count: usize) -> Option<()> {
        while let Some(bytes) = self.0.first_chunk::<8>() {
            let ends = (!u64::from_le_bytes(*bytes) & HIGH_BITS).count_ones() as usize;
            // Of the last word only a part may be meant.
            if ends >= count {
                break;
            }
            count -= ends;
            self.0 = self.0.get(8..)?;
        }
        for _ in 0..count {
            let end = self.0.iter().position(|byte| byte & 0x80 == 0)?;
            self.0 = self.0.get(end + 1..)?;
        }
        Some(())
    }

    /// What [`put_signed`] wrote.
    #[inline]
    pub fn signed(&mut self) -> Option<i64> {
        self.varint().map(unzigzag)
    }

    pub(crate) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }
}

/// Writes equal neighbours once, with how many they are.
#[derive(Debug, Default)]
pub(crate) struct RunWriter {
    last: u64,
    run: u64,
}

impl RunWriter {
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, value: u64) {
        self.push_many(out, value, 1);
    }

    pub(crate) fn push_many(&mut self, out: &mut Vec<u8>, value: u64, times: u64) {
        if self.run > 0 && self.last == value {
            self.run += times;
        } else {
            self.finish(out);
            self.last = value;
            self.run = times;
        }
    }

    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.run > 0 {
            put_varint(out, self.last);
            put_varint(out, self.run - 1);
            self.run = 0;
        }
    }
}

/// Reads what [`RunWriter`] wrote.
#[derive(Debug)]
pub(crate) struct RunReader<'a> {
    cursor: Cursor<'a>,
    value: u64,
    left: u64,
}

impl<'a> RunReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { cursor: Cursor(bytes), value: 0, left: 0 }
    }

    pub(crate) fn next(&mut self) -> Option<u64> {
        let (value, _) = self.ahead()?;
        self.left -= 1;
        Some(value)
    }

    /// The value that is next and how often it follows itself, at least once.
    #[inline]
    pub(crate) fn ahead(&mut self) -> Option<(u64, u64)> {
        if self.left == 0 {
            self.value = self.cursor.varint()?;
            self.left = self.cursor.varint()?.checked_add(1)?;
        }
        Some((self.value, self.left))
    }

    /// The value of all of the next `count` where they are one; nothing is taken otherwise.
    #[inline]
    pub(crate) fn take_same(&mut self, count: u64) -> Option<Option<u64>> {
        let (value, left) = self.ahead()?;
        if left < count {
            return Some(None);
        }
        self.left -= count;
        Some(Some(value))
    }

    /// Passes over so many values.
    pub(crate) fn skip(&mut self, mut count: u64) -> Option<()> {
        while count > 0 {
            let taken = self.ahead()?.1.min(count);
            self.left -= taken;
            count -= taken;
        }
        Some(())
    }

    /// Whether everything was read.
    pub(crate) const fn is_done(&self) -> bool {
        self.left == 0 && self.cursor.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_of_any_size_come_back_and_their_length_is_known(value: i64, other: u64) {
            let mut out = Vec::new();
            put_signed(&mut out, value);
            prop_assert_eq!(out.len(), signed_length(value));
            put_varint(&mut out, other);
            let mut cursor = Cursor(&out);
            prop_assert_eq!(cursor.signed(), Some(value));
            prop_assert_eq!(cursor.varint(), Some(other));
            prop_assert!(cursor.is_empty());
        }
    }

    #[test]
    fn an_integer_of_more_than_64_bits_is_refused() {
        assert_eq!(Cursor(&[0xff; 9]).varint(), None);
        assert_eq!(
            Cursor(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).varint(),
            None
        );
        assert_eq!(
            Cursor(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).varint(),
            Some(u64::MAX)
        );
    }
}
