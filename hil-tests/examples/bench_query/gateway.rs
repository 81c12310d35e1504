//! A running gateway with a day of record, and a local application that asks it through the leaf.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tidegate_hil_tests::{tools, wait};

use crate::plant;

/// Parts of a large answer that may be on their way.
const CREDIT: u32 = 16;
const PATIENCE: Duration = Duration::from_secs(60);
const QUESTIONS: &str = "tide.PlantA.gw-bench.q";
const INBOX: &str = "_INBOX.PlantA.gw-bench.apps";

/// Defaults wherever there are any, and no hub.
pub(crate) fn configure(
    directory: &Path,
    plc: SocketAddr,
    leaf_port: u16,
    tags: u32,
) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(directory)?;
    let mut text = format!(
        r#"[gateway]
plant = "PlantA"
name = "gw-bench"
[leaf]
listen = "127.0.0.1:{leaf_port}"
nats-server = {server:?}
dir = "leaf"
[journal]
dir = "journal"
max-bytes = "2 GiB"
[control]
socket = "control.sock"
[query]
local = "gateway"
[[device]]
name = "d0"
protocol = "modbus-tcp"
address = "{plc}"
unit = 1
poll-every-ms = 1000
base-path = "PlantA/Bench/D0"
"#,
        server = tools::nats_server()?,
    );
    for tag in 0..tags {
        let address = tag * 2;
        write!(
            text,
            "[[device.tag]]\npath = \"t{tag}\"\naddress = \"holding:{address}\"\ntype = \"uint32\"\n"
        )?;
    }
    let config = directory.join("tidegate.toml");
    std::fs::write(&config, text)?;
    Ok(config)
}

/// A local application that asks.
pub(crate) struct Asker(Client);

impl Asker {
    pub(crate) async fn connected(leaf_port: u16) -> anyhow::Result<Self> {
        let address = format!("127.0.0.1:{leaf_port}");
        let client = wait::until(PATIENCE, "the leaf listens", || {
            let options = ConnectOptions::new().custom_inbox_prefix(INBOX);
            // Questions have the lowest priority: on a busy machine they wait.
            let options = options.request_timeout(Some(PATIENCE));
            let connecting = options.connect(address.clone());
            async move { Ok(connecting.await.ok()) }
        })
        .await?;
        let asker = Self(client);
        let (here, nothing) = (&asker, &json!({}));
        wait::until(PATIENCE, "the gateway answers", || async move {
            Ok(here.ask("status", nothing).await.ok())
        })
        .await?;
        Ok(asker)
    }

    /// One question with one message as its answer, and how long that took.
    pub(crate) async fn ask(
        &self,
        op: &str,
        question: &Value,
    ) -> anyhow::Result<(Value, Duration)> {
        let question = serde_json::to_vec(question)?;
        let begun = Instant::now();
        let answer = self.0.request(format!("{QUESTIONS}.{op}"), question.into()).await?;
        let took = begun.elapsed();
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        ensure!(answer["error"].is_null(), "{op} was refused: {}", answer["error"]);
        Ok((answer, took))
    }

    /// So many times, in order of size.
    pub(crate) async fn times(
        &self,
        op: &str,
        question: &Value,
        count: usize,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::new();
        for _ in 0..count {
            times.push(self.ask(op, question).await?.1);
        }
        times.sort_unstable();
        Ok(times)
    }

    /// A large answer, part by part as fast as it comes: rows, bytes, and the summary.
    pub(crate) async fn stream(&self, mut question: Value) -> anyhow::Result<(u64, u64, Value)> {
        let id = self.0.new_inbox();
        let id = id.rsplit('.').next().unwrap_or("bench").to_owned();
        question["id"] = json!(id);
        question["credit"] = json!(CREDIT);
        let inbox = self.0.new_inbox();
        let mut parts = self.0.subscribe(inbox.clone()).await?;
        let payload = serde_json::to_vec(&question)?;
        self.0.publish_with_reply(format!("{QUESTIONS}.history"), inbox, payload.into()).await?;
        let (mut rows, mut bytes, mut seen) = (0, 0, 0);
        loop {
            let part = tokio::time::timeout(PATIENCE, parts.next()).await?;
            let part = part.context("the answer ended without its last part")?;
            bytes += part.payload.len() as u64;
            let part: Value = serde_json::from_slice(&part.payload)?;
            if !part["error"].is_null() {
                bail!("history was refused: {}", part["error"]);
            }
            rows += part["rows"].as_array().map_or(0, |rows| rows.len() as u64);
            if !part["summary"].is_null() {
                return Ok((rows, bytes, part["summary"].clone()));
            }
            seen += 1;
            if seen % (CREDIT / 2) == 0 {
                let more = serde_json::to_vec(&json!({ "id": id, "parts": CREDIT / 2 }))?;
                self.0.publish(format!("{QUESTIONS}.credit"), more.into()).await?;
            }
        }
    }
}

/// A port that is free now.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    plant::free_port()
}
