//! What the leaf's server is told, whoever runs it: its configuration, with the links and the
//! certificate files of the moment, and what became of each time that it was to read it again.
//!
//! # Invariants
//! - One reload at a time: what is heard of one is not taken for the answer to another.
//! - What a server refused is not left on disk: its next start begins with what it ran with.
//! - A child gets the files of the identity by their own paths, since it is the daemon's user. A
//!   service gets copies in its own folder and never sees the identity.
//! - The same plan, passwords and state of the links always give the same text, and the text of a
//!   service bears its own digest: what it runs is asked for, never remembered.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use zeroize::Zeroizing;

use super::config::{Dialled, LeafPlan, generate_again};
use super::copies;
use super::credentials::{CONFIG, Credentials, FileError, GROUP, OWNER, make_dir, write_whole};
use super::handle::{LeafHandle, LeafState, Order};
use super::papers::{LinksMade, Papers, RELOAD_DEADLINE, papers};
use crate::causes::chain;
use crate::config::{LeafMode, TlsFiles};

/// What is to be done with the server now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Stay,
    /// Its configuration is another one: it is to read it.
    Reload,
    /// It is to be started anew, for this reason.
    Restart(String),
}

/// A reload that was asked for.
#[derive(Debug)]
struct Reload {
    since: Instant,
    /// Nothing where it is about links.
    files: Option<Change>,
    /// The links that had been made before.
    before: LinksMade,
}

/// Other files, and what was before them.
#[derive(Debug)]
struct Change {
    number: u64,
    former: Option<TlsFiles>,
    dialled: Dialled,
}

/// The server's orders, and the side of the [`LeafHandle`] that tells what became of them.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) plan: LeafPlan,
    pub(super) dir: PathBuf,
    pub(super) credentials: Arc<Credentials>,
    pub(super) state: watch::Sender<LeafState>,
    pub(super) trouble: watch::Sender<Option<String>>,
    pub(super) complaint: watch::Sender<Option<String>>,
    pub(super) hub: watch::Sender<Option<String>>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) papers: Papers,
    /// The reload whose end was not heard of yet.
    reload: Option<Reload>,
    /// The number of the files that the configuration on disk names.
    pub(super) number: u64,
    /// Of the links in this life of the server.
    dialled: Dialled,
    /// What the server was told at its start, before a port was chosen: a reload with another one is
    /// refused.
    told_to_listen: SocketAddr,
    /// What a service says of itself once it runs what was written last.
    pub(super) tag: Option<String>,
    /// The copies that what was written last names.
    copies: Option<TlsFiles>,
    /// The tag at which the folder was last tidied up.
    tidied: Option<String>,
}

/// The configuration as it was written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) path: PathBuf,
    /// Whether another one was there before, or none.
    pub(super) changed: bool,
}

/// The name of the file that says how links are dialled, in a service's folder.
const LINKS: &str = "links";

impl Told {
    /// With a handle for everybody else; nothing is written yet.
    pub(super) fn new(
        plan: LeafPlan,
        dir: PathBuf,
        credentials: Credentials,
    ) -> (Self, LeafHandle) {
        let credentials = Arc::new(credentials);
        let (state, state_seen) = watch::channel(LeafState::Starting);
        let (trouble, trouble_seen) = watch::channel(None);
        let (complaint, complaint_seen) = watch::channel(None);
        let (hub, hub_seen) = watch::channel(None);
        // One order waits at most: a second restart before the first means the same.
        let (orders_in, orders) = mpsc::channel(1);
        let files = plan.hub.as_ref().and_then(|hub| hub.tls.clone());
        let (papers, showing) = papers(files);
        let handle = LeafHandle {
            credentials: Arc::clone(&credentials),
            state: state_seen,
            trouble: trouble_seen,
            complaint: complaint_seen,
            hub: hub_seen,
            orders: orders_in,
            showing,
        };
        let told_to_listen = plan.listen;
        let kept = std::fs::read_to_string(dir.join(LINKS)).ok();
        let kept = kept.filter(|_| plan.mode == LeafMode::External);
        let dialled = kept.and_then(|line| Dialled::of_line(&line)).unwrap_or_default();
        let told = Self {
            plan,
            dir,
            credentials,
            state,
            trouble,
            complaint,
            hub,
            orders,
            papers,
            reload: None,
            number: 0,
            dialled,
            told_to_listen,
            tag: None,
            copies: None,
            tidied: None,
        };
        (told, handle)
    }

    /// A new life of a child: it knows no links and nothing of what was asked of the former one.
    pub(super) fn begin(&mut self) {
        self.state.send_replace(LeafState::Starting);
        self.complaint.send_replace(None);
        self.hub.send_replace(None);
        self.dialled = Dialled::default();
        self.told_to_listen = self.plan.listen;
        // Orders from before this start were meant for the server that is gone.
        self.forget();
        let wanted = self.papers.wanted.borrow_and_update().clone();
        self.number = wanted.number;
        self.put(wanted.files);
    }

    /// Nothing that was asked of a server that is gone is waited for.
    pub(super) fn forget(&mut self) {
        while self.orders.try_recv().is_ok() {}
        self.reload = None;
    }

    /// Writes the configuration. The plan's, and listening where the server was told to.
    pub(super) fn write(&mut self) -> Result<Written, FileError> {
        let mut plan = self.plan.clone();
        plan.listen = self.told_to_listen;
        let is_service = plan.mode == LeafMode::External;
        let (folder, mode) = if is_service { (0o750, GROUP) } else { (0o700, OWNER) };
        make_dir(&self.dir, folder)?;
        if is_service {
            copies::make(&mut plan, &self.dir)?;
            write_whole(&self.dir.join(LINKS), self.dialled.line().as_bytes(), OWNER)?;
        } else {
            make_dir(&plan.ports_dir, folder)?;
        }
        let text = generate_again(&plan, &self.credentials, self.dialled);
        let mut text = Zeroizing::new(text.map_err(FileError::Plan)?);
        let tag = is_service.then(|| format!("config:{}", copies::digest([text.as_bytes()])));
        if let Some(tag) = &tag {
            text.push_str(&format!("server_tags: [\"{tag}\"]\n"));
        }
        let path = self.dir.join(CONFIG);
        let before = std::fs::read(&path).map(Zeroizing::new).unwrap_or_default();
        let changed = before.as_slice() != text.as_bytes();
        if changed || !is_service {
            write_whole(&path, text.as_bytes(), mode)?;
        }
        self.tag = tag;
        self.copies = plan.hub.and_then(|hub| hub.tls);
        Ok(Written { path, changed })
    }

    /// Takes copies away that a service does not need: it runs what was written last.
    pub(super) fn tidy(&mut self) {
        if self.tag.is_some() && self.tidied != self.tag {
            copies::keep_only(self.copies.as_ref(), &self.dir);
            self.tidied.clone_from(&self.tag);
        }
    }

    /// Whether the end of a reload is waited for.
    pub(super) fn is_reloading(&self) -> bool {
        self.reload.is_some()
    }

    /// What an order means.
    pub(super) fn follow(&mut self, order: Order) -> Step {
        match order {
            Order::Restart { reason } => return Step::Restart(reason),
            // What was linked by a remote that stays, and every local connection, goes on.
            Order::Dial { live, record, reason } => {
                if live {
                    self.dialled.live = self.dialled.live.next();
                }
                if record {
                    self.dialled.record = self.dialled.record.next();
                }
                tracing::warn!(live, record, "leaf dials the hub anew: {reason}");
            }
            Order::FailBack { reason } => {
                self.dialled.live = self.dialled.live.again();
                self.dialled.record = self.dialled.record.again();
                tracing::info!("leaf goes back to the first of the hub's URLs: {reason}");
            }
        }
        if let Err(error) = self.write() {
            tracing::warn!("links are not dialled anew: {}", chain(&error));
            return Step::Stay;
        }
        self.ask(None);
        Step::Reload
    }

    /// Has both links made with the files that are wanted now.
    pub(super) fn take_files(&mut self) -> Step {
        let wanted = self.papers.wanted.borrow_and_update().clone();
        let former = self.put(wanted.files.clone());
        let settled = self.papers.taken.borrow().refused.is_some() && former == wanted.files;
        if settled {
            // Back to what it never let go of.
            self.number = wanted.number;
            self.papers.kept(wanted.number);
            return Step::Stay;
        }
        let dialled = self.dialled;
        self.dialled.live = self.dialled.live.again();
        self.dialled.record = self.dialled.record.again();
        if let Err(error) = self.write() {
            self.put(former);
            self.dialled = dialled;
            let before = self.papers.count();
            self.papers.settle(wanted.number, Some(chain(&error)), before);
            return Step::Stay;
        }
        tracing::info!("leaf makes its links with other certificate files");
        self.number = wanted.number;
        self.ask(Some(Change { number: wanted.number, former, dialled }));
        Step::Reload
    }

    /// Has it read what is on disk, of which it is not known what changed.
    pub(super) fn read_again(&mut self) {
        self.ask(None);
    }

    /// Puts other files into the plan; returns those before.
    fn put(&mut self, files: Option<TlsFiles>) -> Option<TlsFiles> {
        let hub = self.plan.hub.as_mut()?;
        std::mem::replace(&mut hub.tls, files)
    }

    fn ask(&mut self, files: Option<Change>) {
        let (since, before) = (Instant::now(), self.papers.count());
        self.reload = Some(Reload { since, files, before });
    }

    /// No word came of a reload: the server may have dialled as it was told, and must not meet the
    /// same remotes for other files.
    pub(super) fn unheard(&mut self, why: String) {
        let change = self.reload.as_mut().and_then(|reload| reload.files.as_mut());
        change.into_iter().for_each(|change| change.dialled = self.dialled);
        self.reloaded(Err(why));
    }

    /// Takes in what became of a reload.
    pub(super) fn reloaded(&mut self, end: Result<(), String>) {
        let Some(reload) = self.reload.take() else { return };
        if let Err(why) = &end {
            tracing::warn!("leaf did not take its configuration: {why}");
        }
        let Some(Change { number, former, dialled }) = reload.files else { return };
        if end.is_err() {
            self.put(former);
            self.dialled = dialled;
            if let Err(error) = self.write() {
                tracing::warn!("leaf's former configuration is not back: {}", chain(&error));
            }
        }
        self.papers.settle(number, end.err(), reload.before);
    }

    /// When the end of a reload should have been heard of; never where there is none.
    pub(super) fn overdue(&self) -> impl Future<Output = ()> + use<> {
        let since = self.reload.as_ref().map(|reload| reload.since);
        async move {
            match since {
                Some(since) => tokio::time::sleep_until((since + RELOAD_DEADLINE).into()).await,
                None => std::future::pending().await,
            }
        }
    }
}
