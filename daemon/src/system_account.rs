//! Questions to one nats-server over its system account: the gateway's own leaf, or a hub's.
//!
//! # Invariants
//! - An answer is a server's own: whoever asks knows it by its id, which is another one after each
//!   start.
//! - What a server says of a refusal is passed on in its words, and no more than a line of them.

use std::time::Duration;

use async_nats::{Client, RequestErrorKind};
use serde_json::Value;
use tokio::time::timeout;

/// Why a server could not be operated.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// The user is not of the system account.
    #[error(
        "no server answers over the system account; log in as the hub's operator (users/operator.pem and .key in its folder)"
    )]
    NotOperator,
    /// A server says nothing.
    #[error("server {server} did not answer to {what} within {deadline:?}")]
    Silent {
        /// Which one, by its name or its id.
        server: String,
        /// What was asked.
        what: &'static str,
        /// How long it was given.
        deadline: Duration,
    },
    /// A server says no.
    #[error("server {server} refused {what}: {said}")]
    Refused {
        /// Which one, by its name or its id.
        server: String,
        /// What was asked.
        what: &'static str,
        /// In its words.
        said: String,
    },
    /// A server answers something else.
    #[error(
        "server {server} answered {what} in a way that is not understood; see that it runs 2.14 or newer"
    )]
    Unusable {
        /// Which one, by its name or its id.
        server: String,
        /// What was asked.
        what: &'static str,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// The connection failed.
    #[error("cannot ask the hub for {what}")]
    Connection {
        /// What was asked.
        what: &'static str,
        /// What the client said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The system account of a leaf, or of a hub through one of its servers.
#[derive(Debug, Clone)]
pub struct System {
    pub(crate) client: Client,
}

/// What a server says of itself with every answer.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Said {
    /// Its name.
    pub name: String,
    /// Its id, another one after each start.
    pub id: String,
    /// Its version.
    #[serde(default)]
    pub ver: String,
    /// What its configuration calls it.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// The answer of one server.
#[derive(Debug, serde::Deserialize)]
pub struct Answer {
    /// Which one.
    pub server: Said,
    /// What it says.
    #[serde(default)]
    pub data: Value,
    #[serde(default)]
    pub(crate) error: Option<Refusal>,
}

#[derive(Debug, serde::Deserialize)]
pub(crate) struct Refusal {
    #[serde(default)]
    pub(crate) description: String,
}

impl System {
    /// Speaks over this connection, which must be a user's of the system account.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Asks one server, known by its id, and gives it this long.
    pub(crate) async fn ask_within(
        &self,
        deadline: Duration,
        server: &str,
        id: &str,
        what: &'static str,
        body: &Value,
    ) -> Result<Answer, OperateError> {
        let subject = format!("$SYS.REQ.SERVER.{id}.{what}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let silent = || OperateError::Silent { server: server.to_owned(), what, deadline };
        let asked = self.client.request(subject, body.into());
        let answer = timeout(deadline, asked).await.map_err(|_| silent())?;
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::TimedOut | RequestErrorKind::NoResponders => silent(),
            _ => connection(what, error),
        })?;
        let answer: Answer = serde_json::from_slice(&answer.payload)
            .map_err(|source| unusable(server, what, source))?;
        match answer.error {
            Some(refusal) => Err(refused(server, what, &refusal.description)),
            None => Ok(answer),
        }
    }
}

pub(crate) fn unusable(
    server: &str,
    what: &'static str,
    source: serde_json::Error,
) -> OperateError {
    OperateError::Unusable { server: server.to_owned(), what, source }
}

pub(crate) fn refused(server: &str, what: &'static str, said: &str) -> OperateError {
    let said = said.trim().chars().take(300).collect();
    OperateError::Refused { server: server.to_owned(), what, said }
}

pub(crate) fn connection(
    what: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> OperateError {
    OperateError::Connection { what, source: Box::new(source) }
}
