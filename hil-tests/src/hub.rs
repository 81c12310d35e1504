//! The hub: a real nats-server with mutual TLS, configured by the binary's own hub module.
//!
//! # What the rig asks of the binary
//! `tidegate internal-hub-config --dir DIR --admit PLANT/NAME [--admit …]` writes `hub.conf`, a lab
//! authority, the hub's certificate and a certificate and key for each admitted gateway into `DIR`,
//! and nothing anywhere else. A gateway's live values may stand anywhere below its plant. The hub's
//! certificate is valid for `127.0.0.1`. The configuration listens there on ports of the system's
//! choice, with passwords for clients and mutual TLS for leaf nodes, keeps its store below `DIR`,
//! and logs to standard error. One JSON object is printed:
//! ```json
//! {
//!   "config": "DIR/hub.conf", "ca": "DIR/ca.pem", "stream": "TIDE", "domain": "hub",
//!   "admin": { "user": "…", "password": "…" },
//!   "reader": { "user": "…", "password": "…" },
//!   "operator": { "user": "…", "password": "…" },
//!   "gateways": [ { "gateway": "PLANT/NAME", "cert": "…", "key": "…", "dn": "…" } ]
//! }
//! ```
//! `admin` makes the stream and may read it raw; `reader` is what an analyst gets: records by `tap`
//! and `prove`, and live values.
//!
//! `tidegate internal-hub-stream --server URL` creates the stream, or finds it as it should be.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::net::TcpSocket;

use crate::family::{self, Family};
use crate::server::Server;
use crate::tools;

/// The binary's lab authority issues certificates that have been valid for so long.
const BACKDATED: Duration = Duration::from_secs(300);

/// What is unusual about certificates.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    /// They are valid only from then on.
    pub begin_in: Option<Duration>,
    /// Further host names and addresses in the hub's.
    pub hosts: Vec<String>,
    /// The hub shows its own on a port for leaf nodes in WebSockets, too.
    pub websocket: bool,
}

/// The certificate files of an admitted gateway, and whom it trusts.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Whom it trusts.
    pub ca: PathBuf,
    /// Its certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Credentials {
    /// Those of a gateway that shows none.
    #[must_use]
    pub const fn none() -> Self {
        Self { ca: PathBuf::new(), cert: PathBuf::new(), key: PathBuf::new() }
    }
}

/// A hub that can be killed and started again: one server, or a cluster
/// ([`Hub::start_cluster`](crate::cluster)).
#[derive(Debug)]
pub struct Hub {
    pub(crate) family: Arc<Family>,
    description: Value,
    pub(crate) directory: PathBuf,
    pub(crate) nodes: Vec<Node>,
}

/// A server of the hub.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) config: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) server: Option<Server>,
    /// Stopped without being killed: it is asked nothing.
    pub(crate) frozen: bool,
    /// Keeps the port of a cluster's node, so that the others find it again.
    pub(crate) _port: Option<TcpSocket>,
}

impl Hub {
    /// Configures and starts a hub that admits these gateways, and creates its stream.
    ///
    /// # Errors
    /// When the binary or the server refuses.
    pub async fn start(
        family: &Arc<Family>,
        directory: &Path,
        admitted: &[&str],
    ) -> anyhow::Result<Self> {
        Self::start_certified(family, directory, admitted, &Certificates::default()).await
    }

    /// [`Hub::start`], with certificates that are unusual.
    ///
    /// # Errors
    /// As there, and when there is no libfaketime.
    pub async fn start_certified(
        family: &Arc<Family>,
        directory: &Path,
        admitted: &[&str],
        certificates: &Certificates,
    ) -> anyhow::Result<Self> {
        let mut hub = Self::configured(family, directory, admitted, certificates)?;
        hub.start_again().await?;
        hub.make_stream()?;
        Ok(hub)
    }

    /// Has the binary write everything for one server; nothing runs yet.
    pub(crate) fn configured(
        family: &Arc<Family>,
        directory: &Path,
        admitted: &[&str],
        certificates: &Certificates,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let mut configure = family.command(tools::gateway()?);
        if let Some(begin_in) = certificates.begin_in {
            let ahead = (BACKDATED + begin_in).as_secs();
            configure.env("LD_PRELOAD", tools::faketime()?).env("FAKETIME", format!("+{ahead}"));
        }
        configure.arg("internal-hub-config").arg("--dir").arg(directory);
        for gateway in admitted {
            configure.args(["--admit", gateway]);
        }
        for host in &certificates.hosts {
            configure.args(["--host", host]);
        }
        let description: Value = serde_json::from_str(&answer_of(configure)?)
            .context("internal-hub-config printed no JSON")?;
        let config: PathBuf = description["config"].as_str().context("no configuration")?.into();
        let log = directory.join("hub.log");
        if certificates.websocket {
            listen_for_websockets(&config)?;
        }
        Ok(Self {
            family: Arc::clone(family),
            description,
            directory: directory.to_path_buf(),
            nodes: vec![Node { config, log, server: None, frozen: false, _port: None }],
        })
    }

    /// Has the binary make the stream.
    pub(crate) fn make_stream(&self) -> anyhow::Result<()> {
        let mut create = self.family.command(tools::gateway()?);
        create.args(["internal-hub-stream", "--server", &self.admin_url()?]);
        answer_of(create).map(drop)
    }

    /// Starts what was killed again, on new ports, with the store that it had.
    ///
    /// # Errors
    /// When everything runs already or does not come up.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let down: Vec<_> =
            (0..self.nodes.len()).filter(|at| self.nodes[*at].server.is_none()).collect();
        ensure!(!down.is_empty(), "the hub runs already");
        for at in down {
            self.start_node(at).await?;
        }
        Ok(())
    }

    /// Starts one of its servers, counted from 0.
    ///
    /// # Errors
    /// When it runs already or does not come up.
    pub async fn start_node(&mut self, at: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[at];
        ensure!(node.server.is_none(), "server {at} of the hub runs already");
        node.server = Some(Server::start(&self.family, &node.config, &node.log).await?);
        Ok(())
    }

    /// SIGKILL to all of it.
    ///
    /// # Errors
    /// When it was not running.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        let running: Vec<_> =
            (0..self.nodes.len()).filter(|at| self.nodes[*at].server.is_some()).collect();
        ensure!(!running.is_empty(), "the hub is down already");
        running.into_iter().try_for_each(|at| self.kill9_node(at))
    }

    /// SIGKILL to one of its servers.
    ///
    /// # Errors
    /// When it was not running.
    pub fn kill9_node(&mut self, at: usize) -> anyhow::Result<()> {
        self.nodes[at].frozen = false;
        self.nodes[at].server.take().context("the hub is down already")?.kill9()
    }

    /// The configuration of its first server.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.nodes[0].config
    }

    /// Changes its configuration by replacing one text with another, which must be in it. Nothing
    /// happens until it is reloaded or started again.
    ///
    /// # Errors
    /// When the text is not there, or the file cannot be written.
    pub fn edit(&self, from: &str, to: &str) -> anyhow::Result<()> {
        for node in &self.nodes {
            let before = std::fs::read_to_string(&node.config)?;
            ensure!(before.contains(from), "the hub's configuration has no {from:?}: {before}");
            std::fs::write(&node.config, before.replace(from, to))?;
        }
        Ok(())
    }

    /// Has it read its configuration again; connections stay.
    ///
    /// # Errors
    /// When it is down or refuses.
    pub async fn reload(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            node.server.as_mut().context("the hub is down")?.reload().await?;
        }
        Ok(())
    }

    /// What its first server has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.nodes[0].log)?).into_owned())
    }

    /// Copies everything that the hub has on disk, while it is down.
    ///
    /// # Errors
    /// When it runs, or the copy fails.
    pub fn back_up(&self) -> anyhow::Result<()> {
        self.copy(&self.directory, &self.backup())
    }

    /// Puts the copy back in place of what the hub has on disk, while it is down: what it took in
    /// since is forgotten, as after a restored backup.
    ///
    /// # Errors
    /// When it runs, or there is no copy.
    pub fn roll_back(&self) -> anyhow::Result<()> {
        ensure!(self.backup().exists(), "the hub was never backed up");
        self.copy(&self.backup(), &self.directory)
    }

    fn backup(&self) -> PathBuf {
        self.directory.with_extension("backup")
    }

    fn copy(&self, from: &Path, to: &Path) -> anyhow::Result<()> {
        let is_down = self.nodes.iter().all(|node| node.server.is_none());
        ensure!(is_down, "the hub must be down while its files are copied");
        family::copy_tree(&self.family, from, to)
    }

    /// Where leaf nodes connect to its first server, as long as that is not restarted.
    ///
    /// # Errors
    /// When it is down or has no such port.
    pub fn leafs(&self) -> anyhow::Result<SocketAddr> {
        self.leafs_of(0)
    }

    /// Where leaf nodes connect to its first server in WebSockets, as long as that is not restarted.
    ///
    /// # Errors
    /// When it is down or has no such port.
    pub fn websockets(&self) -> anyhow::Result<SocketAddr> {
        let server = self.nodes[0].server.as_ref().context("the hub is down")?;
        server.websockets().context("the hub has no port for WebSockets")
    }

    /// Where leaf nodes connect to one of its servers, as long as that is not restarted.
    ///
    /// # Errors
    /// When it is down or has no such port.
    pub fn leafs_of(&self, at: usize) -> anyhow::Result<SocketAddr> {
        let server = self.nodes[at].server.as_ref().context("this server of the hub is down")?;
        server.leafs().context("the hub has no port for leaf nodes")
    }

    /// Where clients of one of its servers connect.
    ///
    /// # Errors
    /// When it is down.
    pub fn clients(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.running()?.clients())
    }

    /// The process of one of its servers.
    ///
    /// # Errors
    /// When it is down.
    pub fn pid_of(&self, at: usize) -> anyhow::Result<u32> {
        Ok(self.nodes[at].server.as_ref().context("this server of the hub is down")?.id())
    }

    /// The URL for whoever makes the stream and reads it raw.
    ///
    /// # Errors
    /// When it is down.
    pub fn admin_url(&self) -> anyhow::Result<String> {
        self.url_for("admin")
    }

    /// The URL for whoever reads records and watches live values.
    ///
    /// # Errors
    /// When it is down.
    pub fn reader_url(&self) -> anyhow::Result<String> {
        self.url_for("reader")
    }

    /// The stream's name.
    ///
    /// # Errors
    /// When the description lacks it.
    pub fn stream(&self) -> anyhow::Result<&str> {
        self.text("/stream")
    }

    /// The JetStream domain's name.
    ///
    /// # Errors
    /// When the description lacks it.
    pub fn domain(&self) -> anyhow::Result<&str> {
        self.text("/domain")
    }

    /// What an admitted gateway shows to the hub.
    ///
    /// # Errors
    /// When it was not admitted.
    pub fn credentials(&self, gateway: &str) -> anyhow::Result<Credentials> {
        let admitted = self.description["gateways"].as_array().context("no gateways")?;
        let own = admitted
            .iter()
            .position(|one| one["gateway"] == gateway)
            .with_context(|| format!("gateway {gateway} was not admitted"))?;
        Ok(Credentials {
            ca: self.text("/ca")?.into(),
            cert: self.text(&format!("/gateways/{own}/cert"))?.into(),
            key: self.text(&format!("/gateways/{own}/key"))?.into(),
        })
    }

    fn url_for(&self, who: &str) -> anyhow::Result<String> {
        let user = self.text(&format!("/{who}/user"))?;
        let password = self.text(&format!("/{who}/password"))?;
        Ok(format!("nats://{user}:{password}@{}", self.running()?.clients()))
    }

    pub(crate) fn running(&self) -> anyhow::Result<&Server> {
        let asked = self.nodes.iter().filter(|node| !node.frozen);
        asked.filter_map(|node| node.server.as_ref()).next_back().context("the hub is down")
    }

    fn text(&self, pointer: &str) -> anyhow::Result<&str> {
        let found = self.description.pointer(pointer).and_then(Value::as_str);
        found.with_context(|| format!("internal-hub-config printed no text at {pointer}"))
    }
}

/// Adds a port for WebSockets to a hub's configuration, with the TLS of its leaf nodes, and lets its
/// gateways use it.
fn listen_for_websockets(config: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(config)?;
    let (_, leafs) = text.split_once("\nleafnodes {").context("no leafnodes")?;
    let (_, tls) = leafs.split_once("  tls {").context("no TLS")?;
    let (tls, _) = tls.split_once("\n  }").context("TLS has no end")?;
    let websocket = format!("websocket {{\n  listen: \"127.0.0.1:-1\"\n  tls {{{tls}\n  }}\n}}\n");
    let both = "\"LEAFNODE\"\n          \"LEAFNODE_WS\"\n";
    let text = text.replace("\"LEAFNODE\"\n", both);
    std::fs::write(config, text + &websocket)?;
    Ok(())
}

fn answer_of(mut command: Command) -> anyhow::Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{command:?} ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
