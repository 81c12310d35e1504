//! The hub's daily work, and what may happen to one of its servers.

use std::process::Output;

use anyhow::Context as _;
use rcgen::ExtendedKeyUsagePurpose;

use super::PlannedHub;
use crate::hub::Credentials;
use crate::server::Server;
use crate::tools;

impl PlannedHub {
    /// `tidegate hub VERB …`, whatever it says.
    ///
    /// # Errors
    /// When the binary has not been built.
    pub fn command(&self, verb: &str, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = self.family.command(tools::gateway()?);
        command.args(["hub", verb]).args(args).arg("--dir").arg(&self.folder);
        Ok(command.output()?)
    }

    /// SIGKILL to one of its servers.
    ///
    /// # Errors
    /// When it is down.
    pub fn kill9(&mut self, at: usize) -> anyhow::Result<()> {
        self.nodes[at].server.take().context("the server is down")?.kill9()
    }

    /// Starts a server again that was killed.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_node(&mut self, at: usize) -> anyhow::Result<()> {
        let log = self.folder.join(format!("server-{at}.log"));
        let config = self.nodes[at].folder.join("nats-server.conf");
        self.nodes[at].server = Some(Server::start(&self.family, &config, &log).await?);
        Ok(())
    }

    /// Has one of its servers read its configuration again, by a signal.
    ///
    /// # Errors
    /// When it is down or refuses.
    pub async fn reload(&mut self, at: usize) -> anyhow::Result<()> {
        self.nodes[at].server.as_mut().context("the server is down")?.reload().await
    }

    /// A new certificate for one of its servers.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn server_papers(&self, name: &str) -> anyhow::Result<Credentials> {
        let file = |ending: &str| self.authority.dir.join(format!("server-{name}.{ending}"));
        let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let (cert, key) = (file("pem"), file("key"));
        self.authority.issue(name, "Rig hub", true, &both, &cert, &key)?;
        Ok(Credentials { ca: self.authority.ca.clone(), cert, key })
    }
}
