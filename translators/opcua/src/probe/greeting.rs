//! The first bytes of a conversation (OPC 10000-6, 7.1.2), by hand: what answers there, before a
//! library makes an error of it.
//!
//! # Invariants
//! - Any bytes are a greeting or not yet enough of one; nothing panics.
//! - No more than [`MOST`] bytes are ever wanted.

/// The longest beginning of an answer that is looked at: an error's header, its code, and 4096
/// bytes of reason, the most that the specification allows.
pub(super) const MOST: usize = 8 + 4 + 4 + 4096;
/// What we can take at once; what async-opcua asks for as well.
const BUFFER: u32 = 65_535;

/// What answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// An OPC UA server.
    Server(Limits),
    /// An OPC UA server that does not want this connection.
    Error {
        /// Its status code.
        status: u32,
        /// Its own words, if any.
        reason: String,
    },
    /// A web server.
    Http,
    /// Something that speaks TLS.
    Tls,
    /// Something that ends the connection.
    Closed,
    /// Something that says nothing.
    Silent,
    /// Something else; these are its first bytes.
    Foreign(Vec<u8>),
}

/// What a server can take, in bytes; 0 stands for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// The largest chunk that it receives.
    pub receive_buffer: u32,
    /// The largest chunk that it sends.
    pub send_buffer: u32,
    /// The largest request.
    pub max_message: u32,
    /// The most chunks of a request.
    pub max_chunks: u32,
}

/// The hello message for a URL.
pub(super) fn hello(url: &str) -> Vec<u8> {
    // A URL has less than 4096 bytes (7.1.2.3).
    let url = url.as_bytes().get(..url.len().min(4095)).unwrap_or_default();
    let length = u32::try_from(url.len()).unwrap_or_default();
    let mut bytes = b"HELF".to_vec();
    for number in [32 + length, 0, BUFFER, BUFFER, 0, 0, length] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(url);
    bytes
}

/// What an answer to [`hello`] is; `None` while more is needed.
pub(super) fn greeting(bytes: &[u8]) -> Option<Greeting> {
    let number = |at: usize| {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(<[u8; 4]>::try_from(bytes).ok()?))
    };
    match bytes {
        [b'A', b'C', b'K', b'F', ..] => Some(Greeting::Server(Limits {
            receive_buffer: number(12)?,
            send_buffer: number(16)?,
            max_message: number(20)?,
            max_chunks: number(24)?,
        })),
        [b'E', b'R', b'R', b'F', ..] => {
            let (status, length) = (number(8)?, number(12)?);
            // A null string has the length -1.
            let length = usize::try_from(length).unwrap_or(0);
            let end = if length > MOST { 16 } else { (16 + length).min(MOST) };
            let reason = String::from_utf8_lossy(bytes.get(16..end)?).into_owned();
            Some(Greeting::Error { status, reason })
        }
        // A record of TLS: an alert or a handshake, of version 3.x.
        [0x15 | 0x16, 3, ..] => Some(Greeting::Tls),
        [b'H', b'T', b'T', b'P', ..] => Some(Greeting::Http),
        [] => None,
        [first, ..] if bytes.len() < 4 && b"AEH\x15\x16".contains(first) => None,
        // Web servers also answer what is no request at all with a page.
        _ if bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'<') => Some(Greeting::Http),
        _ => Some(Greeting::Foreign(bytes.iter().copied().take(16).collect())),
    }
}

/// What an answer was when no more of it comes.
pub(super) fn cut_short(bytes: &[u8], ended: bool) -> Greeting {
    match bytes {
        [] if ended => Greeting::Closed,
        [] => Greeting::Silent,
        _ => Greeting::Foreign(bytes.iter().copied().take(16).collect()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(status: u32, length: u32, reason: &str) -> Vec<u8> {
        let mut bytes = b"ERRF".to_vec();
        for number in [0, status, length] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(reason.as_bytes());
        bytes
    }

    #[test]
    fn a_hello_has_its_own_length_and_the_url_at_its_end() {
        let bytes = hello("opc.tcp://plc:4840");
        assert_eq!(bytes.len(), 32 + 18);
        assert_eq!(bytes[4..8], 50_u32.to_le_bytes());
        assert!(bytes.ends_with(b"\x12\0\0\0opc.tcp://plc:4840"));
    }

    #[test]
    fn what_answers_is_told_by_its_first_bytes() {
        let mut acknowledge = b"ACKF".to_vec();
        for number in [28_u32, 0, 65_535, 8192, 16_777_216, 5000] {
            acknowledge.extend_from_slice(&number.to_le_bytes());
        }
        let limits = Limits {
            receive_buffer: 65_535,
            send_buffer: 8192,
            max_message: 16_777_216,
            max_chunks: 5000,
        };
        let refused = Greeting::Error { status: 0x8083_0000, reason: "no such path".into() };
        for (bytes, expected) in [
            (acknowledge, Greeting::Server(limits)),
            (error(0x8083_0000, 12, "no such path"), refused),
            (
                error(0x8080_0000, u32::MAX, ""),
                Greeting::Error { status: 0x8080_0000, reason: String::new() },
            ),
            (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), Greeting::Http),
            (b"<!DOCTYPE HTML>".to_vec(), Greeting::Http),
            (vec![0x15, 3, 1, 0, 2, 2, 70], Greeting::Tls),
            (b"SSH-2.0".to_vec(), Greeting::Foreign(b"SSH-2.0".to_vec())),
        ] {
            assert_eq!(greeting(&bytes), Some(expected));
            for length in 0..4.min(bytes.len()) {
                let early = greeting(&bytes[..length]);
                assert!(early.is_none() || early == greeting(&bytes) || bytes[0] == b'S');
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_greeting_or_not_enough(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = greeting(&bytes);
            let _ = cut_short(&bytes, true);
        }

        #[test]
        fn enough_is_enough(head in prop::sample::select(vec![*b"ACKF", *b"ERRF", *b"AEHx"]), rest in prop::collection::vec(any::<u8>(), MOST..MOST + 1)) {
            prop_assert!(greeting(&[&head[..], &rest].concat()).is_some());
        }
    }
}
