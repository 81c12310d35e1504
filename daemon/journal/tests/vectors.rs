//! Frames of format version 1, byte for byte. What is in `vectors/` never changes: a later
//! version adds files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tidegate_journal::{
    Bridge, BridgeCause, ClockState, Codec, Epoch, EpochReason, FrameError, FrameHash, Header,
    Kind, LossRecord, Position, Predecessor, Unsequenced, frame,
};

const NAMES: [&str; 9] = [
    "samples",
    "catalog",
    "loss-bridge",
    "loss-unsequenced",
    "loss-predecessor",
    "clock",
    "checkpoint",
    "unknown-kind",
    "newer-version",
];

fn path(name: &str, suffix: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vectors/{name}.{suffix}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// What the bytes mean, in words that need no Rust.
fn describe(bytes: &[u8]) -> Value {
    let found = match frame::decode(bytes) {
        Ok(found) => found,
        Err(FrameError::NeedsNewer { needs, length }) => {
            return json!({ "needs-reader": needs, "length": length });
        }
        Err(error) => panic!("{error}"),
    };
    let header = &found.header;
    let body = match found.kind {
        Kind::Loss => {
            serde_json::to_value(postcard::from_bytes::<LossRecord>(found.body).unwrap()).unwrap()
        }
        _ => json!(hex(found.body)),
    };
    json!({
        "length": bytes.len(),
        "kind": found.kind.code(),
        "plant": header.plant,
        "gateway": header.gateway,
        "epoch": header.epoch.to_string(),
        "number": header.number,
        "first-seq": header.first_seq,
        "count": header.count,
        "wall": [header.wall.0, header.wall.1],
        "mono": [header.mono.0, header.mono.1],
        "boot": hex(&header.boot),
        "clock": format!("{:?}", header.clock),
        "previous": header.previous.to_string(),
        "codec": format!("{:?}", header.codec),
        "body": body,
        "hash": found.hash().to_string(),
    })
}

#[test]
fn every_vector_decodes_to_its_description_and_encodes_to_the_same_bytes() {
    for name in NAMES {
        let bytes = unhex(&fs::read_to_string(path(name, "hex")).unwrap());
        let description: Value =
            serde_json::from_str(&fs::read_to_string(path(name, "json")).unwrap()).unwrap();
        assert_eq!(describe(&bytes), description, "{name}");
        let Ok(found) = frame::decode(&bytes) else { continue };
        let again = frame::encode(found.kind, &found.header, found.body).unwrap();
        assert_eq!(hex(&again), hex(&bytes), "{name}");
    }
}

#[test]
fn any_changed_bit_of_a_vector_is_noticed() {
    for name in NAMES {
        let bytes = unhex(&fs::read_to_string(path(name, "hex")).unwrap());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            let outcome = frame::decode(&changed);
            assert!(
                matches!(
                    outcome,
                    Err(FrameError::NoMagic
                        | FrameError::Length { .. }
                        | FrameError::CutOff { .. }
                        | FrameError::Checksum { .. })
                ),
                "{name}, byte {at}: {outcome:?}"
            );
        }
    }
}

fn header(number: u64, count: u32) -> Header {
    Header {
        plant: "PlantA".into(),
        gateway: "gw-line3".into(),
        epoch: Epoch(*b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"),
        number,
        first_seq: number * 100,
        count,
        wall: (1_700_000_000_000_000_000, 1_700_000_000_999_000_000),
        mono: (5_000_000_000, 5_999_000_000),
        boot: *b"0123456789abcdef",
        clock: ClockState::Synchronised,
        previous: FrameHash::of(b"the frame before"),
        codec: Codec::Plain,
    }
}

fn bodies() -> Vec<(&'static str, Kind, Header, Vec<u8>)> {
    let position = Position { frame: 41, next_seq: 4100, hash: FrameHash::of(b"41") };
    let unsequenced = Unsequenced {
        id: 77,
        subject: "press-1".into(),
        cause: "device-silent".into(),
        from: -5,
        to: 1_700_000_000_000_000_000,
        count: None,
        open: true,
    };
    let bridge = Bridge {
        cause: BridgeCause::DroppedOldest,
        first_frame: 3,
        last_frame: 40,
        first_seq: 300,
        end_seq: 4100,
        hash_before: FrameHash::of(b"2"),
        hash_after: FrameHash::of(b"40"),
        wall: (1, 2),
        folded: vec![Unsequenced { count: Some(12), open: false, ..unsequenced.clone() }],
    };
    let predecessor = Predecessor {
        reason: EpochReason::Fork,
        epoch: Some(Epoch([0xab; 16])),
        last: Some(position),
        carried_frames: 9,
    };
    let loss = |record: LossRecord| postcard::to_stdvec(&record).unwrap();
    vec![
        (
            "samples",
            Kind::Samples,
            Header { codec: Codec::ColumnsLz4, ..header(1, 100) },
            b"columns".to_vec(),
        ),
        ("catalog", Kind::Catalog, header(2, 0), b"catalog".to_vec()),
        ("loss-bridge", Kind::Loss, header(3, 0), loss(LossRecord::Bridge(bridge))),
        ("loss-unsequenced", Kind::Loss, header(4, 0), loss(LossRecord::Unsequenced(unsequenced))),
        (
            "loss-predecessor",
            Kind::Loss,
            Header { previous: FrameHash::ZERO, ..header(0, 0) },
            loss(LossRecord::Predecessor(predecessor)),
        ),
        (
            "clock",
            Kind::Clock,
            Header { clock: ClockState::Unsynchronised, ..header(6, 0) },
            b"clock".to_vec(),
        ),
        (
            "checkpoint",
            Kind::Checkpoint,
            Header { clock: ClockState::Unknown, ..header(7, 0) },
            Vec::new(),
        ),
        (
            "unknown-kind",
            Kind::Unknown(200),
            Header { codec: Codec::Columns, ..header(8, 3) },
            b"from the future".to_vec(),
        ),
    ]
}

#[test]
fn the_vectors_are_what_this_version_writes() {
    for (name, kind, header, body) in bodies() {
        let bytes = frame::encode(kind, &header, &body).unwrap();
        assert_eq!(
            hex(&bytes),
            hex(&unhex(&fs::read_to_string(path(name, "hex")).unwrap())),
            "{name}"
        );
    }
}

/// Writes vectors that are not there yet: `cargo test -- --ignored write_missing_vectors`.
#[test]
#[ignore = "only for a new kind of frame"]
fn write_missing_vectors() {
    let mut all: Vec<(&str, Vec<u8>)> = bodies()
        .into_iter()
        .map(|(name, kind, header, body)| (name, frame::encode(kind, &header, &body).unwrap()))
        .collect();
    let mut newer = frame::encode(Kind::Samples, &header(9, 1), b"later").unwrap();
    newer[8] = 2;
    newer[9] = 2;
    let sum = crc32c::crc32c(&newer[..12]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    let sum = crc32c::crc32c_append(sum, &newer[16..]);
    newer[12..16].copy_from_slice(&sum.to_le_bytes());
    all.push(("newer-version", newer));
    for (name, bytes) in all {
        if path(name, "hex").exists() {
            continue;
        }
        let lines: Vec<String> = hex(&bytes)
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8(line.to_vec()).unwrap())
            .collect();
        fs::write(path(name, "hex"), lines.join("\n") + "\n").unwrap();
        let text = serde_json::to_string_pretty(&describe(&bytes)).unwrap();
        fs::write(path(name, "json"), text + "\n").unwrap();
    }
}
