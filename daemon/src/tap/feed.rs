//! Reading one gateway's messages from one copy, portion by portion.

use std::sync::Arc;

use super::{Block, Choice, Unpacker};
use crate::hubread::{ReadError, RecordReader, Start, Stored};
use crate::names::GatewayId;
use crate::subjects;

const HOUR: i64 = 3_600_000_000_000;

/// A gateway repeats all names of its tags once a day.
const NAMES: i64 = 27 * HOUR;

/// How much a hub's clock and a gateway's may differ when a range is looked for by the time at
/// which it was stored.
const CLOCKS: i64 = HOUR;

/// One gateway at one copy.
#[derive(Debug)]
pub(super) struct Feed {
    reader: RecordReader,
    subject: String,
    /// Where to go on; `None` at the end.
    next: Option<Start>,
    /// The last message that is read.
    last: u64,
    /// How much is read at once.
    bytes: u32,
    learned: Learned,
    /// Read and not taken in yet, the last one first.
    messages: Vec<Stored>,
    read_to: u64,
    pub(super) unpacker: Unpacker,
}

/// One message that was taken in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) place: u64,
    pub(super) bytes: u64,
}

/// How far back the names of tags were looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Learned {
    Nothing,
    Day,
    Everything,
}

impl Feed {
    /// A feed that reads up to `last`, beginning where the range may begin.
    pub(super) async fn open(
        reader: RecordReader,
        gateway: GatewayId,
        choice: Arc<Choice>,
        last: u64,
        bytes: u32,
    ) -> Result<Self, ReadError> {
        let subject = subjects::all_frames(&gateway);
        let from = choice.from;
        let next = Some(Start::Seq(1));
        let unpacker = Unpacker::new(gateway, choice);
        let learned = Learned::Everything;
        let messages = Vec::new();
        let read_to = 0;
        let mut feed =
            Self { reader, subject, next, last, bytes, learned, messages, read_to, unpacker };
        if let Some(from) = from
            && let Some(start) = feed.start_of(from).await?
        {
            (feed.next, feed.learned) = (start, Learned::Nothing);
            // What comes later is behind what was there.
            if start.is_none() {
                feed.read_to = last;
            }
        }
        Ok(feed)
    }

    /// A feed that is given its messages, at this place and later.
    pub(super) fn behind(
        reader: RecordReader,
        gateway: GatewayId,
        choice: Arc<Choice>,
        from_start: bool,
    ) -> Self {
        let subject = subjects::all_frames(&gateway);
        let learned = if from_start { Learned::Everything } else { Learned::Nothing };
        let unpacker = Unpacker::new(gateway, choice);
        let (messages, read_to) = (Vec::new(), 0);
        let (next, last, bytes) = (None, u64::MAX, u32::MAX);
        Self { reader, subject, next, last, bytes, learned, messages, read_to, unpacker }
    }

    /// Where a range may begin by the time at which the hub stored it; `None` where that says
    /// nothing, because the gateway's clock may have run ahead of the hub's.
    async fn start_of(&self, from: i64) -> Result<Option<Option<Start>>, ReadError> {
        let start = Start::StoredAt(from.saturating_sub(CLOCKS));
        let batch = self.reader.range(&self.subject, start, 1).await?;
        if let Some(first) = batch.messages.first() {
            let sound = walls(first).next().is_some_and(|(begin, _)| begin < from);
            return Ok(sound.then_some(Some(Start::Seq(first.seq))));
        }
        // Nothing was stored since: nothing is meant, unless the clock ran ahead.
        let last = self.reader.last_of(std::slice::from_ref(&self.subject)).await?;
        let ahead = last.iter().flat_map(walls).any(|(_, end)| end >= from);
        Ok((!ahead).then_some(None))
    }

    /// Where the reading begins; `None` when nothing is meant.
    pub(super) const fn starts_at(&self) -> Option<u64> {
        match self.next {
            Some(Start::Seq(seq)) => Some(seq),
            _ => None,
        }
    }

    /// Takes the next message in, if need be with others read together, and appends what is in it;
    /// `None` at the end, where what waited for names is given without.
    pub(super) async fn step(&mut self, out: &mut Vec<Block>) -> Result<Option<Step>, ReadError> {
        while self.messages.is_empty() {
            let Some(from) = self.next else {
                self.unpacker.pour(true, out);
                return Ok(None);
            };
            let batch = self.reader.range(&self.subject, from, self.bytes).await?;
            self.next = batch.next.filter(|next| *next <= self.last).map(Start::Seq);
            let last = self.last;
            self.messages = batch.messages;
            self.messages.retain(|message| message.seq <= last);
            self.messages.reverse();
        }
        let Some(message) = self.messages.pop() else { return Ok(None) };
        self.read_to = message.seq;
        self.take(&message, out).await?;
        if self.unpacker.is_past() {
            self.next = None;
            self.messages.clear();
        }
        Ok(Some(Step { place: message.seq, bytes: message.payload.len() as u64 }))
    }

    /// Where messages would be that a copy which lags did not have yet.
    pub(super) const fn again(&mut self) {
        if !self.unpacker.is_past() {
            self.next = Some(Start::Seq(self.read_to.saturating_add(1)));
        }
    }

    /// The place of the last message that was read; 0 for none.
    pub(super) const fn read_to(&self) -> u64 {
        self.read_to
    }

    /// Takes one message in. Where its tags have no names yet, what stands before it is asked.
    pub(super) async fn take(
        &mut self,
        message: &Stored,
        out: &mut Vec<Block>,
    ) -> Result<(), ReadError> {
        self.unpacker.message(message.seq, &message.payload, out);
        while self.unpacker.is_waiting() && self.learned != Learned::Everything {
            let (start, learned) = match (self.learned, stored_at(message)) {
                (Learned::Nothing, Some(at)) => {
                    (Start::StoredAt(at.saturating_sub(NAMES)), Learned::Day)
                }
                _ => (Start::Seq(1), Learned::Everything),
            };
            self.learned = learned;
            self.learn(start, message.seq).await?;
            self.unpacker.pour(false, out);
        }
        Ok(())
    }

    /// Takes in the names of tags from there up to a place.
    async fn learn(&mut self, start: Start, end: u64) -> Result<(), ReadError> {
        let mut next = Some(start);
        while let Some(from) = next {
            let batch = self.reader.range(&self.subject, from, self.bytes).await?;
            for message in batch.messages.iter().take_while(|message| message.seq < end) {
                self.unpacker.learn(&message.payload);
            }
            next = batch.next.filter(|next| *next < end).map(Start::Seq);
        }
        Ok(())
    }
}

/// The wall-clock ranges of a message's frames.
fn walls(message: &Stored) -> impl Iterator<Item = (i64, i64)> {
    let mut rest: &[u8] = &message.payload;
    std::iter::from_fn(move || {
        let found = tidegate_journal::frame::decode(rest).ok()?;
        rest = rest.get(found.bytes.len()..).unwrap_or_default();
        Some(found.header.wall)
    })
}

fn stored_at(message: &Stored) -> Option<i64> {
    let at: jiff::Timestamp = message.stored_at.parse().ok()?;
    i64::try_from(at.as_nanosecond()).ok()
}
