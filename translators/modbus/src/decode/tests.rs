use proptest::prelude::*;
use tidegate_translator::{Sample, TagId, TagPath, Timestamp};

use super::*;
use crate::spec::{
    Address, LegalRange, MAX_TEXT, NanPolicy, Order, Outside, Special, States, Table,
};

fn tag(kind: DataType, order: Order) -> TagSpec {
    TagSpec {
        path: TagPath::new("P/x").unwrap(),
        address: Address { table: Table::HoldingRegister, offset: 0, bit: None },
        kind,
        order,
        scale: 1.0,
        offset: 0.0,
        special: None,
    }
}

fn any_order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Abcd), Just(Order::Cdab), Just(Order::Badc), Just(Order::Dcba)]
}

/// Written by moving bytes about, unlike the decoder, which shifts words.
fn encode(big_endian: &[u8], order: Order) -> Vec<u16> {
    let mut pairs: Vec<[u8; 2]> = big_endian.chunks_exact(2).map(|c| [c[0], c[1]]).collect();
    match order {
        Order::Abcd => {}
        Order::Cdab => pairs.reverse(),
        Order::Badc => pairs.iter_mut().for_each(|p| p.reverse()),
        Order::Dcba => {
            pairs.reverse();
            pairs.iter_mut().for_each(|p| p.reverse());
        }
    }
    pairs.into_iter().map(u16::from_be_bytes).collect()
}

fn value(tag: &TagSpec, registers: &[u16]) -> Value {
    decode_registers(tag, registers).unwrap().value
}

proptest! {
    #[test]
    fn an_encoded_integer_decodes_to_itself(v in any::<i64>(), order in any_order()) {
        let [a, b, ..] = v.to_be_bytes();
        let small = i16::from_be_bytes([a, b]);
        let middle = i32::try_from(v >> 32).unwrap();
        for (kind, bytes, expected) in [
            (DataType::Int64, &v.to_be_bytes()[..], Value::I64(v)),
            (DataType::Uint64, &v.to_be_bytes()[..], Value::U64(v.cast_unsigned())),
            (DataType::Int32, &middle.to_be_bytes()[..], Value::I64(middle.into())),
            (DataType::Uint32, &middle.to_be_bytes()[..], Value::U64(middle.cast_unsigned().into())),
            (DataType::Int16, &small.to_be_bytes()[..], Value::I64(small.into())),
            (DataType::Uint16, &small.to_be_bytes()[..], Value::U64(small.cast_unsigned().into())),
        ] {
            prop_assert_eq!(value(&tag(kind, order), &encode(bytes, order)), expected);
        }
    }

    #[test]
    fn an_encoded_float_keeps_every_bit(bits in any::<u64>(), order in any_order()) {
        let double = value(&tag(DataType::Float64, order), &encode(&bits.to_be_bytes(), order));
        prop_assert!(double.is_same(&Value::F64(f64::from_bits(bits))));
        let low = u32::try_from(bits & 0xffff_ffff).unwrap();
        let single = value(&tag(DataType::Float32, order), &encode(&low.to_be_bytes(), order));
        prop_assert!(single.is_same(&Value::F32(f32::from_bits(low))));
    }

    #[test]
    fn a_bit_is_the_one_that_was_set(bit in 0u8..16, order in any_order(), others in any::<u16>()) {
        let mut spec = tag(DataType::Bool, order);
        spec.address.bit = Some(bit);
        for set in [false, true] {
            let register = if set { others | 1 << bit } else { others & !(1 << bit) };
            let registers = encode(&register.to_be_bytes(), order);
            prop_assert_eq!(value(&spec, &registers), Value::Bool(set));
        }
    }

    #[test]
    fn any_registers_decode_or_are_refused_for_their_count(
        registers in prop::collection::vec(any::<u16>(), 0..6),
        order in any_order(),
        (scale, offset) in prop_oneof![Just((1.0, 0.0)), (any::<f64>(), any::<f64>())],
        special in prop::option::of(any_special()),
        text in 1u16..10,
    ) {
        let special = special.map(std::sync::Arc::new);
        for kind in DataType::all(text) {
            let mut spec = TagSpec { scale, offset, special: special.clone(), ..tag(kind, order) };
            spec.address.bit = (kind == DataType::Bool).then_some(3);
            let right = registers.len() == usize::from(kind.registers());
            let decoded = decode_registers(&spec, &registers);
            prop_assert_eq!(decoded.is_some(), right);
            let Some(Decoded { value, quality }) = decoded else { continue };
            let bad = matches!(quality, Quality::Bad(_));
            prop_assert_eq!(value == Value::None, bad, "{:?} is {:?}", value, quality);
            if let Some(number) = value.as_f64() {
                prop_assert!(number.is_finite() || !quality.is_good());
            }
            // Only where the planner lets a tag have states.
            if kind.is_whole() || special.as_ref().is_none_or(|it| it.states.is_none()) {
                prop_assert!(bad || value.kind() == spec.value_kind(), "{:?} of {}", value, kind);
            }
        }
    }

    #[test]
    fn an_encoded_decimal_decodes_to_itself_and_a_nibble_above_nine_to_nothing(
        number in 0u64..10_000_000_000_000_000,
        order in any_order(),
        (at, nibble) in (0usize..16, 10u32..16),
    ) {
        for (kind, digits) in [(DataType::Bcd16, 4), (DataType::Bcd32, 8), (DataType::Bcd64, 16)] {
            let number = number % 10u64.pow(digits);
            let mut digits = format!("{number:0width$}", width = digits as usize);
            let bytes = |digits: &str| {
                let whole = u64::from_str_radix(digits, 16).unwrap().to_be_bytes();
                encode(&whole[8 - digits.len() / 2..], order)
            };
            let spec = tag(kind, order);
            prop_assert_eq!(
                decode_registers(&spec, &bytes(&digits)).unwrap(),
                Decoded { value: Value::U64(number), quality: Quality::Good }
            );
            let at = at % digits.len();
            digits.replace_range(at..=at, &format!("{nibble:x}"));
            prop_assert_eq!(
                decode_registers(&spec, &bytes(&digits)).unwrap(),
                Decoded { value: Value::None, quality: Quality::Bad(Reason::OutOfRange) }
            );
        }
    }

    #[test]
    fn a_text_decodes_to_itself_and_any_bytes_to_something_that_can_be_shown(
        text in "[ -~äßλ度🙂]{0,30}",
        noise in prop::collection::vec(any::<u8>(), 1..=250),
        swapped in any::<bool>(),
    ) {
        let order = if swapped { Order::Badc } else { Order::Abcd };
        let decode = |bytes: &[u8]| {
            let kind = DataType::Text(bytes.len().try_into().unwrap());
            let mut even = bytes.to_vec();
            even.resize(bytes.len().next_multiple_of(2), b'!');
            decode_registers(&tag(kind, order), &encode(&even, order)).unwrap()
        };
        let padded = format!("{text}  \0#");
        let expected = Value::Text(text.trim_end_matches(' ').into());
        prop_assert_eq!(
            decode(padded.as_bytes()),
            Decoded { value: expected, quality: Quality::Good }
        );

        let Decoded { value, quality } = decode(&noise);
        let Value::Text(shown) = value else { panic!("{value:?} is no text") };
        prop_assert!(!shown.contains(char::is_control), "{:?}", shown);
        prop_assert!(!shown.ends_with(' '));
        let field = noise.split(|byte| *byte == 0).next().unwrap();
        let legible = std::str::from_utf8(field).is_ok_and(|text| {
            text.chars().all(|char| !char.is_control() || "\t\r\n".contains(char))
        });
        prop_assert_eq!(quality.is_good(), legible);
        prop_assert!(quality.is_good() || quality == Quality::Uncertain(Reason::Malformed));
    }

    #[test]
    fn what_a_range_says_agrees_with_plain_comparisons(
        raw in any::<i16>(),
        (min, max) in (-40_000.0..40_000.0f64, -40_000.0..40_000.0f64),
        whole in any::<bool>(),
        scaled in any::<bool>(),
    ) {
        let (min, max) = (min.min(max), min.max(max));
        let (min, max) = if whole { (min.round(), max.round()) } else { (min, max) };
        let decode = |outside| {
            let range = Some(LegalRange { min, max, outside });
            let spec = TagSpec {
                scale: if scaled { 0.5 } else { 1.0 },
                special: Some(Special { range, ..Special::default() }.into()),
                ..tag(DataType::Int16, Order::Abcd)
            };
            decode_registers(&spec, &[raw.cast_unsigned()]).unwrap()
        };
        let number = f64::from(raw) * if scaled { 0.5 } else { 1.0 };
        let plain = if scaled { Value::F64(number) } else { Value::I64(raw.into()) };
        if (min..=max).contains(&number) {
            for outside in [Outside::Mark, Outside::Clamp, Outside::Bad] {
                let same = Decoded { value: plain.clone(), quality: Quality::Good };
                prop_assert_eq!(decode(outside), same);
            }
        } else {
            let why = Quality::Uncertain(Reason::OutOfRange);
            prop_assert_eq!(decode(Outside::Mark), Decoded { value: plain.clone(), quality: why });
            prop_assert_eq!(decode(Outside::Bad), Decoded::bad(Reason::OutOfRange));
            let clamped = decode(Outside::Clamp);
            let Some(end) = clamped.value.as_f64() else {
                prop_assert!(!scaled && min.ceil() > max.floor());
                return Ok(());
            };
            prop_assert_eq!(clamped.quality, why);
            prop_assert_eq!(clamped.value.kind(), plain.kind());
            // The nearest legal number that the kind has.
            prop_assert!((min..=max).contains(&end));
            let limit = if number < min { min } else { max };
            let width = if scaled { f64::MIN_POSITIVE } else { 1.0 };
            prop_assert!((end - limit).abs() < width);
        }
    }

    #[test]
    fn every_way_to_read_registers_is_shown_once(
        registers in prop::collection::vec(prop_oneof![Just(0u16), any::<u16>()], 0..8),
    ) {
        let shown = interpretations(&registers);
        for (at, way) in shown.iter().enumerate() {
            let words = &registers[..usize::from(way.kind.registers())];
            prop_assert_eq!(
                format!("{:?}", decode_registers(&tag(way.kind, way.order), words)),
                format!("{:?}", Some(&way.decoded))
            );
            let again = shown[..at].iter().any(|earlier| {
                earlier.kind == way.kind
                    && earlier.decoded.value.is_same(&way.decoded.value)
                    && earlier.decoded.quality == way.decoded.quality
            });
            prop_assert!(!again, "{} in {} is shown already", way.kind, way.order);
        }
        // And nothing that a tag could be is missing.
        let bytes = u16::try_from(registers.len() * 2).unwrap();
        for kind in DataType::all(bytes).filter(|kind| *kind != DataType::Bool) {
            let Some(words) = registers.get(..usize::from(kind.registers())) else { continue };
            for order in Order::all().filter(|order| kind.travels_in(*order)) {
                let decoded = decode_registers(&tag(kind, order), words).unwrap();
                let same = |way: &Interpretation| {
                    way.kind == kind && way.decoded.value.is_same(&decoded.value)
                };
                prop_assert!(shown.iter().any(same), "{} in {}", kind, order);
            }
        }
    }
}

fn any_special() -> impl Strategy<Value = Special> {
    let outside = prop_oneof![Just(Outside::Mark), Just(Outside::Clamp), Just(Outside::Bad)];
    let limit = prop_oneof![any::<f64>(), -1e5..1e5f64, Just(0.0), Just(f64::INFINITY)];
    // Even a range that the planner refuses must not panic.
    let range = (limit.clone(), limit, outside).prop_map(|(min, max, outside)| LegalRange {
        min,
        max,
        outside,
    });
    let nan = prop_oneof![Just(NanPolicy::Mark), Just(NanPolicy::Bad)];
    let states = prop::collection::vec((any::<i64>(), "[a-z]{0,4}"), 0..4).prop_map(|names| {
        let names = names.into_iter().map(|(number, name)| (number % 5, name.into()));
        std::sync::Arc::new(States::new(names.collect()))
    });
    (prop::option::of(range), nan, prop::option::of(states))
        .prop_map(|(range, nan, states)| Special { poll_every: None, range, nan, states })
}

#[test]
fn a_register_of_digits_reads_in_eight_ways_and_one_that_is_the_same_both_ways_in_fewer() {
    let words = |registers: &[u16]| {
        let shown = interpretations(registers).into_iter().map(|way| {
            let value = match way.decoded.value {
                Value::None => "none".to_owned(),
                Value::I64(v) => v.to_string(),
                Value::U64(v) => v.to_string(),
                Value::Text(v) => v.to_string(),
                other => format!("{other:?}"),
            };
            format!("{} {} {value}", way.kind, way.order)
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(
        words(&[0x3132]),
        "int16 abcd 12594, int16 badc 12849, uint16 abcd 12594, uint16 badc 12849, \
         bcd16 abcd 3132, bcd16 badc 3231, text of 2 bytes abcd 12, text of 2 bytes badc 21"
    );
    assert_eq!(
        words(&[0xffff]),
        "int16 abcd -1, uint16 abcd 65535, bcd16 abcd none, text of 2 bytes abcd \u{fffd}\u{fffd}"
    );
    assert_eq!(words(&[]), "");
    assert!(interpretations(&[1; 200]).iter().any(|way| way.kind == DataType::Text(MAX_TEXT)));
}

#[test]
fn scale_one_and_offset_zero_leave_the_kind_and_anything_else_makes_a_double() {
    let plain = tag(DataType::Int16, Order::Abcd);
    assert_eq!(value(&plain, &[0xffff]), Value::I64(-1));
    let scaled = TagSpec { scale: 0.5, offset: 10.0, ..plain.clone() };
    assert_eq!(value(&scaled, &[0xffff]), Value::F64(9.5));
    let shifted = TagSpec { offset: 1.0, ..plain };
    assert_eq!(value(&shifted, &[2]), Value::F64(3.0));
}

#[test]
fn what_is_no_finite_number_keeps_its_value_and_is_uncertain() {
    let single = tag(DataType::Float32, Order::Abcd);
    let nan = decode_registers(&single, &[0x7fc1, 0x2345]).unwrap();
    assert!(nan.value.is_same(&Value::F32(f32::from_bits(0x7fc1_2345))));
    assert_eq!(nan.quality, Quality::Uncertain(Reason::NotANumber));
    let infinite = decode_registers(&single, &[0x7f80, 0]).unwrap();
    assert_eq!(infinite.quality, Quality::Uncertain(Reason::OutOfRange));
    let overflow = TagSpec { scale: 1e308, ..tag(DataType::Uint32, Order::Abcd) };
    let overflow = decode_registers(&overflow, &[0xffff, 0xffff]).unwrap();
    assert_eq!(overflow.quality, Quality::Uncertain(Reason::OutOfRange));
}

/// What decoding costs, for a person who asks: `cargo test --release -p tidegate-modbus --lib -- \
/// --ignored --nocapture costs`.
#[test]
#[ignore = "a measurement, not a rule"]
fn what_a_block_of_125_registers_costs() {
    use std::hint::black_box;
    use std::time::Instant;
    let registers: Vec<u16> = (0..125u16).map(|at| at.wrapping_mul(0x9e37) & 0x3fff).collect();
    for (kind, order, scale) in [
        (DataType::Uint16, Order::Abcd, 1.0),
        (DataType::Int16, Order::Badc, 1.0),
        (DataType::Int16, Order::Abcd, 0.1),
        (DataType::Uint32, Order::Cdab, 1.0),
        (DataType::Float32, Order::Cdab, 1.0),
        (DataType::Float32, Order::Abcd, 0.1),
        (DataType::Float64, Order::Dcba, 1.0),
    ] {
        let width = usize::from(kind.registers());
        let tags: Vec<_> =
            registers.chunks_exact(width).map(|_| TagSpec { scale, ..tag(kind, order) }).collect();
        let mut best = f64::MAX;
        for _ in 0..40 {
            let begun = Instant::now();
            for _ in 0..1_000 {
                let mut samples = Vec::with_capacity(tags.len());
                for (tag, words) in tags.iter().zip(black_box(&registers).chunks_exact(width)) {
                    decode_with(tag, words, |value, quality| {
                        let sample = Sample::good(TagId(1), Timestamp(2), value);
                        samples.push(Sample { quality, ..sample });
                    });
                }
                black_box(&samples);
            }
            best = best.min(begun.elapsed().as_secs_f64());
        }
        let each = best * 1e9 / 1_000.0;
        println!(
            "{kind:?} {order:?} x{scale}: {:.2} ns per register, {:.2} ns per tag",
            each / 125.0,
            each / tags.len() as f64
        );
    }
}
