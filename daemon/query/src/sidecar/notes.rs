//! The list of frames in a file.

use tidegate_journal::{Kind, Spot};

use super::FrameNote;
use super::wire::{Bytes, pack, put, put_length, put_signed, unpack};

const MILLISECOND: i64 = 1_000_000;
/// What a file can list at most: the smallest frames in the largest segment.
const MAX_NOTES: usize = 1 << 20;

/// The list, packed; times are widened to whole milliseconds.
pub(super) fn encode(notes: &[FrameNote]) -> Vec<u8> {
    let mut out = Vec::with_capacity(notes.len() * 8);
    put_length(&mut out, notes.len());
    let mut next = (0_u64, 0_u64, 0_u64);
    for note in notes {
        put(&mut out, note.spot.number.wrapping_sub(next.0));
        next.0 = note.spot.number.wrapping_add(1);
    }
    for note in notes {
        put(&mut out, note.spot.offset.wrapping_sub(next.1));
        next.1 = note.spot.offset.wrapping_add(u64::from(note.spot.length));
    }
    notes.iter().for_each(|note| put(&mut out, u64::from(note.spot.length)));
    notes.iter().for_each(|note| out.push(note.kind.code()));
    for note in notes {
        put(&mut out, note.first_seq.wrapping_sub(next.2));
        next.2 = note.first_seq.wrapping_add(u64::from(note.count));
    }
    notes.iter().for_each(|note| put(&mut out, u64::from(note.count)));
    let mut before = 0_i64;
    for note in notes {
        let from = note.wall.0.div_euclid(MILLISECOND);
        put_signed(&mut out, from.wrapping_sub(before));
        before = from;
    }
    for note in notes {
        let from = note.wall.0.div_euclid(MILLISECOND);
        let until = -(note.wall.1.saturating_neg().div_euclid(MILLISECOND));
        put_signed(&mut out, until.wrapping_sub(from));
    }
    pack(&out)
}

/// The list again; `None` when it is damaged.
pub(super) fn decode(packed: &[u8]) -> Option<Vec<FrameNote>> {
    let unpacked = unpack(packed)?;
    let mut bytes = Bytes::new(&unpacked);
    let count = bytes.length().filter(|count| *count <= MAX_NOTES)?;
    let numbers = bytes.column(count)?;
    let offsets = bytes.column(count)?;
    let lengths = bytes.column(count)?;
    let kinds = bytes.take(count)?;
    let seqs = bytes.column(count)?;
    let counts = bytes.column(count)?;
    let begins = bytes.signed_column(count)?;
    let spans = bytes.signed_column(count)?;
    let mut next = (0_u64, 0_u64, 0_u64);
    let mut before = 0_i64;
    let mut notes = Vec::with_capacity(count);
    for at in 0..count {
        let length = u32::try_from(*lengths.get(at)?).ok()?;
        let samples = u32::try_from(*counts.get(at)?).ok()?;
        let number = next.0.wrapping_add(*numbers.get(at)?);
        let offset = next.1.wrapping_add(*offsets.get(at)?);
        let first_seq = next.2.wrapping_add(*seqs.get(at)?);
        before = before.wrapping_add(*begins.get(at)?);
        let until = before.wrapping_add(*spans.get(at)?);
        next = (
            number.wrapping_add(1),
            offset.wrapping_add(u64::from(length)),
            first_seq.wrapping_add(u64::from(samples)),
        );
        notes.push(FrameNote {
            spot: Spot { number, offset, length },
            kind: Kind::from_code(*kinds.get(at)?),
            first_seq,
            count: samples,
            wall: (before.saturating_mul(MILLISECOND), until.saturating_mul(MILLISECOND)),
        });
    }
    Some(notes)
}
