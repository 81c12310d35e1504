//! A digest as the content of a sidecar.
//!
//! # Invariants
//! - The head and one piece, some 12 KiB together, tell of one tag; the rest of a file is not read.
//! - A file is as small as its share of the segment: cells of tags with few samples grow wider and
//!   groups of frames larger until it is.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tidegate_journal::Sidecar;
use tidegate_translator::TagId;

use super::entry::{put_track, track};
use super::tally::{Tally, Track, digest, unknown};
use super::wire::{Bytes, pack, unpack};
use super::{FrameNote, TagDigest, notes};

/// The first bytes, with the version of what follows.
const MAGIC: [u8; 4] = *b"TGD1";
/// Magic, and the length of the head.
const BEFORE_HEAD: usize = 8;
/// Read at first; the head of a thousand tags fits.
const FIRST_READ: usize = 4096;
/// Pieces are packed when they have so many bytes: smaller ones pack worse, larger ones cost a
/// question of one tag more.
const PIECE: usize = 12 << 10;
/// The largest head that is believed.
const MAX_HEAD: usize = 1 << 20;
/// Attempts to fit a file into its share; the last ones have no cells.
const ATTEMPTS: u32 = 24;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    wall: Option<(i64, i64)>,
    end: u64,
    shift: u32,
    /// How many sample frames.
    frames: u32,
    unknown: bool,
    /// First tag and bytes of each piece, which lie behind the head in this order.
    pieces: Vec<(u32, u32)>,
    /// Bytes of the list of other frames, behind the pieces.
    others: u32,
    /// Bytes of the list of sample frames, behind that.
    notes: u32,
}

/// The content for a sidecar of at most `limit` bytes; `None` when not even the bare list of frames
/// fits. Makes cells wider where it must.
pub(super) fn encode(tally: &mut Tally, limit: usize) -> Option<Vec<u8>> {
    let others = notes::encode(tally.others());
    let frames = notes::encode(tally.frames());
    let fixed = others.len() + frames.len() + 64;
    let mut least = 2_u64;
    for _ in 0..ATTEMPTS {
        let (pieces, of_frames, of_all) = pieces(tally);
        let size = fixed + pieces.iter().map(|(_, piece)| piece.len() + 8).sum::<usize>();
        if size <= limit {
            return assemble(tally, pieces, &others, &frames);
        }
        // Whichever takes more must give way.
        if of_frames * 2 < of_all || !tally.join_groups() {
            tally.widen(least);
            least = least.saturating_mul(2);
        }
    }
    None
}

/// The packed pieces with their first tags; bytes of lists of frames, and of everything, unpacked.
fn pieces(tally: &Tally) -> (Vec<(TagId, Vec<u8>)>, usize, usize) {
    let mut pieces = Vec::new();
    let mut open = Vec::with_capacity(2 * PIECE);
    let mut first = None;
    let mut before: Option<(TagId, &Track)> = None;
    let (mut of_frames, mut of_all) = (0, 0);
    for (tag, track) in tally.sorted() {
        of_frames += put_track(&mut open, tag, track, before);
        first.get_or_insert(tag);
        before = Some((tag, track));
        if open.len() >= PIECE {
            of_all += open.len();
            pieces.extend(first.take().map(|first| (first, pack(&open))));
            open.clear();
            before = None;
        }
    }
    of_all += open.len();
    pieces.extend(first.map(|first| (first, pack(&open))));
    (pieces, of_frames, of_all)
}

fn assemble(
    tally: &Tally,
    pieces: Vec<(TagId, Vec<u8>)>,
    others: &[u8],
    frames: &[u8],
) -> Option<Vec<u8>> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).ok();
    let head = Head {
        wall: tally.wall(),
        end: tally.end_frame(),
        shift: tally.shift(),
        frames: u32::try_from(tally.frames().len()).ok()?,
        unknown: tally.is_unknown(),
        pieces: pieces
            .iter()
            .map(|(tag, piece)| Some((tag.0, length(piece)?)))
            .collect::<Option<_>>()?,
        others: length(others)?,
        notes: length(frames)?,
    };
    let head = postcard::to_stdvec(&head).ok()?;
    let mut out = Vec::from(MAGIC);
    out.extend_from_slice(&length(&head)?.to_le_bytes());
    out.extend_from_slice(&head);
    pieces.iter().for_each(|(_, piece)| out.extend_from_slice(piece));
    out.extend_from_slice(others);
    out.extend_from_slice(frames);
    Some(out)
}

/// Where the bytes of a file come from.
pub(super) trait Source: Send + Sync {
    /// How many there are.
    fn length(&self) -> u64;
    /// Some of them; `None` when they are damaged.
    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>>;
}

impl Source for Sidecar {
    fn length(&self) -> u64 {
        self.length()
    }

    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        self.read(offset, length)
    }
}

/// The tags of one piece, in ascending order.
type Piece = Vec<(TagId, Track)>;

/// A digest in a file.
pub(super) struct Stored {
    source: Box<dyn Source>,
    head: Head,
    /// Where the pieces begin.
    begins: u64,
    /// What was read first, which often has the first pieces in it.
    start: Vec<u8>,
    /// The piece that was looked at last: questions ask for one tag after the other.
    last: Mutex<Option<(usize, Piece)>>,
}

impl Stored {
    /// Reads the head; `None` when this is no such file.
    pub(super) fn open(source: Box<dyn Source>) -> Option<Self> {
        let all = usize::try_from(source.length()).ok()?;
        let mut start = source.read(0, FIRST_READ.min(all))?;
        let head = start.get(..BEFORE_HEAD)?;
        let length = head.strip_prefix(&MAGIC)?;
        let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
        if length > MAX_HEAD.min(all) {
            return None;
        }
        if start.len() < BEFORE_HEAD + length {
            start = source.read(0, BEFORE_HEAD + length)?;
        }
        let head: Head =
            postcard::from_bytes(start.get(BEFORE_HEAD..BEFORE_HEAD + length)?).ok()?;
        let begins = u64::try_from(BEFORE_HEAD + length).ok()?;
        if head.shift > 31 || !head.pieces.is_sorted_by(|a, b| a.0 < b.0) {
            return None;
        }
        Some(Self { source, head, begins, start, last: Mutex::new(None) })
    }

    pub(super) const fn wall(&self) -> Option<(i64, i64)> {
        self.head.wall
    }

    pub(super) const fn end_frame(&self) -> u64 {
        self.head.end
    }

    fn bytes(&self, offset: u64, length: u32) -> Option<Vec<u8>> {
        let length = usize::try_from(length).ok()?;
        let at = usize::try_from(offset).ok()?;
        match self.start.get(at..at.checked_add(length)?) {
            Some(bytes) => Some(bytes.to_vec()),
            None => self.source.read(offset, length),
        }
    }

    /// Where a piece begins, or the lists behind all pieces.
    fn offset(&self, piece: usize) -> u64 {
        let before = self.head.pieces.iter().take(piece);
        self.begins + before.map(|(_, length)| u64::from(*length)).sum::<u64>()
    }

    pub(super) fn others(&self) -> Option<Vec<FrameNote>> {
        notes::decode(&self.bytes(self.offset(usize::MAX), self.head.others)?)
    }

    pub(super) fn frames(&self) -> Option<Vec<FrameNote>> {
        let offset = self.offset(usize::MAX) + u64::from(self.head.others);
        let frames = notes::decode(&self.bytes(offset, self.head.notes)?)?;
        (frames.len() == usize::try_from(self.head.frames).ok()?).then_some(frames)
    }

    fn piece(&self, at: usize) -> Option<Piece> {
        let (_, length) = *self.head.pieces.get(at)?;
        let unpacked = unpack(&self.bytes(self.offset(at), length)?)?;
        let mut bytes = Bytes::new(&unpacked);
        let mut piece: Piece = Vec::new();
        while !bytes.is_empty() {
            let before = piece.last().map(|(tag, track)| (*tag, track));
            let next = track(&mut bytes, before)?;
            piece.push(next);
        }
        Some(piece)
    }

    /// See [`super::Digest::tags`].
    pub(super) fn tags(&self, wanted: &[TagId]) -> Option<Vec<(TagId, TagDigest)>> {
        let frames = usize::try_from(self.head.frames).ok()?;
        if self.head.unknown {
            let each = |tag: &TagId| Some((*tag, unknown(frames)?));
            return Some(wanted.iter().filter_map(each).collect());
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for tag in wanted {
            let Some(at) =
                self.head.pieces.partition_point(|(first, _)| *first <= tag.0).checked_sub(1)
            else {
                continue;
            };
            let piece = match last.take() {
                Some((known, piece)) if known == at => piece,
                _ => self.piece(at)?,
            };
            let (_, piece) = last.insert((at, piece));
            if let Ok(place) = piece.binary_search_by_key(tag, |(tag, _)| *tag)
                && let Some((_, track)) = piece.get(place)
            {
                found.push((*tag, digest(track.clone(), self.head.shift, frames)));
            }
        }
        Some(found)
    }
}
