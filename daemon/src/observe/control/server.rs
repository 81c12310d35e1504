//! The daemon's side of the control socket.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::conversation::Conversation;
use super::socket::Socket;
use super::{ControlError, VERSION};
use crate::observe::listen;
use crate::observe::state::{Board, HealthLimits};

/// How much one asker may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlLimits {
    /// Connections at once. A handful of people and scripts.
    pub connections: usize,
    /// Bytes of one request. The longest path, escaped, and some room.
    pub request: usize,
    /// How long a connection may be silent, and how long an answer may take to be read.
    pub patience: Duration,
}

impl Default for ControlLimits {
    fn default() -> Self {
        Self { connections: 16, request: 8192, patience: Duration::from_secs(10) }
    }
}

/// The bound control socket; `serve` is a core task.
#[derive(Debug)]
pub struct ControlServer {
    socket: Socket,
    conversation: Conversation,
}

impl ControlServer {
    /// Binds the socket: mode 0660, group [`super::GROUP`] where that exists.
    ///
    /// # Errors
    /// When another daemon answers there, something else has that name, or the file system
    /// refuses.
    pub fn bind(
        path: &Path,
        board: Arc<Board>,
        health: HealthLimits,
        limits: ControlLimits,
    ) -> Result<Self, ControlError> {
        Ok(Self {
            socket: Socket::bind(path)?,
            conversation: Conversation::new(board, health, limits),
        })
    }

    /// Answers until `stop`, then removes the socket.
    pub async fn serve(self, stop: CancellationToken) {
        let conversation = &self.conversation;
        listen::serve(
            "control socket",
            conversation.limits.connections,
            |context| self.socket.listener.poll_accept(context).map_ok(|(stream, _)| stream),
            |mut stream| async move {
                if let Err(error) = conversation.hold(&mut stream).await {
                    debug!(%error, "control connection ended");
                }
            },
            |stream| {
                conversation.board.counters.control_refused.one();
                turn_away(stream);
            },
            stop,
        )
        .await;
    }
}

/// Says "busy" without waiting: one short line fits into the buffer of a fresh socket.
fn turn_away(stream: UnixStream) {
    let line = format!(
        "{{\"v\":{VERSION},\"error\":{{\"kind\":\"busy\",\"text\":\"too many connections\"}}}}\n"
    );
    let _ = stream.try_write(line.as_bytes());
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
