use proptest::prelude::*;
use tidegate_journal::{ClockState, Epoch, FrameHash, Header, Kind};
use tidegate_translator::{TagId, Timestamp};

use super::*;

fn any_reason() -> impl Strategy<Value = Reason> {
    (0..=9_u8).prop_map(Reason::from_code)
}

fn any_quality() -> impl Strategy<Value = Quality> {
    prop_oneof![
        4 => Just(Quality::Good),
        1 => any_reason().prop_map(Quality::Uncertain),
        1 => any_reason().prop_map(Quality::Bad),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        (0..1000_i64).prop_map(Value::I64),
        any::<u64>().prop_map(Value::U64),
        any::<u32>().prop_map(|bits| Value::F32(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| Value::F64(f64::from_bits(bits))),
        (-5000..5000_i32).prop_map(|n| Value::F64(f64::from(n) / 10.0)),
        (-5000..5000_i32).prop_map(|n| Value::F64(f64::from(n) * 0.01)),
        (-5000..5000_i16).prop_map(|n| Value::F32(f32::from(n) / 100.0)),
        prop_oneof![Just(0.0), Just(-0.0), Just(f64::NAN), Just(f64::INFINITY)]
            .prop_map(Value::F64),
        prop_oneof![Just(0.0), Just(-0.0), Just(f32::NAN), Just(f32::MIN)].prop_map(Value::F32),
        "[a-zäß ]{0,9}".prop_map(|t| Value::Text(t.into())),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(|b| Value::Bytes(b.into())),
        prop_oneof![Just("[1,2]"), Just("{}")].prop_map(|t| Value::Json(t.into())),
    ]
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        8 => (0..5_i64).prop_map(|n| Timestamp(1_790_000_000_000_000_000 + n * 1_000_000_000)),
        1 => any::<i64>().prop_map(Timestamp),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0)].prop_map(Timestamp),
    ]
}

prop_compose! {
    pub(super) fn any_sample()(
        tag in prop_oneof![9 => 0..6_u32, 1 => any::<u32>(), 1 => Just(u32::MAX)],
        acquired in any_time(),
        source in prop::option::of(any_time()),
        server in prop::option::weighted(0.1, any_time()),
        status in prop_oneof![4 => Just(0), 1 => any::<u32>()],
        quality in any_quality(),
        value in any_value(),
    ) -> Sample {
        Sample { tag: TagId(tag), acquired, source, server, status, quality, value }
    }
}

pub(super) fn is_same(a: &Sample, b: &Sample) -> bool {
    let bare = |s: &Sample| Sample { value: Value::None, ..s.clone() };
    a.value.is_same(&b.value) && bare(a) == bare(b)
}

/// What must come out: by tag, each tag's samples in the order in which they went in.
fn in_order(samples: &[Sample]) -> Vec<Sample> {
    let mut expected = samples.to_vec();
    expected.sort_by_key(|s| s.tag);
    expected
}

fn check_packing(samples: &[Sample], packing: &Packing) {
    let mut from = 0;
    for body in &packing.bodies {
        assert!(body.bytes.len() <= MAX_BODY_BYTES);
        let decoded = decode(body.codec, body.count, &body.bytes).unwrap();
        let batch = &samples[from..from + decoded.len()];
        let expected = in_order(batch);
        for (a, b) in expected.iter().zip(&decoded) {
            assert!(is_same(a, b), "{a:?} came out as {b:?} from {:?}", body.codec);
        }
        assert_eq!(body.wall.0, batch.iter().map(|s| s.acquired.0).min().unwrap());
        assert_eq!(body.wall.1, batch.iter().map(|s| s.acquired.0).max().unwrap());
        from += decoded.len();
    }
    assert_eq!(from, samples.len());
}

proptest! {
    #[test]
    fn samples_of_every_shape_come_back_bit_for_bit(
        samples in prop::collection::vec(any_sample(), 0..120),
    ) {
        check_packing(&samples, &Packer::new().pack(&samples));
    }

    #[test]
    fn each_codec_alone_brings_samples_back(samples in prop::collection::vec(any_sample(), 1..60)) {
        let count = u32::try_from(samples.len()).unwrap();
        let expected = in_order(&samples);
        let mut encoder = columns::Encoder::default();
        let columns = encoder.encode(&samples);
        let packed = lz4_flex::compress_prepend_size(columns);
        let mut plain = Vec::new();
        plain::encode(&samples, &mut plain);
        for (codec, body) in
            [(Codec::Columns, columns), (Codec::ColumnsLz4, &packed), (Codec::Plain, &plain)]
        {
            let decoded = decode(codec, count, body).unwrap();
            prop_assert!(expected.iter().zip(&decoded).all(|(a, b)| is_same(a, b)), "{codec:?}");
            // A count that is not the body's own is never accepted.
            for wrong in [count + 1, count - 1] {
                let refused = matches!(decode(codec, wrong, body), Err(DecodeError::Count { .. }));
                prop_assert!(refused);
            }
        }
    }

    #[test]
    fn one_packer_packs_many_batches_independently(
        batches in prop::collection::vec(prop::collection::vec(any_sample(), 1..30), 1..5),
    ) {
        let mut packer = Packer::new();
        for batch in batches {
            prop_assert_eq!(packer.pack(&batch), Packer::new().pack(&batch));
        }
    }

    #[test]
    fn arbitrary_bytes_never_make_the_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        count in prop_oneof![0..20_u32, any::<u32>()],
    ) {
        for codec in [Codec::Plain, Codec::Columns, Codec::ColumnsLz4] {
            let _ = decode(codec, count, &bytes);
        }
    }

    #[test]
    fn damaged_bodies_give_an_error_or_as_many_samples_as_the_header_says(
        samples in prop::collection::vec(any_sample(), 1..40),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let count = u32::try_from(samples.len()).unwrap();
        let mut encoder = columns::Encoder::default();
        let columns = encoder.encode(&samples).to_vec();
        let mut plain = Vec::new();
        plain::encode(&samples, &mut plain);
        for (codec, mut body) in [
            (Codec::ColumnsLz4, lz4_flex::compress_prepend_size(&columns)),
            (Codec::Columns, columns),
            (Codec::Plain, plain),
        ] {
            for (at, byte) in &damage {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            if let Some(cut) = cut {
                body.truncate(cut.index(body.len()));
            }
            if let Ok(decoded) = decode(codec, count, &body) {
                prop_assert_eq!(decoded.len(), samples.len());
            }
        }
    }
}

fn scan(tags: u32, scans: i64, value: impl Fn(u32, i64) -> Value) -> Vec<Sample> {
    let mut out = Vec::new();
    for scan in 0..scans {
        for tag in 0..tags {
            let at = Timestamp(1_790_000_000_000_000_000 + scan * 1_000_000_000);
            out.push(Sample::good(TagId(tag), at, value(tag, scan)));
        }
    }
    out
}

fn noise(tag: u32, scan: i64) -> u64 {
    let mut x = (u64::from(tag) << 32) ^ scan.cast_unsigned() ^ 0x9e37_79b9_7f4a_7c15;
    for _ in 0..3 {
        x ^= x >> 30;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 27;
    }
    x
}

#[test]
fn a_batch_larger_than_a_frame_becomes_several_bodies_in_order() {
    let samples = scan(100, 500, |tag, n| Value::F64(f64::from_bits(noise(tag, n))));
    let packing = Packer::new().pack(&samples);
    assert!(packing.bodies.len() > 5, "{}", packing.bodies.len());
    check_packing(&samples, &packing);
    // Only the last body may be small: nothing is gained by half-empty frames.
    let (last, full) = packing.bodies.split_last().unwrap();
    assert!(full.iter().all(|b| b.bytes.len() > MAX_BODY_BYTES / 2), "{}", last.bytes.len());
}

#[test]
fn constant_samples_never_exceed_the_count_that_a_reader_accepts() {
    let samples = scan(10, 10_000, |_, _| Value::I64(7));
    let packing = Packer::new().pack(&samples);
    check_packing(&samples, &packing);
    assert_eq!(packing.bodies.len(), samples.len().div_ceil(MAX_SAMPLES));
}

#[test]
fn a_value_larger_than_a_frame_is_refused_by_name_and_its_neighbours_are_kept() {
    let text = |n: usize| Value::Text("x".repeat(n).into());
    let at = Timestamp(5);
    let largest = MAX_BODY_BYTES - 56;
    let samples = vec![
        Sample::good(TagId(1), at, Value::Bool(true)),
        Sample::good(TagId(2), at, text(largest + 1)),
        Sample::good(TagId(3), at, text(largest)),
    ];
    let packing = Packer::new().pack(&samples);
    assert_eq!(
        packing.refused,
        [Refused { tag: TagId(2), acquired: at, kind: ValueKind::Text, bytes: largest + 1 }]
    );
    let said = packing.refused[0].to_string();
    assert!(said.contains("tag 2") && said.contains(&(largest + 1).to_string()), "{said}");
    let kept = vec![samples[0].clone(), samples[2].clone()];
    check_packing(&kept, &packing);
}

#[test]
fn the_largest_sample_fits_a_frame_with_the_longest_header() {
    let mut sample = Sample::good(
        TagId(u32::MAX),
        Timestamp(i64::MIN),
        Value::Bytes(vec![7; MAX_BODY_BYTES - 56].into()),
    );
    sample.source = Some(Timestamp(i64::MAX));
    sample.server = Some(Timestamp(i64::MIN));
    sample.status = u32::MAX;
    sample.quality = Quality::Bad(Reason::SensorFailure);
    let packing = Packer::new().pack(&[sample]);
    let [body] = &packing.bodies[..] else { panic!("{packing:?}") };
    let header = Header {
        plant: "p".repeat(31),
        gateway: "g".repeat(31),
        epoch: Epoch([255; 16]),
        number: u64::MAX,
        first_seq: u64::MAX,
        count: u32::MAX,
        wall: (i64::MIN, i64::MIN),
        mono: (u64::MAX, u64::MAX),
        boot: [255; 16],
        clock: ClockState::Unsynchronised,
        previous: FrameHash([255; 32]),
        codec: body.codec,
    };
    tidegate_journal::frame::encode(Kind::Samples, &header, &body.bytes).unwrap();
}

#[test]
fn repeated_texts_cannot_make_a_reader_copy_more_than_the_limit() {
    let samples = scan(1, 100, |_, _| Value::Text("x".repeat(60_000).into()));
    let packing = Packer::new().pack(&samples);
    check_packing(&samples, &packing);
    let most = MAX_TEXT_BYTES / 60_000;
    assert!(packing.bodies.iter().all(|b| b.count as usize <= most));
    // One sample more than the limit, as another writer might have packed it.
    let mut encoder = columns::Encoder::default();
    let columns = encoder.encode(&samples[..=most]);
    assert_eq!(
        decode(Codec::Columns, u32::try_from(most + 1).unwrap(), columns),
        Err(DecodeError::Damaged { column: "values" })
    );
}

#[test]
fn a_tiny_body_that_claims_millions_of_samples_is_refused() {
    let mut columns = Vec::new();
    let mut tags = vec![0, 0xff, 0xff, 0xff, 0x7f];
    tags.push(0);
    columns.push(u8::try_from(tags.len()).unwrap());
    columns.extend([0; 12]);
    columns.extend(tags);
    let count = 0x0fff_ffff + 1;
    assert_eq!(decode(Codec::Columns, count, &columns), Err(DecodeError::TooMany { count }));
}

#[test]
fn an_lz4_block_that_claims_gigabytes_is_refused() {
    let body = [0xff, 0xff, 0xff, 0x7f, 0, 0];
    assert_eq!(decode(Codec::ColumnsLz4, 1, &body), Err(DecodeError::Compression));
}

#[test]
fn a_reason_of_a_later_version_reads_as_unspecified() {
    assert_eq!(quality_of(2 | 200 << 2), Some(Quality::Bad(Reason::Unspecified)));
    assert_eq!(quality_of(3), None);
    assert_eq!(quality_of(4), None);
}

#[test]
fn registers_with_a_scale_cost_little_whichever_way_they_were_scaled() {
    for (name, scaled) in [
        ("divided", (|n| f64::from(n) / 10.0) as fn(i32) -> f64),
        ("multiplied", |n| f64::from(n) * 0.1),
    ] {
        let value = |tag, n| Value::F64(scaled((noise(tag, n) % 4000) as i32));
        let samples = scan(100, 5, value);
        let packing = Packer::new().pack(&samples);
        check_packing(&samples, &packing);
        let bytes = packing.bodies.iter().map(|b| b.bytes.len()).sum::<usize>();
        assert!(bytes < 3 * samples.len(), "{name}: {bytes} bytes");
    }
}

#[test]
fn samples_of_a_frame_carry_their_sequence_numbers() {
    let samples = scan(3, 2, |tag, n| Value::I64(i64::from(tag) + n));
    let packing = Packer::new().pack(&samples);
    let body = &packing.bodies[0];
    let header = Header {
        plant: "P".into(),
        gateway: "g".into(),
        epoch: Epoch([1; 16]),
        number: 4,
        first_seq: 70,
        count: body.count,
        wall: body.wall,
        mono: (0, 0),
        boot: [0; 16],
        clock: ClockState::Unknown,
        previous: FrameHash::ZERO,
        codec: body.codec,
    };
    let bytes = tidegate_journal::frame::encode(Kind::Samples, &header, &body.bytes).unwrap();
    let frame = tidegate_journal::frame::decode(&bytes).unwrap();
    let read = decode_frame(&frame).unwrap();
    assert_eq!(read.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [70, 71, 72, 73, 74, 75]);
    assert_eq!(read[0].1.tag, TagId(0));
    assert_eq!(read[5].1.tag, TagId(2));
}

#[test]
fn a_scan_of_a_hundred_mixed_tags_costs_at_most_six_bytes_a_sample() {
    let unit = |tag, n| (noise(tag, n) >> 11) as f64 / (1_u64 << 53) as f64;
    let samples = scan(100, 1, |tag, n| match tag % 5 {
        0 => Value::Bool(noise(tag, n) & 1 == 0),
        1 => Value::U64(noise(tag, n) % 1_000_000),
        2 => Value::F64((unit(tag, n) * 1000.0).round() / 10.0),
        3 => Value::F32(f32::from_bits(u32::try_from(0x4200_0000 | noise(tag, n) >> 41).unwrap())),
        _ => Value::F64(unit(tag, n) * 90.0),
    });
    let packing = Packer::new().pack(&samples);
    check_packing(&samples, &packing);
    let bytes = packing.bodies.iter().map(|b| b.bytes.len()).sum::<usize>();
    assert!(bytes <= 600, "{bytes} bytes");
}
