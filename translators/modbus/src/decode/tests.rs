use proptest::prelude::*;
use tidegate_translator::TagPath;

use super::*;
use crate::spec::{Address, Order, Table};

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
        scale in any::<f64>(),
        offset in any::<f64>(),
    ) {
        for kind in [DataType::Int16, DataType::Uint32, DataType::Int64, DataType::Float32, DataType::Float64] {
            let spec = TagSpec { scale, offset, ..tag(kind, order) };
            let right = registers.len() == usize::from(kind.registers());
            let decoded = decode_registers(&spec, &registers);
            prop_assert_eq!(decoded.is_some(), right);
            if let Some(Decoded { value, quality }) = decoded {
                let finite = value.as_f64().is_some_and(f64::is_finite);
                prop_assert_eq!(quality.is_good(), finite);
            }
        }
    }
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
        for _ in 0..20 {
            let begun = Instant::now();
            for _ in 0..2_000 {
                let mut decoded = Vec::with_capacity(tags.len());
                for (tag, words) in tags.iter().zip(black_box(&registers).chunks_exact(width)) {
                    decoded.extend(decode_registers(tag, words));
                }
                black_box(&decoded);
            }
            best = best.min(begun.elapsed().as_secs_f64());
        }
        let each = best * 1e9 / 2_000.0;
        println!(
            "{kind:?} {order:?} x{scale}: {:.2} ns per register, {:.2} ns per tag",
            each / 125.0,
            each / tags.len() as f64
        );
    }
}
