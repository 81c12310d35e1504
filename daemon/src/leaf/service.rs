//! The leaf as a service of its own: somebody else starts it, and the daemon tells it over its system
//! account what a child is told by signals and says in its log.
//!
//! # Invariants
//! - The daemon never stops it. It asks for a restart, by a file that the service manager watches,
//!   where a reload does not do, and says so where nobody takes that up.
//! - Which configuration it runs is asked of it: the text bears its own digest, and every answer of
//!   the server says it. A daemon that starts beside a leaf that runs what is on disk leaves it and
//!   its links alone.
//! - A link counts as made when the server names who is at its other end, and once.
//! - Whatever goes wrong is tried again for ever.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Event};
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::config::{LIVE, LeafPlan, RECORD, preferred};
use super::connect::{LocalAccess, LocalRole};
use super::credentials::{Credentials, FileError, make_dir};
use super::handle::{LeafHandle, LeafState, Order};
use super::papers::{LinksMade, RELOAD_DEADLINE};
use super::process::reachable;
use super::request::{Request, Why};
use super::server::{MINIMUM, Version};
use super::told::{Step, Told};
use crate::causes::chain;
use crate::config::HubUrl;
use crate::system_account::{OperateError, System};
use crate::wan::Access;

/// How often it is asked while something is expected of it: whoever shows other files waits for it.
const SOON: Duration = Duration::from_millis(200);
/// How often it is asked while all is well.
const SELDOM: Duration = Duration::from_secs(2);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a leaf that starts beside the daemon may take before it is called away.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the record may be without a link before the hub itself is asked why.
const UNLINKED: Duration = Duration::from_secs(10);
/// How often it is then asked, and how long it may take.
const ASK_HUB_EVERY: Duration = Duration::from_secs(30);
const ASK_HUB: Duration = Duration::from_secs(15);

/// What a leaf that is a service of its own needs.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// What it is to be.
    pub plan: LeafPlan,
    /// Where its configuration is written, readable for the folder's group.
    pub dir: PathBuf,
}

/// The daemon's side of it, before it runs.
#[derive(Debug)]
pub struct LeafService {
    told: Told,
    access: LocalAccess,
    hub: Arc<Access>,
    life: Option<Life>,
    request: Request,
    /// Since when no connection stands; nothing while one does.
    away_since: Option<Instant>,
    /// Whether what is on disk is what is wanted.
    is_written: bool,
    /// Whether the daemon changed what a leaf that is away should have been told.
    changed: bool,
    unlinked_since: Instant,
    asked_hub: Option<Instant>,
}

/// One life of the server.
#[derive(Debug)]
struct Life {
    id: String,
    /// The links that were seen, by the server's numbers.
    links: BTreeSet<u64>,
    /// The links that had been made before what is wanted now was read.
    before: LinksMade,
    /// What it did not take, by its tag.
    refused: Option<String>,
    is_linked: bool,
}

/// A link as the server tells of it.
#[derive(Debug, serde::Deserialize)]
struct Link {
    id: u64,
    /// Of the server at the other end; empty while it is dialled.
    #[serde(default)]
    name: String,
    #[serde(default)]
    account: String,
    ip: IpAddr,
    port: u16,
}

#[derive(Debug, serde::Deserialize)]
struct Links {
    leafs: Option<Vec<Link>>,
}

impl LeafService {
    /// Makes or finds the passwords, and a handle; nothing is written yet.
    ///
    /// # Errors
    /// When the folder cannot be used, or the system gives no random numbers.
    pub fn new(settings: ServiceSettings) -> Result<(Self, LeafHandle), FileError> {
        let ServiceSettings { plan, dir } = settings;
        make_dir(&dir, 0o750)?;
        let credentials = Credentials::kept_in(&dir)?;
        let (address, gateway) = (reachable(plan.listen), plan.gateway.clone());
        let proxy = plan.hub.as_ref().and_then(|hub| hub.proxy.clone());
        let request = Request::in_dir(&dir);
        let (told, handle) = Told::new(plan, dir, credentials);
        let credentials = Arc::clone(&told.credentials);
        let shown = handle.clone();
        let service = Self {
            told,
            access: LocalAccess { address, gateway, credentials },
            hub: Arc::new(Access::new(proxy, move || shown.files())),
            life: None,
            request,
            away_since: Some(Instant::now()),
            is_written: false,
            changed: false,
            unlinked_since: Instant::now(),
            asked_hub: None,
        };
        Ok((service, handle))
    }

    /// Tends it until `stop`; the leaf itself runs on.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.tend() => {}
        }
        self.told.state.send_replace(LeafState::Stopped);
    }

    async fn tend(&mut self) {
        let (up_in, mut up) = watch::channel(false);
        let note = move |event| {
            match event {
                Event::Connected => drop(up_in.send_replace(true)),
                Event::Disconnected => drop(up_in.send_replace(false)),
                _ => {}
            }
            std::future::ready(())
        };
        self.told.number = self.told.papers.wanted.borrow_and_update().number;
        self.write();
        let client = match self.access.connect(LocalRole::System, note).await {
            Ok(client) => client,
            Err(error) => {
                let reason = chain(&error);
                tracing::error!("{reason}");
                self.down(reason);
                return std::future::pending().await;
            }
        };
        let mut why: Option<BoxFuture<'static, Option<String>>> = None;
        let mut next = Instant::now();
        loop {
            let is_up = *up.borrow();
            tokio::select! {
                Ok(()) = up.changed() => {
                    if *up.borrow_and_update() {
                        self.away_since = None;
                        self.look(&client).await;
                    } else {
                        self.lost();
                    }
                }
                Some(order) = self.told.orders.recv() => self.order(order, &client, is_up).await,
                Ok(()) = self.told.papers.wanted.changed() => self.take_files(&client, is_up).await,
                said = answered(&mut why) => {
                    why = None;
                    if self.unlinked_for().is_some() {
                        self.told.complaint.send_replace(said);
                    }
                }
                () = sleep_until(next) => {
                    if !self.is_written {
                        self.write();
                    }
                    if is_up {
                        self.look(&client).await;
                        if why.is_none() {
                            why = self.ask_hub();
                        }
                    } else {
                        self.away().await;
                    }
                }
            }
            next = Instant::now() + if self.is_settled() { SELDOM } else { SOON };
            self.tell();
        }
    }

    /// Writes what is wanted. What cannot be written is tried again; the leaf goes on as it is.
    fn write(&mut self) {
        match self.told.write() {
            Ok(written) => {
                self.is_written = true;
                self.changed |= written.changed;
            }
            Err(error) => {
                let reason = chain(&error);
                self.unfit(format!("the leaf's configuration is not written: {reason}"));
            }
        }
    }

    /// The connection fell.
    fn lost(&mut self) {
        self.away_since = Some(Instant::now());
        self.told.forget();
        self.down(self.nobody());
    }

    fn down(&mut self, reason: String) {
        let was_down = matches!(*self.told.state.borrow(), LeafState::Down { .. });
        if !was_down {
            tracing::warn!("leaf is down: {reason}; recording goes on");
        }
        let (next_start_in, over_budget) = (None, false);
        self.told.state.send_replace(LeafState::Down { reason, next_start_in, over_budget });
    }

    fn nobody(&self) -> String {
        format!(
            "no leaf with this gateway's passwords answers at {}; start its service, or restart it \
             if its configuration changed",
            self.access.address
        )
    }

    /// Nobody is connected: a leaf that is started by somebody else comes by itself, and one that
    /// runs with another configuration does not.
    async fn away(&mut self) {
        let Some(since) = self.away_since.filter(|since| since.elapsed() >= PATIENCE) else {
            return;
        };
        if !matches!(*self.told.state.borrow(), LeafState::Down { .. }) {
            self.down(self.nobody());
        }
        let address = self.access.address;
        if self.request.is_due() {
            let listens = timeout(ANSWER, tokio::net::TcpStream::connect(address)).await;
            if matches!(listens, Ok(Ok(_))) {
                let why =
                    format!("what listens at {address} does not take this gateway's passwords");
                self.request.ask(Why::Configuration, &why, None);
            } else if self.changed && since.elapsed() < 2 * PATIENCE {
                let why = "its configuration changed, and it does not listen where it should";
                self.request.ask(Why::Configuration, why, None);
            }
        }
    }

    /// Asks the server what it is and what it is linked to.
    async fn look(&mut self, client: &Client) {
        let id = client.server_info().server_id;
        let system = System::new(client.clone());
        let asked = system.ask_within(ANSWER, "leaf", &id, "LEAFZ", &Value::Null).await;
        let answer = match asked {
            Ok(answer) => answer,
            // Whether it is there at all is told by the connection.
            Err(error) => return tracing::debug!("leaf is not understood: {}", chain(&error)),
        };
        let links: Links = match serde_json::from_value(answer.data) {
            Ok(links) => links,
            Err(error) => return tracing::debug!("leaf is not understood: {}", chain(&error)),
        };
        self.greet(&answer.server.id, &answer.server.ver);
        self.count(links.leafs.unwrap_or_default()).await;
        let runs_it = self.told.tag.as_ref().is_some_and(|tag| answer.server.tags.contains(tag));
        if runs_it {
            self.fits(&answer.server.ver);
        } else if self.is_written && !self.told.is_reloading() {
            let refused = self.life.as_ref().and_then(|life| life.refused.clone());
            if refused.is_none() || refused != self.told.tag {
                let before = self.told.papers.count();
                self.life.iter_mut().for_each(|life| life.before = before);
                self.told.read_again();
                self.reload(&system, &id).await;
            }
        }
    }

    /// Takes in which life of the server answers.
    fn greet(&mut self, id: &str, version: &str) {
        if self.life.as_ref().is_none_or(|life| life.id != id) {
            if self.life.is_some() {
                // Files that an operator replaced are read at every start, as a child's are.
                self.write();
            }
            self.told.hub.send_replace(None);
            self.told.complaint.send_replace(None);
            self.unlinked_since = Instant::now();
            self.life = Some(Life {
                id: id.to_owned(),
                links: BTreeSet::new(),
                before: self.told.papers.count(),
                refused: None,
                is_linked: false,
            });
        }
        if !matches!(&*self.told.state.borrow(), LeafState::Listening { life, .. } if life == id) {
            let (address, life) = (self.access.address, id.to_owned());
            tracing::info!(%address, version, "connected to the leaf");
            self.told.state.send_replace(LeafState::Listening { address, life });
        }
    }

    /// Counts the links that were not there before.
    async fn count(&mut self, links: Vec<Link>) {
        let Some(life) = &mut self.life else { return };
        let named: Vec<Link> = links.into_iter().filter(|link| !link.name.is_empty()).collect();
        let mut url = None;
        for link in named.iter().filter(|link| !life.links.contains(&link.id)) {
            self.told.papers.link_made(&link.account);
            if link.account == RECORD {
                url = Some(SocketAddr::new(link.ip, link.port));
            }
        }
        life.links = named.iter().map(|link| link.id).collect();
        let is_linked =
            [LIVE, RECORD].iter().all(|account| named.iter().any(|link| link.account == *account));
        if life.is_linked && !is_linked {
            self.unlinked_since = Instant::now();
        }
        life.is_linked = is_linked;
        if let Some(remote) = url {
            let urls = self.told.plan.hub.as_ref().map(|hub| hub.urls.as_slice());
            let url = url_at(remote, urls.unwrap_or_default()).await;
            self.told.hub.send_replace(Some(url));
        }
        if is_linked {
            self.told.complaint.send_replace(None);
        }
    }

    /// It runs what is on disk.
    fn fits(&mut self, version: &str) {
        let Some(life) = &self.life else { return };
        if self.told.papers.taken.borrow().number < self.told.number {
            self.told.papers.settle(self.told.number, None, life.before);
        }
        let settled = self.request.settled(&life.id);
        let is_old = Version::of(version).is_some_and(|version| version < MINIMUM);
        if is_old {
            self.unfit(format!(
                "the leaf at {} is nats-server {version} and {MINIMUM} or newer is needed; install \
                 one and restart its service",
                self.access.address
            ));
        } else if settled && self.is_written {
            self.changed = false;
            self.told.trouble.send_if_modified(|trouble| trouble.take().is_some());
        }
        self.told.tidy();
    }

    async fn reload(&mut self, system: &System, id: &str) {
        let asked = system.ask_within(RELOAD_DEADLINE, "leaf", id, "RELOAD", &Value::Null).await;
        let wanted = self.told.tag.clone();
        let end = match asked {
            Ok(answer) if wanted.as_ref().is_none_or(|tag| answer.server.tags.contains(tag)) => {
                Ok(())
            }
            Ok(_) => Err(format!("it reads another file than {}", self.told.dir.display())),
            Err(OperateError::Refused { said, .. }) => Err(said),
            // What it runs is asked for next.
            Err(error) => return self.told.unheard(chain(&error)),
        };
        self.told.reloaded(end.clone());
        let Err(said) = end else { return };
        if self.told.tag != wanted {
            // It was put back to what the server runs.
            return;
        }
        self.life.iter_mut().for_each(|life| life.refused = wanted.clone());
        if said.contains(NOT_BY_RELOAD) {
            self.request.ask(Why::Configuration, &said, Some(id));
        } else {
            self.unfit(format!(
                "the leaf does not take its configuration and goes on as it was: {said}"
            ));
        }
    }

    async fn order(&mut self, order: Order, client: &Client, is_up: bool) {
        let life = self.life.as_ref().map(|life| life.id.clone());
        if let Order::Restart { reason } = &order {
            return self.request.ask(Why::Remedy, reason, life.as_deref());
        }
        // One that is away makes its links when it comes.
        let (true, Some(id)) = (is_up, life) else { return };
        // What was linked by now does not count as made by this.
        self.look(client).await;
        if self.told.follow(order) == Step::Reload {
            self.reload(&System::new(client.clone()), &id).await;
        }
    }

    /// The links are to be made with other files.
    async fn take_files(&mut self, client: &Client, is_up: bool) {
        if is_up {
            self.look(client).await;
        }
        let step = self.told.take_files();
        self.is_written |= step == Step::Reload;
        let life = self.life.as_ref().map(|life| life.id.clone());
        match (step, life) {
            (Step::Reload, Some(id)) if is_up => {
                self.reload(&System::new(client.clone()), &id).await;
            }
            // It reads them when it comes.
            (Step::Reload, _) => self.told.forget(),
            _ => {}
        }
    }

    fn unlinked_for(&self) -> Option<Duration> {
        let life = self.life.as_ref()?;
        let wants_links = self.told.plan.hub.is_some();
        (wants_links && !life.is_linked).then(|| self.unlinked_since.elapsed())
    }

    /// Asks the hub itself why it does not link, in the daemon's own words: the server's log is
    /// another service's.
    fn ask_hub(&mut self) -> Option<BoxFuture<'static, Option<String>>> {
        self.unlinked_for().filter(|unlinked| *unlinked >= UNLINKED)?;
        if self.asked_hub.is_some_and(|asked| asked.elapsed() < ASK_HUB_EVERY) {
            return None;
        }
        self.asked_hub = Some(Instant::now());
        let hub = self.told.plan.hub.as_ref()?;
        let url = preferred(&self.told.plan.gateway, &hub.urls)?.clone();
        let name = self.told.plan.gateway.to_string();
        let access = Arc::clone(&self.hub);
        Some(Box::pin(async move {
            match timeout(ASK_HUB, access.welcome(&url, &name)).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(chain(&error)),
                Err(_) => Some(format!("{url} says nothing within {} s", ASK_HUB.as_secs())),
            }
        }))
    }

    /// Whether nothing is expected of it soon.
    fn is_settled(&self) -> bool {
        let is_linked = self.told.plan.hub.is_none()
            || self.life.as_ref().is_none_or(|life| life.is_linked)
            || self.unlinked_since.elapsed() > UNLINKED;
        let is_taken = self.told.papers.taken.borrow().number >= self.told.number;
        self.away_since.is_some() || (is_linked && is_taken)
    }

    fn unfit(&self, text: String) {
        let is_news = self.told.trouble.borrow().as_ref() != Some(&text);
        if is_news {
            tracing::warn!("{text}");
            self.told.trouble.send_replace(Some(text));
        }
    }

    /// Says what nobody took up.
    fn tell(&mut self) {
        if let Some(text) = self.request.unheard() {
            self.unfit(text);
        }
    }
}

/// What the hub said; never where it was not asked.
async fn answered(why: &mut Option<BoxFuture<'static, Option<String>>>) -> Option<String> {
    match why {
        Some(why) => why.await,
        None => std::future::pending().await,
    }
}

/// How nats-server says that only a restart does it.
const NOT_BY_RELOAD: &str = "not supported";

/// The configured URL that leads to an address; the address where none is known to.
async fn url_at(remote: SocketAddr, urls: &[HubUrl]) -> String {
    for url in urls.iter().filter(|url| url.port == remote.port()) {
        let host = url.host.trim_start_matches('[').trim_end_matches(']');
        let found = timeout(ANSWER, tokio::net::lookup_host((host, url.port))).await;
        let Ok(Ok(mut addresses)) = found else { continue };
        if addresses.any(|address| address.ip().to_canonical() == remote.ip().to_canonical()) {
            return url.to_string();
        }
    }
    match urls {
        [only] => only.to_string(),
        _ => remote.to_string(),
    }
}
