//! The machine: its memory, the step function, and the order in which it does things.
//!
//! # Invariants
//! - At most one request is outstanding, whatever its kind, and each has a deadline of its own.
//! - Each step ends with the time of the next one.

mod answers;
mod doubt;
mod plan;
mod publish;
mod resolve;

use std::time::Duration;

use tidegate_journal::{Epoch, Position};

use crate::MAX_EPOCHS;
use crate::alarm::{Alarm, AlarmKind, Alarms};
use crate::backoff::{Backoff, CAP, NEAR_CAP};
use crate::chain::{Amount, Chain, Run};
use crate::drain::Drain;
use crate::event::{Action, Event, StreamInfo};
use crate::memory::Memory;
use crate::pace::{Bucket, Pace};
use crate::reconcile::Track;
use crate::settings::{Cursor, HubId, Settings};
use crate::status::{Counters, State, Status};

/// How often the stream's INFO is read again: limits change seldom, and a second gateway with our
/// name must be noticed within minutes.
const INFO_EVERY: Duration = Duration::from_secs(300);
/// How often INFO is read at most because the hub answers somebody else who has our name.
const OVERHEARD_EVERY: Duration = Duration::from_secs(5);
/// How long messages stay smaller after larger ones had no answer while questions did: each try of
/// a larger one may close the link, and what recovers by itself has done so by then.
const SMALLER_FOR: Duration = Duration::from_secs(600);
/// The grace for the shell to report a deadline that passed before the machine does.
const GRACE: Duration = Duration::from_millis(250);

/// The one request that is outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Publish { since: Duration, until: Duration },
    Info { since: Duration, until: Duration },
    Head { epoch: Epoch, since: Duration, until: Duration },
    Test { since: Duration, until: Duration },
}

/// What must happen next with the unresolved message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Send it (again).
    Send,
    /// Wait for its answer.
    InFlight,
    /// The leader named `n` as the last of the subject: read it.
    ReadHead { n: u64, stale: u32 },
    /// The leader has nothing on the subject: read INFO.
    ReadInfo,
}

/// A message of which it is not known whether the hub has it.
#[derive(Debug, Clone)]
struct Unresolved {
    ticket: u64,
    epoch: Epoch,
    run: Run,
    expected: u64,
    msg_id: String,
    attempt: u32,
    phase: Phase,
    /// When it was first sent, as long as nothing but slowness explains that it was repeated: the
    /// link did not close, and somebody listened.
    slow_since: Option<Duration>,
    /// Too large for the link as it turned out: form it anew.
    cut: bool,
}

/// The delivery of one gateway's journal to one hub stream.
#[derive(Debug)]
pub struct Uplink {
    settings: Settings,
    now: Duration,
    actions: Vec<Action>,

    remembered: Memory,
    tracks: Vec<Track>,
    /// Closed by a fork; kept only until the journal stops offering them.
    forked: Vec<Epoch>,
    unresolved: Option<Unresolved>,
    asked: Asked,

    max_payload: Option<usize>,
    info: Option<StreamInfo>,
    info_due: Duration,
    info_asked: Option<Duration>,
    /// The hub's own `max_payload`, as it told when it was last asked.
    hub_payload: Option<usize>,
    /// The hub's limits are asked for with the next INFO.
    limits_wanted: bool,
    epochs_seen: Option<Vec<(Epoch, u64)>>,
    no_responders: u32,
    info_failures: u32,
    /// The first of them.
    info_failing_since: Option<Duration>,
    head_failures: u32,
    refusals: u32,
    /// Transmissions without an answer since the last one of any message that had one, after each
    /// of which the hub answered a question.
    unanswered: u32,
    /// The hub answers questions: does it take anything on the subject of frames?
    test_wanted: bool,
    /// Tests without an answer in a row, after each of which the hub answered a question.
    tests_failed: u32,
    /// Something was not answered, or nobody listened, since the last look at former epochs: the
    /// hub may have been restarted meanwhile, which the own link does not show.
    was_away: bool,
    /// Refusals since the last acknowledgement because the leader has not decided yet.
    undecided: u32,
    /// The last transmission had no answer, and nothing was asked since.
    in_doubt: bool,
    /// The largest message until a time, because larger ones had no answer while questions did.
    ceiling: Option<(usize, Duration)>,

    not_before: Duration,
    backoff: Backoff,
    pace: Pace,
    bucket: Bucket,
    limit: Bucket,
    drain: Drain,
    waiting_since: Option<Duration>,
    wake: Option<Duration>,
    next_ticket: u64,
    /// Grows when an id must not be met again inside the dedupe window.
    salt: u64,
    last_ack: Option<Duration>,
    alarms: Alarms,
    counters: Counters,
}

impl Uplink {
    /// A machine that knows nothing of the link yet. `remembered` is what [`Action::Delivered`] and
    /// [`Action::Sent`] handed out in earlier runs; cursors of other hubs are ignored.
    #[must_use]
    pub fn new(settings: Settings, mut remembered: Memory) -> Self {
        let backoff = Backoff::new(&settings.gateway);
        let bucket = Bucket::new(settings.backfill_limit);
        let limit = Bucket::new(settings.limit);
        let is_ours = |cursor: &Cursor| {
            cursor.hub.domain == settings.domain && cursor.hub.stream == settings.stream
        };
        remembered.cursors.retain(is_ours);
        Self {
            settings,
            now: Duration::ZERO,
            actions: Vec::new(),
            remembered,
            tracks: Vec::new(),
            forked: Vec::new(),
            unresolved: None,
            asked: Asked::Nothing,
            max_payload: None,
            info: None,
            info_due: Duration::ZERO,
            info_asked: None,
            hub_payload: None,
            limits_wanted: true,
            epochs_seen: None,
            no_responders: 0,
            info_failures: 0,
            info_failing_since: None,
            head_failures: 0,
            refusals: 0,
            unanswered: 0,
            undecided: 0,
            was_away: false,
            test_wanted: false,
            tests_failed: 0,
            in_doubt: false,
            ceiling: None,
            not_before: Duration::ZERO,
            backoff,
            pace: Pace::new(),
            bucket,
            limit,
            drain: Drain::default(),
            waiting_since: None,
            wake: None,
            next_ticket: 1,
            salt: 0,
            last_ack: None,
            alarms: Alarms::default(),
            counters: Counters::default(),
        }
    }

    /// Takes one event at a time `now` (monotonic, since any fixed start) and says what to do.
    ///
    /// Any event may come at any time; what no longer fits is ignored. The last action is always
    /// [`Action::WaitUntil`].
    pub fn handle(&mut self, event: Event, now: Duration, chain: &dyn Chain) -> Vec<Action> {
        self.now = self.now.max(now);
        self.wake = None;
        self.follow(chain);
        match event {
            Event::LinkUp { max_payload } => self.link_up(max_payload),
            Event::LinkDown => self.link_down(),
            Event::Info(info) => self.on_info(info, chain),
            Event::InfoFailed(failure) => self.on_info_failed(&failure),
            Event::Reply { ticket, attempt, outcome } => {
                self.on_reply(ticket, attempt, outcome, chain);
            }
            Event::Head { epoch, answer } => self.on_head(epoch, answer, chain),
            Event::Overheard => self.overheard(),
            Event::Tested { answered } => self.on_tested(answered),
            Event::NewDurable | Event::Tick => {}
        }
        self.enforce_deadlines();
        self.proceed(chain);
        while let Some(kind) = self.alarms.over(self.now) {
            self.clear(kind);
        }
        let wake = self.wake_time();
        self.actions.push(Action::WaitUntil(wake));
        std::mem::take(&mut self.actions)
    }

    /// When everything durable will be at the hub; `None` when the backlog does not shrink.
    #[must_use]
    pub fn drain_estimate(&self, chain: &dyn Chain) -> Option<Duration> {
        self.drain.estimate(self.backlog(chain).bytes)
    }

    /// A snapshot for tags, metrics and the status command.
    #[must_use]
    pub fn status(&self, now: Duration, chain: &dyn Chain) -> Status {
        let backlog = self.backlog(chain);
        Status {
            state: self.state(backlog),
            backlog,
            last_ack_age: self.last_ack.map(|at| now.saturating_sub(at)),
            drained_in: self.drain.estimate(backlog.bytes),
            message_bytes: self.message_size(),
            bytes_per_second: self.pace.rate(),
            round_trip: self.pace.round_trip(),
            alarms: self.alarms.kinds().collect(),
            counters: self.counters,
        }
    }

    /// What happened since the start.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    fn state(&self, backlog: Amount) -> State {
        let phase = self.unresolved.as_ref().map(|message| message.phase);
        if self.max_payload.is_none() {
            State::Offline
        } else if let Some(kind) = self.alarms.blocking() {
            State::Blocked(kind)
        } else if self.info.is_none() {
            State::Connecting
        } else if matches!(phase, Some(Phase::ReadHead { .. } | Phase::ReadInfo)) {
            State::Reconciling
        } else if self.asked == Asked::Nothing && self.now < self.not_before {
            State::Waiting
        } else if phase.is_some() {
            State::Delivering
        } else if backlog.frames == 0 {
            State::Idle
        } else if self.waiting_since.is_some() {
            State::Gathering
        } else {
            State::Delivering
        }
    }

    /// Everything kept that is not known to be at the hub. A claim counts what it would send.
    fn backlog(&self, chain: &dyn Chain) -> Amount {
        let mut sum = Amount::default();
        for epoch in chain.epochs() {
            if !self.forked.contains(&epoch) {
                let from = self.track(epoch).map_or(0, Track::next_frame);
                sum += chain.amount_from(epoch, from);
            }
        }
        sum
    }

    /// Keeps one track per epoch that the journal offers.
    fn follow(&mut self, chain: &dyn Chain) {
        let epochs = chain.epochs();
        let busy = self.unresolved.as_ref().map(|message| message.epoch);
        self.forked.retain(|epoch| epochs.contains(epoch));
        self.tracks.retain(|track| epochs.contains(&track.epoch) || busy == Some(track.epoch));
        for epoch in epochs {
            if self.track(epoch).is_some() || self.forked.contains(&epoch) {
                continue;
            }
            let cursor = self.remembered.cursors.iter().find(|cursor| cursor.epoch == epoch);
            let mut track = cursor.map_or_else(|| Track::new(epoch, None), Track::remembered);
            track.ends_before = self.remembered.ends_of(epoch);
            let acked = track.acked;
            self.tracks.push(track);
            if let Some(acked) = acked {
                self.check_cursor(epoch, acked.at, chain);
            }
        }
        if self.drain.is_due(self.now) && self.max_payload.is_some() {
            let backlog = self.backlog(chain).bytes;
            self.drain.observe(self.now, backlog);
        }
    }

    /// A cursor beyond the journal's end, or with another hash, belongs to frames that this
    /// journal no longer has: a restored disk image.
    fn check_cursor(&mut self, epoch: Epoch, acked: Position, chain: &dyn Chain) {
        let beyond = chain.tail(epoch).is_none_or(|tail| tail.frame < acked.frame);
        let other = chain.position_of(epoch, acked.frame).is_some_and(|at| at.hash != acked.hash);
        // A journal without any frame of the epoch kept says nothing against the cursor.
        if other || (beyond && chain.tail(epoch).is_some()) {
            self.fork(epoch, None);
        }
    }

    fn track(&self, epoch: Epoch) -> Option<&Track> {
        self.tracks.iter().find(|track| track.epoch == epoch)
    }

    fn track_mut(&mut self, epoch: Epoch) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.epoch == epoch)
    }

    fn hub(&self) -> HubId {
        HubId {
            domain: self.settings.domain.clone(),
            stream: self.settings.stream.clone(),
            created: self.created(),
        }
    }

    fn created(&self) -> i64 {
        self.info.as_ref().map_or(0, |info| info.created)
    }

    fn fork(&mut self, epoch: Epoch, common: Option<Position>) {
        self.counters.forks += 1;
        if self.forked.len() < MAX_EPOCHS {
            self.forked.push(epoch);
        }
        self.tracks.retain(|track| track.epoch != epoch);
        self.unresolved.take_if(|message| message.epoch == epoch);
        self.actions.push(Action::Fork { epoch, common });
        let gateway = self.settings.gateway.clone();
        self.raise(AlarmKind::Fork, || {
            format!(
                "the hub holds frames of epoch {epoch} that gateway {gateway} never wrote: a \
                 restored disk image or a second device with this name; a new epoch begins. If a \
                 second device runs under this name, rename it"
            )
        });
    }

    fn raise(&mut self, kind: AlarmKind, text: impl FnOnce() -> String) {
        if self.alarms.raise(kind, self.now) {
            self.actions.push(Action::Raise(Alarm { kind, text: text() }));
        }
    }

    fn clear(&mut self, kind: AlarmKind) {
        if self.alarms.clear(kind) {
            self.actions.push(Action::Clear(kind));
        }
    }

    /// Nothing is asked before a back-off has passed.
    fn wait_after_failure(&mut self) {
        self.not_before = self.now.saturating_add(self.backoff.fail(CAP));
    }

    /// The same after "nobody listens" to a question, which the own leaf says.
    fn wait_for_the_link(&mut self) {
        self.not_before = self.now.saturating_add(self.backoff.fail(NEAR_CAP));
    }

    fn wake_at(&mut self, at: Duration) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}
