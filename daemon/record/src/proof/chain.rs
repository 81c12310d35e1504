//! The chain of one epoch as the hub holds it.
//!
//! # Invariants
//! - `tip` is the frame with the highest number seen; every number between the first frame and it
//!   was seen or lies in exactly one hole.
//! - A hole knows what its neighbours say of it: the hash and the sequence number on both sides.

use std::collections::{BTreeMap, HashMap};

use tidegate_journal::{
    Bridge, Codec, Epoch, Frame, FrameHash, Header, Kind, LossRecord, Position, Predecessor, Stamp,
    Unsequenced,
};

use super::Capped;
use super::bridges::Claim;
use super::report::Disorder;
use super::seals::{Notary, Seals};
use super::window::Window;
use crate::{CatalogPart, Checkpoint, ClockBook, ClockEvent, samples};

/// The most holes that are kept apart; what lies in further ones can never be explained.
const MAX_HOLES: usize = 16 * 1024;

/// The most bridges that are kept; further ones explain nothing.
const MAX_BRIDGES: usize = 16 * 1024;

/// The most unsequenced losses that are kept, one for each identity.
const MAX_UNSEQUENCED: usize = 16 * 1024;

/// Frames that are not at the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) last_frame: u64,
    pub(super) first_seq: u64,
    pub(super) end_seq: u64,
    pub(super) hash_before: FrameHash,
    pub(super) hash_after: FrameHash,
    /// From the frame before to the frame after.
    pub(super) wall: (i64, i64),
    /// Whether frames of a newer version were seen in this place and fit by hash.
    pub(super) is_unreadable: bool,
}

/// The first or the last frame of what the proof covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) frame: u64,
    pub(super) seq: u64,
    pub(super) wall: i64,
}

/// A frame that is at the hub twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Repeat {
    pub(super) frame: u64,
    pub(super) wall: (i64, i64),
    /// `None` when the first copy is too far back to compare.
    pub(super) is_same: Option<bool>,
}

/// What was never captured, as it was told last, and by the clock of which moment. Folded into a
/// bridge, it says nothing of the clock.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) loss: Unsequenced,
    pub(super) stamp: Option<Stamp>,
}

/// Everything seen of one epoch.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) epoch: Epoch,
    pub(super) first: Option<Place>,
    pub(super) tip: Option<Position>,
    pub(super) tip_wall: i64,
    pub(super) frames: u64,
    pub(super) samples: u64,
    pub(super) bytes: u64,
    /// By their first frame. What lies before the first frame seen is one too.
    pub(super) holes: BTreeMap<u64, Hole>,
    pub(super) holes_refused: u64,
    /// How far back the hole before the first frame reaches, while it is there.
    pub(super) head: Option<u64>,
    pub(super) claims: Vec<Claim>,
    pub(super) claims_refused: u64,
    pub(super) predecessor: Option<Predecessor>,
    pub(super) unsequenced: HashMap<u64, Told>,
    pub(super) unsequenced_refused: u64,
    pub(super) clocks: ClockBook,
    pub(super) repeats: Capped<Repeat>,
    /// Findings with their times, one list for each sort.
    pub(super) inversions: Capped<(Disorder, (i64, i64))>,
    pub(super) breaks: Capped<(Disorder, (i64, i64))>,
    pub(super) bodies: Capped<(Disorder, (i64, i64))>,
    pub(super) seals: Seals,
    pub(super) newer: u64,
    pub(super) newer_needs: u8,
    newer_since_tip: u64,
    newer_hash: Option<FrameHash>,
    pub(super) damaged_since_tip: bool,
    hashes: Window,
}

impl Chain {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            first: None,
            tip: None,
            tip_wall: 0,
            frames: 0,
            samples: 0,
            bytes: 0,
            holes: BTreeMap::new(),
            holes_refused: 0,
            head: None,
            claims: Vec::new(),
            claims_refused: 0,
            predecessor: None,
            unsequenced: HashMap::new(),
            unsequenced_refused: 0,
            clocks: ClockBook::new(),
            repeats: Capped::default(),
            inversions: Capped::default(),
            breaks: Capped::default(),
            bodies: Capped::default(),
            seals: Seals::default(),
            newer: 0,
            newer_needs: 0,
            newer_since_tip: 0,
            newer_hash: None,
            damaged_since_tip: false,
            hashes: Window::default(),
        }
    }

    /// A frame that only a later reader understands.
    pub(super) fn take_newer(&mut self, needs: u8, bytes: &[u8]) {
        self.newer += 1;
        self.newer_needs = self.newer_needs.max(needs);
        self.newer_since_tip += 1;
        self.newer_hash = Some(FrameHash::of(bytes));
    }

    /// Bytes that begin like a frame and are none.
    pub(super) fn take_damaged(&mut self) {
        self.damaged_since_tip = true;
    }

    /// Takes in a frame. Says whether the hub did not have it before.
    pub(super) fn take(&mut self, frame: &Frame<'_>) -> bool {
        let hash = frame.hash();
        let number = frame.header.number;
        let is_new = match self.tip {
            None => {
                self.begin(frame);
                self.advance(frame, hash);
                true
            }
            Some(tip) if number > tip.frame => {
                self.follow(frame, tip);
                self.advance(frame, hash);
                true
            }
            Some(tip) => self.fill(frame, hash, tip),
        };
        if is_new {
            self.frames += 1;
            self.samples = self.samples.saturating_add(frame.header.count.into());
            self.bytes += frame.bytes.len() as u64;
            self.clocks.observe(frame);
            self.read_body(frame);
        }
        is_new
    }

    /// The first frame at the hub: what came before it has aged out, unless a bridge says more.
    fn begin(&mut self, frame: &Frame<'_>) {
        let header = &frame.header;
        self.first =
            Some(Place { frame: header.number, seq: header.first_seq, wall: header.wall.0 });
        let Some(last_frame) = header.number.checked_sub(1) else {
            if header.previous != FrameHash::ZERO {
                self.complain(Disorder::ChainBreak { frame: 0 }, header.wall);
            }
            if header.first_seq != 0 {
                self.complain_seq(frame, 0);
            }
            return;
        };
        self.head = Some(0);
        self.holes.insert(
            0,
            Hole {
                last_frame,
                first_seq: 0,
                end_seq: header.first_seq,
                hash_before: FrameHash::ZERO,
                hash_after: header.previous,
                wall: (i64::MIN, header.wall.0),
                is_unreadable: false,
            },
        );
    }

    /// A frame beyond the tip: its neighbour, or the far side of a new hole.
    fn follow(&mut self, frame: &Frame<'_>, tip: Position) {
        let header = &frame.header;
        let first = tip.frame.saturating_add(1);
        if header.number == first {
            self.check_join(frame, tip.hash, tip.next_seq);
            return;
        }
        if header.first_seq < tip.next_seq {
            self.complain_seq(frame, tip.next_seq);
        }
        if self.holes.len() >= MAX_HOLES {
            self.holes_refused += 1;
            return;
        }
        let missing = header.number - first;
        self.holes.insert(
            first,
            Hole {
                last_frame: header.number - 1,
                first_seq: tip.next_seq,
                end_seq: header.first_seq.max(tip.next_seq),
                hash_before: tip.hash,
                hash_after: header.previous,
                wall: (self.tip_wall, header.wall.0),
                is_unreadable: missing == self.newer_since_tip
                    && self.newer_hash == Some(header.previous),
            },
        );
    }

    fn advance(&mut self, frame: &Frame<'_>, hash: FrameHash) {
        let header = &frame.header;
        self.hashes.push(header.number, hash);
        self.tip = Some(Position { frame: header.number, next_seq: header.next_seq(), hash });
        self.tip_wall = header.wall.1;
        self.newer_since_tip = 0;
        self.newer_hash = None;
        self.damaged_since_tip = false;
    }

    /// A frame at or below the tip: it comes late, or again.
    fn fill(&mut self, frame: &Frame<'_>, hash: FrameHash, tip: Position) -> bool {
        let header = &frame.header;
        let number = header.number;
        let found = self.holes.range(..=number).next_back().map(|(first, hole)| (*first, *hole));
        let Some((first, hole)) = found.filter(|(_, hole)| number <= hole.last_frame) else {
            let is_same = self.hashes.of(number).map(|known| known == hash);
            self.repeats.push(Repeat { frame: number, wall: header.wall, is_same });
            return false;
        };
        self.complain(Disorder::Inversion { frame: number, after: tip.frame }, header.wall);
        let is_head = self.head == Some(first);
        if self.holes.len() >= MAX_HOLES && first != number && number != hole.last_frame {
            // Two holes would have to be kept instead of one: this one stays.
            self.holes_refused += 1;
            return true;
        }
        self.holes.remove(&first);
        if is_head {
            self.head = None;
        }
        if number == first {
            self.check_join(frame, hole.hash_before, hole.first_seq);
        } else {
            if is_head {
                self.head = Some(first);
            }
            let before = Hole {
                last_frame: number - 1,
                end_seq: header.first_seq,
                hash_after: header.previous,
                wall: (hole.wall.0, header.wall.0),
                is_unreadable: false,
                ..hole
            };
            self.put_hole(first, before, frame);
        }
        if number == hole.last_frame {
            if hash != hole.hash_after {
                self.complain(Disorder::ChainBreak { frame: number + 1 }, header.wall);
            }
            if header.next_seq() != hole.end_seq {
                self.complain_seq(frame, hole.end_seq.saturating_sub(header.count.into()));
            }
        } else {
            let after = Hole {
                first_seq: header.next_seq(),
                hash_before: hash,
                wall: (header.wall.1, hole.wall.1),
                is_unreadable: false,
                ..hole
            };
            self.put_hole(number + 1, after, frame);
        }
        if self.first.is_some_and(|place| number < place.frame) {
            self.first = Some(Place { frame: number, seq: header.first_seq, wall: header.wall.0 });
        }
        self.hashes.put_late(number, hash);
        true
    }

    fn put_hole(&mut self, first: u64, mut hole: Hole, frame: &Frame<'_>) {
        if hole.first_seq > hole.end_seq {
            self.complain_seq(frame, hole.first_seq);
            hole.end_seq = hole.first_seq;
        }
        self.holes.insert(first, hole);
    }

    fn check_join(&mut self, frame: &Frame<'_>, hash_before: FrameHash, next_seq: u64) {
        let header = &frame.header;
        if header.previous != hash_before {
            self.complain(Disorder::ChainBreak { frame: header.number }, header.wall);
        }
        if header.first_seq != next_seq {
            self.complain_seq(frame, next_seq);
        }
    }

    fn complain_seq(&mut self, frame: &Frame<'_>, expected: u64) {
        let (number, found) = (frame.header.number, frame.header.first_seq);
        let disorder = if found > expected {
            Disorder::SeqGap { frame: number, expected, found }
        } else {
            Disorder::SeqOverlap { frame: number, expected, found }
        };
        self.complain(disorder, frame.header.wall);
    }

    fn complain(&mut self, disorder: Disorder, wall: (i64, i64)) {
        let list = match disorder {
            Disorder::Inversion { .. } => &mut self.inversions,
            Disorder::Body { .. } => &mut self.bodies,
            _ => &mut self.breaks,
        };
        list.push((disorder, wall));
    }

    fn read_body(&mut self, frame: &Frame<'_>) {
        if let Err(what) = self.try_body(frame) {
            let number = frame.header.number;
            self.complain(Disorder::Body { frame: number, what }, frame.header.wall);
        }
    }

    fn try_body(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let header = &frame.header;
        if !matches!(frame.kind, Kind::Samples | Kind::Unknown(_)) && header.count != 0 {
            return Err(format!(
                "header counts {} samples, the frame is one without samples",
                header.count
            ));
        }
        match frame.kind {
            Kind::Samples => {
                samples::decode(header.codec, header.count, frame.body)
                    .map_err(|error| error.to_string())?;
            }
            Kind::Unknown(_) => {}
            _ if header.codec != Codec::Plain => {
                return Err(format!("body is packed as {:?} instead of plain", header.codec));
            }
            Kind::Catalog => {
                CatalogPart::decode(frame.body).map_err(|error| error.to_string())?;
            }
            Kind::Clock => {
                ClockEvent::decode(frame.body).map_err(|error| error.to_string())?;
            }
            Kind::Checkpoint => {
                Checkpoint::decode(frame.body).map_err(|error| error.to_string())?;
            }
            Kind::Loss => {
                let record = crate::whole::<LossRecord>(frame.body);
                let record = record.ok_or("loss body does not parse")?;
                self.take_loss(header, record);
            }
        }
        Ok(())
    }

    /// Takes in a checkpoint that was taken in as a frame before.
    pub(super) fn take_checkpoint(&mut self, frame: &Frame<'_>, notary: Option<&dyn Notary>) {
        let up_to = Checkpoint::decode(frame.body).ok().map(|it| it.up_to.frame);
        let hash = up_to.and_then(|number| self.hashes.of(number));
        self.seals.take(frame, hash, notary);
    }

    fn take_loss(&mut self, header: &Header, record: LossRecord) {
        match record {
            LossRecord::Bridge(bridge) => self.take_bridge(header.number, bridge),
            LossRecord::Unsequenced(loss) => self.take_unsequenced(loss, Some(header.stamp())),
            LossRecord::Predecessor(predecessor) => {
                if header.number == 0 {
                    self.predecessor = Some(predecessor);
                }
            }
        }
    }

    fn take_bridge(&mut self, number: u64, mut bridge: Bridge) {
        for loss in std::mem::take(&mut bridge.folded) {
            self.take_unsequenced(loss, None);
        }
        if self.claims.len() >= MAX_BRIDGES {
            self.claims_refused += 1;
            return;
        }
        // Frames at its ends may be at the hub: an acknowledgement was lost. Then the hashes can
        // be compared now, while the window still holds them.
        let before = match bridge.first_frame.checked_sub(1) {
            None => Some(FrameHash::ZERO),
            Some(before) => self.hashes.of(before),
        };
        let after = self.hashes.of(bridge.last_frame);
        self.claims.push(Claim {
            at: number,
            before_fits: before.map(|hash| hash == bridge.hash_before),
            after_fits: after.map(|hash| hash == bridge.hash_after),
            bridge,
        });
    }

    fn take_unsequenced(&mut self, loss: Unsequenced, stamp: Option<Stamp>) {
        if let Some(known) = self.unsequenced.get_mut(&loss.id) {
            if loss.to > known.loss.to {
                *known = Told { loss, stamp };
            } else if loss.to == known.loss.to {
                // Told again later, perhaps after the clock was set.
                known.loss = loss;
            }
        } else if self.unsequenced.len() < MAX_UNSEQUENCED {
            self.unsequenced.insert(loss.id, Told { loss, stamp });
        } else {
            self.unsequenced_refused += 1;
        }
    }
}
