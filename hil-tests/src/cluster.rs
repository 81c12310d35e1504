//! A hub of three servers: the binary's configuration for one, three times, with a name and a store
//! of each one's own and the others' addresses.
//!
//! # Invariants
//! - The ports between the servers are reserved for as long as the hub exists, so that a server that
//!   was killed is found again where it was.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::family::Family;
use crate::hub::{Certificates, Hub, Node};
use crate::{stream, wait, wan};

/// How many servers: one may fail.
const SERVERS: usize = 3;

/// How long a cluster may take to agree on something, on a machine that has other work.
const TO_AGREE: Duration = Duration::from_secs(45);

impl Hub {
    /// Configures and starts a cluster that admits these gateways, and creates its stream with a
    /// replica on each server.
    ///
    /// # Errors
    /// When the binary or a server refuses, or they do not agree.
    pub async fn start_cluster(
        family: &Arc<Family>,
        directory: &Path,
        admitted: &[&str],
    ) -> anyhow::Result<Self> {
        Self::start_cluster_as(family, directory, admitted, |text, _| text.to_owned()).await
    }

    /// [`Hub::start_cluster`], with the configuration that each server would have changed: it is
    /// given the text and the server's number.
    ///
    /// # Errors
    /// As there.
    pub async fn start_cluster_as(
        family: &Arc<Family>,
        directory: &Path,
        admitted: &[&str],
        change: impl Fn(&str, usize) -> String,
    ) -> anyhow::Result<Self> {
        let mut hub = Self::configured(family, directory, admitted, &Certificates::default())?;
        let text = std::fs::read_to_string(&hub.nodes[0].config)?;
        let tls = route_tls(&text)?;
        let loopback = || wan::reserve(([127, 0, 0, 1], 0).into());
        let ports = (0..SERVERS).map(|_| loopback()).collect::<anyhow::Result<Vec<_>>>()?;
        let addresses = ports.iter().map(|port| port.local_addr());
        let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
        hub.nodes.clear();
        for (at, port) in ports.into_iter().enumerate() {
            let own = directory.join(format!("node-{at}"));
            std::fs::create_dir_all(&own)?;
            let mut lines = Vec::new();
            for line in text.lines() {
                lines.push(match line.trim().split_once(": ") {
                    Some(("server_name", _)) => format!("server_name: \"hub-{at}\""),
                    Some(("store_dir", _)) => format!("store_dir: {own:?}"),
                    Some(("ports_file_dir", _)) => continue,
                    _ => line.to_owned(),
                });
            }
            let others = addresses.iter().enumerate().filter(|(other, _)| *other != at);
            let routes: Vec<_> = others.map(|(_, to)| format!("nats-route://{to}")).collect();
            let listen = addresses[at];
            lines.push(format!(
                "cluster {{ name: \"hub\", listen: \"{listen}\", routes: {routes:?}, {tls} }}\n"
            ));
            let config = directory.join(format!("hub-{at}.conf"));
            std::fs::write(&config, change(&lines.join("\n"), at))?;
            let log = directory.join(if at == 0 {
                "hub.log".to_owned()
            } else {
                format!("hub-{at}.log")
            });
            let port = Some(port);
            hub.nodes.push(Node { config, log, server: None, frozen: false, _port: port });
        }
        hub.start_again().await?;
        wait::until(TO_AGREE, "the cluster makes the stream", || {
            let made = hub.make_stream();
            async move { Ok(made.ok()) }
        })
        .await?;
        let (url, name) = (hub.admin_url()?, hub.stream()?.to_owned());
        stream::configure(&url, &name, false, |it| it.num_replicas = SERVERS).await?;
        hub.agrees(SERVERS).await?;
        Ok(hub)
    }

    /// How many servers it has, running or not.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.nodes.len()
    }

    /// Which server leads the stream.
    ///
    /// # Errors
    /// When nobody says soon.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        wait::until(TO_AGREE, "the stream has a leader", || async {
            let Ok(cluster) = self.replicas().await else { return Ok(None) };
            let leader = cluster.leader.unwrap_or_default();
            Ok(leader.strip_prefix("hub-").and_then(|at| at.parse().ok()))
        })
        .await
    }

    /// Waits until so many servers have everything that the stream holds.
    ///
    /// # Errors
    /// When they do not soon.
    pub async fn agrees(&self, servers: usize) -> anyhow::Result<()> {
        wait::until(TO_AGREE, "the stream's replicas are current", || async {
            let Ok(cluster) = self.replicas().await else { return Ok(None) };
            let current = cluster.replicas.iter().filter(|peer| peer.current && !peer.offline);
            let has_leader = cluster.leader.is_some_and(|leader| !leader.is_empty());
            Ok((has_leader && current.count() + 1 >= servers).then_some(()))
        })
        .await
    }

    async fn replicas(&self) -> anyhow::Result<async_nats::jetstream::stream::ClusterInfo> {
        let asked = async {
            let jetstream = async_nats::jetstream::new(stream::connect(&self.admin_url()?).await?);
            let found = jetstream.get_stream(self.stream()?).await.context("the stream")?;
            found.cached_info().cluster.clone().context("the stream is in no cluster")
        };
        tokio::time::timeout(Duration::from_secs(3), asked).await.context("no answer")?
    }

    /// SIGSTOP to one of its servers: to the others it hangs.
    ///
    /// # Errors
    /// When it is down.
    pub fn freeze(&mut self, at: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[at];
        node.server.as_ref().context("this server of the hub is down")?.freeze()?;
        node.frozen = true;
        Ok(())
    }

    /// SIGCONT: it goes on with what it knew, and answers from it.
    ///
    /// # Errors
    /// When it was not frozen.
    pub fn thaw(&mut self, at: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[at];
        ensure!(node.frozen, "server {at} of the hub was not frozen");
        node.frozen = false;
        node.server.as_ref().context("this server of the hub is down")?.thaw()
    }
}

/// Mutual TLS between the servers, with the files of their leaf listener.
fn route_tls(text: &str) -> anyhow::Result<String> {
    let mut lines = Vec::new();
    for key in ["ca_file", "cert_file", "key_file"] {
        let line = text.lines().map(str::trim).find(|line| line.starts_with(key));
        lines.push(line.with_context(|| format!("the hub's configuration has no {key}"))?);
    }
    Ok(format!("tls {{ {}, verify: true, min_version: \"1.3\" }}", lines.join(", ")))
}
