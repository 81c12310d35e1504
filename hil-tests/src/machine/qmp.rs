//! What steers an emulated machine: QEMU's monitor, one JSON object a line.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// How long the monitor may take for an answer or an event.
const TO_ANSWER: Duration = Duration::from_secs(60);

/// A connection to the monitor.
#[derive(Debug)]
pub(super) struct Monitor {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Monitor {
    /// Connects once it listens.
    ///
    /// # Errors
    /// When it does not soon.
    pub(super) async fn at(socket: &Path) -> anyhow::Result<Self> {
        let (read, write) = super::connect(socket).await?.into_split();
        let mut monitor = Self { lines: BufReader::new(read).lines(), write };
        monitor.next().await?;
        monitor.tell("qmp_capabilities", json!({})).await?;
        Ok(monitor)
    }

    /// One command and its answer.
    ///
    /// # Errors
    /// When it is refused or not answered.
    pub(super) async fn tell(&mut self, command: &str, arguments: Value) -> anyhow::Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments });
        self.write.write_all(format!("{line}\n").as_bytes()).await?;
        loop {
            let said = self.next().await?;
            if let Some(error) = said.get("error") {
                bail!("{command} {}: {}", line["arguments"], error["desc"]);
            }
            if let Some(answer) = said.get("return") {
                return Ok(answer.clone());
            }
        }
    }

    /// Waits for an event of this name about this device.
    ///
    /// # Errors
    /// When it does not come.
    pub(super) async fn event(&mut self, name: &str, device: &str) -> anyhow::Result<()> {
        loop {
            let said = self.next().await.with_context(|| format!("no {name} of {device}"))?;
            if said["event"] == name && said["data"]["device"] == device {
                return Ok(());
            }
        }
    }

    async fn next(&mut self) -> anyhow::Result<Value> {
        let line = tokio::time::timeout(TO_ANSWER, self.lines.next_line()).await;
        let line = line.context("the monitor is silent")??.context("the monitor hung up")?;
        Ok(serde_json::from_str(&line)?)
    }
}
