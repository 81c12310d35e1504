//! Where one message of the stream ends and the next begins.
//!
//! # Invariants
//! - No more is buffered for a frame than [`MAX_FRAME`], whatever its header claims.
//! - A frame is a slice of what was read: its bytes are not copied.

use bytes::{Bytes, BytesMut};
use opcua::types::StatusCode;

use crate::connect::words;

/// The largest chunk that is taken: some servers do not keep to what was agreed.
pub(super) const MAX_FRAME: usize = 1024 * 1024;
/// Type, final mark and size.
pub(super) const HEADER: usize = 8;
/// As much of an error's text as is kept for a person.
const MAX_REASON: usize = 512;

/// What the other side said before it closed, or why its messages are not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastWords {
    pub(crate) status: StatusCode,
    pub(crate) reason: String,
}

impl LastWords {
    pub(super) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }
}

/// One message of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The answer to the greeting.
    Acknowledge(Bytes),
    /// The server's reason to close.
    Error(LastWords),
    /// A part of a response, sealed.
    Chunk(Bytes),
    /// The server closes the channel.
    Close,
}

/// Takes the next frame out of what was read, once all of it is there.
pub(super) fn next(read: &mut BytesMut) -> Result<Option<Frame>, LastWords> {
    let Some((kind, rest)) = read.split_first_chunk::<4>() else { return Ok(None) };
    let kind = *kind;
    let is_known = matches!(
        kind,
        [b'M', b'S', b'G', b'F' | b'C' | b'A']
            | [b'O', b'P', b'N', b'F' | b'C' | b'A']
            | [b'A', b'C', b'K', b'F']
            | [b'E', b'R', b'R', b'F']
            | [b'C', b'L', b'O', b'F']
    );
    if !is_known {
        return Err(foreign(kind));
    }
    let Some(size) = rest.first_chunk::<4>() else { return Ok(None) };
    let size = u32::from_le_bytes(*size);
    let size = match usize::try_from(size) {
        Ok(size) if (HEADER..=MAX_FRAME).contains(&size) => size,
        _ => {
            let reason = format!("a message of {size} bytes is not taken");
            return Err(LastWords::new(StatusCode::BadTcpMessageTooLarge, reason));
        }
    };
    if read.len() < size {
        read.reserve(size - read.len());
        return Ok(None);
    }
    let frame = read.split_to(size).freeze();
    let body = frame.get(HEADER..).unwrap_or_default();
    Ok(Some(match &kind {
        b"ACKF" => Frame::Acknowledge(frame),
        b"ERRF" => Frame::Error(error(body)),
        b"CLOF" => Frame::Close,
        _ => Frame::Chunk(frame),
    }))
}

/// Names who answers instead of an OPC UA server.
fn foreign(begin: [u8; 4]) -> LastWords {
    let what = match &begin {
        b"HTTP" => "it answered HTTP".to_owned(),
        b"SSH-" => "it answered SSH".to_owned(),
        [0x15 | 0x16, 0x03, _, _] => "it answered TLS".to_owned(),
        b"RHEF" | b"HELF" => "it greets as a client does".to_owned(),
        [a, b, c, d] => format!("its answer begins with {a:02x} {b:02x} {c:02x} {d:02x}"),
    };
    LastWords::new(
        StatusCode::BadTcpMessageTypeInvalid,
        format!("this is no OPC UA server: {what}"),
    )
}

/// Reads a status code and a text.
pub(super) fn error(body: &[u8]) -> LastWords {
    let Some((status, rest)) = body.split_first_chunk::<4>() else {
        let reason = "the server closes without saying why";
        return LastWords::new(StatusCode::BadCommunicationError, reason);
    };
    let status = StatusCode::from(u32::from_le_bytes(*status));
    let text = rest.get(4..).unwrap_or_default();
    let text = text.get(..MAX_REASON).unwrap_or(text);
    let text: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect();
    let reason = match text.trim() {
        "" => format!("the server says {}", words(status)),
        text => format!("the server says {}: {text}", words(status)),
    };
    LastWords { status, reason }
}
