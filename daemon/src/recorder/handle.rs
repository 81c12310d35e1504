//! How others ask the recorder's thread.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tidegate_identity::Identity;
use tidegate_journal::{Epoch, Position, Reader};
use tidegate_record::catalog::{CatalogError, Definition};
use tidegate_translator::{TagId, Timestamp};
use tidegate_uplink::{Cursor, Memory, MessageEnd};
use tokio::sync::{mpsc, oneshot, watch};

use super::SharedCatalog;

/// Requests that may wait: the uplink sends one at a time, a reload one.
pub(super) const COMMANDS: usize = 16;

/// The recorder has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the recorder has ended")]
pub struct RecorderGone;

/// A tag's number, or why it has none.
pub(super) type Numbered = Result<TagId, Box<CatalogError>>;

/// Made one by one while they are numbered, because there may be 50,000.
pub(super) struct Definitions(pub(super) Box<dyn Iterator<Item = Definition> + Send>);

impl std::fmt::Debug for Definitions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Definitions").finish_non_exhaustive()
    }
}

/// What the recorder is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Define(Definitions, oneshot::Sender<Vec<Numbered>>),
    Quiet(HashSet<TagId>),
    Snapshot,
    Seal(Box<Identity>),
    Acknowledge(Box<Cursor>),
    Sent(MessageEnd),
    Rewind { epoch: Epoch, to_frame: u64 },
    HubLost { epoch: Epoch, after: Option<Position> },
    Suspect(Box<Cursor>, oneshot::Sender<()>),
    Fork { epoch: Epoch, common: Option<Position> },
}

/// Asks the recorder. Clones ask the same one.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) durable: watch::Receiver<u64>,
    pub(super) reader: Reader,
    pub(super) closed: Arc<RwLock<Vec<Epoch>>>,
    pub(super) opened: watch::Receiver<Option<Memory>>,
    pub(super) catalog: SharedCatalog,
    pub(super) before: Arc<OnceLock<Timestamp>>,
}

impl Handle {
    /// Gives tags their numbers; they are in the record before their first sample.
    ///
    /// # Errors
    /// When the recorder has ended. A tag that cannot be numbered has its error in the list.
    pub async fn define(
        &self,
        definitions: impl IntoIterator<Item = Definition, IntoIter: Send + 'static>,
    ) -> Result<Vec<Numbered>, RecorderGone> {
        let (reply, answer) = oneshot::channel();
        let definitions = Definitions(Box::new(definitions.into_iter()));
        self.commands.send(Command::Define(definitions, reply)).await.map_err(|_| RecorderGone)?;
        answer.await.map_err(|_| RecorderGone)
    }

    /// Waits until there is a journal, and returns what is remembered with it of hubs. Cancel
    /// safe.
    ///
    /// # Errors
    /// When the recorder has ended.
    pub async fn opened(&self) -> Result<Memory, RecorderGone> {
        let mut opened = self.opened.clone();
        let memory = opened.wait_for(Option::is_some).await.map_err(|_| RecorderGone)?;
        Ok(memory.clone().unwrap_or_default())
    }

    /// When the last sample before this run was captured, by the clock of then; known once the
    /// journal is opened, and `None` when it held none.
    #[must_use]
    pub fn recorded_before(&self) -> Option<Timestamp> {
        self.before.get().copied()
    }

    /// Changes after each commit.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.durable.clone()
    }

    /// Reads durable frames.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// What the numbers of tags stand for, in the epoch that is written.
    #[must_use]
    pub fn catalog(&self) -> SharedCatalog {
        self.catalog.clone()
    }

    /// The epochs that a fork closed: nothing more of them is delivered.
    #[must_use]
    pub fn closed_epochs(&self) -> Vec<Epoch> {
        self.closed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the tags whose samples never make a commit due.
    pub async fn set_quiet_tags(&self, tags: HashSet<TagId>) {
        self.ask(Command::Quiet(tags)).await;
    }

    /// Writes the whole catalog again: what the hub had of it has expired.
    pub async fn repeat_catalog(&self) {
        self.ask(Command::Snapshot).await;
    }

    /// Signs everything that is durable by then, and records the signature.
    pub async fn seal(&self, identity: Identity) {
        self.ask(Command::Seal(Box::new(identity))).await;
    }

    /// Notes that the hub has everything up to the cursor.
    pub async fn acknowledge(&self, cursor: Cursor) {
        self.ask(Command::Acknowledge(Box::new(cursor))).await;
    }

    /// Notes a message that is about to be sent.
    pub async fn sent(&self, end: MessageEnd) {
        self.ask(Command::Sent(end)).await;
    }

    /// Keeps a cursor; it is durable when this returns.
    pub async fn suspect(&self, cursor: Cursor) {
        let (done, answer) = oneshot::channel();
        self.ask(Command::Suspect(Box::new(cursor), done)).await;
        // An error means that the recorder has ended, and the process with it.
        let _ = answer.await;
    }

    /// Notes that the hub has nothing from this frame on.
    pub async fn rewind(&self, epoch: Epoch, to_frame: u64) {
        self.ask(Command::Rewind { epoch, to_frame }).await;
    }

    /// Leaves a bridge over frames that the hub lost and that are kept no more.
    pub async fn hub_lost(&self, epoch: Epoch, after: Option<Position>) {
        self.ask(Command::HubLost { epoch, after }).await;
    }

    /// Closes the epoch and begins another that names it.
    pub async fn fork(&self, epoch: Epoch, common: Option<Position>) {
        self.ask(Command::Fork { epoch, common }).await;
    }

    /// A recorder that has ended takes the process with it; there is nobody left to tell.
    async fn ask(&self, command: Command) {
        let _ = self.commands.send(command).await;
    }
}
