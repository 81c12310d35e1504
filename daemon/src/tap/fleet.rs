//! Many gateways side by side, merged in the order of time.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tidegate_record::{ClockBook, Reading};
use tidegate_translator::Timestamp;

use super::Choice;
use super::feed::Feed;
use super::lane::Lane;
use crate::hubread::{Progress, ReadError, RecordReader, Start, Stored};
use crate::names::GatewayId;
use crate::sheet::SheetError;
use crate::subjects;

/// Bytes of messages that are held for all gateways and copies together.
const HELD: usize = 256 << 20;

/// Less would be a question for each message.
const LEAST_PORTION: u32 = 64 * 1024;

/// Gateways that are asked for at once.
const AT_ONCE: usize = 16;

/// How often a reader that follows looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a copy that lags is given before a reader that follows looks a second time: 0.6 s were
/// measured after a replica had been stopped.
const SETTLE: Duration = Duration::from_secs(1);

/// Where samples go.
pub trait Sink {
    /// Takes a sample.
    ///
    /// # Errors
    /// When there is no place for it; then the reading ends.
    fn sample(
        &mut self,
        gateway: &GatewayId,
        reading: &Reading<'_>,
        corrected: Option<Timestamp>,
    ) -> Result<(), SheetError>;

    /// Nothing more is there at present.
    ///
    /// # Errors
    /// When what was taken cannot be handed on.
    fn caught_up(&mut self) -> Result<(), SheetError>;

    /// How far the reading has come.
    fn progress(&mut self, progress: Progress);
}

/// A copy of the record.
#[derive(Debug, Clone)]
pub struct Source {
    /// What reads it.
    pub reader: RecordReader,
    /// The last message that is there; what comes later is only read by who follows.
    pub last: u64,
}

/// The reading ended early.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A hub cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was read has no place.
    #[error(transparent)]
    Sheet(#[from] SheetError),
}

/// Gateways that are read together.
#[derive(Debug)]
pub struct Fleet {
    choice: Arc<Choice>,
    sources: Vec<Source>,
    lanes: Vec<Lane>,
    by_time: bool,
    progress: Progress,
}

impl Fleet {
    /// Finds the gateways that are meant, and where the reading of each begins.
    ///
    /// # Errors
    /// When a hub cannot be read.
    pub async fn open(choice: Choice, sources: Vec<Source>) -> Result<Self, ReadError> {
        let choice = Arc::new(choice);
        let mut found: BTreeSet<GatewayId> = choice.named.iter().cloned().collect();
        if choice.only().is_none() {
            for source in &sources {
                let subjects = source.reader.counts(subjects::EVERY_FRAMES).await?;
                let gateways = subjects.keys().filter_map(|subject| subjects::gateway_of(subject));
                found.extend(gateways.filter(|gateway| choice.has_gateway(gateway)));
            }
        }
        let feeds = found.len().saturating_mul(sources.len()).max(1);
        let bytes = u32::try_from(HELD / feeds).unwrap_or(u32::MAX).max(LEAST_PORTION);
        let by_time = choice.only().is_none();
        let lane = |gateway: GatewayId| {
            let (choice, sources) = (&choice, &sources);
            async move {
                let mut arms = Vec::with_capacity(sources.len());
                for Source { reader, last } in sources {
                    let (reader, choice) = (reader.clone(), choice.clone());
                    arms.push(Feed::open(reader, gateway.clone(), choice, *last, bytes).await?);
                }
                Ok::<_, ReadError>(Lane::new(gateway, arms, by_time))
            }
        };
        let mut opened = futures_util::stream::iter(found).map(lane).buffered(AT_ONCE);
        let mut lanes = Vec::new();
        while let Some(lane) = opened.next().await {
            lanes.push(lane?);
        }
        drop(opened);
        Ok(Self { choice, sources, lanes, by_time, progress: Progress::default() })
    }

    /// The gateways.
    pub fn gateways(&self) -> impl Iterator<Item = &GatewayId> {
        self.lanes.iter().map(|lane| &lane.gateway)
    }

    /// Reads everything once for what it says of the gateways' clocks, so that times can be
    /// corrected.
    ///
    /// # Errors
    /// When a hub cannot be read.
    pub async fn learn_clocks(&mut self) -> Result<(), ReadError> {
        for lane in &mut self.lanes {
            let mut clocks = ClockBook::new();
            for Source { reader, last } in &self.sources {
                let subject = subjects::all_frames(&lane.gateway);
                let mut next = Some(1);
                while let Some(from) = next.filter(|from| from <= last) {
                    let batch = reader.batch(&subject, from).await?;
                    batch.messages.iter().for_each(|stored| observe(&mut clocks, &stored.payload));
                    next = batch.next;
                }
            }
            lane.clocks = Some(clocks);
        }
        Ok(())
    }

    /// Hands everything that was there to `sink`, in the order of time.
    ///
    /// # Errors
    /// When a hub cannot be read, or the sink takes no more.
    pub async fn pour(&mut self, sink: &mut impl Sink) -> Result<(), FleetError> {
        let mut heads = BinaryHeap::new();
        for at in 0..self.lanes.len() {
            if let Some(time) = self.fill(at, sink).await? {
                heads.push(Reverse((time, at)));
            }
        }
        while let Some(Reverse((_, at))) = heads.pop() {
            let until = heads.peek().map(|Reverse((time, _))| *time);
            if let Some(lane) = self.lanes.get_mut(at) {
                lane.give(until, sink)?;
            }
            if let Some(time) = self.fill(at, sink).await? {
                heads.push(Reverse((time, at)));
            }
        }
        Ok(())
    }

    /// Reads until the lane's next sample is known: the time at which it was acquired.
    async fn fill(
        &mut self,
        at: usize,
        sink: &mut impl Sink,
    ) -> Result<Option<Timestamp>, ReadError> {
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(None) };
        if let Some(time) = lane.time() {
            return Ok(Some(time));
        }
        loop {
            for (arm, source) in lane.arms.iter_mut().zip(&self.sources) {
                while arm.queue.is_empty() && !arm.ended {
                    let step = arm.feed.step(&mut arm.ready).await?;
                    arm.queue.extend(arm.ready.drain(..).filter(|block| !block.samples.is_empty()));
                    arm.ended = step.is_none();
                    if let Some(step) = step {
                        self.progress.messages += 1;
                        self.progress.bytes += step.bytes;
                        self.progress.share = share(step.place, source.last);
                        sink.progress(self.progress);
                    }
                }
            }
            if lane.turn() {
                return Ok(lane.time());
            }
            if lane.arms.iter().all(|arm| arm.ended && arm.queue.is_empty()) {
                return Ok(None);
            }
        }
    }

    /// Goes on with what arrives, until the sink takes no more.
    ///
    /// # Errors
    /// When a hub cannot be read, or the sink takes no more.
    pub async fn follow(&mut self, sink: &mut impl Sink) -> Result<(), FleetError> {
        let filter = self.choice.filter();
        sink.caught_up()?;
        let mut next: Vec<u64> = if self.choice.only().is_some() {
            let arms = self.lanes.first().into_iter().flat_map(|lane| &lane.arms);
            arms.map(|arm| arm.feed.read_to().saturating_add(1)).collect()
        } else {
            tokio::time::sleep(SETTLE).await;
            for arm in self.lanes.iter_mut().flat_map(|lane| &mut lane.arms) {
                arm.feed.again();
                arm.ended = false;
            }
            self.pour(sink).await?;
            sink.caught_up()?;
            self.sources.iter().map(|source| source.last.saturating_add(1)).collect()
        };
        let mut lanes: HashMap<GatewayId, usize> =
            self.lanes.iter().enumerate().map(|(at, lane)| (lane.gateway.clone(), at)).collect();
        loop {
            let mut more = false;
            for (copy, next) in next.iter_mut().enumerate() {
                let Some(source) = self.sources.get(copy) else { continue };
                let batch = source.reader.range(&filter, Start::Seq(*next), u32::MAX).await?;
                if let Some(last) = batch.messages.last() {
                    *next = last.seq.saturating_add(1);
                }
                more |= batch.next.is_some();
                for message in &batch.messages {
                    self.arrived(copy, message, &mut lanes).await?;
                }
            }
            self.give_all(sink)?;
            if !more {
                sink.caught_up()?;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Takes a message in that came while following.
    async fn arrived(
        &mut self,
        copy: usize,
        message: &Stored,
        lanes: &mut HashMap<GatewayId, usize>,
    ) -> Result<(), ReadError> {
        let Some(gateway) = subjects::gateway_of(&message.subject) else { return Ok(()) };
        if !self.choice.has_gateway(&gateway) {
            return Ok(());
        }
        let at = *lanes.entry(gateway.clone()).or_insert_with(|| {
            let feed = |source: &Source| {
                Feed::behind(source.reader.clone(), gateway.clone(), self.choice.clone(), false)
            };
            let arms = self.sources.iter().map(feed).collect();
            let mut lane = Lane::new(gateway.clone(), arms, self.by_time);
            // What arrives is all that there is.
            lane.arms.iter_mut().for_each(|arm| arm.ended = true);
            self.lanes.push(lane);
            self.lanes.len() - 1
        });
        let Some(arm) = self.lanes.get_mut(at).and_then(|lane| lane.arms.get_mut(copy)) else {
            return Ok(());
        };
        arm.feed.take(message, &mut arm.ready).await?;
        arm.queue.extend(arm.ready.drain(..));
        Ok(())
    }

    /// Gives what is there.
    fn give_all(&mut self, sink: &mut impl Sink) -> Result<(), SheetError> {
        let mut heads = BinaryHeap::new();
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            if lane.turn() {
                heads.extend(lane.time().map(|time| Reverse((time, at))));
            }
        }
        while let Some(Reverse((_, at))) = heads.pop() {
            let until = heads.peek().map(|Reverse((time, _))| *time);
            let Some(lane) = self.lanes.get_mut(at) else { continue };
            lane.give(until, sink)?;
            if lane.turn() {
                heads.extend(lane.time().map(|time| Reverse((time, at))));
            }
        }
        Ok(())
    }

    /// What a person should know of the reading so far.
    pub fn said(&mut self) -> Vec<String> {
        let arms = self.lanes.iter_mut().flat_map(|lane| &mut lane.arms);
        arms.flat_map(|arm| arm.feed.unpacker.said().take()).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for a person")]
fn share(place: u64, last: u64) -> f64 {
    (place as f64 / last.max(1) as f64).min(1.0)
}

/// Takes in what the frames of a message say of the clock.
fn observe(clocks: &mut ClockBook, mut rest: &[u8]) {
    use tidegate_journal::{FrameError, frame};
    while !rest.is_empty() {
        let length = match frame::decode(rest) {
            Ok(found) => {
                clocks.observe(&found);
                found.bytes.len()
            }
            Err(FrameError::NeedsNewer { length, .. }) => length,
            Err(_) => return,
        };
        rest = rest.get(length..).unwrap_or_default();
    }
}
