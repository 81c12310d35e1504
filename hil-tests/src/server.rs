//! One nats-server process on ports that it chose itself.
//!
//! # Invariants
//! - The configuration asks for the port `-1` wherever it listens; the ports are read from what
//!   the server logs, so it must log to standard error.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustix::process::Signal;

use crate::family::{Family, Process};
use crate::{tools, wait};

/// A running nats-server.
#[derive(Debug)]
pub struct Server {
    process: Process,
    clients: SocketAddr,
    leafs: Option<SocketAddr>,
    websockets: Option<SocketAddr>,
}

impl Server {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it ends instead; the error holds what it logged.
    pub async fn start(family: &Arc<Family>, config: &Path, log: &Path) -> anyhow::Result<Self> {
        let before = std::fs::metadata(log).map_or(0, |metadata| metadata.len());
        let mut command = family.command(tools::nats_server()?);
        command.arg("--config").arg(config);
        // Relative paths in it begin where it is.
        if let Some(folder) = config.parent().filter(|folder| folder.is_absolute()) {
            command.current_dir(folder);
        }
        let mut process = Process::start(family, "nats-server", command, log)?;
        let logged = wait::until(wait::SOON, "nats-server is ready", || {
            let logged = process.printed_since(before);
            let ended = process.ended();
            async move {
                let logged = logged?;
                if let Some(status) = ended? {
                    bail!("nats-server ended ({status}): {logged}");
                }
                Ok(logged.contains("Server is ready").then_some(logged))
            }
        })
        .await?;
        let clients = port_in(&logged, "Listening for client connections on ");
        let leafs = port_in(&logged, "Listening for leafnode connections on ");
        let clients = clients.context("nats-server names no client port")?;
        let websockets = port_in(&logged, "Listening for websocket clients on wss://");
        Ok(Self { process, clients, leafs, websockets })
    }

    /// Where clients connect.
    #[must_use]
    pub const fn clients(&self) -> SocketAddr {
        self.clients
    }

    /// Where leaf nodes connect.
    #[must_use]
    pub const fn leafs(&self) -> Option<SocketAddr> {
        self.leafs
    }

    /// Where leaf nodes connect in WebSockets.
    #[must_use]
    pub const fn websockets(&self) -> Option<SocketAddr> {
        self.websockets
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub fn kill9(mut self) -> anyhow::Result<()> {
        self.process.kill9()
    }

    /// Has it read its configuration again, and waits until it has taken it over.
    ///
    /// # Errors
    /// When it refuses; the error holds what it logged.
    pub async fn reload(&mut self) -> anyhow::Result<()> {
        let before = self.process.log_length()?;
        self.process.signal(Signal::HUP)?;
        wait::until(wait::SOON, "nats-server takes its configuration over", || {
            let logged = self.process.printed_since(before);
            async move {
                let logged = logged?;
                if logged.contains("Failed to reload") {
                    bail!("nats-server refused its configuration: {logged}");
                }
                Ok(logged.contains("Reloaded server configuration").then_some(()))
            }
        })
        .await
    }

    /// SIGSTOP: it holds its connections and does nothing, as a machine that hangs.
    ///
    /// # Errors
    /// When it is gone.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// SIGCONT: it goes on with what it knew.
    ///
    /// # Errors
    /// When it is gone.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        self.process.stop(wait::SOON).await
    }
}

/// The address at the end of the log line with these words, which the server logs with its real
/// port.
fn port_in(logged: &str, words: &str) -> Option<SocketAddr> {
    let (_, after) = logged.split_once(words)?;
    let address: SocketAddr = after.split_whitespace().next()?.parse().ok()?;
    Some(SocketAddr::from(([127, 0, 0, 1], address.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_killed_server_comes_back_with_what_it_stored_always_synced() {
        let directory = tempfile::tempdir().unwrap();
        let family = Family::new().unwrap();
        let config = directory.path().join("hub.conf");
        let log = directory.path().join("hub.log");
        let store = directory.path().join("store");
        let text = format!(
            "listen: 127.0.0.1:-1\nleafnodes {{ listen: 127.0.0.1:-1 }}\n\
             jetstream {{ store_dir: {store:?}, sync_interval: always }}\n"
        );
        std::fs::write(&config, text).unwrap();

        let server = Server::start(&family, &config, &log).await.unwrap();
        assert!(server.leafs().is_some());
        let url = format!("nats://{}", server.clients());
        let client = async_nats::connect(&url).await.unwrap();
        let jetstream = async_nats::jetstream::new(client);
        let stream = async_nats::jetstream::stream::Config {
            name: "S".to_owned(),
            subjects: vec!["s".to_owned()],
            ..Default::default()
        };
        jetstream.create_stream(stream).await.unwrap();
        jetstream.publish("s", "kept".into()).await.unwrap().await.unwrap();
        server.kill9().unwrap();

        let server = Server::start(&family, &config, &log).await.unwrap();
        let url = format!("nats://{}", server.clients());
        let messages = crate::stream::messages(&url, "S").await.unwrap();
        assert_eq!(messages, [("s".to_owned(), b"kept".to_vec())]);
        server.stop().await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_refuses_its_configuration_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let family = Family::new().unwrap();
        let config = directory.path().join("bad.conf");
        std::fs::write(&config, "no_such_key: 1\n").unwrap();
        let log = directory.path().join("log");
        let error = Server::start(&family, &config, &log).await.unwrap_err().to_string();
        assert!(error.contains("no_such_key"), "{error}");
    }
}
