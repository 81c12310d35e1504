use opcua::types::{
    Array, ByteString, ByteStringBody, DateTime, EUInformation, ExpandedNodeId, ExtensionObject,
    LocalizedText, NodeId, QualifiedName, Range, StatusCode, VariantScalarTypeId,
};
use proptest::prelude::*;

use super::*;

const TAG: TagId = TagId(7);
const NOW: Timestamp = Timestamp(42);

fn converter_with(types: Types) -> Converter {
    let namespaces = ["", "urn:server", "urn:press"].map(str::to_owned);
    Converter::new(Arc::new(Namespaces::new(namespaces)), Arc::new(types))
}

fn sample(meaning: &Meaning, value: impl Into<Variant>) -> Result<Sample, Flaw> {
    let data = DataValue { value: Some(value.into()), ..DataValue::null() };
    converter_with(types()).sample(TAG, meaning, data, NOW).map_err(|error| error.flaw)
}

fn value(value: impl Into<Variant>) -> (Value, Quality) {
    let sample = sample(&Meaning::Plain, value).unwrap();
    (sample.value, sample.quality)
}

/// The JSON of a good value.
fn json(of: impl Into<Variant>) -> String {
    match value(of) {
        (Value::Json(text), Quality::Good) => text.into(),
        other => panic!("{other:?}"),
    }
}

fn text(text: &str) -> (Value, Quality) {
    (Value::Text(text.into()), Quality::Good)
}

fn names() -> Names {
    Names::new([(2, "Running".to_owned()), (0, "Off".to_owned()), (2, "Again".to_owned())])
}

fn id(number: u32) -> NodeId {
    NodeId::new(2, number)
}

/// Point {x: Double, y: Float}, Choice (union of Int32 and a list of points), Part {name, state, and
/// when there: at: Point, more: list of Part, grid: matrix of Byte}, Any {value: Variant, object}.
fn types() -> Types {
    let mut types = Types::known();
    let [point, choice, part, any] = [1, 2, 3, 4].map(|number| types.reserve(id(number)));
    for (place, number) in [(point, 11), (choice, 12), (part, 13), (any, 14)] {
        types.encoded_as(id(number), place);
    }
    let scalar = |name, scalar| Field::new(name, Kind::Scalar(scalar), -1, false);
    let structure = |name: &str, shape, fields| Structure { name: name.into(), shape, fields };
    let fields = vec![scalar("x", Scalar::Double), scalar("y", Scalar::Float)];
    types.define(point, structure("Point", Shape::Plain, fields));
    let fields = vec![
        scalar("number", Scalar::Int32),
        Field::new("points", Kind::Structure(point), 1, false),
    ];
    types.define(choice, structure("Choice", Shape::Union, fields));
    let fields = vec![
        scalar("name", Scalar::String),
        Field::new("state", Kind::Named(Arc::new(names())), -1, false),
        Field::new("at", Kind::Structure(point), -1, true),
        Field::new("more", Kind::Structure(part), 1, true),
        Field::new("grid", Kind::Scalar(Scalar::Byte), 2, true),
    ];
    types.define(part, structure("Part", Shape::Optional, fields));
    let fields = vec![scalar("value", Scalar::Variant), scalar("object", Scalar::ExtensionObject)];
    types.define(any, structure("Any", Shape::Plain, fields));
    types
}

fn body(encoding: u32, bytes: &[u8]) -> ExtensionObject {
    ExtensionObject::new(ByteStringBody::new(bytes.to_vec().into(), id(encoding)))
}

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn a_scalar_is_the_value_that_was_sent() {
    assert_eq!(value(true), (Value::Bool(true), Quality::Good));
    assert_eq!(value(-128_i8), (Value::I64(-128), Quality::Good));
    assert_eq!(value(i64::MIN), (Value::I64(i64::MIN), Quality::Good));
    assert_eq!(value(255_u8), (Value::U64(255), Quality::Good));
    assert_eq!(value(u64::MAX), (Value::U64(u64::MAX), Quality::Good));
    assert_eq!(value(0.1_f32), (Value::F32(0.1), Quality::Good));
    assert_eq!(value(-0.0_f64).0.kind(), tidegate_translator::ValueKind::F64);
    assert_eq!(value("Öl"), text("Öl"));
    assert_eq!(value(Variant::String(opcua::types::UAString::null())), text(""));
    assert_eq!(value(LocalizedText::new("de", "Druck")), text("Druck"));
    assert_eq!(
        value(DateTime::from(116_444_736_000_000_001)),
        text("1970-01-01T00:00:00.0000001Z")
    );
    assert_eq!(value(StatusCode::BadTimeout), text("BadTimeout (0x800a0000)"));
    assert_eq!(value(NodeId::new(2, "Axis")), text("nsu=urn:press;s=Axis"));
    assert_eq!(value(ExpandedNodeId::new(NodeId::new(1, 5u32))), text("nsu=urn:server;i=5"));
    assert_eq!(value(QualifiedName::new(2, "Axis")), text("nsu=urn:press;Axis"));
    assert_eq!(value(Variant::XmlElement("<a/>".into())), text("<a/>"));
    let guid = "09087e75-8e5e-499b-954f-f2a9603db28a";
    assert_eq!(value(guid.parse::<opcua::types::Guid>().unwrap()), text(guid));
    let bytes = Value::Bytes([0, 255].into());
    assert_eq!(value(ByteString::from(vec![0, 255])), (bytes, Quality::Good));
}

#[test]
fn what_is_no_finite_number_is_not_good() {
    let nan = f32::from_bits(0x7fc1_2345);
    let (value, quality) = value(nan);
    assert!(value.is_same(&Value::F32(nan)), "the payload is kept");
    assert_eq!(quality, Quality::Uncertain(Reason::NotANumber));
    let infinite = sample(&Meaning::Plain, f64::INFINITY).unwrap();
    assert_eq!(infinite.quality, Quality::Uncertain(Reason::OutOfRange));
    let list = sample(&Meaning::Plain, vec![1.5_f64, f64::NEG_INFINITY, f64::NAN]).unwrap();
    assert_eq!(list.value, Value::Json("[1.5,null,null]".into()));
    assert_eq!(list.quality, Quality::Uncertain(Reason::NotANumber));
}

#[test]
fn status_and_times_are_kept_and_a_bad_one_has_no_value() {
    let convert = |data| converter_with(Types::default()).sample(TAG, &Meaning::Plain, data, NOW);
    let status = StatusCode::from(StatusCode::UncertainLastUsableValue.bits() | 0x480);
    let stale = DataValue {
        value: Some(Variant::from(5_i32)),
        status: Some(status),
        source_timestamp: Some(DateTime::from(116_444_736_000_000_010)),
        source_picoseconds: Some(500),
        server_timestamp: Some(DateTime::from(116_444_736_000_000_020)),
        server_picoseconds: None,
    };
    let sample = convert(stale.clone()).unwrap();
    assert_eq!((sample.tag, sample.acquired, sample.status), (TAG, NOW, status.bits()));
    assert_eq!(sample.source, Some(Timestamp(1_005)));
    assert_eq!(sample.server, Some(Timestamp(2_000)));
    assert_eq!(sample.quality, Quality::Uncertain(Reason::Stale));
    assert_eq!(sample.value, Value::I64(5));

    let bad = DataValue { status: Some(StatusCode::BadSensorFailure), ..stale.clone() };
    let sample = convert(bad).unwrap();
    assert_eq!(sample.quality, Quality::Bad(Reason::SensorFailure));
    assert_eq!((sample.value, sample.source), (Value::None, Some(Timestamp(1_005))));

    let good = DataValue { status: None, ..stale.clone() };
    assert_eq!(convert(good).unwrap().quality, Quality::Good, "no status is good");
    for value in [None, Some(Variant::Empty)] {
        let nothing = DataValue { value, status: None, ..stale.clone() };
        let sample = convert(nothing).unwrap();
        assert_eq!(sample.quality, Quality::Bad(Reason::Unspecified), "no value is not good");
    }
}

#[test]
fn an_array_is_nested_by_its_dimensions() {
    let numbers: Vec<Variant> = (1..=12_i32).map(Variant::from).collect();
    let matrix = |dimensions: Vec<u32>| {
        let array = Array::new_multi(VariantScalarTypeId::Int32, numbers.clone(), dimensions);
        Variant::from(array.unwrap())
    };
    assert_eq!(json(matrix(vec![2, 6])), "[[1,2,3,4,5,6],[7,8,9,10,11,12]]");
    assert_eq!(json(matrix(vec![2, 3, 2])), "[[[1,2],[3,4],[5,6]],[[7,8],[9,10],[11,12]]]");
    assert_eq!(json(matrix(vec![12])), "[1,2,3,4,5,6,7,8,9,10,11,12]");
    assert_eq!(json(matrix(vec![12, 1])), "[[1],[2],[3],[4],[5],[6],[7],[8],[9],[10],[11],[12]]");
    let empty = Array::new_multi(VariantScalarTypeId::Int32, vec![], vec![]).unwrap();
    assert_eq!(json(Variant::from(empty)), "[]");
    assert_eq!(json(vec![u64::MAX, 1 << 53]), "[\"18446744073709551615\",9007199254740992]");
    assert_eq!(json(vec![0.1_f32, 2.0]), "[0.1,2.0]");
    assert_eq!(json(vec![true, false]), "[true,false]");
    let texts = vec![LocalizedText::new("de", "a\"b"), LocalizedText::null()];
    let written = r#"[{"text":"a\"b","locale":"de"},{"text":null,"locale":null}]"#;
    assert_eq!(json(texts), written);
    let mixed =
        vec![Variant::Variant(Box::new(1_i32.into())), Variant::Variant(Box::new("a".into()))];
    let mixed = Array::new(VariantScalarTypeId::Variant, mixed).unwrap();
    assert_eq!(json(Variant::from(mixed)), "[1,\"a\"]");
}

#[test]
fn the_number_of_an_enumeration_has_its_name() {
    let meaning = Meaning::Named(Arc::new(names()));
    let running = sample(&meaning, 2_i32).unwrap();
    assert_eq!(running.value, Value::Json(r#"{"value":2,"name":"Running"}"#.into()));
    assert_eq!(running.quality, Quality::Good);
    let unknown = sample(&meaning, 9_u8).unwrap();
    assert_eq!(unknown.value, Value::Json(r#"{"value":9,"name":null}"#.into()));
    assert_eq!(unknown.quality, Quality::Uncertain(Reason::OutOfRange));
    let list = sample(&meaning, vec![0_i32, 2]).unwrap();
    let written = r#"[{"value":0,"name":"Off"},{"value":2,"name":"Running"}]"#;
    assert_eq!(list.value, Value::Json(written.into()));
    let odd = sample(&meaning, "Running").unwrap();
    assert_eq!(odd.value, Value::Text("Running".into()), "what is no number is itself");
}

#[test]
fn a_structure_is_an_object_of_its_fields() {
    let point = bytes(&[&1.5_f64.to_le_bytes(), &0.1_f32.to_le_bytes()]);
    assert_eq!(json(body(11, &point)), r#"{"x":1.5,"y":0.1}"#);
    assert_eq!(json(body(1, &point)), r#"{"x":1.5,"y":0.1}"#, "by its data type as well");

    let name: &[u8] = &[1, 0, 0, 0, b'A'];
    let none: &[u8] = &[0; 4];
    let bare = bytes(&[none, name, &2_i32.to_le_bytes()]);
    assert_eq!(json(body(13, &bare)), r#"{"name":"A","state":{"value":2,"name":"Running"}}"#);
    let mask = 0b111_u32.to_le_bytes();
    let grid = bytes(&[&[2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0], &[1, 2, 3, 4]]);
    let whole =
        bytes(&[&mask, name, &0_i32.to_le_bytes(), &point, &1_i32.to_le_bytes(), &bare, &grid]);
    assert_eq!(
        json(body(13, &whole)),
        concat!(
            r#"{"name":"A","state":{"value":0,"name":"Off"},"at":{"x":1.5,"y":0.1},"#,
            r#""more":[{"name":"A","state":{"value":2,"name":"Running"}}],"grid":[[1,2],[3,4]]}"#
        )
    );
    let list = vec![body(11, &point), body(11, &point), ExtensionObject::null()];
    assert_eq!(json(list), r#"[{"x":1.5,"y":0.1},{"x":1.5,"y":0.1},null]"#);
}

#[test]
fn a_union_is_the_field_that_it_chose() {
    assert_eq!(json(body(12, &bytes(&[&[1, 0, 0, 0], &[7, 0, 0, 0]]))), r#"{"number":7}"#);
    assert_eq!(json(body(12, &bytes(&[&[2, 0, 0, 0], &[0, 0, 0, 0]]))), r#"{"points":[]}"#);
    assert_eq!(json(body(12, &[2, 0, 0, 0, 255, 255, 255, 255])), r#"{"points":null}"#);
    assert_eq!(json(body(12, &[0; 4])), "null");
    let flaw = sample(&Meaning::Plain, body(12, &[3, 0, 0, 0])).unwrap_err();
    assert!(flaw.to_string().contains("chooses a field"), "{flaw}");
}

#[test]
fn a_value_within_a_structure_says_itself_what_it_is() {
    // A matrix of two by two Int16, and a Choice.
    let matrix = bytes(&[&[0xc4, 4, 0, 0, 0], &[1, 0, 2, 0, 3, 0, 4, 0]]);
    let matrix = bytes(&[&matrix, &[2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0]]);
    let choice: &[u8] = &[1, 2, 12, 0, 1, 8, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0];
    let any = bytes(&[&matrix, choice]);
    assert_eq!(json(body(14, &any)), r#"{"value":[[1,2],[3,4]],"object":{"number":9}}"#);
    // A data value with a bad status, and no object.
    let data = bytes(&[&[23, 3, 1, 1], &StatusCode::BadTimeout.bits().to_le_bytes(), &[0, 0, 0]]);
    assert_eq!(
        json(body(14, &data)),
        r#"{"value":{"value":true,"status":"BadTimeout (0x800a0000)"},"object":null}"#
    );
}

#[test]
fn a_structure_of_the_specification_goes_the_same_way() {
    let range = ExtensionObject::from_message(Range { low: -1.0, high: 2.5 });
    assert_eq!(json(range), r#"{"Low":-1.0,"High":2.5}"#);
    let unit = EUInformation { unit_id: 1, display_name: "°C".into(), ..Default::default() };
    let written = json(ExtensionObject::from_message(unit));
    assert!(written.contains(r#""DisplayName":{"text":"°C","locale":null}"#), "{written}");
}

#[test]
fn a_structure_that_does_not_fit_its_definition_is_refused_and_named() {
    let point = bytes(&[&1.5_f64.to_le_bytes(), &0.1_f32.to_le_bytes()]);
    for (encoding, bytes, says) in [
        (
            11,
            point.get(..11).unwrap().to_vec(),
            "Point does not fit its definition: it ends too early",
        ),
        (11, bytes(&[&point, &[0]]), "longer than its definition"),
        (99, point.clone(), "nsu=urn:press;i=99, of which the server has no definition"),
        (13, vec![8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "more optional fields"),
        (13, vec![0, 0, 0, 0, 1, 0, 0, 0, 255, 0, 0, 0, 0], "no UTF-8"),
        (14, vec![30, 0, 0, 0], "unknown type"),
        (14, vec![25, 0, 0, 0], "DiagnosticInfo"),
    ] {
        let flaw = sample(&Meaning::Plain, body(encoding, &bytes)).unwrap_err();
        assert!(flaw.to_string().contains(says), "{flaw}");
    }
    let mut types = Types::default();
    let place = types.reserve(id(1));
    let field = Field::new("old", Kind::Undefined("nsu=urn:press;i=3".into()), -1, false);
    let fields = vec![field];
    types.define(place, Structure { name: "New".into(), shape: Shape::Plain, fields });
    let data = DataValue { value: Some(body(1, &[0]).into()), ..DataValue::null() };
    let refused = converter_with(types).sample(TAG, &Meaning::Plain, data, NOW).unwrap_err();
    assert_eq!(refused.sample.quality, Quality::Bad(Reason::Configuration));
    assert_eq!(
        refused.to_string(),
        "the server has no definition of the data type nsu=urn:press;i=3"
    );
}

#[test]
fn what_is_too_large_is_refused_whole() {
    let limit = Flaw::TooLarge { limit: MAX_BYTES };
    let long = "a".repeat(MAX_BYTES);
    assert_eq!(value(long.as_str()), text(&long));
    let longer = "a".repeat(MAX_BYTES + 1);
    assert_eq!(sample(&Meaning::Plain, longer.as_str()), Err(limit.clone()));
    assert_eq!(
        sample(&Meaning::Plain, ByteString::from(vec![0; MAX_BYTES + 1])),
        Err(limit.clone())
    );
    assert_eq!(sample(&Meaning::Plain, vec![0_u8; MAX_BYTES]), Err(limit.clone()));
    assert_eq!(sample(&Meaning::Plain, vec![longer.as_str()]), Err(limit.clone()));
    // Four bytes each, so that this many members take more room than they come in.
    let many = bytes(&[&[2, 0, 0, 0], &i32::MAX.to_le_bytes(), &[0; 64]]);
    assert!(matches!(sample(&Meaning::Plain, body(12, &many)), Err(Flaw::Malformed { .. })));
}

#[test]
fn a_structure_without_fields_does_not_unfold_without_end() {
    let mut types = Types::default();
    let (empty, list) = (types.reserve(id(1)), types.reserve(id(2)));
    let shape = Shape::Plain;
    types.define(empty, Structure { name: "Empty".into(), shape, fields: vec![] });
    let fields = vec![Field::new("all", Kind::Structure(empty), 1, false)];
    types.define(list, Structure { name: "List".into(), shape, fields });
    let itself = types.reserve(id(3));
    let twice = ["a", "b"].map(|name| Field::new(name, Kind::Structure(itself), -1, false));
    types.define(itself, Structure { name: "Itself".into(), shape, fields: twice.to_vec() });
    let converter = converter_with(types);
    let refused = |encoding, bytes: &[u8]| {
        let data = DataValue { value: Some(body(encoding, bytes).into()), ..DataValue::null() };
        converter.sample(TAG, &Meaning::Plain, data, NOW).unwrap_err().flaw
    };
    assert_eq!(refused(2, &i32::MAX.to_le_bytes()), Flaw::TooLarge { limit: MAX_BYTES });
    assert_eq!(refused(3, &[0]), Flaw::TooDeep);
}

#[test]
fn values_in_values_are_followed_so_far_and_no_further() {
    let nested = |levels: u32| {
        (0..levels).fold(Variant::from(1_i32), |inner, _| Variant::Variant(Box::new(inner)))
    };
    assert_eq!(json(nested(MAX_DEPTH)), "1");
    assert_eq!(sample(&Meaning::Plain, nested(MAX_DEPTH + 1)), Err(Flaw::TooDeep));
    // In a body each level takes one byte.
    let deep = bytes(&[&[24; 100_000], &[0, 0, 0]]);
    assert_eq!(sample(&Meaning::Plain, body(14, &deep)), Err(Flaw::TooDeep));
    let part = bytes(&[&[2, 0, 0, 0], &[255; 4], &[0; 4], &[1, 0, 0, 0]]).repeat(1_000);
    assert_eq!(sample(&Meaning::Plain, body(13, &part)), Err(Flaw::TooDeep));
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        8 => proptest::sample::select(Scalar::ALL.to_vec()).prop_map(Kind::Scalar),
        2 => Just(Kind::Named(Arc::new(names()))),
        2 => (0..4_u32).prop_map(|number| Kind::Structure(types().place(&id(number + 1)).unwrap())),
    ]
}

proptest! {
    #[test]
    fn no_body_makes_the_decoder_panic_or_write_what_is_no_json(
        fields in proptest::collection::vec((kinds(), -1..4_i32, any::<bool>()), 0..6),
        shape in proptest::sample::select(vec![Shape::Plain, Shape::Optional, Shape::Union]),
        bytes in proptest::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..200),
    ) {
        let mut types = types();
        let fields = fields.into_iter().enumerate().map(|(n, (kind, rank, optional))| {
            Field::new(&format!("field {n}"), kind, rank, optional)
        });
        let place = types.reserve(id(5));
        let fields = fields.collect();
        types.define(place, Structure { name: "Random".into(), shape, fields });
        let data = DataValue { value: Some(body(5, &bytes).into()), ..DataValue::null() };
        match converter_with(types).sample(TAG, &Meaning::Plain, data, NOW) {
            Ok(Sample { value: Value::Json(text), .. }) => {
                prop_assert!(text.len() <= MAX_BYTES);
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
            }
            Ok(other) => prop_assert!(false, "{:?}", other),
            Err(refused) => prop_assert!(!refused.sample.quality.is_good()),
        }
    }

    #[test]
    fn every_double_reads_back_from_its_json(bits: u64) {
        let number = f64::from_bits(bits);
        let sample = sample(&Meaning::Plain, vec![number]).unwrap();
        let Value::Json(text) = sample.value else { panic!() };
        let parsed: Vec<Option<f64>> = serde_json::from_str(&text).unwrap();
        match parsed[0] {
            Some(read) => prop_assert_eq!(read.to_bits(), bits),
            None => prop_assert!(!number.is_finite() && !sample.quality.is_good()),
        }
    }
}
