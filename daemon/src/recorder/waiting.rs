//! Recording from the start on, also when the journal cannot be opened yet: its disk is read-only or
//! fails, or a later version wrote it.
//!
//! # Invariants
//! - A journal that cannot be opened stays as it is, its catalog with it, and is tried again.
//! - Until it opens, tags get numbers and live values go on; each sample is counted as lost and told
//!   in a loss record once there is a journal.
//! - Only what no trying again can mend ends the daemon: another gateway's journal, settings that
//!   cannot work, a directory that somebody else uses or that this user may not.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use tidegate_journal::{Epoch, Journal, OpenError, Reader, Recovery, Stamp};
use tidegate_translator::{Clock, LossCause, TagId, Timestamp};
use tidegate_uplink::Memory;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::catalog_store::CatalogStore;
use super::handle::{COMMANDS, Command, Handle};
use super::ingress::{LOOK_EVERY, Losses, Queue};
use super::losses::of_gateway;
use super::receipt::Batch;
use super::stamp::Stamper;
use super::writer::{REOPEN, StartError, Writer};
use crate::causes::chain;
use crate::observe::state::Board;
use crate::supervise::Pulse;

/// The alarm for a journal that a later version wrote.
const NEEDS_NEWER: &str = "journal-needs-newer";

/// What opening a journal gives.
pub type Opened = Result<(Journal, Recovery), OpenError>;

/// Opens the journal, for the readers that were handed out.
type Opener = dyn Fn(Stamp, &Reader) -> Opened + Send;

/// What a writer works with, whatever becomes of its journal.
pub(super) struct Kit {
    pub(super) commit_every: Duration,
    pub(super) queue: Queue,
    pub(super) losses: Arc<Losses>,
    pub(super) board: Arc<Board>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stamper: Stamper,
    pub(super) catalog: CatalogStore,
    /// Whether the catalog is the one that the journal was written with.
    pub(super) catalog_known: bool,
    pub(super) quiet_tags: HashSet<TagId>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) durable: watch::Sender<u64>,
    pub(super) closed: Arc<RwLock<Vec<Epoch>>>,
    pub(super) opened: watch::Sender<Option<Memory>>,
    pub(super) before: Arc<OnceLock<Timestamp>>,
    /// When this run began.
    pub(super) started: Stamp,
}

/// The recorder's thread: waits for its journal if need be, then writes it.
pub struct Recorder(Now);

enum Now {
    Writing(Box<Writer>),
    Waiting(Box<Waiting>),
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let now = match &self.0 {
            Now::Writing(_) => "writing",
            Now::Waiting(_) => "waiting",
        };
        f.debug_tuple("Recorder").field(&now).finish()
    }
}

impl Recorder {
    /// Opens the journal in `dir` and the catalog beside it. Blocks on the disk.
    ///
    /// # Errors
    /// When the journal cannot be used and trying again would not help.
    pub fn open(
        dir: &Path,
        opener: impl Fn(Stamp, &Reader) -> Opened + Send + 'static,
        commit_every: Duration,
        queue: Queue,
        losses: Arc<Losses>,
        board: Arc<Board>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Handle), StartError> {
        let reader = Reader::of_nothing(dir.display().to_string());
        let (sender, commands) = mpsc::channel(COMMANDS);
        let (durable, durable_seen) = watch::channel(0);
        let (opened, opened_seen) = watch::channel(None);
        let closed: Arc<RwLock<Vec<Epoch>>> = Arc::default();
        let before: Arc<OnceLock<Timestamp>> = Arc::default();
        let (catalog, catalog_known) = match CatalogStore::load(dir) {
            Ok(Some(catalog)) => (catalog, true),
            Ok(None) => (CatalogStore::empty(dir), false),
            Err(error) => {
                tracing::error!("{error}; a new epoch begins with a new catalog");
                (CatalogStore::empty(dir), false)
            }
        };
        let handle = Handle {
            commands: sender,
            durable: durable_seen,
            reader: reader.clone(),
            closed: Arc::clone(&closed),
            opened: opened_seen,
            catalog: catalog.shared(),
            before: Arc::clone(&before),
        };
        let stamper = Stamper::new();
        let kit = Kit {
            commit_every,
            queue,
            losses,
            board,
            started: stamper.now(clock.now()),
            clock,
            stamper,
            catalog,
            catalog_known,
            quiet_tags: HashSet::new(),
            commands,
            durable,
            closed,
            opened,
            before,
        };
        let now = match try_open(&opener, &reader, kit) {
            Ok(writer) => Now::Writing(writer),
            Err(failed) => {
                let (kit, error) = *failed;
                if !is_worth_waiting(&error) {
                    return Err(error);
                }
                let waiting = Waiting {
                    kit,
                    opener: Box::new(opener),
                    reader,
                    again_at: Instant::now() + REOPEN.0,
                    wait: REOPEN.0,
                };
                waiting.tell(&error);
                Now::Waiting(Box::new(waiting))
            }
        };
        Ok((Self(now), handle))
    }

    /// Records until `stop`, then records what is still queued and closes the journal.
    pub async fn run(self, pulse: Pulse, stop: CancellationToken) {
        let writer = match self.0 {
            Now::Writing(writer) => Some(writer),
            Now::Waiting(waiting) => waiting.run(&pulse, &stop).await,
        };
        if let Some(writer) = writer {
            writer.run(pulse, stop).await;
        }
    }
}

fn try_open(
    opener: &Opener,
    reader: &Reader,
    kit: Kit,
) -> Result<Box<Writer>, Box<(Kit, StartError)>> {
    match opener(kit.stamper.now(kit.clock.now()), reader) {
        Ok((journal, recovery)) => Writer::take_up(kit, journal, &recovery).map(Box::new),
        Err(error) => Err(Box::new((kit, error.into()))),
    }
}

const fn is_worth_waiting(error: &StartError) -> bool {
    match error {
        StartError::Open(error) => matches!(
            error,
            OpenError::NeedsNewer { .. } | OpenError::Storage(_) | OpenError::Begin(_)
        ),
        StartError::Epoch(_) => true,
    }
}

/// What stands in for the writer while there is no journal.
struct Waiting {
    kit: Kit,
    opener: Box<Opener>,
    reader: Reader,
    again_at: Instant,
    wait: Duration,
}

impl Waiting {
    /// Returns the writer once there is a journal, `None` when the daemon stops before.
    async fn run(
        mut self: Box<Self>,
        pulse: &Pulse,
        stop: &CancellationToken,
    ) -> Option<Box<Writer>> {
        let mut look_at = Instant::now();
        loop {
            pulse.tick();
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                Some(command) = self.kit.commands.recv() => self.command(command),
                Some(batch) = self.kit.queue.next() => self.lose(batch),
                () = tokio::time::sleep_until(self.again_at.min(look_at)) => {}
            }
            let now = Instant::now();
            if look_at <= now {
                look_at = now + LOOK_EVERY;
                // What waits to be told stays within its bound.
                self.kit.losses.take_back(self.kit.losses.due());
            }
            if self.again_at <= now {
                self = match self.again() {
                    Ok(writer) => return Some(writer),
                    Err(waiting) => waiting,
                };
            }
        }
    }

    fn again(self: Box<Self>) -> Result<Box<Writer>, Box<Self>> {
        let Self { kit, opener, reader, wait, .. } = *self;
        let board = Arc::clone(&kit.board);
        match try_open(&*opener, &reader, kit) {
            Ok(writer) => {
                board.clear(NEEDS_NEWER);
                writer.forget_readings();
                writer.keep_catalog();
                Ok(writer)
            }
            Err(failed) => {
                let (kit, error) = *failed;
                let wait = (wait * 2).min(REOPEN.1);
                let again_at = Instant::now() + wait;
                let waiting = Self { kit, opener, reader, again_at, wait };
                waiting.tell(&error);
                Err(Box::new(waiting))
            }
        }
    }

    /// One alarm while it lasts, however often it is tried.
    fn tell(&self, error: &StartError) {
        let board = &self.kit.board;
        board.counters.journal_errors.one();
        let text = chain(error);
        board.update_journal(|journal| {
            journal.writable = false;
            journal.why = Some(text.clone());
        });
        let newer = matches!(error, StartError::Open(OpenError::NeedsNewer { .. }));
        let unwritable = LossCause::JournalUnwritable.word();
        let (kind, other) =
            if newer { (NEEDS_NEWER, unwritable) } else { (unwritable, NEEDS_NEWER) };
        board.clear(other);
        if board.raise(kind, text.clone()) {
            tracing::error!(
                alarm = kind,
                "{text}; nothing in it is changed, live values go on, what is read meanwhile is \
                 counted as lost"
            );
        }
    }

    /// Numbers are not kept on the disk yet: nobody knows what lies there.
    fn command(&mut self, command: Command) {
        match command {
            Command::Define(definitions, reply) => {
                // Who asked may have gone meanwhile; the numbers hold all the same.
                let _ = reply.send(self.kit.catalog.define(definitions.0));
            }
            Command::Quiet(tags) => self.kit.quiet_tags = tags,
            Command::Suspect(_, done) => {
                let _ = done.send(());
            }
            // Nothing is delivered or signed before there is a journal.
            Command::Snapshot
            | Command::Seal(_)
            | Command::Acknowledge(_)
            | Command::Sent(_)
            | Command::Rewind { .. }
            | Command::HubLost { .. }
            | Command::Fork { .. } => {}
        }
    }

    fn lose(&self, batch: Batch) {
        if let Some(awaited) = batch.awaited {
            // Whoever waits tells of the loss, if it is one.
            awaited.receipt.give(Err(LossCause::JournalUnwritable));
            return;
        }
        let times = || batch.iter().map(|sample| sample.acquired);
        let (Some(from), Some(to)) = (times().min(), times().max()) else { return };
        let count = u64::try_from(batch.len()).ok();
        self.kit.losses.report(&of_gateway(LossCause::JournalUnwritable, from, to, count));
    }
}
