//! One measurement in a process of its own; what it finds is a line of JSON on its standard
//! output.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tidegate_bench_peers::{Store, fill, number_of, open};

/// Messages that are read before what they held is dropped durably, as the journal does it.
const MESSAGES_PER_DROP: u32 = 64;

/// What runs in the child: `TASK STORE PLACE NUMBER…`.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [task, store, place, numbers @ ..] = arguments else { bail!("a worker needs a task") };
    let numbers: Vec<u64> = numbers.iter().map(|n| n.parse()).collect::<Result<_, _>>()?;
    let place = Path::new(place);
    let number = |at: usize| numbers.get(at).copied().context("a number is missing");
    match task.as_str() {
        "write" => {
            let store = open(store, place, number(0)?)?;
            write(store, number(1)?, number(2)?, number(3)?)
        }
        "fill" => fill_up(open(store, place, u64::MAX / 4)?, number(0)?, number(1)?, number(2)?),
        "open" => {
            forget_cache(place)?;
            let begun = Instant::now();
            let _store = open(store, place, u64::MAX / 4)?;
            tell(&json!({ "seconds": begun.elapsed().as_secs_f64() }))?;
            wait_for_the_end()
        }
        "drain" => drain(open(store, place, u64::MAX / 4)?),
        "append" => append_for_ever(open(store, place, 32 << 20)?, number(0)?),
        "verify" => verify(open(store, place, 32 << 20)?),
        other => bail!("no task is called {other}"),
    }
}

/// Commits of one record each, for some seconds, after so many bytes that are not measured.
fn write(
    mut store: Box<dyn Store>,
    length: u64,
    before: u64,
    milliseconds: u64,
) -> anyhow::Result<()> {
    let mut record = vec![0; usize::try_from(length)?];
    let mut number = 0;
    let mut large = vec![0; 60_000];
    for _ in 0..before / 60_000 {
        fill(&mut large, number);
        store.append(&large)?;
        store.commit()?;
        // Delivered at once, as on a link that is up: what is full is recycled.
        while store.read(&mut |_| ())? {}
        store.delivered()?;
        number += 1;
    }
    tell(&json!({ "ready": true }))?;
    wait_for_a_line()?;
    let (begun, from, written) = (Instant::now(), number, own_writes());
    while begun.elapsed() < Duration::from_millis(milliseconds) {
        fill(&mut record, number);
        store.append(&record)?;
        store.commit()?;
        number += 1;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let written = own_writes() - written;
    tell(&json!({ "commits": number - from, "seconds": seconds, "written": written }))?;
    wait_for_the_end()
}

fn fill_up(
    mut store: Box<dyn Store>,
    bytes: u64,
    length: u64,
    per_commit: u64,
) -> anyhow::Result<()> {
    let mut record = vec![0; usize::try_from(length)?];
    let begun = Instant::now();
    let mut reported = Instant::now();
    let mut number = 0;
    while number * length < bytes {
        for _ in 0..per_commit {
            fill(&mut record, number);
            store.append(&record)?;
            number += 1;
        }
        store.commit()?;
        if reported.elapsed() >= Duration::from_secs(2) {
            reported = Instant::now();
            tell(&json!({ "progress": number * length }))?;
        }
    }
    tell(&json!({ "bytes": number * length, "seconds": begun.elapsed().as_secs_f64() }))?;
    wait_for_the_end()
}

fn drain(mut store: Box<dyn Store>) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut reported = Instant::now();
    let (mut next, mut bytes, mut messages) = (0, 0, 0);
    let mut in_order = true;
    loop {
        let more = store.read(&mut |record| {
            // Looked at, not compared: what is measured is the store.
            let number = record.first_chunk().map(|head| u64::from_le_bytes(*head));
            in_order &= number == Some(next);
            next += 1;
            bytes += record.len() as u64;
        })?;
        messages += 1;
        if !more || messages % MESSAGES_PER_DROP == 0 {
            store.delivered()?;
            store.commit()?;
        }
        if !more {
            break;
        }
        if reported.elapsed() >= Duration::from_secs(2) {
            reported = Instant::now();
            tell(&json!({ "progress": bytes }))?;
        }
    }
    ensure!(in_order, "records came out of order");
    tell(&json!({ "bytes": bytes, "seconds": begun.elapsed().as_secs_f64() }))?;
    wait_for_the_end()
}

/// Says after each commit how many records are safe.
fn append_for_ever(mut store: Box<dyn Store>, length: u64) -> anyhow::Result<()> {
    let mut record = vec![0; usize::try_from(length)?];
    for number in 0.. {
        fill(&mut record, number);
        store.append(&record)?;
        store.commit()?;
        tell(&json!({ "safe": number + 1 }))?;
    }
    Ok(())
}

/// How many whole records there are from the first on.
fn verify(mut store: Box<dyn Store>) -> anyhow::Result<()> {
    let mut found = 0;
    let mut whole = true;
    while store.read(&mut |record| {
        whole &= number_of(record) == Some(found);
        found += u64::from(whole);
    })? {}
    tell(&json!({ "found": found }))
}

fn tell(line: &Value) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

fn wait_for_a_line() -> anyhow::Result<()> {
    std::io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// The parent kills this process: a store that tidies up at its end must not do so here.
fn wait_for_the_end() -> anyhow::Result<()> {
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn own_writes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// Makes the kernel read the files from the disk again.
fn forget_cache(place: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(place)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let file = std::fs::File::open(entry.path())?;
            file.sync_data()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// A child that measures.
pub(crate) struct Worker {
    child: Child,
    lines: Receiver<String>,
}

/// Why there is no figure.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was ended at its deadline; the last bytes that it reported.
    Hung { after: Duration, progress: Option<u64> },
    /// It ended by itself.
    Died(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hung { after, progress } => {
                let mib = progress.unwrap_or(0) >> 20;
                write!(f, "not within {} s, {mib} MiB by then", after.as_secs())
            }
            Self::Died(why) => write!(f, "failed: {why}"),
        }
    }
}

impl Worker {
    pub(crate) fn start(
        task: &str,
        store: &str,
        place: &Path,
        numbers: &[u64],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--worker", task, store]).arg(place);
        command.args(numbers.iter().map(ToString::to_string));
        let errors = tempfile::tempfile()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn()?;
        let output = child.stdout.take().context("a worker without output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that is more than progress.
    pub(crate) fn answer(&mut self, patience: Duration) -> Result<Value, Failure> {
        let until = Instant::now() + patience;
        let mut progress = None;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let line: Value = serde_json::from_str(&line).unwrap_or_default();
                    match line["progress"].as_u64() {
                        Some(bytes) => progress = Some(bytes),
                        None => return Ok(line),
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Failure::Hung { after: patience, progress });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().map(|status| status.to_string());
                    return Err(Failure::Died(status.unwrap_or_default()));
                }
            }
        }
    }

    /// Everything said so far.
    pub(crate) fn said(&self) -> Vec<Value> {
        let lines = self.lines.try_iter();
        lines.filter_map(|line| serde_json::from_str(&line).ok()).collect()
    }

    /// Lets a worker go on that waits for a line.
    pub(crate) fn go_on(&mut self) -> anyhow::Result<()> {
        let input = self.child.stdin.as_mut().context("a worker without input")?;
        input.write_all(b"\n")?;
        Ok(input.flush()?)
    }

    /// Resident now and at most, in MiB.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let place = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(place).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        (field("VmRSS:").unwrap_or(0) / 1024, field("VmHWM:").unwrap_or(0) / 1024)
    }
}

impl Drop for Worker {
    /// SIGKILL: no store gets to tidy up.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
