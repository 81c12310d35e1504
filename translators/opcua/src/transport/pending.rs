//! The requests that wait for a response, and what has come of it.
//!
//! # Invariants
//! - A response is bounded in chunks and bytes, and so are all that are half there together.
//! - A request is answered once: by its response, its deadline, or the end of the connection.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use opcua::core::ResponseMessage;
use opcua::types::{Error, StatusCode};
use tokio::sync::oneshot::Sender;
use tokio::time::Instant;

use super::{MAX_CHUNKS, MAX_MESSAGE};

/// More requests are never under way at once: subscriptions have a few, browsing one at a time.
const MAX_WAITING: usize = 4096;
/// What all responses that are half there may hold.
const MAX_HELD: usize = 2 * MAX_MESSAGE;

/// Who waits for a response.
pub(super) type Asker = Sender<Result<ResponseMessage, Error>>;

/// How a chunk ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// More chunks follow.
    No,
    /// It is the last.
    Yes,
    /// The server gave up on the response.
    Aborted,
}

/// What a chunk did.
#[derive(Debug)]
pub(super) enum Collected {
    /// Nobody asked, or not any more.
    Unknown,
    /// More of it is to come.
    More,
    /// The response is there.
    Complete { asker: Asker, body: Bytes },
    /// There will be none, for the reason in the body.
    Aborted { asker: Asker, body: Bytes },
    /// It is larger than any response may be.
    TooLarge { asker: Asker },
    /// It opens the channel, but that was not asked.
    Misplaced,
}

struct Waiting {
    asker: Asker,
    deadline: Instant,
    opens: bool,
    chunks: usize,
    body: BytesMut,
}

#[derive(Default)]
pub(super) struct Pending {
    waiting: HashMap<u32, Waiting>,
    held: usize,
    /// No deadline is earlier than this.
    next: Option<Instant>,
}

impl Pending {
    /// Notes a request. `opens` when it opens or renews the channel.
    pub(super) fn ask(&mut self, id: u32, asker: Asker, deadline: Instant, opens: bool) {
        if self.waiting.len() >= MAX_WAITING {
            let text = format!("{MAX_WAITING} requests wait already");
            let _ = asker.send(Err(Error::new(StatusCode::BadTooManyOperations, text)));
            return;
        }
        self.next = Some(self.next.map_or(deadline, |next| next.min(deadline)));
        let waiting = Waiting { asker, deadline, opens, chunks: 0, body: BytesMut::new() };
        self.waiting.insert(id, waiting);
    }

    /// When [`Self::expire`] is to be called at the latest.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Answers those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        for (_, late) in self.waiting.extract_if(|_, waiting| waiting.deadline <= now) {
            self.held -= late.body.len();
            let text = "no response in time";
            let _ = late.asker.send(Err(Error::new(StatusCode::BadTimeout, text)));
        }
        self.next = self.waiting.values().map(|waiting| waiting.deadline).min();
    }

    /// Whether the channel is being opened or renewed.
    pub(super) fn is_opening(&self) -> bool {
        self.waiting.values().any(|waiting| waiting.opens)
    }

    /// Adds a chunk to its response.
    pub(super) fn collect(&mut self, id: u32, opens: bool, last: Last, chunk: Bytes) -> Collected {
        let Some(waiting) = self.waiting.get_mut(&id) else { return Collected::Unknown };
        if opens && !waiting.opens {
            return Collected::Misplaced;
        }
        waiting.chunks += 1;
        let length = waiting.body.len() + chunk.len();
        let is_too_large = waiting.chunks > MAX_CHUNKS
            || length > MAX_MESSAGE
            || (last != Last::Aborted && self.held + chunk.len() > MAX_HELD);
        if last == Last::No && !is_too_large && !waiting.asker.is_closed() {
            // Copied together: a slice would keep all that was read with it.
            waiting.body.extend_from_slice(&chunk);
            self.held += chunk.len();
            return Collected::More;
        }
        let Some(mut waiting) = self.waiting.remove(&id) else { return Collected::Unknown };
        self.held -= waiting.body.len();
        let asker = waiting.asker;
        if asker.is_closed() {
            return Collected::Unknown;
        }
        match last {
            Last::Aborted => Collected::Aborted { asker, body: chunk },
            _ if is_too_large => Collected::TooLarge { asker },
            _ if waiting.body.is_empty() => Collected::Complete { asker, body: chunk },
            _ => {
                waiting.body.extend_from_slice(&chunk);
                Collected::Complete { asker, body: waiting.body.freeze() }
            }
        }
    }

    /// A request could not be sent.
    pub(super) fn fail(&mut self, id: u32, error: Error) {
        if let Some(waiting) = self.waiting.remove(&id) {
            self.held -= waiting.body.len();
            let _ = waiting.asker.send(Err(error));
        }
    }

    /// Answers all that wait: there will be no response any more.
    pub(super) fn end(&mut self, status: StatusCode, reason: &str) {
        self.held = 0;
        for (_, waiting) in self.waiting.drain() {
            let _ = waiting.asker.send(Err(Error::new(status, reason)));
        }
    }
}
