//! U7: every type, and every status.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate_hil_tests::field::truth::{Must, Reading};
use tidegate_hil_tests::field::{Field, Site, base_path};
use tidegate_hil_tests::opcua::devices::OpcUaDevice;
use tidegate_hil_tests::opcua::{Make, OpcUaServer};
use tidegate_hil_tests::wait;

use super::{BACK, note};
use crate::CATCH_UP;

/// What each node must be, as JSON has it.
fn values(make: Make) -> BTreeMap<&'static str, Value> {
    let moment = match make {
        Make::Asyncua | Make::Hostile => "2026-03-29T01:30:15.123456Z",
        Make::NodeOpcua => "2026-03-29T01:30:15.123Z",
    };
    let point = json!({"X": 1.5, "Y": -2.5});
    let path = json!([{"X": 1.0, "Y": 2.0}, {"X": 3.0, "Y": 4.0}]);
    let recipe = json!({"Name": "A", "At": point, "Steps": [1, 2, 3], "Path": path});
    BTreeMap::from([
        ("Boolean", json!(true)),
        ("SByte", json!(-128)),
        ("Byte", json!(255)),
        ("Int16", json!(-32768)),
        ("UInt16", json!(65535)),
        ("Int32", json!(-2_147_483_648_i64)),
        ("UInt32", json!(4_294_967_295_u32)),
        // What JSON readers round is written as text.
        ("Int64", json!("-9223372036854775808")),
        ("UInt64", json!("18446744073709551615")),
        ("Float", json!(1.5)),
        ("Double", json!(2.25)),
        ("String", json!("Grüße, 東京")),
        ("DateTime", json!(moment)),
        ("Guid", json!("72962b91-fa75-4ae6-8d28-b404dc7daf63")),
        ("LocalizedText", json!("Läuft")),
        ("BooleanArray", json!([true, false, true])),
        ("Int32Array", json!([-1, 0, 1, 2_147_483_647])),
        ("UInt64Array", json!([1, "9007199254740993", "18446744073709551615"])),
        ("DoubleArray", json!([1.5, null, -2.5])),
        ("StringArray", json!(["a", "", "ü"])),
        ("EmptyArray", json!([])),
        ("Matrix", json!([[1, 2, 3], [4, 5, 6]])),
        ("Mode", json!({"value": 2, "name": "Running"})),
        ("Point", point),
        ("Recipe", recipe),
        ("With", json!({"Must": 1, "May": 2.5})),
        ("Points", path),
        ("NullStatus", json!(7.0)),
    ])
}

/// Nodes whose text is not written down here: whatever it is, they are good.
const OTHERS: [&str; 6] =
    ["ByteString", "QualifiedName", "NodeId", "StatusCode", "Without", "Union"];

async fn every_type(make: Make) {
    let site = Site::new().unwrap();
    let server = OpcUaServer::start(&site, make, "server", &["--items", "3"]).await.unwrap();
    let values = values(make);
    let mut device = OpcUaDevice::at("press", &server.url(), "").counters(0..3);
    let uncertain = ["NaN", "Infinity"];
    for name in values.keys().copied().chain(OTHERS).chain(uncertain) {
        device = device.tag(name, name, "");
    }
    let mut field = Field::running(site, &device.alone()).await.unwrap();
    let base = base_path("press");
    let of = |tags: &[Reading], name: &str| {
        tags.iter().find(|one| one.path == format!("{base}/{name}")).cloned()
    };
    let tags = wait::until(BACK, "every tag has a value", || async {
        let tags = field.tags()?;
        let there = |name: &str| of(&tags, name).is_some_and(|one| one.quality != "bad");
        let missing: Vec<_> =
            values.keys().copied().chain(OTHERS).filter(|name| !there(name)).collect();
        if !missing.is_empty() {
            let some: Vec<_> = missing.iter().map(|name| of(&tags, name)).collect();
            return Ok(Err(some)).map(|found: Result<Vec<Reading>, _>| found.ok());
        }
        Ok(Some(tags))
    })
    .await;
    let tags = tags.unwrap_or_else(|error| {
        let tags = field.tags().unwrap();
        let bad: Vec<_> = tags.iter().filter(|one| !one.is_good()).collect();
        panic!("{error:#}: {bad:#?}");
    });
    let mut wrong = Vec::new();
    for (name, expected) in &values {
        let tag = of(&tags, name).unwrap();
        let right = tag.value == *expected || numbers_match(&tag.value, expected);
        // A number that is none makes the whole array doubtful.
        let quality = if *name == "DoubleArray" { "uncertain" } else { "good" };
        if !right || tag.quality != quality {
            wrong.push(format!("{name}: {expected} is shown as {} ({})", tag.value, tag.quality));
        }
    }
    for name in OTHERS {
        note(&format!("{name}: {}", of(&tags, name).unwrap().value));
    }
    for name in uncertain {
        let tag = of(&tags, name).unwrap();
        note(&format!("{name}: {tag:?}"));
        assert!(!tag.is_good() || name == "Infinity", "{tag:?}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The same everywhere: live, on the terminal and in the record, but for bytes, which the record
    // writes in its own way.
    for name in values.keys().copied().chain(OTHERS).chain(uncertain) {
        let shown = of(&tags, name).unwrap().value;
        let path = format!("{base}/{name}");
        let expected = values.get(name).cloned().unwrap_or_else(|| shown.clone());
        field.exceptions.insert(path, Must::BeOneOf(vec![shown, expected]));
    }
    field.judge(CATCH_UP).await.unwrap();
    server.was_only_read().unwrap();
}

/// 1.0 and 1 are the same number.
fn numbers_match(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| numbers_match(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let matches = |(key, value): (&String, &Value)| {
                other.get(key).is_some_and(|other| numbers_match(value, other))
            };
            one.len() == other.len() && one.iter().all(matches)
        }
        _ => one == other || one.as_f64().is_some_and(|number| Some(number) == other.as_f64()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_asyncua_is_what_it_is() {
    every_type(Make::Asyncua).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_node_opcua_is_what_it_is() {
    every_type(Make::NodeOpcua).await;
}

async fn every_status(make: Make) {
    let site = Site::new().unwrap();
    let server = OpcUaServer::start(&site, make, "server", &["--items", "3"]).await.unwrap();
    let device = OpcUaDevice::at("press", &server.url(), "").counters(0..3).tag("a0", "a0", "");
    let mut field = Field::without_hub(site, &device.alone()).unwrap();
    field.exceptions.insert(format!("{}/a0", base_path("press")), Must::Be(json!(50.0)));
    field.start().await.unwrap();
    let is = |quality: &'static str, why: Option<&'static str>| {
        let field = &field;
        async move {
            let what = format!("a0 is {quality} {why:?}");
            wait::until(BACK, &what, || async {
                let tags = field.tags()?;
                let tag = tags.iter().find(|one| one.path.ends_with("/a0"));
                let is = |one: &&Reading| {
                    one.quality == quality && why.is_none_or(|why| one.why.as_deref() == Some(why))
                };
                Ok(tag.filter(is).map(|_| ()))
            })
            .await
            .unwrap_or_else(|error| panic!("{error:#}: {:?}", field.tags().unwrap()));
        }
    };
    is("good", None).await;
    for (code, quality, why) in [
        ("BadSensorFailure", "bad", Some("sensor-failure")),
        ("UncertainLastUsableValue", "uncertain", None),
        ("BadNotConnected", "bad", Some("not-connected")),
        ("Good", "good", None),
        ("BadOutOfRange", "bad", Some("out-of-range")),
        ("BadOutOfService", "bad", None),
        ("Good", "good", None),
    ] {
        server.put("a0", &json!(50.0), code).unwrap();
        is(quality, why).await;
    }
    field.judge_shown().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_of_asyncua_is_a_quality() {
    every_status(Make::Asyncua).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_of_node_opcua_is_a_quality() {
    every_status(Make::NodeOpcua).await;
}

/// Too large for the record: named as a loss, and nothing else suffers.
#[tokio::test(flavor = "multi_thread")]
async fn a_huge_value_is_named_as_one_and_costs_its_own_tag_alone() {
    let site = Site::new().unwrap();
    let server =
        OpcUaServer::start(&site, Make::Asyncua, "server", &["--items", "3"]).await.unwrap();
    let device = OpcUaDevice::at("press", &server.url(), "").counters(0..3).tag("Huge", "Huge", "");
    let mut field = Field::running(site, &device.alone()).await.unwrap();
    let numbers = |path: &str| !path.ends_with("Huge");
    field.good(BACK, numbers).await.unwrap();
    for bytes in [200_000, 3_000_000, 20_000_000] {
        server.tell(&json!({"do": "huge", "bytes": bytes})).unwrap();
        field.good(BACK, numbers).await.unwrap();
    }
    let small = field.tags().unwrap();
    let shown: Vec<_> = small.iter().filter(|one| one.path.ends_with("Huge")).collect();
    note(&format!("{:?}", shown.iter().map(|one| (&one.quality, &one.why)).collect::<Vec<_>>()));
    let path = format!("{}/Huge", base_path("press"));
    field.exceptions.insert(path.clone(), Must::Anything);
    let judgement = field.judge(CATCH_UP).await.unwrap();
    let named = judgement.losses.iter().filter(|loss| loss.subject.ends_with("Huge")).count();
    note(&format!("named: {:#?}", judgement.losses));
    assert!(named > 0, "no loss of Huge");
}
