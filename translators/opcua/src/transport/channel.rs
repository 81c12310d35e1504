//! A channel that is polled: requests go out, responses come in.
//!
//! # Invariants
//! - [`Transport::poll`] may be dropped at any time: what it did is done, what it did not do is
//!   done by the next. It awaits one thing at a time, and never after it took something.
//! - While the channel is being renewed nothing is read before all that is sealed with the old
//!   keys is out, so no chunk is sealed with keys that its header does not name.
//! - The end comes once, and is told to all who wait.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use opcua::client::transport::{
    OutgoingMessage, RequestRecv, SecureChannelState, Transport, TransportConfiguration,
    TransportPollResult,
};
use opcua::core::comms::buffer::SendBuffer;
use opcua::core::{RequestMessage, ResponseMessage};
use opcua::sync::RwLock;
use opcua::types::{ContextOwned, Error, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::Instant;

use super::frame::{self, Frame, LastWords};
use super::greet::{Parts, READ};
use super::pending::{Collected, Pending};
use super::seal::{self, Numbers};
use super::{Words, decode, lock};

/// The most chunks of a request: 16 MiB in the smallest legal ones would be 2,048, but no request
/// here is larger than a megabyte.
const MAX_SENT: usize = 256;

/// A connection as the channel above sees it.
pub(crate) struct Channel<R, W> {
    url: String,
    words: Words,
    state: Arc<SecureChannelState>,
    context: Arc<RwLock<ContextOwned>>,
    requests: RequestRecv,
    pending: Pending,
    numbers: Numbers,
    reader: R,
    writer: W,
    read: BytesMut,
    send: SendBuffer,
    /// The farewell is on its way; what comes after it is not waited for.
    leaving: bool,
    closed: Option<StatusCode>,
}

/// What there was to do.
enum Event {
    Sent(std::io::Result<()>),
    Asked(Option<OutgoingMessage>),
    Read(std::io::Result<usize>),
    Late,
}

impl<R, W> Channel<R, W> {
    pub(super) fn new(
        url: String,
        words: Words,
        parts: Parts<R, W>,
        state: Arc<SecureChannelState>,
        requests: RequestRecv,
        config: &TransportConfiguration,
    ) -> Self {
        let Parts { reader, writer, read, takes } = parts;
        let (legacy, context) = {
            let channel = state.secure_channel().read();
            (channel.security_policy().legacy_sequence_numbers(), channel.context_arc())
        };
        let (size, most) = (config.send_buffer_size, config.max_message_size);
        let mut send = SendBuffer::new(size, most, MAX_SENT, legacy);
        send.revise(takes.chunk, takes.message, takes.chunks);
        Self {
            url,
            words,
            state,
            context,
            requests,
            pending: Pending::default(),
            numbers: Numbers::default(),
            reader,
            writer,
            read,
            send,
            leaving: false,
            closed: None,
        }
    }

    /// Sends a request, or tells who asked why not.
    fn ask(&mut self, message: OutgoingMessage) -> Result<TransportPollResult, LastWords> {
        let OutgoingMessage { request, callback, deadline, span: _ } = message;
        let id = self.send.next_request_id();
        let opens = matches!(request, RequestMessage::OpenSecureChannel(_));
        self.leaving |= matches!(request, RequestMessage::CloseSecureChannel(_));
        if let Some(asker) = callback {
            // The same time by the clock that the deadline is waited for with.
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            self.pending.ask(id, asker, Instant::now() + left, opens);
        }
        let written = {
            let channel = self.state.secure_channel().read();
            self.send.write(id, request, &channel)
        };
        match written {
            Ok(_) => Ok(TransportPollResult::OutgoingMessage),
            Err(error) => {
                let status = error.status();
                self.pending.fail(id, error);
                Ok(TransportPollResult::RecoverableError(status))
            }
        }
    }

    /// Takes what came in.
    fn take(&mut self, frame: Frame) -> Result<TransportPollResult, LastWords> {
        match frame {
            Frame::Chunk(sealed) => self.collect(sealed).map_err(|error| {
                LastWords::new(error.status(), format!("a chunk is not taken: {error}"))
            }),
            Frame::Error(said) => Err(said),
            Frame::Close => {
                Err(LastWords::new(StatusCode::BadSecureChannelClosed, "the server closes it"))
            }
            Frame::Acknowledge(_) => {
                let reason = "the server greets twice";
                Err(LastWords::new(StatusCode::BadTcpMessageTypeInvalid, reason))
            }
        }
    }

    fn collect(&mut self, sealed: Bytes) -> Result<TransportPollResult, Error> {
        let chunk = seal::open(&self.state.secure_channel().read(), sealed)?;
        self.numbers.follow(chunk.number)?;
        match self.pending.collect(chunk.request, chunk.opens, chunk.last, chunk.body) {
            Collected::Unknown | Collected::More => {}
            Collected::Complete { asker, body } => {
                let response = decode::response(&body, &self.context);
                let response = response.and_then(|response| self.adopt(chunk.opens, response));
                let status = response.as_ref().err().map(Error::status);
                let _ = asker.send(response);
                if let Some(status) = status {
                    return Ok(TransportPollResult::RecoverableError(status));
                }
            }
            Collected::Aborted { asker, body } => {
                let LastWords { status, reason } = frame::error(&body);
                let _ = asker.send(Err(Error::new(status, reason)));
            }
            Collected::TooLarge { asker } => {
                let status = StatusCode::BadResponseTooLarge;
                let text = "the response is larger than any that is taken";
                let _ = asker.send(Err(Error::new(status, text)));
                return Ok(TransportPollResult::RecoverableError(status));
            }
            Collected::Misplaced => {
                let text = "the server opens the channel unasked";
                return Err(Error::new(StatusCode::BadSecurityChecksFailed, text));
            }
        }
        Ok(TransportPollResult::IncomingMessage)
    }

    /// Takes over new keys before anything that is sealed with them comes in.
    fn adopt(&self, opens: bool, response: ResponseMessage) -> Result<ResponseMessage, Error> {
        let ResponseMessage::OpenSecureChannel(opened) = &response else { return Ok(response) };
        let status = opened.response_header.service_result;
        if !status.is_good() {
            return Err(Error::new(status, "the server does not open the channel"));
        }
        if !opens {
            return Err(Error::decoding("the channel is opened by an ordinary message"));
        }
        seal::adopt(&mut self.state.secure_channel().write(), opened)?;
        Ok(response)
    }

    /// Tells all who wait that there is an end, and why.
    fn end(&mut self, said: LastWords) -> TransportPollResult {
        let status = said.status;
        // Also a farewell of our own leaves requests without a response.
        let failed = if status.is_good() { StatusCode::BadConnectionClosed } else { status };
        self.pending.end(failed, &said.reason);
        self.requests.close();
        while let Ok(message) = self.requests.try_recv() {
            if let Some(asker) = message.callback {
                let _ = asker.send(Err(Error::new(failed, said.reason.as_str())));
            }
        }
        self.read = BytesMut::new();
        lock(&self.words).get_or_insert(said);
        self.closed = Some(status);
        TransportPollResult::Closed(status)
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Channel<R, W> {
    async fn step(&mut self) -> Result<TransportPollResult, LastWords> {
        self.pending.expire(Instant::now());
        if self.send.should_encode_chunks() {
            let channel = self.state.secure_channel().read();
            self.send
                .encode_next_chunk(&channel)
                .map_err(|status| LastWords::new(status, "a request cannot be sealed"))?;
        }
        let writes = self.send.can_read();
        let reads = !(writes && self.pending.is_opening());
        if reads && let Some(frame) = frame::next(&mut self.read)? {
            return self.take(frame);
        }
        if self.leaving && !writes {
            return Err(LastWords::new(StatusCode::Good, "the connection was closed"));
        }
        match self.event(writes, reads).await {
            Event::Late => Ok(TransportPollResult::OutgoingMessageSent),
            Event::Sent(Ok(())) => Ok(TransportPollResult::OutgoingMessageSent),
            Event::Sent(Err(error)) | Event::Read(Err(error)) => Err(broken(&error)),
            Event::Read(Ok(0)) => {
                let reason = "the server closed the connection";
                Err(LastWords::new(StatusCode::BadConnectionClosed, reason))
            }
            Event::Read(Ok(_)) => Ok(TransportPollResult::IncomingMessage),
            Event::Asked(Some(message)) => self.ask(message),
            Event::Asked(None) => {
                Err(LastWords::new(StatusCode::Good, "the connection is not used any more"))
            }
        }
    }

    /// Waits for one thing. Each of these may be dropped without losing anything.
    async fn event(&mut self, writes: bool, reads: bool) -> Event {
        let Self { send, writer, reader, read, requests, pending, .. } = self;
        if read.capacity() - read.len() < READ / 4 {
            read.reserve(READ);
        }
        let deadline = pending.deadline();
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            sent = send.read_into_async(writer), if writes => Event::Sent(sent),
            asked = requests.recv(), if !writes => Event::Asked(asked),
            length = reader.read_buf(read), if reads => Event::Read(length),
            () = late => Event::Late,
        }
    }
}

fn broken(error: &std::io::Error) -> LastWords {
    LastWords::new(StatusCode::BadConnectionClosed, format!("the connection broke: {error}"))
}

impl<R, W> Transport for Channel<R, W>
where
    R: AsyncRead + Unpin + Send + Sync + 'static,
    W: AsyncWrite + Unpin + Send + Sync + 'static,
{
    async fn poll(&mut self) -> TransportPollResult {
        if let Some(status) = self.closed {
            return TransportPollResult::Closed(status);
        }
        match self.step().await {
            Ok(result) => result,
            Err(said) => self.end(said),
        }
    }

    fn connected_url(&self) -> &str {
        &self.url
    }
}
