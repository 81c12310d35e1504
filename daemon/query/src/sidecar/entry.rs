//! One tag in a file.
//!
//! # Invariants
//! - Columns of all cells follow each other, so that tags that are read together repeat each other's
//!   times, which LZ4 finds.
//! - What is read takes no more memory than a small multiple of its bytes.

use tidegate_record::samples::{quality_of, quality_word};
use tidegate_translator::{TagId, Value};

use super::GRAINS;
use super::numbers::{column, form, number, put_column, put_number};
use super::tally::Track;
use super::wire::{Bytes, put, put_length, put_signed};
use crate::{Cell, Last, Number};

/// Bits of the first byte: a place in [`GRAINS`] plus one, whether the frames are those of the tag
/// before, and whether lasts are told.
const GRAIN: u8 = 7;
const SAME_FRAMES: u8 = 8;
const LASTS: u8 = 16;
/// Values that are no numbers, after the forms of numbers.
const NONE: u8 = 8;
const FALSE: u8 = 9;
const TRUE: u8 = 10;
const TEXT: u8 = 11;
const BYTES: u8 = 12;
const JSON: u8 = 13;
/// All lasts of the tag are numbers, in a column.
const NUMBERS: u8 = 0;
const EACH: u8 = 1;

/// Appends a tag; the one before it in the same piece tells which number and frames it had. Returns
/// how many bytes its frames took.
pub(super) fn put_track(
    out: &mut Vec<u8>,
    tag: TagId,
    track: &Track,
    before: Option<(TagId, &Track)>,
) -> usize {
    put(out, u64::from(tag.0.wrapping_sub(before.map_or(0, |(tag, _)| tag.0))));
    let same = before.is_some_and(|(_, before)| before.runs == track.runs);
    let grain = track.grain.map_or(0, |at| u8::try_from(at + 1).unwrap_or(0));
    let lasts = if track.lasts { LASTS } else { 0 };
    out.push(grain | if same { SAME_FRAMES } else { 0 } | lasts);
    let length = out.len();
    if !same {
        put_length(out, track.runs.len());
        let mut next = 0;
        for (from, until) in &track.runs {
            put(out, u64::from(from.wrapping_sub(next)));
            put(out, u64::from(until.wrapping_sub(*from)));
            next = *until;
        }
    }
    let frames = out.len() - length;
    if let Some(grain) = track.grain.and_then(|at| GRAINS.get(at)) {
        put_cells(out, track, *grain);
    }
    frames
}

fn put_cells(out: &mut Vec<u8>, track: &Track, grain: i64) {
    let cells = &track.cells;
    put_length(out, cells.len());
    let mut before = 0_i64;
    for (slot, _) in cells {
        put_signed(out, slot.wrapping_sub(before));
        before = *slot;
    }
    cells.iter().for_each(|(_, cell)| put(out, cell.count));
    cells.iter().for_each(|(_, cell)| put(out, cell.count.wrapping_sub(cell.good)));
    cells.iter().for_each(|(_, cell)| put(out, cell.count.wrapping_sub(cell.numbers)));
    let numbered = |of: fn(&Cell) -> Option<Number>| {
        cells.iter().filter(|(_, cell)| cell.numbers > 0).filter_map(move |(_, cell)| of(cell))
    };
    put_column(out, &numbered(|cell| cell.min).collect::<Vec<_>>());
    put_column(out, &numbered(|cell| cell.max).collect::<Vec<_>>());
    put_column(out, &numbered(|cell| Some(Number::F64(cell.sum))).collect::<Vec<_>>());
    if track.lasts {
        put_lasts(out, cells, grain);
    }
}

fn put_lasts(out: &mut Vec<u8>, cells: &[(i64, Cell)], grain: i64) {
    let lasts: Vec<(i64, &Last)> =
        cells.iter().filter_map(|(slot, cell)| Some((*slot, cell.last.as_ref()?))).collect();
    let mut before = 0_u64;
    for (_, last) in &lasts {
        put_signed(out, last.seq.wrapping_sub(before).cast_signed());
        before = last.seq;
    }
    for (slot, last) in &lasts {
        put_signed(out, last.acquired.wrapping_sub(slot.wrapping_mul(grain)));
    }
    lasts.iter().for_each(|(_, last)| put(out, quality_word(last.quality).into()));
    let numbers: Option<Vec<Number>> =
        lasts.iter().map(|(_, last)| exact_number(&last.value)).collect();
    if let Some(numbers) = numbers {
        out.push(NUMBERS);
        put_column(out, &numbers);
        return;
    }
    out.push(EACH);
    lasts.iter().for_each(|(_, last)| put_value(out, &last.value));
}

/// Unlike [`Number::of`] also what is not finite.
const fn exact_number(value: &Value) -> Option<Number> {
    match value {
        Value::I64(v) => Some(Number::I64(*v)),
        Value::U64(v) => Some(Number::U64(*v)),
        Value::F32(v) => Some(Number::F32(*v)),
        Value::F64(v) => Some(Number::F64(*v)),
        _ => None,
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut blob = |kind, bytes: &[u8]| {
        out.push(kind);
        put_length(out, bytes.len());
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Text(text) => blob(TEXT, text.as_bytes()),
        Value::Json(text) => blob(JSON, text.as_bytes()),
        Value::Bytes(bytes) => blob(BYTES, bytes),
        Value::Bool(v) => out.push(if *v { TRUE } else { FALSE }),
        other => match exact_number(other) {
            Some(number) => {
                out.push(form(number));
                put_number(out, number);
            }
            None => out.push(NONE),
        },
    }
}

fn value(bytes: &mut Bytes<'_>) -> Option<Value> {
    let kind = bytes.byte()?;
    let text = |bytes: &mut Bytes<'_>| {
        let length = bytes.length()?;
        Some(Box::<str>::from(std::str::from_utf8(bytes.take(length)?).ok()?))
    };
    Some(match kind {
        NONE => Value::None,
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        TEXT => Value::Text(text(bytes)?),
        JSON => Value::Json(text(bytes)?),
        BYTES => {
            let length = bytes.length()?;
            Value::Bytes(bytes.take(length)?.into())
        }
        form => number(bytes, form)?.value(),
    })
}

/// Reads the next tag of a piece.
pub(super) fn track(
    bytes: &mut Bytes<'_>,
    before: Option<(TagId, &Track)>,
) -> Option<(TagId, Track)> {
    let step = u32::try_from(bytes.unsigned()?).ok()?;
    let tag = TagId(before.map_or(0, |(tag, _)| tag.0).checked_add(step)?);
    let flags = bytes.byte()?;
    let runs = if flags & SAME_FRAMES == 0 {
        let mut next = 0_u32;
        (0..bytes.length()?)
            .map(|_| {
                let from = next.checked_add(u32::try_from(bytes.unsigned()?).ok()?)?;
                next = from.checked_add(u32::try_from(bytes.unsigned()?).ok()?)?;
                Some((from, next))
            })
            .collect::<Option<_>>()?
    } else {
        before?.1.runs.clone()
    };
    let lasts = flags & LASTS != 0;
    let grain = usize::from(flags & GRAIN).checked_sub(1);
    let cells = match grain {
        Some(at) => cells(bytes, *GRAINS.get(at)?, lasts)?,
        None => Vec::new(),
    };
    Some((tag, Track { grain, cells, lasts, runs }))
}

fn cells(bytes: &mut Bytes<'_>, grain: i64, with_lasts: bool) -> Option<Vec<(i64, Cell)>> {
    let length = bytes.length()?;
    let mut slot = 0_i64;
    let slots: Vec<i64> = (0..length)
        .map(|_| {
            slot = slot.wrapping_add(bytes.signed()?);
            Some(slot)
        })
        .collect::<Option<_>>()?;
    let counts = bytes.column(length)?;
    let not_good = bytes.column(length)?;
    let no_numbers = bytes.column(length)?;
    let numbered =
        counts.iter().zip(&no_numbers).filter(|(count, without)| count > without).count();
    let mut min = column(bytes, numbered)?.into_iter();
    let mut max = column(bytes, numbered)?.into_iter();
    let mut sums = column(bytes, numbered)?.into_iter();
    let mut lasts = if with_lasts { lasts(bytes, &slots, grain)? } else { Vec::new() }.into_iter();
    let mut cells = Vec::with_capacity(length);
    let rows = slots.into_iter().zip(counts).zip(not_good.into_iter().zip(no_numbers));
    for ((slot, count), (not_good, no_numbers)) in rows {
        let numbers = count.checked_sub(no_numbers)?;
        let mut cell =
            Cell { count, good: count.checked_sub(not_good)?, numbers, ..Cell::default() };
        if numbers > 0 {
            (cell.min, cell.max) = (Some(min.next()?), Some(max.next()?));
            let Number::F64(sum) = sums.next()? else { return None };
            cell.sum = sum;
        }
        cell.last = lasts.next();
        cells.push((slot, cell));
    }
    Some(cells)
}

fn lasts(bytes: &mut Bytes<'_>, slots: &[i64], grain: i64) -> Option<Vec<Last>> {
    let seqs = bytes.signed_column(slots.len())?;
    let times = bytes.signed_column(slots.len())?;
    let words = bytes.column(slots.len())?;
    let values: Vec<Value> = if bytes.byte()? == NUMBERS {
        column(bytes, slots.len())?.into_iter().map(Number::value).collect()
    } else {
        slots.iter().map(|_| value(bytes)).collect::<Option<_>>()?
    };
    let mut seq = 0_u64;
    let rows = slots.iter().zip(seqs).zip(times.into_iter().zip(words)).zip(values);
    rows.map(|(((slot, step), (time, word)), value)| {
        seq = seq.wrapping_add(step.cast_unsigned());
        let acquired = time.wrapping_add(slot.wrapping_mul(grain));
        Some(Last { seq, acquired, quality: quality_of(word)?, value })
    })
    .collect()
}
