//! What happens within one session: events come in, chores and samples go out. No await, no
//! socket.
//!
//! # Invariants
//! - What a server says of its subscriptions and items is kept in [`Mirror`] only, and thrown
//!   away with the session, unless the session is resumed or its subscriptions are taken over.
//! - Each notification is confirmed once it is handed over, never before.
//! - A tag that the server refuses turns bad by itself, and is asked for again each minute.
//! - Silence of the whole server turns every tag bad within five seconds, whatever is under way.

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
use crate::sequence::{Seen, Sequence};
use crate::spec::{Collect, DeviceSpec};
use crate::supervisor::chores::{Chore, Done, Gap, Span};
use crate::types::DataTypes;
use crate::voice::Voice;
use crate::watchdog::{Cure, Watchdog};

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
const MAX_PUBLISHES: usize = 10;
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
    /// When an overflow was last told of an item.
    overflows: BTreeMap<usize, Instant>,
    /// Items whose last value cannot be represented.
    flaws: BTreeMap<usize, String>,
    asked_types: HashSet<NodeId>,
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
        };
        let (Beginning::Resumed(earlier) | Beginning::Fresh(earlier)) = &beginning;
        session.before = earlier.server_time;
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
                }
            }
            Beginning::Fresh(mirror) => {
                session.mirror.server_time = mirror.server_time;
                session.leftover = Some(mirror);
                session.todo.push(Chore::Prepare);
            }
        }
        session
    }

    fn start_anew(&mut self) {
        let mirror = std::mem::take(&mut self.mirror);
        let ids = mirror.subs.iter().map(|sub| sub.at_server.id).collect();
        self.todo.push(Chore::Delete(ids));
        self.mirror.server_time = mirror.server_time;
        self.todo.push(Chore::Prepare);
    }

    /// The session is over.
    pub(crate) fn over(self) -> (Mirror, Option<End>) {
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

    /// Whether one more publish request may be sent beside so many, and with what it confirms.
    pub(crate) fn publish(
        &mut self,
        waiting: usize,
        now: Instant,
    ) -> Option<Vec<SubscriptionAcknowledgement>> {
        let wanted = (self.mirror.subs.len() + 1).clamp(2, MAX_PUBLISHES).min(self.publishes);
        if self.mirror.subs.is_empty()
            || waiting >= wanted
            || self.publish_pause.is_some_and(|until| now < until)
        {
            return None;
        }
        let later = self.acks.split_off(self.acks.len().min(MAX_ACKS));
        Some(std::mem::replace(&mut self.acks, later))
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

    /// A publish request has an end.
    pub(crate) fn published(
        &mut self,
        result: Result<PublishResponse, ServiceError>,
        waiting: usize,
        now: Instant,
    ) {
        let response = match result {
            Ok(response) => response,
            Err(error) => return self.publish_failed(&error, waiting, now),
        };
        self.publish_failures = 0;
        let acquired = self.hears(now);
        self.mirror.server_time = response.response_header.timestamp;
        let message = response.notification_message;
        let (id, number) = (response.subscription_id, message.sequence_number);
        let is_empty = message.notification_data.as_ref().is_none_or(Vec::is_empty);
        let Some(sub) = self.mirror.subs.iter_mut().find(|sub| sub.at_server.id == id) else {
            // Of a subscription that is being deleted, or that somebody else made for this
            // session: its values are values, its numbers mean nothing.
            self.take(message, acquired);
            return;
        };
        sub.dog.heard(now);
        sub.is_confirmed = true;
        let before = std::mem::replace(&mut sub.heard, (acquired, message.publish_time));
        let is_back = self.kept_all && self.is_built;
        let seen =
            if is_empty { sub.sequence.keep_alive(number) } else { sub.sequence.data(number) };
        if is_back && self.mirror.subs.iter().all(|sub| sub.is_confirmed) {
            self.come_back(now);
        }
        if let Seen::Gap(missing) = seen {
            let span =
                Span { from: before.0, to: acquired, server: (before.1, message.publish_time) };
            self.todo.push(Chore::Republish { subscription: id, missing, span });
        }
        if !is_empty {
            let ack = SubscriptionAcknowledgement { subscription_id: id, sequence_number: number };
            self.acks.push(ack);
            if seen != Seen::Again {
                self.take(message, acquired);
            }
        }
    }

    fn publish_failed(&mut self, error: &ServiceError, waiting: usize, now: Instant) {
        match error.status {
            StatusCode::BadTooManyPublishRequests => {
                self.publishes = waiting.clamp(1, MAX_PUBLISHES);
                return;
            }
            StatusCode::BadNoSubscription => {
                if self.mirror.subs.is_empty() || !self.is_built {
                    self.publish_pause = Some(now + PUBLISH_PAUSE);
                    return;
                }
                let why = "the server has none of the session's subscriptions any more";
                return self.leave(why.to_owned(), false);
            }
            StatusCode::BadTimeout => {}
            _ if self.fails(error) => return,
            _ => {}
        }
        self.publish_pause = Some(now + PUBLISH_PAUSE);
        self.publish_failures += 1;
        if self.publish_failures >= MAX_PUBLISH_FAILURES {
            self.leave(error.to_string(), false);
        }
    }

    /// Takes what a notification holds.
    fn take(&mut self, message: NotificationMessage, acquired: Timestamp) {
        for data in message.notification_data.unwrap_or_default() {
            if data.inner_is::<DataChangeNotification>() {
                let data = data.into_inner_as::<DataChangeNotification>();
                let items = data.and_then(|data| data.monitored_items).unwrap_or_default();
                let values = items.into_iter().map(|item| {
                    (usize::try_from(item.client_handle).unwrap_or(usize::MAX), item.value)
                });
                self.values(values, acquired);
            } else if let Some(change) = data.inner_as::<StatusChangeNotification>() {
                let why =
                    format!("a subscription ended ({})", crate::connect::words(change.status));
                self.core.voice.warns("subscriptions are created again", &why);
                self.replace_all();
            }
        }
    }

    /// Makes samples of values.
    fn values(
        &mut self,
        values: impl ExactSizeIterator<Item = (usize, DataValue)>,
        acquired: Timestamp,
    ) {
        let Some(prepared) = &self.mirror.prepared else { return };
        let mut samples: Vec<Sample> = Vec::with_capacity(values.len());
        let (mut unknown, mut flawed_before) = (Vec::new(), true);
        for (place, value) in values {
            let (Some(wanted), Some(meaning)) =
                (prepared.wanted.get(place), prepared.meanings.get(place))
            else {
                continue;
            };
            let status = value.status.map_or(0, |status| status.bits());
            if status & OVERFLOW_MASK == OVERFLOW {
                let now = Instant::now();
                let told = self.mirror.overflows.entry(place);
                let told = told.or_insert(now - 2 * OVERFLOW_EVERY);
                if now.saturating_duration_since(*told) >= OVERFLOW_EVERY {
                    *told = now;
                    let every = sample_every(&self.core.spec, &wanted.item);
                    let back = i64::try_from(every.as_nanos()).unwrap_or(0);
                    let from = Timestamp(acquired.0.saturating_sub(back));
                    let cause = LossCause::QueueOverflow;
                    let tag = Some(wanted.path.shared());
                    self.core.ledger.missed(tag, cause, from, acquired, None);
                }
            }
            match prepared.converter.sample(wanted.tag, meaning, value, acquired) {
                Ok(sample) => samples.push(sample),
                Err(flawed) if matches!(flawed.flaw, Flaw::TooLarge { .. }) => {
                    let tag = Some(wanted.path.shared());
                    let cause = LossCause::TooLarge;
                    self.core.ledger.missed(tag, cause, acquired, acquired, Some(1));
                }
                Err(flawed) => {
                    if let Flaw::UnknownType { encoding, .. } = &flawed.flaw
                        && self.mirror.asked_types.len() < MAX_ASKED_TYPES
                        && self.mirror.asked_types.insert((**encoding).clone())
                    {
                        unknown.push((**encoding).clone());
                    }
                    if self.mirror.flaws.insert(place, flawed.flaw.to_string()).is_none() {
                        flawed_before = false;
                    }
                    samples.push(flawed.sample);
                    continue;
                }
            }
            if !self.mirror.flaws.is_empty() && self.mirror.flaws.remove(&place).is_some() {
                flawed_before = false;
            }
        }
        self.core.ledger.speaks();
        self.core.ledger.hand_over(samples);
        self.unknown_types.extend(unknown);
        self.learn();
        if !flawed_before {
            self.tell_state();
        }
    }

    /// Asks for the types of which values came.
    fn learn(&mut self) {
        if self.unknown_types.is_empty() {
            return;
        }
        let types = self.mirror.prepared.as_mut().and_then(|prepared| prepared.types.take());
        if let Some(types) = types {
            let encodings = std::mem::take(&mut self.unknown_types);
            self.todo.push(Chore::Learn { types, encodings });
        }
    }

    fn learned(&mut self, types: DataTypes, result: Result<bool, ServiceError>, now: Instant) {
        let Some(prepared) = &mut self.mirror.prepared else { return };
        if matches!(result, Ok(true)) {
            prepared.converter = types.converter();
        }
        prepared.types = Some(types);
        match result {
            Ok(true) => {
                self.hears(now);
                // The server does not send again what it thinks was taken.
                let places: Vec<usize> = self.mirror.flaws.keys().copied().collect();
                let items = self.readable(&places);
                self.todo.push(Chore::Refresh(items));
            }
            Ok(false) => {}
            Err(error) => {
                self.fails(&error);
            }
        }
        self.learn();
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
                self.republished(subscription, missing.count, span, results, now);
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
            Done::Poll { group, places, result } => self.polled(group, places, result, now),
            Done::Fill { gap, span, result } => self.filled(gap, span, result, now),
            Done::Resolve { places, result } => self.resolved(&places, result, now),
            Done::Learn { types, result } => self.learned(types, result, now),
        }
    }

    fn prepared(&mut self, prepared: Prepared, now: Instant) {
        self.hears(now);
        let spec = Arc::clone(&self.core.spec);
        self.mirror.groups = match spec.collect {
            Collect::Subscribe => groups(&spec, &prepared.wanted),
            Collect::Poll => polls(&spec, &prepared.wanted),
        };
        self.mirror.exists = vec![false; prepared.wanted.len()];
        let failure = |(place, node): (usize, &Result<_, Failure>)| {
            node.as_ref().err().map(|failure| (place, failure.clone()))
        };
        let failures = prepared.nodes.iter().enumerate().filter_map(failure).collect();
        let leftover = self.leftover.take().filter(|mirror| {
            let same = |old: &Prepared| old.wanted == prepared.wanted;
            mirror.prepared.as_ref().is_some_and(same) && !mirror.subs.is_empty()
        });
        for note in &prepared.notes {
            self.core.voice.notes("not everything below a subtree is taken", note);
        }
        self.mirror.prepared = Some(prepared);
        self.fail_tags(failures);
        match leftover.filter(|_| spec.collect == Collect::Subscribe) {
            Some(mirror) => {
                let ids = mirror.subs.iter().map(|sub| sub.at_server.id).collect();
                self.leftover = Some(mirror);
                self.todo.push(Chore::Transfer(ids));
            }
            None => self.build_next(now),
        }
    }

    fn transferred(
        &mut self,
        ids: &[u32],
        result: Result<Vec<opcua::types::TransferResult>, ServiceError>,
        now: Instant,
    ) {
        let Some(mut old) = self.leftover.take() else { return };
        let results = match result {
            Ok(results) => results,
            Err(error) => {
                if !self.fails(&error) {
                    self.build_next(now);
                }
                return;
            }
        };
        self.hears(now);
        let mut useless = Vec::new();
        for (id, result) in ids.iter().zip(results) {
            let place = old.subs.iter().position(|sub| sub.at_server.id == *id);
            let Some(mut sub) = place.map(|place| old.subs.swap_remove(place)) else { continue };
            if result.status_code.is_bad() {
                continue;
            }
            let is_known = self.mirror.groups.get(sub.group) == old.groups.get(sub.group);
            if sub.is_replaced || !is_known {
                useless.push(*id);
                continue;
            }
            // A transfer that says it is good, and then is silent, is not given a second chance.
            sub.dog = sub.dog.successor(now, sub.at_server.keep_alive);
            sub.is_confirmed = false;
            let members = self.mirror.groups.get(sub.group).map(|group| group.members.clone());
            for place in members.unwrap_or_default() {
                if let (Some(to), Some(from)) =
                    (self.mirror.exists.get_mut(place), old.exists.get(place))
                {
                    *to = *from;
                }
                if let Some(failure) = old.failures.remove(&place) {
                    self.mirror.failures.insert(place, failure);
                }
            }
            self.mirror.subs.push(sub);
        }
        if !useless.is_empty() {
            self.todo.push(Chore::Delete(useless));
        }
        self.needs_refresh = !self.mirror.subs.is_empty();
        self.build_next(now);
    }

    /// Creates the next group that has no subscription.
    fn build_next(&mut self, now: Instant) {
        if self.core.spec.collect == Collect::Poll {
            self.building = self.mirror.groups.len();
            let slots = |(at, group): (usize, &Group)| {
                let name = format!("{}/{at}", self.core.spec.name);
                Slots::new(now, group.publish_every, &name, group.members.len())
            };
            if self.core.ledger.slots.len() != self.mirror.groups.len() {
                self.core.ledger.slots = self.mirror.groups.iter().enumerate().map(slots).collect();
            }
        }
        while let Some(group) = self.mirror.groups.get(self.building) {
            if self.mirror.subs.iter().all(|sub| sub.group != self.building) {
                self.todo.push(creation(self.building, group));
                return;
            }
            self.building += 1;
        }
        if !self.is_built {
            self.built(now);
        }
    }

    fn created(&mut self, group: usize, result: Result<Subscription, ServiceError>, now: Instant) {
        let at_server = match result {
            Ok(at_server) => at_server,
            Err(error) => {
                if !self.fails(&error) {
                    let failure = Failure::of(error.status);
                    let members = self.mirror.groups.get(group).map(|g| g.members.clone());
                    let members = members.unwrap_or_default();
                    self.fail_tags(members.into_iter().map(|p| (p, failure.clone())).collect());
                    self.after_group(group, now);
                }
                return;
            }
        };
        let acquired = self.hears(now);
        let fresh = Watchdog::new(now, at_server.keep_alive);
        let (mut dog, mut heard) = (fresh, (acquired, self.mirror.server_time));
        if let Some(old) = self.mirror.subs.iter().position(|sub| sub.group == group) {
            let old = self.mirror.subs.swap_remove(old);
            dog = old.dog.successor(now, at_server.keep_alive);
            heard = old.heard;
        }
        let sequence = Sequence::new();
        let sub = Sub {
            group,
            at_server,
            sequence,
            dog,
            heard,
            is_replaced: false,
            is_confirmed: true,
            holds: Duration::MAX,
        };
        self.kept_all = false;
        self.mirror.subs.push(sub);
        self.create_items(group, at_server, None, now);
    }

    /// Creates those of the group's items that do not exist.
    fn create_items(
        &mut self,
        group: usize,
        at_server: Subscription,
        only: Option<&[usize]>,
        now: Instant,
    ) {
        let members = self.mirror.groups.get(group).map(|group| group.members.clone());
        let mut items = Vec::new();
        let mut failures = Vec::new();
        let Some(prepared) = &self.mirror.prepared else { return };
        for place in members.unwrap_or_default() {
            let (Some(wanted), Some(Ok(node))) =
                (prepared.wanted.get(place), prepared.nodes.get(place))
            else {
                continue;
            };
            if only.is_some_and(|only| !only.contains(&place)) {
                continue;
            }
            let every = at_server.publish_every;
            match create(&self.core.spec, place, wanted, node.clone(), every) {
                Ok(request) => items.push((place, request)),
                Err(error) => {
                    let status = StatusCode::BadIndexRangeInvalid;
                    failures.push((place, Failure::misfit(status, error.to_string())));
                }
            }
        }
        self.fail_tags(failures);
        if items.is_empty() {
            self.after_group(group, now);
        } else {
            self.todo.push(Chore::Items { group, subscription: at_server.id, items });
        }
    }

    fn itemised(
        &mut self,
        group: usize,
        places: &[usize],
        result: Result<Vec<MonitoredItemCreateResult>, ServiceError>,
        now: Instant,
    ) {
        self.retrying = false;
        match result {
            Ok(results) => {
                self.hears(now);
                let mut failures = Vec::new();
                let (mut revised, mut first) = (0_usize, None);
                let mut holds = Duration::MAX;
                for (place, result) in places.iter().zip(&results) {
                    if result.status_code.is_bad() {
                        failures.push((*place, Failure::of(result.status_code)));
                        continue;
                    }
                    self.mirror.failures.remove(place);
                    if let Some(exists) = self.mirror.exists.get_mut(*place) {
                        *exists = true;
                    }
                    let prepared = self.mirror.prepared.as_ref();
                    let wanted = prepared.and_then(|prepared| prepared.wanted.get(*place));
                    let Some(wanted) = wanted else { continue };
                    let each = (result.revised_sampling_interval / 1000.0).clamp(0.0, 86_400.0);
                    let held = each * f64::from(result.revised_queue_size);
                    holds = holds.min(Duration::try_from_secs_f64(held).unwrap_or_default());
                    let asked = sample_every(&self.core.spec, &wanted.item).as_secs_f64() * 1000.0;
                    let given = result.revised_sampling_interval;
                    if (given - asked).abs() > asked * 0.01 {
                        revised += 1;
                        first.get_or_insert_with(|| {
                            format!("{} each {given} ms instead of {asked} ms", wanted.path)
                        });
                    }
                }
                if let Some(sub) = self.mirror.subs.iter_mut().find(|sub| sub.group == group) {
                    sub.holds = sub.holds.min(holds);
                }
                if let Some(first) = first {
                    let of = results.len();
                    let detail = format!("{revised} of {of}, the first: {first}");
                    self.core.voice.notes("the server samples at other intervals", &detail);
                }
                self.fail_tags(failures);
            }
            Err(error) => {
                if self.fails(&error) {
                    return;
                }
                let failure = Failure::of(error.status);
                let failures = places.iter().map(|place| (*place, failure.clone())).collect();
                self.fail_tags(failures);
            }
        }
        self.after_group(group, now);
    }

    fn after_group(&mut self, group: usize, now: Instant) {
        if group == self.building && !self.is_built {
            self.building += 1;
            self.build_next(now);
        } else if self.is_built {
            self.tell_state();
        }
    }

    /// Everything exists that can.
    fn built(&mut self, now: Instant) {
        self.is_built = true;
        self.retry = now + RETRY;
        self.core.ledger.returned();
        self.tell_state();
        if !self.core.ledger.is_away() {
            return;
        }
        if self.kept_all && !self.mirror.subs.is_empty() {
            // What the server held back comes now; what it could not hold is missing in the
            // sequence, or marked in the status of a value.
            return;
        }
        self.make_good(now);
    }

    /// The absence is over, and what the server held back has come: queues that are long enough
    /// lost nothing. Not every server marks a queue that was not.
    fn come_back(&mut self, now: Instant) {
        let Some(away) = self.core.ledger.away_for() else { return };
        let holds = self.mirror.subs.iter().map(|sub| sub.holds).min().unwrap_or_default();
        if away <= holds { self.core.ledger.forgive() } else { self.make_good(now) }
    }

    /// Fills an absence from history, or tells it as lost.
    fn make_good(&mut self, now: Instant) {
        let known = self.mirror.server_time;
        let until = if known > self.before { known } else { DateTime::now() };
        let wall = self.core.ledger.now();
        let span = Span { from: wall, to: wall, server: (self.before, until) };
        let is_known = !self.before.is_null();
        if self.core.spec.backfill && is_known && self.core.spec.collect == Collect::Subscribe {
            if !std::mem::replace(&mut self.filling, true) {
                let all: Vec<usize> = (0..self.mirror.exists.len()).collect();
                self.fill(&all, Gap::Absence, span);
            }
        } else {
            self.core.ledger.settle(now);
        }
    }

    fn fill(&mut self, places: &[usize], gap: Gap, span: Span) {
        let Some(prepared) = &self.mirror.prepared else { return };
        let node = |place: &usize| {
            let node = prepared.nodes.get(*place)?.as_ref().ok()?;
            Some((*place, node.clone()))
        };
        let nodes = places.iter().filter_map(node).collect();
        self.todo.push(Chore::Fill { nodes, gap, span });
    }

    fn filled(
        &mut self,
        gap: Gap,
        span: Span,
        result: Result<crate::history::Filled, ServiceError>,
        now: Instant,
    ) {
        let complete = match result {
            Ok(filled) => {
                let acquired = self.hears(now);
                let count: usize = filled.values.iter().map(|(_, values)| values.len()).sum();
                let flat = filled.values.into_iter().flat_map(|(place, values)| {
                    values.into_iter().map(move |value| (place, value))
                });
                let flat: Vec<_> = flat.collect();
                if count > 0 {
                    self.core.voice.notes("values came from history", &count.to_string());
                    self.values(flat.into_iter(), acquired);
                }
                filled.complete
            }
            Err(error) => {
                self.fails(&error);
                false
            }
        };
        if gap == Gap::Absence {
            self.filling = false;
        }
        match (gap, complete) {
            (Gap::Absence, true) => self.core.ledger.forgive(),
            (Gap::Absence, false) => self.core.ledger.settle(now),
            (Gap::Notifications, true) => {}
            (Gap::Notifications, false) => self.lose(span),
        }
    }

    fn lose(&mut self, span: Span) {
        self.core.ledger.missed(None, LossCause::DeviceSilent, span.from, span.to, None);
    }

    fn republished(
        &mut self,
        subscription: u32,
        missing: u32,
        span: Span,
        results: Vec<Result<NotificationMessage, ServiceError>>,
        now: Instant,
    ) {
        let acquired = self.hears(now);
        let mut found = 0;
        for result in results {
            match result {
                Ok(message) => {
                    found += 1;
                    self.acks.push(SubscriptionAcknowledgement {
                        subscription_id: subscription,
                        sequence_number: message.sequence_number,
                    });
                    self.take(message, acquired);
                }
                Err(error) => {
                    self.fails(&error);
                }
            }
        }
        if found == missing {
            return;
        }
        let why = format!("{} of {missing} notifications did not arrive", missing - found);
        self.core.voice.warns("notifications are missing", &why);
        let group = self.mirror.subs.iter().find(|sub| sub.at_server.id == subscription);
        let members = group.and_then(|sub| self.mirror.groups.get(sub.group));
        match members.map(|group| group.members.clone()) {
            Some(members) if self.core.spec.backfill => {
                self.fill(&members, Gap::Notifications, span);
            }
            _ => self.lose(span),
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

    /// Cures subscriptions that are silent while the server is not.
    fn watch(&mut self, now: Instant) {
        if now.saturating_duration_since(self.heard) > 2 * KEEP_ALIVE {
            return;
        }
        let silent = self.mirror.subs.iter().enumerate().filter(|(_, sub)| !sub.is_replaced);
        let silent: Vec<_> =
            silent.filter_map(|(at, sub)| Some((at, sub.dog.cure(now)?))).collect();
        for (at, cure) in silent {
            match cure {
                Cure::Leave => {
                    let why = "a subscription says nothing, and neither did the one before it";
                    return self.leave(why.to_owned(), false);
                }
                Cure::Recreate => {
                    let why = "a subscription says nothing";
                    self.core.voice.warns("the subscription is created again", why);
                    self.replace(at);
                }
            }
        }
    }

    fn replace_all(&mut self) {
        for at in 0..self.mirror.subs.len() {
            self.replace(at);
        }
    }

    /// Has a subscription deleted and another one created for its group.
    fn replace(&mut self, at: usize) {
        let Some(sub) = self.mirror.subs.get_mut(at).filter(|sub| !sub.is_replaced) else { return };
        sub.is_replaced = true;
        sub.is_confirmed = true;
        let (id, group) = (sub.at_server.id, sub.group);
        let (from, _) = sub.heard;
        let to = self.core.ledger.now();
        self.core.ledger.missed(None, LossCause::DeviceSilent, from, to, None);
        let Some(members) = self.mirror.groups.get(group) else { return };
        let mut samples = Vec::new();
        if let Some(prepared) = &self.mirror.prepared {
            for place in &members.members {
                if let (Some(wanted), None) =
                    (prepared.wanted.get(*place), self.mirror.failures.get(place))
                {
                    let status = StatusCode::BadTimeout.bits();
                    samples.push(Sample::bad(wanted.tag, to, Reason::Timeout, status));
                }
            }
        }
        self.todo.push(Chore::Delete(vec![id]));
        self.todo.push(creation(group, members));
        self.core.ledger.hand_over(samples);
    }

    /// Asks again for what was refused.
    fn retry(&mut self, now: Instant) {
        if now < self.retry || !self.is_built || self.retrying || self.mirror.failures.is_empty() {
            return;
        }
        self.retry = now + RETRY;
        let lost = |group: &usize| self.mirror.subs.iter().all(|sub| sub.group != *group);
        if self.core.spec.collect == Collect::Subscribe
            && let Some(group) = (0..self.mirror.groups.len()).find(lost)
            && let Some(members) = self.mirror.groups.get(group)
        {
            self.todo.push(creation(group, members));
        }
        self.retrying = true;
        let Some(prepared) = &self.mirror.prepared else { return };
        let address = |place: &usize| Some((*place, prepared.wanted.get(*place)?.node.clone()));
        self.todo.push(Chore::Resolve(self.mirror.failures.keys().filter_map(address).collect()));
    }

    fn resolved(
        &mut self,
        places: &[usize],
        result: Result<Vec<Place>, ServiceError>,
        now: Instant,
    ) {
        self.retrying = false;
        let nodes = match result {
            Ok(nodes) => nodes,
            Err(error) => {
                self.fails(&error);
                return;
            }
        };
        self.hears(now);
        let mut failures = Vec::new();
        let mut found = Vec::new();
        for (place, node) in places.iter().zip(nodes) {
            match (node, self.mirror.prepared.as_mut()) {
                (Ok((node, meaning)), Some(prepared)) => {
                    found.push(*place);
                    if let (Some(at), Some(of)) =
                        (prepared.nodes.get_mut(*place), prepared.meanings.get_mut(*place))
                    {
                        (*at, *of) = (Ok(node), meaning);
                    }
                }
                (Err(failure), _) => failures.push((*place, failure)),
                (Ok(_), None) => {}
            }
        }
        self.fail_tags(failures);
        if self.core.spec.collect == Collect::Poll {
            for place in &found {
                self.mirror.failures.remove(place);
            }
            return self.tell_state();
        }
        let subs: Vec<_> = self.mirror.subs.iter().filter(|sub| !sub.is_replaced).collect();
        let subs: Vec<_> = subs.into_iter().map(|sub| (sub.group, sub.at_server)).collect();
        for (group, at_server) in subs {
            let holds = |place: &usize| {
                self.mirror.groups.get(group).is_some_and(|g| g.members.contains(place))
            };
            if found.iter().any(holds) {
                self.create_items(group, at_server, Some(&found), now);
            }
        }
    }

    /// Reads the groups whose slot it is.
    fn poll(&mut self, now: Instant) {
        if self.core.spec.collect != Collect::Poll || !self.is_built {
            return;
        }
        for at in 0..self.core.ledger.slots.len() {
            let Some(due) = self.core.ledger.slots.get_mut(at).and_then(|slots| slots.take(now))
            else {
                continue;
            };
            let members = self.mirror.groups.get(at).map(|group| group.members.clone());
            let members = members.unwrap_or_default();
            if due.passed > 0 {
                let to = self.core.ledger.now();
                let from = self.core.ledger.last_heard().min(to);
                let count = Some(due.passed);
                self.core.ledger.missed(None, LossCause::PollOverrun, from, to, count);
            }
            let items = self.readable(&members);
            self.todo.push(Chore::Poll { group: at, items });
        }
    }

    fn polled(
        &mut self,
        group: usize,
        places: Vec<usize>,
        result: Result<Vec<DataValue>, ServiceError>,
        now: Instant,
    ) {
        if let Some(slots) = self.core.ledger.slots.get_mut(group) {
            slots.done();
        }
        match result {
            Ok(values) => {
                let acquired = self.hears(now);
                self.needs_refresh = false;
                let values: Vec<_> = places.into_iter().zip(values).collect();
                self.values(values.into_iter(), acquired);
            }
            Err(error) => {
                if self.fails(&error) {
                    return;
                }
                let at = self.core.ledger.now();
                let count = u64::try_from(places.len()).ok();
                let cause =
                    if error.answered { LossCause::DeviceRefused } else { LossCause::DeviceSilent };
                self.core.ledger.missed(None, cause, at, at, count);
                self.core.voice.warns("a poll failed", &error.to_string());
            }
        }
    }
}

fn creation(at: usize, group: &Group) -> Chore {
    let (keep_alive, lifetime) = counts(group.publish_every);
    Chore::Create { group: at, publish_every: group.publish_every, keep_alive, lifetime }
}
