//! The checked configuration. Holding a value of these types proves that it is legal; past the
//! check no bare integer means a time, a size or an address.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_opcua::Thumbprint;
use tidegate_translator::{TagPath, ValueKind};

use crate::names::GatewayId;

/// Everything that the daemon is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Who this gateway is.
    pub gateway: GatewayId,
    /// Where the record goes; without it everything is recorded and nothing is delivered.
    pub hub: Option<Hub>,
    /// The local NATS server.
    pub leaf: Leaf,
    /// The record on disk.
    pub journal: Journal,
    /// How the record is delivered.
    pub uplink: Uplink,
    /// Which questions are answered.
    pub query: Query,
    /// Metrics and health over HTTP.
    pub metrics: Option<Metrics>,
    /// The Unix socket that `status` and `tags` ask.
    pub control_socket: PathBuf,
    /// What the gateway is to OPC UA servers.
    pub opcua: OpcUa,
    /// The gateway's own certificate; without it there are the files of `hub.tls`, or none.
    pub identity: Option<IdentityConfig>,
    /// What is polled.
    pub devices: Vec<Device>,
}

/// The hub.
#[derive(Debug, Clone, PartialEq)]
pub struct Hub {
    /// Leaf-node URLs of one hub, tried in an order spread by gateway name.
    pub urls: Vec<HubUrl>,
    /// The certificate files; `None` only where plaintext is legal.
    pub tls: Option<TlsFiles>,
    /// The stream that collects frames.
    pub stream: String,
    /// The JetStream domain whose acknowledgements count.
    pub domain: String,
    /// Through which all of the URLs are reached; they are WebSockets then.
    pub proxy: Option<Proxy>,
    /// How long the first URL must have been reachable before the links go back to it; `None` is
    /// never.
    pub fail_back_after: Option<Duration>,
}

/// An HTTP proxy that is asked to CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Who asks; `None` where anybody may.
    pub user: Option<ProxyUser>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", Authority(&self.host, self.port))
    }
}

/// Whom a proxy knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyUser {
    /// The name.
    pub name: String,
    /// A file with the password alone.
    pub password_file: PathBuf,
}

/// `host:port`, an IPv6 address in brackets.
struct Authority<'a>(&'a str, u16);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// One leaf-node URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubUrl {
    /// What is spoken there.
    pub scheme: HubScheme,
    /// Host name or address.
    pub host: String,
    /// Port; 7422 when not written, for a WebSocket 443.
    pub port: u16,
}

/// What is spoken at a leaf-node URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubScheme {
    /// `tls://`
    Tls,
    /// `wss://`: a WebSocket inside TLS.
    WebSocket,
    /// `nats://` or `nats-leaf://`
    Plain,
}

impl HubScheme {
    /// Whether it is inside TLS.
    #[must_use]
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::WebSocket)
    }

    /// The port when none is written: that of nats-server's leaf nodes, or of HTTPS.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::WebSocket => 443,
            Self::Tls | Self::Plain => 7422,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::WebSocket => "wss",
            Self::Plain => "nats",
        }
    }
}

impl fmt::Display for HubUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.word(), Authority(&self.host, self.port))
    }
}

/// Certificate files in PEM, until the identity store manages them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Whom we trust.
    pub ca: PathBuf,
    /// Our certificate, chain included.
    pub cert: PathBuf,
    /// Our private key.
    pub key: PathBuf,
}

/// The local NATS server.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    /// Who runs it.
    pub mode: LeafMode,
    /// Its client port.
    pub listen: SocketAddr,
    /// The nats-server to run; `None` looks beside the package, then on PATH.
    pub nats_server: Option<PathBuf>,
    /// Where its generated configuration and the local password live.
    pub dir: PathBuf,
    /// What local applications may do beside listening to live values.
    pub local: LocalApps,
}

/// What local applications may do beside listening to live values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalApps {
    /// Where they may publish, here and toward the hub.
    pub publish: Vec<Box<str>>,
    /// Where they may listen, here and toward the hub.
    pub subscribe: Vec<Box<str>>,
    /// JetStream of their own.
    pub jetstream: Option<LocalJetStream>,
}

impl LocalApps {
    /// Whether they may only listen to live values.
    #[must_use]
    pub fn only_listen(&self) -> bool {
        *self == Self::default()
    }
}

/// JetStream for local applications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalJetStream {
    /// Its domain, which is not the hub's.
    pub domain: String,
    /// What its streams may hold on disk together, in bytes.
    pub max_bytes: u64,
}

/// Who runs the leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafMode {
    /// A child process of the daemon.
    Managed,
    /// Its own service, with the configuration that the daemon wrote into `dir`.
    External,
}

/// The record on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Journal {
    /// Its directory; nothing else lives there.
    pub dir: PathBuf,
    /// All of its segments together, in bytes.
    pub max_bytes: u64,
    /// The longest time between a reading and its fdatasync while there is much to write.
    pub commit_every: Duration,
    /// What happens when `max_bytes` or the disk is full of undelivered frames.
    pub when_full: WhenFull,
}

/// What happens when the journal is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest frames make room, and a loss record names them.
    DropOldest,
    /// Recording pauses, and a loss record names what was not recorded.
    StopRecording,
}

/// How the record is delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct Uplink {
    /// The longest wait before a message that is not full is sent.
    pub send_every: Duration,
    /// The largest message, in bytes.
    pub max_message: usize,
    /// Bytes per second for back-fill; `None` is no limit.
    pub backfill_limit: Option<u64>,
    /// Bytes per second of the whole record, back-fill or not; `None` is no limit.
    pub limit: Option<u64>,
}

/// Which questions are answered over NATS, and how much they may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Whether any are.
    pub enabled: bool,
    /// Whom local applications may ask.
    pub local: LocalQuestions,
    /// Questions that are worked on side by side.
    pub max_concurrent: usize,
    /// Questions that may wait for their turn.
    pub max_waiting: usize,
    /// Rows of one answer.
    pub max_rows: u64,
    /// How long one answer may take.
    pub max_time: Duration,
    /// The largest message of an answer, in bytes.
    pub max_part_bytes: usize,
}

/// Whom local applications may ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LocalQuestions {
    /// Nobody.
    #[default]
    None,
    /// This gateway.
    Gateway,
    /// This gateway, and others as far as the hub lets this one.
    Fleet,
}

/// Metrics and health over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// Where to listen.
    pub listen: SocketAddr,
}

/// What the gateway is to OPC UA servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpcUa {
    /// Its certificates, and those that it trusts.
    pub dir: PathBuf,
    /// Its application URI.
    pub application_uri: String,
    /// Bits of the RSA key of the next certificate.
    pub key_bits: u16,
}

/// The gateway's own certificate: where it is kept, who signs it, and when it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityConfig {
    /// Keys, certificates, trusted roots and requests.
    pub dir: PathBuf,
    /// Who signs; `None` where certificates are dropped as files.
    pub est: Option<HttpsUrl>,
    /// The roots that are trusted; not empty where there is an `est`.
    pub ca_pins: Vec<Thumbprint>,
    /// The token for an enrolment, where it is not in the folder.
    pub token_file: Option<PathBuf>,
    /// The longest time without hub and authority that is expected.
    pub longest_offline: Duration,
    /// The list of revoked certificates, where it is not in the folder.
    pub crl: Option<PathBuf>,
    /// How old that list may be.
    pub crl_max_age: Duration,
    /// What happens when it is older.
    pub when_crl_stale: WhenCrlStale,
    /// How often the record is signed.
    pub checkpoint_every: Duration,
}

/// What happens when the list of revoked certificates is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenCrlStale {
    /// An alarm, and everything goes on.
    Accept,
    /// The link to the hub is taken down.
    Refuse,
}

/// A server that is reached over HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsUrl {
    /// Host name or address.
    pub host: String,
    /// Port; 443 when not written.
    pub port: u16,
    /// The path, without a `/` at its end.
    pub path: String,
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "https://{open}{}{close}:{}{}", self.host, self.port, self.path)
    }
}

/// One device: what its translator needs, and what the daemon does with each of its tags.
///
/// A clone shares both: a reload compares with what runs, and drivers keep what they were made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// For the translator.
    pub driver: Driver,
    /// For the daemon, in the order of the translator's tags.
    pub tags: Arc<[Tag]>,
    /// For the daemon, in the order of the translator's subtrees: what it does with each tag that
    /// is found below one, whose path begins with that of the subtree. Modbus has none, and the
    /// messages of local applications have one.
    pub subtrees: Arc<[Tag]>,
}

/// Which translator reads a device, and what it is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Driver {
    /// Any kind of Modbus.
    Modbus(Arc<tidegate_modbus::DeviceSpec>),
    /// OPC UA.
    OpcUa(Arc<tidegate_opcua::DeviceSpec>),
    /// Messages of local applications.
    Nats(Arc<tidegate_ingest::DeviceSpec>),
}

impl Device {
    /// The configured name.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.driver {
            Driver::Modbus(spec) => &spec.name,
            Driver::OpcUa(spec) => &spec.name,
            Driver::Nats(spec) => &spec.name,
        }
    }

    /// What the Modbus translator is told, where that one reads it.
    #[must_use]
    pub const fn modbus(&self) -> Option<&Arc<tidegate_modbus::DeviceSpec>> {
        match &self.driver {
            Driver::Modbus(spec) => Some(spec),
            Driver::OpcUa(_) | Driver::Nats(_) => None,
        }
    }

    /// What the OPC UA translator is told, where that one reads it.
    #[must_use]
    pub const fn opcua(&self) -> Option<&Arc<tidegate_opcua::DeviceSpec>> {
        match &self.driver {
            Driver::OpcUa(spec) => Some(spec),
            Driver::Modbus(_) | Driver::Nats(_) => None,
        }
    }

    /// Where local applications feed it, where they do.
    #[must_use]
    pub const fn ingest(&self) -> Option<&Arc<tidegate_ingest::DeviceSpec>> {
        match &self.driver {
            Driver::Nats(spec) => Some(spec),
            Driver::Modbus(_) | Driver::OpcUa(_) => None,
        }
    }

    /// The poll or sampling interval of tags that have none of their own.
    #[must_use]
    pub fn poll_every(&self) -> Duration {
        match &self.driver {
            Driver::Modbus(spec) => spec.poll_every,
            Driver::OpcUa(spec) => spec.sample_every,
            Driver::Nats(_) => super::ingest::EVERY,
        }
    }

    /// How long one request may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        match &self.driver {
            Driver::Modbus(spec) => spec.timeout,
            Driver::OpcUa(spec) => spec.timeout,
            Driver::Nats(_) => super::ingest::TIMEOUT,
        }
    }

    /// The interval at which a tag is polled or sampled; the device's where there is no such tag.
    #[must_use]
    pub fn interval(&self, tag: usize) -> Duration {
        let own = match &self.driver {
            Driver::Modbus(spec) => spec.tags.get(tag).and_then(|tag| tag.poll_every()),
            Driver::OpcUa(spec) => spec.tags.get(tag).and_then(|tag| tag.item.sample_every),
            Driver::Nats(_) => None,
        };
        own.unwrap_or_else(|| self.poll_every())
    }

    /// What values a tag has, as far as the configuration tells; the kinds of OPC UA are known to
    /// the server alone.
    #[must_use]
    pub fn value_kind(&self, tag: usize) -> ValueKind {
        match &self.driver {
            Driver::Modbus(spec) => {
                spec.tags.get(tag).map_or(ValueKind::None, |tag| tag.value_kind())
            }
            Driver::OpcUa(_) | Driver::Nats(_) => ValueKind::None,
        }
    }
}

/// What the daemon does with a tag.
#[derive(Debug, Clone, PartialEq)]
pub struct Tag {
    /// The whole path.
    pub path: TagPath,
    /// The address as it was written, for the catalog.
    pub address: Arc<str>,
    /// What it has in common with many others.
    pub manner: Arc<Manner>,
}

/// What the daemon does with the values of a tag; tags that are treated alike share one.
#[derive(Debug, Clone, PartialEq)]
pub struct Manner {
    /// The engineering unit.
    pub unit: Option<Arc<str>>,
    /// How much change is worth publishing.
    pub deadband: Deadband,
    /// Publish at least this often, unchanged or not.
    pub max_silence: Duration,
    /// What is recorded.
    pub record: RecordMode,
}

/// How much change is worth publishing on the live plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Deadband {
    /// Every change.
    None,
    /// More than this, in the tag's unit.
    Absolute(f64),
    /// More than this share of the last published value, in percent.
    Percent(f64),
}

/// What is recorded of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordMode {
    /// Every poll result.
    All,
    /// Only what differs from the reading before.
    Changes,
}
