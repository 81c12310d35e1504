//! What a server, its items and its subtrees are configured to be.
//!
//! # Invariants
//! - Holding a value of these types proves that the check of the configuration accepted it.
//! - Nothing here is of one session: no namespace index is resolved, no id of the server kept.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::TagPath;

use crate::node::NodeAddress;

/// The port that is registered for OPC UA.
const PORT: u16 = 4840;

/// Where a server listens: `opc.tcp://host:port/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointUrl {
    /// Host name or address, an IPv6 address without brackets.
    pub host: String,
    /// Port; 4840 when not written.
    pub port: u16,
    /// The path with its slash, or nothing.
    pub path: String,
}

/// Why a text is no endpoint URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It begins with another scheme, or with none.
    #[error("{text:?} is no opc.tcp URL; write it like \"opc.tcp://192.0.2.10:4840\"")]
    Scheme {
        /// The text that was given.
        text: String,
    },
    /// The host or the port cannot be one.
    #[error("{text:?} names no host and port; write it like \"opc.tcp://192.0.2.10:4840\"")]
    Host {
        /// The text that was given.
        text: String,
    },
}

impl EndpointUrl {
    /// Reads `opc.tcp://host[:port][/path]`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// When the scheme is another one, or host or port are none.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let scheme = text.get(..10).filter(|s| s.eq_ignore_ascii_case("opc.tcp://"));
        let Some(rest) = scheme.and_then(|_| text.get(10..)) else {
            return Err(UrlError::Scheme { text: text.to_owned() });
        };
        let wrong = || UrlError::Host { text: text.to_owned() };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (host, port) = if let Some(inner) = authority.strip_prefix('[') {
            let (host, after) = inner.split_once(']').ok_or_else(wrong)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            (host, after)
        } else {
            let colon = authority.find(':').unwrap_or(authority.len());
            authority.split_at(colon)
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?,
            None if port.is_empty() => PORT,
            None => return Err(wrong()),
        };
        let legal = |c: char| !c.is_whitespace() && !c.is_control() && !"@?#".contains(c);
        if host.is_empty() || !host.chars().all(legal) || !path.chars().all(legal) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port, path: path.to_owned() })
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "opc.tcp://{open}{}{close}:{}{}", self.host, self.port, self.path)
    }
}

/// How messages are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Security {
    /// Not at all. Only where somebody wrote it.
    None,
    /// By a policy and a mode.
    Protected {
        /// Which policy; `None` takes the strongest that the server offers.
        policy: Option<Policy>,
        /// What is done with each message.
        mode: Mode,
    },
}

/// The algorithms. Withdrawn ones (Basic128Rsa15, Basic256) do not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Policy {
    /// `Basic256Sha256`
    Basic256Sha256,
    /// `Aes128_Sha256_RsaOaep`
    Aes128Sha256RsaOaep,
    /// `Aes256_Sha256_RsaPss`, the strongest.
    Aes256Sha256RsaPss,
}

/// What is done with each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nobody can change it.
    Sign,
    /// Nobody can change or read it.
    SignAndEncrypt,
}

/// As whom the gateway logs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserSpec {
    /// As nobody in particular.
    Anonymous,
    /// By name and password.
    Password {
        /// The name.
        name: String,
        /// The file that holds the password alone.
        file: PathBuf,
    },
    /// By a certificate of its own.
    Certificate {
        /// PEM.
        cert: PathBuf,
        /// PEM.
        key: PathBuf,
    },
}

/// The SHA-256 of a certificate's DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thumbprint(pub [u8; 32]);

impl Thumbprint {
    /// Reads 64 hexadecimal digits, with or without colons or spaces between them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| !matches!(c, ':' | ' '))
            .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
            .collect::<Option<_>>()?;
        let mut out = [0; 32];
        if digits.len() != 2 * out.len() {
            return None;
        }
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
        }
        Some(Self(out))
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Which server certificates are accepted, beside those of the trust folders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustSpec {
    /// Accepted by thumbprint.
    pub thumbprints: Arc<[Thumbprint]>,
    /// The application URI that the server must have; what it claims itself when `None`.
    pub application_uri: Option<String>,
    /// The certificate need not name the host that is dialled.
    pub any_host: bool,
}

/// How values are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Collect {
    /// The server reports changes.
    Subscribe,
    /// Every tag is read at its interval, for servers without subscriptions.
    Poll,
}

/// Which values a full queue at the server loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Discard {
    /// The oldest.
    Oldest,
    /// The newest but the very last.
    Newest,
}

/// What counts as a change at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// Another status.
    Status,
    /// Another status or value.
    StatusValue,
    /// Another status, value or source time.
    StatusValueTimestamp,
}

/// How much change the server keeps to itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ServerDeadband {
    /// None.
    None,
    /// Up to this much, in the value's unit.
    Absolute(f64),
    /// Up to this share of the value's EU range, in percent. Only for analog items.
    Percent(f64),
}

/// How one value is collected; tags that are treated alike share one.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemSpec {
    /// The sampling interval; the device's when `None`.
    pub sample_every: Option<Duration>,
    /// Values that the server holds between two publications; when `None`, as many as are sampled
    /// in between or in two seconds, and at least ten.
    pub queue: Option<u32>,
    /// Which values a full queue loses.
    pub discard: Discard,
    /// What counts as a change.
    pub trigger: Trigger,
    /// How much change the server keeps to itself.
    pub deadband: ServerDeadband,
    /// A part of an array, as OPC UA writes it: `3`, `0:9`, `1,0:3`.
    pub index_range: Option<Box<str>>,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub struct TagSpec {
    /// The whole path.
    pub path: TagPath,
    /// Where the server has it.
    pub node: NodeAddress,
    /// How it is collected.
    pub item: Arc<ItemSpec>,
}

/// Everything below an object.
#[derive(Debug, Clone, PartialEq)]
pub struct SubtreeSpec {
    /// What the paths of its tags begin with.
    pub path: TagPath,
    /// The object.
    pub node: NodeAddress,
    /// How each value is collected.
    pub item: Arc<ItemSpec>,
    /// Patterns over the browse names below the object, such as `*/Temperature` or `Axis?/**`;
    /// without any, everything is taken.
    pub include: Arc<[Box<str>]>,
    /// What is left out of that.
    pub exclude: Arc<[Box<str>]>,
    /// More tags than this are one mistake, and none is taken.
    pub max_tags: u32,
    /// How many levels below the object are looked at.
    pub max_depth: u32,
}

/// One server.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceSpec {
    /// The configured name, unique.
    pub name: String,
    /// Where it listens.
    pub url: EndpointUrl,
    /// Whether the URL that the server advertises is dialled instead of the configured one.
    pub follow_advertised: bool,
    /// How messages are protected.
    pub security: Security,
    /// As whom the gateway logs on.
    pub user: UserSpec,
    /// Whom it accepts.
    pub trust: TrustSpec,
    /// How values are collected.
    pub collect: Collect,
    /// The sampling (or poll) interval of tags that have none of their own.
    pub sample_every: Duration,
    /// The publishing interval; the sampling interval, but at least 100 ms, when `None`.
    pub publish_every: Option<Duration>,
    /// How long one request may take.
    pub timeout: Duration,
    /// The first and the longest wait between two attempts to connect.
    pub backoff: (Duration, Duration),
    /// Whether gaps are filled from the server's history where it has one.
    pub backfill: bool,
    /// The most items in one request, beside what the server allows.
    pub max_items: u32,
    /// Its values.
    pub tags: Arc<[TagSpec]>,
    /// Its subtrees.
    pub subtrees: Arc<[SubtreeSpec]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_url_has_host_port_and_path() {
        let parsed = |text: &str| EndpointUrl::parse(text).map(|url| url.to_string());
        for (text, canonical) in [
            ("opc.tcp://plc", "opc.tcp://plc:4840"),
            ("OPC.TCP://plc:4841/UA/Server", "opc.tcp://plc:4841/UA/Server"),
            ("opc.tcp://[::1]:4840/", "opc.tcp://[::1]:4840/"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(canonical));
        }
        for text in [
            "plc:4840",
            "http://plc",
            "opc.tcp://",
            "opc.tcp://plc:0",
            "opc.tcp://a b",
            "opc.tcp://::1",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_thumbprint_is_read_as_it_is_shown() {
        let shown = "00ff".repeat(16);
        let thumbprint = Thumbprint::parse(&shown).unwrap();
        assert_eq!(thumbprint.to_string(), shown);
        let with_colons =
            shown.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_uppercase());
        assert_eq!(Thumbprint::parse(&with_colons.collect::<Vec<_>>().join(":")), Some(thumbprint));
        assert_eq!(Thumbprint::parse("00"), None);
        assert_eq!(Thumbprint::parse(&"é".repeat(64)), None);
    }
}
