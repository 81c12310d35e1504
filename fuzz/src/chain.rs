//! A real journal's frames and files, for targets that begin with something true.

use std::sync::{Arc, OnceLock};

use tidegate_journal::storage::sim::SimStorage;
use tidegate_journal::{
    ClockState, Codec, Draft, Epoch, FrameHash, Journal, Kind, LossRecord, MIN_SEGMENT_BYTES, Read,
    ReadError, Reader, Settings, Stamp, Storage as _, Unsequenced, frame,
};
use tidegate_record::catalog::Definition;
use tidegate_record::samples::Packer;
use tidegate_record::{Catalog, ClockEvent, ClockEventKind, catalog};
use tidegate_translator::{Quality, Reason, Sample, TagId, TagPath, Timestamp, Value, ValueKind};

pub(crate) const START: i64 = 1_790_000_000_000_000_000;

/// A frame as a reader gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) epoch: Epoch,
    pub(crate) number: u64,
    pub(crate) hash: FrameHash,
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<u8>,
}

/// A closed journal.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) epoch: Epoch,
    pub(crate) frames: Vec<Stored>,
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

pub(crate) fn settings() -> Settings {
    Settings {
        segment_bytes: MIN_SEGMENT_BYTES,
        headroom: 0,
        ..Settings::new("PlantA", "gw-1", 6 * MIN_SEGMENT_BYTES)
    }
}

pub(crate) fn stamp(second: i64) -> Stamp {
    let at = START + second * 1_000_000_000;
    Stamp { wall: (at, at), mono: (1, 1), boot: [7; 16], clock: ClockState::Synchronised }
}

/// Samples of the sorts that there are, `scans` of them of each tag.
pub(crate) fn readings(first: i64, scans: i64) -> Vec<Sample> {
    let mut out = Vec::new();
    for scan in first..first + scans {
        let at = Timestamp(START + scan * 1_000_000_000);
        let values = [
            Value::Bool(scan % 3 == 0),
            Value::I64(-scan * 7),
            Value::U64(scan.cast_unsigned() * 1000),
            Value::F32(f32::from(i16::try_from(scan % 300).unwrap()) / 10.0),
            Value::F64(f64::from(i32::try_from(scan).unwrap()).sin()),
            Value::Text(format!("state {}", scan % 4).into()),
            Value::Bytes(noise(scan)),
            Value::Json("[1,2]".into()),
        ];
        out.extend((1..).zip(values).map(|(tag, value)| Sample::good(TagId(tag), at, value)));
        let mut odd = Sample::bad(TagId(9), at, Reason::Timeout, 11);
        odd.source = Some(Timestamp(at.0 - 5));
        odd.server = (scan % 2 == 0).then_some(Timestamp(at.0 - 3));
        odd.quality =
            if scan % 5 == 0 { Quality::Uncertain(Reason::OutOfRange) } else { odd.quality };
        out.push(odd);
    }
    out
}

/// Bytes that do not pack, so that few samples fill a segment.
fn noise(scan: i64) -> Box<[u8]> {
    let word = |n: i64| (scan * 8 + n + 1).wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
    (0..6).flat_map(word).collect()
}

pub(crate) fn tags() -> Catalog {
    let mut catalog = Catalog::new();
    for number in 1..=9 {
        catalog.define(definition(number)).unwrap();
    }
    catalog
}

fn definition(number: u32) -> Definition {
    Definition {
        path: TagPath::new(format!("PlantA/Press/t{number}")).unwrap(),
        kind: ValueKind::F64,
        unit: (number.is_multiple_of(2)).then(|| "degC".into()),
        device: "press-1".into(),
        address: format!("holding:{number}").into(),
        source: "modbus".into(),
    }
}

pub(crate) fn loss(id: u64) -> LossRecord {
    LossRecord::Unsequenced(Unsequenced {
        id,
        subject: "press-1".to_owned(),
        cause: "device-silent".to_owned(),
        from: START,
        to: START + 5,
        count: Some(3),
        open: id.is_multiple_of(2),
    })
}

pub(crate) fn clock_event() -> ClockEvent {
    ClockEvent { wall_before: START, wall_after: START + 9, mono: 4, kind: ClockEventKind::Step }
}

/// Catalog, samples, losses and a clock step in three segments, a part of them acknowledged.
pub(crate) fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let storage = SimStorage::new();
        let (mut journal, _) =
            Journal::open(Arc::new(storage.clone()), settings(), stamp(0)).unwrap();
        let put = |journal: &mut Journal, kind, codec, body: &[u8], count, second| {
            journal.append(&Draft { kind, codec, body, count, stamp: stamp(second) }).unwrap();
        };
        let catalog = tags();
        for body in catalog::bodies(catalog.version(), catalog.entries(), true).unwrap() {
            put(&mut journal, Kind::Catalog, Codec::Plain, &body.unwrap(), 0, 0);
        }
        let mut packer = Packer::new();
        for round in 0..64 {
            // Bodies of many sizes: frames that share a block, and frames over several.
            let scans = [1, 2, 16, 130][usize::try_from(round % 4).unwrap()];
            for body in packer.pack(&readings(round * 400, scans)).bodies {
                put(&mut journal, Kind::Samples, body.codec, &body.bytes, body.count, round);
            }
            if round % 9 == 4 {
                let body = postcard::to_stdvec(&loss(round.cast_unsigned())).unwrap();
                put(&mut journal, Kind::Loss, Codec::Plain, &body, 0, round);
            }
            if round == 20 {
                put(
                    &mut journal,
                    Kind::Clock,
                    Codec::Plain,
                    &clock_event().encode().unwrap(),
                    0,
                    round,
                );
            }
            if round % 3 == 2 {
                let position = journal.commit().unwrap();
                if round < 15 {
                    journal.acknowledge(journal.epoch(), position, b"hub").unwrap();
                }
            }
        }
        journal.commit().unwrap();
        let frames = frames_of(&journal.reader(), false).unwrap();
        let epoch = journal.epoch();
        journal.close().unwrap();
        let files = files_of(&storage);
        // Sealed segments and one being written, and nothing dropped.
        assert!(files.iter().filter(|(_, bytes)| bytes.starts_with(b"TGSG")).count() >= 3);
        assert!(frames.iter().map(|it| it.number).eq(0..frames.len() as u64));
        Base { epoch, frames, files }
    })
}

pub(crate) fn files_of(storage: &SimStorage) -> Vec<(String, Vec<u8>)> {
    let read = |(name, size): (String, usize)| {
        let mut bytes = vec![0; size];
        storage.open(&name).unwrap().read_at(&mut bytes, 0).unwrap();
        (name, bytes)
    };
    storage.files().into_iter().map(read).collect()
}

/// Every frame that is served, in order; each whole, in its place, and, unless something is
/// `forged`, chained to the one before: a frame whose checksum was made to fit breaks the chain,
/// and that is for the proof to tell. `None` when reading stops at a frame that says it is for a
/// later reader.
pub(crate) fn frames_of(reader: &Reader, forged: bool) -> Option<Vec<Stored>> {
    let mut frames: Vec<Stored> = Vec::new();
    for span in reader.epochs() {
        let (mut at, mut chain) = (0, None::<(u64, u64, FrameHash)>);
        loop {
            match reader.read_from(span.epoch, at, 9000) {
                Ok(Read::Frames(batch)) => {
                    let mut rest = batch.bytes.as_slice();
                    assert!(!batch.positions.is_empty(), "an empty batch");
                    for position in &batch.positions {
                        let found = frame::decode(rest).expect("a served frame is whole");
                        let header = &found.header;
                        assert_eq!(found.hash(), position.hash);
                        assert_eq!(header.number, position.frame);
                        assert_eq!(header.epoch, span.epoch);
                        if let Some((number, seq, hash)) = chain
                            && number == header.number
                            && !forged
                        {
                            assert_eq!(
                                (header.first_seq, header.previous),
                                (seq, hash),
                                "{number}"
                            );
                        }
                        chain = Some((
                            header.number.saturating_add(1),
                            header.next_seq(),
                            found.hash(),
                        ));
                        frames.push(Stored {
                            epoch: span.epoch,
                            number: header.number,
                            hash: found.hash(),
                            kind: found.kind,
                            bytes: found.bytes.to_vec(),
                        });
                        rest = &rest[found.bytes.len()..];
                    }
                    assert!(rest.is_empty(), "bytes behind the last frame");
                    let next = batch.next().unwrap();
                    assert!(next > at, "reading must lead on from {at}");
                    at = next;
                }
                Ok(Read::Gap { next }) => {
                    assert!(next > at, "a gap must lead on from {at}");
                    at = next;
                }
                Ok(Read::EndOfEpoch { .. } | Read::AtTail) => break,
                Err(ReadError::NeedsNewer { .. }) => return None,
                Err(error) => panic!("frame {at}: {error:?}; {:?}", reader.epochs()),
            }
        }
    }
    Some(frames)
}

/// Puts the checksum right of the frame at the front, whose length is made to fit.
pub(crate) fn put_right(bytes: &mut [u8]) {
    let Ok(length) = u32::try_from(bytes.len()) else { return };
    if bytes.len() < frame::ENVELOPE_BYTES {
        return;
    }
    bytes[..4].copy_from_slice(&frame::MAGIC);
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(bytes, 12);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
}

/// CRC-32C with the four bytes at `field` taken as 0.
pub(crate) fn checksum(bytes: &[u8], field: usize) -> u32 {
    let mut bytes = bytes.to_vec();
    bytes[field..field + 4].fill(0);
    crc32c::crc32c(&bytes)
}
