use std::sync::atomic::Ordering;

use opcua::types::{
    ByteStringBody, EnumDefinition, EnumField, ExtensionObject, LocalizedText, NodeClass,
    QualifiedName, ReferenceTypeId, StructureDefinition, StructureField, StructureType,
};

use super::load::MAX_ROUNDS;
use super::*;
use crate::services::fake::Fake;

fn id(number: u32) -> NodeId {
    NodeId::new(2, number)
}

fn ua(data_type: DataTypeId) -> NodeId {
    data_type.into()
}

fn namespaces() -> Arc<Namespaces> {
    Arc::new(Namespaces::new(["", "urn:server", "urn:press"].map(str::to_owned)))
}

const TYPE: NodeClass = NodeClass::DataType;

fn subtype(fake: &mut Fake, of: &NodeId, data_type: &NodeId, name: &str) {
    fake.put(of, ReferenceTypeId::HasSubtype, data_type, (2, name), TYPE);
    fake.set(data_type, AttributeId::BrowseName, QualifiedName::new(2, name));
    fake.set(data_type, AttributeId::IsAbstract, false);
}

fn variable(fake: &mut Fake, node: &NodeId, data_type: &NodeId, rank: i32) {
    fake.set(node, AttributeId::DataType, data_type.clone());
    fake.set(node, AttributeId::ValueRank, rank);
}

fn field(name: &str, data_type: NodeId, value_rank: i32, is_optional: bool) -> StructureField {
    StructureField { name: name.into(), data_type, value_rank, is_optional, ..Default::default() }
}

fn structure(
    fake: &mut Fake,
    data_type: &NodeId,
    encoding: &NodeId,
    structure_type: StructureType,
    fields: Vec<StructureField>,
) {
    let definition = StructureDefinition {
        default_encoding_id: encoding.clone(),
        base_data_type: ua(DataTypeId::Structure),
        structure_type,
        fields: Some(fields),
    };
    let object = ExtensionObject::from_message(definition);
    fake.set(data_type, AttributeId::DataTypeDefinition, object);
    let has = ReferenceTypeId::HasEncoding;
    fake.put(data_type, has, encoding, (0, "Default Binary"), NodeClass::Object);
}

fn body(encoding: u32, bytes: &[u8]) -> Variant {
    let body = ByteStringBody::new(bytes.to_vec().into(), id(encoding));
    ExtensionObject::new(body).into()
}

/// Types: 100 State (enumeration), 101 Old (enumeration by EnumStrings), 110 Inner, 111 Outer with
/// Inner, State and itself, 112 Abstract with the subtype 113, 114 without definition, 120 a kind
/// of Duration.
fn server() -> Fake {
    let mut fake = Fake::default();
    let enumeration = ua(DataTypeId::Enumeration);
    subtype(&mut fake, &enumeration, &id(100), "State");
    let name = |value, name: &str| EnumField { value, name: name.into(), ..Default::default() };
    let definition = EnumDefinition { fields: Some(vec![name(0, "Off"), name(2, "Running")]) };
    let object = ExtensionObject::from_message(definition);
    fake.set(&id(100), AttributeId::DataTypeDefinition, object);
    subtype(&mut fake, &enumeration, &id(101), "Old");
    let property = ReferenceTypeId::HasProperty;
    fake.put(&id(101), property, &id(151), (0, "EnumStrings"), NodeClass::Variable);
    let texts = vec![LocalizedText::from("Zero"), LocalizedText::from("One")];
    fake.set(&id(151), AttributeId::Value, texts);

    let top = ua(DataTypeId::Structure);
    for (number, name) in [(110, "Inner"), (111, "Outer"), (112, "Abstract"), (114, "Opaque")] {
        subtype(&mut fake, &top, &id(number), name);
    }
    fake.set(&id(112), AttributeId::IsAbstract, true);
    subtype(&mut fake, &id(112), &id(113), "Concrete");
    let plain = StructureType::Structure;
    let fields = vec![field("x", ua(DataTypeId::Int16), -1, false)];
    structure(&mut fake, &id(110), &id(210), plain, fields.clone());
    structure(&mut fake, &id(113), &id(213), plain, fields);
    let fields = vec![
        field("inner", id(110), -1, false),
        field("state", id(100), -1, false),
        field("lasts", id(120), -1, false),
        field("outer", id(111), -1, true),
        field("any", id(112), -1, true),
    ];
    let optional = StructureType::StructureWithOptionalFields;
    structure(&mut fake, &id(111), &id(211), optional, fields);
    fake.put(
        &ua(DataTypeId::Double),
        ReferenceTypeId::HasSubtype,
        &ua(DataTypeId::Duration),
        (0, "Duration"),
        TYPE,
    );
    subtype(&mut fake, &ua(DataTypeId::Duration), &id(120), "Lasts");
    fake
}

async fn described(fake: &Fake, node: &NodeId) -> Result<Described, TypeError> {
    let mut types = DataTypes::new(namespaces());
    types.describe(fake, std::slice::from_ref(node)).await.unwrap().remove(0)
}

#[tokio::test]
async fn the_kind_of_a_value_follows_from_type_and_rank() {
    let mut fake = server();
    let cases = [
        (ua(DataTypeId::Boolean), -1, ValueKind::Bool),
        (ua(DataTypeId::SByte), -1, ValueKind::I64),
        (ua(DataTypeId::UInt64), -1, ValueKind::U64),
        (ua(DataTypeId::Float), -1, ValueKind::F32),
        (id(120), -1, ValueKind::F64),
        (ua(DataTypeId::LocalizedText), -1, ValueKind::Text),
        (ua(DataTypeId::ByteString), -1, ValueKind::Bytes),
        (ua(DataTypeId::Double), 1, ValueKind::Json),
        (ua(DataTypeId::Double), 2, ValueKind::Json),
        (ua(DataTypeId::Double), 0, ValueKind::Json),
        (id(100), -1, ValueKind::Json),
        (id(111), -1, ValueKind::Json),
        (ua(DataTypeId::Range), -1, ValueKind::Json),
    ];
    let nodes: Vec<NodeId> = (0..).map(id).take(cases.len()).collect();
    for (node, (data_type, rank, _)) in nodes.iter().zip(&cases) {
        variable(&mut fake, node, data_type, *rank);
    }
    let mut types = DataTypes::new(namespaces());
    let described = types.describe(&fake, &nodes).await.unwrap();
    for (described, (data_type, rank, kind)) in described.into_iter().zip(cases) {
        assert_eq!(described.unwrap().kind, kind, "{data_type} {rank}");
    }
}

#[tokio::test]
async fn an_abstract_type_has_the_kind_of_its_present_value() {
    let mut fake = server();
    for (number, data_type, rank) in [
        (1, DataTypeId::Number, -1),
        (2, DataTypeId::BaseDataType, -2),
        (3, DataTypeId::Double, -2),
        (4, DataTypeId::BaseDataType, -1),
    ] {
        variable(&mut fake, &id(number), &ua(data_type), rank);
    }
    fake.set(&id(1), AttributeId::Value, 7_u16);
    fake.set(&id(2), AttributeId::Value, vec![1_i32]);
    fake.set(&id(3), AttributeId::Value, 1.5_f64);
    for (number, kind) in
        [(1, ValueKind::U64), (2, ValueKind::Json), (3, ValueKind::F64), (4, ValueKind::None)]
    {
        assert_eq!(described(&fake, &id(number)).await.unwrap().kind, kind, "{number}");
    }
}

#[tokio::test]
async fn an_enumeration_has_the_names_that_either_kind_of_server_tells() {
    let mut fake = server();
    variable(&mut fake, &id(1), &id(100), -1);
    variable(&mut fake, &id(2), &id(101), -1);
    let names = |names: &[(i64, &str)]| {
        let names = names.iter().map(|(number, name)| (*number, (*name).to_owned()));
        Meaning::Named(Arc::new(Names::new(names)))
    };
    let described = DataTypes::new(namespaces()).describe(&fake, &[id(1), id(2)]).await.unwrap();
    let meanings: Vec<_> =
        described.into_iter().map(|described| described.unwrap().meaning).collect();
    assert_eq!(meanings, [names(&[(0, "Off"), (2, "Running")]), names(&[(0, "Zero"), (1, "One")])]);
}

#[tokio::test]
async fn a_structure_is_known_with_everything_in_it_in_a_few_rounds() {
    let mut fake = server();
    variable(&mut fake, &id(1), &id(111), -1);
    let inner: &[u8] = &[7, 0];
    let state = 2_i32.to_le_bytes();
    let lasts = 0.5_f64.to_le_bytes();
    let leaf = [&[0, 0, 0, 0], inner, &state, &lasts].concat();
    // An instance of the abstract type's subtype, which only the value tells.
    let any: &[u8] = &[1, 2, 213, 0, 1, 2, 0, 0, 0, 9, 0];
    let whole = [&[3, 0, 0, 0], inner, &state, &lasts, &leaf, any].concat();
    fake.set(&id(1), AttributeId::Value, body(211, &whole));
    let mut types = DataTypes::new(namespaces());
    let described = types.describe(&fake, &[id(1)]).await.unwrap().remove(0).unwrap();
    assert_eq!((described.kind, &*described.data_type), (ValueKind::Json, "nsu=urn:press;i=111"));
    let value = DataValue { value: Some(body(211, &whole)), ..DataValue::null() };
    let sample = types.converter().sample(TagId(1), &described.meaning, value, Timestamp(0));
    let leaf = r#""inner":{"x":7},"state":{"value":2,"name":"Running"},"lasts":0.5"#;
    let json = format!(r#"{{{leaf},"outer":{{{leaf}}},"any":{{"x":9}}}}"#);
    assert_eq!(sample.unwrap().value, Value::Json(json.into()));
    let requests = fake.reads.load(Ordering::Relaxed) + fake.browses.load(Ordering::Relaxed);
    assert!(requests <= 16, "{requests}");
}

#[tokio::test]
async fn what_cannot_be_represented_is_named_and_others_do_not_suffer() {
    let mut fake = server();
    variable(&mut fake, &id(1), &id(114), -1);
    variable(&mut fake, &id(2), &id(199), -1);
    fake.set(&id(3), AttributeId::BrowseName, QualifiedName::new(2, "Object"));
    variable(&mut fake, &id(5), &ua(DataTypeId::Double), -1);
    variable(&mut fake, &id(6), &ua(DataTypeId::BaseDataType), -1);
    fake.set(&id(6), AttributeId::Value, body(999, &[1]));
    let nodes: Vec<NodeId> = (1..=6).map(id).collect();
    let mut types = DataTypes::new(namespaces());
    let described = types.describe(&fake, &nodes).await.unwrap();
    let says: Vec<_> = described
        .iter()
        .map(|described| {
            described.as_ref().map(|described| described.kind).map_err(ToString::to_string)
        })
        .collect();
    assert_eq!(says[0], Err("data type nsu=urn:press;i=114 cannot be represented: the server has no definition of the data type nsu=urn:press;i=114".to_owned()));
    assert!(says[1].as_ref().is_err_and(|text| text.contains("nsu=urn:press;i=199")), "{says:?}");
    assert!(says[2].as_ref().is_err_and(|text| text.contains("is no variable")), "{says:?}");
    assert!(says[3].as_ref().is_err_and(|text| text.contains("BadNodeIdUnknown")), "{says:?}");
    assert_eq!(says[4], Ok(ValueKind::F64));
    assert!(says[5].as_ref().is_err_and(|text| text.contains("nsu=urn:press;i=999")), "{says:?}");
    let nothing = described[3].as_ref().unwrap_err().status();
    assert_eq!(nothing, StatusCode::BadNodeIdUnknown);
}

#[tokio::test]
async fn types_that_refer_to_each_other_without_end_are_bounded() {
    let mut fake = Fake::default();
    // A chain of supertypes that closes, and structures that each hold the next.
    for number in 0..50 {
        let above = id(1_000 + (number + 1) % 50);
        let has = ReferenceTypeId::HasSubtype;
        fake.put(&above, has, &id(1_000 + number), (2, "Loop"), TYPE);
    }
    for number in 2_000..5_000 {
        subtype(&mut fake, &ua(DataTypeId::Structure), &id(number), "Next");
        let fields = vec![field("next", id(number + 1), -1, false)];
        structure(&mut fake, &id(number), &id(number + 10_000), StructureType::Structure, fields);
    }
    variable(&mut fake, &id(1), &id(1_000), -1);
    variable(&mut fake, &id(2), &id(2_000), -1);
    let described = DataTypes::new(namespaces()).describe(&fake, &[id(1), id(2)]).await.unwrap();
    assert!(described[0].is_err());
    assert_eq!(described[1].as_ref().unwrap().kind, ValueKind::Json);
    assert!(fake.browses.load(Ordering::Relaxed) < 5 * MAX_ROUNDS);
}
