//! The decoder against values that Python's struct encoded (`vectors/make.py`).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken vector fails the test")]

use tidegate_modbus::{Address, DataType, Order, Table, TagSpec, decode_registers};
use tidegate_translator::{Quality, TagPath, Value};

#[derive(serde::Deserialize)]
struct Vector {
    r#type: String,
    order: String,
    wire: String,
    value: String,
}

fn kind(word: &str) -> DataType {
    match word {
        "int16" => DataType::Int16,
        "uint16" => DataType::Uint16,
        "int32" => DataType::Int32,
        "uint32" => DataType::Uint32,
        "int64" => DataType::Int64,
        "uint64" => DataType::Uint64,
        "float32" => DataType::Float32,
        "float64" => DataType::Float64,
        other => panic!("no type {other}"),
    }
}

fn order(word: &str) -> Order {
    match word {
        "abcd" => Order::Abcd,
        "cdab" => Order::Cdab,
        "badc" => Order::Badc,
        "dcba" => Order::Dcba,
        other => panic!("no order {other}"),
    }
}

fn registers(wire: &str) -> Vec<u16> {
    (0..wire.len())
        .step_by(4)
        .map(|at| u16::from_str_radix(&wire[at..at + 4], 16).unwrap())
        .collect()
}

#[test]
fn every_type_in_every_order_decodes_as_python_encoded_it() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("vectors/decode.json")).unwrap();
    assert!(vectors.len() >= 8 * 4 * 4, "{} vectors are not all types and orders", vectors.len());
    for v in vectors {
        let tag = TagSpec {
            path: TagPath::new("P/x").unwrap(),
            address: Address { table: Table::HoldingRegister, offset: 0, bit: None },
            kind: kind(&v.r#type),
            order: order(&v.order),
            scale: 1.0,
            offset: 0.0,
            special: None,
        };
        let expected = match tag.kind {
            DataType::Float32 => {
                Value::F32(f32::from_bits(u32::from_str_radix(&v.value, 16).unwrap()))
            }
            DataType::Float64 => {
                Value::F64(f64::from_bits(u64::from_str_radix(&v.value, 16).unwrap()))
            }
            DataType::Uint16 | DataType::Uint32 | DataType::Uint64 => {
                Value::U64(v.value.parse().unwrap())
            }
            _ => Value::I64(v.value.parse().unwrap()),
        };
        let decoded = decode_registers(&tag, &registers(&v.wire)).unwrap();
        assert_eq!(decoded.quality, Quality::Good);
        assert!(
            decoded.value.is_same(&expected),
            "{} {} {}: {:?}, not {expected:?}",
            v.r#type,
            v.order,
            v.wire,
            decoded.value
        );
    }
}
