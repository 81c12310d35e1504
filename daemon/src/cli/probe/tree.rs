//! What was found, for a program: one JSON object.

use serde_json::{Value, json};
use tidegate_modbus::Transport;
use tidegate_modbus::probe::{
    Bound, End, Evidence, Findings, Identity, Largest, Merged, Run, TableFindings, Times,
    UnitFindings,
};

use super::section::object;
use super::target::protocol;

/// The object.
pub(super) fn tree(
    transport: &Transport,
    findings: &Findings,
    section: &str,
    interrupted: bool,
) -> Value {
    json!({
        "address": transport.to_string(),
        "protocol": protocol(transport),
        "requests": findings.requests,
        "interrupted": interrupted,
        "any_unit": findings.any_unit,
        "silent_units": findings.silent.iter().map(|unit| unit.0).collect::<Vec<_>>(),
        "units": findings.units.iter().map(unit).collect::<Vec<_>>(),
        "section": section,
    })
}

fn unit(unit: &UnitFindings) -> Value {
    json!({
        "unit": unit.unit.0,
        "exception": match unit.evidence {
            Evidence::Value => None,
            Evidence::Exception(code) => Some(code),
        },
        "identification": unit.identity.as_ref().map(identity),
        "tables": unit.tables.iter().map(table).collect::<Vec<_>>(),
    })
}

fn identity(identity: &Identity) -> Value {
    match identity {
        Identity::Objects(objects) => {
            let object = |(number, text): &(u8, Vec<u8>)| {
                json!({
                    "object": number,
                    "name": object(*number),
                    "text": String::from_utf8_lossy(text),
                })
            };
            json!({ "supported": true, "objects": objects.iter().map(object).collect::<Vec<_>>() })
        }
        Identity::NotSupported => json!({ "supported": false }),
        Identity::Refused(code) => json!({ "supported": null, "exception": code }),
        Identity::NoAnswer(why) => json!({ "supported": null, "error": why }),
    }
}

fn table(table: &TableFindings) -> Value {
    json!({
        "table": table.table.word(),
        "searched": span(&table.searched),
        "readable": table.readable.iter().map(span).collect::<Vec<_>>(),
        "unknown": table.unknown.iter().map(span).collect::<Vec<_>>(),
        "end": match table.end {
            None => "interrupted",
            Some(End::Complete) => "complete",
            Some(End::Budget) => "max-requests",
            Some(End::NoTable) => "no-table",
            Some(End::Silent(_)) => "silent",
            Some(End::Busy) => "busy",
        },
        "requests": table.requests,
        "largest_block": table.largest.map(largest),
        "response_one": table.one.map(times),
        "response_largest": table.block.map(times),
        "over_a_hole": match table.merged {
            Merged::Untried => json!(null),
            Merged::Answered => json!({ "answered": true }),
            Merged::Refused(code) => json!({ "answered": false, "exception": code }),
            Merged::Silent => json!({ "answered": false, "exception": null }),
        },
    })
}

fn span(run: &Run) -> Value {
    json!([run.first, run.last])
}

fn largest(largest: Largest) -> Value {
    let (bound, exception) = match largest.bound {
        Bound::Protocol => ("protocol", None),
        Bound::Run => ("no-longer-run", None),
        Bound::Refused(code) => ("exception", Some(code)),
        Bound::Silence => ("silence", None),
    };
    json!({
        "cells": largest.cells,
        "exact": largest.exact,
        "bound": bound,
        "exception": exception,
    })
}

fn times(times: Times) -> Value {
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
    json!({
        "min_ms": ms(times.min),
        "median_ms": ms(times.median),
        "max_ms": ms(times.max),
        "count": times.count,
    })
}
