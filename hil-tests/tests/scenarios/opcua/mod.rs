//! OPC UA servers of two other makes. Never a wrong value, nothing missing that is not named, back
//! when the fault ends, and never anything but read.

mod commissioning;
mod history;
mod hostile;
mod identity;
mod items;
mod limits;
mod namespaces;
mod recovery;
mod silence;
mod trust;
mod types;

use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_hil_tests::field::{Field, Judgement};
use tidegate_hil_tests::opcua::{OpcUaServer, truth};
use tidegate_hil_tests::wait;

use crate::CATCH_UP;

/// How long a server may take to be good once nothing is wrong any more, on a machine that has other
/// work; what it takes is printed.
const BACK: Duration = Duration::from_secs(20);

/// How far the gateway's times and the server's may lie apart at the ends of a loss: a publishing
/// interval, and a keep-alive that tells of the fault.
const SLACK_MS: i64 = 1000;

/// What was measured or said, for whoever reads a run.
#[expect(clippy::print_stderr, reason = "a scenario shows what it measured")]
fn note(what: &str) {
    eprintln!("{what}");
}

/// Waits until `status` says this of a device, and returns all that it says.
async fn state(field: &Field, device: &str, state: &str) -> anyhow::Result<Value> {
    let what = format!("{device} is {state}");
    let waited = wait::until(BACK, &what, || async {
        let shown = field.device(device)?;
        Ok((shown["state"] == state).then_some(shown))
    });
    waited.await.map_err(|error| match field.device(device) {
        Ok(shown) => error.context(format!("it is {shown:#}")),
        Err(_) => error,
    })
}

/// How long a loss may stand at the hub with less than it has grown to: the recorder waits two seconds
/// for it to grow further.
const TOLD: Duration = Duration::from_secs(15);

/// Judges everything that the device `press` gave away, until nothing is missing that is not named.
async fn complete(
    field: &mut Field,
    server: &OpcUaServer,
    paths: &[String],
) -> anyhow::Result<Judgement> {
    let begun = Instant::now();
    loop {
        let judgement = field.judge(CATCH_UP).await?;
        match nothing_is_missing(&judgement, server, "press", paths) {
            Ok(()) => return Ok(judgement),
            Err(error) if begun.elapsed() > TOLD => return Err(error),
            Err(_) => {}
        }
    }
}

/// Fails when the record, the terminal or a subscriber has a value that the server did not have at its
/// source time, or when a write is missing in the record that no loss names.
fn nothing_is_missing(
    judgement: &Judgement,
    server: &OpcUaServer,
    device: &str,
    paths: &[String],
) -> anyhow::Result<()> {
    let ticks = server.ticks()?;
    let all = judgement.live.iter().chain(&judgement.shown).chain(&judgement.record);
    for reading in all.filter(|one| paths.contains(&one.path) && one.is_good()) {
        let number = reading.path.rsplit('/').next().and_then(truth::number);
        let served = number.is_some_and(|number| truth::was_served(reading, number, &ticks));
        anyhow::ensure!(served, "never served at its time: {reading:?}");
    }
    for path in paths {
        anyhow::ensure!(judgement.good(path) > 0, "the record has no good value of {path}");
        let losses = &judgement.losses;
        let holes = truth::holes(path, device, &judgement.record, &ticks, losses, SLACK_MS);
        anyhow::ensure!(
            holes.is_empty(),
            "{} writes are missing that nobody names: {:?}; named are {losses:#?}",
            holes.len(),
            &holes[..holes.len().min(3)]
        );
    }
    Ok(())
}
