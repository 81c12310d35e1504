//! Samples published again, one message each, into a stream for consumers that know nothing of us.
//!
//! # Invariants
//! - Samples are published in the order in which the hub stored them, and each expects the stream
//!   to end with the one before it. So a message that was lost takes everything behind it with it,
//!   a repeated one is refused, and two who publish at once never double anything.
//! - After any trouble, as after a start, the stream is asked where it stands; nothing is
//!   remembered here but what it said.
//! - At most [`WINDOW`] messages are under way.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use tidegate_journal::{Epoch, frame};
use tidegate_record::Reading;

use super::feed::Feed;
use super::target::{EPOCH, GATEWAY, Place, SEQ, SOURCE, SOURCE_SEQ, Stand};
use super::{Block, Choice, Said, Source, SubjectTemplate, Target};
use crate::hubread::{Progress, ReadError, Start, Stored};
use crate::names::GatewayId;
use crate::subjects;

/// Messages under way: a tenth of a second at ten thousand a second.
const WINDOW: usize = 1024;

/// Samples that may be held back while names of tags are waited for.
const MAX_HELD: usize = 256 * 1024;

/// How often trouble without any progress is borne before a run that does not follow gives up.
const PATIENCE: u32 = 8;

/// The pause after trouble doubles up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Republished {
    /// Messages that the target stored.
    pub published: u64,
    /// Samples that it had already.
    pub known: u64,
}

/// Why nothing is published, or no more.
#[derive(Debug, thiserror::Error)]
pub enum RepublishError {
    /// There is no target.
    #[error(
        "there is no stream {what} ({said}); make one for this alone, with the subjects {subjects}"
    )]
    NoStream {
        /// How it was looked for.
        what: String,
        /// Which subjects it has to take.
        subjects: String,
        /// What the server said.
        said: String,
    },
    /// Somebody else publishes there as well.
    #[error(
        "stream {stream} ends with message {seq} of somebody else; publish into a stream that nothing else is published into"
    )]
    Foreign {
        /// The target.
        stream: String,
        /// Its last message.
        seq: u64,
    },
    /// The target has lost what says where it stood.
    #[error(
        "stream {stream} had {last} messages and holds none, so where it stood is not known; say with --from where to begin"
    )]
    Forgotten {
        /// The target.
        stream: String,
        /// Its last sequence.
        last: u64,
    },
    /// The target fails.
    #[error("stream {stream} cannot be published into: {said}")]
    Target {
        /// The target.
        stream: String,
        /// What the server said.
        said: String,
    },
    /// The record cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl RepublishError {
    /// Whether the same may do later.
    const fn may_pass(&self) -> bool {
        matches!(self, Self::Target { .. } | Self::Read(_))
    }
}

/// A copy of the record with what tells it from another one.
#[derive(Debug, Clone)]
struct Named {
    source: Source,
    name: String,
}

/// Publishes what is meant, up to the end, or for ever.
///
/// # Errors
/// When the target or the record is not to be had.
pub async fn republish(
    source: &Source,
    choice: Choice,
    template: &SubjectTemplate,
    target: &Target,
    follow: bool,
    mut tell: impl FnMut(Told),
) -> Result<Republished, RepublishError> {
    let state = source.reader.state().await?;
    let name = format!("{}@{}", source.reader.stream(), state.created);
    let named = Named { source: source.clone(), name };
    let choice = Arc::new(choice);
    let mut done = Republished::default();
    let (mut pause, mut vain) = (Duration::from_millis(100), 0);
    loop {
        let before = done.published;
        let mut run = Run {
            named: &named,
            choice: &choice,
            template,
            target,
            feeds: HashMap::new(),
            passed: HashMap::new(),
            held: Vec::new(),
            window: Window { target, last: 0, under_way: VecDeque::new() },
            done: &mut done,
            tell: &mut tell,
            progress: Progress::default(),
        };
        let ended = run.run(follow).await;
        run.say();
        let error = match ended {
            Ok(()) => return Ok(done),
            Err(error) if !error.may_pass() => return Err(error),
            Err(error) => error,
        };
        if done.published > before {
            (pause, vain) = (Duration::from_millis(100), 0);
        }
        vain += 1;
        if !follow && vain > PATIENCE {
            return Err(error);
        }
        tell(Told::Trouble(crate::causes::chain(&error)));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What whoever waits may want to know.
#[derive(Debug, Clone)]
pub enum Told {
    /// How far the reading has come.
    Progress(Progress),
    /// What does not stop the publishing for good.
    Trouble(String),
}

/// One run from where the target stands.
struct Run<'a, T> {
    named: &'a Named,
    choice: &'a Arc<Choice>,
    template: &'a SubjectTemplate,
    target: &'a Target,
    feeds: HashMap<GatewayId, Feed>,
    /// The last sample of each epoch that the target has.
    passed: HashMap<Epoch, u64>,
    /// What may be published when every tag before it has its name.
    held: Vec<(GatewayId, Block)>,
    window: Window<'a>,
    done: &'a mut Republished,
    tell: &'a mut T,
    progress: Progress,
}

impl<T: FnMut(Told)> Run<'_, T> {
    async fn run(&mut self, follow: bool) -> Result<(), RepublishError> {
        let mut next = self.begin().await?;
        let from_start = next <= 1;
        let Source { reader, last } = &self.named.source;
        let filter = self.choice.filter();
        loop {
            if !follow && next > *last {
                break;
            }
            let batch = reader.range(&filter, Start::Seq(next), u32::MAX).await?;
            for message in &batch.messages {
                if !follow && message.seq > *last {
                    break;
                }
                self.take(message, from_start).await?;
                next = message.seq.saturating_add(1);
                self.progress.messages += 1;
                self.progress.bytes += message.payload.len() as u64;
                self.progress.share = share(message.seq, *last);
                (self.tell)(Told::Progress(self.progress));
            }
            match batch.next {
                Some(_) => {}
                None if follow => {
                    self.window.settle(0, self.done).await?;
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                None => break,
            }
        }
        self.give(true).await?;
        self.window.settle(0, self.done).await
    }

    /// Asks the target where it stands; returns where in the record to go on.
    async fn begin(&mut self) -> Result<u64, RepublishError> {
        let stream = || self.target.name.clone();
        match self.target.stand().await? {
            Stand::Fresh => self.first().await,
            Stand::Forgotten { last } if self.choice.from.is_some() => {
                self.window.last = last;
                self.first().await
            }
            Stand::Forgotten { last } => Err(RepublishError::Forgotten { stream: stream(), last }),
            Stand::At(place) => {
                self.window.last = place.last;
                if self.is_here(&place).await? {
                    self.passed.insert(place.epoch, place.seq);
                    return Ok(place.source_seq);
                }
                // Another copy, or one that went back: its places say nothing.
                self.passed.extend(self.target.last_of_each(place.last).await?);
                Ok(1)
            }
        }
    }

    /// Where the range begins for the gateway that begins first.
    async fn first(&self) -> Result<u64, RepublishError> {
        let Source { reader, last } = &self.named.source;
        if self.choice.from.is_none() {
            return Ok(1);
        }
        let mut first = last.saturating_add(1);
        let mut gateways = self.choice.named.clone();
        if self.choice.only().is_none() {
            let subjects = reader.counts(subjects::EVERY_FRAMES).await?;
            gateways.extend(subjects.keys().filter_map(|subject| subjects::gateway_of(subject)));
            gateways.retain(|gateway| self.choice.has_gateway(gateway));
            gateways.sort_unstable();
            gateways.dedup();
        }
        for gateway in gateways {
            let choice = self.choice.clone();
            let feed = Feed::open(reader.clone(), gateway, choice, *last, u32::MAX).await?;
            first = first.min(feed.starts_at().unwrap_or(first));
        }
        Ok(first)
    }

    /// Whether this copy has that sample at that place, or nothing that old any more.
    async fn is_here(&self, place: &Place) -> Result<bool, RepublishError> {
        if place.source != self.named.name {
            return Ok(false);
        }
        let subject = subjects::frames(&place.gateway, place.epoch);
        let start = Start::Seq(place.source_seq);
        let batch = self.named.source.reader.range(&subject, start, 1).await?;
        let found = batch.messages.first().filter(|message| message.seq == place.source_seq);
        if let Some(message) = found {
            return Ok(holds(&message.payload, place));
        }
        let state = self.named.source.reader.state().await?.state;
        Ok(state.first_seq > place.source_seq)
    }

    async fn take(&mut self, message: &Stored, from_start: bool) -> Result<(), RepublishError> {
        let Some(gateway) = subjects::gateway_of(&message.subject) else { return Ok(()) };
        if !self.choice.has_gateway(&gateway) {
            return Ok(());
        }
        let feed = self.feeds.entry(gateway.clone()).or_insert_with(|| {
            let (reader, choice) = (self.named.source.reader.clone(), self.choice.clone());
            Feed::behind(reader, gateway.clone(), choice, from_start)
        });
        let mut blocks = Vec::new();
        feed.take(message, &mut blocks).await?;
        self.held.extend(blocks.into_iter().map(|block| (gateway.clone(), block)));
        self.give(false).await
    }

    /// Publishes what is held, unless something before it waits for a name.
    async fn give(&mut self, all: bool) -> Result<(), RepublishError> {
        if self.feeds.values().any(|feed| feed.unpacker.is_waiting()) {
            let held: usize = self.held.iter().map(|(_, block)| block.samples.len()).sum();
            if !all && held < MAX_HELD {
                return Ok(());
            }
            for (gateway, feed) in &mut self.feeds {
                let mut blocks = Vec::new();
                feed.unpacker.pour(true, &mut blocks);
                self.held.extend(blocks.into_iter().map(|block| (gateway.clone(), block)));
            }
        }
        // Those that waited stand before those that came meanwhile.
        self.held.sort_by_key(|(_, block)| block.place);
        for (gateway, block) in std::mem::take(&mut self.held) {
            let feed = self.feeds.get(&gateway);
            let mut payload = String::new();
            for (seq, sample) in block.samples {
                if self.passed.get(&block.epoch).is_some_and(|passed| seq <= *passed) {
                    self.done.known += 1;
                    continue;
                }
                let entry = feed.and_then(|feed| feed.unpacker.entry(block.epoch, sample.tag));
                let reading = Reading { epoch: block.epoch, seq, entry, sample };
                let name = gateway.to_string();
                payload.clear();
                reading.write_json(&mut payload, Some(&name), None);
                let mut headers = HeaderMap::new();
                headers.insert(GATEWAY, name.as_str());
                headers.insert(EPOCH, block.epoch.to_string());
                headers.insert(SEQ, seq.to_string());
                headers.insert(SOURCE, self.named.name.as_str());
                headers.insert(SOURCE_SEQ, block.place.to_string());
                let subject = self.template.subject(&gateway, &reading);
                self.window.put(subject, headers, payload.clone(), self.done).await?;
                self.passed.insert(block.epoch, seq);
            }
        }
        Ok(())
    }

    fn say(&mut self) {
        let mut said = Said::default();
        for feed in self.feeds.values_mut() {
            feed.unpacker.said().take().into_iter().for_each(|line| said.say(line));
        }
        said.take().into_iter().for_each(|line| (self.tell)(Told::Trouble(line)));
    }
}

/// Messages under way, each of which the target takes only behind the one before it.
struct Window<'a> {
    target: &'a Target,
    /// What the target ends with when everything under way has arrived.
    last: u64,
    under_way: VecDeque<(u64, PublishAckFuture)>,
}

impl Window<'_> {
    async fn put(
        &mut self,
        subject: String,
        headers: HeaderMap,
        payload: String,
        done: &mut Republished,
    ) -> Result<(), RepublishError> {
        self.settle(WINDOW - 1, done).await?;
        let message = PublishMessage::build()
            .headers(headers)
            .payload(payload.into())
            .expected_stream(&self.target.name)
            .expected_last_sequence(self.last);
        let sent = self.target.context.send_publish(subject, message).await;
        self.last += 1;
        self.under_way.push_back((self.last, sent.map_err(|error| self.failed(&error))?));
        Ok(())
    }

    /// Waits until at most so many messages are under way.
    async fn settle(&mut self, most: usize, done: &mut Republished) -> Result<(), RepublishError> {
        while self.under_way.len() > most {
            let Some((expected, ack)) = self.under_way.pop_front() else { return Ok(()) };
            let ack = ack.await.map_err(|error| self.failed(&error))?;
            if ack.sequence != expected || ack.stream != self.target.name {
                let (stream, seq) = (self.target.name.clone(), ack.sequence);
                return Err(RepublishError::Foreign { stream, seq });
            }
            done.published += 1;
        }
        Ok(())
    }

    fn failed(&self, error: &async_nats::jetstream::context::PublishError) -> RepublishError {
        let said = match error.kind() {
            PublishErrorKind::WrongLastSequence => {
                "it does not end with what was published last".to_owned()
            }
            _ => crate::causes::chain(error),
        };
        RepublishError::Target { stream: self.target.name.clone(), said }
    }
}

/// Whether one of a message's frames has the sample.
fn holds(mut rest: &[u8], place: &Place) -> bool {
    while let Ok(found) = frame::decode(rest) {
        let header = &found.header;
        let seqs = header.first_seq..header.next_seq();
        if header.epoch == place.epoch && seqs.contains(&place.seq) {
            return true;
        }
        rest = rest.get(found.bytes.len()..).unwrap_or_default();
    }
    false
}

#[expect(clippy::cast_precision_loss, reason = "a share for a person")]
fn share(place: u64, last: u64) -> f64 {
    (place as f64 / last.max(1) as f64).min(1.0)
}
