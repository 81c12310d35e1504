//! The counting PLC: pymodbus in a process of its own, and the history of what it served.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::family::{Family, Process};
use crate::oracle::Served;
use crate::{tools, wait};

/// A PLC whose registers count; `plc/counting_plc.py` says which hold what.
#[derive(Debug)]
pub struct Plc {
    family: Arc<Family>,
    directory: PathBuf,
    process: Option<Process>,
    address: Option<SocketAddr>,
    starts: u32,
}

impl Plc {
    /// A PLC that is switched off.
    #[must_use]
    pub fn off(family: &Arc<Family>, directory: &Path) -> Self {
        Self {
            family: Arc::clone(family),
            directory: directory.to_path_buf(),
            process: None,
            address: None,
            starts: 0,
        }
    }

    /// Switches it on; it goes on counting where it stopped. Returns its address, a new one each
    /// time.
    ///
    /// # Errors
    /// When it is on already, or the server does not come up.
    pub async fn switch_on(&mut self) -> anyhow::Result<SocketAddr> {
        if self.process.is_some() {
            bail!("the PLC is on already");
        }
        self.starts += 1;
        let next = self.history()?.last().map_or(1, |served| served.n + 1);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("plc/counting_plc.py");
        let mut command = self.family.command(tools::python()?);
        command.arg(script).arg("--next").arg(next.to_string());
        command.arg("--history").arg(self.history_file());
        let log = self.directory.join(format!("plc-{}.log", self.starts));
        let mut process = Process::start(&self.family, "the PLC", command, &log)?;
        let port: u16 = wait::until(wait::SOON, "the PLC says its port", || {
            let said = process.printed_since(0);
            let ended = process.ended();
            async move {
                let said = said?;
                if let Some(status) = ended? {
                    bail!("the PLC ended ({status}): {said}");
                }
                Ok(said.strip_suffix('\n').and_then(|port| port.parse().ok()))
            }
        })
        .await?;
        self.process = Some(process);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        self.address = Some(address);
        Ok(address)
    }

    /// Where it is, or was when it was switched on last.
    ///
    /// # Errors
    /// When it never was on.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.address.context("the PLC was never switched on")
    }

    /// Switches it off, without a goodbye.
    ///
    /// # Errors
    /// When it was not running.
    pub fn switch_off(&mut self) -> anyhow::Result<()> {
        self.process.take().context("the PLC is off already")?.kill9()
    }

    /// Every value of the counter that was served, in order.
    ///
    /// # Errors
    /// When the history cannot be read or is not what the PLC writes.
    pub fn history(&self) -> anyhow::Result<Vec<Served>> {
        match std::fs::read_to_string(self.history_file()) {
            Ok(text) => parse_history(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Every value of the counter that was served, as the PLC wrote it down.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn raw_history(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.history_file())?)
    }

    /// Makes it one that has served these values already.
    ///
    /// # Errors
    /// When it is on, or the history cannot be written.
    pub fn remember(&self, history: &str) -> anyhow::Result<()> {
        if self.process.is_some() {
            bail!("the PLC is on");
        }
        Ok(std::fs::write(self.history_file(), history)?)
    }

    fn history_file(&self) -> PathBuf {
        self.directory.join("plc-history.jsonl")
    }
}

/// The last line counts only once it is whole.
fn parse_history(text: &str) -> anyhow::Result<Vec<Served>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line: &str| {
        let line: Value = serde_json::from_str(line)?;
        let n = line["n"].as_u64().context("history line without n")?;
        let at_ns = line["t"].as_i64().context("history line without t")?;
        Ok(Served { n, at_ns })
    };
    whole.lines().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// Reads registers 100..=105 of unit 1: the counter and three times the counter.
    async fn poll(stream: &mut TcpStream) -> (u64, u32) {
        let request = [0, 1, 0, 0, 0, 6, 1, 3, 0, 100, 0, 6];
        stream.write_all(&request).await.unwrap();
        let mut answer = [0; 21];
        stream.read_exact(&mut answer).await.unwrap();
        let counter = answer[9..17].try_into().map(u64::from_be_bytes).unwrap();
        let triple = answer[17..21].try_into().map(u32::from_be_bytes).unwrap();
        (counter, triple)
    }

    #[tokio::test]
    async fn each_poll_gets_the_next_value_and_the_history_knows_it() {
        let directory = tempfile::tempdir().unwrap();
        let family = Family::new().unwrap();
        let mut plc = Plc::off(&family, directory.path());
        let address = plc.switch_on().await.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(poll(&mut stream).await, (1, 3));
        assert_eq!(poll(&mut stream).await, (2, 6));
        plc.switch_off().unwrap();
        let address = plc.switch_on().await.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(poll(&mut stream).await, (3, 9));
        let history: Vec<_> = plc.history().unwrap().iter().map(|served| served.n).collect();
        assert_eq!(history, [1, 2, 3]);
    }

    #[test]
    fn a_half_written_last_line_is_left_for_later() {
        let history = parse_history("{\"n\": 1, \"t\": 5}\n{\"n\": 2, ").unwrap();
        assert_eq!(history, [Served { n: 1, at_ns: 5 }]);
        assert_eq!(parse_history("").unwrap(), []);
    }
}
