//! Columns of numbers, exact to the bit.
//!
//! # Invariants
//! - What comes out is what went in, form included; a form that does not fit a column is written
//!   number by number.

use crate::Number;

use super::wire::{Bytes, put, put_signed};

const I64: u8 = 0;
const U64: u8 = 1;
const F32: u8 = 2;
const F64: u8 = 3;
const MIXED: u8 = 4;
/// And the number of digits after the point: doubles, and singles, that are short decimals.
const DECIMAL_64: u8 = 16;
const DECIMAL_32: u8 = 32;
const POWERS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
/// Integers up to here are exact as doubles.
const EXACT: f64 = 9_007_199_254_740_992.0;

pub(super) const fn form(number: Number) -> u8 {
    match number {
        Number::I64(_) => I64,
        Number::U64(_) => U64,
        Number::F32(_) => F32,
        Number::F64(_) => F64,
    }
}

/// Appends a column; how many there are is for the reader to know.
pub(super) fn put_column(out: &mut Vec<u8>, numbers: &[Number]) {
    let Some((&first, rest)) = numbers.split_first() else { return };
    let all = form(first);
    if rest.iter().any(|number| form(*number) != all) {
        out.push(MIXED);
        for number in numbers {
            out.push(form(*number));
            put_number(out, *number);
        }
        return;
    }
    if all >= F32
        && let Some((digits, integers)) = decimals(numbers)
    {
        out.push(if all == F32 { DECIMAL_32 } else { DECIMAL_64 } | digits);
        put_steps(out, integers.into_iter());
        return;
    }
    out.push(all);
    match all {
        I64 | U64 => put_steps(
            out,
            numbers.iter().map(|number| match *number {
                Number::I64(v) => v,
                Number::U64(v) => v.cast_signed(),
                _ => 0,
            }),
        ),
        _ => numbers.iter().for_each(|number| put_number(out, *number)),
    }
}

fn put_steps(out: &mut Vec<u8>, integers: impl Iterator<Item = i64>) {
    let mut before = 0_i64;
    for integer in integers {
        put_signed(out, integer.wrapping_sub(before));
        before = integer;
    }
}

pub(super) fn put_number(out: &mut Vec<u8>, number: Number) {
    match number {
        Number::I64(v) => put_signed(out, v),
        Number::U64(v) => put(out, v),
        Number::F32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Number::F64(v) => out.extend_from_slice(&v.to_le_bytes()),
    }
}

pub(super) fn number(bytes: &mut Bytes<'_>, form: u8) -> Option<Number> {
    Some(match form {
        I64 => Number::I64(bytes.signed()?),
        U64 => Number::U64(bytes.unsigned()?),
        F32 => Number::F32(f32::from_le_bytes(bytes.array()?)),
        F64 => Number::F64(f64::from_le_bytes(bytes.array()?)),
        _ => return None,
    })
}

/// A column of so many numbers.
pub(super) fn column(bytes: &mut Bytes<'_>, length: usize) -> Option<Vec<Number>> {
    if length == 0 {
        return Some(Vec::new());
    }
    let all = bytes.byte()?;
    let steps = |bytes: &mut Bytes<'_>, number: &dyn Fn(i64) -> Option<Number>| {
        let mut before = 0_i64;
        (0..length)
            .map(|_| {
                before = before.wrapping_add(bytes.signed()?);
                number(before)
            })
            .collect()
    };
    match all {
        I64 => steps(bytes, &|v| Some(Number::I64(v))),
        U64 => steps(bytes, &|v| Some(Number::U64(v.cast_unsigned()))),
        F32 | F64 => (0..length).map(|_| number(bytes, all)).collect(),
        MIXED => (0..length)
            .map(|_| {
                let form = bytes.byte()?;
                number(bytes, form)
            })
            .collect(),
        _ if all & !15 == DECIMAL_64 => {
            steps(bytes, &|v| Some(Number::F64(from_decimal(v, all & 15)?)))
        }
        _ if all & !15 == DECIMAL_32 => {
            steps(bytes, &|v| Some(Number::F32(narrow(from_decimal(v, all & 15)?))))
        }
        _ => None,
    }
}

/// The fewest digits after the point that give every number back, and the numbers without it.
fn decimals(numbers: &[Number]) -> Option<(u8, Vec<i64>)> {
    let mut digits = 0;
    // Most columns need as many digits in the first number as in the others.
    let mut integers = Vec::with_capacity(numbers.len());
    while integers.len() < numbers.len() {
        let number = *numbers.get(integers.len())?;
        match to_decimal(number, digits) {
            Some(integer) => integers.push(integer),
            None => {
                digits += 1;
                integers.clear();
                POWERS.get(usize::from(digits))?;
            }
        }
    }
    Some((digits, integers))
}

fn to_decimal(number: Number, digits: u8) -> Option<i64> {
    let integer = nearest(number.double() * POWERS.get(usize::from(digits))?)?;
    let back = from_decimal(integer, digits)?;
    let same = match number {
        Number::F32(v) => narrow(back).to_bits() == v.to_bits(),
        _ => back.to_bits() == number.double().to_bits(),
    };
    same.then_some(integer)
}

#[expect(clippy::cast_possible_truncation, reason = "the range was looked at")]
fn nearest(value: f64) -> Option<i64> {
    let rounded = value.round();
    (rounded.abs() < EXACT).then_some(rounded as i64)
}

#[expect(clippy::cast_precision_loss, reason = "the same rounding happens on both sides")]
fn from_decimal(integer: i64, digits: u8) -> Option<f64> {
    Some(integer as f64 / POWERS.get(usize::from(digits))?)
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to single precision is meant")]
const fn narrow(value: f64) -> f32 {
    value as f32
}
