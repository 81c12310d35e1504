//! The daemon's side of the control socket.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::protocol::{self, Answer, Ask, ErrorKind, Refusal, Response, TagQuery};
use super::socket::Socket;
use super::{ControlError, VERSION};
use crate::observe::listen;
use crate::observe::state::{Board, HealthLimits, MAX_PAGE, Pattern};

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

/// Tags in an answer when the question sets no limit.
const PAGE: usize = 1000;

/// The bound control socket; `serve` is a core task.
#[derive(Debug)]
pub struct ControlServer {
    socket: Socket,
    board: Arc<Board>,
    health: HealthLimits,
    limits: ControlLimits,
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
        Ok(Self { socket: Socket::bind(path)?, board, health, limits })
    }

    /// Answers until `stop`, then removes the socket.
    pub async fn serve(self, stop: CancellationToken) {
        listen::serve(
            "control socket",
            self.limits.connections,
            |context| self.socket.listener.poll_accept(context).map_ok(|(stream, _)| stream),
            |stream| self.converse(stream),
            |stream| {
                self.board.counters.control_refused.one();
                turn_away(stream);
            },
            stop,
        )
        .await;
    }

    /// Answers one connection until it ends, errs, or runs out of patience.
    async fn converse(&self, mut stream: UnixStream) {
        if let Err(error) = self.questions(&mut stream).await {
            debug!(%error, "control connection ended");
        }
    }

    async fn questions(&self, stream: &mut UnixStream) -> io::Result<()> {
        let patience = self.limits.patience;
        let mut read = Vec::new();
        loop {
            let line = match timeout(patience, self.line(stream, &mut read)).await?? {
                Line::Whole(line) => line,
                Line::End => return Ok(()),
                Line::TooLong => {
                    let text = format!("a request is at most {} bytes", self.limits.request);
                    let refusal = Refusal::new(ErrorKind::TooLong, text);
                    self.board.counters.control_errors.one();
                    return timeout(patience, send(stream, Answer::Error(refusal))).await?;
                }
            };
            let answer = match protocol::parse(&line) {
                Ok(ask) => self.answer(ask),
                Err(refusal) => {
                    self.board.counters.control_errors.one();
                    Answer::Error(refusal)
                }
            };
            timeout(patience, send(stream, answer)).await??;
        }
    }

    /// Reads up to the next line feed; what follows it stays in `read`.
    async fn line(&self, stream: &mut UnixStream, read: &mut Vec<u8>) -> io::Result<Line> {
        loop {
            if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = read.drain(..=end).collect();
                line.pop();
                return Ok(Line::Whole(line));
            }
            if read.len() >= self.limits.request {
                return Ok(Line::TooLong);
            }
            let room = self.limits.request - read.len();
            let mut chunk = (&mut *stream).take(u64::try_from(room).unwrap_or(u64::MAX));
            if chunk.read_buf(read).await? == 0 {
                return Ok(Line::End);
            }
        }
    }

    fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Status => Answer::Status(Box::new(self.board.report(&self.health))),
            Ask::Tags(TagQuery { pattern, after, limit }) => {
                let pattern = pattern.map_or_else(Pattern::all, |text| Pattern::new(&text));
                let limit = limit.unwrap_or(PAGE).min(MAX_PAGE);
                Answer::Tags(self.board.tags(&pattern, after.as_deref(), limit))
            }
        }
    }
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

async fn send(stream: &mut UnixStream, answer: Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Response::from(answer)).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line).await
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
