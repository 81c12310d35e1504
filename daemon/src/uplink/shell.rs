//! The loop that drives the machine.

mod inquire;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State as Connection;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tidegate_uplink::{Action, AlarmKind, Event, RequestFailure, Settings, State, Uplink};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::inquire::{Permission, Seen};
use super::chain::JournalChain;
use super::fail_back::FailBack;
use super::links::{self, Links, Look, Remedy};
use super::namesake::Namesake;
use super::rights::Asking;
use crate::config::HubUrl;
use crate::names::GatewayId;
use crate::observe::state::{Board, UplinkState};
use crate::recorder;
use crate::subjects;
use crate::supervise::Pulse;
use crate::wan::{Access, Need};

/// How often the connection to the leaf is looked at; a cut that is shorter shows in the answers.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often status and health tags get fresh numbers.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// How long the uplink goes on after it was asked to stop: the longest wait before a message that
/// is not full (2 s by default) and a round trip, within the supervisor's 5 s for this stage.
const LAST_WORDS: Duration = Duration::from_secs(4);

/// A leaf learns what the hub permits when its link is made, and a hub that was reloaded keeps the
/// link (measured with 2.15.1). While frames are not permitted the link is therefore made anew:
/// first and longest wait, doubled in between.
const NEW_LINK: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3600));

/// What the shell talks to.
pub struct Hub {
    /// The daemon's connection in the leaf's RECORD account.
    pub client: Client,
    /// A connection in its LIVE account, to tell a lost link from a WAN that is down.
    pub live: Client,
    /// A second connection in its RECORD account, which hears answers to others.
    pub ear: Client,
    /// Who we are.
    pub gateway: GatewayId,
    /// The stream's name.
    pub stream: String,
    /// Where its servers listen for leaf nodes.
    pub urls: Vec<HubUrl>,
    /// How those are reached and what they are shown.
    pub access: Arc<Access>,
    /// What they must permit.
    pub needs: Vec<Need>,
    /// How long the first of them must have been good before the links go back to it.
    pub fail_back_after: Option<Duration>,
    /// Does something about the leaf's links.
    pub remedy: Box<dyn Fn(Remedy) + Send + Sync>,
    /// Which URL the record's link was last made to.
    pub url: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// What the leaf last complained about; read only while the hub does not answer.
    pub complaint: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// The uplink; `run` is a core task.
pub struct Shell {
    machine: Uplink,
    hub: Hub,
    recorder: recorder::Handle,
    board: Arc<Board>,
    origin: Instant,
    flights: FuturesUnordered<BoxFuture<'static, Flight>>,
    kept: Option<Kept>,
    /// Questions without an answer since the last one that had one.
    unanswered: u32,
    links: Links,
    looks: FuturesUnordered<BoxFuture<'static, Look>>,
    /// When the link is made anew, and after which wait.
    new_link: Option<(Instant, Duration)>,
    /// Whether the hub answered last, as the board has it.
    hub_is_up: bool,
    inquiries: FuturesUnordered<BoxFuture<'static, Seen>>,
    asking: Asking,
    permission: Permission,
    fail_back: Option<FailBack>,
    /// When the links go back to the first URL at the latest.
    go_back_by: Option<Instant>,
    reported: tidegate_uplink::Counters,
}

/// The message that may have to be repeated.
struct Kept {
    ticket: u64,
    bytes: Bytes,
}

/// An answer, and whether anybody gave it.
struct Flight {
    event: Event,
    answered: Option<bool>,
}

impl std::fmt::Debug for Shell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shell").field("gateway", &self.hub.gateway).finish_non_exhaustive()
    }
}

impl Shell {
    /// An uplink that remembers what is kept with the journal.
    #[must_use]
    pub fn new(
        settings: Settings,
        remembered: tidegate_uplink::Memory,
        hub: Hub,
        recorder: recorder::Handle,
        board: Arc<Board>,
    ) -> Self {
        let fail_back = hub.fail_back_after.map(FailBack::new);
        let asking = Asking::new(place_of(&hub.gateway));
        Self {
            machine: Uplink::new(settings, remembered),
            hub,
            recorder,
            board,
            origin: Instant::now(),
            flights: FuturesUnordered::new(),
            kept: None,
            unanswered: 0,
            links: Links::default(),
            looks: FuturesUnordered::new(),
            new_link: None,
            hub_is_up: false,
            inquiries: FuturesUnordered::new(),
            asking,
            permission: Permission::default(),
            fail_back,
            go_back_by: None,
            reported: tidegate_uplink::Counters::default(),
        }
    }

    /// Delivers until `stop`, and then what the recorder has just made durable, as far as that goes
    /// within [`LAST_WORDS`]. What is in flight after that is repeated by the next run, and refused
    /// by the hub if it has it.
    pub async fn run(mut self, pulse: Pulse, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut report = tokio::time::interval(REPORT_EVERY);
        let mut durable = self.recorder.durable();
        let mut namesake =
            Namesake::listen(&self.hub.ear, &self.hub.client, &self.hub.gateway).await;
        let mut connected = false;
        let mut wake = self.origin;
        let mut last_words = None;
        loop {
            if last_words.is_some_and(|until| self.is_done(connected, until)) {
                return;
            }
            self.board.note_in_flight(!self.flights.is_empty());
            let event = tokio::select! {
                () = stop.cancelled(), if last_words.is_none() => {
                    last_words = Some(Instant::now() + LAST_WORDS);
                    Event::NewDurable
                }
                Some(flight) = self.flights.next() => self.landed(flight),
                Some(look) = self.looks.next() => {
                    self.compared(look);
                    continue;
                }
                Some(seen) = self.inquiries.next() => {
                    self.inquired(seen);
                    continue;
                }
                Ok(()) = durable.changed() => Event::NewDurable,
                () = namesake.heard() => Event::Overheard,
                _ = look.tick() => {
                    pulse.tick();
                    self.make_link_anew_if_due();
                    self.compare_links_if_due();
                    self.inquire_if_due();
                    let up = self.hub.client.connection_state() == Connection::Connected;
                    if up == connected {
                        continue;
                    }
                    connected = up;
                    self.link(up)
                }
                _ = report.tick() => {
                    self.report().await;
                    continue;
                }
                () = tokio::time::sleep_until(wake) => Event::Tick,
            };
            wake = self.drive(event).await;
        }
    }

    /// Whether there is nothing more to deliver, no way to deliver it, or no time.
    fn is_done(&self, connected: bool, until: Instant) -> bool {
        let status = self.machine.status(self.origin.elapsed(), &JournalChain::of(&self.recorder));
        let way =
            connected && matches!(status.state, State::Idle | State::Gathering | State::Delivering);
        status.backlog.frames == 0 || !way || Instant::now() >= until
    }

    fn link(&mut self, up: bool) -> Event {
        self.board.update_link(|link| link.leaf_up = up);
        if up {
            Event::LinkUp { max_payload: self.hub.client.server_info().max_payload }
        } else {
            self.flights.clear();
            self.hub_answers(false);
            Event::LinkDown
        }
    }

    fn compare_links_if_due(&mut self) {
        // A leaf that is away is its supervisor's to bring back.
        if self.looks.is_empty()
            && self.hub.client.connection_state() == Connection::Connected
            && self.links.look_is_due(Instant::now())
        {
            let (live, record) = (self.hub.live.clone(), self.hub.client.clone());
            let info = subjects::info(&self.hub.stream);
            self.looks.push(Box::pin(links::look(live, record, info)));
        }
    }

    fn compared(&mut self, look: Look) {
        if let Some(remedy) = self.links.looked(look, Instant::now()) {
            (self.hub.remedy)(remedy);
        }
    }

    fn landed(&mut self, flight: Flight) -> Event {
        self.links.record_answered(flight.answered == Some(true), Instant::now());
        match flight.answered {
            Some(true) => {
                self.unanswered = 0;
                self.hub_answers(true);
            }
            Some(false) => {
                self.unanswered = self.unanswered.saturating_add(1);
                // One answer may come late on a thin link.
                if self.unanswered > 1 {
                    self.hub_answers(false);
                }
            }
            None => {}
        }
        // The leaf knows nobody who would answer: its link is down, or the hub does not admit us.
        if matches!(flight.event, Event::InfoFailed(RequestFailure::NoResponders)) {
            self.hub_answers(false);
        }
        flight.event
    }

    fn make_link_anew_if_due(&mut self) {
        let Some((_, wait)) = self.new_link.filter(|(at, _)| *at <= Instant::now()) else { return };
        let wait = (wait * 2).min(NEW_LINK.1);
        self.new_link = Some((Instant::now() + wait, wait));
        let why = "to learn whether the hub permits frames by now";
        (self.hub.remedy)(Remedy::Dial { live: false, record: true, why });
    }

    fn hub_answers(&mut self, up: bool) {
        if up && !self.hub_is_up {
            self.asking.linked(Instant::now());
        }
        self.hub_is_up = up;
        let now = self.board.now();
        self.board.update_link(|link| {
            if link.hub_up != up || link.since.is_none() {
                link.hub_up = up;
                link.since = Some(now);
            }
        });
    }

    /// Hands one event to the machine and does what it asks; returns when to come back.
    async fn drive(&mut self, event: Event) -> Instant {
        let now = self.origin.elapsed();
        let mut wake = Instant::now() + LOOK_EVERY;
        let chain = JournalChain::of(&self.recorder);
        // Looking at the journal can mean reading it.
        let actions = tokio::task::block_in_place(|| self.machine.handle(event, now, &chain));
        for action in actions {
            match action {
                Action::Sent(end) => self.recorder.sent(end).await,
                Action::Publish(publish) => self.publish(publish).await,
                Action::AskInfo { deadline, limits } => self.ask_info(deadline, limits),
                Action::AskHead { epoch, deadline } => self.ask_head(epoch, deadline),
                Action::TestFrames { epoch, deadline } => self.test_frames(epoch, deadline),
                Action::WaitUntil(at) => wake = self.origin + at,
                Action::Delivered(cursor) => {
                    self.board.note_acknowledged(cursor.up_to.next_seq);
                    self.recorder.acknowledge(cursor).await;
                }
                Action::Suspect(cursor) => self.recorder.suspect(cursor).await,
                Action::Rewind { epoch, to_frame, reason } => {
                    tracing::warn!(%epoch, to_frame, reason = reason.word(), "sending again");
                    self.recorder.rewind(epoch, to_frame).await;
                }
                Action::HubLost { epoch, after, last_frame } => {
                    tracing::error!(%epoch, last_frame, "the hub lost frames that are gone here too");
                    self.recorder.hub_lost(epoch, after).await;
                }
                Action::Fork { epoch, common } => {
                    tracing::error!(%epoch, "the hub holds frames that this journal never wrote");
                    self.recorder.fork(epoch, common).await;
                }
                Action::Raise(alarm) => {
                    let mut text = alarm.text;
                    if matches!(alarm.kind, AlarmKind::HubSilent | AlarmKind::Unanswered)
                        && let Some(complaint) = (self.hub.complaint)()
                    {
                        text = format!("{text}. The leaf says: {complaint}");
                    }
                    if matches!(
                        alarm.kind,
                        AlarmKind::HubSilent | AlarmKind::Unanswered | AlarmKind::NoPermission
                    ) {
                        self.asking.amiss(Instant::now());
                    }
                    if alarm.kind == AlarmKind::NoPermission {
                        self.new_link = Some((Instant::now() + NEW_LINK.0, NEW_LINK.0));
                        self.permission.machine = Some(text);
                        self.tell_permission();
                        continue;
                    }
                    if self.board.raise(alarm.kind.word(), text.clone()) {
                        tracing::warn!(alarm = alarm.kind.word(), "{text}");
                    }
                }
                Action::Clear(kind) => {
                    if kind == AlarmKind::NoPermission {
                        self.new_link = None;
                        self.permission.machine = None;
                        self.tell_permission();
                        continue;
                    }
                    if self.board.clear(kind.word()) {
                        tracing::info!(alarm = kind.word(), "alarm is over");
                    }
                }
            }
        }
        wake
    }

    async fn report(&mut self) {
        let chain = JournalChain::of(&self.recorder);
        let status = self.machine.status(self.origin.elapsed(), &chain);
        let counters = &self.board.counters;
        let (now, before) = (status.counters, self.reported);
        counters.uplink_messages.add(now.delivered_messages - before.delivered_messages);
        counters.uplink_frames.add(now.delivered.frames - before.delivered.frames);
        counters.uplink_bytes.add(now.delivered.bytes - before.delivered.bytes);
        counters.uplink_timeouts.add(now.timeouts - before.timeouts);
        counters.uplink_refusals.add(now.refused - before.refused);
        counters.uplink_rewinds.add(now.rewinds - before.rewinds);
        counters.uplink_foreign_messages.add(now.foreign_messages - before.foreign_messages);
        self.reported = now;
        if now.expired > before.expired {
            // Without it a reader of what is left could not name a tag until the daily one.
            self.recorder.repeat_catalog().await;
        }
        let state = state_of(status.state, status.backlog.frames);
        self.board.update_uplink(|uplink| {
            uplink.state = state;
            uplink.why = match status.state {
                State::Blocked(kind) => Some(kind.word().to_owned()),
                _ => None,
            };
            uplink.backlog_frames = status.backlog.frames;
            uplink.backlog_samples = status.backlog.samples;
            uplink.backlog_bytes = status.backlog.bytes;
            uplink.drain_seconds = status.drained_in.map(|left| left.as_secs_f64());
        });
        let answered = self.unanswered == 0 && status.last_ack_age.is_some();
        self.board.update_link(|link| {
            link.why = if link.hub_up { None } else { (self.hub.complaint)() };
            link.hub_url = if link.hub_up { (self.hub.url)() } else { None };
            let measured = answered && link.hub_up;
            link.round_trip_ms = measured.then_some(status.round_trip.as_secs_f64() * 1e3);
        });
    }
}

/// A gateway's place in a fleet, from 0 to 1, by its name.
fn place_of(gateway: &GatewayId) -> f64 {
    let hash = blake3::hash(gateway.to_string().as_bytes());
    f64::from(hash.as_bytes()[0]) / 255.0
}

/// The machine's state in the words of the status.
fn state_of(state: State, backlog: u64) -> UplinkState {
    match state {
        State::Offline => UplinkState::Disconnected,
        State::Connecting | State::Waiting => UplinkState::Disconnected,
        State::Reconciling => UplinkState::Reconciling,
        State::Idle | State::Gathering => UplinkState::CaughtUp,
        State::Delivering if backlog <= 2 => UplinkState::CaughtUp,
        State::Delivering => UplinkState::Draining,
        State::Blocked(
            AlarmKind::NoStream
            | AlarmKind::NoJetStream
            | AlarmKind::NoPermission
            | AlarmKind::StreamFull
            | AlarmKind::Unanswered,
        ) => UplinkState::WaitingForStream,
        State::Blocked(AlarmKind::HubSilent) => UplinkState::Disconnected,
        State::Blocked(_) => UplinkState::Halted,
    }
}
