//! One conversation on the control socket, over any byte stream.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::protocol::{self, Answer, Ask, ErrorKind, FaultQuery, Refusal, Response, TagQuery};
use super::server::ControlLimits;
use crate::observe::state::{Board, HealthLimits, MAX_PAGE, Pattern};

/// Tags in an answer when the question sets no limit.
const PAGE: usize = 1000;

/// What the daemon says to whoever asks.
#[derive(Debug)]
pub struct Conversation {
    pub(super) board: Arc<Board>,
    health: HealthLimits,
    pub(super) limits: ControlLimits,
}

impl Conversation {
    /// Answers from this board.
    #[must_use]
    pub const fn new(board: Arc<Board>, health: HealthLimits, limits: ControlLimits) -> Self {
        Self { board, health, limits }
    }

    /// Answers one connection until the asker ends it.
    ///
    /// # Errors
    /// When the connection breaks, or the limits' patience is over.
    pub async fn hold<S>(&self, stream: &mut S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
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
                Err(refusal) => Answer::Error(refusal),
            };
            if matches!(answer, Answer::Error(_)) {
                self.board.counters.control_errors.one();
            }
            timeout(patience, send(stream, answer)).await??;
        }
    }

    /// Reads up to the next line feed; what follows it stays in `read`.
    async fn line<S>(&self, stream: &mut S, read: &mut Vec<u8>) -> io::Result<Line>
    where
        S: AsyncRead + Unpin,
    {
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
            Ask::Faults(FaultQuery { device }) => match self.board.faults(&device) {
                Some(faults) => Answer::Faults(faults),
                None => {
                    let text = format!(
                        "no device {device:?} is configured; \"tidegate status\" lists them"
                    );
                    Answer::Error(Refusal::new(ErrorKind::UnknownDevice, text))
                }
            },
        }
    }
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, answer: Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Response::from(answer)).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line).await
}
