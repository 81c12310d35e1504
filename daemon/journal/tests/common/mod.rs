//! What the journal's tests share.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use tidegate_journal::{
    Appended, Batch, Codec, Draft, Epoch, FrameHash, Header, Journal, Kind, LossRecord,
    MIN_SEGMENT_BYTES, Read, Reader, Settings, Stamp, WriteError, frame,
};

/// Tiny segments, so that rolling and dropping really happen.
pub fn settings() -> Settings {
    Settings {
        segment_bytes: MIN_SEGMENT_BYTES,
        headroom: 0,
        ..Settings::new("PlantA", "gw-1", 16 * MIN_SEGMENT_BYTES)
    }
}

pub fn stamp(at: i64) -> Stamp {
    let mono = u64::try_from(at).unwrap();
    Stamp {
        wall: (at, at),
        mono: (mono, mono),
        boot: [7; 16],
        clock: tidegate_journal::ClockState::Synchronised,
    }
}

/// A body that begins with a number by which it is known again.
pub fn body(tag: u64, bytes: usize) -> Vec<u8> {
    let mut body = tag.to_le_bytes().to_vec();
    let filler = (0_u8..=250).cycle().skip(usize::try_from(tag % 251).unwrap());
    body.extend(filler.take(bytes));
    body
}

/// Appends a frame of two samples, known by `tag` and stamped with it.
pub fn try_append(journal: &mut Journal, tag: u64, bytes: usize) -> Result<Appended, WriteError> {
    journal.append(&Draft {
        kind: Kind::Samples,
        codec: Codec::Plain,
        body: &body(tag, bytes),
        count: 2,
        stamp: stamp(i64::try_from(tag).unwrap()),
    })
}

pub fn append(journal: &mut Journal, tag: u64, bytes: usize) -> Appended {
    try_append(journal, tag, bytes).unwrap()
}

#[derive(Debug, Clone)]
pub struct Got {
    pub kind: Kind,
    pub header: Header,
    pub body: Vec<u8>,
    pub hash: FrameHash,
    pub loss: Option<LossRecord>,
}

impl Got {
    pub fn tag(&self) -> Option<u64> {
        if self.kind != Kind::Samples {
            return None;
        }
        let tag = u64::from_le_bytes(self.body[..8].try_into().unwrap());
        assert_eq!(self.body, body(tag, self.body.len() - 8), "a body was changed");
        Some(tag)
    }
}

pub fn parse(batch: &Batch) -> Vec<Got> {
    let mut rest = batch.bytes.as_slice();
    let mut frames = Vec::new();
    for position in &batch.positions {
        let found = frame::decode(rest).unwrap();
        assert_eq!(found.hash(), position.hash);
        assert_eq!(found.header.number, position.frame);
        assert_eq!(found.header.next_seq(), position.next_seq);
        assert_eq!(found.header.epoch, batch.epoch);
        rest = &rest[found.bytes.len()..];
        frames.push(Got {
            kind: found.kind,
            header: found.header.clone(),
            body: found.body.to_vec(),
            hash: found.hash(),
            loss: (found.kind == Kind::Loss).then(|| postcard::from_bytes(found.body).unwrap()),
        });
    }
    assert!(rest.is_empty(), "bytes after the last frame");
    frames
}

/// Every frame of an epoch from a number on, over gaps; checks the chain between neighbours.
pub fn frames_of(reader: &Reader, epoch: Epoch, from: u64) -> Vec<Got> {
    let mut frames: Vec<Got> = Vec::new();
    let mut at = from;
    loop {
        match reader
            .read_from(epoch, at, 9000)
            .unwrap_or_else(|error| panic!("frame {at}: {error:?}; {:?}", reader.epochs()))
        {
            Read::Frames(batch) => {
                at = batch.next().unwrap();
                frames.extend(parse(&batch));
            }
            Read::Gap { next } => {
                assert!(next > at, "a gap must lead on");
                at = next;
            }
            Read::EndOfEpoch { .. } | Read::AtTail => break,
        }
    }
    for pair in frames.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        if a.header.number + 1 == b.header.number {
            assert_eq!(b.header.previous, a.hash, "the chain is broken before {}", b.header.number);
            assert_eq!(b.header.first_seq, a.header.next_seq());
        }
    }
    frames
}
