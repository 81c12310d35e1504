//! A hub as a pilot sets it up by the manual: `hub init` with an authority of its own, `hub ca serve`
//! beside it, and gateways let in by `hub admit`.
//!
//! # Invariants
//! - Every port is reserved for as long as the hub exists.
//! - Nothing but the binary writes into its folder.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::net::TcpSocket;

use crate::family::{Family, Process};
use crate::hub::Credentials;
use crate::reader::Door;
use crate::server::Server;
use crate::{tools, wait, wan};

/// A hub and its authority, both running.
#[derive(Debug)]
pub struct Pilot {
    family: Arc<Family>,
    folder: PathBuf,
    server: Option<Server>,
    client: SocketAddr,
    leafs: SocketAddr,
    authority: Process,
    est: SocketAddr,
    pin: String,
    _ports: [TcpSocket; 2],
}

impl Pilot {
    /// Sets it up and starts it; gateways see it at `seen_at`.
    ///
    /// # Errors
    /// When the binary refuses, or a server does not come up.
    pub async fn start(
        family: &Arc<Family>,
        folder: &Path,
        seen_at: IpAddr,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let reserve = || wan::reserve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let ports = [reserve()?, reserve()?];
        let (client, leafs) = (ports[0].local_addr()?, ports[1].local_addr()?);
        let hub = folder.join("hub");
        let mut init = family.command(tools::gateway()?);
        init.args(["hub", "init", "--listen", "127.0.0.1", "--store-dir", "store"]);
        init.args(["--host", &format!("127.0.0.1,{seen_at}")]);
        init.args(["--client-port", &client.port().to_string()]);
        init.args(["--leaf-port", &leafs.port().to_string()]).arg("--dir").arg(&hub);
        told(init)?;
        let mut serve = family.command(tools::gateway()?);
        serve.args(["hub", "ca", "serve", "--listen", "127.0.0.1:0", "--json"]);
        serve.args(["--host", &seen_at.to_string()]).arg("--dir").arg(&hub);
        let log = folder.join("authority.log");
        let authority = Process::start(family, "the hub's authority", serve, &log)?;
        let serving = wait::until(wait::SOON, "the authority says where it is", || {
            let said = authority.printed_since(0);
            async move {
                let said = said?;
                let line = said.lines().find(|line| line.starts_with('{') && line.ends_with('}'));
                Ok(line.map(serde_json::from_str::<Value>).transpose()?)
            }
        })
        .await?;
        let text = |key: &str| serving[key].as_str().with_context(|| format!("no {key}"));
        let (_, port) = text("est")?.rsplit_once(':').context("no port in the authority's URL")?;
        let est = SocketAddr::from((Ipv4Addr::LOCALHOST, port.trim_end_matches('/').parse()?));
        let pin = text("pin")?.to_owned();
        let mut pilot = Self {
            family: Arc::clone(family),
            folder: hub,
            server: None,
            client,
            leafs,
            authority,
            est,
            pin,
            _ports: ports,
        };
        pilot.switch_on().await?;
        wait::until(wait::SOON, "the hub makes its streams", || {
            let made = pilot.operate(&["apply", "--streams"]);
            async move { Ok(made.ok()) }
        })
        .await?;
        Ok(pilot)
    }

    async fn switch_on(&mut self) -> anyhow::Result<()> {
        let config = self.folder.join("hub-1/nats-server.conf");
        let log = self.folder.with_extension("log");
        self.server = Some(Server::start(&self.family, &config, &log).await?);
        Ok(())
    }

    /// Lets a gateway in; returns the token with which it enrols.
    ///
    /// # Errors
    /// When the binary refuses.
    pub fn admit(&self, gateway: &str, prefix: &str) -> anyhow::Result<String> {
        self.operate(&["admit", gateway, "--prefix", prefix])?;
        self.token(gateway)
    }

    /// Whether it has let a gateway in.
    ///
    /// # Errors
    /// When its `hub.toml` cannot be read.
    pub fn admits(&self, gateway: &str) -> anyhow::Result<bool> {
        let text = std::fs::read_to_string(self.folder.join("hub.toml"))?;
        Ok(text.contains(&format!("id = \"{gateway}\"")))
    }

    /// A token of a single use.
    ///
    /// # Errors
    /// When the binary refuses.
    pub fn token(&self, gateway: &str) -> anyhow::Result<String> {
        Ok(self.operate(&["ca", "token", gateway])?.trim().to_owned())
    }

    /// `tidegate hub …` in its folder: what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn operate(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = self.family.command(tools::gateway()?);
        command.arg("hub").args(words).arg("--dir").arg(&self.folder);
        told(command)
    }

    /// Where gateways connect.
    #[must_use]
    pub const fn leafs(&self) -> SocketAddr {
        self.leafs
    }

    /// Where the authority is.
    #[must_use]
    pub const fn est(&self) -> SocketAddr {
        self.est
    }

    /// The SHA-256 of the authority's root.
    #[must_use]
    pub fn pin(&self) -> &str {
        &self.pin
    }

    /// How the reader gets in.
    #[must_use]
    pub fn door(&self) -> Door {
        let user = |ending: &str| self.folder.join(format!("users/reader.{ending}"));
        let (ca, cert, key) = (self.folder.join("ca.pem"), user("pem"), user("key"));
        let url = format!("tls://{}", self.client);
        Door { url, papers: Some(Credentials { ca, cert, key }) }
    }

    /// What the authority has said.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn authority_said(&self) -> anyhow::Result<String> {
        self.authority.printed_since(0)
    }
}

fn told(mut command: Command) -> anyhow::Result<String> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ({}): {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
