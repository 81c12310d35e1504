//! Whether somebody else with our name is answered by the hub.
//!
//! A gateway may hear every inbox below its name, and every process has one of its own there. An
//! answer to another one was asked for by another process: most often a second device set up under
//! this name, which would otherwise be noticed only when INFO is read, every few minutes. It costs
//! nothing while there is none.
//!
//! # Invariants
//! - What is heard is a hint: it may be a late answer to an earlier run of ours. Nothing of it is
//!   read but its subject.
//! - It listens on a connection of its own: nats-server tells "nobody listens" to any one
//!   subscription of the asking connection that fits (2.15.1), which must be that of the question.
//! - Many answers are one hint, at most one in [`EVERY`]; until then they wait in the client's
//!   bounded queue, which drops what does not fit.

use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use tokio::time::Instant;

use crate::names::GatewayId;
use crate::subjects;

/// The shortest time from hint to hint.
const EVERY: Duration = Duration::from_secs(1);

/// An ear for answers to others.
#[derive(Debug)]
pub(super) struct Namesake {
    /// `None` when the client is closed.
    answers: Option<Subscriber>,
    own: String,
    next: Instant,
}

impl Namesake {
    /// Listens with `ear`, which asks nothing itself, for answers that are not `record`'s.
    pub(super) async fn listen(ear: &Client, record: &Client, gateway: &GatewayId) -> Self {
        let all = format!("{}.>", subjects::record_inbox(gateway));
        let answers = ear.subscribe(all).await.ok();
        Self { answers, own: own_prefix(&record.new_inbox()), next: Instant::now() }
    }

    /// Waits for an answer to somebody else. Cancel safe.
    pub(super) async fn heard(&mut self) {
        tokio::time::sleep_until(self.next).await;
        let Self { answers: Some(answers), own, .. } = self else {
            return std::future::pending().await;
        };
        while let Some(answer) = answers.next().await {
            if !answer.subject.as_str().starts_with(own.as_str()) {
                self.next = Instant::now() + EVERY;
                return;
            }
        }
        self.answers = None;
        std::future::pending().await
    }
}

/// What all inboxes of a connection begin with, from one of them: everything but its last token.
fn own_prefix(inbox: &str) -> String {
    inbox.rsplit_once('.').map(|(prefix, _)| format!("{prefix}.")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inboxes_of_one_connection_have_one_beginning_and_it_ends_at_a_token() {
        let own = own_prefix("_INBOX.P.g.record.12ab.NUID1");
        assert_eq!(own, "_INBOX.P.g.record.12ab.");
        assert!("_INBOX.P.g.record.12ab.NUID2.token".starts_with(&own));
        assert!(!"_INBOX.P.g.record.12abc.NUID1".starts_with(&own));
    }
}
