//! What stands in the record and is no sample: losses, the clock's steps, and the names of earlier
//! epochs.
//!
//! # Invariants
//! - It is read once and then carried on; what the record no longer keeps is forgotten with it.
//! - Of two records of one loss the one with the later end counts.
//! - Memory is bounded by [`MAX_LOSSES`]; beyond it the oldest are forgotten, and answers say so.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use tidegate_journal::{
    Bridge, Epoch, Frame, FrameRef, Kind, LossRecord, Predecessor, Unsequenced,
};
use tidegate_record::{Catalog, CatalogPart, ClockEvent};

use super::plan::Range;
use super::walk::{Damage, Holes, Segment, Walk};
use crate::{Code, PartialCause, Refusal};

/// The most losses that are kept in memory: 65,536 of about 200 bytes.
const MAX_LOSSES: usize = 64 * 1024;
/// The most steps of the clock; one that is set this often has no time worth a gap.
const MAX_STEPS: usize = 1024;
/// The most damaged places; more are no record any more.
const MAX_DAMAGE: usize = 1024;
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
    /// Frames that were found damaged and that no record names yet.
    pub damage: Vec<Damage>,
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
        let segments = walk.segments.clone();
        let next = self.next;
        let known = |it: &&Segment| {
            next.is_some_and(|next| it.span.epoch == next.epoch && it.span.end_frame > next.frame)
        };
        let last = |it: &Segment| next.is_some_and(|next| it.span.epoch == next.epoch);
        // Where it stopped, or behind the last of that epoch, or at the oldest.
        let from = match segments.iter().position(|it| known(&it)) {
            Some(at) => at,
            None => segments.iter().rposition(last).map_or(0, |at| at + 1),
        };
        for segment in segments.get(from..).unwrap_or_default() {
            let span = &segment.span;
            let next = self.next.filter(|next| next.epoch == span.epoch);
            let first = next.map_or(0, |next| next.frame).max(span.first_frame);
            self.read(segment, first, walk)?;
            self.next = Some(FrameRef { epoch: span.epoch, frame: span.end_frame });
        }
        self.forget_dropped(walk);
        Ok(())
    }

    /// Takes in a segment from this frame on.
    fn read(&mut self, segment: &Segment, first: u64, walk: &mut Walk<'_>) -> Result<(), Refusal> {
        let digest = walk.digest(segment)?;
        if walk.is_over() {
            return Err(over(walk.ended));
        }
        let listed = digest.and_then(|digest| {
            let end = digest.end_frame();
            let others = digest.others().ok()?;
            let mut all: Vec<_> = others.iter().chain(&digest.frames().ok()?).copied().collect();
            all.retain(|note| (first..end).contains(&note.spot.number));
            all.sort_by_key(|note| note.spot.number);
            let mut holes = Holes::new(segment.span.epoch, first);
            for note in &all {
                self.damage.extend(holes.see(note.spot.number, note.wall));
            }
            self.damage.extend(holes.end(end.min(segment.span.end_frame)));
            self.damage.truncate(MAX_DAMAGE);
            let mut spots: Vec<_> = others.iter().map(|it| it.spot).collect();
            spots.retain(|spot| (first..end.min(segment.span.end_frame)).contains(&spot.number));
            Some((spots, end))
        });
        let mut take = |_: &mut Walk<'_>, frame: &Frame<'_>| {
            self.take(frame);
            Ok(ControlFlow::Continue(()))
        };
        let rest = match listed {
            None => first,
            Some((spots, end)) => {
                let _whole = walk.fetch(&segment.span, &spots, Range::ALL, &mut take)?;
                first.max(end)
            }
        };
        if rest < segment.span.end_frame {
            let mut take = |_: &mut Walk<'_>, frame: &Frame<'_>| {
                self.take(frame);
                Ok(ControlFlow::Continue(()))
            };
            let _whole = walk.visit(&segment.span, rest, Range::ALL, &mut take)?;
        }
        if walk.is_over() { Err(over(walk.ended)) } else { Ok(()) }
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
            Kind::Samples | Kind::Checkpoint | Kind::Unknown(_) => {}
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

    /// Frames that cannot be read and that no bridge names.
    pub(super) fn unnamed(&self, met: &[Damage]) -> Vec<Damage> {
        let is_named = |damage: &Damage| {
            let names = |hole: &Hole| {
                hole.at.epoch == damage.epoch
                    && hole.bridge.first_frame <= damage.first
                    && hole.bridge.last_frame.saturating_add(1) >= damage.end
            };
            self.holes.iter().any(names)
        };
        let mut all: Vec<Damage> = self.damage.iter().chain(met).copied().collect();
        all.sort_by_key(|damage| (damage.epoch, damage.first, damage.end));
        all.dedup();
        all.retain(|damage| !is_named(damage));
        all
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
        self.damage.retain(|it| {
            spans.iter().any(|span| span.epoch == it.epoch && span.first_frame < it.end)
        });
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
