//! Reading the hub through the binary: `tap` for the samples, `prove` for its own verdict.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::family::Family;
use crate::hub::Credentials;
use crate::oracle::{Claim, NamedLoss, Sample, SequencedLoss};
use crate::tools;

/// How a reader gets into a hub.
#[derive(Debug, Clone)]
pub struct Door {
    /// Where, and the password where there is one.
    pub url: String,
    /// What is shown, where it is no password.
    pub papers: Option<Credentials>,
}

impl Door {
    /// A command of the binary that reads there.
    fn command(&self, family: &Arc<Family>, verb: &str) -> anyhow::Result<Command> {
        let mut command = family.command(tools::gateway()?);
        command.args([verb, "--server", &self.url]);
        if let Some(Credentials { ca, cert, key }) = &self.papers {
            command.arg("--ca").arg(ca).arg("--cert").arg(cert).arg("--key").arg(key);
        }
        Ok(command)
    }
}

impl From<&String> for Door {
    fn from(url: &String) -> Self {
        Self { url: url.clone(), papers: None }
    }
}

impl From<&Self> for Door {
    fn from(door: &Self) -> Self {
        door.clone()
    }
}

/// Reads everything of one gateway from the hub behind `door` until each of these tags has reached its
/// goal, and returns all of it. A `tap` that ends at the end of the stream is started again, from the beginning.
///
/// # Errors
/// When they do not within `patience`, or a line is not as promised.
pub async fn tap_until(
    family: &Arc<Family>,
    door: impl Into<Door>,
    gateway: &str,
    patience: Duration,
    goals: &[(String, u64)],
) -> anyhow::Result<Vec<Sample>> {
    let (begun, door) = (Instant::now(), door.into());
    loop {
        let mut samples = Vec::new();
        let left = patience.saturating_sub(begun.elapsed());
        let read = read_tap(family, &door, gateway, &mut samples, goals);
        match tokio::time::timeout(left, read).await {
            Ok(Ok(true)) => return Ok(samples),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let last = samples.last().map(|sample| format!("{sample:?}"));
                bail!(
                    "the hub does not hold what was awaited within {patience:?}: {} samples, the \
                     last is {last:?}",
                    samples.len()
                );
            }
        }
        // Nothing is new the moment after the end was reached.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Reads everything of one gateway from the hub behind `door`, to the end of the stream.
///
/// # Errors
/// When a line is not as promised.
pub async fn tap_once(
    family: &Arc<Family>,
    door: impl Into<Door>,
    gateway: &str,
) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let never = [(String::new(), u64::MAX)];
    read_tap(family, &door.into(), gateway, &mut samples, &never).await?;
    Ok(samples)
}

/// The times of all samples of one tag: value, time as captured, and time as corrected, both in
/// nanoseconds since 1970 UTC.
///
/// # Errors
/// When a line is not as promised.
pub async fn times_of(
    family: &Arc<Family>,
    door: impl Into<Door>,
    gateway: &str,
    path: &str,
) -> anyhow::Result<Vec<Times>> {
    let mut command = door.into().command(family, "tap")?;
    command.args(["--gateway", gateway, "--correct-times"]);
    let output = tokio::process::Command::from(command).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "tap ended ({}): {said}", output.status);
    let mut times = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        let Some(n) = whole(&line["v"]).filter(|_| line["path"] == path) else { continue };
        let at = |key: &str| time_ns(&line[key]).with_context(|| format!("no time {key}: {line}"));
        times.push(Times { n, captured_ns: at("ts")?, corrected_ns: at("corrected")? });
    }
    Ok(times)
}

/// When a value was read, by the gateway's clock as it was and as it should have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The value.
    pub n: u64,
    /// As captured.
    pub captured_ns: i64,
    /// As corrected.
    pub corrected_ns: i64,
}

/// One run of `tap`; whether every goal was reached before it ended.
async fn read_tap(
    family: &Arc<Family>,
    door: &Door,
    gateway: &str,
    samples: &mut Vec<Sample>,
    goals: &[(String, u64)],
) -> anyhow::Result<bool> {
    let mut command = door.command(family, "tap")?;
    command.args(["--gateway", gateway, "--format", "jsonl"]);
    command.stdout(Stdio::piped());
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    let output = child.stdout.take().context("tap has no output")?;
    let mut missing = goals.to_vec();
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await? {
        let sample = sample(&line).with_context(|| format!("tap printed {line}"))?;
        missing.retain(|(path, goal)| {
            *path != sample.path || sample.value.is_none_or(|value| value < *goal)
        });
        samples.push(sample);
        if missing.is_empty() {
            return Ok(true);
        }
    }
    let status = child.wait().await?;
    if !status.success() {
        bail!("tap ended ({status}); what it said is above");
    }
    Ok(false)
}

fn sample(line: &str) -> anyhow::Result<Sample> {
    let line: Value = serde_json::from_str(line)?;
    for key in ["ts", "acquired", "v"] {
        line.get(key).with_context(|| format!("no {key}"))?;
    }
    let text = |key: &str| -> anyhow::Result<String> {
        Ok(line[key].as_str().with_context(|| format!("no text {key}"))?.to_owned())
    };
    Ok(Sample {
        path: text("path")?,
        epoch: text("epoch")?,
        seq: whole(&line["seq"]).context("no seq")?,
        value: whole(&line["v"]),
        quality: text("q")?,
    })
}

/// A whole number, also as text: beyond 2^53 JSON numbers are not safe.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// What `prove` says about a gateway, from the hub's copy alone.
///
/// # Errors
/// When it prints no JSON or no verdict.
pub async fn prove(
    family: &Arc<Family>,
    door: impl Into<Door>,
    gateway: &str,
) -> anyhow::Result<Claim> {
    let (proof, exit_ok) = report(family, door, gateway, None).await?;
    claim(&proof, exit_ok)
}

/// The whole JSON of `prove`, and whether its exit code was 0. `authority` vouches for signatures.
///
/// # Errors
/// When it prints no JSON.
pub async fn report(
    family: &Arc<Family>,
    door: impl Into<Door>,
    gateway: &str,
    authority: Option<&Path>,
) -> anyhow::Result<(Value, bool)> {
    let mut command = door.into().command(family, "prove")?;
    command.args(["--gateway", gateway, "--json"]);
    if let Some(authority) = authority {
        command.arg("--authority").arg(authority);
    }
    let output = tokio::process::Command::from(command).output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let proof: Value = serde_json::from_str(&said).with_context(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("prove ({}) printed no JSON: {said}{errors}", output.status)
    })?;
    Ok((proof, output.status.success()))
}

/// What the whole JSON of `prove` comes to.
///
/// # Errors
/// When it has no verdict.
pub fn claim(proof: &Value, exit_ok: bool) -> anyhow::Result<Claim> {
    let verdict = proof["verdict"].as_str().context("prove printed no verdict")?.to_owned();
    let mut losses = Vec::new();
    collect_losses(proof, &mut losses);
    Ok(Claim { verdict, exit_ok, losses })
}

fn collect_losses(value: &Value, losses: &mut Vec<NamedLoss>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_losses(item, losses)),
        Value::Object(object) => {
            let named = object.get("cause").and_then(Value::as_str);
            // By the right clock, where the proof knows of one.
            let time = |key: &str| {
                let corrected = object.get(&format!("corrected-{key}"));
                corrected.or_else(|| object.get(key)).and_then(time_ns)
            };
            let between = time("from").zip(time("to"));
            if let Some((cause, (from_ns, to_ns))) = named.zip(between) {
                let subject = object.get("subject").and_then(Value::as_str).unwrap_or_default();
                losses.push(NamedLoss {
                    subject: subject.to_owned(),
                    cause: cause.to_owned(),
                    from_ns,
                    to_ns,
                });
            }
            object.values().for_each(|item| collect_losses(item, losses));
        }
        _ => {}
    }
}

/// The ranges of sequence numbers that a proof names as gone.
///
/// # Errors
/// When the JSON is not as promised.
pub fn sequenced(report: &Value) -> anyhow::Result<Vec<SequencedLoss>> {
    let mut losses = Vec::new();
    for epoch in report["epochs"].as_array().context("no epochs")? {
        let list = epoch["sequenced"]["list"].as_array().context("no sequenced losses")?;
        for loss in list {
            losses.push(SequencedLoss {
                epoch: epoch["epoch"].as_str().context("no epoch")?.to_owned(),
                cause: loss["cause"].as_str().context("no cause")?.to_owned(),
                first_seq: whole(&loss["first-seq"]).context("no first-seq")?,
                end_seq: whole(&loss["end-seq"]).context("no end-seq")?,
            });
        }
    }
    Ok(losses)
}

/// A time as the binary prints it.
pub(crate) fn time_ns(value: &Value) -> Option<i64> {
    let text = |text: &str| {
        let time: jiff::Timestamp = text.parse().ok()?;
        i64::try_from(time.as_nanosecond()).ok()
    };
    value.as_i64().or_else(|| value.as_str().and_then(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_of_tap_becomes_a_sample() {
        let line = r#"{"path":"a/b","epoch":"e","seq":3,"ts":1,"acquired":1,"v":"9007199254740993","q":"good"}"#;
        let sample = sample(line).unwrap();
        assert_eq!((sample.seq, sample.value), (3, Some(9_007_199_254_740_993)));
    }

    #[test]
    fn a_line_without_a_promised_field_is_an_error() {
        let line = r#"{"path":"a/b","epoch":"e","seq":3,"ts":1,"v":7,"q":"good"}"#;
        assert!(sample(line).unwrap_err().to_string().contains("acquired"));
    }

    #[test]
    fn losses_are_found_wherever_the_proof_has_them() {
        let proof = json!({"verdict": "balanced", "epochs": [{"unsequenced": [
            {"cause": "not-running", "from": 5, "to": 7, "count": null},
            {"cause": "device-silent", "from": "1970-01-01T00:00:01Z", "to": "1970-01-01T00:00:02Z"},
        ]}]});
        let claim = claim(&proof, true).unwrap();
        assert!(claim.is_balanced());
        assert_eq!(claim.losses.len(), 2);
        assert_eq!(claim.losses[1].from_ns, 1_000_000_000);
    }

    #[test]
    fn a_proof_without_a_verdict_is_an_error() {
        assert!(claim(&json!({}), true).is_err());
    }
}
