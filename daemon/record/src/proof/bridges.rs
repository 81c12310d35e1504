//! Which holes are named by bridges.
//!
//! # Invariants
//! - A hole is explained only when bridges cover each of its frames, one joining the next, and
//!   hashes and sequence numbers agree wherever two of them, or one and a neighbour at the hub,
//!   meet.
//! - A bridge may reach over frames that are at the hub (their acknowledgement was lost, or an
//!   earlier bridge was folded into it): what is there is not lost. Then at least the other end
//!   must meet a neighbour by its hash.
//! - A hole in an epoch that is closed may be named in a later one, where frame numbers mean nothing:
//!   by the hash of its last frame and the number of its samples, which must both fit.
//! - The search has a budget. Holes that it does not reach stay unexplained.

use std::collections::HashSet;

use serde::Serialize;
use tidegate_journal::{Bridge, BridgeCause, Epoch, FrameHash, Unsequenced};

use super::chain::{Chain, Hole};
use super::report::SequencedLoss;
use crate::moment::Moment;

/// Comparisons of a bridge with a place: far more than any real history needs, and about a second
/// of work.
const BUDGET: u64 = 100_000_000;

/// A bridge as it was found.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// The frame that it stands in.
    pub(super) at: u64,
    /// Whether the frame before it, if that is at the hub and not too far back, has its
    /// `hash_before`.
    pub(super) before_fits: Option<bool>,
    /// The same for its last frame and `hash_after`.
    pub(super) after_fits: Option<bool>,
    pub(super) bridge: Bridge,
}

/// A bridge that does not fit what is at the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Misfit {
    /// The frame that holds the bridge.
    pub frame: u64,
    /// The first frame that it says is gone.
    pub first_frame: u64,
    /// The last frame that it says is gone.
    pub last_frame: u64,
    /// What does not fit.
    pub why: &'static str,
}

/// What the bridges of an epoch explain.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    pub(super) losses: Vec<SequencedLoss>,
    /// First frames of the holes that nobody names.
    pub(super) unexplained: Vec<(u64, Hole)>,
    /// First frames of the holes in which newer frames were seen.
    pub(super) unreadable: Vec<(u64, Hole)>,
    pub(super) misfits: Vec<Misfit>,
    /// Bridges that name frames of which at least one is at the hub.
    pub(super) overridden: u64,
    /// The first frame and sequence number that bridges reach back to from the first frame seen.
    pub(super) reaches_back_to: Option<(u64, u64, i64)>,
}

impl Claim {
    fn own_fault(&self) -> Option<&'static str> {
        let Bridge { first_frame, last_frame, first_seq, end_seq, .. } = &self.bridge;
        if first_frame > last_frame || first_seq > end_seq {
            Some("its ranges run backwards")
        } else if *last_frame >= self.at {
            Some("it names frames that come after it")
        } else if self.before_fits == Some(false) {
            Some("the frame before it has another hash")
        } else if self.after_fits == Some(false) {
            Some("its last frame is at the hub with another hash")
        } else {
            None
        }
    }

    const fn covers(&self, frame: u64) -> bool {
        self.bridge.first_frame <= frame && frame <= self.bridge.last_frame
    }
}

/// A place in a hole up to which everything is explained.
#[derive(Clone, Copy)]
struct Reached {
    frame: u64,
    seq: u64,
    hash: FrameHash,
    /// Whether the way began at the hole's own left side.
    is_anchored: bool,
}

pub(super) fn resolve(chain: &Chain) -> Resolved {
    let mut resolved = Resolved::default();
    let mut fitting: Vec<&Claim> = Vec::new();
    for claim in &chain.claims {
        match claim.own_fault() {
            Some(why) => resolved.misfits.push(misfit(claim, why)),
            None => fitting.push(claim),
        }
    }
    fitting.sort_by_key(|claim| claim.bridge.first_frame);
    let mut budget = BUDGET;
    let mut blamed = HashSet::new();
    for (&first, hole) in &chain.holes {
        let relevant: Vec<&Claim> = fitting
            .iter()
            .copied()
            .filter(|c| c.bridge.first_frame <= hole.last_frame && c.bridge.last_frame >= first)
            .collect();
        budget = budget.saturating_sub(fitting.len() as u64);
        if chain.head == Some(first) {
            explain_head(hole, &relevant, &mut resolved);
        } else if let Some(way) = find_way(first, hole, &relevant, &mut budget) {
            walk(first, hole, &way, &mut resolved.losses);
        } else if hole.is_unreadable {
            resolved.unreadable.push((first, *hole));
        } else {
            let why = "it names a hole that it does not fit";
            let new = relevant.iter().filter(|c| blamed.insert(c.at));
            resolved.misfits.extend(new.map(|c| misfit(c, why)));
            resolved.unexplained.push((first, *hole));
        }
    }
    resolved.overridden =
        fitting.iter().filter(|claim| is_overridden(chain, &claim.bridge)).count() as u64;
    resolved
}

impl Resolved {
    /// Takes in what later epochs say of the holes that no bridge explains; `told` finds what was
    /// said under an identity. Returns the identities that fit.
    pub(super) fn name_from_elsewhere<'c>(
        &mut self,
        told: impl Fn(u64) -> Option<(Epoch, &'c Unsequenced)>,
    ) -> Vec<u64> {
        let mut taken = Vec::new();
        self.unexplained.retain(|(first, hole)| {
            // The journal gives the same identity to the same hole.
            let [a, b, c, d, e, f, g, h, ..] = hole.hash_after.0;
            let id = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            let samples = hole.end_seq.saturating_sub(hole.first_seq);
            let Some((epoch, record)) = told(id).filter(|(_, it)| it.count == Some(samples)) else {
                return true;
            };
            let Some(cause) = cause_of(&record.cause) else { return true };
            taken.push(id);
            self.losses.push(SequencedLoss {
                cause,
                first_frame: *first,
                last_frame: hole.last_frame,
                first_seq: hole.first_seq,
                end_seq: hole.end_seq,
                samples,
                from: Moment(record.from),
                to: Moment(record.to),
                named_in_frame: None,
                named_in_epoch: Some(epoch.to_string()),
            });
            false
        });
        self.losses.sort_by_key(|loss| loss.first_frame);
        taken
    }
}

fn cause_of(word: &str) -> Option<BridgeCause> {
    match word {
        "dropped-oldest" => Some(BridgeCause::DroppedOldest),
        "damaged" => Some(BridgeCause::Damaged),
        "lost-at-hub" => Some(BridgeCause::LostAtHub),
        _ => None,
    }
}

fn misfit(claim: &Claim, why: &'static str) -> Misfit {
    let Bridge { first_frame, last_frame, .. } = claim.bridge;
    Misfit { frame: claim.at, first_frame, last_frame, why }
}

/// Whether one of the frames that the bridge names is at the hub.
fn is_overridden(chain: &Chain, bridge: &Bridge) -> bool {
    let mut at = bridge.first_frame;
    while at <= bridge.last_frame {
        match chain.holes.range(..=at).next_back() {
            Some((_, hole)) if hole.last_frame >= at => match hole.last_frame.checked_add(1) {
                Some(next) => at = next,
                None => return false,
            },
            _ => return true,
        }
    }
    false
}

/// The bridges, one joining the next, that lead from one side of the hole to the other.
fn find_way<'c>(
    first: u64,
    hole: &Hole,
    claims: &[&'c Claim],
    budget: &mut u64,
) -> Option<Vec<&'c Claim>> {
    let start =
        Reached { frame: first, seq: hole.first_seq, hash: hole.hash_before, is_anchored: false };
    let mut tried: HashSet<(usize, bool)> = HashSet::new();
    // Each step knows the one before it, so that the way can be told in the end.
    let mut steps: Vec<(Reached, Option<usize>, Option<&'c Claim>)> = vec![(start, None, None)];
    let mut next = 0;
    while let Some(&(from, ..)) = steps.get(next) {
        for (index, claim) in claims.iter().enumerate() {
            *budget = budget.checked_sub(1)?;
            let Some(to) = step(from, from.frame == first, hole, claim) else { continue };
            if !tried.insert((index, to.is_anchored)) {
                continue;
            }
            steps.push((to, Some(next), Some(claim)));
            if to.frame > hole.last_frame {
                let is_met = to.is_anchored
                    || claim.bridge.last_frame == hole.last_frame
                    || claim.after_fits == Some(true);
                if is_met {
                    return Some(trace(&steps));
                }
            }
        }
        next += 1;
    }
    None
}

fn trace<'c>(steps: &[(Reached, Option<usize>, Option<&'c Claim>)]) -> Vec<&'c Claim> {
    let mut way = Vec::new();
    let mut at = steps.len().checked_sub(1);
    while let Some(&(_, before, claim)) = at.and_then(|at| steps.get(at)) {
        way.extend(claim);
        at = before;
    }
    way.reverse();
    way
}

/// How far a bridge leads from a place, if it fits there.
fn step(from: Reached, is_start: bool, hole: &Hole, claim: &Claim) -> Option<Reached> {
    let bridge = &claim.bridge;
    if from.frame > hole.last_frame || !claim.covers(from.frame) {
        return None;
    }
    let is_exact = bridge.first_frame == from.frame;
    if is_exact {
        if bridge.hash_before != from.hash || bridge.first_seq != from.seq {
            return None;
        }
    } else if bridge.first_seq > from.seq {
        return None;
    }
    let is_right = if bridge.last_frame == hole.last_frame {
        bridge.hash_after == hole.hash_after && bridge.end_seq == hole.end_seq
    } else if bridge.last_frame > hole.last_frame {
        bridge.end_seq >= hole.end_seq
    } else {
        (from.seq..=hole.end_seq).contains(&bridge.end_seq)
    };
    is_right.then_some(Reached {
        frame: bridge.last_frame.saturating_add(1),
        seq: bridge.end_seq,
        hash: bridge.hash_after,
        is_anchored: if is_start {
            is_exact || claim.before_fits == Some(true)
        } else {
            from.is_anchored
        },
    })
}

fn walk(first: u64, hole: &Hole, way: &[&Claim], losses: &mut Vec<SequencedLoss>) {
    let (mut frame, mut seq) = (first, hole.first_seq);
    for claim in way {
        let bridge = &claim.bridge;
        let last_frame = bridge.last_frame.min(hole.last_frame);
        let end_seq =
            if last_frame == hole.last_frame { hole.end_seq } else { bridge.end_seq.max(seq) };
        losses.push(loss(claim, (frame, last_frame), (seq, end_seq)));
        frame = last_frame.saturating_add(1);
        seq = end_seq;
    }
}

fn loss(claim: &Claim, frames: (u64, u64), seqs: (u64, u64)) -> SequencedLoss {
    SequencedLoss {
        cause: claim.bridge.cause,
        first_frame: frames.0,
        last_frame: frames.1,
        first_seq: seqs.0,
        end_seq: seqs.1,
        samples: seqs.1.saturating_sub(seqs.0),
        from: Moment(claim.bridge.wall.0),
        to: Moment(claim.bridge.wall.1),
        named_in_frame: Some(claim.at),
        named_in_epoch: None,
    }
}

/// Before the first frame seen, bridges reach back as far as they join; what lies before them
/// has aged out.
fn explain_head(hole: &Hole, claims: &[&Claim], resolved: &mut Resolved) {
    let (mut last, mut seq, mut hash) = (hole.last_frame, hole.end_seq, hole.hash_after);
    loop {
        let joins = |c: &&&Claim| {
            let b = &c.bridge;
            let is_exact = b.last_frame == last && b.hash_after == hash && b.end_seq == seq;
            let is_over = last == hole.last_frame
                && b.covers_and_passes(last)
                && b.end_seq >= seq
                && b.first_seq <= seq
                && (c.after_fits == Some(true) || b.begins_the_epoch());
            // The first frame of an epoch has nothing before it.
            let begins_right = b.first_frame != 0 || b.begins_the_epoch();
            (is_exact || is_over) && begins_right
        };
        let Some(claim) = claims.iter().filter(joins).min_by_key(|c| c.bridge.first_frame) else {
            return;
        };
        let b = &claim.bridge;
        resolved.losses.push(loss(claim, (b.first_frame, last), (b.first_seq, seq)));
        resolved.reaches_back_to = Some((b.first_frame, b.first_seq, b.wall.0));
        let Some(before) = b.first_frame.checked_sub(1) else { return };
        (last, seq, hash) = (before, b.first_seq, b.hash_before);
    }
}

trait Ends {
    fn covers_and_passes(&self, frame: u64) -> bool;
    fn begins_the_epoch(&self) -> bool;
}

impl Ends for Bridge {
    fn covers_and_passes(&self, frame: u64) -> bool {
        self.first_frame <= frame && frame < self.last_frame
    }

    fn begins_the_epoch(&self) -> bool {
        self.first_frame == 0 && self.first_seq == 0 && self.hash_before == FrameHash::ZERO
    }
}
