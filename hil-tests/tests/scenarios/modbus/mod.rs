//! Devices in the field: other makes' servers, and one that breaks in every known way. Never a wrong
//! value, and back once the fault ends.

mod fairness;
mod faults;
mod functions;
mod holes;
mod hostile;
mod late;
mod order;
mod pacing;
mod ports;
mod probe;
mod restarts;
mod serial;
mod tls;
mod trace;
mod vectors;

use std::time::Duration;

use tidegate_hil_tests::field::Devices;
use tidegate_hil_tests::peers::FaultPlc;

/// How long a device may take to be good again once nothing is wrong any more: its longest back-off,
/// an answer that is waited for in vain, the rest after a late answer over RTU, and a machine that has
/// other work.
const BACK: Duration = Duration::from_secs(15);

/// For devices that answer: a server that a busy machine holds up for a moment is not silent.
const PATIENT: &str = "timeout-ms = 1000";

/// Three blocks of the same shape, so that an answer to one would fit another, and one of each
/// other table.
const TAGS: [&str; 9] =
    ["h100", "h101", "h200", "h201", "h400-uint32", "i300", "i310", "c500", "d508"];

/// One device, `press`, behind a fault server.
fn one(plc: &FaultPlc, keys: &str) -> anyhow::Result<Devices> {
    Devices::none().with("press", &plc.way(), keys, &TAGS)
}
