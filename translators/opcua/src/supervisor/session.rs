//! What happens within one session: events come in, chores and samples go out. No await, no
//! socket.
//!
//! # Invariants
//! - What a server says of its subscriptions and items is kept in [`Mirror`] only, and thrown
//!   away with the session, unless the session is resumed or its subscriptions are taken over.
//! - Each notification is confirmed once it is handed over, never before.
//! - A notification that is known to be missing stays owed until it came or was told as lost: it
//!   outlives the session in which it was asked for.
//! - A tag that the server refuses turns bad by itself, and is asked for again each minute.
//! - Silence of the whole server turns every tag bad within five seconds, whatever is under way.

mod build;
mod fresh;
mod gaps;
mod intake;
mod polls;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use opcua::types::{
    DataChangeNotification, DataValue, DateTime, MonitoredItemCreateResult, NodeId,
    NotificationMessage, PublishResponse, StatusChangeNotification, StatusCode,
    SubscriptionAcknowledgement,
};
use tidegate_translator::{DeviceState, LossCause, Reason, Sample, Timestamp};
use tokio::time::Instant;

use crate::convert::Flaw;
use crate::items::{Group, counts, create, groups, polls, read_value, sample_every};
use crate::ledger::Ledger;
use crate::line::{ServiceError, Subscription};
use crate::poll::Slots;
use crate::prepare::{Failure, Place, Prepared};
use crate::sequence::{Missing, Seen, Sequence};
use crate::spec::{Collect, DeviceSpec};
use crate::supervisor::chores::{Chore, Done, Gap, Span};
use crate::types::DataTypes;
use crate::voice::Voice;
use crate::watchdog::{Cure, Watchdog};

pub(crate) use self::fresh::Asking;

/// How often the server is asked whether it is alive.
const KEEP_ALIVE: Duration = Duration::from_millis(1_500);
/// Silence after which no value is trusted any more.
const DOUBT: Duration = Duration::from_millis(4_500);
/// Silence after which the connection is given up; a longer request time-out gets this much more.
const LEAVE: Duration = Duration::from_millis(6_500);
const LEAVE_AFTER_TIMEOUT: Duration = Duration::from_millis(2_500);
/// How long a connection that stalls may still bring what is missing.
const STALL: Duration = Duration::from_secs(30);
/// How often the state is said again.
const REPEAT: Duration = Duration::from_secs(2);
/// How often what was refused is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// The most publish requests that wait at the server.
const MAX_PUBLISHES: usize = 20;
/// Pause before the next publish request after one that failed.
const PUBLISH_PAUSE: Duration = Duration::from_secs(1);
/// Publish requests that fail one after the other before the session is given up.
const MAX_PUBLISH_FAILURES: u32 = 10;
/// Confirmations that one request holds at most.
const MAX_ACKS: usize = 100;
/// The info bits of a status that say that the server's queue was too short (Part 4, 7.39.1).
const OVERFLOW: u32 = 0x0480;
const OVERFLOW_MASK: u32 = 0x0C80;
/// Types that are asked for in one session because values of them came.
const MAX_ASKED_TYPES: usize = 1_000;
/// Items of one notification whose overflow is told one by one.
const MAX_OVERFLOWS_BY_NAME: usize = 16;
/// How often a tag's overflow is told.
const OVERFLOW_EVERY: Duration = Duration::from_secs(1);

/// A subscription at the server.
pub(crate) struct Sub {
    group: usize,
    pub(crate) at_server: Subscription,
    sequence: Sequence,
    dog: Watchdog,
    /// When its last notification came, and when the server sent it.
    heard: (Timestamp, DateTime),
    /// Whether another one is being created in its place.
    is_replaced: bool,
    /// Until when the silence of the one before it was told.
    silent_since: Option<Timestamp>,
    /// How long an absence may last without the queue of an item running over.
    holds: Duration,
    /// Whether it has said something since it was taken up again.
    is_confirmed: bool,
}

/// What the server has.
#[derive(Default)]
pub(crate) struct Mirror {
    prepared: Option<Prepared>,
    groups: Vec<Group>,
    pub(crate) subs: Vec<Sub>,
    /// Whether each item exists.
    exists: Vec<bool>,
    failures: BTreeMap<usize, Failure>,
    /// The server's clock when it was last heard.
    server_time: DateTime,
    /// When the last value of each item came, and the last one in an earlier notification.
    came: Vec<(Timestamp, Timestamp)>,
    /// When an overflow was last told of an item.
    overflows: BTreeMap<usize, Instant>,
    /// Items whose last value cannot be represented.
    flaws: BTreeMap<usize, String>,
    asked_types: HashSet<NodeId>,
    /// What did not come and is being asked for.
    owed: Vec<Owed>,
}

impl Mirror {
    /// Tells what is still owed as lost, because nobody can be asked for it any more.
    pub(crate) fn give_up(&mut self, ledger: &mut Ledger) {
        for owed in std::mem::take(&mut self.owed) {
            let Span { from, to, .. } = owed.span;
            ledger.missed(None, LossCause::DeviceSilent, from, to, None);
        }
    }
}

/// Notifications of a subscription that did not arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Owed {
    subscription: u32,
    /// Which are asked for again; none where the server's history is to fill their time.
    missing: Option<Missing>,
    span: Span,
}

/// How a session begins.
pub(crate) enum Beginning {
    /// On a new connection, with everything that the server has.
    Resumed(Mirror),
    /// With nothing but the memory of an earlier one.
    Fresh(Mirror),
}

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) why: String,
    /// Whether the server may still have it.
    pub(crate) may_resume: bool,
}

/// What the device keeps from session to session.
pub(crate) struct Core {
    pub(crate) spec: Arc<DeviceSpec>,
    pub(crate) ledger: Ledger,
    pub(crate) voice: Voice,
    pub(crate) asking: Asking,
}

/// One session.
pub(crate) struct Session<'a> {
    core: &'a mut Core,
    pub(crate) mirror: Mirror,
    /// Subscriptions of an earlier session that may be taken over.
    leftover: Option<Mirror>,
    todo: Vec<Chore>,
    pub(crate) end: Option<End>,
    acks: Vec<SubscriptionAcknowledgement>,
    heard: Instant,
    in_doubt: bool,
    /// Whether values have to be read because the server will not send them by itself.
    needs_refresh: bool,
    refreshing: bool,
    kept_alive: Instant,
    keeping_alive: bool,
    repeat: Instant,
    retry: Instant,
    retrying: bool,
    /// The group that is being created, and whether all are.
    building: usize,
    is_built: bool,
    /// The server's clock when it was last heard before this session.
    before: DateTime,
    /// Whether all subscriptions are those of before the absence.
    kept_all: bool,
    publishes: usize,
    publish_pause: Option<Instant>,
    publish_failures: u32,
    unknown_types: Vec<NodeId>,
    /// Whether an absence is being filled from history.
    filling: bool,
    /// When an overflow of many items was last told.
    overflow_told: Option<Instant>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(core: &'a mut Core, beginning: Beginning, now: Instant) -> Self {
        let mut session = Self {
            core,
            mirror: Mirror::default(),
            leftover: None,
            todo: Vec::new(),
            end: None,
            acks: Vec::new(),
            heard: now,
            in_doubt: false,
            needs_refresh: false,
            refreshing: false,
            kept_alive: now,
            keeping_alive: false,
            repeat: now,
            retry: now + RETRY,
            retrying: false,
            building: 0,
            is_built: false,
            before: DateTime::null(),
            kept_all: true,
            publishes: MAX_PUBLISHES,
            publish_pause: None,
            publish_failures: 0,
            unknown_types: Vec::new(),
            filling: false,
            overflow_told: None,
        };
        let (Beginning::Resumed(earlier) | Beginning::Fresh(earlier)) = &beginning;
        session.before = earlier.server_time;
        session.core.asking.is_connected();
        match beginning {
            Beginning::Resumed(mut mirror) => {
                for sub in &mut mirror.subs {
                    sub.dog.resumed(now);
                    sub.is_confirmed = false;
                }
                session.mirror = mirror;
                session.needs_refresh = true;
                if session.mirror.subs.iter().any(|sub| sub.is_replaced)
                    || session.mirror.prepared.is_none()
                {
                    // It broke while something was being made: nobody knows what the server has.
                    session.start_anew();
                } else {
                    session.building = session.mirror.groups.len();
                    session.built(now);
                    session.ask_again();
                }
            }
            Beginning::Fresh(mut mirror) => {
                mirror.give_up(&mut session.core.ledger);
                session.mirror.server_time = mirror.server_time;
                session.leftover = Some(mirror);
                session.todo.push(Chore::Prepare);
            }
        }
        session
    }

    fn start_anew(&mut self) {
        let mut mirror = std::mem::take(&mut self.mirror);
        mirror.give_up(&mut self.core.ledger);
        let ids = mirror.subs.iter().map(|sub| sub.at_server.id).collect();
        self.todo.push(Chore::Delete(ids));
        self.mirror.server_time = mirror.server_time;
        self.todo.push(Chore::Prepare);
    }

    /// The session is over.
    pub(crate) fn over(mut self) -> (Mirror, Option<End>) {
        self.keep_owed();
        if let Some(end) = &self.end {
            let text = end.why.clone();
            let status = StatusCode::BadNotConnected.bits();
            let why = Failure { status, reason: Reason::NotConnected, text };
            self.core.asking.is_away(self.core.ledger.now(), why);
        }
        if let Some(prepared) = self.end.as_ref().and(self.mirror.prepared.as_ref()) {
            let tags = prepared.wanted.iter().map(|wanted| wanted.tag);
            let status = StatusCode::BadNotConnected.bits();
            self.core.ledger.silence(tags, Reason::NotConnected, status);
        }
        (self.mirror, self.end)
    }

    /// What is to be asked now.
    pub(crate) fn chores(&mut self) -> Vec<Chore> {
        std::mem::take(&mut self.todo)
    }

    /// When time alone changes something.
    pub(crate) fn due(&self) -> Instant {
        let mut due = self.repeat + REPEAT;
        let mut soon = |at: Instant| due = due.min(at);
        if !self.keeping_alive {
            soon(self.kept_alive + KEEP_ALIVE);
        }
        soon(self.heard + if self.in_doubt { self.leave_after() } else { DOUBT });
        if !self.keeping_alive {
            self.mirror.subs.iter().filter(|sub| !sub.is_replaced).for_each(|s| soon(s.dog.due()));
        }
        self.core.ledger.due().into_iter().for_each(&mut soon);
        self.publish_pause.into_iter().for_each(&mut soon);
        if self.is_built && self.core.spec.collect == Collect::Poll {
            self.core.ledger.slots.iter().filter_map(Slots::due).for_each(&mut soon);
        }
        due
    }

    fn leave_after(&self) -> Duration {
        LEAVE.max(self.core.spec.timeout + LEAVE_AFTER_TIMEOUT)
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Instant) {
        if !self.keeping_alive && now >= self.kept_alive + KEEP_ALIVE {
            self.kept_alive = now;
            self.keeping_alive = true;
            self.todo.push(Chore::KeepAlive);
        }
        if now >= self.repeat + REPEAT {
            self.repeat = now;
            self.core.voice.repeat();
        }
        let silence = now.saturating_duration_since(self.heard);
        if silence >= self.leave_after() {
            self.leave(format!("nothing is heard of the server for {silence:.1?}"), true);
        } else if silence >= DOUBT && !self.in_doubt {
            self.in_doubt = true;
            self.needs_refresh = true;
            // The connection is still there, and so may the session be.
            self.core.ledger.away(now, Some(STALL));
            self.silence_all(Reason::Timeout, StatusCode::BadTimeout);
            let why = format!("nothing is heard of the server for {silence:.1?}");
            self.core.voice.state(DeviceState::Down, Some(why));
        }
        self.publish_pause = self.publish_pause.filter(|until| now < *until);
        self.core.ledger.tick(now);
        self.watch(now);
        self.retry(now);
        self.poll(now);
    }

    fn silence_all(&mut self, reason: Reason, status: StatusCode) {
        let Some(prepared) = &self.mirror.prepared else { return };
        let tags = prepared.wanted.iter().map(|wanted| wanted.tag);
        self.core.ledger.silence(tags, reason, status.bits());
    }

    fn leave(&mut self, why: String, may_resume: bool) {
        self.end.get_or_insert(End { why, may_resume });
    }

    /// A request failed. Tells whether the session is over for it.
    fn fails(&mut self, error: &ServiceError) -> bool {
        let is_over = error.is_of_session();
        if is_over {
            self.leave(error.to_string(), !error.answered);
        }
        is_over
    }

    /// The server said something.
    fn hears(&mut self, now: Instant) -> Timestamp {
        self.heard = now;
        if std::mem::take(&mut self.in_doubt) {
            self.core.ledger.returned();
            self.before = self.mirror.server_time;
            if self.is_built {
                self.tell_state();
                self.come_back(now);
            }
        }
        if self.needs_refresh && self.is_built && !self.refreshing {
            self.refreshing = true;
            let places: Vec<usize> = (0..self.mirror.exists.len()).collect();
            let items = self.readable(&places);
            self.todo.push(Chore::Refresh(items));
        }
        self.core.ledger.hears()
    }

    fn readable(&self, places: &[usize]) -> Vec<(usize, opcua::types::ReadValueId)> {
        let Some(prepared) = &self.mirror.prepared else { return Vec::new() };
        let one = |place: &usize| {
            let node = prepared.nodes.get(*place)?.as_ref().ok()?;
            let wanted = prepared.wanted.get(*place)?;
            Some((*place, read_value(node.clone(), &wanted.item).ok()?))
        };
        places.iter().filter_map(one).collect()
    }

    /// A chore has an end.
    pub(crate) fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::KeepAlive(result) => {
                self.keeping_alive = false;
                match result {
                    Ok(values) => {
                        self.hears(now);
                        let at = values.first().and_then(|value| value.server_timestamp);
                        self.mirror.server_time = at.unwrap_or(self.mirror.server_time);
                    }
                    Err(error) if self.fails(&error) => {}
                    Err(error) if error.answered => {
                        self.hears(now);
                    }
                    Err(_) => {}
                }
            }
            Done::Prepare(Ok(prepared)) => self.prepared(*prepared, now),
            Done::Prepare(Err(error)) => self.leave(error.to_string(), false),
            Done::Transfer(ids, result) => self.transferred(&ids, result, now),
            Done::Create { group, result } => self.created(group, result, now),
            Done::Items { group, places, result } => self.itemised(group, &places, result, now),
            Done::Delete(result) => {
                if let Err(error) = result {
                    self.fails(&error);
                }
            }
            Done::Republish { subscription, missing, span, results } => {
                self.republished(subscription, missing, span, results, now);
            }
            Done::Refresh { places, result } => {
                self.refreshing = false;
                match result {
                    Ok(values) => {
                        self.needs_refresh = false;
                        let acquired = self.hears(now);
                        let values: Vec<_> = places.into_iter().zip(values).collect();
                        self.values(values.into_iter(), acquired);
                    }
                    Err(error) => {
                        self.fails(&error);
                    }
                }
            }
            Done::Fresh { places, result } => self.read_is_done(&places, result, now),
            Done::Poll { group, places, result } => self.polled(group, places, result, now),
            Done::Fill { gap, span, result } => self.filled(gap, span, result, now),
            Done::Resolve { places, result } => self.resolved(&places, result, now),
            Done::Learn { types, result } => self.learned(types, result, now),
        }
    }

    /// Tags have no values, each for a reason of its own.
    fn fail_tags(&mut self, failures: Vec<(usize, Failure)>) {
        let Some(prepared) = &self.mirror.prepared else { return };
        let now = self.core.ledger.now();
        let mut samples = Vec::new();
        let mut new = None;
        for (place, failure) in failures {
            let Some(wanted) = prepared.wanted.get(place) else { continue };
            if self.mirror.failures.get(&place) == Some(&failure) {
                continue;
            }
            samples.push(Sample::bad(wanted.tag, now, failure.reason, failure.status));
            new.get_or_insert_with(|| format!("{}: {}", wanted.path, failure.text));
            self.mirror.failures.insert(place, failure);
        }
        if let Some(first) = new {
            let what = format!("{} tags cannot be read", samples.len());
            self.core.voice.warns(&what, &first);
        }
        self.core.ledger.hand_over(samples);
    }

    fn tell_state(&mut self) {
        if self.in_doubt || !self.is_built {
            return;
        }
        let Some(prepared) = &self.mirror.prepared else { return };
        let path = |place: &usize| prepared.wanted.get(*place).map(|wanted| &wanted.path);
        let failed = self.mirror.failures.iter().map(|(place, failure)| (place, &failure.text));
        let first = failed.chain(&self.mirror.flaws).next();
        let first = first.and_then(|(place, why)| Some(format!("{}: {why}", path(place)?)));
        let why = match (prepared.troubles.first(), first) {
            (None, None) => return self.core.voice.state(DeviceState::Live, None),
            (Some(trouble), _) => trouble.clone(),
            (None, Some(first)) => {
                let count = self.mirror.failures.len() + self.mirror.flaws.len();
                format!("{count} of {} tags not read: {first}", self.mirror.exists.len())
            }
        };
        self.core.voice.state(DeviceState::Degraded, Some(why));
    }
}

#[cfg(test)]
mod tests;
