//! The numbers of one tag, one after the other.
//!
//! Each series opens with a mode, kept in a column of its own because neighbours agree:
//!
//! ```text
//! bits 0–3  0       integers as they are; floats as XOR of neighbouring bit patterns
//!           1 … 7   floats that are exactly integer ÷ 10^(code − 1)
//!           8 … 13  floats that are exactly integer × 10^−(code − 7)
//! bit 4     integers as differences of differences, otherwise as differences
//! bit 5     one value stands for the whole series
//! ```
//!
//! # Invariants
//! - A float comes back with the bits it had. A decimal code is used only where doing the same
//!   division or multiplication again gave those bits; NaN, infinities and −0.0 never pass.
//! - What a register times a scale gives is such a decimal: two bytes instead of eight.

use crate::wire::{Cursor, RunReader, RunWriter, put_signed, signed_length};

pub(super) const CODE: u8 = 0x0f;
pub(super) const SECOND_ORDER: u8 = 0x10;
pub(super) const CONSTANT: u8 = 0x20;

const POWERS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
const FRACTIONS: [f64; 6] = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];

/// Beyond this an integer costs as much as the XOR of the bits, and below it every integer has
/// its own `f64`.
const LARGEST_DECIMAL: f64 = (1_u64 << 44) as f64;

/// In this order a series looks for its code: fewer digits first, since fewer are smaller.
const CODES_64: [u8; 13] = [1, 2, 8, 3, 9, 4, 10, 5, 11, 6, 12, 7, 13];
const CODES_32: [u8; 7] = [1, 2, 3, 4, 5, 6, 7];

/// The streams that series are written to.
#[derive(Debug, Default)]
pub(super) struct Streams {
    modes_run: RunWriter,
    pub(super) modes: Vec<u8>,
    pub(super) integers: Vec<u8>,
    /// For each XOR: leading zero bytes in the upper half, bytes that follow in the lower.
    pub(super) shapes: Vec<u8>,
    pub(super) bits: Vec<u8>,
    decimals: Vec<i64>,
}

impl Streams {
    pub(super) fn clear(&mut self) {
        self.modes_run = RunWriter::default();
        self.modes.clear();
        self.integers.clear();
        self.shapes.clear();
        self.bits.clear();
    }

    pub(super) fn finish(&mut self) {
        self.modes_run.finish(&mut self.modes);
    }

    pub(super) fn put_integers(&mut self, values: &[i64]) {
        let (mode, _) = integer_mode(values);
        self.modes_run.push(&mut self.modes, mode.into());
        put_integers(&mut self.integers, mode, values);
    }

    pub(super) fn put_f64(&mut self, bits: &[u64]) {
        self.put_floats::<8>(bits, &CODES_64, |code, bits| decimal_64(code, f64::from_bits(bits)));
    }

    /// The values are the bits of `f32`, widened.
    pub(super) fn put_f32(&mut self, bits: &[u64]) {
        self.put_floats::<4>(bits, &CODES_32, |code, bits| {
            decimal_32(code, f32::from_bits(u32::try_from(bits).ok()?))
        });
    }

    fn put_floats<const WIDTH: usize>(
        &mut self,
        bits: &[u64],
        codes: &[u8],
        decimal: impl Fn(u8, u64) -> Option<i64>,
    ) {
        let code = find_code(bits, codes, &mut self.decimals, decimal);
        if let Some(code) = code {
            let (mode, length) = integer_mode(&self.decimals);
            let as_bits = if mode & CONSTANT == 0 { bits } else { &bits[..1] };
            if length <= xor_length::<WIDTH>(as_bits) {
                self.modes_run.push(&mut self.modes, (mode | code).into());
                put_integers(&mut self.integers, mode, &self.decimals);
                return;
            }
        }
        let constant = is_constant(bits);
        let mode = if constant { CONSTANT } else { 0 };
        self.modes_run.push(&mut self.modes, mode.into());
        let mut before = 0;
        for &value in if constant { &bits[..1] } else { bits } {
            let shape = Shape::of::<WIDTH>(value ^ before);
            self.shapes.push(shape.byte());
            let bytes = (value ^ before).to_be_bytes();
            let from = 8 - WIDTH + shape.leading;
            self.bits.extend_from_slice(&bytes[from..from + shape.length]);
            before = value;
        }
    }
}

/// Which bytes of an XOR, highest first, are worth keeping.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) leading: usize,
    pub(super) length: usize,
}

impl Shape {
    fn of<const WIDTH: usize>(xor: u64) -> Self {
        if xor == 0 {
            return Self { leading: 0, length: 0 };
        }
        let leading = xor.leading_zeros() as usize / 8 - (8 - WIDTH);
        let trailing = xor.trailing_zeros() as usize / 8;
        Self { leading, length: WIDTH - leading - trailing }
    }

    fn byte(self) -> u8 {
        u8::try_from(self.leading << 4 | self.length).unwrap_or(0)
    }

    pub(super) fn from_byte<const WIDTH: usize>(byte: u8) -> Option<Self> {
        let shape = Self { leading: usize::from(byte >> 4), length: usize::from(byte & 0x0f) };
        (shape.leading + shape.length <= WIDTH).then_some(shape)
    }
}

fn xor_length<const WIDTH: usize>(bits: &[u64]) -> usize {
    let mut before = 0;
    let mut length = 0;
    for &value in bits {
        length += 1 + Shape::of::<WIDTH>(value ^ before).length;
        before = value;
    }
    length
}

fn is_constant<T: PartialEq>(values: &[T]) -> bool {
    values.len() > 1 && values.windows(2).all(|pair| pair[0] == pair[1])
}

/// The first code under which every value is an exact decimal; `out` then holds the integers.
fn find_code(
    bits: &[u64],
    codes: &[u8],
    out: &mut Vec<i64>,
    decimal: impl Fn(u8, u64) -> Option<i64>,
) -> Option<u8> {
    'code: for &code in codes {
        out.clear();
        for &value in bits {
            match decimal(code, value) {
                Some(integer) => out.push(integer),
                None => continue 'code,
            }
        }
        return Some(code);
    }
    None
}

fn decimal_64(code: u8, value: f64) -> Option<i64> {
    let integer = nearest(value, code)?;
    (from_decimal(code, integer)?.to_bits() == value.to_bits()).then_some(integer)
}

fn decimal_32(code: u8, value: f32) -> Option<i64> {
    let integer = nearest(value.into(), code)?;
    (narrow(from_decimal(code, integer)?).to_bits() == value.to_bits()).then_some(integer)
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to single precision is meant")]
pub(super) const fn narrow(value: f64) -> f32 {
    value as f32
}

#[expect(clippy::cast_possible_truncation, reason = "the range was looked at one line before")]
fn nearest(value: f64, code: u8) -> Option<i64> {
    let exponent = usize::from(if code < 8 { code - 1 } else { code - 7 });
    let scaled = value * POWERS.get(exponent)?;
    (scaled.abs() < LARGEST_DECIMAL).then(|| (scaled + 0.5_f64.copysign(scaled)) as i64)
}

#[expect(clippy::cast_precision_loss, reason = "the same rounding happens on both sides")]
const fn real(integer: i64) -> f64 {
    integer as f64
}

pub(super) fn from_decimal(code: u8, integer: i64) -> Option<f64> {
    let integer = real(integer);
    match code {
        1..=7 => Some(integer / POWERS.get(usize::from(code - 1))?),
        8..=13 => Some(integer * FRACTIONS.get(usize::from(code - 8))?),
        _ => None,
    }
}

/// The shortest way for these integers, and its length.
fn integer_mode(values: &[i64]) -> (u8, usize) {
    let first = values.first().map_or(0, |v| signed_length(*v));
    if is_constant(values) {
        return (CONSTANT, first);
    }
    let (mut plain, mut second) = (first, first);
    let mut before = 0_i64;
    for pair in values.windows(2) {
        let step = pair[1].wrapping_sub(pair[0]);
        plain += signed_length(step);
        second += signed_length(step.wrapping_sub(before));
        before = step;
    }
    if second < plain { (SECOND_ORDER, second) } else { (0, plain) }
}

fn put_integers(out: &mut Vec<u8>, mode: u8, values: &[i64]) {
    let values = if mode & CONSTANT == 0 { values } else { &values[..1] };
    let Some((&first, _)) = values.split_first() else { return };
    put_signed(out, first);
    let mut before = 0_i64;
    for pair in values.windows(2) {
        let step = pair[1].wrapping_sub(pair[0]);
        if mode & SECOND_ORDER == 0 {
            put_signed(out, step);
        } else {
            put_signed(out, step.wrapping_sub(before));
            before = step;
        }
    }
}

/// The streams that series are read from.
#[derive(Debug)]
pub(super) struct Series<'a> {
    pub(super) modes: RunReader<'a>,
    pub(super) integers: Cursor<'a>,
    pub(super) shapes: Cursor<'a>,
    pub(super) bits: Cursor<'a>,
}

impl Series<'_> {
    fn mode(&mut self) -> Option<u8> {
        u8::try_from(self.modes.next()?)
            .ok()
            .filter(|mode| mode & !(CODE | SECOND_ORDER | CONSTANT) == 0)
    }

    /// Reads a series of `count` integers, at least one.
    pub(super) fn integers(&mut self, count: usize, put: impl FnMut(i64)) -> Option<()> {
        let mode = self.mode()?;
        if mode & CODE != 0 {
            return None;
        }
        self.each_integer(mode, count, put)
    }

    /// Reads a series of `count` doubles, at least one.
    pub(super) fn doubles(&mut self, count: usize, mut put: impl FnMut(f64)) -> Option<()> {
        self.floats::<8>(count, |float| {
            put(match float {
                Float::Bits(bits) => f64::from_bits(bits),
                Float::Decimal(value) => value,
            });
        })
    }

    /// Reads a series of `count` singles, at least one.
    pub(super) fn singles(&mut self, count: usize, mut put: impl FnMut(f32)) -> Option<()> {
        self.floats::<4>(count, |float| {
            put(match float {
                Float::Bits(bits) => f32::from_bits(low_half(bits)),
                Float::Decimal(value) => narrow(value),
            });
        })
    }

    /// Passes over a series of `count` integers, at least one.
    pub(super) fn skip_integers(&mut self, count: usize) -> Option<()> {
        let mode = self.mode()?;
        self.integers.skip_varints(if mode & CONSTANT == 0 { count } else { 1 })
    }

    /// Passes over a series of `count` floats of either width, at least one.
    pub(super) fn skip_floats(&mut self, count: usize) -> Option<()> {
        let mode = self.mode()?;
        let count = if mode & CONSTANT == 0 { count } else { 1 };
        if mode & CODE != 0 {
            return self.integers.skip_varints(count);
        }
        let shapes = self.shapes.take(count)?;
        let length = shapes.iter().map(|shape| usize::from(shape & 0x0f)).sum();
        self.bits.take(length).map(|_| ())
    }

    #[inline]
    fn floats<const WIDTH: usize>(
        &mut self,
        count: usize,
        mut put: impl FnMut(Float),
    ) -> Option<()> {
        let mode = self.mode()?;
        match mode & CODE {
            0 => {
                let (read, repeat) = if mode & CONSTANT == 0 { (count, 1) } else { (1, count) };
                let mut value = 0;
                for &shape in self.shapes.take(read)? {
                    value ^= self.next_xor::<WIDTH>(shape)?;
                    for _ in 0..repeat {
                        put(Float::Bits(value));
                    }
                }
                Some(())
            }
            code @ 1..=7 => {
                let power = *POWERS.get(usize::from(code - 1))?;
                self.each_integer(mode, count, |i| put(Float::Decimal(real(i) / power)))
            }
            code => {
                let fraction = *FRACTIONS.get(usize::from(code - 8))?;
                self.each_integer(mode, count, |i| put(Float::Decimal(real(i) * fraction)))
            }
        }
    }

    #[inline]
    fn each_integer(&mut self, mode: u8, count: usize, mut put: impl FnMut(i64)) -> Option<()> {
        let mut last = self.integers.signed()?;
        put(last);
        if mode & CONSTANT != 0 {
            for _ in 1..count {
                put(last);
            }
        } else if mode & SECOND_ORDER == 0 {
            for _ in 1..count {
                last = last.wrapping_add(self.integers.signed()?);
                put(last);
            }
        } else {
            let mut step = 0_i64;
            for _ in 1..count {
                step = step.wrapping_add(self.integers.signed()?);
                last = last.wrapping_add(step);
                put(last);
            }
        }
        Some(())
    }

    #[inline]
    fn next_xor<const WIDTH: usize>(&mut self, shape: u8) -> Option<u64> {
        let shape = Shape::from_byte::<WIDTH>(shape)?;
        if shape.length == 0 {
            return Some(0);
        }
        let trailing = WIDTH - shape.leading - shape.length;
        // Mostly there are eight bytes to take at once and to cut off what is not meant.
        let high = match self.bits.0.first_chunk::<8>() {
            Some(bytes) => u64::from_be_bytes(*bytes) >> (8 * (8 - shape.length)),
            None => {
                let taken = self.bits.0.get(..shape.length)?;
                taken.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
            }
        };
        self.bits.take(shape.length)?;
        Some(high << (8 * trailing))
    }
}

/// A float as its series has it.
enum Float {
    Bits(u64),
    Decimal(f64),
}

/// The bits of a single: the upper half of what holds them is zero.
#[expect(clippy::cast_possible_truncation, reason = "shapes of four bytes leave no upper half")]
const fn low_half(bits: u64) -> u32 {
    bits as u32
}
