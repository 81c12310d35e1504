//! One device that is fed by messages: hears, records, answers.
//!
//! # Invariants
//! - Nothing here waits for the disk but what must be in the record before the first sample: the
//!   numbers of new tags.
//! - Every message counts among those that wait until its receipt is given, and their number is
//!   bounded.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::{Client, Message};
use futures_util::{FutureExt as _, StreamExt as _, stream::SelectAll};
use tidegate_ingest::{
    Answer, Code, DeviceSpec, Known, Message as Parcel, Reading, Refused, WhenFull, read,
};
use tidegate_opcua::{FoundTag, TagBook};
use tidegate_translator::{
    Clock, DeviceState, LossCause, Missed, Restraint, Sample, Sink as _, TagId, TagPath, Value,
    ValueKind,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::door::Door;
use super::reply::is_answerable;
use super::seen::{Ids, Seen, in_the_record};
use super::{ID_HEADER, TIME_HEADER};
use crate::causes::chain;
use crate::config::ingest::ids_path;
use crate::names::GatewayId;
use crate::recorder::{Handle, Ingress, Place, Receipt};

/// Messages that are looked at before their new tags get numbers together.
const AT_ONCE: usize = 256;
/// How often the state is told.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// How long the end waits for the disk and for answers.
const DRAIN: Duration = Duration::from_secs(2);
/// Between attempts to read what was recorded.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// What a device needs of the daemon.
pub(crate) struct Feed {
    pub(crate) spec: Arc<DeviceSpec>,
    pub(crate) gateway: GatewayId,
    pub(crate) ids: Arc<Ids>,
    pub(crate) door: Door,
    pub(crate) recorder: Handle,
    pub(crate) ingress: Arc<Ingress>,
    pub(crate) book: Arc<dyn TagBook>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// An answer and where it goes.
type Reply = (String, Answer);

impl Feed {
    /// Hears and records until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        if let Some(subject) = self.spec.subjects.iter().find(|it| !self.door.permits(it)) {
            let why = format!("the leaf does not permit {subject:?} yet; restart tidegate");
            tracing::error!("{why}");
            self.tell_until(DeviceState::ConfigurationError, &why, stop.cancelled()).await;
            return;
        }
        let client = async {
            let mut client = self.door.client.clone();
            client.wait_for(Option::is_some).await.ok()?.clone()
        };
        let why = "the leaf is awaited".to_owned();
        let client = tokio::select! {
            () = stop.cancelled() => return,
            client = self.tell_until(DeviceState::Connecting, &why, client) => client,
        };
        // Whoever made the connection has ended, and the daemon with it.
        let Some(client) = client else { return stop.cancelled().await };
        let seen = self.ids.of(&self.spec.name);
        seen.resize(self.spec.remember_ids);
        let why = "identifiers are looked for in the record".to_owned();
        let begin = self.begin(&seen);
        let tags = tokio::select! {
            () = stop.cancelled() => return,
            tags = self.tell_until(DeviceState::Connecting, &why, begin) => tags,
        };
        let (answers, asked) = mpsc::channel(2 * self.spec.max_waiting + AT_ONCE);
        let hearing = Hearing {
            feed: &self,
            seen,
            tags,
            answers,
            waiting: Arc::default(),
            restraint: Restraint::new(std::time::Instant::now()),
            dropped: self.door.dropped(),
            told: Instant::now(),
        };
        hearing.run(client, asked, stop).await;
    }

    fn name(&self) -> Arc<str> {
        self.spec.name.as_str().into()
    }

    /// Tells a state again and again while something lasts.
    async fn tell_until<T>(
        &self,
        state: DeviceState,
        why: &str,
        until: impl Future<Output = T>,
    ) -> T {
        let mut until = std::pin::pin!(until);
        let mut every = tokio::time::interval(TELL_EVERY);
        loop {
            tokio::select! {
                done = &mut until => return done,
                _ = every.tick() => {
                    self.ingress.state(&self.name(), state, Some(why.to_owned()));
                }
            }
        }
    }

    /// Numbers the tag of identifiers, and reads those that are recorded.
    async fn begin(&self, seen: &Seen) -> Tags {
        let mut tags = Tags::default();
        if self.spec.remember_ids == 0 {
            return tags;
        }
        let Some(path) = ids_path(&self.spec) else { return tags };
        tags.found.push(FoundTag {
            path,
            kind: ValueKind::Text,
            unit: None,
            address: ID_HEADER.into(),
            subtree: 0,
        });
        let numbers = self.book.define(self.name(), tags.found.clone()).await;
        tags.ids = numbers.first().copied().flatten();
        let Some(tag) = tags.ids.filter(|_| !seen.is_loaded()) else { return tags };
        // An error means that the recorder has ended, and the process with it.
        let _ = self.recorder.opened().await;
        loop {
            let Some(end) = self.recorder.recorded_before() else {
                seen.learn(Vec::new());
                return tags;
            };
            let (reader, back) = (self.recorder.reader(), self.spec.remember_for);
            let most = self.spec.remember_ids;
            let look = move || in_the_record(&reader, tag, end, back, most);
            match tokio::task::spawn_blocking(look).await {
                Ok(Ok(found)) => {
                    tracing::debug!(identifiers = found.len(), "found in the record");
                    seen.learn(found);
                    return tags;
                }
                // Nothing is heard before: a repeat would be taken for new.
                Ok(Err(error)) => tracing::error!("identifiers: {}; tried again", chain(&error)),
                Err(error) => tracing::error!("identifiers: {}; tried again", chain(&error)),
            }
            tokio::time::sleep(READ_AGAIN).await;
        }
    }
}

/// The tags that messages made.
#[derive(Default)]
struct Tags {
    /// In the order in which they were found; that of identifiers first.
    found: Vec<FoundTag>,
    /// `None` for a path that is another's.
    numbers: HashMap<TagPath, Option<TagId>>,
    ids: Option<TagId>,
}

/// One run of a device.
struct Hearing<'f> {
    feed: &'f Feed,
    seen: Arc<Seen>,
    tags: Tags,
    answers: mpsc::Sender<Reply>,
    waiting: Arc<AtomicUsize>,
    restraint: Restraint<std::time::Instant>,
    dropped: u64,
    told: Instant,
}

/// A message that was read.
struct Read {
    reply: Option<String>,
    subject: Box<str>,
    reading: Result<Reading, Refused>,
}

impl Hearing<'_> {
    async fn run(
        mut self,
        client: Client,
        mut asked: mpsc::Receiver<Reply>,
        stop: CancellationToken,
    ) {
        let mut messages = SelectAll::new();
        for subject in self.feed.spec.subjects.iter() {
            match client.subscribe(subject.to_string()).await {
                Ok(subscriber) => messages.push(subscriber),
                Err(error) => {
                    tracing::error!("{}", chain(&error));
                    return;
                }
            }
        }
        // What is published from now on is heard.
        let _ = client.flush().await;
        let mut every = tokio::time::interval(TELL_EVERY);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(reply) = asked.recv() => answer(&client, reply).await,
                _ = every.tick() => self.tell(),
                Some(first) = messages.next() => {
                    let mut some = vec![first];
                    while some.len() < AT_ONCE
                        && let Some(Some(next)) = messages.next().now_or_never()
                    {
                        some.push(next);
                    }
                    self.hear(some).await;
                }
            }
        }
        for subscriber in messages.iter_mut() {
            let _ = subscriber.unsubscribe().await;
        }
        let end = async {
            // What was delivered already is recorded.
            while let Some(message) = messages.next().await {
                self.hear(vec![message]).await;
            }
            while self.waiting.load(Ordering::Acquire) > 0 {
                let Some(reply) = asked.recv().await else { break };
                answer(&client, reply).await;
            }
            while let Ok(reply) = asked.try_recv() {
                answer(&client, reply).await;
            }
            let _ = client.flush().await;
        };
        if tokio::time::timeout(DRAIN, end).await.is_err() {
            tracing::warn!("ended while messages waited for the disk; their senders try again");
        }
    }

    /// Tells how it is, and what the connection had to drop.
    fn tell(&mut self) {
        let (state, why) = if *self.feed.door.connected.borrow() {
            (DeviceState::Live, None)
        } else {
            (DeviceState::Down, Some("the leaf is away".to_owned()))
        };
        self.feed.ingress.state(&self.feed.name(), state, why);
        let dropped = self.feed.door.dropped();
        if std::mem::replace(&mut self.dropped, dropped) < dropped {
            tracing::error!("messages came faster than they could be taken; some are lost");
            let now = self.feed.clock.now();
            let ago = i64::try_from(self.told.elapsed().as_nanos()).unwrap_or(i64::MAX);
            self.feed.ingress.missed(Missed {
                device: self.feed.name(),
                tag: None,
                cause: LossCause::QueueOverflow,
                from: tidegate_translator::Timestamp(now.0.saturating_sub(ago)),
                to: now,
                count: None,
            });
        }
        self.told = Instant::now();
    }

    async fn hear(&mut self, messages: Vec<Message>) {
        let mut all: Vec<Read> = Vec::with_capacity(messages.len());
        for message in &messages {
            let reply = message.reply.as_ref().map(ToString::to_string);
            let reply = reply.filter(|reply| {
                let fits = is_answerable(reply, &self.feed.gateway);
                if !fits {
                    self.warn(|| format!("no answer to {reply:?}, which is no inbox"));
                }
                fits
            });
            let header = |name: &str| Some(message.headers.as_ref()?.get(name)?.as_str());
            let parcel = Parcel {
                subject: message.subject.as_str(),
                payload: &message.payload,
                id: header(ID_HEADER),
                time: header(TIME_HEADER),
            };
            let reading = read(&self.feed.spec, &parcel);
            all.push(Read { reply, subject: parcel.subject.into(), reading });
        }
        self.number(&all).await;
        for read in all {
            self.take(read);
        }
    }

    /// Gives the tags that nobody knew their numbers, all of them together.
    async fn number(&mut self, all: &[Read]) {
        let before = self.tags.found.len();
        for read in all {
            let Ok(reading) = &read.reading else { continue };
            for part in &reading.parts {
                let room = self.tags.numbers.len() < self.feed.spec.max_tags;
                if self.tags.numbers.contains_key(&part.path) || !room {
                    continue;
                }
                self.tags.numbers.insert(part.path.clone(), None);
                self.tags.found.push(FoundTag {
                    path: part.path.clone(),
                    kind: part.value.kind(),
                    unit: None,
                    address: (&*read.subject).into(),
                    subtree: 0,
                });
            }
        }
        if self.tags.found.len() == before {
            return;
        }
        let found = self.tags.found.clone();
        let numbers = self.feed.book.define(self.feed.name(), found).await;
        for (tag, number) in self.tags.found.iter().zip(numbers) {
            if let Some(known) = self.tags.numbers.get_mut(&tag.path) {
                *known = number;
            }
        }
    }

    fn take(&mut self, read: Read) {
        let Read { reply, subject, reading } = read;
        let reading = match reading {
            Ok(reading) => reading,
            Err(Refused { code, why }) => return self.refuse(reply, &subject, code, why),
        };
        let now = self.feed.clock.now();
        let mut samples = Vec::with_capacity(reading.parts.len() + 1);
        for part in reading.parts {
            let Some(Some(tag)) = self.tags.numbers.get(&part.path) else {
                let why = format!(
                    "no tag for {:?}: its path is taken, or there are {} already",
                    part.path.as_str(),
                    self.feed.spec.max_tags
                );
                return self.refuse(reply, &subject, Code::NoTag, why);
            };
            samples.push(Sample {
                tag: *tag,
                acquired: now,
                source: reading.source,
                server: None,
                status: 0,
                quality: part.quality,
                value: part.value,
            });
        }
        let id: Option<Arc<str>> =
            reading.id.map(Arc::from).filter(|_| self.feed.spec.remember_ids > 0);
        if let Some(id) = &id {
            match self.seen.begin(id) {
                Known::Nothing => {}
                Known::Recorded(place) => return self.answer(reply, recorded(place, true)),
                Known::Underway => {
                    if let Some(reply) = reply
                        && !self.seen.wait(id, reply.clone())
                    {
                        self.answer(Some(reply), refused(Code::Busy, "it is on its way already"));
                    }
                    return;
                }
            }
            if let Some(tag) = self.tags.ids {
                samples.push(Sample::good(tag, now, Value::Text((**id).into())));
            }
        }
        self.record(reply, &subject, id, samples);
    }

    fn record(
        &mut self,
        reply: Option<String>,
        subject: &str,
        id: Option<Arc<str>>,
        samples: Vec<Sample>,
    ) {
        let spec = &self.feed.spec;
        let count = u64::try_from(samples.len() - usize::from(id.is_some())).unwrap_or(1);
        let now = self.feed.clock.now();
        let missed = Missed {
            device: self.feed.name(),
            tag: None,
            cause: LossCause::QueueOverflow,
            from: now,
            to: now,
            count: Some(count),
        };
        let is_full = self.waiting.fetch_add(1, Ordering::AcqRel) >= spec.max_waiting;
        let within = reply.as_ref().map(|_| spec.answer_within);
        let is_lost = reply.is_none() || spec.when_full == WhenFull::Drop;
        let receipt = {
            let (seen, answers) = (Arc::clone(&self.seen), self.answers.clone());
            let (waiting, ingress) = (Arc::clone(&self.waiting), Arc::clone(&self.feed.ingress));
            let (id, reply, missed) = (id.clone(), reply.clone(), missed.clone());
            Receipt::new(move |outcome: Result<Place, LossCause>| {
                let also = id.map(|id| seen.settle(&id, outcome.ok())).unwrap_or_default();
                let first = match outcome {
                    Ok(place) => recorded(place, false),
                    Err(LossCause::NotRunning) => refused(Code::Stopping, "the gateway ends"),
                    Err(cause) => refused(Code::NotRecorded, cause.word()),
                };
                let again = match outcome {
                    Ok(place) => recorded(place, true),
                    Err(_) => first.clone(),
                };
                if let Err(cause) = outcome
                    && is_lost
                {
                    ingress.missed(Missed { cause, ..missed });
                }
                // There is room for as many as may wait; who hears nothing asks again.
                if let Some(reply) = reply {
                    let _ = answers.try_send((reply, first.clone()));
                }
                for reply in also {
                    let _ = answers.try_send((reply, again.clone()));
                }
                waiting.fetch_sub(1, Ordering::AcqRel);
            })
        };
        let taken = if is_full {
            receipt.discard();
            false
        } else {
            self.feed.ingress.accept(samples, receipt, within).is_ok()
        };
        if taken {
            return;
        }
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        let also = id.map(|id| self.seen.settle(&id, None)).unwrap_or_default();
        let (code, why) = match spec.when_full {
            WhenFull::Refuse => (Code::Busy, "too much waits for the disk"),
            WhenFull::Drop => (Code::Dropped, "too much waited for the disk; it is lost"),
        };
        if is_lost {
            self.warn(|| format!("a message on {subject:?} is lost: {why}"));
            self.feed.ingress.missed(missed);
        }
        for reply in also.into_iter().chain(reply) {
            self.answer(Some(reply), refused(code, why));
        }
    }

    /// A message that can never be recorded as it is. Who waits for an answer knows it; otherwise it
    /// is a loss.
    fn refuse(&mut self, reply: Option<String>, subject: &str, code: Code, why: String) {
        self.warn(|| format!("a message on {subject:?} is refused: {why}"));
        if reply.is_none() {
            let now = self.feed.clock.now();
            self.feed.ingress.missed(Missed {
                device: self.feed.name(),
                tag: None,
                cause: match code {
                    Code::TooLarge => LossCause::TooLarge,
                    _ => LossCause::Unusable,
                },
                from: now,
                to: now,
                count: Some(1),
            });
        }
        self.answer(reply, refused(code, &why));
    }

    fn answer(&self, reply: Option<String>, answer: Answer) {
        // Who hears nothing asks again.
        if let Some(reply) = reply {
            let _ = self.answers.try_send((reply, answer.clone()));
        }
    }

    fn warn(&mut self, text: impl FnOnce() -> String) {
        if self.restraint.lets_through(std::time::Instant::now()) {
            let left_out = self.restraint.take_left_out();
            tracing::warn!(left_out, "{}", text());
        }
    }
}

async fn answer(client: &Client, (reply, answer): Reply) {
    // A connection that is away drops nothing: it waits, and who hears nothing asks again.
    if let Err(error) = client.publish(reply, answer.json().into()).await {
        tracing::debug!("no answer: {}", chain(&error));
    }
}

fn recorded(place: Place, duplicate: bool) -> Answer {
    Answer::Recorded { epoch: place.epoch.to_string(), seq: place.seq, duplicate }
}

fn refused(code: Code, why: &str) -> Answer {
    Answer::Refused { code, why: why.to_owned() }
}
