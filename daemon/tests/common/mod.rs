//! Real nats-servers for tests: a hub with a certification authority of its own, leaves, and
//! plain servers from any configuration. Ports are the system's choice, folders are temporary,
//! every server ends with the test.

#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail anywhere, and says why on standard error"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use async_nats::jetstream;
use async_nats::{Client, ConnectOptions, HeaderMap, Message};
use tidegate::config::{HubScheme, HubUrl, LeafMode, LocalApps, LocalQuestions, TlsFiles};
use tidegate::hub::{
    Admitted, ClientPort, Credential, HubPlan, HubUser, LeafPort, Ocsp, Role, StreamPlan,
    ensure_stream, generate,
};
use tidegate::leaf::{
    HubLink, Launcher, LeafHandle, LeafPlan, LeafProcess, LeafSettings, LocalAccess, LocalRole,
    Search, find_server,
};
use tidegate::names::{GatewayId, Name};
use tidegate_identity::lab::{Issued, LabCa, Lifetime, gateway_subject};
use tidegate_translator::TagPath;
use tokio_util::sync::CancellationToken;

/// Long enough for nine busy neighbours on two cores; a test that passes never waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "still not so after {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Where a nats-server for tests is.
pub(crate) fn search() -> Search {
    let named = std::env::var_os("TIDEGATE_NATS_SERVER").map(PathBuf::from);
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/nats-server");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("nats-server"));
    Search { configured: named, places: [tools].into_iter().chain(on_path).collect() }
}

/// The nats-server for tests.
pub(crate) async fn nats_server() -> PathBuf {
    match find_server(&search()).await {
        Ok(server) => server.path,
        Err(error) => panic!("run cargo xtask setup: {error}"),
    }
}

/// A nats-server with any configuration.
pub(crate) struct Server {
    child: Child,
    dir: PathBuf,
    /// Where clients connect.
    pub(crate) client: SocketAddr,
    /// Where leaves connect, if it listens for them.
    pub(crate) leaf: Option<SocketAddr>,
}

impl Server {
    /// Starts it with `config`, which has to listen on port -1 and must not set
    /// `ports_file_dir`; its files go into `dir`.
    pub(crate) async fn start(dir: &Path, config: &str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let text = if config.contains("ports_file_dir") {
            config.to_owned()
        } else {
            format!("ports_file_dir: {:?}\n{config}", dir.to_str().unwrap())
        };
        let file = dir.join("server.conf");
        std::fs::write(&file, text).unwrap();
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
        let program = nats_server().await;
        let child = Command::new(&program)
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let name = program.file_name().unwrap().to_str().unwrap();
        let ports = dir.join(format!("{name}_{}.ports", child.id()));
        let (pid, mut server) =
            (child.id(), Self { child, dir: dir.to_owned(), client: any(), leaf: None });
        let found = eventually("nats-server listens", async || {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "nats-server {pid} ended: {}", server.log());
            let text = std::fs::read(&ports).unwrap_or_default();
            serde_json::from_slice::<serde_json::Value>(&text).ok()
        })
        .await;
        let address = |kind: &str| -> Option<SocketAddr> {
            found.get(kind)?.get(0)?.as_str()?.rsplit_once('/')?.1.parse().ok()
        };
        server.client = address("nats").unwrap();
        // The ports file does not name the leaf listener; it was opened before the clients' one.
        server.leaf = server.log().lines().rev().find_map(|line| {
            line.split_once("Listening for leafnode connections on ")?.1.trim().parse().ok()
        });
        server
    }

    /// What it wrote.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of nats-server in {}\n{}", self.dir.display(), self.log());
        }
    }
}

pub(crate) fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn lifetime() -> Lifetime {
    Lifetime::from(SystemTime::now() - Duration::from_secs(60))
}

pub(crate) fn write_files(dir: &Path, who: &str, ca: &str, issued: &Issued) -> TlsFiles {
    let here = |end: &str| dir.join(format!("{who}.{end}"));
    let files = TlsFiles { ca: here("ca"), cert: here("cert"), key: here("key") };
    std::fs::write(&files.ca, ca).unwrap();
    std::fs::write(&files.cert, &issued.certificate_pem).unwrap();
    std::fs::write(&files.key, issued.key_pem.as_bytes()).unwrap();
    files
}

pub(crate) const ADMIN: &str = "admin-password";
pub(crate) const SYSTEM: &str = "system-password";

/// A hub with its authority and the gateways that it admits.
pub(crate) struct Hub {
    pub(crate) ca: LabCa,
    pub(crate) plan: HubPlan,
    pub(crate) server: Server,
    /// Last, so that it is removed after whoever writes into it has ended.
    pub(crate) dir: tempfile::TempDir,
}

/// Whose gateways the hub of a test admits, with prefix `P`: `P/g1`, `P/g2`.
pub(crate) const GATEWAYS: [&str; 2] = ["P/g1", "P/g2"];

impl Hub {
    /// A hub with its stream.
    pub(crate) async fn start() -> Self {
        let hub = Self::start_without_stream().await;
        hub.ensure_stream().await;
        hub
    }

    pub(crate) async fn start_without_stream() -> Self {
        Self::start_with(|plan, _, _| plan).await
    }

    /// A hub whose plan, and then configuration, may be changed before it starts.
    pub(crate) async fn start_with(change: impl FnOnce(HubPlan, &Path, &LabCa) -> HubPlan) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = LabCa::new("lab", lifetime()).unwrap();
        let plan = change(Self::plan(dir.path(), &ca), dir.path(), &ca);
        let config = generate(&plan).unwrap();
        let server = Server::start(&dir.path().join("hub"), &config).await;
        Self { dir, ca, plan, server }
    }

    fn plan(dir: &Path, ca: &LabCa) -> HubPlan {
        let issued = ca.hub("hub", &["127.0.0.1", "localhost"], lifetime()).unwrap();
        let tls = write_files(dir, "hub", &ca.certificate_pem(), &issued);
        let user = |role, user: &str, password: &str| HubUser {
            role,
            credential: Credential::Password { user: user.into(), password: password.into() },
        };
        HubPlan {
            server_name: Name::new("hub").unwrap(),
            client: ClientPort { listen: any(), tls: None },
            leaf: LeafPort { listen: any(), tls },
            websocket: None,
            cluster: None,
            store_dir: dir.join("hub/store"),
            max_store_bytes: 1 << 30,
            domain: Name::new("hub").unwrap(),
            streams: vec![Name::new("TIDE").unwrap()],
            last_values: None,
            ocsp: Ocsp::Off,
            gateways: GATEWAYS
                .map(|gateway| Admitted {
                    gateway: gateway.parse().unwrap(),
                    prefixes: vec![TagPath::new("P").unwrap()],
                    subject: gateway_subject(gateway),
                    stream: Name::new("TIDE").unwrap(),
                    asks: Vec::new(),
                    app_publish: Vec::new(),
                    app_subscribe: Vec::new(),
                })
                .into(),
            users: vec![user(Role::Admin, "admin", ADMIN), user(Role::System, "system", SYSTEM)],
            sites: Vec::new(),
            mirrors: Vec::new(),
            regions: Vec::new(),
            anonymous: Some(Role::Reader),
            ports_dir: Some(dir.join("hub")),
        }
    }

    pub(crate) fn stream_plan(&self) -> StreamPlan {
        StreamPlan::of_every_gateway(self.plan.streams[0].clone(), 1)
    }

    pub(crate) async fn ensure_stream(&self) {
        ensure_stream(&self.admin().await, &self.stream_plan()).await.unwrap();
    }

    /// As somebody with a password.
    pub(crate) async fn client(&self, user: &str, password: &str) -> Client {
        let options = ConnectOptions::with_user_and_password(user.into(), password.into());
        options.connect(self.server.client.to_string()).await.unwrap()
    }

    pub(crate) async fn admin(&self) -> jetstream::Context {
        jetstream::new(self.client("admin", ADMIN).await)
    }

    /// Without credentials: a reader.
    pub(crate) async fn reader(&self) -> Client {
        async_nats::connect(self.server.client.to_string()).await.unwrap()
    }

    /// The link that a gateway of this hub is configured with.
    pub(crate) fn link(&self, gateway: &str) -> HubLink {
        let issued = self.ca.gateway(gateway, lifetime()).unwrap();
        let file_name = gateway.replace('/', "-");
        let ca = self.ca.certificate_pem();
        let tls = write_files(self.dir.path(), &file_name, &ca, &issued);
        HubLink { urls: vec![self.url()], tls: Some(tls), stream: "TIDE".to_owned(), proxy: None }
    }

    pub(crate) fn url(&self) -> HubUrl {
        let leaf = self.server.leaf.unwrap();
        HubUrl { scheme: HubScheme::Tls, host: leaf.ip().to_string(), port: leaf.port() }
    }

    /// A leaf in the hands of somebody who holds a certificate and keeps to no rule of ours:
    /// everything may be published to it.
    pub(crate) async fn unruly_leaf(&self, tls: &TlsFiles) -> Server {
        let config = format!(
            "server_name: unruly\nlisten: \"127.0.0.1:-1\"\nleafnodes {{ remotes: [ {{\n\
             urls: [\"tls://{}\"]\ncompression: s2_better\n\
             tls {{ ca_file: {:?}, cert_file: {:?}, key_file: {:?} }} }} ] }}\n",
            self.server.leaf.unwrap(),
            tls.ca,
            tls.cert,
            tls.key
        );
        Server::start(&self.dir.path().join("unruly"), &config).await
    }

    /// How many messages the stream holds on `subject`.
    pub(crate) async fn stored(&self, subject: &str) -> usize {
        let stream = self.admin().await.get_stream("TIDE").await.unwrap();
        let mut subjects = stream.info_with_subjects(subject).await.unwrap();
        let mut count = 0;
        while let Some(entry) = futures_util::StreamExt::next(&mut subjects).await {
            count += entry.unwrap().1;
        }
        count
    }
}

/// A managed leaf of a gateway.
pub(crate) struct Gateway {
    pub(crate) handle: LeafHandle,
    pub(crate) id: GatewayId,
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

pub(crate) fn settings(dir: &Path, gateway: &str, hub: Option<HubLink>) -> LeafSettings {
    let dir = dir.join(format!("leaf-{}", gateway.replace('/', "-")));
    let gateway = gateway.parse().unwrap();
    let plan = LeafPlan {
        gateway,
        mode: LeafMode::Managed,
        listen: any(),
        ports_dir: dir.clone(),
        hub,
        local: LocalApps::default(),
        questions: LocalQuestions::None,
        ingest: Default::default(),
    };
    let launcher = Launcher::at(env!("CARGO_BIN_EXE_tidegate"));
    LeafSettings::usual(plan, dir, search(), launcher)
}

impl Gateway {
    /// A gateway of `hub` whose leaf listens; the links may still be coming up.
    pub(crate) async fn start(hub: &Hub, gateway: &str) -> Self {
        Self::start_with(settings(hub.dir.path(), gateway, Some(hub.link(gateway)))).await
    }

    pub(crate) async fn start_with(settings: LeafSettings) -> Self {
        nats_server().await;
        let id = settings.plan.gateway.clone();
        let (process, handle) = LeafProcess::new(settings).unwrap();
        let stop = CancellationToken::new();
        let task = Some(tokio::spawn(process.run(stop.clone())));
        let gateway = Self { handle, id, stop, task };
        tokio::time::timeout(PATIENCE, gateway.handle.listening()).await.unwrap().unwrap();
        gateway
    }

    pub(crate) async fn address(&self) -> SocketAddr {
        self.handle.listening().await.unwrap()
    }

    pub(crate) async fn client(&self, role: LocalRole) -> Client {
        let access = LocalAccess {
            address: self.address().await,
            gateway: self.id.clone(),
            credentials: self.handle.credentials(),
        };
        access.connect(role, |_| std::future::ready(())).await.unwrap()
    }

    /// The record connection, once its link to the hub answers.
    pub(crate) async fn linked(&self, role: LocalRole) -> Client {
        let client = self.client(role).await;
        eventually("the hub answers INFO across the leaf", async || {
            request(&client, "tideinfo.TIDE", "").await.ok()
        })
        .await;
        client
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            task.await.unwrap();
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Dropping the leaf's future kills its child.
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// What came of a request.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Refusal {
    NoResponders,
    Timeout,
}

/// One request with a deadline, so that a refusal is told from silence.
pub(crate) async fn request(
    client: &Client,
    subject: &str,
    body: &str,
) -> Result<Message, Refusal> {
    request_with(client, subject, HeaderMap::new(), body).await
}

pub(crate) async fn request_with(
    client: &Client,
    subject: &str,
    headers: HeaderMap,
    body: &str,
) -> Result<Message, Refusal> {
    let sent = client.request_with_headers(subject.to_owned(), headers, body.to_owned().into());
    match tokio::time::timeout(Duration::from_secs(2), sent).await {
        Err(_) => Err(Refusal::Timeout),
        Ok(Ok(message)) => Ok(message),
        Ok(Err(error)) => match error.kind() {
            async_nats::RequestErrorKind::NoResponders => Err(Refusal::NoResponders),
            other => panic!("request to {subject}: {other}"),
        },
    }
}

/// A publish that expects `last` as the sequence of the last message on its subject.
pub(crate) async fn publish_expecting(
    client: &Client,
    subject: &str,
    last: u64,
    body: &str,
) -> Result<serde_json::Value, Refusal> {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Last-Subject-Sequence", last.to_string());
    let message = request_with(client, subject, headers, body).await?;
    Ok(serde_json::from_slice(&message.payload).unwrap())
}
