//! The decoder against values that Python encoded and judged (`vectors/make.py`).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken vector fails the test")]

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_modbus::{
    Address, DataType, LegalRange, NanPolicy, Order, Outside, Special, States, Table, TagSpec,
    decode_bit, decode_registers,
};
use tidegate_translator::{TagPath, Value};

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    r#type: String,
    #[serde(default = "abcd")]
    order: String,
    wire: String,
    value: Option<String>,
    quality: Option<String>,
    bit: Option<u8>,
    length: Option<u16>,
    scale: Option<f64>,
    offset: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    outside: Option<String>,
    nan: Option<String>,
    states: Option<String>,
}

fn abcd() -> String {
    "abcd".to_owned()
}

impl Vector {
    fn is_coil(&self) -> bool {
        self.r#type == "coil"
    }

    fn tag(&self) -> TagSpec {
        let (table, kind) = if self.is_coil() {
            (Table::Coil, DataType::Bool)
        } else {
            let kind = DataType::parse(&self.r#type, self.length.unwrap_or_default());
            (Table::HoldingRegister, kind.unwrap())
        };
        TagSpec {
            path: TagPath::new("P/x").unwrap(),
            address: Address { table, offset: 0, bit: self.bit },
            kind,
            order: Order::parse(&self.order).unwrap(),
            scale: self.scale.unwrap_or(1.0),
            offset: self.offset.unwrap_or(0.0),
            special: self.special(),
        }
    }

    /// `None` for all defaults, which takes a path of its own through the decoder.
    fn special(&self) -> Option<Arc<Special>> {
        let outside = match self.outside.as_deref() {
            None => Outside::Mark,
            Some("clamp") => Outside::Clamp,
            Some("bad") => Outside::Bad,
            Some(other) => panic!("no policy {other}"),
        };
        let range = (self.min.is_some() || self.max.is_some()).then(|| LegalRange {
            min: self.min.unwrap_or(f64::NEG_INFINITY),
            max: self.max.unwrap_or(f64::INFINITY),
            outside,
        });
        let nan = match self.nan.as_deref() {
            None | Some("mark") => NanPolicy::Mark,
            Some("bad") => NanPolicy::Bad,
            Some(other) => panic!("no policy {other}"),
        };
        let states = self.states.as_deref().map(|states| {
            let name = |it: &str| {
                let (number, name) = it.split_once('=').unwrap();
                (number.parse().unwrap(), name.into())
            };
            Arc::new(States::new(states.split(", ").map(name).collect()))
        });
        let special = Special { poll_every: None, range, nan, states };
        (special != Special::default()).then(|| Arc::new(special))
    }

    /// The value as `make.py` writes the decoded one's kind.
    fn shown(&self, value: &Value) -> Option<String> {
        let shown = match value {
            Value::None => return None,
            Value::F32(v) if v.is_nan() && self.value.as_deref() == Some("nan") => "nan".to_owned(),
            Value::F64(v) if v.is_nan() && self.value.as_deref() == Some("nan") => "nan".to_owned(),
            Value::F32(v) => format!("{:08x}", v.to_bits()),
            Value::F64(v) => format!("{:016x}", v.to_bits()),
            Value::Bool(v) => v.to_string(),
            Value::I64(v) => v.to_string(),
            Value::U64(v) => v.to_string(),
            Value::Text(v) => v.to_string(),
            other => panic!("{other:?} never comes from a register"),
        };
        Some(shown)
    }
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("vectors/decode.json")).unwrap()
}

fn registers(wire: &str) -> Vec<u16> {
    (0..wire.len())
        .step_by(4)
        .map(|at| u16::from_str_radix(&wire[at..at + 4], 16).unwrap())
        .collect()
}

#[test]
fn every_vector_decodes_as_python_says() {
    for vector in vectors() {
        let tag = vector.tag();
        let decoded = if vector.is_coil() {
            decode_bit(&tag, vector.wire == "01")
        } else {
            decode_registers(&tag, &registers(&vector.wire)).unwrap()
        };
        let word = decoded.quality.word();
        let quality = decoded.quality.reason().map(|why| format!("{word}({})", why.word()));
        assert_eq!(quality, vector.quality, "{vector:?}: {decoded:?}");
        assert_eq!(vector.shown(&decoded.value), vector.value, "{vector:?}: {decoded:?}");
        // The catalog promised this kind.
        let kind = decoded.value.kind();
        assert!(kind == tag.value_kind() || decoded.value == Value::None, "{vector:?}: {kind:?}");
    }
}

#[test]
fn the_vectors_have_every_type_in_every_order_and_every_policy() {
    let vectors = vectors();
    let seen: BTreeSet<_> = vectors.iter().map(|it| (it.r#type.as_str(), &*it.order)).collect();
    for kind in DataType::all(1) {
        for order in Order::all().filter(|order| kind.travels_in(*order)) {
            assert!(seen.contains(&(kind.word(), order.word())), "{kind} in {order}");
        }
    }
    for (what, count) in [
        ("clamp", vectors.iter().filter(|it| it.outside.as_deref() == Some("clamp")).count()),
        ("bad", vectors.iter().filter(|it| it.outside.as_deref() == Some("bad")).count()),
        ("nan", vectors.iter().filter(|it| it.nan.is_some()).count()),
        ("states", vectors.iter().filter(|it| it.states.is_some()).count()),
    ] {
        assert!(count >= 10, "{what}: {count}");
    }
}
