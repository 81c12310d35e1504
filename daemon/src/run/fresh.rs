//! Who is asked to read a tag now.
//!
//! # Invariants
//! - A tag is asked of the driver of the device that the status names for it, so a reload changes
//!   both at once; a driver that was started again is the one that is asked.
//! - Every tag that was asked for has an answer at the deadline, in the order of the question.
//! - Nothing is asked of a device that does not run, and no device waits for another one's answer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tidegate_translator::{Fresh, FreshAnswer, ReadNow, Reason, TagId};
use tokio::time::Instant;

use crate::observe::health;
use crate::observe::state::Board;

/// The most tags of one question: each is held several times while the answers come in.
pub const MAX_FRESH_TAGS: usize = 10_000;

/// What became of one tag: a sample that was read after the question, or a bad one and the reason
/// in words.
pub type FreshReading = Fresh;

/// The drivers that can be asked.
pub struct FreshReads {
    board: Arc<Board>,
    desks: Mutex<BTreeMap<Arc<str>, Arc<dyn ReadNow>>>,
}

impl FreshReads {
    /// Nobody can be asked yet.
    #[must_use]
    pub fn new(board: Arc<Board>) -> Self {
        Self { board, desks: Mutex::default() }
    }

    /// A driver of this device starts; it takes the place of the one before.
    pub(super) fn put(&self, device: Arc<str>, desk: Option<Arc<dyn ReadNow>>) {
        match desk {
            Some(desk) => self.desks().insert(device, desk),
            None => self.desks().remove(&device),
        };
    }

    /// The device is no longer configured.
    pub(super) fn remove(&self, device: &str) {
        self.desks().remove(device);
    }

    fn desks(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<dyn ReadNow>>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads these tags from their devices now: the answers stand in the order of `tags`, each with
    /// a value that was read after this call or with the reason why there is none.
    ///
    /// Cancel safety: dropping the future takes back what was not read yet.
    pub async fn read(&self, tags: &[TagId], deadline: Instant) -> Vec<FreshReading> {
        let (asked, beyond) = tags.split_at(tags.len().min(MAX_FRESH_TAGS));
        let owners = self.board.owners(asked.iter().copied());
        let mut by_device: BTreeMap<Arc<str>, HashSet<TagId>> = BTreeMap::new();
        for (tag, owner) in asked.iter().zip(&owners) {
            if let Some(owner) = owner {
                by_device.entry(Arc::clone(owner)).or_default().insert(*tag);
            }
        }
        let questions = by_device.into_iter().map(|(device, tags)| {
            let desk = self.desks().get(&device).map(Arc::clone);
            async move {
                let answer = match desk {
                    Some(desk) => Some(desk.read_now(tags, deadline).await),
                    None => None,
                };
                (device, answer)
            }
        });
        let mut read: HashMap<TagId, Fresh> = HashMap::with_capacity(asked.len());
        let mut rest = BTreeMap::new();
        for (device, answer) in join_all(questions).await {
            let unread = answer.map(|FreshAnswer { read: answered, rest }| {
                read.extend(answered.into_iter().map(|fresh| (fresh.sample.tag, fresh)));
                rest
            });
            rest.insert(device, unread);
        }
        let answers = asked.iter().zip(&owners).map(|(tag, owner)| {
            if let Some(fresh) = read.get(tag) {
                return fresh.clone();
            }
            let (reason, error) = match owner {
                None => (Reason::Configuration, "no such tag at present".to_owned()),
                Some(device) => match rest.get(device) {
                    Some(Some(Some(unread))) => {
                        (unread.reason(), format!("device {device}: {unread}"))
                    }
                    Some(Some(None)) => (
                        Reason::Configuration,
                        format!("device {device} does not read this tag at present"),
                    ),
                    _ if &**device == health::DEVICE => (
                        Reason::Configuration,
                        "a tag of the gateway itself is not read from a device; ask for the \
                         latest value"
                            .to_owned(),
                    ),
                    _ => (
                        Reason::Configuration,
                        format!(
                            "device {device} cannot be asked, it tells by itself; ask for the \
                             latest value"
                        ),
                    ),
                },
            };
            Fresh::failed(*tag, self.board.now(), reason, 0, error)
        });
        let mut answers: Vec<Fresh> = answers.collect();
        answers.extend(beyond.iter().map(|tag| {
            let error = format!("at most {MAX_FRESH_TAGS} tags are read at once; ask for fewer");
            Fresh::failed(*tag, self.board.now(), Reason::Unspecified, 0, error)
        }));
        answers
    }
}
