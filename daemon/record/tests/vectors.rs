//! Record format version 1, byte for byte: catalog and clock bodies.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may stop anywhere")]

use serde_json::{Value as Json, json};
use tidegate_journal::{Epoch, FrameHash, Position};
use tidegate_record::catalog::Snapshot;
use tidegate_record::{CatalogEntry, CatalogPart, Checkpoint, ClockEvent, ClockEventKind};
use tidegate_translator::{TagId, TagPath, ValueKind};

const KINDS: [ValueKind; 9] = [
    ValueKind::None,
    ValueKind::Bool,
    ValueKind::I64,
    ValueKind::U64,
    ValueKind::F32,
    ValueKind::F64,
    ValueKind::Text,
    ValueKind::Bytes,
    ValueKind::Json,
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &Json) -> Vec<u8> {
    let text = text.as_str().unwrap();
    let pairs = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// What the file holds, after it was written anew where that is asked for.
fn kept(name: &str, written: &Json) -> Json {
    let path = format!("{}/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("TIDEGATE_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(written).unwrap();
        std::fs::write(&path, text + "\n").unwrap();
    }
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
}

#[test]
fn catalog_bodies_read_and_write_as_format_version_1_says() {
    let entries = (1_u32..).zip(KINDS).map(|(id, kind)| CatalogEntry {
        id: TagId(id * 100),
        path: TagPath::new(format!("PlantA/Öfen/Ofen {id}/temperature")).unwrap(),
        kind,
        unit: (id % 2 == 0).then(|| "degC".into()),
        device: "press-1".into(),
        address: format!("holding:{id}").into(),
        source: "modbus-tcp".into(),
    });
    let snapshot = Some(Snapshot { part: 1, of: 3 });
    let snapshot = CatalogPart { version: 700, snapshot, entries: entries.clone().collect() };
    let changes = CatalogPart { version: 701, snapshot: None, entries: entries.take(1).collect() };
    let written = json!([
        { "part": snapshot, "body": hex(&snapshot.encode().unwrap()) },
        { "part": changes, "body": hex(&changes.encode().unwrap()) },
    ]);
    let kept = kept("catalog", &written);
    assert_eq!(kept, written);
    assert_eq!(CatalogPart::decode(&unhex(&kept[0]["body"])).unwrap(), snapshot);
    assert_eq!(CatalogPart::decode(&unhex(&kept[1]["body"])).unwrap(), changes);
}

#[test]
fn clock_bodies_read_and_write_as_format_version_1_says() {
    let kinds = [ClockEventKind::Step, ClockEventKind::FirstSync, ClockEventKind::Lost];
    let events = kinds.map(|kind| ClockEvent {
        wall_before: -5,
        wall_after: 1_790_000_000_000_000_000,
        mono: 123_456_789,
        kind,
    });
    let written = json!(events.map(|e| json!({ "event": e, "body": hex(&e.encode().unwrap()) })));
    let kept = kept("clock", &written);
    assert_eq!(kept, written);
    for (kept, event) in kept.as_array().unwrap().iter().zip(events) {
        assert_eq!(ClockEvent::decode(&unhex(&kept["body"])).unwrap(), event);
    }
    assert_eq!(events[0].step(), 1_790_000_000_000_000_005);
}

#[test]
fn bodies_with_bytes_behind_their_end_are_refused() {
    let event = ClockEvent { wall_before: 1, wall_after: 2, mono: 3, kind: ClockEventKind::Step };
    let mut body = event.encode().unwrap();
    body.push(0);
    assert_eq!(ClockEvent::decode(&body).unwrap_err().to_string(), "clock body does not parse");
    let part = CatalogPart { version: 1, snapshot: None, entries: Vec::new() };
    let mut body = part.encode().unwrap();
    body.push(0);
    assert!(CatalogPart::decode(&body).is_err());
}

#[test]
fn checkpoint_bodies_and_what_is_signed_are_as_format_version_1_says() {
    let up_to = Position { frame: 700, next_seq: 70_000, hash: FrameHash([0xab; 32]) };
    let at = 1_790_000_000_000_000_000;
    let message = Checkpoint::message("PlantA", "gw-line3", Epoch([0x11; 16]), &up_to, at).unwrap();
    let checkpoint = Checkpoint {
        up_to,
        at,
        certificate: vec![0x30, 0x82, 1, 2],
        chain: vec![vec![0x30, 3], vec![0x30, 4]],
        scheme: 0x0403,
        signature: vec![0x30, 0x45, 5, 6],
    };
    let body = checkpoint.encode().unwrap();
    let written = json!({
        "gateway": "PlantA/gw-line3", "epoch": Epoch([0x11; 16]).to_string(),
        "checkpoint": checkpoint, "message": hex(&message), "body": hex(&body),
    });
    let kept = kept("checkpoint", &written);
    assert_eq!(kept, written);
    assert_eq!(Checkpoint::decode(&unhex(&kept["body"])).unwrap(), checkpoint);
}
