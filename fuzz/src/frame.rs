//! The frame reader.

use tidegate_journal::frame::{self, FORMAT_VERSION, MAGIC, MAX_FRAME_BYTES};
use tidegate_journal::{Frame, FrameError};

use crate::chain::{base, checksum, put_right};
use crate::{KIB, Target, at_most, seed};

pub(crate) const TARGET: Target = Target {
    name: "frame",
    run,
    seeds,
    words: &[b"TGFR", b"PlantA", b"gw-1"],
    memory: |length| at_most(4 * KIB + 4 * length),
    mutations: 30000,
};

fn run(bytes: &[u8]) {
    check(bytes);
    let mut right = bytes.get(..MAX_FRAME_BYTES).unwrap_or(bytes).to_vec();
    put_right(&mut right);
    check(&right);
    if let Ok(found) = frame::decode(&right) {
        a_flipped_bit_is_never_accepted(found.bytes);
    }
}

/// The reader says of these bytes what the description of the envelope says.
fn check(bytes: &[u8]) {
    let said = frame::decode(bytes);
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    if !bytes.starts_with(&MAGIC[..bytes.len().min(4)]) {
        assert_eq!(said, Err(FrameError::NoMagic));
        return;
    }
    if bytes.len() < frame::ENVELOPE_BYTES {
        assert_eq!(
            said,
            Err(FrameError::CutOff { have: bytes.len(), need: frame::ENVELOPE_BYTES })
        );
        return;
    }
    let length = word(4);
    let claimed = usize::try_from(length).unwrap();
    if !(frame::ENVELOPE_BYTES..=MAX_FRAME_BYTES).contains(&claimed) {
        assert_eq!(said, Err(FrameError::Length { length }));
        return;
    }
    let Some(whole) = bytes.get(..claimed) else {
        assert_eq!(said, Err(FrameError::CutOff { have: bytes.len(), need: claimed }));
        return;
    };
    let computed = checksum(whole, 12);
    if word(12) != computed {
        assert_eq!(said, Err(FrameError::Checksum { found: word(12), computed }));
        return;
    }
    // Whole: from here on it is never called damage of the envelope, and never damage at all when
    // it is only newer.
    let needs = whole[9];
    match said {
        Err(FrameError::NeedsNewer { needs: told, length: told_length }) => {
            assert_eq!((told, told_length), (needs, claimed));
            assert!(needs > FORMAT_VERSION);
        }
        Err(FrameError::Header) => assert!(needs <= FORMAT_VERSION),
        Ok(found) => {
            assert!(needs <= FORMAT_VERSION, "a frame for a later reader was read");
            assert_eq!(found.bytes, whole);
            assert_eq!(found.kind.code(), whole[10]);
            comes_back(&found);
        }
        Err(other) => panic!("a whole frame is called {other:?}"),
    }
}

/// What was read can be written, and reads the same.
fn comes_back(found: &Frame<'_>) {
    let again = frame::encode(found.kind, &found.header, found.body).expect("it fitted before");
    let read = frame::decode(&again).expect("what was written reads");
    assert_eq!((read.kind, &read.header, read.body), (found.kind, &found.header, found.body));
    let canonical = found.bytes[8..12] == again[8..12] && found.bytes.len() == again.len();
    if canonical && found.bytes[16..18] == again[16..18] {
        // Integers may be written longer than they need; then the lengths differ.
        assert_eq!(found.bytes, again);
    }
}

/// CRC-32C finds every single bit; the length field is left out, because it moves what is summed.
fn a_flipped_bit_is_never_accepted(whole: &[u8]) {
    let step = (whole.len() / 16).max(1);
    let mut damaged = whole.to_vec();
    for at in (8..whole.len()).step_by(step) {
        let mask = 1 << (at % 8);
        damaged[at] ^= mask;
        assert!(
            matches!(frame::decode(&damaged), Err(FrameError::Checksum { .. })),
            "bit {mask:#x} of byte {at}"
        );
        damaged[at] ^= mask;
    }
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = vec![seed("empty", []), seed("magic", MAGIC)];
    let mut kinds = Vec::new();
    for stored in &base().frames {
        if !kinds.contains(&stored.kind) && stored.bytes.len() < 2000 {
            kinds.push(stored.kind);
            seeds.push(seed(&format!("kind-{}", stored.kind.code()), stored.bytes.as_slice()));
            let mut newer = stored.bytes.clone();
            (newer[8], newer[9], newer[10]) = (9, 9, 200);
            put_right(&mut newer);
            seeds.push(seed(&format!("newer-{}", stored.kind.code()), newer));
        }
    }
    let two = base().frames.iter().filter(|it| it.bytes.len() < 500).take(2);
    seeds.push(seed("two", two.flat_map(|it| it.bytes.clone()).collect::<Vec<_>>()));
    seeds
}
