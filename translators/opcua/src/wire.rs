//! The connection below a session: dialling, what may come in, and keeping it going.
//!
//! # Invariants
//! - Every address that the host has is tried, and names the step that failed.
//! - No message larger than [`MAX_FRAME`] is ever buffered, whatever its header claims.
//! - A panic in the decoding of what a server sent closes the connection, nothing else.
//! - The clock of the server never decides when a channel's token is renewed: the age of a token
//!   counts from when it came in. Nor is it ever taken out of a timestamp.

use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use opcua::client::AsyncSecureChannel;
use opcua::client::transport::{
    Connector, RequestRecv, SecureChannelEventLoop, SecureChannelState, StreamConnection,
    StreamConnector, StreamTransport, TransportConfiguration, TransportPollResult,
};
use opcua::core::comms::tcp_codec::TcpCodec;
use opcua::types::{
    ChannelSecurityToken, DateTime, DecodingOptions, EndpointDescription, Error, StatusCode,
};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::FramedRead;

use crate::connect::{ConnectError, Stage, words};
use crate::spec::EndpointUrl;

/// The largest chunk that is asked for, and what the field's servers send at most.
pub(crate) const CHUNK: usize = 65_536;
/// The largest message, in all its chunks: a publish response of 100,000 values has 3 MiB.
pub(crate) const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// The most chunks of one message: servers with the smallest legal chunks of 8 KiB included.
pub(crate) const MAX_CHUNKS: usize = MAX_MESSAGE / 8_192;
/// The largest chunk that is taken: some servers do not keep to what was agreed.
const MAX_FRAME: u32 = 1024 * 1024;
/// Type, size and nothing else.
const FRAME_HEADER: usize = 8;
/// As much of an error message as is kept for a person.
const MAX_REASON: usize = 512;
/// What is read from the socket at once, at most.
const READ_BUFFER: usize = 32 * 1024;
/// A token that lives for less would be renewed all the time, one for more overflows the
/// arithmetic of the channel.
const TOKEN_LIFETIME: (u32, u32) = (10_000, 1_000_000_000);

/// What the other side said before it closed, or why its messages are not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastWords {
    pub(crate) status: StatusCode,
    pub(crate) reason: String,
}

type Words = Arc<Mutex<Option<LastWords>>>;

/// Opens a TCP connection to a server, trying every address of its host.
pub(crate) async fn dial(url: &EndpointUrl, timeout: Duration) -> Result<TcpStream, ConnectError> {
    let host = (url.host.as_str(), url.port);
    let resolve = tokio::time::timeout(timeout, tokio::net::lookup_host(host)).await;
    let addresses: Vec<_> = match resolve {
        Ok(Ok(addresses)) => addresses.take(16).collect(),
        Ok(Err(error)) => {
            let text = format!("the name {:?} cannot be resolved: {error}", url.host);
            return Err(ConnectError::new(Stage::Resolve, None, text));
        }
        Err(_) => {
            let text = format!("the name {:?} was not resolved within {timeout:?}", url.host);
            return Err(ConnectError::new(Stage::Resolve, None, text));
        }
    };
    let mut last = format!("the name {:?} has no address", url.host);
    let each = timeout / u32::try_from(addresses.len().clamp(1, 4)).unwrap_or(1);
    for address in addresses {
        match tokio::time::timeout(each, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // A request waits for its answer; holding it back for a fuller packet only costs.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address} did not answer within {each:?}"),
        }
    }
    Err(ConnectError::new(Stage::Tcp, None, last))
}

/// Hands a connection that is already open to the channel.
pub(crate) struct Dialled {
    stream: Mutex<Option<TcpStream>>,
    url: String,
    words: Words,
    state: Mutex<Option<Arc<SecureChannelState>>>,
}

impl Dialled {
    pub(crate) fn new(stream: TcpStream, url: &EndpointUrl) -> Self {
        Self {
            stream: Mutex::new(Some(stream)),
            url: url.to_string(),
            words: Words::default(),
            state: Mutex::new(None),
        }
    }

    /// Says hello and opens the secure channel.
    pub(crate) async fn open(
        self,
        channel: &AsyncSecureChannel,
        timeout: Duration,
    ) -> Result<Wire, (Stage, StatusCode, String)> {
        let opening = AssertUnwindSafe(channel.connect_no_retry(&self)).catch_unwind();
        let outcome = tokio::time::timeout(timeout, opening).await;
        let state = lock(&self.state).take();
        // The state is handed over before the hello, so it does not tell the stages apart; the
        // channel has a policy to fail by only when hello was answered.
        let said = lock(&self.words).take();
        let failed = |status: StatusCode, text: String| {
            let stage = if text.contains("ACK") { Stage::Hello } else { Stage::Channel };
            match said {
                Some(said) => (stage, said.status, said.reason),
                None => (stage, status, text),
            }
        };
        match (outcome, state) {
            (Ok(Ok(Ok(events))), Some(state)) => {
                let mut wire =
                    Wire { events, state, words: Arc::clone(&self.words), token: 0, closed: None };
                wire.mend_token();
                Ok(wire)
            }
            (Ok(Ok(Ok(_))), None) => Err(failed(StatusCode::BadInternalError, String::new())),
            (Ok(Ok(Err(error))), _) => Err(failed(error.status(), error.to_string())),
            (Ok(Err(_)), _) => {
                let text = "the answer cannot be decoded".to_owned();
                Err(failed(StatusCode::BadDecodingError, text))
            }
            (Err(_), _) => {
                Err(failed(StatusCode::BadTimeout, format!("no answer within {timeout:?}")))
            }
        }
    }
}

impl Connector for Dialled {
    type Transport = StreamTransport<Frames<OwnedReadHalf>, OwnedWriteHalf>;

    async fn connect(
        &self,
        channel: Arc<SecureChannelState>,
        outgoing: RequestRecv,
        config: TransportConfiguration,
    ) -> Result<Self::Transport, Error> {
        *lock(&self.state) = Some(Arc::clone(&channel));
        let take = |url: String, options: DecodingOptions| {
            let (stream, words) = (lock(&self.stream).take(), Arc::clone(&self.words));
            async move {
                let Some(stream) = stream else {
                    return Err(Error::new(StatusCode::BadConnectionClosed, "already used"));
                };
                let (read, write) = stream.into_split();
                let frames = Frames::new(read, words);
                let read = FramedRead::with_capacity(frames, TcpCodec::new(options), READ_BUFFER);
                Ok(StreamConnection::new(read, write, url))
            }
        };
        StreamConnector::new(take, self.url.clone()).connect(channel, outgoing, config).await
    }

    fn default_endpoint(&self) -> EndpointDescription {
        EndpointDescription::from(self.url.as_str())
    }
}

/// The connection of a channel. Requests move only while it is polled.
pub(crate) struct Wire {
    events: SecureChannelEventLoop<StreamTransport<Frames<OwnedReadHalf>, OwnedWriteHalf>>,
    state: Arc<SecureChannelState>,
    words: Words,
    token: u32,
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
            let polled = AssertUnwindSafe(self.events.poll()).catch_unwind().await;
            match polled {
                Ok(TransportPollResult::IncomingMessage) => self.mend_token(),
                Ok(TransportPollResult::Closed(status)) => self.end(status, ""),
                Ok(_) => {}
                Err(_) => self.end(StatusCode::BadDecodingError, "a message cannot be decoded"),
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

    fn end(&mut self, status: StatusCode, reason: &str) {
        let said = lock(&self.words).take();
        self.closed = Some(said.unwrap_or_else(|| LastWords {
            status,
            reason: if reason.is_empty() { closed_by(status) } else { reason.to_owned() },
        }));
    }

    /// A token's age counts from now, when it has just come in.
    fn mend_token(&mut self) {
        let secure_channel = self.state.secure_channel();
        if secure_channel.read().token_id() == self.token {
            return;
        }
        let mut secure_channel = secure_channel.write();
        self.token = secure_channel.token_id();
        let (least, most) = TOKEN_LIFETIME;
        let token = ChannelSecurityToken {
            channel_id: secure_channel.secure_channel_id(),
            token_id: self.token,
            created_at: DateTime::now(),
            revised_lifetime: secure_channel.token_lifetime().clamp(least, most),
        };
        secure_channel.set_security_token(token);
    }
}

fn closed_by(status: StatusCode) -> String {
    match status {
        StatusCode::Good | StatusCode::BadCommunicationError | StatusCode::BadConnectionClosed => {
            "the connection was closed".to_owned()
        }
        other => format!("the connection was closed ({})", words(other)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches the sizes of what comes in, and keeps the text of an error message.
pub(crate) struct Frames<R> {
    inner: R,
    words: Words,
    watch: Watch,
}

/// Where in the stream of messages the last byte was.
#[derive(Debug, Default)]
struct Watch {
    header: [u8; FRAME_HEADER],
    have: usize,
    /// Bytes of the message that are to come.
    left: u32,
    /// The body of an error message, when it is one.
    error: Option<Vec<u8>>,
}

/// A message that is not taken.
#[derive(Debug, PartialEq, Eq)]
struct TooLarge(u32);

impl Watch {
    /// Follows what came in. Gives the other side's last words when they are complete.
    fn follow(&mut self, mut bytes: &[u8]) -> Result<Option<LastWords>, TooLarge> {
        let mut said = None;
        while !bytes.is_empty() {
            if self.left == 0 {
                let take = (FRAME_HEADER - self.have).min(bytes.len());
                let (head, rest) = bytes.split_at(take);
                for (to, from) in self.header.iter_mut().skip(self.have).zip(head) {
                    *to = *from;
                }
                self.have += take;
                bytes = rest;
                if self.have < FRAME_HEADER {
                    break;
                }
                self.have = 0;
                let [a, b, c, _, size @ ..] = self.header;
                let size = u32::from_le_bytes(size);
                self.left = match size.checked_sub(8) {
                    Some(left) if size <= MAX_FRAME => left,
                    _ => return Err(TooLarge(size)),
                };
                self.error = ([a, b, c] == *b"ERR").then(Vec::new);
                continue;
            }
            let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            let (body, rest) = bytes.split_at(take);
            if let Some(error) = &mut self.error {
                let room = MAX_REASON.saturating_sub(error.len());
                error.extend(body.iter().take(room));
            }
            self.left -= u32::try_from(take).unwrap_or(self.left);
            bytes = rest;
            if self.left == 0 {
                said = self.error.take().as_deref().and_then(read_error).or(said);
            }
        }
        Ok(said)
    }
}

/// Reads the body of an error message: a status code and a text.
fn read_error(body: &[u8]) -> Option<LastWords> {
    let (status, rest) = body.split_first_chunk::<4>()?;
    let status = StatusCode::from(u32::from_le_bytes(*status));
    let text = rest.get(4..).unwrap_or_default();
    let text: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect();
    let reason = match text.trim() {
        "" => format!("the server says {}", words(status)),
        text => format!("the server says {}: {text}", words(status)),
    };
    Some(LastWords { status, reason })
}

impl<R> Frames<R> {
    fn new(inner: R, words: Words) -> Self {
        Self { inner, words, watch: Watch::default() }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Frames<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(context, buffer));
        if let Err(error) = read {
            let status = StatusCode::BadConnectionClosed;
            let reason = format!("the connection broke: {error}");
            lock(&self.words).get_or_insert(LastWords { status, reason });
            return Poll::Ready(Err(error));
        }
        let new = buffer.filled().get(before..).unwrap_or_default();
        match self.watch.follow(new) {
            Ok(None) => {}
            Ok(Some(said)) => *lock(&self.words) = Some(said),
            Err(TooLarge(size)) => {
                let status = StatusCode::BadTcpMessageTooLarge;
                let reason = format!("a message of {size} bytes is not taken");
                *lock(&self.words) = Some(LastWords { status, reason: reason.clone() });
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len() + FRAME_HEADER).unwrap();
        [kind.as_slice(), &size.to_le_bytes(), body].concat()
    }

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let stream =
            [frame(b"MSGF", &[7; 100]), frame(b"MSGC", &[]), frame(b"MSGF", &[1])].concat();
        for step in 1..stream.len() {
            let mut watch = Watch::default();
            for part in stream.chunks(step) {
                assert_eq!(watch.follow(part), Ok(None));
            }
            assert_eq!((watch.left, watch.have), (0, 0));
        }
    }

    #[test]
    fn a_message_larger_than_is_taken_is_refused_by_its_header_alone() {
        let mut header = b"MSGF".to_vec();
        header.extend((MAX_FRAME + 1).to_le_bytes());
        assert_eq!(Watch::default().follow(&header), Err(TooLarge(MAX_FRAME + 1)));
        assert_eq!(Watch::default().follow(b"MSGF\x07\0\0\0"), Err(TooLarge(7)));
    }

    #[test]
    fn the_text_of_an_error_message_is_kept() {
        let mut body = 0x807D_0000_u32.to_le_bytes().to_vec();
        body.extend(4_u32.to_le_bytes());
        body.extend(b"full");
        let said = Watch::default().follow(&frame(b"ERRF", &body)).unwrap().unwrap();
        assert_eq!(said.status.bits(), 0x807D_0000);
        assert!(said.reason.ends_with(": full"), "{}", said.reason);
    }
}
