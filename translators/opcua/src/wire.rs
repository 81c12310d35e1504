//! The connection below a session, and keeping it going.
//!
//! # Invariants
//! - Requests move only while somebody polls; nothing runs beside.
//! - When the connection closes, what is still asked for fails at once, and why is kept.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use opcua::client::AsyncSecureChannel;
use opcua::client::transport::{SecureChannelEventLoop, TransportPollResult};
use opcua::types::StatusCode;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::connect::{ConnectError, words};
use crate::spec::EndpointUrl;
use crate::transport::{Channel, Greeted, LastWords, Words, dial, greet, lock};

/// A server that was dialled and greeted; the secure channel is still to be opened.
pub(crate) struct Dialled(Greeted<OwnedReadHalf, OwnedWriteHalf>);

impl Dialled {
    /// Dials a server and says hello.
    pub(crate) async fn new(url: &EndpointUrl, timeout: Duration) -> Result<Self, ConnectError> {
        let (read, write) = dial(url, timeout).await?.into_split();
        greet(read, write, &url.to_string(), timeout).await.map(Self)
    }

    /// Opens the secure channel.
    pub(crate) async fn open(
        self,
        channel: &AsyncSecureChannel,
        timeout: Duration,
    ) -> Result<Wire, (StatusCode, String)> {
        let words = self.0.words();
        let opening = channel.connect_no_retry(&self.0);
        let failure = match tokio::time::timeout(timeout, opening).await {
            Ok(Ok(events)) => return Ok(Wire { events, words, closed: None }),
            Ok(Err(error)) => (error.status(), error.to_string()),
            Err(_) => (StatusCode::BadTimeout, format!("no answer within {timeout:?}")),
        };
        Err(lock(&words).take().map_or(failure, |said| (said.status, said.reason)))
    }
}

/// The connection of a channel. Requests move only while it is polled.
pub(crate) struct Wire {
    events: SecureChannelEventLoop<Channel<OwnedReadHalf, OwnedWriteHalf>>,
    words: Words,
    closed: Option<LastWords>,
}

impl Wire {
    /// Keeps the connection going until it closes, and says why it did.
    ///
    /// Cancel safety: nothing is lost when the future is dropped; the next one goes on.
    pub(crate) async fn closed(&mut self) -> LastWords {
        loop {
            if let Some(closed) = &self.closed {
                return closed.clone();
            }
            if let TransportPollResult::Closed(status) = self.events.poll().await {
                let said = lock(&self.words).take();
                let reason = || format!("the connection was closed ({})", words(status));
                self.closed = Some(said.unwrap_or_else(|| LastWords { status, reason: reason() }));
            }
        }
    }

    /// Keeps the connection going while `work` uses it. When it closes, what is still asked for
    /// fails at once.
    pub(crate) async fn serve<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            output = &mut work => return output,
            _ = self.closed() => {}
        }
        work.await
    }
}
