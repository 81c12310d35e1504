//! The black box: what went over the wire around a fault, byte for byte as the device saw it.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;
use tidegate_hil_tests::field::truth::{Exceptions, Reading, wrong};
use tidegate_hil_tests::field::{Field, Site};
use tidegate_hil_tests::peers::{FaultPlc, Speaks, heard};
use tidegate_hil_tests::{outage, tools};

use super::{BACK, one};
use crate::CATCH_UP;

/// What a device keeps of its faults, at most.
const MOST_FAULTS: usize = 16;
const MOST_BYTES: usize = 64 << 10;

/// What `status --device press --trace --json` prints.
fn trace(field: &Field) -> Value {
    let mut command = field.gateway.command("status").unwrap();
    let output = command.args(["--device", "press", "--trace", "--json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).unwrap_or_else(|error| {
        panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr))
    })
}

/// Every exchange in it: request, answer, outcome.
fn exchanges(value: &Value, found: &mut Vec<(String, String, String)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| exchanges(item, found)),
        Value::Object(object) => {
            let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_lowercase);
            if let (Some(sent), Some(received)) = (text("sent"), text("received")) {
                found.push((sent, received, text("outcome").unwrap_or_default()));
            }
            object.values().for_each(|item| exchanges(item, found));
        }
        _ => {}
    }
}

/// Each request that the fault server got, with what it sent before the next one.
fn served(journal: &str) -> HashSet<(String, String)> {
    let mut served = HashSet::new();
    let mut last: Option<(String, String)> = None;
    for line in journal.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let raw = line["raw"].as_str().unwrap_or_default();
        match line["event"].as_str() {
            Some("request") => served.extend(last.replace((raw.to_owned(), String::new()))),
            Some("answer") => {
                if let Some((_, sent)) = &mut last {
                    sent.push_str(raw);
                }
            }
            _ => {}
        }
    }
    served.extend(last);
    served
}

async fn holds_what_was_on_the_wire(speaks: Speaks, faults: &[&str]) {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", speaks, &[]).await.unwrap();
    let mut field = Field::running(site, &one(&plc, "").unwrap()).await.unwrap();
    for fault in faults {
        field.all_good(BACK).await.unwrap();
        plc.turn(fault).unwrap();
        field.none_good("press", BACK).await.unwrap();
        plc.turn("none").unwrap();
    }
    field.all_good(BACK).await.unwrap();
    let trace = trace(&field);
    let mut kept = Vec::new();
    exchanges(&trace, &mut kept);
    let failed = kept.iter().filter(|(_, _, outcome)| outcome != "answered").count();
    assert!(failed >= faults.len(), "{failed} failed exchanges of {}: {trace:#}", faults.len());
    let served = served(&plc.peer().journal().unwrap());
    for (sent, received, outcome) in &kept {
        let is_true = served.contains(&(sent.clone(), received.clone()));
        assert!(is_true, "{sent} → {received} ({outcome}) was never on the wire");
    }
    let answered = kept.iter().filter(|(_, received, _)| !received.is_empty()).count();
    assert!(answered > 0, "nothing that came back is kept: {trace:#}");
    is_judged_alike_without_the_device(&field, &trace, kept.len());
    field.judge(CATCH_UP).await.unwrap();
}

/// Replays it, which needs no device: as many exchanges as are kept, and no value from elsewhere.
fn is_judged_alike_without_the_device(field: &Field, trace: &Value, kept: usize) {
    let file = field.site().unwrap().path("trace.json");
    std::fs::write(&file, trace.to_string()).unwrap();
    let mut command = std::process::Command::new(tools::gateway().unwrap());
    command.args(["probe", "replay"]).arg(&file).args(["--device", "press", "--json", "--config"]);
    let output = command.arg(field.gateway.config()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert_eq!(said.lines().count(), kept, "{said}{errors}");
    let mut decoded = Vec::new();
    for line in said.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let tags = line["tags"].as_array().unwrap();
        assert!(tags.is_empty() == line["no_value"].is_string(), "a value or a reason: {line}");
        decoded.extend(tags.iter().map(|tag| Reading {
            path: tag["path"].as_str().unwrap().to_owned(),
            value: tag["v"].clone(),
            quality: tag["q"].as_str().unwrap().to_owned(),
            why: None,
            at_ms: 0,
        }));
    }
    assert!(!decoded.is_empty(), "nothing was decoded again: {said}");
    assert_eq!(wrong(&decoded, &Exceptions::new()).unwrap(), Vec::<&Reading>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_black_box_holds_what_was_on_the_wire_over_tcp() {
    let faults = ["wrong-unit", "short", "exception 4", "silent"];
    holds_what_was_on_the_wire(Speaks::Tcp, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_black_box_holds_what_was_on_the_wire_over_rtu() {
    let faults = ["wrong-crc", "noise-inside", "exception 4", "silent"];
    holds_what_was_on_the_wire(Speaks::Rtu, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_black_box_of_a_device_that_never_stops_failing_stays_small() {
    let site = Site::new().unwrap();
    let options = ["--fault", "oversize"];
    let plc = FaultPlc::start(&site, "plc", Speaks::Tcp, &options).await.unwrap();
    let keys = "retry-after-ms = 10\nretry-at-most-ms = 10";
    let mut field = Field::running(site, &one(&plc, keys).unwrap()).await.unwrap();
    plc.peer().hears(60).await.unwrap();
    tokio::time::sleep(outage(Duration::from_secs(2))).await;
    let trace = trace(&field);
    let mut kept = Vec::new();
    exchanges(&trace, &mut kept);
    let bytes: usize =
        kept.iter().map(|(sent, received, _)| (sent.len() + received.len()) / 2).sum();
    assert!(!kept.is_empty() && bytes <= MOST_BYTES, "{bytes} bytes");
    let faults = trace.pointer("/faults").or_else(|| trace.pointer("/trace/faults"));
    if let Some(faults) = faults.and_then(Value::as_array) {
        assert!((1..=MOST_FAULTS).contains(&faults.len()), "{} faults", faults.len());
    }
    let heard = heard::requests(&plc.peer().journal().unwrap()).unwrap().len();
    assert!(heard > MOST_FAULTS, "{heard} requests");
    field.gateway.must_be_running().unwrap();
}
