//! A hub for a laptop or a test: one server on loopback with a throw-away authority.
//!
//! # Invariants
//! - Gateways come in by mutual TLS 1.3, as at a real hub; only the authority is thrown away.
//! - Everything is written below one directory, secrets with mode 0600.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tidegate_identity::lab::{Issued, LabCa, Lifetime, gateway_subject};
use tidegate_translator::TagPath;

use super::{Admitted, ClientPort, Credential, HubPlan, HubUser, LeafPort, Ocsp, Role, generate};
use crate::config::TlsFiles;
use crate::names::{GatewayId, Name};

/// What was written, for whoever starts the server.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LabHub {
    /// nats-server's configuration.
    pub config: PathBuf,
    /// The throw-away authority.
    pub ca: PathBuf,
    /// Where the server writes down which ports it got.
    pub ports_dir: PathBuf,
    /// The stream that collects frames.
    pub stream: String,
    /// The JetStream domain.
    pub domain: String,
    /// Makes the stream.
    pub admin: LabUser,
    /// Reads records and live values.
    pub reader: LabUser,
    /// Reloads, cuts connections, hears who connects.
    pub operator: LabUser,
    /// The admitted gateways.
    pub gateways: Vec<LabGateway>,
}

/// A user of the client port.
#[derive(Clone, serde::Serialize)]
pub struct LabUser {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for LabUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LabUser").field(&self.user).finish()
    }
}

/// An admitted gateway and its files.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LabGateway {
    /// `PLANT/NAME`.
    pub gateway: String,
    /// Its certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The subject by which the hub knows it.
    pub dn: String,
}

/// Why there is no lab hub.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The directory refuses.
    #[error("{path} cannot be written", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate could not be issued.
    #[error(transparent)]
    Issue(#[from] tidegate_identity::lab::IssueError),
    /// No random numbers for passwords.
    #[error("the system gives no random numbers")]
    Random,
    /// The plan is not legal.
    #[error("the hub cannot be configured: {0}")]
    Plan(String),
}

/// Writes a hub's configuration and certificates below `dir`. It listens on loopback, for clients
/// on a port of the system's choice and for leaf nodes on `leaf_port` (0 lets the system choose);
/// with `anonymous`, readers need no password.
///
/// # Errors
/// When the directory cannot be written.
pub fn write_lab(
    dir: &Path,
    admitted: &[GatewayId],
    hosts: &[String],
    leaf_port: u16,
    anonymous: bool,
) -> Result<LabHub, LabError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| LabError::File { path, source }
    };
    let dir = std::path::absolute(dir).map_err(file(dir))?;
    let (ports_dir, store_dir) = (dir.join("ports"), dir.join("store"));
    for folder in [&dir, &ports_dir, &store_dir] {
        fs::create_dir_all(folder).map_err(file(folder))?;
    }
    // A clock that differs a little between two machines must not refuse a fresh certificate.
    let lifetime = Lifetime::from(SystemTime::now() - std::time::Duration::from_secs(300));
    let authority = LabCa::new("Tidegate lab CA", lifetime)?;
    let ca = dir.join("ca.pem");
    write(&ca, authority.certificate_pem().as_bytes(), 0o644)?;
    let own = ["127.0.0.1", "localhost"].into_iter();
    let names: Vec<_> = own.chain(hosts.iter().map(String::as_str)).collect();
    let hub = authority.hub("hub-1", &names, lifetime)?;
    let hub_files = issued(&dir, "hub-1", &hub, &ca)?;
    let name = |text: &str| Name::new(text).map_err(|error| LabError::Plan(error.to_string()));
    let mut plan_gateways = Vec::new();
    let mut gateways = Vec::new();
    for gateway in admitted {
        let files = issued(
            &dir,
            &format!("{}-{}", gateway.plant, gateway.name),
            &authority.gateway(&gateway.to_string(), lifetime)?,
            &ca,
        )?;
        let subject = gateway_subject(&gateway.to_string());
        let prefix = TagPath::new(gateway.plant.as_str());
        let prefix = prefix.map_err(|error| LabError::Plan(error.to_string()))?;
        gateways.push(LabGateway {
            gateway: gateway.to_string(),
            cert: files.cert,
            key: files.key,
            dn: subject.clone(),
        });
        plan_gateways.push(Admitted {
            gateway: gateway.clone(),
            prefixes: vec![prefix],
            subject,
            stream: name("TIDE")?,
            asks: Vec::new(),
            app_publish: Vec::new(),
            app_subscribe: Vec::new(),
        });
    }
    let (admin, reader, operator) = (user("admin")?, user("reader")?, user("operator")?);
    let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let plan = HubPlan {
        server_name: name("hub-1")?,
        client: ClientPort { listen: loopback(0), tls: None },
        leaf: LeafPort { listen: loopback(leaf_port), tls: hub_files },
        websocket: None,
        cluster: None,
        store_dir,
        max_store_bytes: 1 << 30,
        domain: name("hub")?,
        streams: vec![name("TIDE")?],
        last_values: None,
        ocsp: Ocsp::Off,
        gateways: plan_gateways,
        users: vec![
            may(Role::Admin, &admin),
            may(Role::Reader, &reader),
            may(Role::System, &operator),
        ],
        anonymous: anonymous.then_some(Role::Reader),
        ports_dir: Some(ports_dir.clone()),
    };
    let text = generate(&plan).map_err(|mistakes| {
        let said: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        LabError::Plan(said.join("; "))
    })?;
    let config = dir.join("hub.conf");
    write(&config, text.as_bytes(), 0o600)?;
    Ok(LabHub {
        config,
        ca,
        ports_dir,
        stream: "TIDE".to_owned(),
        domain: "hub".to_owned(),
        admin,
        reader,
        operator,
        gateways,
    })
}

fn user(name: &str) -> Result<LabUser, LabError> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|_| LabError::Random)?;
    let password = tidegate_journal::Epoch(secret).to_string();
    Ok(LabUser { user: name.to_owned(), password })
}

fn may(role: Role, user: &LabUser) -> HubUser {
    let credential =
        Credential::Password { user: user.user.clone(), password: user.password.clone() };
    HubUser { role, credential }
}

fn issued(dir: &Path, stem: &str, issued: &Issued, ca: &Path) -> Result<TlsFiles, LabError> {
    let cert = dir.join(format!("{stem}.pem"));
    let key = dir.join(format!("{stem}.key"));
    write(&cert, issued.certificate_pem.as_bytes(), 0o644)?;
    write(&key, issued.key_pem.as_bytes(), 0o600)?;
    Ok(TlsFiles { ca: ca.to_owned(), cert, key })
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), LabError> {
    let made = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    made.and_then(|mut file| file.write_all(bytes))
        .map_err(|source| LabError::File { path: path.to_owned(), source })
}
