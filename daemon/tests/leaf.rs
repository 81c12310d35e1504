//! The managed leaf against a real hub over mutual TLS: who may publish what, what crosses the
//! line, and what happens when something ends that should not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail anywhere, also in what tests share"
)]

mod common;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use async_nats::Client;
use common::{Gateway, Hub, PATIENCE, Refusal, eventually, request, settings, write_files};
use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tidegate::config::{LeafMode, TlsFiles};
use tidegate::leaf::LocalRole::{Live, Record};
use tidegate::leaf::{
    HubLink, LeafHandle, LeafPlan, LeafProcess, LeafService, LeafSettings, LeafState, LocalAccess,
    Search, ServiceSettings, ShowError,
};
use tidegate_identity::lab::LabCa;
use tokio_util::sync::CancellationToken;

/// The folder of the daemon that a test kills; set by the test alone.
const DOOMED_DIR: &str = "TIDEGATE_TEST_DOOMED_DIR";

async fn next(messages: &mut async_nats::Subscriber) -> async_nats::Message {
    tokio::time::timeout(PATIENCE, messages.next()).await.expect("a message").expect("open")
}

/// What the server says to a connection that broke a rule arrives before the answer to a ping.
async fn publish(client: &Client, subject: &str, body: &str) {
    client.publish(subject.to_owned(), body.to_owned().into()).await.unwrap();
    client.flush().await.unwrap();
}

fn pid_of(state: &LeafState) -> Option<Pid> {
    let LeafState::Listening { life, .. } = state else { return None };
    Pid::from_raw(life.parse().unwrap())
}

fn is_alive(pid: Pid) -> bool {
    // A process that ended and was not reaped by its new parent yet counts as ended.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    test_kill_process(pid).is_ok() && stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread")]
async fn local_applications_listen_and_cannot_publish() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_with(settings(dir.path(), "P/g1", None)).await;
    let live = gateway.client(Live).await;
    let anonymous = async_nats::connect(gateway.address().await.to_string()).await.unwrap();
    let mut values = anonymous.subscribe("uns.>").await.unwrap();
    anonymous.flush().await.unwrap();

    let forbidden = ["tide.P.g1.e.frames", "tide.P.g1.q.tags", "uns.P.forged", "_INBOX.P.g1.x"];
    for subject in forbidden {
        publish(&anonymous, subject, "forged").await;
    }
    publish(&live, "uns.P.real", "1").await;
    let heard = next(&mut values).await;
    assert_eq!((heard.subject.as_str(), &heard.payload[..]), ("uns.P.real", &b"1"[..]));

    // Neither questions nor answers of others reach it.
    let mut all = anonymous.subscribe(">").await.unwrap();
    let mut inboxes = anonymous.subscribe("_INBOX.>").await.unwrap();
    publish(&anonymous, "x", "").await;
    publish(&live, "uns.P.more", "2").await;
    assert_eq!(next(&mut values).await.subject.as_str(), "uns.P.more");
    let silent = Duration::from_millis(50);
    assert!(tokio::time::timeout(silent, all.next()).await.is_err());
    assert!(tokio::time::timeout(silent, inboxes.next()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_value_crosses_the_line_only_while_somebody_listens() {
    let hub = Hub::start().await;
    let gateway = Gateway::start(&hub, "P/g1").await;
    let live = gateway.linked(Live).await;
    let system = hub.client("system", common::SYSTEM).await;

    let before = received_by_hub(&system).await;
    for n in 0..100 {
        publish(&live, "uns.P.press.temperature", &n.to_string()).await;
    }
    // One request so that everything before it on this connection has been looked at.
    request(&live, "tideinfo.TIDE", "").await.unwrap();
    let quiet = received_by_hub(&system).await - before;
    assert!(quiet < 10, "{quiet} messages crossed the line for nobody");

    let reader = hub.reader().await;
    let mut values = reader.subscribe("uns.P.>").await.unwrap();
    reader.flush().await.unwrap();
    let first = eventually("the interest has reached the leaf", async || {
        publish(&live, "uns.P.press.temperature", "now").await;
        tokio::select! {
            value = values.next() => value,
            () = tokio::time::sleep(Duration::from_millis(50)) => None,
        }
    })
    .await;
    assert_eq!(first.subject.as_str(), "uns.P.press.temperature");
    assert_eq!(first.payload, "now", "what nobody asked for is not delivered later");
}

/// Messages that came to the hub over leaf links.
async fn received_by_hub(system: &Client) -> u64 {
    let answer = request(system, "$SYS.REQ.SERVER.PING.LEAFZ", "").await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    let leaves = answer["data"]["leafs"].as_array().unwrap();
    assert_eq!(leaves.len(), 2, "one link per account: {answer}");
    leaves.iter().map(|leaf| leaf["in_msgs"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_of_another_authority_is_never_reached_and_the_reason_is_known() {
    let hub = Hub::start().await;
    let mut link = hub.link("P/g1");
    let stranger = LabCa::new("stranger", common::lifetime()).unwrap();
    let issued = stranger.gateway("P/g1", common::lifetime()).unwrap();

    // We do not trust the hub.
    let ours = write_files(hub.dir.path(), "distrustful", &stranger.certificate_pem(), &issued);
    link.tls = Some(ours);
    let gateway = Gateway::start_with(settings(hub.dir.path(), "P/g1", Some(link.clone()))).await;
    complains(&gateway, "x509: certificate signed by unknown authority").await;
    gateway.stop().await;

    // The hub does not trust us.
    let ours = write_files(hub.dir.path(), "distrusted", &hub.ca.certificate_pem(), &issued);
    link.tls = Some(ours);
    let gateway = Gateway::start_with(settings(hub.dir.path(), "P/g1", Some(link))).await;
    complains(&gateway, "the hub refuses this gateway's certificate").await;
    let record = gateway.client(Record).await;
    assert_eq!(request(&record, "tideinfo.TIDE", "").await.unwrap_err(), Refusal::NoResponders);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_not_admitted_is_told_so() {
    let hub = Hub::start().await;
    let gateway = Gateway::start(&hub, "P/stranger").await;
    complains(&gateway, "Authorization Violation").await;
    gateway.stop().await;
}

async fn complains(gateway: &Gateway, about: &str) {
    eventually(about, async || {
        gateway.handle.last_complaint().filter(|complaint| complaint.contains(about))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leaf_is_restarted_on_its_port_and_connections_come_back() {
    let hub = Hub::start().await;
    let gateway = Gateway::start(&hub, "P/g1").await;
    let record = gateway.linked(Record).await;
    let address = gateway.address().await;
    let mut state = gateway.handle.state();
    let first = pid_of(&state.borrow_and_update()).unwrap();

    kill_process(first, Signal::KILL).unwrap();
    let down =
        state.wait_for(|state| matches!(state, LeafState::Down { .. })).await.unwrap().clone();
    let LeafState::Down { reason, over_budget: false, .. } = &down else { panic!("{down:?}") };
    assert!(reason.contains("signal: 9"), "{reason}");
    assert_eq!(gateway.address().await, address);
    assert_ne!(pid_of(&state.borrow_and_update()), Some(first));
    eventually("the connection is back", async || request(&record, "tideinfo.TIDE", "").await.ok())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_is_restarted_when_it_is_asked_for_and_stopped_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_with(settings(dir.path(), "P/g1", None)).await;
    let mut state = gateway.handle.state();
    let first = pid_of(&state.borrow_and_update()).unwrap();
    gateway.handle.restart("the hub is silent");
    let down =
        state.wait_for(|state| matches!(state, LeafState::Down { .. })).await.unwrap().clone();
    assert!(format!("{down:?}").contains("restarted: the hub is silent"), "{down:?}");
    assert!(!is_alive(first), "the next is started after the last has ended");

    gateway.address().await;
    let second = pid_of(&gateway.handle.state().borrow()).unwrap();
    let handle = gateway.handle.clone();
    gateway.stop().await;
    assert!(!is_alive(second));
    assert_eq!(*handle.state().borrow(), LeafState::Stopped);
    assert_eq!(handle.listening().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_dialled_anew_while_the_leaf_and_the_other_link_stay() {
    let hub = Hub::start().await;
    let gateway = Gateway::start(&hub, "P/g1").await;
    let record = gateway.linked(Record).await;
    let live = gateway.linked(Live).await;
    let system = hub.client("system", common::SYSTEM).await;
    let leaf = pid_of(&gateway.handle.state().borrow());
    assert_eq!(gateway.handle.hub_url(), Some(hub.url().to_string()));

    // Twice, because a remote that was given up must never be met again.
    for _ in 0..2 {
        let before = links_of(&system).await;
        gateway.handle.dial_anew(false, true, "the test wants it");
        let after = eventually("the record has another link", async || {
            let now = links_of(&system).await;
            (now.len() == 2 && now != before).then_some(now)
        })
        .await;
        assert_eq!(before.intersection(&after).count(), 1, "{before:?} {after:?}");
        eventually("the record's link answers", async || {
            request(&record, "tideinfo.TIDE", "").await.ok()
        })
        .await;
    }
    request(&live, "tideinfo.TIDE", "").await.unwrap();
    assert_eq!(pid_of(&gateway.handle.state().borrow()), leaf);
    assert_eq!(record.statistics().connects.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert_eq!(live.statistics().connects.load(std::sync::atomic::Ordering::Relaxed), 1);
}

/// The hub's ends of leaf links, by address.
async fn links_of(system: &Client) -> std::collections::BTreeSet<String> {
    let answer = request(system, "$SYS.REQ.SERVER.PING.LEAFZ", "").await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    let leaves = answer["data"]["leafs"].as_array().unwrap();
    leaves.iter().map(|leaf| format!("{}:{}", leaf["ip"], leaf["port"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_and_taken_as_soon_as_it_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let squatter = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings(dir.path(), "P/g1", None);
    settings.plan.listen = squatter.local_addr().unwrap();
    let port = settings.plan.listen.port();

    let (process, handle) = LeafProcess::new(settings).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(process.run(stop.clone()));
    let mut state = handle.state();
    let down =
        state.wait_for(|state| matches!(state, LeafState::Down { .. })).await.unwrap().clone();
    let LeafState::Down { reason, .. } = down else { panic!() };
    assert!(reason.contains(&format!("port {port} of 127.0.0.1 is in use")), "{reason}");
    assert!(reason.contains("[leaf] listen"), "{reason}");
    drop(squatter);
    let address = tokio::time::timeout(PATIENCE, handle.listening()).await.unwrap().unwrap();
    assert_eq!(address.port(), port);
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_nats_server_the_leaf_says_so_and_goes_on_looking() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("nats-server");
    let search = Search { configured: None, places: vec![place.clone()] };
    let settings = LeafSettings { search, ..settings(dir.path(), "P/g1", None) };
    let (process, handle) = LeafProcess::new(settings).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(process.run(stop.clone()));
    let mut state = handle.state();
    let down =
        state.wait_for(|state| matches!(state, LeafState::Down { .. })).await.unwrap().clone();
    let LeafState::Down { reason, .. } = down else { panic!() };
    assert!(reason.contains("install 2.15.0 or newer"), "{reason}");
    std::os::unix::fs::symlink(common::nats_server().await, place).unwrap();
    assert!(tokio::time::timeout(PATIENCE, handle.listening()).await.unwrap().is_some());
    stop.cancel();
    task.await.unwrap();
}

/// A leaf that somebody else runs, from what the daemon wrote.
struct External {
    child: std::process::Child,
}

impl External {
    async fn start(dir: &Path) -> Self {
        let config = dir.join("nats-server.conf");
        eventually("there is a configuration", async || config.exists().then_some(())).await;
        let log = std::fs::File::create(dir.with_extension("log")).unwrap();
        let mut command = Command::new(common::nats_server().await);
        command.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Self { child: command.spawn().unwrap() }
    }
}

impl Drop for External {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The daemon's side of such a leaf.
struct Tended {
    handle: LeafHandle,
    access: LocalAccess,
    task: tokio::task::JoinHandle<()>,
}

impl Tended {
    fn start(plan: LeafPlan, dir: &Path) -> Self {
        let (address, gateway) = (plan.listen, plan.gateway.clone());
        let (service, handle) =
            LeafService::new(ServiceSettings { plan, dir: dir.to_owned() }).unwrap();
        let task = tokio::spawn(service.run(CancellationToken::new()));
        let access = LocalAccess { address, gateway, credentials: handle.credentials() };
        Self { handle, access, task }
    }

    async fn life(&self) -> String {
        tokio::time::timeout(PATIENCE, self.handle.listening()).await.unwrap().unwrap();
        let LeafState::Listening { life, .. } = self.handle.state().borrow().clone() else {
            panic!("it listened a moment ago")
        };
        life
    }
}

impl Drop for Tended {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_of_its_own_does_what_a_child_does_and_asks_for_a_restart_where_it_must() {
    let hub = Hub::start().await;
    let dir = hub.dir.path().join("service");
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let link = hub.link("P/g1");
    let first = link.tls.clone();
    let plan = settings(hub.dir.path(), "P/g1", Some(link)).plan;
    let plan =
        LeafPlan { mode: LeafMode::External, listen: free(), ports_dir: dir.clone(), ..plan };
    let tended = Tended::start(plan.clone(), &dir);
    let leaf = External::start(&dir).await;
    let life = tended.life().await;
    let record = tended.access.connect(Record, |_| std::future::ready(())).await.unwrap();
    let answers = async || {
        eventually("the hub answers", async || request(&record, "tideinfo.TIDE", "").await.ok())
            .await;
    };
    answers().await;
    let url = Some(hub.url().to_string());
    eventually("the URL is known", async || (tended.handle.hub_url() == url).then_some(())).await;

    // One link anew, and the other one stays.
    let system = hub.client("system", common::SYSTEM).await;
    let before = links_of(&system).await;
    tended.handle.dial_anew(false, true, "the test wants it");
    let after = eventually("the record has another link", async || {
        let now = links_of(&system).await;
        (now.len() == 2 && now != before).then_some(now)
    })
    .await;
    assert_eq!(before.intersection(&after).count(), 1, "{before:?} {after:?}");
    answers().await;

    // Another daemon finds it as it is, and leaves it alone.
    drop(tended);
    let tended = Tended::start(plan.clone(), &dir);
    assert_eq!(tended.life().await, life);
    // Other files; a key that does not belong to its certificate; back.
    let issued = hub.ca.gateway("P/g1", common::lifetime()).unwrap();
    let second = write_files(hub.dir.path(), "second", &hub.ca.certificate_pem(), &issued);
    tended.handle.show(Some(second.clone()), PATIENCE).await.unwrap();
    let shown = links_of(&system).await;
    assert!(shown.is_disjoint(&after), "both links are new: {after:?} {shown:?}");
    let mixed = TlsFiles { key: first.unwrap().key, ..second.clone() };
    let refused = tended.handle.show(Some(mixed), PATIENCE).await.unwrap_err();
    assert!(matches!(refused, ShowError::Refused { .. }), "{refused}");
    tended.handle.show(Some(second.clone()), PATIENCE).await.unwrap();
    assert_eq!(links_of(&system).await, shown);
    answers().await;

    // A port is not changed by a reload.
    drop(tended);
    let moved = LeafPlan { listen: free(), ..plan };
    let tended = Tended::start(moved, &dir);
    let asked = eventually("a restart is asked for", async || {
        std::fs::read_to_string(dir.join("restart")).ok()
    })
    .await;
    assert!(asked.contains("does not listen where it should"), "{asked}");
    drop(leaf);
    let _leaf = External::start(&dir).await;
    assert_ne!(tended.life().await, life);
    eventually("nothing is asked for any more", async || {
        (!dir.join("restart").exists()).then_some(())
    })
    .await;
    assert_eq!(*tended.handle.trouble().borrow(), None);
}

/// A daemon of its own process, for the test below: it runs a leaf and writes down its child.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "no test: the one below runs it as a process of its own"]
async fn doomed_daemon() {
    let dir = PathBuf::from(std::env::var_os(DOOMED_DIR).expect("the folder"));
    let gateway = Gateway::start_with(settings(&dir, "P/g1", None)).await;
    let pid = pid_of(&gateway.handle.state().borrow()).unwrap();
    std::fs::write(dir.join("draft"), pid.as_raw_nonzero().to_string()).unwrap();
    std::fs::rename(dir.join("draft"), dir.join("pid")).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_does_not_outlive_a_killed_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "doomed_daemon", "--ignored"])
        .env(DOOMED_DIR, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid =
        eventually("the daemon's leaf runs", async || read_pid(&dir.path().join("pid"))).await;
    assert!(is_alive(pid));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    eventually("the leaf has ended too", async || (!is_alive(pid)).then_some(())).await;
}

fn read_pid(path: &Path) -> Option<Pid> {
    Pid::from_raw(std::fs::read_to_string(path).ok()?.parse().ok()?)
}

/// The idle threads of a runtime end after a while; the leaf must not end with them.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_outlives_the_thread_that_asked_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (process, handle) = LeafProcess::new(settings(dir.path(), "P/g1", None)).unwrap();
    let stop = CancellationToken::new();
    let runtime = tokio::runtime::Handle::current();
    let listening = handle.clone();
    let token = stop.clone();
    let (give, take) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Polled on this thread until it listens, then handed over; the thread ends.
        let mut run = Box::pin(process.run(token));
        runtime.block_on(async {
            tokio::select! {
                () = &mut run => {}
                address = listening.listening() => assert!(address.is_some()),
            }
        });
        assert!(give.send(run).is_ok());
    })
    .join()
    .unwrap();
    let task = tokio::spawn(take.await.unwrap());
    let mut state = handle.state();
    let pid = pid_of(&state.borrow_and_update()).unwrap();
    let ended = tokio::time::timeout(Duration::from_millis(500), state.changed()).await;
    assert!(ended.is_err() && is_alive(pid), "{:?}", state.borrow());
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_certificate_files_are_shown_without_a_restart_and_refused_ones_change_nothing() {
    let hub = Hub::start().await;
    let link = hub.link("P/g1");
    let first = link.tls.clone();
    // As a gateway begins that has no certificate yet.
    let without = HubLink { tls: None, ..link };
    let gateway = Gateway::start_with(settings(hub.dir.path(), "P/g1", Some(without))).await;
    let pid = pid_of(&gateway.handle.state().borrow()).unwrap();
    gateway.handle.show(first.clone(), PATIENCE).await.unwrap();
    let record = gateway.linked(Record).await;
    let serials = async || {
        let system = hub.client("system", common::SYSTEM).await;
        let links = links_of(&system).await;
        assert_eq!(links.len(), 2, "{links:?}");
        links
    };
    let before = serials().await;

    // Another key and certificate of the same name.
    let issued = hub.ca.gateway("P/g1", common::lifetime()).unwrap();
    let ca = hub.ca.certificate_pem();
    let second = write_files(hub.dir.path(), "second", &ca, &issued);
    gateway.handle.show(Some(second.clone()), PATIENCE).await.unwrap();
    eventually("the hub answers", async || request(&record, "tideinfo.TIDE", "").await.ok()).await;
    let after = serials().await;
    assert!(before.is_disjoint(&after), "both links are new: {before:?} {after:?}");

    // A key that does not belong to its certificate: refused, and the links stay.
    let mixed = TlsFiles { key: first.unwrap().key, ..second.clone() };
    let refused = gateway.handle.show(Some(mixed), PATIENCE).await.unwrap_err();
    assert!(matches!(refused, ShowError::Refused { .. }), "{refused}");
    // Back to what it never let go of: nothing is made anew.
    gateway.handle.show(Some(second.clone()), PATIENCE).await.unwrap();
    request(&record, "tideinfo.TIDE", "").await.unwrap();
    assert_eq!(serials().await, after);

    // Taken down, and up again.
    gateway.handle.show(None, PATIENCE).await.unwrap();
    eventually("the hub is out of reach", async || {
        let answer = request(&record, "tideinfo.TIDE", "").await;
        (answer.err() == Some(Refusal::NoResponders)).then_some(())
    })
    .await;
    gateway.handle.show(Some(second), PATIENCE).await.unwrap();
    eventually("the hub answers", async || request(&record, "tideinfo.TIDE", "").await.ok()).await;
    assert_eq!(pid_of(&gateway.handle.state().borrow()), Some(pid), "one life of the leaf");
    gateway.stop().await;
}
