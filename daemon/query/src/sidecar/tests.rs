//! Digests against a reader that decodes everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use tidegate_journal::storage::sim::SimStorage;
use tidegate_journal::{ClockState, Draft, Journal, Kind, MIN_SEGMENT_BYTES, Settings, Stamp};
use tidegate_record::samples::{Packer, decode_frame};
use tidegate_translator::{Quality, Reason, Sample, TagId, Timestamp, Value};

use super::file::{Source, Stored, encode};
use super::tally::Tally;
use super::wire::Bytes;
use super::*;
use crate::Number;

const SECOND: i64 = 1_000_000_000;

fn journal(sidecar_bytes: u64) -> Journal {
    let settings = Settings {
        segment_bytes: MIN_SEGMENT_BYTES,
        headroom: 0,
        sidecar_bytes,
        ..Settings::new("P", "g", 64 * MIN_SEGMENT_BYTES)
    };
    Journal::open(Arc::new(SimStorage::new()), settings, stamp((0, 0))).unwrap().0
}

fn stamp(wall: (i64, i64)) -> Stamp {
    Stamp { wall, mono: (0, 0), boot: [0; 16], clock: ClockState::Synchronised }
}

fn append(journal: &mut Journal, samples: &[Sample]) {
    for body in Packer::new().pack(samples).bodies {
        let draft = Draft {
            kind: Kind::Samples,
            codec: body.codec,
            body: &body.bytes,
            count: body.count,
            stamp: stamp(body.wall),
        };
        journal.append(&draft).unwrap();
    }
    journal.commit().unwrap();
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (-1_000_i64..1_000).prop_map(|v| Value::F64(f64::from(i16::try_from(v).unwrap()) / 10.0)),
        1 => any::<f64>().prop_map(Value::F64),
        1 => any::<f32>().prop_map(Value::F32),
        1 => any::<i64>().prop_map(Value::I64),
        1 => any::<u64>().prop_map(Value::U64),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => Just(Value::None),
        1 => "[a-z]{0,60}".prop_map(|text| Value::Text(text.into())),
        1 => prop::collection::vec(any::<u8>(), 0..8).prop_map(|v| Value::Bytes(v.into())),
    ]
}

fn quality() -> impl Strategy<Value = Quality> {
    prop_oneof![
        6 => Just(Quality::Good),
        1 => Just(Quality::Uncertain(Reason::Stale)),
        1 => Just(Quality::Bad(Reason::Timeout)),
    ]
}

/// Some polls of a few tags, with a clock that is set now and then.
fn polls() -> impl Strategy<Value = Vec<Vec<Sample>>> {
    let sample = (0_u32..8, 0_i64..400, value(), quality());
    let poll = (-500_i64..900, prop::collection::vec(sample, 1..40));
    prop::collection::vec(poll, 1..60).prop_map(|polls| {
        let mut now = 1_700_000_000_i64;
        let mut all = Vec::new();
        for (step, samples) in polls {
            now += step;
            let sample = |(tag, later, value, quality): (u32, i64, Value, Quality)| {
                let acquired = Timestamp((now + later) * SECOND + later);
                Sample { quality, ..Sample::good(TagId(tag * tag * 77), acquired, value) }
            };
            all.push(samples.into_iter().map(sample).collect());
        }
        all
    })
}

/// What decoding all of a segment says: cells of a grain by tag, and the frames of each tag.
fn naive(reader: &Reader, span: &SegmentSpan) -> Naive {
    let mut naive = Naive::default();
    let visited = reader.visit(span, 0, &mut |frame, spot| {
        if frame.kind != Kind::Samples {
            naive.others.push(spot.number);
            return std::ops::ControlFlow::Continue(());
        }
        naive.frames.push(spot.number);
        for (seq, sample) in decode_frame(frame).unwrap() {
            naive.of_tag.entry(sample.tag).or_default().insert(spot.number);
            naive.samples.push((seq, sample));
        }
        std::ops::ControlFlow::Continue(())
    });
    visited.unwrap();
    naive
}

#[derive(Default)]
struct Naive {
    frames: Vec<u64>,
    others: Vec<u64>,
    of_tag: BTreeMap<TagId, BTreeSet<u64>>,
    samples: Vec<(u64, Sample)>,
}

impl Naive {
    fn cells(&self, tag: TagId, grain: i64) -> Vec<(i64, Cell)> {
        let mut cells: BTreeMap<i64, Cell> = BTreeMap::new();
        for (seq, sample) in self.samples.iter().filter(|(_, sample)| sample.tag == tag) {
            let begin = sample.acquired.0.div_euclid(grain) * grain;
            cells.entry(begin).or_default().add(*seq, sample);
        }
        cells.into_iter().collect()
    }

    fn check(&self, digest: &Digest) {
        let frames = digest.frames().unwrap();
        assert_eq!(frames.iter().map(|it| it.spot.number).collect::<Vec<_>>(), self.frames);
        let others = digest.others().unwrap();
        assert_eq!(others.iter().map(|it| it.spot.number).collect::<Vec<_>>(), self.others);
        let wanted: Vec<TagId> = (0..8).map(|tag| TagId(tag * tag * 77)).collect();
        let tags = digest.tags(&wanted).unwrap();
        let known: Vec<TagId> = tags.iter().map(|(tag, _)| *tag).collect();
        assert_eq!(known, self.of_tag.keys().copied().collect::<Vec<_>>());
        for (tag, digest) in &tags {
            let mut named = BTreeSet::new();
            let mut end = 0;
            for range in &digest.frames {
                assert!(range.start >= end && !range.is_empty());
                end = range.end;
                named.extend(frames[range.clone()].iter().map(|it| it.spot.number));
            }
            assert!(named.is_superset(&self.of_tag[tag]), "{tag:?} is in a frame not named");
            let Cells::Every { grain, cells, lasts } = &digest.cells else { continue };
            let expected = self.cells(*tag, *grain);
            assert_eq!(cells.len(), expected.len());
            for ((begin, cell), (at, naive)) in cells.iter().zip(&expected) {
                assert_eq!(begin, at);
                if *lasts {
                    assert!(same_last(cell, naive), "{cell:?} {naive:?}");
                } else {
                    assert_eq!(cell.last, None);
                }
                assert_eq!(
                    (cell.count, cell.good, cell.numbers),
                    (naive.count, naive.good, naive.numbers)
                );
                assert!(same_number(cell.min, naive.min) && same_number(cell.max, naive.max));
                let close = (cell.sum - naive.sum).abs() <= 1e-9 * naive.sum.abs().max(1e3);
                assert!(close || !naive.sum.is_finite() || naive.sum.abs() > 1e15);
            }
        }
    }
}

/// To the bit: NaN is the same as itself, and 0 is not -0.
fn same_last(a: &Cell, b: &Cell) -> bool {
    format!("{:?}", a.last) == format!("{:?}", b.last)
}

fn same_number(a: Option<Number>, b: Option<Number>) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

fn whole(sidecars: &Sidecars, reader: &Reader) {
    for _ in 0..1_000 {
        if sidecars.advance(&mut || true).unwrap() == Progress::Done {
            return;
        }
    }
    panic!("{:?}", reader.segments());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_digest_says_what_decoding_everything_says(
        polls in polls(),
        limit in prop_oneof![Just(0_u64), 14_000_u64..18_000, Just(60_000)],
        looks in 1_usize..20,
    ) {
        let mut journal = journal(limit);
        let reader = journal.reader();
        let sidecars = Sidecars::new(reader.clone());
        for (at, samples) in polls.iter().enumerate() {
            append(&mut journal, samples);
            if at % looks == 0 {
                whole(&sidecars, &reader);
            }
        }
        let fresh = Sidecars::new(reader.clone());
        for span in reader.segments() {
            let naive = naive(&reader, &span);
            // From memory or the file that was written meanwhile, and made or read anew.
            for sidecars in [&sidecars, &fresh, &fresh] {
                let digest = sidecars.of(&span, &reader, &mut || true).unwrap();
                if let Some(digest) = digest {
                    prop_assert_eq!(digest.end_frame(), span.end_frame);
                    naive.check(&digest);
                }
            }
        }
    }

    #[test]
    fn numbers_come_back_to_the_bit(values in prop::collection::vec(value(), 0..40)) {
        let numbers: Vec<Number> = values.iter().filter_map(Number::of).collect();
        let mut out = Vec::new();
        numbers::put_column(&mut out, &numbers);
        let mut bytes = Bytes::new(&out);
        let read = numbers::column(&mut bytes, numbers.len()).unwrap();
        prop_assert!(bytes.is_empty());
        prop_assert_eq!(format!("{read:?}"), format!("{numbers:?}"));
    }

    #[test]
    fn a_file_of_any_bytes_gives_something_or_nothing(
        polls in polls(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut journal = journal(60_000);
        for samples in polls.iter().take(6) {
            append(&mut journal, samples);
        }
        let mut tally = tally_of(&journal);
        let mut bytes = encode(&mut tally, 60_000).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) * 8 + 1);
        if let Some(stored) = Stored::open(Box::new(Memory(bytes))) {
            let _ = (stored.frames(), stored.others());
            let all: Vec<TagId> = (0..600).map(TagId).collect();
            if let Some(tags) = stored.tags(&all) {
                prop_assert!(tags.len() <= all.len());
            }
        }
    }
}

struct Memory(Vec<u8>);

impl Source for Memory {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let at = usize::try_from(offset).ok()?;
        self.0.get(at..at.checked_add(length)?).map(<[u8]>::to_vec)
    }
}

fn tally_of(journal: &Journal) -> Tally {
    let reader = journal.reader();
    let span = reader.segments()[0];
    let mut tally = Tally::new(span.first_frame);
    let visited = reader.visit(&span, 0, &mut |frame, spot| {
        tally.take(frame, spot);
        std::ops::ControlFlow::Continue(())
    });
    visited.unwrap();
    tally
}

/// A poll of so many tags at this second.
fn poll(second: i64, tags: u32) -> Vec<Sample> {
    let at = Timestamp(second * SECOND + 123_456);
    let sample = |tag| {
        let value = f64::from(u32::try_from(second % 1_000).unwrap()) / 10.0 + f64::from(tag);
        Sample::good(TagId(tag), at, Value::F64(value))
    };
    (0..tags).map(sample).collect()
}

#[test]
fn one_tag_costs_a_small_part_of_the_file() {
    let mut journal = journal(90_000);
    for second in 0..900 {
        if journal.reader().segments().len() > 1 {
            break;
        }
        append(&mut journal, &poll(second * 160, 3_000));
    }
    let reader = journal.reader();
    let sidecars = Sidecars::new(reader.clone());
    whole(&sidecars, &reader);
    let span = reader.segments()[0];
    let metered = reader.metered();
    let sidecar = metered.sidecar(&span).expect("it was kept");
    assert!(sidecar.length() > 40_000, "{sidecar:?}");
    let before = metered.bytes_read();
    let digest = sidecars.of(&span, &metered, &mut || true).unwrap().unwrap();
    assert_eq!(digest.tags(&[TagId(77)]).unwrap().len(), 1);
    let read = metered.bytes_read() - before;
    assert!(read < 26_000, "{read} of {}", sidecar.length());
}

#[test]
fn tags_with_few_samples_get_wider_cells_or_none_and_frequent_ones_stay_fine() {
    let mut journal = journal(0);
    for minute in 0..1_200 {
        let mut samples: Vec<Sample> = (0..30).flat_map(|k| poll(minute * 60 + k, 1)).collect();
        samples.push(Sample { tag: TagId(9), ..samples[0].clone() });
        if minute % 400 == 0 {
            samples.push(Sample { tag: TagId(10), ..samples[0].clone() });
        }
        append(&mut journal, &samples);
    }
    let mut tally = Tally::new(0);
    let reader = journal.reader();
    for span in reader.segments() {
        let visited = reader.visit(&span, 0, &mut |frame, spot| {
            tally.take(frame, spot);
            std::ops::ControlFlow::Continue(())
        });
        visited.unwrap();
    }
    tally.widen(64);
    let tags = tally.tags(&[TagId(0), TagId(9), TagId(10)]);
    let grains: Vec<Option<i64>> = tags
        .iter()
        .map(|(_, digest)| match &digest.cells {
            Cells::Every { grain, .. } => Some(*grain),
            Cells::Unknown => None,
        })
        .collect();
    assert_eq!(grains, [Some(GRAINS[0]), Some(GRAINS[2]), None]);
}

#[test]
fn the_segment_being_written_is_read_once() {
    let mut journal = journal(40_000);
    let reader = journal.reader();
    let metered = reader.metered();
    let sidecars = Sidecars::new(reader.clone());
    let mut read = 0;
    for second in 0..50 {
        append(&mut journal, &poll(second, 20));
        let span = *reader.segments().last().unwrap();
        sidecars.of(&span, &metered, &mut || true).unwrap().unwrap();
        let more = metered.bytes_read() - read;
        read += more;
        assert!(more < 6_000, "second {second}: {more}");
    }
}

#[test]
fn who_is_told_to_stop_goes_on_where_it_stopped() {
    let mut journal = journal(40_000);
    for second in 0..16 {
        append(&mut journal, &poll(second, 20));
    }
    let reader = journal.reader();
    let sidecars = Sidecars::new(reader.clone());
    let span = reader.segments()[0];
    let mut asked = 0;
    let mut digest = None;
    for _ in 0..40 {
        let mut left = 3;
        let go_on = &mut || {
            asked += 1;
            left -= 1;
            left > 0
        };
        digest = sidecars.of(&span, &reader, go_on).unwrap();
        if digest.is_some() {
            break;
        }
    }
    naive(&reader, &span).check_frames(&digest.unwrap());
    assert!(asked < 30, "nothing is read twice: {asked}");
}

impl Naive {
    fn check_frames(&self, digest: &Digest) {
        let frames = digest.frames().unwrap();
        assert_eq!(frames.iter().map(|it| it.spot.number).collect::<Vec<_>>(), self.frames);
    }
}
