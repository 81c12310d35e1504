//! Questions to all servers of a hub at once.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::system_account::{Answer, OperateError, System, connection, refused};

/// How long a server may take. A request over a loaded WAN stays well below.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);

/// At most so many servers are listened to; a hub has one, three or five, and a global tier a few
/// more.
const SERVERS: usize = 256;

/// What all servers said, and which of those that should be there said nothing.
#[derive(Debug)]
pub struct Gathered<T> {
    /// One answer of each server.
    pub answers: Vec<T>,
    /// Servers that were expected and silent.
    pub silent: Vec<String>,
}

impl System {
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
}
