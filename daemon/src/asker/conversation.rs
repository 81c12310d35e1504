//! One question to one owner: what is sent, what comes back, and how silence is judged.
//!
//! # Invariants
//! - An owner sends only as many parts as it was granted; more is granted when parts are taken.
//! - Parts count up without a hole. After a hole nothing of that answer is used.
//! - Whoever is silent is asked for a sign of life. A leaf tells nobody that an owner is away (the hub
//!   does), so no sign within a fixed time is the same as "away".
//! - One that is busy is asked again a few times, ever more seldom.
//! - An answer that was cut at an owner's limits is continued, as long as it gets on.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Message, RequestErrorKind, Subscriber};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tidegate_query::{Code, Op, Part, PartialCause, Refusal, Summary, VERSION};
use tokio::time::{Instant, sleep_until};

use super::merge::{Merged, Order};
use super::reach::Asker;
use crate::names::GatewayId;

/// The most gateways that one question goes to: each has an answer that waits.
pub const MAX_OWNERS: usize = 1_000;
/// What all owners together may have sent ahead, in parts of at most 64 KiB: 64 MiB.
const PARTS_AHEAD: usize = 1_024;
/// A reader who keeps up loses nothing with this many: 1 MiB on the way to each.
const MOST_AHEAD: usize = 16;
/// How long a sign of life may take: two satellites' round trips, one after the other, and as much
/// again. Without its first one an owner is away.
const SIGN_WITHIN: Duration = Duration::from_secs(3);
/// One that has answered before is lost when so many signs in a row do not come.
const SIGNS_MISSED: u32 = 3;
/// How long after a sign the next one is asked for, while nothing comes.
const SIGN_EVERY: Duration = Duration::from_secs(1);
/// How long the pause is before one that is busy is asked again; twice as long each time.
const BUSY_PAUSE: Duration = Duration::from_millis(500);
/// How often one that is busy is asked again.
const BUSY_AGAIN: u32 = 4;
/// How long an owner may not know a question that was sent to it.
const UNKNOWN_FOR: Duration = Duration::from_secs(3);

/// A question to owners.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What is asked.
    pub op: Op,
    /// The question itself, one of the structures of `tidegate_query` as JSON.
    pub question: Map<String, Value>,
    /// Who asks, for the owners' audits.
    pub by: String,
    /// How long it may take in all; without it as long as owners go on.
    pub within: Option<Duration>,
    /// Whether answers that were cut at an owner's own limits are continued.
    pub whole: bool,
}

impl Asked {
    /// A question in this form.
    #[must_use]
    pub fn new(op: Op, question: &impl serde::Serialize, by: impl Into<String>) -> Self {
        let question = match serde_json::to_value(question) {
            Ok(Value::Object(question)) => question,
            // Questions without fields.
            _ => Map::new(),
        };
        Self { op, question, by: by.into(), within: None, whole: true }
    }

    fn limit(&self) -> Option<u64> {
        self.question.get("limit").and_then(Value::as_u64)
    }
}

/// Why an owner gave no answer at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// Nobody hears questions to it.
    Away,
    /// No sign of it within a few seconds.
    Silent,
}

impl Absence {
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Away => "is away: nobody hears questions to it",
            Self::Silent => "is away: no sign of it within 3 s",
        }
    }
}

/// What comes from one owner.
#[derive(Debug)]
pub enum Event {
    /// It is there, and works on the answer.
    Alive,
    /// Rows, in its order.
    Rows(Vec<Box<RawValue>>),
    /// Its answer is complete, or as complete as the summary says. The last event.
    Done(Box<Summary>),
    /// It gave no answer. The last event.
    Absent(Absence),
    /// It said no. The last event.
    Refused(Refusal),
    /// Its answer broke off, for this reason. The last event.
    Lost(String),
}

impl Event {
    /// Whether nothing follows.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        !matches!(self, Self::Alive | Self::Rows(_))
    }
}

/// The answers of all owners, side by side.
pub struct Answers {
    pub(super) lanes: Vec<(GatewayId, BoxStream<'static, Event>)>,
}

impl Asker {
    /// Asks these owners; nothing is sent before the answers are listened to. Dropping the answers
    /// cancels the questions.
    #[must_use]
    pub fn ask(&self, asked: Asked, owners: &[GatewayId]) -> Answers {
        let asked = Arc::new(asked);
        let ahead = (PARTS_AHEAD / owners.len().max(1)).clamp(1, MOST_AHEAD);
        let ahead = u32::try_from(ahead).unwrap_or(1);
        let lanes = owners.iter().map(|owner| {
            let subject = |op| self.subject(owner, op);
            let subjects = Subjects {
                question: subject(asked.op),
                credit: subject(Op::Credit),
                cancel: subject(Op::Cancel),
            };
            let conversation =
                Conversation::new(self.client.clone(), subjects, Arc::clone(&asked), ahead);
            (owner.clone(), conversation.events())
        });
        Answers { lanes: lanes.collect() }
    }
}

impl Answers {
    /// Events as they come, whoever's they are, with the gateway.
    pub fn events(self) -> impl Stream<Item = (GatewayId, Event)> + Unpin {
        let named = |(gateway, events): (GatewayId, BoxStream<'static, Event>)| {
            events.map(move |event| (gateway.clone(), event)).boxed()
        };
        stream::select_all(self.lanes.into_iter().map(named))
    }

    /// Rows of all owners in one order.
    #[must_use]
    pub fn merged(self, order: Order) -> Merged {
        Merged::new(self, order)
    }
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").field("owners", &self.lanes.len()).finish_non_exhaustive()
    }
}

struct Subjects {
    question: String,
    credit: String,
    cancel: String,
}

/// What a sign of life that was asked for came to.
enum Sign {
    Alive,
    Unknown,
    NobodyHears,
    None,
}

type Asking = Pin<Box<dyn Future<Output = Sign> + Send>>;

struct Conversation {
    client: Client,
    subjects: Subjects,
    asked: Arc<Asked>,
    ahead: u32,
    /// The round that runs: a question of its own, with its own inbox.
    round: Option<Round>,
    /// Where the next round goes on.
    after: Option<String>,
    rows: u64,
    /// How often in a row it was busy, and until when it is left alone.
    busy: u32,
    rests_until: Option<Instant>,
    /// What rounds before said.
    said: Option<Summary>,
    /// What is told after the rows that came with it.
    last: Option<Event>,
    began: Option<Instant>,
    ended: bool,
}

struct Round {
    id: String,
    parts: Subscriber,
    next_part: u64,
    rows: u64,
    /// Parts that were taken and not granted again.
    taken: u32,
    /// Whether anything was heard of the owner.
    heard: bool,
    unknown_since: Option<Instant>,
    /// Signs in a row that did not come.
    missed: u32,
    sign: Option<Asking>,
    next_sign: Instant,
}

/// What a round came to.
enum Step {
    Alive,
    Part(Box<Part>),
    NobodyHears,
    Silent,
    Broken(String),
    TimeOver,
}

impl Conversation {
    fn new(client: Client, subjects: Subjects, asked: Arc<Asked>, ahead: u32) -> Self {
        let (round, after, said, last, began) = (None, None, None, None, None);
        let (rows, ended) = (0, false);
        let (busy, rests_until) = (0, None);
        Self {
            client,
            subjects,
            asked,
            ahead,
            round,
            after,
            rows,
            busy,
            rests_until,
            said,
            last,
            began,
            ended,
        }
    }

    fn events(self) -> BoxStream<'static, Event> {
        stream::unfold(self, |mut conversation| async move {
            if conversation.ended {
                return None;
            }
            let event = conversation.next().await;
            conversation.ended = event.is_last();
            Some((event, conversation))
        })
        .boxed()
    }

    async fn next(&mut self) -> Event {
        loop {
            if let Some(last) = self.last.take() {
                return last;
            }
            let now = Instant::now();
            let began = *self.began.get_or_insert(now);
            let ends = self.asked.within.map(|within| began + within);
            if self.round.is_none() {
                if let Some(until) = self.rests_until.take() {
                    sleep_until(until).await;
                    continue;
                }
                match self.begin(now, ends).await {
                    Ok(round) => self.round = Some(round),
                    Err(event) => return event,
                }
            }
            let Some(round) = self.round.as_mut() else { continue };
            let step = round.step(&self.client, &self.subjects.credit, self.ahead, ends).await;
            if let Some(event) = self.judge(step) {
                return event;
            }
        }
    }

    /// Sends the question, or what is left of it.
    async fn begin(&mut self, now: Instant, ends: Option<Instant>) -> Result<Round, Event> {
        let mut question = self.asked.question.clone();
        if let Some(limit) = self.asked.limit() {
            question.insert("limit".into(), limit.saturating_sub(self.rows).into());
        }
        if let Some(after) = &self.after {
            question.insert("after".into(), after.clone().into());
        }
        let id = identity().ok_or_else(|| Event::Lost("no random numbers".into()))?;
        question.insert("id".into(), id.clone().into());
        question.insert("by".into(), self.asked.by.clone().into());
        question.insert("credit".into(), self.ahead.into());
        if let Some(left) = ends.map(|ends| ends.saturating_duration_since(now)) {
            let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
            question.insert("deadline_ms".into(), left.into());
        }
        let gone = |_| Event::Lost("the connection ended".to_owned());
        let inbox = self.client.new_inbox();
        let parts = self.client.subscribe(inbox.clone()).await.map_err(|_| gone(()))?;
        let bytes = Value::Object(question).to_string().into();
        let sent = self.client.publish_with_reply(self.subjects.question.clone(), inbox, bytes);
        sent.await.map_err(|_| gone(()))?;
        Ok(Round {
            id,
            parts,
            next_part: 0,
            rows: 0,
            taken: 0,
            heard: self.said.is_some(),
            unknown_since: None,
            missed: 0,
            sign: None,
            next_sign: now,
        })
    }

    /// What a step means for whoever listens; `None` goes on.
    fn judge(&mut self, step: Step) -> Option<Event> {
        let heard = self.said.is_some() || self.round.as_ref().is_some_and(|it| it.heard);
        let absent = |absence| if heard { None } else { Some(Event::Absent(absence)) };
        match step {
            Step::Alive => Some(Event::Alive),
            Step::Part(part) => self.part(*part),
            Step::NobodyHears => Some(absent(Absence::Away).unwrap_or_else(|| {
                Event::Lost("it went away in the middle of its answer".to_owned())
            })),
            Step::Silent => Some(absent(Absence::Silent).unwrap_or_else(|| {
                let seconds = (SIGN_WITHIN * SIGNS_MISSED).as_secs();
                Event::Lost(format!("it fell silent for {seconds} s in the middle of its answer"))
            })),
            Step::Broken(why) => Some(Event::Lost(why)),
            Step::TimeOver => Some(absent(Absence::Silent).unwrap_or_else(|| {
                self.cancel();
                let mut said = self.said.take().unwrap_or_default();
                (said.rows, said.partial) = (self.rows, Some(PartialCause::Deadline));
                Event::Done(Box::new(said))
            })),
        }
    }

    fn part(&mut self, part: Part) -> Option<Event> {
        let count = u64::try_from(part.rows.len()).unwrap_or(u64::MAX);
        self.rows = self.rows.saturating_add(count);
        if let Some(round) = &mut self.round {
            round.rows = round.rows.saturating_add(count);
        }
        if let Some(refusal) = part.error {
            let had_rows = self.round.take().is_some_and(|round| round.rows > 0);
            if refusal.code == Code::Busy && !had_rows && self.busy < BUSY_AGAIN {
                self.rests_until = Some(Instant::now() + BUSY_PAUSE * (1 << self.busy));
                self.busy += 1;
                return None;
            }
            // With rows already there it is no refusal of the question.
            let broke_off = self.said.is_some() || self.rows > 0;
            self.last = Some(match broke_off {
                true => Event::Lost(refusal.text),
                false => Event::Refused(refusal),
            });
        } else if let Some(summary) = part.summary {
            let got_on = self.round.take().is_some_and(|round| round.rows > 0);
            self.busy = 0;
            let wants_more = self.asked.limit().is_none_or(|limit| self.rows < limit);
            let next = summary.next.clone().filter(|next| Some(next) != self.after.as_ref());
            let said = joined(self.said.take(), summary, self.rows);
            match next {
                Some(next) if self.asked.whole && wants_more && got_on => {
                    (self.after, self.said) = (Some(next), Some(said));
                }
                _ => self.last = Some(Event::Done(Box::new(said))),
            }
        }
        if part.rows.is_empty() { self.last.take() } else { Some(Event::Rows(part.rows)) }
    }

    fn cancel(&mut self) {
        let Some(round) = self.round.take() else { return };
        let about = serde_json::json!({ "id": round.id }).to_string();
        // Into the client's queue; when that is full, the owner's deadline ends the question.
        let _ = self.client.publish(self.subjects.cancel.clone(), about.into()).now_or_never();
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Round {
    /// Waits for something worth telling.
    async fn step(
        &mut self,
        client: &Client,
        credit: &str,
        ahead: u32,
        ends: Option<Instant>,
    ) -> Step {
        // Whoever comes for more has taken what came before.
        if self.taken > 0 && self.taken >= ahead / 2 {
            let grant = serde_json::json!({ "id": self.id, "parts": self.taken }).to_string();
            if client.publish(credit.to_owned(), grant.into()).await.is_err() {
                return Step::Broken("the connection ended".to_owned());
            }
            self.taken = 0;
        }
        loop {
            let now = Instant::now();
            if self.sign.is_none() && self.next_sign <= now {
                self.sign = Some(sign(client.clone(), credit.to_owned(), &self.id));
            }
            let signed = async {
                match &mut self.sign {
                    Some(sign) => Some(sign.await),
                    None => {
                        sleep_until(self.next_sign).await;
                        None
                    }
                }
            };
            let over = async {
                match ends {
                    Some(ends) => sleep_until(ends).await,
                    None => std::future::pending().await,
                }
            };
            let step = tokio::select! {
                biased;
                message = self.parts.next() => self.message(message),
                signed = signed => signed.and_then(|signed| self.signed(&signed)),
                () = over => Some(Step::TimeOver),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    fn signed(&mut self, sign: &Sign) -> Option<Step> {
        let now = Instant::now();
        self.sign = None;
        self.next_sign = now + SIGN_EVERY;
        let first = !self.heard;
        match sign {
            Sign::NobodyHears => return Some(Step::NobodyHears),
            Sign::None => {
                self.missed += 1;
                self.next_sign = now;
                let away = first || self.missed >= SIGNS_MISSED;
                return away.then_some(Step::Silent);
            }
            Sign::Alive => self.unknown_since = None,
            Sign::Unknown => {
                let since = *self.unknown_since.get_or_insert(now);
                if now.duration_since(since) >= UNKNOWN_FOR {
                    let why = "it no longer knows the question; it was started anew".to_owned();
                    return Some(Step::Broken(why));
                }
            }
        }
        (self.heard, self.missed) = (true, 0);
        first.then_some(Step::Alive)
    }

    fn message(&mut self, message: Option<Message>) -> Option<Step> {
        let Some(message) = message else {
            return Some(Step::Broken("the connection ended".to_owned()));
        };
        if message.status.is_some_and(|status| status.as_u16() == 503) {
            return Some(Step::NobodyHears);
        }
        let broken = |what: &str| Some(Step::Broken(format!("its answer cannot be read: {what}")));
        let part: Part = match serde_json::from_slice(&message.payload) {
            Ok(part) => part,
            Err(error) => return broken(&error.to_string()),
        };
        if part.v > VERSION {
            return broken("it is of a later version; update this program");
        }
        // Who could not read the question does not know its identity.
        if part.id != self.id && !(part.error.is_some() && part.id.is_empty()) {
            return None;
        }
        if part.part != self.next_part {
            let (came, next) = (part.part, self.next_part);
            return broken(&format!("part {came} came where {next} was due"));
        }
        self.next_part += 1;
        self.taken += 1;
        (self.heard, self.missed, self.unknown_since) = (true, 0, None);
        self.next_sign = Instant::now() + SIGN_EVERY;
        Some(Step::Part(Box::new(part)))
    }
}

/// Asks for a sign of life: a grant of nothing is answered by whoever knows the question, and by
/// whoever does not.
fn sign(client: Client, credit: String, id: &str) -> Asking {
    let about = serde_json::json!({ "id": id, "parts": 0 }).to_string();
    Box::pin(async move {
        let asked = client.request(credit, about.into());
        match tokio::time::timeout(SIGN_WITHIN, asked).await {
            Err(_) => Sign::None,
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => Sign::NobodyHears,
            Ok(Err(_)) => Sign::None,
            Ok(Ok(answer)) => {
                let part: Option<Part> = serde_json::from_slice(&answer.payload).ok();
                match part.and_then(|part| part.error) {
                    Some(refusal) if refusal.code == Code::UnknownQuestion => Sign::Unknown,
                    _ => Sign::Alive,
                }
            }
        }
    })
}

/// What an answer says of itself that came in several rounds: the range is that of the first, which
/// asked for the whole of it.
fn joined(before: Option<Summary>, now: Summary, rows: u64) -> Summary {
    let Some(before) = before else { return Summary { rows, ..now } };
    let mut notes = before.notes;
    notes
        .extend(now.notes.iter().filter(|note| !notes.contains(note)).cloned().collect::<Vec<_>>());
    let mut sources = now.sources;
    if let [source] = sources.as_mut_slice() {
        source.rows = rows;
    }
    Summary {
        rows,
        took_ms: before.took_ms + now.took_ms,
        sources,
        coverage: before.coverage.or(now.coverage),
        bytes_read: before.bytes_read.saturating_add(now.bytes_read),
        notes,
        next: now.next,
        partial: now.partial,
    }
}

/// Hard to guess: whoever knows it can cancel.
fn identity() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(tidegate_journal::Epoch(bytes).to_string())
}
