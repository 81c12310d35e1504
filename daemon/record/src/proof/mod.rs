//! The proof: from what the hub holds, that nothing was lost, or exactly what was.
//!
//! A [`Ledger`] is fed the hub's messages of one gateway in stream order and gives a [`Report`].
//!
//! # Invariants
//! - It never says balanced where a frame between complete-from and watermark is neither at the
//!   hub nor named by a bridge whose hashes fit.
//! - Presence at the hub overrides a claim of loss.
//! - Sequenced and unsequenced losses are never added up.
//! - The whole chain is verified whatever is listed; a filter narrows only the lists.
//! - Memory is bounded: ranges instead of sets, a window of hashes, capped lists with a count of
//!   what they leave out. Where a cap hides a hole, the verdict is worse, never better.

mod bridges;
mod chain;
mod report;
mod seals;
mod seam;
mod text;
mod verdict;
mod window;

use std::collections::VecDeque;

use tidegate_journal::{Epoch, FrameError, FrameHash, Kind, Position, frame};

use crate::moment::Moment;
pub use bridges::Misfit;
use chain::Chain;
pub use report::{
    Beginning, Disorder, Duplicate, EpochReport, FORMAT, Foreign, Gap, Listed, Newer, Report,
    SequencedLoss, SequencedLosses, Tail, UnsequencedLoss, UnsequencedLosses, Verdict, Watermark,
};
pub use seals::{Notary, Refused, Signatory, Signatures, Signed};
pub use seam::{Seam, SeamState};

/// The most findings of one sort that a report lists; the rest is counted.
pub const MAX_LISTED: usize = 1000;

/// The most epochs of one gateway. An epoch begins at a first start or a disaster, so this many
/// at one hub means that someone makes them up.
pub const MAX_EPOCHS: usize = 1024;

/// One message of the hub's stream.
#[derive(Debug, Clone, Copy)]
pub struct HubMessage<'a> {
    /// Its sequence number in the stream, to name it in findings.
    pub stream_seq: u64,
    /// The epoch in its subject.
    pub epoch: Epoch,
    /// Consecutive frames.
    pub bytes: &'a [u8],
}

/// What the gateway's own journal says of its end: without it, nothing is known beyond the
/// watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTail {
    /// The journal's epoch.
    pub epoch: Epoch,
    /// Its last durable frame; `None` when it has none.
    pub last: Option<Position>,
    /// The hash that it has for the frame at the hub's watermark (see [`Ledger::watermark`]).
    /// Where it goes on beyond the watermark, only this shows that both are one chain.
    pub at_watermark: Option<FrameHash>,
}

/// What to list. The chain is verified whole in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only what lasted until here or longer, nanoseconds since 1970 UTC.
    pub from: Option<i64>,
    /// Only what began here or earlier.
    pub to: Option<i64>,
}

impl Filter {
    const fn takes(&self, (begin, end): (i64, i64)) -> bool {
        let after = match self.from {
            Some(from) => end >= from,
            None => true,
        };
        let before = match self.to {
            Some(to) => begin <= to,
            None => true,
        };
        after && before
    }
}

/// A list that keeps the first [`MAX_LISTED`] and counts all.
#[derive(Debug, Clone)]
struct Capped<T> {
    kept: Vec<T>,
    count: u64,
}

impl<T> Default for Capped<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), count: 0 }
    }
}

impl<T> Capped<T> {
    fn push(&mut self, item: T) {
        self.count += 1;
        if self.kept.len() < MAX_LISTED {
            self.kept.push(item);
        }
    }
}

/// What was found at the hub so far.
#[derive(Debug)]
pub struct Ledger {
    plant: String,
    gateway: String,
    filter: Filter,
    /// In the order in which they began at the hub.
    epochs: Vec<Chain>,
    /// Epochs beyond [`MAX_EPOCHS`], as messages.
    refused_epochs: u64,
    /// Messages with something in them that is not this gateway's.
    foreign: Capped<Foreign>,
    /// Epochs whose frames took turns.
    alternating: VecDeque<(Epoch, Epoch)>,
    messages: u64,
    bytes: u64,
    notary: Option<Box<dyn Notary>>,
}

impl Ledger {
    /// A ledger for the gateway of this name.
    #[must_use]
    pub fn new(plant: impl Into<String>, gateway: impl Into<String>, filter: Filter) -> Self {
        Self {
            plant: plant.into(),
            gateway: gateway.into(),
            filter,
            epochs: Vec::new(),
            refused_epochs: 0,
            foreign: Capped::default(),
            alternating: VecDeque::new(),
            messages: 0,
            bytes: 0,
            notary: None,
        }
    }

    /// The same, with signatures judged: without a notary they are only counted.
    #[must_use]
    pub fn with_notary(self, notary: Box<dyn Notary>) -> Self {
        Self { notary: Some(notary), ..self }
    }

    /// Takes in the next message of the stream.
    pub fn observe(&mut self, message: HubMessage<'_>) {
        self.messages += 1;
        self.bytes += message.bytes.len() as u64;
        let mut rest = message.bytes;
        while !rest.is_empty() {
            rest = self.observe_frame(message, rest);
        }
    }

    /// Takes in the frame at the start of `rest` and returns what follows it.
    fn observe_frame<'a>(&mut self, message: HubMessage<'_>, rest: &'a [u8]) -> &'a [u8] {
        match frame::decode(rest) {
            Ok(frame) => {
                let header = &frame.header;
                let is_ours = header.plant == self.plant
                    && header.gateway == self.gateway
                    && header.epoch == message.epoch;
                if is_ours {
                    self.take(&frame);
                } else {
                    self.foreign.push(Foreign {
                        stream_seq: message.stream_seq,
                        epoch: message.epoch.to_string(),
                        what: format!(
                            "frame {} of {}/{}, epoch {}",
                            header.number, header.plant, header.gateway, header.epoch
                        ),
                    });
                }
                rest.get(frame.bytes.len()..).unwrap_or_default()
            }
            Err(FrameError::NeedsNewer { needs, length }) => {
                let (newer, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                if let Some(chain) = self.chain(message.epoch) {
                    chain.take_newer(needs, newer);
                }
                after
            }
            Err(error) => {
                // Where this frame ends is unknown, so what follows cannot be read either.
                self.foreign.push(Foreign {
                    stream_seq: message.stream_seq,
                    epoch: message.epoch.to_string(),
                    what: format!("{} bytes that are no frame: {error}", rest.len()),
                });
                if rest.starts_with(&frame::MAGIC)
                    && let Some(chain) = self.epochs.iter_mut().find(|c| c.epoch == message.epoch)
                {
                    chain.take_damaged();
                }
                &[]
            }
        }
    }

    fn take(&mut self, frame: &frame::Frame<'_>) {
        let epoch = frame.header.epoch;
        let begun = |chains: &[Chain]| {
            chains.iter().rev().find(|chain| chain.tip.is_some()).map(|chain| chain.epoch)
        };
        let newest = begun(&self.epochs);
        let Some(chain) = self.chain(epoch) else { return };
        let is_new_to_hub = chain.take(frame);
        if is_new_to_hub && frame.kind == Kind::Checkpoint {
            self.judge_checkpoint(frame);
        }
        // An epoch that goes on after another one began is written by a second gateway.
        if let Some(newest) = newest
            && newest != epoch
            && is_new_to_hub
            && begun(&self.epochs) == Some(newest)
            && !self.alternating.contains(&(epoch, newest))
            && self.alternating.len() < MAX_LISTED
        {
            self.alternating.push_back((epoch, newest));
        }
    }

    fn judge_checkpoint(&mut self, frame: &frame::Frame<'_>) {
        let epoch = frame.header.epoch;
        if let Some(chain) = self.epochs.iter_mut().find(|chain| chain.epoch == epoch) {
            chain.take_checkpoint(frame, self.notary.as_deref());
        }
    }

    fn chain(&mut self, epoch: Epoch) -> Option<&mut Chain> {
        match self.epochs.iter().position(|chain| chain.epoch == epoch) {
            Some(at) => self.epochs.get_mut(at),
            None if self.epochs.len() >= MAX_EPOCHS => {
                self.refused_epochs += 1;
                None
            }
            None => {
                self.epochs.push(Chain::new(epoch));
                self.epochs.last_mut()
            }
        }
    }

    /// The last frame of an epoch that the hub holds, to look it up in the gateway's journal.
    #[must_use]
    pub fn watermark(&self, epoch: Epoch) -> Option<Position> {
        self.epochs.iter().find(|chain| chain.epoch == epoch)?.tip
    }

    /// What the proof says now. `now` is only for ages.
    #[must_use]
    pub fn report(&self, now: i64, tail: Option<LocalTail>) -> Report {
        verdict::build(self, Moment(now), tail)
    }
}

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tests;
