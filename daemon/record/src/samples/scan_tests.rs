//! The scanner beside the plain reader: the same samples, the same refusals.

use proptest::prelude::*;
use tidegate_translator::{TagId, Timestamp};

use super::tests::{any_sample, is_same};
use super::*;

/// What a scan of these tags shows, each sample with its sequence number.
fn scanned(
    scanner: &mut Scanner,
    codec: Codec,
    count: u32,
    body: &[u8],
    tags: &TagSet,
) -> Result<Vec<(u64, Sample)>, DecodeError> {
    let mut shown = Vec::new();
    scanner.scan_body(codec, count, 100, body, tags, |run| {
        let mut whole = Vec::new();
        run.push_to(&mut whole);
        assert_eq!(whole.len(), run.len());
        for (index, sample) in whole.into_iter().enumerate() {
            assert!(is_same(&sample, &run.sample(index).unwrap()));
            let number = run.values.number(index);
            assert_eq!(number.map(f64::to_bits), sample.value.as_f64().map(f64::to_bits));
            shown.push((run.seq(index), sample));
        }
        assert_eq!(run.sample(run.len()), None);
        assert_eq!(run.quality.iter(run.len()).count(), run.len());
    })?;
    Ok(shown)
}

fn bodies(samples: &[Sample]) -> Vec<(Codec, Vec<u8>)> {
    let mut encoder = columns::Encoder::default();
    let columns = encoder.encode(samples).to_vec();
    let mut plain = Vec::new();
    plain::encode(samples, &mut plain);
    let packed = lz4_flex::compress_prepend_size(&columns);
    vec![(Codec::Columns, columns), (Codec::ColumnsLz4, packed), (Codec::Plain, plain)]
}

/// By the plain reader.
fn expected(codec: Codec, count: u32, body: &[u8]) -> Result<Vec<Sample>, DecodeError> {
    match codec {
        Codec::Plain => plain::decode(body, count),
        Codec::Columns => naive::decode(body, count),
        Codec::ColumnsLz4 => naive::decode(unpack_into(body, &mut Vec::new())?, count),
    }
}

fn are_same(a: &[(u64, Sample)], b: &[(u64, Sample)]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && is_same(&a.1, &b.1))
}

proptest! {
    #[test]
    fn a_scan_shows_the_chosen_tags_of_what_the_plain_reader_gives(
        batches in prop::collection::vec(prop::collection::vec(any_sample(), 1..80), 1..4),
        chosen in prop::collection::vec(prop_oneof![9 => 0..8_u32, 1 => any::<u32>()], 0..4),
    ) {
        let mut scanner = Scanner::new();
        for samples in batches {
            let mut chosen: Vec<_> = chosen.iter().copied().map(TagId).collect();
            chosen.push(samples[samples.len() / 2].tag);
            for (codec, body) in bodies(&samples) {
                let count = u32::try_from(samples.len()).unwrap();
                let whole: Vec<_> =
                    (100..).zip(expected(codec, count, &body).unwrap()).collect();
                for tags in [TagSet::all(), chosen.iter().copied().collect(), TagSet::from_iter([])] {
                    let shown = scanned(&mut scanner, codec, count, &body, &tags).unwrap();
                    let mut meant = whole.clone();
                    meant.retain(|(_, sample)| tags.contains(sample.tag));
                    prop_assert!(are_same(&shown, &meant), "{codec:?}: {shown:?} for {meant:?}");
                }
            }
        }
    }

    #[test]
    fn a_scan_of_everything_refuses_what_the_plain_reader_refuses(
        samples in prop::collection::vec(any_sample(), 1..40),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..3),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        chosen in any::<prop::sample::Index>(),
    ) {
        let count = u32::try_from(samples.len()).unwrap();
        for (codec, mut body) in bodies(&samples) {
            for (at, byte) in &damage {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            if let Some(cut) = cut {
                body.truncate(cut.index(body.len()));
            }
            let mut scanner = Scanner::new();
            let meant = expected(codec, count, &body);
            let shown = scanned(&mut scanner, codec, count, &body, &TagSet::all());
            prop_assert_eq!(shown.is_ok(), meant.is_ok(), "{:?} {:?} {:?}", codec, shown, meant);
            let chosen = TagSet::from_iter([chosen.get(&samples).tag]);
            let of_chosen = scanned(&mut scanner, codec, count, &body, &chosen);
            if let (Ok(shown), Ok(meant)) = (shown, meant) {
                let mut meant: Vec<_> = (100..).zip(meant).collect();
                prop_assert!(are_same(&shown, &meant));
                meant.retain(|(_, sample)| chosen.contains(sample.tag));
                prop_assert!(are_same(&of_chosen.unwrap(), &meant));
            }
        }
    }

    #[test]
    fn arbitrary_columns_read_alike(
        bytes in prop::collection::vec(prop_oneof![3 => 0..4_u8, 1 => any::<u8>()], 0..200),
        count in 0..20_u32,
    ) {
        let meant = naive::decode(&bytes, count);
        let shown = scanned(&mut Scanner::new(), Codec::Columns, count, &bytes, &TagSet::all());
        prop_assert_eq!(shown.is_ok(), meant.is_ok());
    }
}

#[test]
fn values_of_one_kind_stand_in_the_column_of_that_kind() {
    let at = |n: i64| Timestamp(1_790_000_000_000_000_000 + n * 1_000_000_000);
    let mut samples = Vec::new();
    for n in 0..3_i32 {
        samples.push(Sample::good(TagId(1), at(n.into()), Value::F64(f64::from(n) / 2.0)));
        samples.push(Sample::good(TagId(2), at(n.into()), Value::Bool(n == 1)));
        samples.push(Sample::bad(TagId(3), at(n.into()), Reason::Timeout, 7));
    }
    let packing = Packer::new().pack(&samples);
    let [body] = packing.bodies.as_slice() else { panic!("{packing:?}") };
    let mut seen = Vec::new();
    let mut scanner = Scanner::new();
    scanner
        .scan_body(body.codec, body.count, 40, &body.bytes, &TagSet::all(), |run| {
            assert_eq!(run.acquired, [at(0), at(1), at(2)]);
            assert_eq!(run.source, Column::Same(None));
            match run.tag {
                TagId(1) => assert_eq!(run.values, Values::F64(&[0.0, 0.5, 1.0])),
                TagId(2) => assert_eq!(run.values, Values::Bool(&[false, true, false])),
                _ => {
                    assert_eq!(run.values, Values::None);
                    assert_eq!(run.quality, Column::Same(Quality::Bad(Reason::Timeout)));
                    assert_eq!(run.status, Column::Same(7));
                }
            }
            seen.push((run.tag.0, run.first));
        })
        .unwrap();
    assert_eq!(seen, [(1, 40), (2, 43), (3, 46)]);
}
