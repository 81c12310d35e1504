//! Record format version 1, byte for byte. A body in `vectors/` that no longer reads is a broken
//! promise to every hub; one that is written differently needs a decision record.

use serde_json::{Value as Json, json};
use tidegate_translator::{TagId, Timestamp};

use super::*;

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_790_000_000 * SECOND;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &Json) -> Vec<u8> {
    let text = text.as_str().unwrap();
    let pairs = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Every value type, twice or more, with the shapes that matter for its column.
fn values() -> Vec<Vec<Value>> {
    let text = |t: &str| Value::Text(t.into());
    vec![
        vec![Value::None, Value::Bool(true), Value::Bool(false)],
        vec![Value::I64(i64::MIN), Value::I64(-1), Value::I64(i64::MAX)],
        vec![Value::I64(10), Value::I64(20), Value::I64(30)],
        vec![Value::U64(u64::MAX), Value::U64(0), Value::U64(1 << 53)],
        vec![Value::U64(7), Value::U64(7), Value::U64(7)],
        vec![Value::F32(0.1), Value::F32(-0.0), Value::F32(f32::from_bits(0x7fa0_0001))],
        vec![Value::F32(21.5), Value::F32(21.75), Value::F32(22.0)],
        vec![
            Value::F64(std::f64::consts::PI),
            Value::F64(f64::from_bits(0xfff8_0000_0000_0123)),
            Value::F64(f64::NEG_INFINITY),
        ],
        vec![Value::F64(21.5), Value::F64(21.6), Value::F64(21.4)],
        vec![Value::F64(3.0 * 0.1), Value::F64(6.0 * 0.1), Value::F64(7.0 * 0.1)],
        vec![text("läuft"), text("läuft"), text("")],
        vec![Value::Bytes([0, 255].into()), Value::Bytes([].into()), Value::Bytes([1].into())],
        vec![Value::Json("[1,2.5]".into()), Value::Json("{\"a\":null}".into()), Value::None],
    ]
}

fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for round in 0..3 {
        for (tag, values) in (1_u32..).zip(values()) {
            let at = Timestamp(START + round * SECOND + i64::from(tag / 8) * 1_000);
            samples.push(Sample::good(
                TagId(tag * 3),
                at,
                values[usize::try_from(round).unwrap()].clone(),
            ));
        }
    }
    for code in 0..=9 {
        let reason = Reason::from_code(code);
        let tag = TagId(4_000_000_000 + u32::from(code));
        samples.push(Sample::bad(tag, Timestamp(START), reason, 0x8000_0000 | u32::from(code)));
        let mut uncertain = Sample::good(tag, Timestamp(START + 1), Value::Bool(code % 2 == 0));
        uncertain.quality = Quality::Uncertain(reason);
        uncertain.source = Some(Timestamp(START - 500_000_000));
        uncertain.server = (code < 5).then_some(Timestamp(START - 400_000_000));
        samples.push(uncertain);
    }
    samples
}

/// A sample in words; floats as their bits, because JSON has no NaN.
fn described(sample: &Sample) -> Json {
    let value = match &sample.value {
        Value::None => json!("none"),
        Value::Bool(v) => json!({ "bool": v }),
        Value::I64(v) => json!({ "i64": v.to_string() }),
        Value::U64(v) => json!({ "u64": v.to_string() }),
        Value::F32(v) => json!({ "f32-bits": format!("{:08x}", v.to_bits()) }),
        Value::F64(v) => json!({ "f64-bits": format!("{:016x}", v.to_bits()) }),
        Value::Text(v) => json!({ "text": v }),
        Value::Bytes(v) => json!({ "bytes": hex(v) }),
        Value::Json(v) => json!({ "json": v }),
    };
    json!({
        "tag": sample.tag.0,
        "acquired": sample.acquired.0.to_string(),
        "source": sample.source.map(|t| t.0.to_string()),
        "server": sample.server.map(|t| t.0.to_string()),
        "status": sample.status,
        "quality": sample.quality.word(),
        "reason": sample.quality.reason().map(Reason::word),
        "value": value,
    })
}

#[test]
fn sample_bodies_read_and_write_as_format_version_1_says() {
    let samples = samples();
    let mut encoder = columns::Encoder::default();
    let columns = encoder.encode(&samples).to_vec();
    let mut plain = Vec::new();
    plain::encode(&samples, &mut plain);
    let mut packed = Vec::new();
    pack::compress(&columns, &mut packed).unwrap();
    let decoded = decode(Codec::Columns, u32::try_from(samples.len()).unwrap(), &columns).unwrap();
    let written = json!({
        "samples": decoded.iter().map(described).collect::<Vec<_>>(),
        "plain": hex(&plain),
        "columns": hex(&columns),
        "columns-lz4": hex(&packed),
    });
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/samples.json");
    if std::env::var_os("TIDEGATE_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&written).unwrap();
        std::fs::write(path, text + "\n").unwrap();
    }
    let kept: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    // LZ4 may find other matches tomorrow: what is fixed is that the block unpacks to the columns.
    assert_eq!(
        unpack_into(&unhex(&kept["columns-lz4"]), &mut Vec::new()).unwrap(),
        unhex(&kept["columns"])
    );
    assert_eq!(kept["columns"], written["columns"]);
    assert_eq!(kept["plain"], written["plain"]);
    let count = u32::try_from(kept["samples"].as_array().unwrap().len()).unwrap();
    for (key, codec) in
        [("plain", Codec::Plain), ("columns", Codec::Columns), ("columns-lz4", Codec::ColumnsLz4)]
    {
        let read = decode(codec, count, &unhex(&kept[key])).unwrap();
        let read: Vec<_> = read.iter().map(described).collect();
        assert_eq!(Json::from(read), kept["samples"], "{key}");
    }
}
