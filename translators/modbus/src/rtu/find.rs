//! Frames among the bytes of a line, and which of them answers the request in flight. Pure.
//!
//! RTU has no header that says where a frame begins, and the silence around a frame does not
//! survive serial servers and USB adapters. So a frame may begin at every byte, and what makes it
//! one is that its function tells its length and its checksum is right.
//!
//! # Invariants
//! - An answer has the unit, function and byte count of the request, and a right checksum.
//! - The leftmost whole frame wins, so that a frame which carries the bytes of another one inside
//!   hides it. While a frame that began earlier may still be on its way, an answer is only
//!   [`Found::Shadowed`].
//! - Bytes are looked at again only when a frame may have become whole with those that are new.

use std::ops::Range;

use super::crc::{crc16, is_intact};

/// The largest frame: unit, 253 bytes of data, checksum, by the specification.
pub(crate) const MAX_FRAME: usize = 256;
/// Read device identification: function, and the only interface type of it that is read here.
pub(crate) const INTERFACE: u8 = 0x2B;
pub(crate) const IDENTIFICATION: u8 = 0x0E;
/// The access code that asks for one object rather than for all from one on.
const ONE_OBJECT: u8 = 4;
/// The bit in a function that makes an answer an exception.
const EXCEPTION: u8 = 0x80;

/// All that an RTU answer tells of the request that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// The function; with the high bit in an exception.
    pub(crate) function: u8,
    /// The byte count; for an identification, which has none, the access code; for an exception 0.
    pub(crate) bytes: u8,
}

impl Shape {
    /// The shape of the answer to a read of so many registers or bits, legal numbers of them.
    pub(crate) fn read(function: u8, count: u16) -> Self {
        Self { function, bytes: bytes_of(function, count).unwrap_or_default() }
    }

    /// The shape of an identification asked for with this access code.
    pub(crate) const fn identification(code: u8) -> Self {
        Self { function: INTERFACE, bytes: code }
    }

    /// The function that was asked for.
    pub(crate) const fn asked_function(self) -> u8 {
        self.function & !EXCEPTION
    }

    /// Whether it is a "no", which may answer any request with its function.
    pub(crate) const fn is_exception(self) -> bool {
        self.function & EXCEPTION != 0
    }

    fn of(frame: &[u8]) -> Option<Self> {
        let [_, function, third, fourth, ..] = *frame else { return None };
        Some(match function {
            EXCEPTION.. => Self { function, bytes: 0 },
            // A shorter one is a request.
            INTERFACE if frame.len() >= 10 => Self { function, bytes: fourth },
            _ if frame.len() == usize::from(third) + 5 => Self { function, bytes: third },
            _ => return None,
        })
    }
}

/// The bytes that so many registers or bits take, when one answer holds them.
fn bytes_of(function: u8, count: u16) -> Option<u8> {
    let (most, bytes) = match function {
        1 | 2 => (2000, count.div_ceil(8)),
        3 | 4 => (125, count.saturating_mul(2)),
        _ => return None,
    };
    if count == 0 || count > most { None } else { u8::try_from(bytes).ok() }
}

/// A request as it goes onto the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    frame: [u8; 8],
    length: usize,
    shape: Shape,
}

impl Asked {
    /// The request of a protocol data unit; what does not read is refused.
    pub(crate) fn new(unit: u8, pdu: &[u8]) -> Result<Self, String> {
        if unit == 0 {
            return Err("unit 0 is every unit of a serial line, and none of them answers".into());
        }
        let shape = match *pdu {
            [function @ 1..=4, _, _, high, low] => {
                let count = u16::from_be_bytes([high, low]);
                let Some(bytes) = bytes_of(function, count) else {
                    return Err(format!("function {function} cannot read {count} at once"));
                };
                Shape { function, bytes }
            }
            [INTERFACE, IDENTIFICATION, code, _] => Shape::identification(code),
            [function, ..] => {
                return Err(format!(
                    "request with function {function} refused: it is none that reads"
                ));
            }
            [] => return Err("a request without a function".into()),
        };
        let mut frame = [0; 8];
        let length = pdu.len() + 3;
        frame[0] = unit;
        frame[1..=pdu.len()].copy_from_slice(pdu);
        let checksum = crc16(&frame[..length - 2]).to_le_bytes();
        frame[length - 2..length].copy_from_slice(&checksum);
        Ok(Self { frame, length, shape })
    }

    /// The request of a whole frame.
    pub(crate) fn of_frame(frame: &[u8]) -> Result<Self, String> {
        match *frame {
            [unit, ref pdu @ .., _, _] if is_intact(frame) => Self::new(unit, pdu),
            _ => Err(format!("{} bytes that are no RTU request", frame.len())),
        }
    }

    pub(crate) fn frame(&self) -> &[u8] {
        &self.frame[..self.length]
    }

    pub(crate) const fn unit(&self) -> u8 {
        self.frame[0]
    }

    pub(crate) const fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether a whole, intact frame is an answer to it.
    fn fits(&self, frame: &[u8]) -> bool {
        let of_unit = frame.first() == Some(&self.unit());
        of_unit
            && Shape::of(frame).is_some_and(|shape| {
                let refused = shape.is_exception()
                    && shape.asked_function() == self.shape.function
                    && frame.len() == 5;
                refused || (shape == self.shape && self.fits_object(frame))
            })
    }

    /// One object asked for by its number comes alone and with that number.
    fn fits_object(&self, frame: &[u8]) -> bool {
        let alone = self.shape == Shape { function: INTERFACE, bytes: ONE_OBJECT };
        !alone || matches!(*frame, [_, _, _, _, _, _, _, 1, object, ..] if object == self.frame[4])
    }
}

/// What a look at the bytes shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// The answer, checksum included.
    Answer(Range<usize>),
    /// The answer, unless it is inside a frame that began before it and is not yet whole.
    Shadowed {
        at: Range<usize>,
        /// Where that frame began.
        keep: usize,
    },
    /// The request itself, as half-duplex adapters hear it.
    Echo(Range<usize>),
    /// A frame that answers something else.
    Stale {
        at: Range<usize>,
        unit: u8,
        /// `None` when it answers no read at all.
        shape: Option<Shape>,
    },
    /// Nothing. What stands before `keep` is no part of a frame and never will be.
    More { keep: usize },
}

/// Looks for the first frame. Frames that end within the first `checked` bytes were looked at
/// before. While nothing is asked, no frame is an answer. `echoes` decides a frame that is the
/// request and would be an answer to it as well.
pub(crate) fn find(bytes: &[u8], checked: usize, asked: Option<&Asked>, echoes: bool) -> Found {
    let mut open = None;
    for at in 0..bytes.len() {
        let rest = &bytes[at..];
        for length in lengths(rest) {
            let Some(length) = length else { continue };
            let Some(frame) = rest.get(..length) else {
                open.get_or_insert(at);
                continue;
            };
            let range = at..at + length;
            if range.end <= checked || !is_intact(frame) {
                continue;
            }
            let fits = asked.is_some_and(|asked| asked.fits(frame));
            let ours = asked.is_some_and(|asked| asked.frame() == frame);
            if ours && (echoes || !fits) {
                return Found::Echo(range);
            }
            return match (fits, open) {
                (true, None) => Found::Answer(range),
                (true, Some(keep)) => Found::Shadowed { at: range, keep },
                (false, _) => Found::Stale { at: range, unit: frame[0], shape: Shape::of(frame) },
            };
        }
    }
    Found::More { keep: open.unwrap_or(bytes.len()) }
}

/// How long a frame that begins here may be: as an answer, and as a request or an answer to a
/// write. More than there are bytes when it is on its way; a length that is not yet known is one
/// byte more than there are.
fn lengths(rest: &[u8]) -> [Option<usize>; 2] {
    let unknown = rest.len() + 1;
    let Some(function) = rest.get(1) else { return [Some(unknown), None] };
    match function {
        1..=4 | 23 => {
            let odd_is_fine = *function <= 2;
            let answer = match rest.get(2) {
                None => Some(unknown),
                Some(count @ 1..=250) if odd_is_fine || count % 2 == 0 => {
                    Some(usize::from(*count) + 5)
                }
                Some(_) => None,
            };
            [answer, (*function != 23).then_some(8)]
        }
        5 | 6 | 15 | 16 => [Some(8), None],
        &INTERFACE => match rest.get(2) {
            None => [Some(unknown), None],
            Some(&IDENTIFICATION) => [identification(rest), Some(7)],
            Some(_) => [None, None],
        },
        EXCEPTION.. => [Some(5), None],
        _ => [None, None],
    }
}

/// The length of an identification: it ends where its list of objects does.
fn identification(rest: &[u8]) -> Option<usize> {
    let unknown = rest.len() + 1;
    let Some(count) = rest.get(7) else { return Some(unknown) };
    let mut end = 8;
    for _ in 0..*count {
        let Some(length) = rest.get(end + 1) else {
            return (end + 2 <= MAX_FRAME).then_some(unknown.max(end + 2));
        };
        end += 2 + usize::from(*length);
    }
    (end + 2 <= MAX_FRAME).then_some(end + 2)
}

#[cfg(test)]
mod tests;
