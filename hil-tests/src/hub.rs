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

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::family::{self, Family};
use crate::server::Server;
use crate::tools;

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

/// A hub that can be killed and started again.
#[derive(Debug)]
pub struct Hub {
    family: Arc<Family>,
    description: Value,
    directory: PathBuf,
    log: PathBuf,
    server: Option<Server>,
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
        Self::start_named(family, directory, admitted, &[]).await
    }

    /// [`Hub::start`], with further host names and addresses in its certificate.
    ///
    /// # Errors
    /// When the binary or the server refuses.
    pub async fn start_named(
        family: &Arc<Family>,
        directory: &Path,
        admitted: &[&str],
        hosts: &[String],
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let mut configure = family.command(tools::gateway()?);
        configure.arg("internal-hub-config").arg("--dir").arg(directory);
        for gateway in admitted {
            configure.args(["--admit", gateway]);
        }
        for host in hosts {
            configure.args(["--host", host]);
        }
        let description = serde_json::from_str(&answer_of(configure)?)
            .context("internal-hub-config printed no JSON")?;
        let mut hub = Self {
            family: Arc::clone(family),
            description,
            directory: directory.to_path_buf(),
            log: directory.join("hub.log"),
            server: None,
        };
        hub.start_again().await?;
        let mut create = family.command(tools::gateway()?);
        create.args(["internal-hub-stream", "--server", &hub.admin_url()?]);
        answer_of(create)?;
        Ok(hub)
    }

    /// Starts the server again after [`Hub::kill9`], on new ports, with the store that it had.
    ///
    /// # Errors
    /// When it runs already or does not come up.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        if self.server.is_some() {
            bail!("the hub runs already");
        }
        let config = PathBuf::from(self.text("/config")?);
        self.server = Some(Server::start(&self.family, &config, &self.log).await?);
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it was not running.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.server.take().context("the hub is down already")?.kill9()
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
        ensure!(self.server.is_none(), "the hub must be down while its files are copied");
        family::copy_tree(&self.family, from, to)
    }

    /// Where leaf nodes connect, as long as it is not restarted.
    ///
    /// # Errors
    /// When it is down or has no such port.
    pub fn leafs(&self) -> anyhow::Result<SocketAddr> {
        self.running()?.leafs().context("the hub has no port for leaf nodes")
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

    fn running(&self) -> anyhow::Result<&Server> {
        self.server.as_ref().context("the hub is down")
    }

    fn text(&self, pointer: &str) -> anyhow::Result<&str> {
        let found = self.description.pointer(pointer).and_then(Value::as_str);
        found.with_context(|| format!("internal-hub-config printed no text at {pointer}"))
    }
}

fn answer_of(mut command: Command) -> anyhow::Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{command:?} ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
