//! Lines to and from a hub, straight or in the frames of a WebSocket (RFC 6455).
//!
//! # Invariants
//! - At most [`LONGEST`] bytes are read in one conversation, whatever the hub sends.
//! - A frame's length is believed only as far as its bytes came.
//! - What is sent in frames is masked, as the protocol demands of clients.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::WayError;
use crate::config::HubUrl;

/// All that is read: greetings of large clusters, a thousand permissions and the subjects that the
/// hub asks for, many times over.
const LONGEST: usize = 1024 * 1024;

/// What a conversation goes over.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection that is talked over.
pub(super) struct Conversation {
    io: Box<dyn Io>,
    to: String,
    /// Read and not yet taken apart.
    raw: Vec<u8>,
    /// Bytes of the protocol, read and not yet taken as lines.
    text: Vec<u8>,
    /// Whether there are frames.
    framed: bool,
    /// Whether the hub said goodbye.
    over: bool,
    read: usize,
}

/// The first line and the headers of an HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Its first line, cut to what fits an error.
    pub(super) status: String,
}

impl Head {
    /// Of what came before the empty line.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let line = bytes.split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let printable = line.chars().filter(|c| !c.is_control()).take(120);
        let status: String = printable.collect();
        Self { status: if status.is_empty() { "nothing".to_owned() } else { status } }
    }

    /// The three digits, where it is HTTP.
    pub(super) fn code(&self) -> &str {
        let rest = self.status.strip_prefix("HTTP/1.").and_then(|rest| rest.split_once(' '));
        rest.map_or("", |(_, rest)| rest.get(..3).unwrap_or_default())
    }

    pub(super) fn is_status(&self, code: &str) -> bool {
        self.code() == code
    }

    pub(super) fn is_success(&self) -> bool {
        self.code().starts_with('2')
    }
}

impl Conversation {
    pub(super) fn plain(io: Box<dyn Io>, url: &HubUrl) -> Self {
        let to = url.to_string();
        Self { io, to, raw: Vec::new(), text: Vec::new(), framed: false, over: false, read: 0 }
    }

    /// The same, in frames from here on.
    pub(super) fn framed(mut self) -> Self {
        self.framed = true;
        self.raw = std::mem::take(&mut self.text);
        self
    }

    /// Gives the connection back, for TLS. Nothing may have come beyond what was read.
    pub(super) fn into_io(self) -> Result<Box<dyn Io>, WayError> {
        let more = !self.text.is_empty();
        if more {
            return Err(self.foreign("it goes on after its greeting, before TLS"));
        }
        Ok(self.io)
    }

    pub(super) fn foreign(&self, what: &'static str) -> WayError {
        WayError::Foreign { to: self.to.clone(), what }
    }

    fn closed(&self, source: Option<std::io::Error>) -> WayError {
        WayError::Closed { to: self.to.clone(), source }
    }

    /// Sends bytes; in one frame, where there are frames.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), WayError> {
        let sent = if self.framed {
            let mut mask = [0; 4];
            // Against proxies that take masked bytes for requests; inside TLS none sees them.
            let _ = getrandom::fill(&mut mask);
            self.io.write_all(&frame(BINARY, bytes, mask)).await
        } else {
            self.io.write_all(bytes).await
        };
        match sent {
            Ok(()) => self.io.flush().await.map_err(|error| self.closed(Some(error))),
            Err(error) => Err(self.closed(Some(error))),
        }
    }

    /// The next line, without its end.
    pub(super) async fn line(&mut self) -> Result<Vec<u8>, WayError> {
        let end = self.until(b"\n", LONGEST).await?;
        let mut line: Vec<u8> = self.text.drain(..end).collect();
        while line.last().is_some_and(u8::is_ascii_whitespace) {
            line.pop();
        }
        Ok(line)
    }

    /// The head of an HTTP answer.
    pub(super) async fn head(&mut self, longest: usize) -> Result<Head, WayError> {
        let end = self.until(b"\r\n\r\n", longest).await?;
        Ok(Head::of(&self.text.drain(..end).collect::<Vec<_>>()))
    }

    /// Where a mark ends, which is read for.
    async fn until(&mut self, mark: &[u8], longest: usize) -> Result<usize, WayError> {
        let mut looked = 0;
        loop {
            let unseen = self.text.get(looked..).unwrap_or_default();
            if let Some(at) = unseen.windows(mark.len()).position(|window| window == mark) {
                return Ok(looked + at + mark.len());
            }
            looked = self.text.len().saturating_sub(mark.len() - 1);
            if self.text.len() >= longest {
                return Err(self.foreign("a line has no end"));
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), WayError> {
        if self.over {
            return Err(self.closed(None));
        }
        if self.read >= LONGEST {
            return Err(self.foreign("it sends without end"));
        }
        let into = if self.framed { &mut self.raw } else { &mut self.text };
        match self.io.read_buf(into).await {
            Ok(0) => return Err(self.closed(None)),
            Ok(bytes) => self.read += bytes,
            Err(error) => return Err(self.closed(Some(error))),
        }
        while self.framed {
            match unframe(&self.raw) {
                Ok(Some((opcode, payload, length))) => {
                    match opcode {
                        CONTINUATION | BINARY | TEXT => {
                            self.text.extend(self.raw.get(payload).unwrap_or_default());
                        }
                        // What it said before counts.
                        CLOSE => self.over = true,
                        // Pings are not answered: the conversation is shorter than any patience.
                        _ => {}
                    }
                    self.raw.drain(..length);
                }
                Ok(None) => break,
                Err(what) => return Err(self.foreign(what)),
            }
        }
        Ok(())
    }
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// A whole frame of a client.
fn frame(opcode: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    const FINAL: u8 = 0x80;
    const MASKED: u8 = 0x80;
    let mut out = vec![FINAL | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if length < 126 => out.push(MASKED | length),
        (_, Ok(length)) => {
            out.push(MASKED | 126);
            out.extend(length.to_be_bytes());
        }
        _ => {
            out.push(MASKED | 127);
            out.extend(u64::try_from(payload.len()).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// The first frame of a server: its kind, where its payload is, and its length; `None` while it is
/// not whole.
#[expect(clippy::type_complexity, reason = "three things of one frame, read at one place")]
fn unframe(bytes: &[u8]) -> Result<Option<(u8, std::ops::Range<usize>, usize)>, &'static str> {
    const SPECIAL: u8 = 0x70;
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & SPECIAL != 0 {
        return Err("a frame has extensions that nobody asked for");
    }
    if second & 0x80 != 0 {
        return Err("a frame of a server is masked");
    }
    let (length, begin) = match (second & 0x7f, rest) {
        (126, [high, low, ..]) => (u64::from(u16::from_be_bytes([*high, *low])), 4),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10)
        }
        (126 | 127, _) => return Ok(None),
        (length, _) => (u64::from(length), 2),
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST);
    let length = length.ok_or("a frame is longer than anything that a hub says")?;
    let end = begin + length;
    Ok((bytes.len() >= end).then_some((first & 0x0f, begin..end, end)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::HubScheme;

    fn url() -> HubUrl {
        HubUrl { scheme: HubScheme::WebSocket, host: "hub".into(), port: 443 }
    }

    /// A frame as a server sends it.
    fn of_server(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = frame(0, payload, [0; 4]);
        out[0] = first;
        out[1] &= 0x7f;
        let mask_at = out.len() - payload.len() - 4;
        out.drain(mask_at..mask_at + 4);
        out
    }

    async fn lines(bytes: Vec<u8>, framed: bool) -> Vec<Result<Vec<u8>, String>> {
        let (near, mut far) = tokio::io::duplex(7);
        tokio::spawn(async move {
            let _ = far.write_all(&bytes).await;
        });
        let mut conversation = Conversation::plain(Box::new(near), &url());
        if framed {
            conversation = conversation.framed();
        }
        let mut out = Vec::new();
        loop {
            let line = conversation.line().await.map_err(|error| error.to_string());
            out.push(line);
            if out.last().is_some_and(Result::is_err) {
                return out;
            }
        }
    }

    #[tokio::test]
    async fn lines_come_out_of_frames_however_they_are_cut() {
        let mut bytes = of_server(0x02, b"INFO {");
        bytes.extend(of_server(0x89, b"ping"));
        bytes.extend(of_server(0x00, &[b'x'; 300]));
        bytes.extend(of_server(0x80, b"}\r\nPO"));
        bytes.extend(of_server(0x82, b"NG\r\n"));
        bytes.extend(of_server(0x88, b""));
        let lines = lines(bytes, true).await;
        let info = format!("INFO {{{}}}", "x".repeat(300));
        assert_eq!(lines[0].as_deref(), Ok(info.as_bytes()));
        assert_eq!(lines[1].as_deref(), Ok(&b"PONG"[..]));
        assert!(lines[2].as_ref().is_err_and(|error| error.contains("closed the connection")));
    }

    #[tokio::test]
    async fn a_line_without_end_and_a_hub_without_end_are_given_up() {
        let endless = lines(vec![b'x'; 2 * LONGEST], false).await;
        assert!(endless[0].as_ref().is_err_and(|error| error.contains("leaf-node protocol")));
        let many = lines(b"+OK\r\n".repeat(LONGEST), false).await;
        assert!(many.len() <= LONGEST / 5 + 2_000, "{}", many.len());
    }

    #[test]
    fn the_first_line_of_an_answer_tells_its_code() {
        let head = Head::of(b"HTTP/1.1 407 Proxy Authentication Required\r\nX: y\r\n\r\n");
        assert_eq!((head.code(), head.is_success()), ("407", false));
        assert!(Head::of(b"HTTP/1.0 200 ok\r\n\r\n").is_success());
        for odd in [&b""[..], b"\r\n", b"SSH-2.0", b"HTTP/1.1", b"HTTP/1.1 2", b"\xff\x00"] {
            assert!(!Head::of(odd).is_success());
        }
    }

    proptest! {
        #[test]
        fn what_a_client_frames_a_server_unframes(payload: Vec<u8>, mask: [u8; 4]) {
            let bytes = frame(BINARY, &payload, mask);
            prop_assert_eq!(bytes.len(), payload.len() + if payload.len() < 126 { 6 } else { 8 });
            let start = bytes.len() - payload.len();
            let unmasked: Vec<u8> =
                bytes[start..].iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
            prop_assert_eq!(unmasked, payload.clone());
            let back = of_server(0x82, &payload);
            let (opcode, at, length) = unframe(&back).unwrap().unwrap();
            prop_assert_eq!((opcode, &back[at], length), (BINARY, &payload[..], back.len()));
            for cut in 0..back.len() {
                prop_assert_eq!(unframe(&back[..cut]), Ok(None));
            }
        }

        #[test]
        fn no_bytes_of_a_server_are_a_panic(bytes: Vec<u8>) {
            if let Ok(Some((_, payload, length))) = unframe(&bytes) {
                prop_assert!(payload.end == length && length <= bytes.len());
            }
        }
    }
}
