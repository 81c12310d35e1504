//! The greeting: who speaks first, and how much each side takes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use opcua::client::transport::{
    Connector, RequestRecv, SecureChannelState, TransportConfiguration,
};
use opcua::core::comms::tcp_types::{HelloMessage, MIN_CHUNK_SIZE};
use opcua::types::{EndpointDescription, Error, SimpleBinaryEncodable as _, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::channel::Channel;
use super::frame::{self, Frame, HEADER, LastWords};
use super::{CHUNK, MAX_CHUNKS, MAX_MESSAGE, Words, lock};
use crate::connect::{ConnectError, Stage};

/// What is read from the socket at once, at most.
pub(super) const READ: usize = 32 * 1024;

/// What the server takes from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Takes {
    /// The largest chunk.
    pub(super) chunk: usize,
    /// The largest message; none is too large when it is zero.
    pub(super) message: usize,
    /// The most chunks of a message; any number when it is zero.
    pub(super) chunks: usize,
}

/// A connection on which both sides said hello, to be handed to a channel.
pub(crate) struct Greeted<R, W> {
    url: String,
    words: Words,
    parts: Mutex<Option<Parts<R, W>>>,
}

pub(super) struct Parts<R, W> {
    pub(super) reader: R,
    pub(super) writer: W,
    /// What was read beyond the greeting.
    pub(super) read: BytesMut,
    pub(super) takes: Takes,
}

/// Says hello, and hears what the server takes.
///
/// # Errors
/// When the server refuses, closes, is silent, is no OPC UA server, or takes less than the
/// smallest legal chunk.
pub(crate) async fn greet<R, W>(
    reader: R,
    writer: W,
    url: &str,
    within: Duration,
) -> Result<Greeted<R, W>, ConnectError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let parts = match tokio::time::timeout(within, exchange(reader, writer, url)).await {
        Ok(Ok(parts)) => parts,
        Ok(Err(Refused::Said(said))) => {
            return Err(ConnectError::refused(Stage::Hello, said.status, &said.reason));
        }
        Ok(Err(Refused::Odd(text))) => return Err(ConnectError::new(Stage::Hello, None, text)),
        Err(_) => {
            let text = format!("nothing was heard within {within:?}");
            return Err(ConnectError::refused(Stage::Hello, StatusCode::BadTimeout, &text));
        }
    };
    Ok(Greeted { url: url.to_owned(), words: Words::default(), parts: Mutex::new(Some(parts)) })
}

enum Refused {
    Said(LastWords),
    Odd(String),
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        Self::Odd(format!("the connection broke: {error}"))
    }
}

async fn exchange<R, W>(mut reader: R, mut writer: W, url: &str) -> Result<Parts<R, W>, Refused>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let hello = HelloMessage::new(url, CHUNK, CHUNK, MAX_MESSAGE, MAX_CHUNKS);
    writer.write_all(&hello.encode_to_vec()).await?;
    writer.flush().await?;
    let mut read = BytesMut::with_capacity(READ);
    loop {
        let frame = frame::next(&mut read).map_err(|said| Refused::Odd(said.reason))?;
        match frame {
            Some(Frame::Acknowledge(frame)) => {
                let takes = takes(frame)?;
                return Ok(Parts { reader, writer, read, takes });
            }
            Some(Frame::Error(said)) => return Err(Refused::Said(said)),
            Some(Frame::Chunk(_) | Frame::Close) => {
                return Err(Refused::Odd("it answers without a greeting".to_owned()));
            }
            None => {}
        }
        if reader.read_buf(&mut read).await? == 0 {
            return Err(Refused::Odd("the server closed the connection".to_owned()));
        }
    }
}

/// Reads what the server takes. Whatever version it has is well: there is one.
fn takes(frame: Bytes) -> Result<Takes, Refused> {
    let mut body = frame.slice(HEADER.min(frame.len())..);
    let mut number = || body.try_get_u32_le().ok().and_then(|number| usize::try_from(number).ok());
    let (_version, chunk, _sends, message, chunks) =
        (number(), number(), number(), number(), number());
    let (Some(chunk), Some(message), Some(chunks)) = (chunk, message, chunks) else {
        return Err(Refused::Odd("its greeting is cut short".to_owned()));
    };
    if chunk < MIN_CHUNK_SIZE {
        return Err(Refused::Odd(format!(
            "it takes chunks of {chunk} bytes; less than {MIN_CHUNK_SIZE} is not legal"
        )));
    }
    Ok(Takes { chunk, message, chunks })
}

impl<R, W> Greeted<R, W> {
    /// Where the channel will leave what was said last.
    pub(crate) fn words(&self) -> Words {
        Arc::clone(&self.words)
    }
}

impl<R, W> Connector for Greeted<R, W>
where
    R: AsyncRead + Unpin + Send + Sync + 'static,
    W: AsyncWrite + Unpin + Send + Sync + 'static,
{
    type Transport = Channel<R, W>;

    async fn connect(
        &self,
        state: Arc<SecureChannelState>,
        requests: RequestRecv,
        config: TransportConfiguration,
    ) -> Result<Channel<R, W>, Error> {
        let Some(parts) = lock(&self.parts).take() else {
            return Err(Error::new(StatusCode::BadConnectionClosed, "already used"));
        };
        Ok(Channel::new(self.url.clone(), self.words(), parts, state, requests, &config))
    }

    fn default_endpoint(&self) -> EndpointDescription {
        EndpointDescription::from(self.url.as_str())
    }
}
