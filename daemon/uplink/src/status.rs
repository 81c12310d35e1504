//! What tags, metrics and the status command show.

use std::time::Duration;

use crate::alarm::AlarmKind;
use crate::chain::Amount;

/// What happened since the start. Every number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Transmissions, repeats included.
    pub published: u64,
    /// Transmissions of a message that had been sent before.
    pub repeats: u64,
    /// Messages known to be stored.
    pub delivered_messages: u64,
    /// What was in them; for a head found further on, only its frames are counted.
    pub delivered: Amount,
    /// Error answers of the hub, wrong last sequences included.
    pub refused: u64,
    /// Refusals because another message stood last on the subject.
    pub wrong_last_sequence: u64,
    /// Transmissions without an answer in time.
    pub timeouts: u64,
    /// Transmissions that the link's end cut off.
    pub cut_off: u64,
    /// Answers that nobody listens.
    pub no_responders: u64,
    /// Acknowledgements that the hub had the message before.
    pub duplicate_acks: u64,
    /// Acknowledgements of another stream or domain, or with an impossible sequence.
    pub foreign_acks: u64,
    /// Messages of somebody else on our subject.
    pub foreign_messages: u64,
    /// Messages repeated although an earlier transmission may stand below somebody else's.
    pub repeated_past_foreign: u64,
    /// Reads of the last message of a subject.
    pub head_reads: u64,
    /// Such reads that were older than what the leader said.
    pub stale_reads: u64,
    /// Reads of the stream's INFO.
    pub info_reads: u64,
    /// Times that our messages had aged out or been purged at the hub.
    pub expired: u64,
    /// Times that the hub lost what it had acknowledged.
    pub rewinds: u64,
    /// Frames that the hub lost and the journal no longer kept.
    pub frames_lost_at_hub: u64,
    /// Epochs closed because somebody else had written them on.
    pub forks: u64,
    /// Times that the message size was halved.
    pub halved: u64,
    /// Messages that were cut smaller before they were repeated.
    pub cut_smaller: u64,
    /// Times that the journal could not read what had to be sent.
    pub unreadable: u64,
    /// Times that the link closed.
    pub link_downs: u64,
}

/// What delivery is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The link is down.
    Offline,
    /// The hub's INFO is being asked for.
    Connecting,
    /// Everything durable is delivered.
    Idle,
    /// Less than a message waits for its time.
    Gathering,
    /// A message is under way, or the next one waits for the back-fill limit.
    Delivering,
    /// The hub's state is being compared with ours.
    Reconciling,
    /// A failure is being waited out.
    Waiting,
    /// A condition holds delivery up; it is retried, and nothing is lost.
    Blocked(AlarmKind),
}

impl State {
    /// The word for tags and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Connecting => "connecting",
            Self::Idle => "idle",
            Self::Gathering => "gathering",
            Self::Delivering => "delivering",
            Self::Reconciling => "reconciling",
            Self::Waiting => "waiting",
            Self::Blocked(kind) => kind.word(),
        }
    }
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// What delivery is doing.
    pub state: State,
    /// Everything kept and not acknowledged, over all epochs.
    pub backlog: Amount,
    /// How long ago the hub last acknowledged something; `None` when it never did in this run.
    pub last_ack_age: Option<Duration>,
    /// When the backlog will be gone; `None` when it does not shrink.
    pub drained_in: Option<Duration>,
    /// The size that the next message may have, in bytes.
    pub message_bytes: usize,
    /// The measured rate of single messages, bytes per second.
    pub bytes_per_second: Option<f64>,
    /// The smoothed round trip of small requests.
    pub round_trip: Duration,
    /// What is raised.
    pub alarms: Vec<AlarmKind>,
    /// What happened since the start.
    pub counters: Counters,
}
