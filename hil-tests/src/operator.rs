//! The hub's operator: asks all servers at once over the system account, and cuts connections.
//!
//! # Invariants
//! - An answer counts only when each of the servers gave one.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::Client;
use futures_util::StreamExt as _;
use serde_json::Value;

use crate::hub::Hub;
use crate::stream;

/// How long all servers together may take to answer.
const ANSWERED: Duration = Duration::from_secs(5);

/// The operator's name and password.
const OPERATOR: (&str, &str) = ("rig-operator", "rig-operator");

/// A gateway's link, as one of the servers sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The name of the leaf.
    pub leaf: String,
    /// The server's id.
    pub server: String,
    /// The connection's number there.
    pub number: u64,
    /// How many subscriptions the server has for it.
    pub subscriptions: u64,
}

impl Link {
    /// Whether it is the same connection, whatever is subscribed to over it.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.server == other.server && self.number == other.number
    }
}

/// A connection of the operator.
#[derive(Debug)]
pub struct Operator {
    client: Client,
    servers: usize,
}

/// Adds the operator to a server's configuration.
#[must_use]
pub fn admitted(text: &str) -> String {
    let (name, password) = OPERATOR;
    let user = format!("{{ user: {name:?}, password: {password:?} }}");
    let (before, after) = text.split_once("  SYS {").unwrap_or((text, ""));
    format!("{before}  SYS {{{}", after.replacen("users: [", &format!("users: [\n{user}"), 1))
}

impl Operator {
    /// Logs in to a hub whose servers all have [`admitted`] it.
    ///
    /// # Errors
    /// When the hub is down or refuses.
    pub async fn of(hub: &Hub) -> anyhow::Result<Self> {
        let (name, password) = OPERATOR;
        let url = format!("nats://{name}:{password}@{}", hub.clients()?);
        Ok(Self { client: stream::connect(&url).await?, servers: hub.servers() })
    }

    /// All links of gateways, with the id of the server that each one leads to.
    ///
    /// # Errors
    /// When a server does not answer.
    pub async fn links(&self) -> anyhow::Result<Vec<Link>> {
        let mut links = Vec::new();
        for answer in self.ask_all("LEAFZ").await? {
            let server = answer["server"]["id"].as_str().context("no server id")?;
            for leaf in answer["data"]["leafs"].as_array().into_iter().flatten() {
                // One that is being made has no name yet.
                let Some(name) = leaf["name"].as_str().filter(|name| !name.is_empty()) else {
                    continue;
                };
                links.push(Link {
                    leaf: name.to_owned(),
                    server: server.to_owned(),
                    number: leaf["id"].as_u64().with_context(|| format!("no id: {leaf}"))?,
                    subscriptions: leaf["subscriptions"].as_u64().unwrap_or_default(),
                });
            }
        }
        links.sort();
        Ok(links)
    }

    /// Cuts a link.
    ///
    /// # Errors
    /// When its server does not answer.
    pub async fn kick(&self, link: &Link) -> anyhow::Result<()> {
        let subject = format!("$SYS.REQ.SERVER.{}.KICK", link.server);
        let body = serde_json::json!({ "cid": link.number }).to_string();
        let asked = self.client.request(subject, body.into());
        tokio::time::timeout(ANSWERED, asked).await.context("no answer to KICK")??;
        Ok(())
    }

    /// One answer of each server.
    async fn ask_all(&self, what: &str) -> anyhow::Result<Vec<Value>> {
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await?;
        let subject = format!("$SYS.REQ.SERVER.PING.{what}");
        let body = serde_json::json!({ "limit": 10_000 }).to_string();
        self.client.publish_with_reply(subject, inbox, body.into()).await?;
        let mut all = Vec::new();
        let collect = async {
            while all.len() < self.servers {
                let Some(answer) = answers.next().await else { break };
                all.push(serde_json::from_slice(&answer.payload)?);
            }
            anyhow::Ok(())
        };
        // Whoever is missing then is counted below.
        if let Ok(collected) = tokio::time::timeout(ANSWERED, collect).await {
            collected?;
        }
        ensure!(all.len() == self.servers, "{} of {} answered {what}", all.len(), self.servers);
        Ok(all)
    }
}
