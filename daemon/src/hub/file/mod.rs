//! `hub.toml`: what a hub is, who may deliver to it and who may read there.
//!
//! # Invariants
//! - It is the only truth about a hub. Configurations of servers are printed from it and never
//!   read back.
//! - Holding a [`HubFile`] proves that it is legal: all that is wrong with a text comes in one
//!   [`Mistakes`].
//! - What a person wrote stays: a gateway that is admitted or revoked changes its own lines only.
//! - Nothing in it is secret.

mod check;
mod edit;
mod print;
mod read;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_identity::lab::{gateway_subject, reader_subject};
use tidegate_translator::TagPath;

use super::Role;
use crate::names::{GatewayId, Name, Share};

pub use crate::config::Mistakes;
pub(crate) use read::{default_conf_dir, default_store_dir};

/// A hub as its `hub.toml` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// What all servers have in common.
    pub hub: HubSettings,
    /// Its servers: one, or three and more in a cluster.
    pub nodes: Vec<HubNode>,
    /// Its streams; never empty.
    pub streams: Vec<HubStream>,
    /// Who may deliver.
    pub gateways: Vec<HubGateway>,
    /// Servers between some gateways and this hub.
    pub sites: Vec<HubSite>,
    /// Hubs that may mirror this one's streams.
    pub mirrors: Vec<HubMirror>,
    /// Hubs whose streams are mirrored here.
    pub regions: Vec<HubRegion>,
    /// Who may administrate, operate and read.
    pub people: Vec<Person>,
}

/// What all servers of a hub have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// The hub's name; the cluster's as well.
    pub name: Name,
    /// The JetStream domain; gateways accept acknowledgements from no other.
    pub domain: Name,
    /// Where a server keeps its streams, on its own machine; below its configuration when relative.
    pub store_dir: PathBuf,
    /// The most that JetStream may put there, on each server, in bytes.
    pub max_store: u64,
    /// Where a server finds its configuration on its own machine.
    pub conf_dir: PathBuf,
    /// Memory for the last value of each tag, in bytes, on each server; `None` keeps none.
    pub last_values: Option<u64>,
    /// Whether servers ask for the revocation of gateways' certificates.
    pub ocsp: Ocsp,
}

/// Whether a server asks an authority's OCSP responder about a gateway's certificate. The
/// certificate names the responder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ocsp {
    /// It does not ask.
    Off,
    /// Whoever the responder says nothing about is let in.
    Lenient,
    /// Whoever the responder does not vouch for is refused, also while it is away.
    Strict,
}

/// A server of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubNode {
    /// Unique, and permanent: JetStream's files belong to it.
    pub name: Name,
    /// The names and addresses in its certificate; gateways and people are told the first.
    pub hosts: Vec<String>,
    /// Where people and programs connect.
    pub client: SocketAddr,
    /// Where gateways connect.
    pub leaf: SocketAddr,
    /// Where gateways behind proxies connect, by `wss`.
    pub websocket: Option<SocketAddr>,
    /// Where the other servers connect; of a cluster only.
    pub cluster: Option<SocketAddr>,
}

/// A stream of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubStream {
    /// Its name.
    pub name: Name,
    /// Whose frames.
    pub takes: Takes,
    /// The most that it keeps, in bytes. `None`: the sum of its gateways' budgets, as far as each
    /// has one.
    pub max_bytes: Option<u64>,
    /// The longest that it keeps a frame; `None` is for ever.
    pub max_age: Option<Duration>,
    /// The region whose stream of the same name it mirrors, until it is promoted.
    pub mirrors: Option<Name>,
}

/// A server of its own between some gateways and this hub, such as one for a plant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSite {
    /// Unique among servers.
    pub name: Name,
    /// The names and addresses in its certificate; its gateways are told the first.
    pub hosts: Vec<String>,
    /// Where people of the site watch live values.
    pub client: SocketAddr,
    /// Where its gateways connect.
    pub leaf: SocketAddr,
    /// The gateways that it serves. They connect nowhere else.
    pub gateways: Vec<Share>,
    /// The subject of its certificate as RFC 2253 writes it, where that is not the usual one.
    pub subject: Option<String>,
}

/// A hub that may mirror this one's streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubMirror {
    /// Its name.
    pub name: Name,
    /// The subject of its certificate as RFC 2253 writes it, where that is not the usual one.
    pub subject: Option<String>,
}

/// A hub whose streams are mirrored here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubRegion {
    /// Its name.
    pub name: Name,
    /// Its servers' leaf ports, as `tls://HOST:PORT`.
    pub urls: Vec<String>,
}

/// Whose frames a stream collects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Takes {
    /// Those of every gateway.
    Every,
    /// Those of all gateways in these plants.
    Plants(Vec<Name>),
    /// Those of these gateways: what pushes out old frames is their own only.
    Gateways(Vec<GatewayId>),
}

/// A gateway that may deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubGateway {
    /// Which one.
    pub id: GatewayId,
    /// Where its live values may stand. Its own health below `<plant>/_gateways/<name>` always
    /// may.
    pub prefixes: Vec<TagPath>,
    /// Its budget in the stream, in bytes.
    pub bytes: Option<u64>,
    /// Whom it may ask. Gateways share nothing unless it is written here.
    pub shares: Vec<Share>,
    /// Subjects that applications beside it may publish to the hub.
    pub app_publish: Vec<String>,
    /// Subjects that applications beside it may hear from the hub.
    pub app_subscribe: Vec<String>,
    /// The subject of its certificate as RFC 2253 writes it, where that is not the usual one.
    pub subject: Option<String>,
}

/// Somebody at the hub who is no gateway, known by a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// What the files of the certificate are called.
    pub name: Name,
    /// What the person may do.
    pub role: Role,
    /// The subject of the certificate as RFC 2253 writes it, where that is not the usual one.
    pub subject: Option<String>,
}

impl HubFile {
    /// Whether it has more than one server.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.nodes.len() > 1
    }

    /// Copies of each message: on as many servers as may fail while another one holds it, three at
    /// most.
    #[must_use]
    pub fn replicas(&self) -> usize {
        if self.nodes.len() < 3 { 1 } else { 3 }
    }

    /// A gateway that is admitted.
    #[must_use]
    pub fn gateway(&self, id: &GatewayId) -> Option<&HubGateway> {
        self.gateways.iter().find(|gateway| gateway.id == *id)
    }

    /// The stream that collects a gateway's frames.
    #[must_use]
    pub fn stream_of(&self, id: &GatewayId) -> Option<&HubStream> {
        self.streams.iter().find(|stream| stream.takes.holds(id))
    }

    /// The most that a stream keeps, in bytes: what is written, else the sum of its gateways'
    /// budgets, where each of them has one.
    #[must_use]
    pub fn bytes_of(&self, stream: &HubStream) -> Option<u64> {
        if stream.max_bytes.is_some() {
            return stream.max_bytes;
        }
        let mut own = self.gateways.iter().filter(|it| stream.takes.holds(&it.id)).peekable();
        own.peek()?;
        own.try_fold(0_u64, |sum, gateway| Some(sum.saturating_add(gateway.bytes?)))
    }

    /// The site that serves a gateway, where one does.
    #[must_use]
    pub fn site_of(&self, id: &GatewayId) -> Option<&HubSite> {
        self.sites.iter().find(|site| site.serves(id))
    }

    /// The people of a role.
    pub fn people_of(&self, role: Role) -> impl Iterator<Item = &Person> {
        self.people.iter().filter(move |person| person.role == role)
    }

    /// The gateways whose answers `gateway` may have, itself left out.
    pub fn shared_with(&self, gateway: &HubGateway) -> impl Iterator<Item = &HubGateway> {
        self.gateways.iter().filter(move |other| {
            other.id != gateway.id && gateway.shares.iter().any(|share| share.holds(&other.id))
        })
    }
}

impl Takes {
    /// Whether it takes a gateway's frames.
    #[must_use]
    pub fn holds(&self, id: &GatewayId) -> bool {
        match self {
            Self::Every => true,
            Self::Plants(plants) => plants.contains(&id.plant),
            Self::Gateways(gateways) => gateways.contains(id),
        }
    }

    /// The subjects that the stream collects.
    #[must_use]
    pub fn subjects(&self) -> Vec<String> {
        match self {
            Self::Every => vec![crate::subjects::EVERY_FRAMES.to_owned()],
            Self::Plants(plants) => {
                plants.iter().map(|plant| format!("tide.{plant}.*.*.frames")).collect()
            }
            Self::Gateways(gateways) => gateways.iter().map(crate::subjects::all_frames).collect(),
        }
    }
}

impl HubGateway {
    /// A gateway that shares nothing and has no budget.
    #[must_use]
    pub const fn new(id: GatewayId, prefixes: Vec<TagPath>) -> Self {
        Self {
            id,
            prefixes,
            bytes: None,
            shares: Vec::new(),
            app_publish: Vec::new(),
            app_subscribe: Vec::new(),
            subject: None,
        }
    }

    /// The subject of its certificate as RFC 2253 writes it: its user name at the hub.
    #[must_use]
    pub fn subject(&self) -> String {
        self.subject.clone().unwrap_or_else(|| gateway_subject(&self.id.to_string()))
    }
}

impl HubSite {
    /// Whether a gateway connects here.
    #[must_use]
    pub fn serves(&self, id: &GatewayId) -> bool {
        self.gateways.iter().any(|share| share.holds(id))
    }

    /// The subject of its certificate as RFC 2253 writes it: its user name at the hub.
    #[must_use]
    pub fn subject(&self) -> String {
        self.subject.clone().unwrap_or_else(|| server_subject(&self.name))
    }
}

impl HubMirror {
    /// The subject of its certificate as RFC 2253 writes it: its user name at the hub.
    #[must_use]
    pub fn subject(&self) -> String {
        self.subject.clone().unwrap_or_else(|| server_subject(&self.name))
    }
}

/// The subject that the lab authority gives a server, as RFC 2253 writes it.
fn server_subject(name: &Name) -> String {
    format!("CN={name},O=Tidegate hub")
}

impl Person {
    /// The subject of the certificate as RFC 2253 writes it: the user name at the hub.
    #[must_use]
    pub fn subject(&self) -> String {
        self.subject.clone().unwrap_or_else(|| reader_subject(self.name.as_str()))
    }
}

#[cfg(test)]
mod tests;
