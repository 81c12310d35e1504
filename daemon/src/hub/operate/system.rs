//! Questions to the servers of a hub.

use std::time::Duration;

use async_nats::{Client, RequestErrorKind};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

/// How long a server may take. A request over a loaded WAN stays well below.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);

/// At most so many servers are listened to; a hub has one, three or five, and a global tier a few
/// more.
const SERVERS: usize = 256;

/// Why a hub could not be operated.
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

/// The system account of a hub, through one of its servers.
#[derive(Debug, Clone)]
pub struct System {
    client: Client,
}

/// What all servers said, and which of those that should be there said nothing.
#[derive(Debug)]
pub struct Gathered<T> {
    /// One answer of each server.
    pub answers: Vec<T>,
    /// Servers that were expected and silent.
    pub silent: Vec<String>,
}

/// What a server says of itself with every answer.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Said {
    /// Its name.
    pub(crate) name: String,
    /// Its id, another one after each start.
    pub(crate) id: String,
    /// Its version.
    #[serde(default)]
    pub(crate) ver: String,
    /// What its configuration calls it.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
}

/// The answer of one server.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Answer {
    pub(crate) server: Said,
    #[serde(default)]
    pub(crate) data: Value,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Debug, serde::Deserialize)]
struct Refusal {
    #[serde(default)]
    description: String,
}

impl System {
    /// Speaks over this connection, which must be a user's of the system account.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Asks all servers at once, and waits until those that are `expected` have answered, or the
    /// time is over. Others that answer meanwhile are heard as well.
    pub(super) async fn gather(
        &self,
        what: &'static str,
        body: &Value,
        expected: &[String],
    ) -> Result<Gathered<Answer>, OperateError> {
        let inbox = self.client.new_inbox();
        let mut heard =
            self.client.subscribe(inbox.clone()).await.map_err(|error| connection(what, error))?;
        let subject = format!("$SYS.REQ.SERVER.PING.{what}");
        self.client
            .publish_with_reply(subject, inbox, body.to_string().into())
            .await
            .map_err(|error| connection(what, error))?;
        let until = Instant::now() + DEADLINE;
        let mut answers: Vec<Answer> = Vec::new();
        let waits = |answers: &[Answer]| {
            expected.iter().any(|name| !answers.iter().any(|one| one.server.name == *name))
                || expected.is_empty()
        };
        while waits(&answers) && answers.len() < SERVERS {
            let Ok(Some(message)) = timeout_at(until, heard.next()).await else { break };
            if message.status.is_some() {
                return Err(OperateError::NotOperator);
            }
            let answer: Answer = serde_json::from_slice(&message.payload).map_err(|source| {
                OperateError::Unusable { server: "unknown".to_owned(), what, source }
            })?;
            if let Some(refusal) = answer.error {
                return Err(refused(&answer.server.name, what, &refusal.description));
            }
            answers.push(answer);
        }
        if answers.is_empty() {
            return Err(OperateError::NotOperator);
        }
        let silent = expected
            .iter()
            .filter(|name| !answers.iter().any(|answer| answer.server.name == **name));
        Ok(Gathered { silent: silent.cloned().collect(), answers })
    }

    /// Asks one server, known by its id.
    pub(super) async fn ask(
        &self,
        server: &str,
        id: &str,
        what: &'static str,
        body: &Value,
    ) -> Result<Answer, OperateError> {
        self.ask_within(DEADLINE, server, id, what, body).await
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
        let answer = tokio::time::timeout(deadline, asked).await.map_err(|_| silent())?;
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

pub(super) fn unusable(
    server: &str,
    what: &'static str,
    source: serde_json::Error,
) -> OperateError {
    OperateError::Unusable { server: server.to_owned(), what, source }
}

fn refused(server: &str, what: &'static str, said: &str) -> OperateError {
    let said = said.trim().chars().take(300).collect();
    OperateError::Refused { server: server.to_owned(), what, said }
}

pub(super) fn connection(
    what: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> OperateError {
    OperateError::Connection { what, source: Box::new(source) }
}
