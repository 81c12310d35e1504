//! A hub as `tidegate hub init` and `tidegate hub apply` write it, with an authority of the rig's own.
//!
//! # Invariants
//! - Nothing is written into a server's folder but the certificates that the binary asks for.
//! - Every port is reserved for as long as the hub exists.

mod ops;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use tokio::net::TcpSocket;

use crate::family::Family;
use crate::hub::Credentials;
use crate::server::Server;
use crate::{tools, wait, wan};

/// The first ports that `hub init` is told; each is replaced by one that is free.
const PORTS: [(&str, u16); 4] =
    [("client", 24_222), ("leaf", 27_422), ("websocket", 28_443), ("cluster", 26_222)];

/// How long a cluster may take to agree, on a machine that has other work.
const TO_AGREE: Duration = Duration::from_secs(45);

/// A hub that `tidegate hub` wrote.
#[derive(Debug)]
pub struct PlannedHub {
    family: Arc<Family>,
    folder: PathBuf,
    authority: Authority,
    nodes: Vec<PlannedNode>,
    _ports: Vec<TcpSocket>,
}

#[derive(Debug)]
struct PlannedNode {
    folder: PathBuf,
    ports: [SocketAddr; 4],
    server: Option<Server>,
}

impl PlannedHub {
    /// Has the binary write a hub of so many servers on this machine, which admits `gateways`
    /// (tables of `hub.toml`), and gives everybody certificates. Nothing runs yet.
    ///
    /// # Errors
    /// When the binary refuses.
    pub fn written(
        family: &Arc<Family>,
        folder: &Path,
        servers: usize,
        more: &[&str],
        gateways: &str,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let authority = Authority::new(&folder.join("rig-authority"))?;
        let hub = folder.join("hub");
        let mut init = family.command(tools::gateway()?);
        init.args(["hub", "init", "--listen", "127.0.0.1", "--store-dir", "store"]);
        init.arg("--dir").arg(&hub).arg("--ca").arg(&authority.ca);
        for _ in 0..servers {
            init.args(["--host", "127.0.0.1"]);
        }
        for (name, port) in PORTS {
            init.args([format!("--{name}-port"), port.to_string()]);
        }
        told(init.args(more).output()?)?;
        let mut text = std::fs::read_to_string(hub.join("hub.toml"))?;
        let (mut nodes, mut reserved) = (Vec::new(), Vec::new());
        for at in 0..servers {
            let mut ports = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); 4];
            for (own, (name, first)) in ports.iter_mut().zip(PORTS) {
                let port = wan::reserve(*own)?;
                *own = port.local_addr()?;
                reserved.push(port);
                let planned = format!("{name} = \"127.0.0.1:{}\"", first + u16::try_from(at)?);
                let alone = servers == 1 && name == "cluster";
                ensure!(alone || text.contains(&planned), "no {planned} in {text}");
                text = text.replace(&planned, &format!("{name} = \"{own}\""));
            }
            let folder = hub.join(format!("hub-{}", at + 1));
            nodes.push(PlannedNode { folder, ports, server: None });
        }
        text.push_str(gateways);
        std::fs::write(hub.join("hub.toml"), text)?;
        let family = Arc::clone(family);
        let planned = Self { family, folder: hub, authority, nodes, _ports: reserved };
        for node in &planned.nodes {
            let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let (cert, key) = (node.folder.join("cert.pem"), node.folder.join("key.pem"));
            planned.authority.issue("hub", "Rig hub", true, &both, &cert, &key)?;
        }
        for person in ["admin", "operator", "reader", "orders"] {
            let credentials = planned.person(person);
            let dir = credentials.cert.parent().context("no folder")?;
            std::fs::create_dir_all(dir)?;
            let client = [ExtendedKeyUsagePurpose::ClientAuth];
            let Credentials { cert, key, .. } = &credentials;
            planned.authority.issue(person, "Tidegate readers", false, &client, cert, key)?;
        }
        planned.apply(&[])?;
        Ok(planned)
    }

    /// `tidegate hub apply`: what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn apply(&self, more: &[&str]) -> anyhow::Result<String> {
        let mut apply = self.family.command(tools::gateway()?);
        apply.args(["hub", "apply"]).args(more).arg("--dir").arg(&self.folder);
        told(apply.output()?)
    }

    /// What `nats-server -t` says about each server's configuration.
    ///
    /// # Errors
    /// When it refuses one.
    pub fn checked_by_nats_server(&self) -> anyhow::Result<()> {
        for node in &self.nodes {
            let mut check = self.family.command(tools::nats_server()?);
            check.args(["-t", "-c", "nats-server.conf"]).current_dir(&node.folder);
            told(check.output()?)?;
        }
        Ok(())
    }

    /// What is wrong with the compose file, found without an engine.
    ///
    /// # Errors
    /// When anything is.
    pub fn compose_checked(&self) -> anyhow::Result<()> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("hub/check_compose.py");
        let mut check = self.family.command(tools::python()?);
        told(check.arg(script).arg(self.folder.join("compose.yaml")).output()?).map(drop)
    }

    /// Starts all servers, each in its folder, and has the binary make the streams.
    ///
    /// # Errors
    /// When a server does not come up, or they do not agree.
    pub async fn start(&mut self) -> anyhow::Result<String> {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            let log = self.folder.join(format!("server-{at}.log"));
            let config = node.folder.join("nats-server.conf");
            node.server = Some(Server::start(&self.family, &config, &log).await?);
        }
        wait::until(TO_AGREE, "the hub makes its streams", || {
            let made = self.apply(&["--streams"]);
            async move { Ok(made.ok()) }
        })
        .await
    }

    /// Where gateways connect to a server.
    #[must_use]
    pub fn leaf(&self, at: usize) -> SocketAddr {
        self.nodes[at].ports[1]
    }

    /// Where gateways connect to a server by `wss`.
    #[must_use]
    pub fn websocket(&self, at: usize) -> SocketAddr {
        self.nodes[at].ports[2]
    }

    /// Where other servers connect to a server.
    #[must_use]
    pub fn cluster(&self, at: usize) -> SocketAddr {
        self.nodes[at].ports[3]
    }

    /// The URL for people and programs.
    #[must_use]
    pub fn url(&self, at: usize) -> String {
        format!("tls://{}", self.nodes[at].ports[0])
    }

    /// The folder of a server.
    #[must_use]
    pub fn node(&self, at: usize) -> &Path {
        &self.nodes[at].folder
    }

    /// What a server has logged.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn log(&self, at: usize) -> anyhow::Result<String> {
        let bytes = std::fs::read(self.folder.join(format!("server-{at}.log")))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What one of the hub's people shows.
    #[must_use]
    pub fn person(&self, name: &str) -> Credentials {
        let file = |ending: &str| self.folder.join("users").join(format!("{name}.{ending}"));
        Credentials { ca: self.authority.ca.clone(), cert: file("pem"), key: file("key") }
    }

    /// A certificate for a gateway.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn gateway(&self, id: &str) -> anyhow::Result<Credentials> {
        let file =
            |ending: &str| self.authority.dir.join(format!("{}.{ending}", id.replace('/', "-")));
        let (cert, key) = (file("pem"), file("key"));
        let client = [ExtendedKeyUsagePurpose::ClientAuth];
        self.authority.issue(id, "Tidegate", false, &client, &cert, &key)?;
        Ok(Credentials { ca: self.authority.ca.clone(), cert, key })
    }

    /// A connection as one of the hub's people.
    ///
    /// # Errors
    /// When there is none.
    pub async fn client(&self, at: usize, person: &str) -> anyhow::Result<async_nats::Client> {
        let Credentials { ca, cert, key } = self.person(person);
        let options = async_nats::ConnectOptions::new()
            .add_root_certificates(ca)
            .add_client_certificate(cert, key)
            .require_tls(true);
        Ok(options.connect(self.url(at)).await?)
    }

    /// The verdict of `tidegate prove`, asked as the reader.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn verdict(&self, gateway: &str) -> anyhow::Result<String> {
        let Credentials { ca, cert, key } = self.person("reader");
        let mut prove = self.family.command(tools::gateway()?);
        prove.args(["prove", "--json", "--gateway", gateway, "--server", &self.url(0)]);
        prove.arg("--ca").arg(ca).arg("--cert").arg(cert).arg("--key").arg(key);
        let output = prove.output()?;
        let proof: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok(proof["verdict"].as_str().context("no verdict")?.to_owned())
    }

    /// A plain nats-server that dials the hub as a leaf with these credentials.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn leaf_of(
        &self,
        name: &str,
        url: &str,
        credentials: &Credentials,
    ) -> anyhow::Result<Server> {
        let Credentials { ca, cert, key } = credentials;
        let remote = format!(
            "{{ urls: [{url:?}], tls {{ ca_file: {ca:?}, cert_file: {cert:?}, key_file: {key:?} }} }}"
        );
        let text = format!(
            "server_name: {name:?}\nlisten: \"127.0.0.1:-1\"\nleafnodes {{ remotes: [ {remote} ] }}\n"
        );
        self.plain(name, &text).await
    }

    /// A plain nats-server with a configuration of the scenario's own.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn plain(&self, name: &str, text: &str) -> anyhow::Result<Server> {
        let config = self.authority.dir.join(format!("{name}.conf"));
        std::fs::write(&config, text)?;
        let log = self.authority.dir.join(format!("{name}.log"));
        Server::start(&self.family, &config, &log).await
    }
}

/// What it printed.
fn told(output: Output) -> anyhow::Result<String> {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    // Certificates that are missing yet are a "no", not a failure.
    let fine = output.status.success() || err.lines().all(|line| line.starts_with("warning:"));
    ensure!(fine, "{}: {out}{err}", output.status);
    Ok(out)
}

/// Whoever signs for the hub.
#[derive(Debug)]
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
    ca: PathBuf,
}

impl Authority {
    fn new(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut params = named("Rig authority", "Rig");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let ca = dir.join("ca.pem");
        std::fs::write(&ca, issuer.pem())?;
        Ok(Self { issuer, dir: dir.to_owned(), ca })
    }

    fn issue(
        &self,
        name: &str,
        organisation: &str,
        here: bool,
        usages: &[ExtendedKeyUsagePurpose],
        cert: &Path,
        key: &Path,
    ) -> anyhow::Result<()> {
        let mut params = named(name, organisation);
        params.extended_key_usages = usages.to_vec();
        if here {
            params.subject_alt_names = vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];
        }
        let own = KeyPair::generate()?;
        std::fs::write(cert, params.signed_by(&own, &self.issuer)?.pem())?;
        std::fs::write(key, own.serialize_pem())?;
        Ok(())
    }
}

fn named(name: &str, organisation: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let hour = Duration::from_secs(3600);
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now - hour;
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + hour * 24;
    params
}
