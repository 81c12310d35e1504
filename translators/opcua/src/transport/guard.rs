//! What the decoder reads from: the bytes of one message, and an end to whoever asks too much.
//!
//! # Invariants
//! - The decoder's recursion ends with an error after [`STACK`] bytes of stack, whatever types lie
//!   in each other: it cannot read on, and each level reads. Dropping what was decoded takes less
//!   stack for a level than decoding it did, so that ends as well.
//! - No message takes more than [`MAX_STEPS`] reads. Each element of an array takes one at least,
//!   so what a message becomes in memory is bounded beyond its own size.
//! - The body of an XML structure that claims more bytes than there are is refused before the
//!   decoder allocates the claim.

use std::io::{self, Read};

use opcua::types::DecodingOptions;

/// How much stack decoding may take. A level of nested values takes up to 7 KiB without
/// optimisation and 1 KiB with it, and 32 levels are legal; the threads of the runtime have 2 MiB.
pub(super) const STACK: usize = if cfg!(debug_assertions) { 1024 * 1024 } else { 128 * 1024 };
/// How often a message may be read from: 100,000 values with their times take 700,000 reads.
/// Elements take up to 100 bytes of memory for a read.
pub(super) const MAX_STEPS: u32 = 2_000_000;
/// How the body of a structure is marked that is of XML.
const XML: u8 = 2;

/// Reads one message.
pub(super) struct Guard<'a> {
    body: &'a [u8],
    at: usize,
    steps: u32,
    /// The address of the stack where decoding began.
    floor: usize,
    /// Where the last reads began, the latest first.
    began: [usize; 4],
    options: &'a DecodingOptions,
}

impl<'a> Guard<'a> {
    /// Begins with a message. `options` are those that the decoder will use.
    pub(super) fn new(body: &'a [u8], options: &'a DecodingOptions) -> Self {
        Self { body, at: 0, steps: 0, floor: stack(), began: [0; 4], options }
    }

    /// Lets one read of the decoder pass, or ends it.
    fn pass(&mut self) -> io::Result<()> {
        if self.floor.abs_diff(stack()) > STACK {
            return Err(io::Error::other("values are nested too deeply"));
        }
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(io::Error::other("the message has too many elements"));
        }
        Ok(())
    }

    fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    /// Notes that so many bytes were read.
    fn advance(&mut self, length: usize) -> io::Result<()> {
        let [a, b, c, _] = self.began;
        let before = std::mem::replace(&mut self.began, [self.at, a, b, c]);
        let is_xml = length == 1 && self.body.get(self.at) == Some(&XML);
        self.at += length;
        if is_xml && self.claims_too_much() && self.follows_a_node_id(before) {
            return Err(io::Error::other("an XML body claims more bytes than there are"));
        }
        Ok(())
    }

    /// Whether the next four bytes, as a length, go beyond the end.
    fn claims_too_much(&self) -> bool {
        let Some((claim, rest)) = self.rest().split_first_chunk::<4>() else { return false };
        usize::try_from(i32::from_le_bytes(*claim)).is_ok_and(|claim| claim > rest.len())
    }

    /// Whether the reads before the last one were those of a node id, within a structure that is
    /// being decoded. Values that look like it elsewhere are let pass.
    ///
    /// A bare status of a value has the same mark. It is told apart by this: what comes before it
    /// is no node id, unless a structure holds values without any time.
    fn follows_a_node_id(&self, began: [usize; 4]) -> bool {
        let end = self.at.saturating_sub(1);
        let [a, b, c, d] = began;
        let piece = |from: usize, to: usize| self.body.get(from..to).unwrap_or_default();
        let is_node_id = match (piece(d, c), piece(c, b), piece(b, a), piece(a, end)) {
            (_, _, [0], [_]) | (_, [1], [_], [_, _]) | (_, [2], [_, _], [_, _, _, _]) => true,
            (_, [4], [_, _], guid) if guid.len() == 16 => true,
            (_, [3 | 5], [_, _], [_, _, _, sign]) if *sign >= 0x80 => true,
            (_, [3 | 5], [_, _], [0, 0, 0, 0]) => true,
            ([3 | 5], [_, _], [w, x, y, z], text) => {
                usize::try_from(u32::from_le_bytes([*w, *x, *y, *z])) == Ok(text.len())
            }
            _ => false,
        };
        is_node_id && self.is_within_a_structure()
    }

    fn is_within_a_structure(&self) -> bool {
        let most = self.options.decoding_depth_gauge.max_depth();
        let mut held = Vec::new();
        for _ in 0..most {
            match self.options.depth_lock() {
                Ok(lock) => held.push(lock),
                Err(_) => return true,
            }
        }
        false
    }
}

impl Read for Guard<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.pass()?;
        let length = into.len().min(self.rest().len());
        let (Some(to), Some(from)) = (into.get_mut(..length), self.rest().get(..length)) else {
            return Ok(0);
        };
        to.copy_from_slice(from);
        self.advance(length)?;
        Ok(length)
    }

    fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.pass()?;
        let Some(from) = self.rest().get(..into.len()) else {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        };
        into.copy_from_slice(from);
        self.advance(into.len())
    }
}

/// Where the stack ends at present.
#[inline(never)]
fn stack() -> usize {
    let marker = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&marker)).addr()
}
