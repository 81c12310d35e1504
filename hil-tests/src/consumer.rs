//! Somebody who knows nothing of us: a server of their own, with a stream that `tidegate tap`
//! publishes samples into; and what others read its files with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use serde_json::Value;

use crate::family::{Family, Process};
use crate::server::Server;
use crate::{stream, tools};

/// The consumer's stream.
const STREAM: &str = "PLC";

/// A server with a stream.
#[derive(Debug)]
pub struct Consumer {
    family: Arc<Family>,
    directory: PathBuf,
    server: Server,
    /// Where the record is read.
    hub: String,
}

impl Consumer {
    /// Starts the server and makes the stream, for a record that is read at `hub`.
    ///
    /// # Errors
    /// When the server does not come up.
    pub async fn start(
        family: &Arc<Family>,
        directory: &Path,
        hub: String,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let config = directory.join("nats-server.conf");
        let store = directory.join("store");
        let text = format!("listen: \"127.0.0.1:-1\"\njetstream {{ store_dir: {store:?} }}\n");
        std::fs::write(&config, text)?;
        let server = Server::start(family, &config, &directory.join("log")).await?;
        let consumer =
            Self { family: Arc::clone(family), directory: directory.to_owned(), server, hub };
        let client = stream::connect(&consumer.url()).await?;
        let config = async_nats::jetstream::stream::Config {
            name: STREAM.to_owned(),
            subjects: vec!["plc.>".to_owned()],
            ..Default::default()
        };
        async_nats::jetstream::new(client).create_stream(config).await.context("the stream")?;
        Ok(consumer)
    }

    fn url(&self) -> String {
        format!("nats://{}", self.server.clients())
    }

    /// The server, to be stopped and continued.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// How many messages the stream has taken in.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn taken_in(&self) -> anyhow::Result<u64> {
        stream::taken_in(&self.url(), STREAM).await
    }

    /// Every message in its order: subject and JSON.
    ///
    /// # Errors
    /// When one cannot be read.
    pub async fn messages(&self) -> anyhow::Result<Vec<(String, Value)>> {
        let jetstream = async_nats::jetstream::new(stream::connect(&self.url()).await?);
        let stream = jetstream.get_stream(STREAM).await.context("the stream")?;
        let last = stream.get_info().await.context("the stream's state")?.state.last_sequence;
        let every = async_nats::jetstream::consumer::pull::OrderedConfig::default();
        let mut messages = stream.create_consumer(every).await?.messages().await?;
        let mut all = Vec::new();
        while u64::try_from(all.len())? < last {
            let message = messages.next().await.context("no more messages")??;
            let json = serde_json::from_slice(&message.payload)?;
            all.push((message.subject.to_string(), json));
        }
        Ok(all)
    }

    fn command(&self) -> anyhow::Result<std::process::Command> {
        let mut command = self.family.command(tools::gateway()?);
        command.args(["tap", "--server", &self.hub, "--format", "nats"]);
        command.args(["--to-server", &self.url(), "--subject", "plc.{path}"]);
        Ok(command)
    }

    /// Publishes what there is and what arrives, until it is killed.
    ///
    /// # Errors
    /// When it does not start.
    pub fn follow(&self) -> anyhow::Result<Process> {
        let mut command = self.command()?;
        command.arg("--follow");
        Process::start(&self.family, "tap", command, &self.directory.join("tap.log"))
    }

    /// Publishes what there is; returns what it said.
    ///
    /// # Errors
    /// When it does not come to the end.
    pub fn publish(&self) -> anyhow::Result<String> {
        let output = self.command()?.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "tap ended ({}): {said}", output.status);
        Ok(said)
    }

    /// Has `tap` write everything of a gateway into a file.
    ///
    /// # Errors
    /// When it does not.
    pub fn file(&self, gateway: &str, format: &str) -> anyhow::Result<PathBuf> {
        let path = self.directory.join(format!("record.{format}"));
        let mut command = self.family.command(tools::gateway()?);
        command.args(["tap", "--server", &self.hub, "--gateway", gateway, "--format", format]);
        command.arg("--output").arg(&path);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tap ended ({}): {said}", output.status);
        Ok(path)
    }

    /// Has pyarrow compare a file of Parquet with one of JSON lines; returns the rows of both.
    ///
    /// # Errors
    /// When they are not the same.
    pub fn compared(&self, parquet: &Path, lines: &Path) -> anyhow::Result<u64> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("analysis/compare_parquet.py");
        let mut command = self.family.command(tools::python()?);
        let output = command.arg(script).arg(parquet).arg(lines).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "pyarrow ({}): {said}", output.status);
        let found: Value = serde_json::from_slice(&output.stdout)?;
        found["rows"].as_u64().context("no rows")
    }
}
