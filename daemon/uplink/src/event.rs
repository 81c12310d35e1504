//! What the shell tells the machine, and what the machine asks of the shell.

use std::time::Duration;

use tidegate_journal::{Epoch, Position};

use crate::alarm::{Alarm, AlarmKind};
use crate::memory::MessageEnd;
use crate::settings::Cursor;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The way to the hub looks open.
    LinkUp {
        /// The smallest `max_payload` known on the way, in bytes, headers included. A hub whose
        /// limit is below the leaf's closes the link at every send without a word, so the hub's
        /// own limit belongs in here.
        max_payload: usize,
    },
    /// The way to the hub is closed; whatever was asked stays unanswered.
    LinkDown,
    /// The stream's INFO was answered.
    Info(StreamInfo),
    /// The hub answered somebody else who asked under our name: a hint that a second gateway has
    /// it, which INFO confirms or not.
    Overheard,
    /// The stream's INFO was not answered.
    InfoFailed(RequestFailure),
    /// What became of one transmission of a message.
    Reply {
        /// The message.
        ticket: u64,
        /// Which transmission of it, from 1.
        attempt: u32,
        /// What became of it.
        outcome: Outcome,
    },
    /// The last message on an epoch's subject, from a replica that may lag behind.
    Head {
        /// The epoch that was asked for.
        epoch: Epoch,
        /// The answer.
        answer: HeadAnswer,
    },
    /// Whether [`Action::TestFrames`] was answered, with whatever refusal.
    Tested {
        /// The hub takes messages on the subject as such.
        answered: bool,
    },
    /// The journal has more durable frames than before.
    NewDurable,
    /// The time that was asked for by [`Action::WaitUntil`] has come.
    Tick,
}

/// What became of one transmission of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An acknowledgement, of whatever stream.
    Ack {
        /// The stream that stored it.
        stream: String,
        /// Its domain; `None` when the acknowledgement names none.
        domain: Option<String>,
        /// The stream sequence.
        seq: u64,
        /// Whether the hub says that it had the message id before.
        duplicate: bool,
    },
    /// The hub's answer is an error.
    Refused {
        /// The `err_code`.
        code: u32,
        /// The `description`.
        description: String,
    },
    /// Nobody listens on the subject: a hint about the link, never its state.
    NoResponders,
    /// No answer. The machine also watches the deadline itself, so the shell may leave this out.
    TimedOut,
    /// The frames could not be read from the journal; nothing was sent.
    Unreadable {
        /// What the journal says.
        why: String,
    },
}

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestFailure {
    /// Nobody listens: the link is down, or the permission or the import is missing.
    NoResponders,
    /// No answer.
    TimedOut,
    /// The answer is an error.
    Refused {
        /// The `err_code`.
        code: u32,
        /// The `description`.
        description: String,
    },
}

/// What the stream's INFO says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// The domain of the server that answered.
    pub domain: Option<String>,
    /// The stream's name.
    pub stream: String,
    /// The creation time, nanoseconds since 1970 UTC.
    pub created: i64,
    /// The first stream sequence that is still kept; one beyond the last in an empty stream.
    pub first_seq: u64,
    /// The last stream sequence given out.
    pub last_seq: u64,
    /// `max_msg_size` in bytes, headers included; `None` when unlimited.
    pub max_msg_size: Option<usize>,
    /// The hub's `max_payload` where it was asked for ([`Action::AskInfo`]), headers included;
    /// `None` when it was not, or the hub's greeting cannot be read.
    pub max_payload: Option<usize>,
    /// Whether single messages, or those of one subject, may be deleted or purged.
    pub may_be_purged: bool,
    /// Whether most of the stream's servers are in touch with the one that answered. A leader that
    /// lost them answers questions for minutes, and decides nothing.
    pub has_majority: bool,
    /// Messages per epoch of this gateway (`subjects_filter` in the request), at most
    /// [`crate::MAX_EPOCHS`]; the machine reads no further.
    pub epochs: Vec<(Epoch, u64)>,
}

/// The last message on a subject, as one replica sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadAnswer {
    /// There is one.
    Found {
        /// Its stream sequence.
        stream_seq: u64,
        /// What stands in it.
        content: HeadContent,
    },
    /// There is none (404).
    Empty,
    /// The question was not answered.
    Failed(RequestFailure),
}

/// What stands in a message at the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadContent {
    /// Frames; the fields are those of the last one.
    Frames {
        /// `PLANT/NAME` in its header.
        gateway: String,
        /// The epoch in its header.
        epoch: Epoch,
        /// Its place.
        last: Position,
        /// The message's `Nats-Msg-Id`: it tells a message sent again after a loss from the one
        /// that was lost, even under the same sequence.
        msg_id: Option<String>,
    },
    /// A frame that only a newer reader understands.
    Newer {
        /// The reader version it needs.
        needs: u8,
    },
    /// No frame at all.
    NotFrames,
}

/// One message to read from the journal and to send.
///
/// The shell keeps its bytes until another ticket is published, so that every attempt sends the
/// same bytes even when the journal has dropped the frames meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Names the message; the same for every attempt.
    pub ticket: u64,
    /// Which transmission this is, from 1.
    pub attempt: u32,
    /// The epoch: it decides the subject.
    pub epoch: Epoch,
    /// The first frame.
    pub first_frame: u64,
    /// The last frame.
    pub last_frame: u64,
    /// Bytes of all frames together.
    pub bytes: usize,
    /// `Nats-Expected-Last-Subject-Sequence`.
    pub expected_last_seq: u64,
    /// `Nats-Msg-Id`.
    pub msg_id: String,
    /// How long to wait for the answer.
    pub deadline: Duration,
}

/// Something to do, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read these frames and send them.
    Publish(Publish),
    /// A message that ends so is about to be sent for the first time: keep that with the cursor, at
    /// the latest before any frame is dropped that the hub may not have. It is not worth a sync.
    Sent(MessageEnd),
    /// Ask for the stream's INFO with the gateway's subjects as filter.
    AskInfo {
        /// How long to wait for the answer.
        deadline: Duration,
        /// Read the hub's own `max_payload` as well. Failing that says nothing.
        limits: bool,
    },
    /// Ask for the last message on an epoch's subject.
    AskHead {
        /// The epoch.
        epoch: Epoch,
        /// How long to wait for the answer.
        deadline: Duration,
    },
    /// Send an empty message on an epoch's subject that no stream can store, because it expects one
    /// that cannot exist: a refusal shows that frames get there, and silence that they may not.
    TestFrames {
        /// The epoch.
        epoch: Epoch,
        /// How long to wait for the refusal.
        deadline: Duration,
    },
    /// Come back with [`Event::Tick`] at this time, or earlier with any event. The last action of
    /// every call.
    WaitUntil(Duration),
    /// The hub has everything up to here: keep the cursor, count the frames as delivered.
    Delivered(Cursor),
    /// Keep this cursor, durably, before anything that follows is done: what comes next is sent on
    /// the belief that the hub lost something.
    Suspect(Cursor),
    /// The hub lost delivered frames: from this frame on nothing counts as delivered.
    Rewind {
        /// The epoch.
        epoch: Epoch,
        /// The first frame that is sent again.
        to_frame: u64,
        /// Why.
        reason: RewindReason,
    },
    /// The hub lost delivered frames that the journal no longer keeps: write a `LostAtHub` bridge.
    HubLost {
        /// The epoch.
        epoch: Epoch,
        /// The frame before the hole; `None` when the hole begins with the epoch.
        after: Option<Position>,
        /// The last frame of the hole.
        last_frame: u64,
    },
    /// The hub holds frames of this epoch that this journal never wrote: close the epoch and
    /// begin one that names it. The machine sends nothing more of it.
    Fork {
        /// The epoch to close.
        epoch: Epoch,
        /// The last frame known to be on both sides.
        common: Option<Position>,
    },
    /// A condition that a person should know.
    Raise(Alarm),
    /// The condition is over.
    Clear(AlarmKind),
}

/// Why delivered frames are sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum RewindReason {
    /// The hub's last message is older than what it acknowledged.
    HubBehind,
    /// The stream was made anew.
    Recreated,
}

impl RewindReason {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::HubBehind => "hub-behind",
            Self::Recreated => "stream-recreated",
        }
    }
}
