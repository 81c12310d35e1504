//! The program that makes days of record and asks them, which lies beside this one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

fn program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("day");
    ensure!(
        program.exists(),
        "the maker of days is missing; run: cargo build --release --package tidegate-query --example day"
    );
    Ok(program)
}

/// What it says when it is told this.
pub(crate) fn say(arguments: &[&str], place: Option<&Path>) -> anyhow::Result<Vec<Value>> {
    let mut command = Command::new(program()?);
    let (verb, rest) = arguments.split_first().context("nothing to say")?;
    command.arg(verb).args(place).args(rest);
    let output = command.output()?;
    if !output.status.success() {
        bail!("day {verb} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    lines(&output.stdout)
}

/// SQLite over the samples of so many tags and seconds; `None` where there is no Python with it.
pub(crate) fn sqlite(
    place: &Path,
    tags: &str,
    seconds: &str,
) -> anyhow::Result<Option<(String, Vec<Value>)>> {
    let python = std::env::var_os("TIDEGATE_PYTHON").unwrap_or_else(|| "python3".into());
    let version = "import sqlite3; print(sqlite3.sqlite_version)";
    let version = match Command::new(&python).args(["-c", version]).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => return Ok(None),
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bench_query/sqlite.py");
    let mut printing =
        Command::new(program()?).args(["print", tags, seconds]).stdout(Stdio::piped()).spawn()?;
    let samples = printing.stdout.take().context("no output")?;
    let output = Command::new(&python).arg(script).arg(place).stdin(samples).output();
    ensure!(printing.wait()?.success(), "day print failed");
    let output = output?;
    if !output.status.success() {
        bail!("the peer failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(Some((version, lines(&output.stdout)?)))
}

fn lines(output: &[u8]) -> anyhow::Result<Vec<Value>> {
    let lines = std::str::from_utf8(output)?.lines();
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}
