//! The daemon's own connections to its leaf.
//!
//! # Invariants
//! - Every buffer has a bound; a full one makes the caller wait.
//! - A connection never gives up: a leaf that is away comes back.
//! - What is published while the leaf is away is sent when it is back. Whoever must not send old
//!   news as new asks for the connection's state first.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};

use super::credentials::Credentials;
use crate::names::GatewayId;
use crate::subjects;

/// Commands that wait for the socket.
const COMMANDS: usize = 256;
/// Messages that wait for a subscriber: answers and questions come one by one.
const MESSAGES: usize = 1_024;
/// Messages that wait while new tags are numbered, which takes a write to the disk.
const FED: usize = 16_384;
/// A leaf on this machine that does not answer a ping within this time is dead.
const PING_EVERY: Duration = Duration::from_secs(10);
/// The longest wait between attempts: the leaf starts in milliseconds.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Which of the daemon's users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LocalRole {
    /// Live values.
    Live,
    /// Questions, with the same rights over a connection of their own.
    Questions,
    /// The record.
    Record,
    /// What local applications publish.
    Ingest,
    /// The system account of a leaf that is a service of its own.
    System,
}

/// What it takes to connect to the own leaf.
#[derive(Debug, Clone)]
pub struct LocalAccess {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whose leaf it is; answers come to an inbox that belongs to it.
    pub gateway: GatewayId,
    /// The passwords.
    pub credentials: Arc<Credentials>,
}

/// Why there is no connection object; a leaf that is away is no error.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to the leaf at {address}")]
pub struct ConnectError {
    address: SocketAddr,
    #[source]
    source: async_nats::ConnectError,
}

impl LocalAccess {
    /// Connects in the background and returns at once; `on_event` hears when the connection
    /// stands or falls. Requests have no deadline of their own: callers set one each.
    ///
    /// # Errors
    /// When the library refuses the address; never because the leaf is away.
    pub async fn connect<F, Fut>(
        &self,
        role: LocalRole,
        on_event: F,
    ) -> Result<Client, ConnectError>
    where
        F: Fn(Event) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + Sync + 'static,
    {
        let (user, password, name) = match role {
            LocalRole::Live => (Credentials::LIVE_USER, self.credentials.live(), "tidegate live"),
            LocalRole::Questions => {
                (Credentials::LIVE_USER, self.credentials.live(), "tidegate questions")
            }
            LocalRole::Record => {
                (Credentials::RECORD_USER, self.credentials.record(), "tidegate record")
            }
            LocalRole::Ingest => {
                (Credentials::INGEST_USER, self.credentials.live(), "tidegate ingest")
            }
            LocalRole::System => {
                (Credentials::SYSTEM_USER, self.credentials.system(), "tidegate system")
            }
        };
        // One for each process: what comes to another one shows that somebody else has our name.
        let own = crate::recorder::random_id();
        let inbox = match role {
            LocalRole::Live | LocalRole::Questions => {
                format!("{}.live.{own:x}", subjects::inbox(&self.gateway))
            }
            LocalRole::Record => format!("{}.{own:x}", subjects::record_inbox(&self.gateway)),
            // Nothing is asked by it.
            LocalRole::Ingest => format!("{}.ingest.{own:x}", subjects::inbox(&self.gateway)),
            LocalRole::System => format!("{}.system.{own:x}", subjects::inbox(&self.gateway)),
        };
        let messages = match role {
            LocalRole::Live | LocalRole::Questions | LocalRole::Record | LocalRole::System => {
                MESSAGES
            }
            LocalRole::Ingest => FED,
        };
        ConnectOptions::new()
            .name(name)
            .user_and_password(user.to_owned(), password.to_owned())
            .custom_inbox_prefix(inbox)
            .client_capacity(COMMANDS)
            .subscription_capacity(messages)
            .ping_interval(PING_EVERY)
            .request_timeout(None)
            .retry_on_initial_connect()
            .max_reconnects(None)
            .ignore_discovered_servers()
            .reconnect_delay_callback(wait_before)
            .event_callback(on_event)
            .connect(self.address.to_string())
            .await
            .map_err(|source| ConnectError { address: self.address, source })
    }
}

/// 50 ms, doubled up to [`LONGEST_WAIT`].
fn wait_before(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(8);
    (Duration::from_millis(50) * (1 << doublings)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_between_attempts_grow_to_a_cap() {
        let waits: Vec<_> = (0..8).map(|n| wait_before(n).as_millis()).collect();
        assert_eq!(waits, [50, 50, 100, 200, 400, 800, 1_600, 2_000]);
        assert_eq!(wait_before(usize::MAX), LONGEST_WAIT);
    }
}
