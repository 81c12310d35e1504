//! A hub that behaves like nats-server 2.15.1 where it matters here (measured), and that loses,
//! forgets and refuses on command.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tidegate_journal::{Epoch, Position};
use tidegate_uplink::{HeadAnswer, HeadContent, Outcome, RequestFailure, StreamInfo};

pub const STREAM: &str = "TIDE";
pub const DOMAIN: &str = "hub";
pub const GATEWAY: &str = "PlantA/gw-1";

#[derive(Debug, Clone)]
pub struct Stored {
    pub epoch: Epoch,
    /// Empty for a foreign message.
    pub frames: Vec<Position>,
    pub msg_id: String,
}

#[derive(Debug, Clone, Default)]
struct Log {
    last_seq: u64,
    first_seq: u64,
    messages: BTreeMap<u64, Stored>,
}

impl Log {
    fn last_on(&self, epoch: Epoch) -> u64 {
        self.messages.iter().rev().find(|(_, m)| m.epoch == epoch).map_or(0, |(seq, _)| *seq)
    }
}

/// What one transmission carries.
#[derive(Debug, Clone)]
pub struct Copy {
    pub epoch: Epoch,
    pub frames: Vec<Position>,
    pub bytes: usize,
    pub expected: u64,
    pub msg_id: String,
}

#[derive(Debug)]
pub struct Hub {
    log: Log,
    history: Vec<Log>,
    pub created: i64,
    dedupe: HashMap<String, u64>,
    /// A replicated stream looks for the message id first, a single one for the sequence.
    pub replicated: bool,
    pub domain: String,
    pub lagging: bool,
    pub full: bool,
    pub no_permission: bool,
    pub no_stream: bool,
    pub max_msg_size: Option<usize>,
    /// A larger message closes the leaf's link, which comes back by itself; nobody says why.
    pub max_payload: usize,
    /// Frames are not permitted, and the leaf drops them without a word.
    pub forbids: bool,
    /// Most of the stream's servers are away: questions are answered, and nothing is decided.
    pub alone: bool,
    /// The way to it swallows everything.
    pub silent: bool,
    /// Whether the hub's greeting can be read, from which its limit is known.
    pub greets: bool,
    /// Every message that the leader ever took: sequence and the last frame in it.
    pub ledger: BTreeSet<(u64, Epoch, u64)>,
    /// Frames that were stored and aged out or were purged.
    pub expired: BTreeSet<(Epoch, u64)>,
    /// Messages that were deleted or lost. Once the stream begins after them, nobody can tell them
    /// from messages that aged out; they would have.
    deleted: Vec<(u64, Stored)>,
    /// What each message id carried: one id, one content.
    ids: HashMap<String, Vec<Position>>,
}

impl Hub {
    pub fn new(replicated: bool) -> Self {
        Self {
            log: Log { first_seq: 1, ..Log::default() },
            history: Vec::new(),
            created: 1_000,
            dedupe: HashMap::new(),
            replicated,
            domain: DOMAIN.into(),
            lagging: false,
            full: false,
            no_permission: false,
            no_stream: false,
            alone: false,
            max_msg_size: None,
            max_payload: 1 << 20,
            forbids: false,
            silent: false,
            greets: true,
            ledger: BTreeSet::new(),
            expired: BTreeSet::new(),
            deleted: Vec::new(),
            ids: HashMap::new(),
        }
    }

    fn refused(code: u32, description: impl Into<String>) -> Outcome {
        Outcome::Refused { code, description: description.into() }
    }

    /// The leader's answer.
    pub fn publish(&mut self, copy: &Copy) -> Outcome {
        if self.no_permission || self.no_stream {
            return Outcome::NoResponders;
        }
        let before = self.ids.entry(copy.msg_id.clone()).or_insert_with(|| copy.frames.clone());
        assert_eq!(*before, copy.frames, "id {} was used for other frames", copy.msg_id);
        let seen = self.dedupe.get(&copy.msg_id).copied();
        if self.replicated
            && let Some(seq) = seen
        {
            return self.ack(seq, true);
        }
        if self.max_msg_size.is_some_and(|limit| copy.bytes + 230 > limit) {
            return Self::refused(10_054, "message size exceeds maximum allowed");
        }
        let last = self.log.last_on(copy.epoch);
        if last != copy.expected {
            return Self::refused(10_071, format!("wrong last sequence: {last}"));
        }
        if let Some(seq) = seen {
            return self.ack(seq, true);
        }
        if self.full {
            return Self::refused(10_077, "maximum bytes exceeded");
        }
        let seq = self.store(Stored {
            epoch: copy.epoch,
            frames: copy.frames.clone(),
            msg_id: copy.msg_id.clone(),
        });
        self.ack(seq, false)
    }

    fn ack(&self, seq: u64, duplicate: bool) -> Outcome {
        let domain = Some(self.domain.clone());
        Outcome::Ack { stream: STREAM.into(), domain, seq, duplicate }
    }

    fn store(&mut self, message: Stored) -> u64 {
        self.history.push(self.log.clone());
        if self.history.len() > 64 {
            self.history.remove(0);
        }
        self.log.last_seq += 1;
        let seq = self.log.last_seq;
        if let Some(last) = message.frames.last() {
            self.ledger.insert((seq, message.epoch, last.frame));
        }
        for frame in &message.frames {
            self.expired.remove(&(message.epoch, frame.frame));
        }
        if !message.msg_id.is_empty() {
            self.dedupe.insert(message.msg_id.clone(), seq);
        }
        self.log.messages.insert(seq, message);
        seq
    }

    pub fn info(&self, count_epochs: bool, limits: bool) -> Result<StreamInfo, RequestFailure> {
        if self.no_stream {
            let description = "stream not found".into();
            return Err(RequestFailure::Refused { code: 10_059, description });
        }
        let mut counts = BTreeMap::new();
        for message in self.log.messages.values() {
            *counts.entry(message.epoch).or_insert(0) += 1;
        }
        Ok(StreamInfo {
            domain: Some(self.domain.clone()),
            stream: STREAM.into(),
            created: self.created,
            first_seq: self.log.first_seq,
            last_seq: self.log.last_seq,
            max_msg_size: self.max_msg_size,
            max_payload: (self.greets && limits).then_some(self.max_payload),
            may_be_purged: true,
            has_majority: !self.alone,
            epochs: if count_epochs { counts.into_iter().collect() } else { Vec::new() },
        })
    }

    /// A direct get; `behind` messages ago when the replica lags.
    pub fn head(&self, epoch: Epoch, behind: usize) -> HeadAnswer {
        if self.no_stream {
            return HeadAnswer::Failed(RequestFailure::NoResponders);
        }
        let back = if self.lagging { behind } else { 0 };
        let log = match back {
            0 => &self.log,
            back => self.history.len().checked_sub(back).map_or(&self.log, |at| &self.history[at]),
        };
        let Some((seq, message)) = log.messages.iter().rev().find(|(_, m)| m.epoch == epoch) else {
            return HeadAnswer::Empty;
        };
        let content = match message.frames.last() {
            Some(last) => {
                let msg_id = Some(message.msg_id.clone()).filter(|id| !id.is_empty());
                HeadContent::Frames { gateway: GATEWAY.into(), epoch, last: *last, msg_id }
            }
            None => HeadContent::NotFrames,
        };
        HeadAnswer::Found { stream_seq: *seq, content }
    }

    /// Goes back to what it had some stores ago, as after a restart that lost its last writes:
    /// message ids are read again from what is left.
    pub fn roll_back(&mut self, stores: usize) {
        for _ in 0..stores {
            if let Some(log) = self.history.pop() {
                let was = std::mem::replace(&mut self.log, log);
                let gone = was.messages.into_iter().filter(|(seq, _)| *seq > self.log.last_seq);
                self.deleted.extend(gone);
            }
        }
        let ids = self.log.messages.iter().map(|(seq, m)| (m.msg_id.clone(), *seq));
        self.dedupe = ids.filter(|(id, _)| !id.is_empty()).collect();
        self.expired.retain(|(epoch, frame)| {
            !self
                .log
                .messages
                .values()
                .any(|m| m.epoch == *epoch && m.frames.iter().any(|f| f.frame == *frame))
        });
    }

    /// The oldest messages age out. Message ids stay known, as in the server.
    pub fn expire(&mut self, messages: usize) {
        for _ in 0..messages {
            let Some((seq, message)) = self.log.messages.pop_first() else { break };
            self.log.first_seq = seq + 1;
            self.expired.extend(message.frames.iter().map(|f| (message.epoch, f.frame)));
        }
        self.find_first();
        // Going back behind an expiry would bring aged messages to life again.
        self.history.clear();
    }

    fn find_first(&mut self) {
        let first = self.log.messages.keys().next().copied();
        self.log.first_seq = first.unwrap_or(self.log.last_seq + 1);
        let first = self.log.first_seq;
        for (_, message) in self.deleted.extract_if(.., |(seq, _)| *seq < first) {
            self.expired.extend(message.frames.iter().map(|f| (message.epoch, f.frame)));
        }
    }

    pub fn purge(&mut self) {
        self.expire(usize::MAX);
    }

    /// One message is deleted by an administrator; its id stays known, as in the server.
    pub fn delete_last(&mut self, epoch: Epoch) {
        let seq = self.log.last_on(epoch);
        if let Some(message) = self.log.messages.remove(&seq) {
            self.deleted.push((seq, message));
        }
        self.find_first();
        self.history.clear();
    }

    /// The stream is deleted and made again.
    pub fn recreate(&mut self) {
        self.log = Log { first_seq: 1, ..Log::default() };
        self.history.clear();
        self.dedupe.clear();
        self.created += 1_000;
        self.deleted.clear();
    }

    /// Another gateway's messages take their share of the stream's sequences.
    pub fn others_write(&mut self, messages: usize, epoch: Epoch) {
        for _ in 0..messages {
            let id = String::new();
            self.store(Stored { epoch, frames: Vec::new(), msg_id: id });
        }
    }

    /// Somebody writes nonsense onto the subject.
    pub fn foreign(&mut self, epoch: Epoch) {
        self.store(Stored { epoch, frames: Vec::new(), msg_id: String::new() });
    }

    /// A clone of the gateway writes a frame of its own.
    pub fn clone_writes(&mut self, epoch: Epoch, last: Position) {
        self.store(Stored { epoch, frames: vec![last], msg_id: String::new() });
    }

    /// The frames of an epoch, in the order of the stream.
    pub fn frames(&self, epoch: Epoch) -> Vec<Position> {
        let messages = self.log.messages.values().filter(|m| m.epoch == epoch);
        messages.flat_map(|m| m.frames.iter().copied()).collect()
    }
}
