//! Whatever the bytes are: no panic, no invented frame, and it goes on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{append, frames_of, settings, stamp, try_append};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tidegate_journal::storage::sim::SimStorage;
use tidegate_journal::{
    Epoch, FrameHash, Journal, Kind, LossRecord, Settings, Storage as _, frame,
};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "proptest-regressions/arbitrary_bytes.txt",
        ))),
        ..ProptestConfig::default()
    }
}

#[derive(Debug, Clone)]
enum Harm {
    /// Random bytes at an offset.
    Bytes {
        at: usize,
        bytes: Vec<u8>,
    },
    /// One part of the file over another.
    Copy {
        from: usize,
        to: usize,
        length: usize,
    },
    /// A file of zeros of another size.
    Zeros {
        size: u64,
    },
    /// The file of another name.
    Replace {
        with: usize,
    },
    Remove,
}

fn harms() -> impl Strategy<Value = Vec<(usize, Harm)>> {
    let offset = || 0_usize..100_000;
    let harm = prop_oneof![
        4 => (offset(), prop::collection::vec(any::<u8>(), 1..5000))
            .prop_map(|(at, bytes)| Harm::Bytes { at, bytes }),
        2 => (0_usize..300, prop::collection::vec(any::<u8>(), 1..8))
            .prop_map(|(at, bytes)| Harm::Bytes { at: 4096 + at, bytes }),
        3 => (0_usize..24, 0_usize..24, 1_usize..9000)
            .prop_map(|(from, to, length)| Harm::Copy { from: from * 4096, to: to * 4096, length }),
        1 => (0_u64..120_000).prop_map(|size| Harm::Zeros { size }),
        1 => (0_usize..8).prop_map(|with| Harm::Replace { with }),
        1 => Just(Harm::Remove),
    ];
    prop::collection::vec((0_usize..8, harm), 1..6)
}

/// Segments, spare and cursor, and every frame that ever was in them: a spare still holds old ones.
fn filled() -> (SimStorage, Epoch, BTreeMap<u64, FrameHash>) {
    let storage = SimStorage::new();
    let settings = Settings { max_bytes: 5 * settings().segment_bytes, ..settings() };
    let (mut journal, _) = Journal::open(Arc::new(storage.clone()), settings, stamp(1)).unwrap();
    let mut frames = Vec::new();
    for tag in 1..70 {
        append(&mut journal, tag, usize::try_from(tag * 7919 % 12_000).unwrap());
        if tag % 3 == 0 {
            let position = journal.commit().unwrap();
            let from = frames.last().map_or(0, |it: &common::Got| it.header.number + 1);
            frames.extend(frames_of(&journal.reader(), journal.epoch(), from));
            if tag < 40 {
                journal.acknowledge(journal.epoch(), position, b"x").unwrap();
            }
        }
    }
    journal.commit().unwrap();
    let epoch = journal.epoch();
    let from = frames.last().map_or(0, |it| it.header.number + 1);
    frames.extend(frames_of(&journal.reader(), epoch, from));
    journal.close().unwrap();
    (storage, epoch, frames.iter().map(|it| (it.header.number, it.hash)).collect())
}

fn inflict(storage: &SimStorage, which: usize, harm: &Harm) {
    let files = storage.files();
    let Some((name, size)) = files.get(which % files.len()) else { return };
    let file = storage.open(name).unwrap();
    match harm {
        Harm::Bytes { at, bytes } => {
            let at = at % size.max(&1);
            let bytes = &bytes[..bytes.len().min(size.saturating_sub(at))];
            file.write_at(bytes, at as u64).unwrap();
        }
        Harm::Copy { from, to, length } => {
            let mut bytes = vec![0; *length];
            let got = file.read_at(&mut bytes, *from as u64).unwrap();
            let got = got.min(size.saturating_sub(*to));
            file.write_at(&bytes[..got], *to as u64).unwrap();
        }
        Harm::Zeros { size } => drop(storage.create(name, *size).unwrap()),
        Harm::Replace { with } => {
            let other = files[with % files.len()].0.clone();
            storage.rename(&other, name).unwrap();
        }
        Harm::Remove => storage.remove(name).unwrap(),
    }
}

proptest! {
    #![proptest_config(config(160))]

    #[test]
    fn a_harmed_directory_opens_serves_only_true_frames_and_goes_on(harms in harms()) {
        let (storage, epoch, whole) = filled();
        for (which, harm) in &harms {
            if !storage.files().is_empty() {
                inflict(&storage, *which, harm);
            }
        }
        let settings = Settings { max_bytes: 5 * settings().segment_bytes, ..settings() };
        let opened = Journal::open(Arc::new(storage.clone()), settings.clone(), stamp(2));
        let (mut journal, _) = match opened {
            Ok(opened) => opened,
            // Random bytes do not make a checksum fit, so nothing newer or foreign can appear.
            Err(error) => return Err(TestCaseError::fail(format!("{error:?}"))),
        };
        let reader = journal.reader();
        let new_epoch = journal.epoch();
        if reader.epochs().iter().any(|span| span.epoch == epoch) {
            for frame in frames_of(&reader, epoch, 0) {
                let known = whole.get(&frame.header.number) == Some(&frame.hash);
                let own = matches!(frame.loss, Some(LossRecord::Bridge(_)));
                prop_assert!(known || own, "frame {} is invented", frame.header.number);
            }
        }
        for tag in 1000..1040 {
            try_append(&mut journal, tag, 9000).unwrap();
            journal.commit().unwrap();
        }
        let tags: Vec<u64> =
            frames_of(&reader, new_epoch, 0).iter().filter_map(common::Got::tag).collect();
        prop_assert_eq!(tags.last(), Some(&1039));
        journal.close().unwrap();
        let again = Journal::open(Arc::new(storage), settings, stamp(2));
        prop_assert!(again.is_ok(), "{:?}", again.err());
    }

    #[test]
    fn a_directory_of_nothing_but_noise_becomes_a_journal(
        files in prop::collection::vec((0_u64..4, prop::collection::vec(any::<u8>(), 0..9000)), 0..4),
        cursor in prop::collection::vec(any::<u8>(), 0..9000),
    ) {
        let storage = SimStorage::new();
        for (number, bytes) in files {
            let file = storage.create(&format!("seg-{number:020}.tgj"), 0).unwrap();
            file.write_at(&bytes, 0).unwrap();
        }
        storage.create("cursor", 0).unwrap().write_at(&cursor, 0).unwrap();
        let (mut journal, _) =
            Journal::open(Arc::new(storage), settings(), stamp(2)).unwrap();
        append(&mut journal, 5, 10);
        journal.commit().unwrap();
    }
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn decoding_any_bytes_is_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = frame::decode(&bytes);
        let mut bytes = bytes;
        bytes.splice(0..0, frame::MAGIC);
        let _ = frame::decode(&bytes);
    }

    #[test]
    fn decoding_a_frame_with_a_matching_checksum_and_any_inside_is_an_answer(
        inside in prop::collection::vec(any::<u8>(), 2..400),
        versions in any::<[u8; 4]>(),
        header_length in 0_u16..400,
    ) {
        let mut bytes = frame::MAGIC.to_vec();
        let length = u32::try_from(16 + inside.len()).unwrap();
        bytes.extend(length.to_le_bytes());
        bytes.extend(versions);
        bytes.extend([0; 4]);
        bytes.extend(&inside);
        bytes[16..18].copy_from_slice(&header_length.to_le_bytes());
        let sum = crc32c::crc32c(&bytes);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        match frame::decode(&bytes) {
            Ok(found) => prop_assert_eq!(found.kind, Kind::from_code(versions[2])),
            Err(frame::FrameError::NeedsNewer { needs, .. }) => prop_assert!(needs > 1),
            Err(error) => prop_assert_eq!(error, frame::FrameError::Header),
        }
    }
}
