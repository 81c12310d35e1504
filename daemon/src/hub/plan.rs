//! What a hub is to be, before it is written down for nats-server.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use tidegate_translator::TagPath;
use zeroize::Zeroizing;

use super::Ocsp;
use super::tier::{MirrorUser, Region, Site};
use crate::config::TlsFiles;
use crate::names::{GatewayId, Name};

/// Everything that a hub's configuration is made of.
#[derive(Debug, Clone)]
pub struct HubPlan {
    /// Unique among servers, and permanent: JetStream's files belong to it.
    pub server_name: Name,
    /// Where people and programs connect.
    pub client: ClientPort,
    /// Where gateways connect.
    pub leaf: LeafPort,
    /// Where gateways connect by `wss`, with the certificate of the leaf port.
    pub websocket: Option<SocketAddr>,
    /// The other servers, where there are any.
    pub cluster: Option<ClusterPort>,
    /// Where the streams are kept.
    pub store_dir: PathBuf,
    /// The most that JetStream may put there, in bytes.
    pub max_store_bytes: u64,
    /// The JetStream domain; gateways accept acknowledgements from no other.
    pub domain: Name,
    /// The streams that collect frames.
    pub streams: Vec<Name>,
    /// Memory for the last value of each tag, in bytes; `None` keeps none.
    pub last_values: Option<u64>,
    /// Whether gateways' certificates are asked about.
    pub ocsp: Ocsp,
    /// Who may deliver.
    pub gateways: Vec<Admitted>,
    /// The sites that speak for further gateways.
    pub sites: Vec<Site>,
    /// The hubs that may mirror the streams.
    pub mirrors: Vec<MirrorUser>,
    /// The hubs whose streams are mirrored here.
    pub regions: Vec<Region>,
    /// Who may administrate and read.
    pub users: Vec<HubUser>,
    /// The role of whoever connects without credentials; legal on loopback alone.
    pub anonymous: Option<Role>,
    /// Where the server writes down which ports it got, for ports chosen by the system (0).
    pub ports_dir: Option<PathBuf>,
}

/// The client listener.
#[derive(Debug, Clone)]
pub struct ClientPort {
    /// Address and port; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// With files, everybody shows a certificate and is known by its subject. Without, users
    /// have passwords and the port is loopback's.
    pub tls: Option<TlsFiles>,
}

/// The leaf listener: always mutual TLS 1.3.
#[derive(Debug, Clone)]
pub struct LeafPort {
    /// Address and port; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The hub's certificate, and the authorities that gateways' certificates come from.
    pub tls: TlsFiles,
}

/// The listener for the other servers of a cluster.
#[derive(Clone)]
pub struct ClusterPort {
    /// The cluster's name.
    pub name: Name,
    /// Address and port.
    pub listen: SocketAddr,
    /// The others, `host:port`.
    pub routes: Vec<String>,
    /// By which servers know each other: a certificate of the authority is what gateways have, too.
    pub secret: Zeroizing<String>,
    /// The certificate that the server shows to the others.
    pub tls: TlsFiles,
}

impl fmt::Debug for ClusterPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ClusterPort");
        shown.field("listen", &self.listen).field("routes", &self.routes).finish_non_exhaustive()
    }
}

/// A gateway that may deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Which one.
    pub gateway: GatewayId,
    /// Where its live values may stand. Its own health below `<plant>/_gateways/<name>` always
    /// may.
    pub prefixes: Vec<TagPath>,
    /// The subject of its certificate, as RFC 2253 writes it.
    pub subject: String,
    /// The stream of its frames.
    pub stream: Name,
    /// Whom it may ask.
    pub asks: Vec<GatewayId>,
    /// Subjects that applications beside it may publish.
    pub app_publish: Vec<String>,
    /// Subjects that applications beside it may hear.
    pub app_subscribe: Vec<String>,
}

/// Somebody at the hub who is no gateway.
#[derive(Debug, Clone)]
pub struct HubUser {
    /// What the user may do.
    pub role: Role,
    /// How the user is known.
    pub credential: Credential,
}

/// How a user is known.
#[derive(Clone)]
pub enum Credential {
    /// By a name and a password, or a password's bcrypt hash.
    Password {
        /// The name.
        user: String,
        /// The password or its hash.
        password: String,
    },
    /// By the subject of a certificate, as RFC 2253 writes it.
    Certificate {
        /// The subject.
        subject: String,
    },
}

impl Credential {
    /// The name that nats-server knows the user by.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Password { user, .. } => user,
            Self::Certificate { subject } => subject,
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credential").field(&self.name()).finish()
    }
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Makes and changes the stream.
    Admin,
    /// Reads records and live values, and changes nothing.
    Reader,
    /// Reloads the server, cuts connections, hears who connects.
    System,
    /// Speaks with applications beside gateways, on the subjects that these have for that.
    Application,
}

impl Role {
    /// As `hub.toml` and the command line write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Reader => "reader",
            Self::System => "operator",
            Self::Application => "application",
        }
    }
}

/// Why a plan is no hub.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Passwords and records in the clear on a network.
    #[error(
        "client port {listen} is not loopback and has no TLS; give it certificate files, or listen on 127.0.0.1"
    )]
    Plaintext {
        /// Where it would listen.
        listen: SocketAddr,
    },
    /// Anonymous access where others can reach it, or where certificates are asked for.
    #[error(
        "client port {listen} cannot have users without credentials; only a loopback port without TLS can"
    )]
    Anonymous {
        /// Where it would listen.
        listen: SocketAddr,
    },
    /// The anonymous user would be more than a reader.
    #[error("whoever connects without credentials can only be a reader, not {role:?}")]
    AnonymousRole {
        /// What was asked for.
        role: Role,
    },
    /// The port cannot know this user.
    #[error("user {user:?} cannot log in: client port {listen} knows users by {known_by} only")]
    CannotLogIn {
        /// The user.
        user: String,
        /// The port.
        listen: SocketAddr,
        /// What the port asks for.
        known_by: &'static str,
    },
    /// A gateway's stream is not at this hub.
    #[error("the frames of {gateway} go to stream {stream}, which this hub does not have")]
    NoStream {
        /// The gateway.
        gateway: GatewayId,
        /// Its stream.
        stream: Name,
    },
    /// Two of one name.
    #[error("{what} {name:?} appears twice; each may appear once")]
    Twice {
        /// Of what.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name that is empty or has a control character.
    #[error("{what} {name:?} is no name; use the text of the certificate's subject")]
    NoName {
        /// Of what.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// nats-server reads its configuration as Unicode.
    #[error("path {path} is not Unicode; choose another one", path = path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
}

impl HubPlan {
    /// Everything that is wrong with the plan; empty when nothing is.
    #[must_use]
    pub fn mistakes(&self) -> Vec<PlanError> {
        let mut mistakes = Vec::new();
        let listen = self.client.listen;
        let known_by = if self.client.tls.is_some() { "certificate" } else { "password" };
        let loopback = listen.ip().is_loopback();
        if self.client.tls.is_none() && !loopback {
            mistakes.push(PlanError::Plaintext { listen });
        }
        match self.anonymous {
            Some(_) if self.client.tls.is_some() || !loopback => {
                mistakes.push(PlanError::Anonymous { listen });
            }
            Some(role) if role != Role::Reader => mistakes.push(PlanError::AnonymousRole { role }),
            _ => {}
        }
        let (mut names, mut gateways) = (HashSet::new(), HashSet::new());
        let mut name_once = |what, name: &str| {
            let is_name = !name.is_empty() && !name.chars().any(char::is_control);
            if !is_name {
                mistakes.push(PlanError::NoName { what, name: name.to_owned() });
            }
            if !names.insert(name.to_owned()) {
                mistakes.push(PlanError::Twice { what, name: name.to_owned() });
            }
        };
        name_once("user", super::config::ANONYMOUS);
        for user in &self.users {
            name_once("user", user.credential.name());
        }
        for admitted in &self.gateways {
            name_once("certificate subject", &admitted.subject);
        }
        for site in &self.sites {
            name_once("certificate subject", &site.subject);
        }
        for mirror in &self.mirrors {
            name_once("certificate subject", &mirror.subject);
        }
        let at_sites = self.sites.iter().flat_map(|site| &site.gateways);
        for Admitted { gateway, stream, .. } in self.gateways.iter().chain(at_sites.clone()) {
            if !self.streams.contains(stream) {
                let (gateway, stream) = (gateway.clone(), stream.clone());
                mistakes.push(PlanError::NoStream { gateway, stream });
            }
        }
        for admitted in self.gateways.iter().chain(at_sites) {
            if !gateways.insert(&admitted.gateway) {
                let name = admitted.gateway.to_string();
                mistakes.push(PlanError::Twice { what: "gateway", name });
            }
        }
        for user in &self.users {
            let has = matches!(user.credential, Credential::Certificate { .. });
            if has != self.client.tls.is_some() {
                let user = user.credential.name().to_owned();
                mistakes.push(PlanError::CannotLogIn { user, listen, known_by });
            }
        }
        let tls = self.client.tls.iter().chain([&self.leaf.tls]);
        let tls = tls.chain(self.cluster.iter().map(|cluster| &cluster.tls));
        let tls = tls.chain(self.regions.iter().map(|region| &region.tls));
        let files = tls.flat_map(|files| [&files.ca, &files.cert, &files.key]);
        for path in files.chain([&self.store_dir]).chain(&self.ports_dir) {
            if path.to_str().is_none() {
                mistakes.push(PlanError::Path { path: path.clone() });
            }
        }
        mistakes
    }
}
