//! An authority as the product brings one along: `tidegate hub ca serve`, for gateways that come by
//! their certificate with a token.
//!
//! # Invariants
//! - The hub shows a certificate of this authority once it was told to, and admits gateways of it;
//!   the lab authority that the hub was made with is not believed by the gateway.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::family::{Family, Process};
use crate::{tools, wait};

/// An authority that serves EST.
#[derive(Debug)]
pub struct Authority {
    family: Arc<Family>,
    folder: PathBuf,
    url: String,
    pin: String,
    _process: Process,
}

impl Authority {
    /// Makes an authority in a folder and serves it at this address; port 0 takes a free one.
    ///
    /// # Errors
    /// When the binary refuses.
    pub async fn serving(
        family: &Arc<Family>,
        directory: &Path,
        listen: SocketAddr,
    ) -> anyhow::Result<Self> {
        let (folder, host) = (directory.join("authority"), listen.ip().to_string());
        let mut init = family.command(tools::gateway()?);
        init.args(["hub", "init", "--host", &host, "--dir"]).arg(&folder);
        let made = init.output()?;
        ensure!(made.status.success(), "hub init: {}", String::from_utf8_lossy(&made.stderr));
        let mut serve = family.command(tools::gateway()?);
        serve.args(["hub", "ca", "serve", "--json", "--host", &host, "--listen"]);
        serve.arg(listen.to_string()).arg("--dir").arg(&folder);
        let log = directory.join("authority.log");
        let mut process = Process::start(family, "hub ca serve", serve, &log)?;
        let said: Value = wait::until(wait::SOON, "EST is served", || {
            let said = process.printed_since(0);
            let ended = process.ended();
            async move {
                let said = said?;
                if let Some(status) = ended? {
                    bail!("hub ca serve ended ({status}): {said}");
                }
                let line = said.lines().find(|line| line.starts_with('{'));
                Ok(line.map(serde_json::from_str).transpose()?)
            }
        })
        .await?;
        let text = |key: &str| said[key].as_str().map(str::to_owned);
        Ok(Self {
            family: Arc::clone(family),
            folder,
            url: text("est").context("hub ca serve names no address")?,
            pin: text("pin").context("hub ca serve names no thumbprint")?,
            _process: process,
        })
    }

    /// Where it serves EST.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The thumbprint of its root.
    #[must_use]
    pub fn pin(&self) -> &str {
        &self.pin
    }

    /// A token for a gateway, good once.
    ///
    /// # Errors
    /// When the binary refuses.
    pub fn token(&self, gateway: &str) -> anyhow::Result<String> {
        let mut command = self.family.command(tools::gateway()?);
        command.args(["hub", "ca", "token", gateway, "--dir"]).arg(&self.folder);
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "hub ca token: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Puts its certificate for a hub in place of the one that a hub's configuration names, and its
    /// root beside those whom that hub trusts. The hub must be started again.
    ///
    /// # Errors
    /// When the configuration names none, or the files cannot be written.
    pub fn certify(&self, hub: &Path) -> anyhow::Result<()> {
        let config = std::fs::read_to_string(hub)?;
        let (cert, key) = (file_of(&config, "cert_file")?, file_of(&config, "key_file")?);
        std::fs::copy(self.folder.join("hub-1/cert.pem"), cert)?;
        std::fs::copy(self.folder.join("hub-1/key.pem"), key)?;
        let trusted = file_of(&config, "ca_file")?;
        let roots = std::fs::read_to_string(trusted)?;
        let own = std::fs::read_to_string(self.folder.join("ca.pem"))?;
        std::fs::write(trusted, roots + &own)?;
        Ok(())
    }
}

/// The path behind a key of a nats-server's configuration.
fn file_of<'c>(config: &'c str, key: &str) -> anyhow::Result<&'c Path> {
    let found = config.split_once(&format!("{key}: \"")).and_then(|(_, rest)| rest.split_once('"'));
    let (path, _) = found.with_context(|| format!("the hub's configuration has no {key}"))?;
    Ok(Path::new(path))
}
