//! From what was found to what can be claimed.
//!
//! # Invariants
//! - Whatever makes a verdict worse leaves a sentence that says so.
//! - The verdict of the whole is the worst of its epochs; no epoch at all proves nothing.

use std::collections::HashSet;

use tidegate_journal::Epoch;

use super::bridges::{self, Resolved};
use super::chain::Chain;
use super::report::{
    Beginning, Disorder, Duplicate, EpochReport, FORMAT, Gap, Listed, Newer, Report,
    SequencedLosses, Tail, UnsequencedLoss, UnsequencedLosses, Verdict, Watermark,
};
use super::seam::{self, Seam, SeamState};
use super::{Capped, Filter, Ledger, LocalTail};
use crate::moment::{Moment, Span};

/// Collects reasons and keeps the worst verdict that they give.
struct Judgement {
    verdict: Verdict,
    because: Vec<String>,
}

impl Judgement {
    fn worsen(&mut self, verdict: Verdict, because: impl Into<String>) {
        self.verdict = self.verdict.max(verdict);
        self.because.push(because.into());
    }

    fn count(&mut self, verdict: Verdict, count: u64, one: &str, many: &str) {
        match count {
            0 => {}
            1 => self.worsen(verdict, format!("1 {one}")),
            n => self.worsen(verdict, format!("{n} {many}")),
        }
    }
}

pub(super) fn build(ledger: &Ledger, now: Moment, tail: Option<LocalTail>) -> Report {
    let seams: Vec<Option<Seam>> =
        (0..ledger.epochs.len()).map(|at| seam::judge(&ledger.epochs, at)).collect();
    let (resolved, told_elsewhere) = resolve(ledger);
    let epochs: Vec<EpochReport> = ledger
        .epochs
        .iter()
        .zip(&seams)
        .zip(resolved)
        .map(|((chain, seam), resolved)| {
            let is_continued = seams.iter().flatten().any(|s| {
                s.state == SeamState::Joined
                    && s.predecessor.as_deref() == Some(&chain.epoch.to_string())
            });
            let partners = ledger.alternating.iter().filter_map(|(a, b)| {
                (*a == chain.epoch).then_some(*b).or((*b == chain.epoch).then_some(*a))
            });
            let told_elsewhere = &told_elsewhere;
            let filter = ledger.filter;
            let notarised = ledger.notary.is_some();
            let view =
                View { chain, seam, is_continued, told_elsewhere, now, filter, tail, notarised };
            view.report(resolved, partners.collect())
        })
        .collect();
    let mut judgement = Judgement { verdict: Verdict::Balanced, because: Vec::new() };
    for epoch in &epochs {
        judgement.verdict = judgement.verdict.max(epoch.verdict);
        judgement
            .because
            .extend(epoch.because.iter().map(|why| format!("epoch {}: {why}", epoch.epoch)));
    }
    if epochs.is_empty() {
        judgement.worsen(Verdict::Unverifiable, "no frame of this gateway is at the hub");
    }
    if ledger.refused_epochs > 0 {
        judgement.worsen(
            Verdict::Unverifiable,
            format!("more than {} epochs; the others were not read", super::MAX_EPOCHS),
        );
    }
    if let Some(tail) = tail
        && !ledger.epochs.iter().any(|chain| chain.epoch == tail.epoch)
        && tail.last.is_some()
    {
        // Nothing at the hub contradicts it, and nothing there is complete to the end either.
        judgement.verdict = judgement.verdict.max(Verdict::BalancedToWatermark);
    }
    Report {
        format: FORMAT,
        plant: ledger.plant.clone(),
        gateway: ledger.gateway.clone(),
        now,
        verdict: judgement.verdict,
        because: judgement.because,
        messages: ledger.messages,
        bytes: ledger.bytes,
        listed_from: ledger.filter.from.map(Moment),
        listed_to: ledger.filter.to.map(Moment),
        epochs,
        foreign: Listed { count: ledger.foreign.count, list: ledger.foreign.kept.clone() },
    }
}

/// What is named of each epoch, and the identities of losses that are thereby told.
fn resolve(ledger: &Ledger) -> (Vec<Resolved>, HashSet<u64>) {
    let mut told_elsewhere = HashSet::new();
    let resolved = ledger.epochs.iter().enumerate().map(|(at, chain)| {
        let mut resolved = bridges::resolve(chain);
        let later = ledger.epochs.get(at + 1..).unwrap_or_default();
        let told =
            |id| later.iter().find_map(|it| Some((it.epoch, &it.unsequenced.get(&id)?.loss)));
        told_elsewhere.extend(resolved.name_from_elsewhere(told));
        resolved
    });
    (resolved.collect(), told_elsewhere)
}

/// One epoch on its way into the report.
struct View<'a> {
    chain: &'a Chain,
    seam: &'a Option<Seam>,
    /// Whether a later epoch joins exactly at its end.
    is_continued: bool,
    /// Losses that are told as holes of an earlier epoch.
    told_elsewhere: &'a HashSet<u64>,
    now: Moment,
    filter: Filter,
    tail: Option<LocalTail>,
    notarised: bool,
}

impl View<'_> {
    fn report(&self, resolved: Resolved, partners: Vec<Epoch>) -> EpochReport {
        let chain = self.chain;
        let tail = self.tail();
        let judgement = self.judge(&resolved, tail, &partners);
        EpochReport {
            epoch: chain.epoch.to_string(),
            verdict: judgement.verdict,
            because: judgement.because,
            complete_from: self.beginning(&resolved),
            watermark: chain.tip.map(|tip| Watermark {
                frame: tip.frame,
                next_seq: tip.next_seq,
                at: Moment(chain.tip_wall),
                age: Span::between(Moment(chain.tip_wall), self.now),
            }),
            seam: self.seam.clone(),
            tail,
            frames: chain.frames,
            samples: chain.samples,
            bytes: chain.bytes,
            sequenced: self.sequenced(&resolved),
            unsequenced: self.unsequenced(),
            gaps: self.gaps(&resolved),
            duplicates: self.duplicates(),
            inversions: self.disorder(&chain.inversions),
            chain_breaks: self.disorder(&chain.breaks),
            bodies: self.disorder(&chain.bodies),
            misfits: Listed::of(resolved.misfits, |_| true),
            overridden_claims: resolved.overridden,
            signatures: chain.seals.report(self.notarised),
            newer: Newer { frames: chain.newer, needs_version: chain.newer_needs },
        }
    }

    fn judge(&self, resolved: &Resolved, tail: Option<Tail>, partners: &[Epoch]) -> Judgement {
        let chain = self.chain;
        let is_closed = tail == Some(Tail::Agrees) || self.is_continued;
        let best = if is_closed { Verdict::Balanced } else { Verdict::BalancedToWatermark };
        let mut j = Judgement { verdict: best, because: Vec::new() };
        let bad = Verdict::Unbalanced;
        let gaps = resolved.unexplained.len() as u64 + chain.holes_refused;
        j.count(bad, gaps, "gap that nobody names", "gaps that nobody names");
        let duplicates = chain.repeats.count;
        j.count(bad, duplicates, "frame is there again", "frames are there again");
        let inversions = chain.inversions.count;
        let (bodies, breaks) = (chain.bodies.count, chain.breaks.count);
        j.count(bad, inversions, "frame out of order", "frames out of order");
        j.count(bad, bodies, "body that does not fit its header", "bodies that do not fit");
        j.count(bad, breaks, "break in the chain", "breaks in the chain");
        let misfits = resolved.misfits.len() as u64;
        j.count(bad, misfits, "bridge that does not fit", "bridges that do not fit");
        let forged = chain.seals.refused();
        j.count(bad, forged, "signature that does not fit", "signatures that do not fit");
        let unsure = Verdict::Unverifiable;
        if chain.newer > 0 {
            let (newer, needs) = (chain.newer, chain.newer_needs);
            j.worsen(unsure, format!("{newer} frames need a reader of version {needs}"));
        }
        if chain.damaged_since_tip {
            j.worsen(unsure, "bytes after the last frame are damaged");
        }
        if let Some(seam) = self.seam
            && seam.state == SeamState::Unverifiable
        {
            j.worsen(unsure, seam.words.clone());
        }
        for other in partners {
            let words = format!("it and epoch {other} took turns: two gateways with one name");
            j.worsen(unsure, words);
        }
        if tail == Some(Tail::Conflicts) {
            j.worsen(unsure, "the journal that was asked is not the one that the hub's copy is of");
        }
        if chain.tip.is_none() {
            j.worsen(unsure, "none of its frames could be read");
        }
        j
    }

    fn tail(&self) -> Option<Tail> {
        let tail = self.tail.filter(|tail| tail.epoch == self.chain.epoch)?;
        Some(match (tail.last, self.chain.tip) {
            (None, None) => Tail::Agrees,
            (Some(last), Some(tip)) if last == tip => Tail::Agrees,
            (_, Some(tip)) if tail.at_watermark.is_some_and(|hash| hash != tip.hash) => {
                Tail::Conflicts
            }
            (Some(last), Some(tip)) if last.frame > tip.frame && last.next_seq >= tip.next_seq => {
                Tail::Ahead {
                    frames: last.frame - tip.frame,
                    samples: last.next_seq - tip.next_seq,
                }
            }
            (Some(last), None) => {
                Tail::Ahead { frames: last.frame.saturating_add(1), samples: last.next_seq }
            }
            _ => Tail::Conflicts,
        })
    }

    fn beginning(&self, resolved: &Resolved) -> Option<Beginning> {
        let first = self.chain.first?;
        let (frame, seq, wall) =
            resolved.reaches_back_to.unwrap_or((first.frame, first.seq, first.wall));
        Some(Beginning { frame, seq, at: Moment(wall), is_beginning: frame == 0 })
    }

    fn sequenced(&self, resolved: &Resolved) -> SequencedLosses {
        let losses = &resolved.losses;
        SequencedLosses {
            frames: total(
                losses.iter().map(|l| l.last_frame.saturating_sub(l.first_frame).saturating_add(1)),
            ),
            samples: total(losses.iter().map(|l| l.samples)),
            losses: Listed::of(losses.iter().cloned(), |l| self.filter.takes((l.from.0, l.to.0))),
        }
    }

    fn unsequenced(&self) -> UnsequencedLosses {
        let mut told: Vec<_> = self.chain.unsequenced.values().collect();
        told.retain(|told| !self.told_elsewhere.contains(&told.loss.id));
        told.sort_by_key(|told| (told.loss.from, told.loss.id));
        let mut listed = Listed::of(
            told.iter().map(|told| {
                let loss = &told.loss;
                let span = (loss.from, loss.to);
                let right = told.stamp.map(|at| self.chain.clocks.corrected_span(span, &at));
                let right = right.filter(|right| *right != span);
                UnsequencedLoss {
                    id: format!("{:016x}", loss.id),
                    subject: loss.subject.clone(),
                    cause: loss.cause.clone(),
                    from: Moment(loss.from),
                    to: Moment(loss.to),
                    corrected_from: right.map(|(from, _)| Moment(from)),
                    corrected_to: right.map(|(_, to)| Moment(to)),
                    count: loss.count,
                    open: loss.open,
                }
            }),
            |l| {
                let (from, to) =
                    (l.corrected_from.unwrap_or(l.from), l.corrected_to.unwrap_or(l.to));
                self.filter.takes((from.0, to.0))
            },
        );
        listed.count += self.chain.unsequenced_refused;
        let losses = || told.iter().map(|told| &told.loss);
        UnsequencedLosses {
            samples: total(losses().filter_map(|l| l.count)),
            uncounted: losses().filter(|l| l.count.is_none()).count() as u64,
            open: losses().filter(|l| l.open).count() as u64,
            losses: listed,
        }
    }

    fn gaps(&self, resolved: &Resolved) -> Listed<Gap> {
        let gaps = resolved.unexplained.iter().map(|(first, hole)| Gap {
            first_frame: *first,
            last_frame: hole.last_frame,
            first_seq: hole.first_seq,
            end_seq: hole.end_seq,
            samples: hole.end_seq.saturating_sub(hole.first_seq),
            after: Moment(hole.wall.0),
            before: Moment(hole.wall.1),
        });
        let mut listed = Listed::of(gaps, |g| self.filter.takes((g.after.0, g.before.0)));
        listed.count += self.chain.holes_refused;
        listed
    }

    fn duplicates(&self) -> Listed<Duplicate> {
        let repeats = &self.chain.repeats;
        let taken = repeats.kept.iter().filter(|r| self.filter.takes(r.wall));
        let list = taken.map(|r| Duplicate { frame: r.frame, is_same: r.is_same }).collect();
        Listed { count: repeats.count, list }
    }

    fn disorder(&self, found: &Capped<(Disorder, (i64, i64))>) -> Listed<Disorder> {
        let taken = found.kept.iter().filter(|(_, wall)| self.filter.takes(*wall));
        Listed { count: found.count, list: taken.map(|(d, _)| d.clone()).collect() }
    }
}

/// A sum that input cannot make overflow.
fn total(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}
