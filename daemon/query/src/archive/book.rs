//! What stands in the record and is no sample: losses, the clock's steps, and the names of earlier
//! epochs.
//!
//! # Invariants
//! - It is read once and then carried on; what the record no longer keeps is forgotten with it.
//! - Of two records of one loss the one with the later end counts.
//! - Memory is bounded by [`MAX_LOSSES`]; beyond it the oldest are forgotten, and answers say so.

use std::collections::BTreeMap;
use std::collections::HashMap;

use tidegate_journal::{
    Bridge, Epoch, Frame, FrameRef, Kind, LossRecord, Predecessor, Read, ReadError, Unsequenced,
    frame,
};
use tidegate_record::{Catalog, CatalogPart, ClockEvent};

use super::walk::{PAGE_BYTES, Walk, unreadable};
use crate::{Code, PartialCause, Refusal};

/// The most losses that are kept in memory: 65,536 of about 200 bytes.
const MAX_LOSSES: usize = 64 * 1024;
/// The most steps of the clock; one that is set this often has no time worth a gap.
const MAX_STEPS: usize = 1024;
/// The most epochs whose names are kept beside the one being written.
const MAX_CATALOGS: usize = 16;
/// Less than this is no step: clocks are slewed, and read one after the other.
const SMALLEST_STEP: i64 = 1_000_000_000;

/// A record of captured samples that are gone.
#[derive(Debug, Clone)]
pub(super) struct Hole {
    /// Where the record stands.
    pub at: FrameRef,
    pub bridge: Bridge,
}

/// A loss of what was never captured.
#[derive(Debug, Clone)]
pub(super) struct Missed {
    /// Where its latest record stands.
    pub at: FrameRef,
    pub loss: Unsequenced,
}

/// Everything that is no sample.
#[derive(Default)]
pub(super) struct Book {
    pub missed: BTreeMap<(Epoch, u64), Missed>,
    pub holes: Vec<Hole>,
    /// Forward and backward steps, with the place where they were told.
    pub steps: Vec<(FrameRef, ClockEvent)>,
    pub catalogs: HashMap<Epoch, Catalog>,
    pub predecessors: HashMap<Epoch, Predecessor>,
    /// The latest time in the newest samples.
    pub newest: Option<i64>,
    /// Losses that were forgotten for want of room.
    forgotten: u64,
    next: Option<FrameRef>,
    /// The epoch being written, whose names the gateway itself knows.
    current: Option<Epoch>,
}

impl Book {
    /// Reads on to the durable end.
    ///
    /// # Errors
    /// When the record cannot be read, or the question ended meanwhile.
    pub(super) fn observe(&mut self, walk: &mut Walk<'_>) -> Result<(), Refusal> {
        let current = walk.epochs.last().map(|span| span.epoch);
        if self.current != current {
            // The names of what was current until now are needed from the record from now on.
            *self = Self { current, ..Self::default() };
        }
        self.forget_dropped(walk);
        let Some(oldest) = walk.reader.oldest() else { return Ok(()) };
        let mut at = match self.next {
            Some(next) if walk.rank(next.epoch).is_some() => next,
            _ => oldest,
        };
        loop {
            if walk.is_over() {
                return Err(over(walk.ended));
            }
            match walk.reader.read_from(at.epoch, at.frame, PAGE_BYTES) {
                Ok(Read::Frames(batch)) => {
                    walk.bytes += batch.bytes.len() as u64;
                    let mut rest = batch.bytes.as_slice();
                    while let Ok(frame) = frame::decode(rest) {
                        rest = rest.get(frame.bytes.len()..).unwrap_or_default();
                        self.take(&frame);
                    }
                    at.frame = batch.next().unwrap_or(at.frame + 1);
                    self.next = Some(at);
                    walk.watch.breathe();
                }
                Ok(Read::Gap { next }) => at.frame = next.max(at.frame + 1),
                Ok(Read::EndOfEpoch { next }) => at = FrameRef { epoch: next, frame: 0 },
                Ok(Read::AtTail) => break,
                Err(ReadError::UnknownEpoch { .. }) => {
                    // Dropped meanwhile: what is oldest now comes after it.
                    match walk.reader.oldest() {
                        Some(oldest) if oldest.epoch != at.epoch => at = oldest,
                        _ => break,
                    }
                }
                Err(error) => return Err(unreadable(error)),
            }
            self.next = Some(at);
        }
        self.forget_dropped(walk);
        Ok(())
    }

    /// What answers must say of it.
    pub(super) fn notes(&self) -> Option<String> {
        (self.forgotten > 0).then(|| {
            format!(
                "{} losses beyond the {MAX_LOSSES} newest are not listed; ask prove for all",
                self.forgotten
            )
        })
    }

    pub(super) fn take(&mut self, frame: &Frame<'_>) {
        let header = &frame.header;
        let at = FrameRef { epoch: header.epoch, frame: header.number };
        match frame.kind {
            Kind::Samples => self.newest = Some(header.wall.1),
            Kind::Loss => {
                if let Ok((record, _)) = postcard::take_from_bytes(frame.body) {
                    self.take_loss(at, record);
                }
            }
            Kind::Catalog => {
                if self.current != Some(at.epoch)
                    && let Ok(part) = CatalogPart::decode(frame.body)
                    && (self.catalogs.len() < MAX_CATALOGS || self.catalogs.contains_key(&at.epoch))
                {
                    // A conflict keeps what was known first; its samples are then told by number.
                    let _ = self.catalogs.entry(at.epoch).or_default().apply(&part);
                }
            }
            Kind::Clock => {
                if let Ok(event) = ClockEvent::decode(frame.body)
                    && event.step().saturating_abs() >= SMALLEST_STEP
                    && self.steps.len() < MAX_STEPS
                {
                    self.steps.push((at, event));
                }
            }
            Kind::Checkpoint | Kind::Unknown(_) => {}
        }
    }

    fn take_loss(&mut self, at: FrameRef, record: LossRecord) {
        match record {
            LossRecord::Bridge(mut bridge) => {
                for loss in std::mem::take(&mut bridge.folded) {
                    self.take_missed(at, loss);
                }
                // A range that grows is named by ever wider bridges.
                let inside = |hole: &Hole| {
                    hole.at.epoch == at.epoch
                        && hole.bridge.first_frame >= bridge.first_frame
                        && hole.bridge.last_frame <= bridge.last_frame
                };
                self.holes.retain(|hole| !inside(hole));
                self.holes.push(Hole { at, bridge });
                if self.holes.len() > MAX_LOSSES {
                    self.holes.remove(0);
                    self.forgotten += 1;
                }
            }
            LossRecord::Unsequenced(loss) => self.take_missed(at, loss),
            LossRecord::Predecessor(predecessor) => {
                self.predecessors.insert(at.epoch, predecessor);
            }
        }
    }

    fn take_missed(&mut self, at: FrameRef, loss: Unsequenced) {
        let key = (at.epoch, loss.id);
        if self.missed.get(&key).is_some_and(|known| known.loss.to > loss.to) {
            return;
        }
        self.missed.insert(key, Missed { at, loss });
        if self.missed.len() > MAX_LOSSES
            && let Some(oldest) =
                self.missed.iter().min_by_key(|(_, known)| known.loss.to).map(|(key, _)| *key)
        {
            self.missed.remove(&oldest);
            self.forgotten += 1;
        }
    }

    /// Forgets what stood in frames that are kept no more.
    fn forget_dropped(&mut self, walk: &Walk<'_>) {
        let spans = walk.reader.epochs();
        let is_kept = |at: &FrameRef| {
            spans.iter().any(|span| span.epoch == at.epoch && span.first_frame <= at.frame)
        };
        self.missed.retain(|_, known| is_kept(&known.at));
        self.holes.retain(|hole| is_kept(&hole.at));
        self.steps.retain(|(at, _)| is_kept(at));
        self.predecessors.retain(|epoch, _| spans.iter().any(|span| span.epoch == *epoch));
        self.catalogs.retain(|epoch, _| spans.iter().any(|span| span.epoch == *epoch));
    }
}

/// What is said when the question ends before anything could be.
pub(super) fn over(cause: Option<PartialCause>) -> Refusal {
    match cause {
        Some(PartialCause::Cancelled) => Refusal::new(Code::Cancelled, "question was cancelled"),
        _ => Refusal::new(
            Code::Deadline,
            "time was over while the record was read for the first time; ask again, it goes on from there",
        ),
    }
}
