//! What is printed from `hub.toml`: a configuration and a unit for each server, one compose file.
//!
//! # Invariants
//! - The same `hub.toml` prints the same bytes; a file that says the same already is not touched.
//! - Paths of certificates in a server's configuration are relative: its folder is copied to the
//!   server's machine as it is, and works there from whatever folder it is started in.
//! - Whoever connects as another server of the cluster could speak in every account, and each
//!   gateway has a certificate of the same authority. So servers know each other by a secret, too.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::file::{HubFile, HubNode};
use super::folder::{HubFolder, HubFolderError, Secrecy};
use super::plan::{Admitted, ClientPort, ClusterPort, Credential, HubPlan, HubUser, LeafPort};
use super::{PlanError, config};
use crate::config::TlsFiles;

/// The nats-server in the compose file.
const IMAGE: &str = "nats:2.15.1-alpine";

/// A word, in the configurations of all servers of a cluster and nowhere else.
pub struct ClusterSecret(Zeroizing<String>);

impl ClusterSecret {
    /// A new one; `None` when the system gives no random numbers.
    #[must_use]
    pub fn new() -> Option<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok()?;
        Some(Self(Zeroizing::new(tidegate_journal::Epoch(bytes).to_string())))
    }

    /// For the configurations.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

impl HubFile {
    /// What one of its servers is to be.
    #[must_use]
    pub fn plan(&self, node: &HubNode, secret: &ClusterSecret) -> HubPlan {
        let file = |name: &str| PathBuf::from(name);
        let tls = TlsFiles { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem") };
        let others = self.nodes.iter().filter(|other| other.name != node.name);
        let cluster = node.cluster.filter(|_| self.is_cluster()).map(|listen| ClusterPort {
            name: self.hub.name.clone(),
            listen,
            routes: others.filter_map(|other| Some(reached(other, other.cluster?))).collect(),
            secret: Zeroizing::new(secret.as_str().to_owned()),
            tls: tls.clone(),
        });
        let user = |person: &super::Person| HubUser {
            role: person.role,
            credential: Credential::Certificate { subject: person.subject() },
        };
        HubPlan {
            server_name: node.name.clone(),
            client: ClientPort { listen: node.client, tls: Some(tls.clone()) },
            leaf: LeafPort { listen: node.leaf, tls },
            websocket: node.websocket,
            cluster,
            store_dir: self.hub.store_dir.clone(),
            max_store_bytes: self.hub.max_store,
            domain: self.hub.domain.clone(),
            streams: self.streams.iter().map(|stream| stream.name.clone()).collect(),
            last_values: self.hub.last_values,
            ocsp: self.hub.ocsp,
            gateways: self.gateways.iter().filter_map(|it| self.admitted(it)).collect(),
            users: self.people.iter().map(user).collect(),
            anonymous: None,
            ports_dir: None,
        }
    }

    /// `None` cannot be: the check of the file finds each gateway's stream.
    fn admitted(&self, gateway: &super::HubGateway) -> Option<Admitted> {
        let mut asks: Vec<_> = self.shared_with(gateway).map(|other| other.id.clone()).collect();
        asks.sort();
        Some(Admitted {
            gateway: gateway.id.clone(),
            prefixes: gateway.prefixes.clone(),
            subject: gateway.subject(),
            stream: self.stream_of(&gateway.id)?.name.clone(),
            asks,
            app_publish: gateway.app_publish.clone(),
            app_subscribe: gateway.app_subscribe.clone(),
        })
    }
}

impl HubFolder {
    /// Prints everything that follows from `file`, and returns what is new or different.
    ///
    /// # Errors
    /// When a file cannot be read or written, or the hub is none.
    pub fn print(&self, file: &HubFile) -> Result<Vec<PathBuf>, HubFolderError> {
        let mut changed = Vec::new();
        let secret = self.cluster_secret(file)?;
        let mut put = |path: PathBuf, text: &str, secrecy| -> Result<(), HubFolderError> {
            if fs::read_to_string(&path).is_ok_and(|there| there == text) {
                return Ok(());
            }
            self.write(&path, text.as_bytes(), secrecy)?;
            changed.push(path);
            Ok(())
        };
        let mut printed = Vec::new();
        for node in &file.nodes {
            let text = config::generate(&file.plan(node, &secret));
            let text = text.map_err(|mistakes| self.no_hub(&mistakes))?;
            printed.push((self.conf(&node.name), text));
        }
        for (path, text) in printed {
            put(path, &text, Secrecy::Secret)?;
        }
        // The authority's certificate may come later, from somebody else.
        let ca = fs::read_to_string(self.ca()).ok();
        for node in &file.nodes {
            let folder = self.node(&node.name);
            put(folder.join("nats-server.service"), &unit(file, node), Secrecy::Open)?;
            if let Some(ca) = &ca {
                put(folder.join("ca.pem"), ca, Secrecy::Open)?;
            }
        }
        let (user, group) = owner(self.dir());
        put(self.compose(), &compose(file, user, group), Secrecy::Open)?;
        Ok(changed)
    }

    /// The secret of the cluster; made at the first time.
    fn cluster_secret(&self, file: &HubFile) -> Result<ClusterSecret, HubFolderError> {
        let path = self.dir().join("cluster.secret");
        let no_random = || HubFolderError::Random;
        if !file.is_cluster() {
            return ClusterSecret::new().ok_or_else(no_random);
        }
        match fs::read_to_string(&path) {
            Ok(text) => {
                let text = Zeroizing::new(text);
                Ok(ClusterSecret(Zeroizing::new(text.trim().to_owned())))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let secret = ClusterSecret::new().ok_or_else(no_random)?;
                self.write(&path, secret.as_str().as_bytes(), Secrecy::Secret)?;
                Ok(secret)
            }
            Err(source) => Err(HubFolderError::Unreadable { path, source }),
        }
    }

    fn no_hub(&self, mistakes: &[PlanError]) -> HubFolderError {
        let said: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        HubFolderError::NoHub { path: self.hub_toml(), said: said.join("; ") }
    }
}

/// How others reach a port of a server.
fn reached(node: &HubNode, port: SocketAddr) -> String {
    let host = node.hosts.first().map_or("", String::as_str);
    let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
    format!("{open}{host}{close}:{}", port.port())
}

impl HubNode {
    /// Where people and programs are told to connect.
    #[must_use]
    pub fn client_url(&self) -> String {
        format!("tls://{}", reached(self, self.client))
    }

    /// Where gateways are told to connect.
    #[must_use]
    pub fn leaf_url(&self) -> String {
        format!("tls://{}", reached(self, self.leaf))
    }

    /// Where gateways behind proxies are told to connect.
    #[must_use]
    pub fn websocket_url(&self) -> Option<String> {
        Some(format!("wss://{}", reached(self, self.websocket?)))
    }

    /// The names and addresses in its certificate: those by which it is reached, and its own name
    /// for containers.
    #[must_use]
    pub fn certified_hosts(&self) -> Vec<String> {
        let mut hosts = self.hosts.clone();
        let own = self.name.to_string();
        if !hosts.contains(&own) {
            hosts.push(own);
        }
        hosts
    }

    fn ports(&self) -> impl Iterator<Item = SocketAddr> {
        [Some(self.client), Some(self.leaf), self.websocket, self.cluster].into_iter().flatten()
    }
}

/// The systemd unit of a server.
fn unit(file: &HubFile, node: &HubNode) -> String {
    let conf = file.hub.conf_dir.display();
    let store = &file.hub.store_dir;
    // Writing to a String cannot fail, here and below.
    let mut state = String::new();
    match store.strip_prefix("/var/lib") {
        Ok(below) if !below.as_os_str().is_empty() => {
            let _ = writeln!(state, "StateDirectory={}", below.display());
            state.push_str("StateDirectoryMode=0700\n");
        }
        _ if store.is_absolute() => {
            let _ = writeln!(state, "ReadWritePaths={}", store.display());
        }
        _ => {
            let _ = writeln!(state, "ReadWritePaths={conf}/{}", store.display());
        }
    }
    let low = node.ports().any(|port| port.port() < 1024);
    let capability = if low { "CAP_NET_BIND_SERVICE" } else { "" };
    format!(
        "\
# Printed from hub.toml by `tidegate hub`; changes are overwritten.
# The folder of this file is {conf} on the server's machine, readable for user nats only.
[Unit]
Description=NATS server {name} of hub {hub}
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=/usr/local/bin/nats-server -c {conf}/nats-server.conf
ExecReload=/bin/kill -HUP $MAINPID
WorkingDirectory={conf}
User=nats
Group=nats
{state}\
Restart=always
RestartSec=2
# Streams are brought to the disk before the server ends.
TimeoutStopSec=60
LimitNOFILE=262144
UMask=0077
CapabilityBoundingSet={capability}
AmbientCapabilities={capability}
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
PrivateDevices=yes
PrivateTmp=yes
RestrictAddressFamilies=AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources

[Install]
WantedBy=multi-user.target
",
        name = node.name,
        hub = file.hub.name,
    )
}

/// All servers in containers: `docker compose up -d`, `podman compose up -d`.
fn compose(file: &HubFile, user: u32, group: u32) -> String {
    let conf = file.hub.conf_dir.display();
    let mut out = format!(
        "\
# Printed from hub.toml by `tidegate hub`; changes are overwritten. All servers on one machine: for
# a trial, for they share its power and its disk. Each on a machine of its own: take its service
# alone, or its systemd unit. Make the folders NODE-store first, for the user that is named below.
name: {}
services:
",
        yaml(&file.hub.name.as_str().to_ascii_lowercase())
    );
    let mut taken = HashSet::new();
    for node in &file.nodes {
        let name = node.name.as_str();
        let store = match file.hub.store_dir.is_absolute() {
            true => file.hub.store_dir.clone(),
            false => file.hub.conf_dir.join(&file.hub.store_dir),
        };
        let _ = write!(
            out,
            "  {service}:
    image: {image}
    command: [\"-c\", {command}]
    working_dir: {conf}
    hostname: {service}
    user: \"{user}:{group}\"
    restart: unless-stopped
    stop_grace_period: 60s
    read_only: true
    cap_drop: [\"ALL\"]
    security_opt: [\"no-new-privileges:true\"]
    ulimits:
      nofile: 262144
    volumes:
      - {files}
      - {store}
    ports:
",
            service = yaml(name),
            image = yaml(IMAGE),
            command = yaml(&format!("{conf}/nats-server.conf")),
            conf = yaml(&conf.to_string()),
            files = yaml(&format!("./{name}:{conf}:ro")),
            store = yaml(&format!("./{name}-store:{}", store.display())),
        );
        // Servers reach each other inside; only one may have a port of the machine.
        for port in [Some(node.client), Some(node.leaf), node.websocket].into_iter().flatten() {
            let inside = port.port();
            let free = (inside..=u16::MAX).find(|port| taken.insert(*port)).unwrap_or(inside);
            let host = match port.ip() {
                ip if ip.is_unspecified() => String::new(),
                std::net::IpAddr::V4(ip) => format!("{ip}:"),
                std::net::IpAddr::V6(ip) => format!("[{ip}]:"),
            };
            let _ = writeln!(out, "      - {}", yaml(&format!("{host}{free}:{inside}")));
        }
        let names = node.hosts.iter().filter(|host| host.parse::<std::net::IpAddr>().is_err());
        let names: Vec<_> = names.filter(|host| *host != name).map(|host| yaml(host)).collect();
        if !names.is_empty() {
            let _ = write!(
                out,
                "    networks:\n      default:\n        aliases: [{}]\n",
                names.join(", ")
            );
        }
    }
    out
}

/// A text in double quotes, which YAML reads as JSON does.
fn yaml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whose the folder is: the containers run as that user, for keys are readable for nobody else.
fn owner(dir: &Path) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(dir).map_or((0, 0), |it| (it.uid(), it.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::matches_vector;

    fn cluster(websocket: bool) -> HubFile {
        let mut text = "[hub]\nname = \"west\"\nmax-store = \"64 GiB\"\nlast-values = \"64 MiB\"\n\
                        ocsp = \"strict\"\n"
            .to_owned();
        for at in 1..4 {
            let _ = write!(
                text,
                "[[node]]\nname = \"west-{at}\"\nhosts = [\"hub-{at}.example.com\", \"192.0.2.{at}\"]\n\
                 client = \"0.0.0.0:4222\"\nleaf = \"0.0.0.0:7422\"\ncluster = \"0.0.0.0:6222\"\n"
            );
            if websocket {
                text.push_str("websocket = \"0.0.0.0:443\"\n");
            }
        }
        text.push_str(
            "[[stream]]\nname = \"A\"\nplants = [\"PlantA\"]\nmax-bytes = \"20 GiB\"\n\
             [[stream]]\nname = \"B\"\nplants = [\"PlantB\", \"PlantC\"]\n\
             [[user]]\nname = \"admin\"\nrole = \"admin\"\n\
             [[user]]\nname = \"operator\"\nrole = \"operator\"\n\
             [[user]]\nname = \"historian\"\nrole = \"reader\"\n\
             [[user]]\nname = \"orders\"\nrole = \"application\"\n\
             [[gateway]]\nid = \"PlantA/gw1\"\nprefixes = [\"PlantA/Line3\"]\nshares = [\"PlantB/*\"]\n\
             app-publish = [\"orders.*.new\"]\napp-subscribe = [\"recipes.>\"]\n\
             [[gateway]]\nid = \"PlantB/gw1\"\nbytes = \"1 GiB\"\n\
             [[gateway]]\nid = \"PlantB/gw2\"\nbytes = \"2 GiB\"\n",
        );
        HubFile::read(Path::new("hub.toml"), &text).unwrap()
    }

    fn secret() -> ClusterSecret {
        ClusterSecret(Zeroizing::new("0123456789abcdef".to_owned()))
    }

    fn conf(file: &HubFile, at: usize) -> String {
        config::generate(&file.plan(&file.nodes[at], &secret())).unwrap()
    }

    #[test]
    fn a_server_of_a_cluster_matches_its_vector() {
        let text = conf(&cluster(true), 0);
        matches_vector("cluster.conf", &text);
    }

    #[test]
    fn servers_of_a_cluster_differ_in_their_names_and_routes_only() {
        let file = cluster(false);
        let lines = |at| conf(&file, at).lines().map(str::to_owned).collect::<Vec<_>>();
        let (one, other) = (lines(0), lines(1));
        assert_eq!(one.len(), other.len());
        let differ: Vec<_> = one.iter().zip(&other).filter(|(a, b)| a != b).collect();
        assert!(
            differ.iter().all(|(a, _)| a.contains("server_name") || a.contains("nats-route://")),
            "{differ:?}"
        );
        assert_eq!(differ.len(), 2, "{differ:?}");
    }

    #[test]
    fn the_unit_and_the_compose_file_match_their_vectors() {
        let file = cluster(true);
        matches_vector("nats-server.service", &unit(&file, &file.nodes[0]));
        matches_vector("compose.yaml", &compose(&file, 1000, 1000));
    }

    #[test]
    fn what_did_not_change_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = HubFolder::at(dir.path());
        let mut file = cluster(false);
        assert_eq!(folder.print(&file).unwrap().len(), 3 + 3 + 1);
        assert_eq!(folder.print(&file).unwrap(), Vec::<PathBuf>::new());
        file.gateways.pop();
        let changed = folder.print(&file).unwrap();
        assert_eq!(changed, file.nodes.iter().map(|it| folder.conf(&it.name)).collect::<Vec<_>>());
        let secret = fs::read_to_string(dir.path().join("cluster.secret")).unwrap();
        let conf = fs::read_to_string(folder.conf(&file.nodes[2].name)).unwrap();
        assert!(conf.contains(&secret), "all servers have the same secret");
        assert!(
            !format!("{:?}", file.plan(&file.nodes[0], &ClusterSecret::new().unwrap()))
                .contains(&secret)
        );
    }
}
