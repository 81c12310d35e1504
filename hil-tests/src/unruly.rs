//! A gateway's certificate in the hands of somebody who keeps to no rule: a leaf of one account,
//! without permissions of its own, so that the hub's are all that there is.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::{Client, ConnectOptions, Message};

use crate::family::Family;
use crate::hub::Credentials;
use crate::server::Server;
use crate::wait;

/// How long the hub may take to answer one question.
const ANSWERED: Duration = Duration::from_secs(5);

/// Somebody at a leaf of their own.
#[derive(Debug)]
pub struct Unruly {
    client: Client,
    server: Server,
}

impl Unruly {
    /// Starts a leaf below `directory` that shows these credentials to the hub's server at `hub`;
    /// answers come to inboxes below `inbox`.
    ///
    /// # Errors
    /// When the leaf does not come up.
    pub async fn start(
        family: &Arc<Family>,
        directory: &Path,
        hub: SocketAddr,
        credentials: &Credentials,
        inbox: &str,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let Credentials { ca, cert, key } = credentials;
        let name = directory.file_name().unwrap_or_default();
        let text = format!(
            "server_name: {name:?}\nlisten: \"127.0.0.1:-1\"\nleafnodes {{ remotes: [ {{\n\
             urls: [\"tls://{hub}\"]\ncompression: s2_better\n\
             tls {{ ca_file: {ca:?}, cert_file: {cert:?}, key_file: {key:?} }} }} ] }}\n"
        );
        let config = directory.join("leaf.conf");
        std::fs::write(&config, text)?;
        let server = Server::start(family, &config, &directory.join("leaf.log")).await?;
        let options = ConnectOptions::new().custom_inbox_prefix(inbox);
        let client = options.connect(server.clients().to_string()).await.context("the leaf")?;
        Ok(Self { client, server })
    }

    /// Its connection to the leaf.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The answer to a question; `None` when there is none, or nobody to ask.
    pub async fn ask(&self, subject: &str, body: &str) -> Option<Message> {
        let asked = self.client.request(subject.to_owned(), body.to_owned().into());
        tokio::time::timeout(ANSWERED, asked).await.ok()?.ok()
    }

    /// [`Unruly::ask`] until there is an answer: the link has to be made first.
    ///
    /// # Errors
    /// When there is none soon.
    pub async fn ask_until_answered(&self, subject: &str, body: &str) -> anyhow::Result<Message> {
        wait::until(wait::SOON, &format!("an answer at {subject}"), || async {
            Ok(self.ask(subject, body).await)
        })
        .await
    }

    /// Asks, and has the answer sent to a subject of its choice.
    ///
    /// # Errors
    /// When the leaf is gone.
    pub async fn have_answered(&self, subject: &str, body: &str, to: &str) -> anyhow::Result<()> {
        let body = body.to_owned().into();
        self.client.publish_with_reply(subject.to_owned(), to.to_owned(), body).await?;
        Ok(self.client.flush().await?)
    }

    /// Ends its leaf in good order.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.server.stop().await.map(drop)
    }
}
