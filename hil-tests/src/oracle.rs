//! The judge: what the PLC served against what the hub holds, from the values alone.
//!
//! # Invariants
//! - Pure: no clock, no I/O, nothing of the product's own bookkeeping but the named losses, and
//!   those only to tell a hole that was admitted from one that was not.
//! - A verdict of the product is never an input to the judgement; it is compared with it.

use std::collections::{BTreeMap, HashSet};

/// One value of the counter, as the PLC gave it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// The value.
    pub n: u64,
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
}

/// One sample at the hub, in the hub's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The tag's path.
    pub path: String,
    /// The journal's epoch.
    pub epoch: String,
    /// The sequence number within the epoch.
    pub seq: u64,
    /// The value, where it is a whole number.
    pub value: Option<u64>,
    /// The quality word.
    pub quality: String,
}

/// A loss that the record itself names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedLoss {
    /// The device, the tag's path or `gateway`; empty where the record tells of all of them.
    pub subject: String,
    /// The cause.
    pub cause: String,
    /// From, nanoseconds since 1970 UTC.
    pub from_ns: i64,
    /// To, nanoseconds since 1970 UTC.
    pub to_ns: i64,
}

/// What the product says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// `balanced`, `balanced-to-watermark`, `unbalanced` or `unverifiable`.
    pub verdict: String,
    /// Whether the program's exit code was 0.
    pub exit_ok: bool,
    /// Every loss it names.
    pub losses: Vec<NamedLoss>,
}

impl Claim {
    /// Leaves out the losses of other devices: they excuse nothing.
    pub fn keep_losses_of(&mut self, device: &str, base_path: &str) {
        self.losses.retain(|loss| {
            let subject = loss.subject.as_str();
            ["", "gateway", device].contains(&subject) || subject.starts_with(base_path)
        });
    }

    /// Whether it claims that nothing is missing but what is named.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        matches!(self.verdict.as_str(), "balanced" | "balanced-to-watermark")
    }
}

/// Which tags count.
#[derive(Debug, Clone)]
pub struct Tags {
    /// Counts up by one with every poll.
    pub counter: String,
    /// Three times the counter, read in the same poll.
    pub triple: String,
}

/// What was found. Everything but `named_holes` and `delivered` should be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many different values of the counter the hub holds.
    pub delivered: u64,
    /// Served, absent at the hub, and inside a loss that the record names: value and cause.
    pub named_holes: Vec<(u64, String)>,
    /// Served, absent at the hub, and no loss names it.
    pub unnamed_holes: Vec<u64>,
    /// Held more than once.
    pub twice: Vec<u64>,
    /// Held after a larger one.
    pub out_of_order: Vec<u64>,
    /// Held, but never served.
    pub invented: Vec<u64>,
    /// Polls of which the two tags do not agree: the counter of the poll.
    pub torn: Vec<u64>,
    /// Sequence numbers that do not follow the one before them: epoch, expected, found.
    pub sequence_breaks: Vec<(String, u64, u64)>,
}

impl Findings {
    /// Whether anything is wrong that nobody has admitted.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.unnamed_holes.is_empty()
            && self.twice.is_empty()
            && self.out_of_order.is_empty()
            && self.invented.is_empty()
            && self.torn.is_empty()
            && self.sequence_breaks.is_empty()
    }

    /// The one thing that must never be: the product says balanced, the values say otherwise.
    #[must_use]
    pub fn contradict(&self, claim: &Claim) -> bool {
        (claim.is_balanced() || claim.exit_ok) && !self.is_clean()
    }
}

/// Judges everything up to the largest value that arrived. A loss is believed to reach `slack_ns`
/// beyond its ends, because a poll's time at the PLC and in the record differ.
#[must_use]
pub fn judge(
    served: &[Served],
    samples: &[Sample],
    tags: &Tags,
    losses: &[NamedLoss],
    slack_ns: i64,
) -> Findings {
    let mut findings = Findings { sequence_breaks: sequence_breaks(samples), ..Default::default() };

    let counted = values_of(samples, &tags.counter);
    let mut held = HashSet::new();
    let mut largest = 0;
    for &n in &counted {
        if !held.insert(n) {
            findings.twice.push(n);
        } else if n < largest {
            findings.out_of_order.push(n);
        }
        largest = largest.max(n);
    }
    findings.delivered = u64::try_from(held.len()).unwrap_or(u64::MAX);

    let known: HashSet<u64> = served.iter().map(|served| served.n).collect();
    findings.invented = held.iter().copied().filter(|n| !known.contains(n)).collect();
    findings.invented.sort_unstable();

    for one in served.iter().filter(|one| one.n < largest && !held.contains(&one.n)) {
        let covers = |loss: &&NamedLoss| {
            let from = loss.from_ns.saturating_sub(slack_ns);
            (from..=loss.to_ns.saturating_add(slack_ns)).contains(&one.at_ns)
        };
        match losses.iter().find(covers) {
            Some(loss) => findings.named_holes.push((one.n, loss.cause.clone())),
            None => findings.unnamed_holes.push(one.n),
        }
    }
    findings.torn = torn(&counted, &values_of(samples, &tags.triple));
    findings
}

/// A range of sequence numbers that the record itself names as gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequencedLoss {
    /// The epoch.
    pub epoch: String,
    /// The cause.
    pub cause: String,
    /// The first that is gone.
    pub first_seq: u64,
    /// The one after the last that is gone.
    pub end_seq: u64,
}

/// Takes the breaks out of the findings that named losses fill exactly, one after the other, and
/// returns the losses that fill none: what they name is there.
pub fn explain(findings: &mut Findings, losses: &[SequencedLoss]) -> Vec<SequencedLoss> {
    let mut losses: Vec<_> =
        losses.iter().filter(|loss| loss.first_seq < loss.end_seq).cloned().collect();
    losses.sort_by_key(|loss| loss.first_seq);
    findings.sequence_breaks.retain(|(epoch, expected, found)| {
        let mut at = *expected;
        for loss in losses.iter().filter(|loss| loss.epoch == *epoch) {
            if loss.first_seq == at && loss.end_seq <= *found {
                at = loss.end_seq;
            }
        }
        if at != *found {
            return true;
        }
        losses.retain(|loss| {
            loss.epoch != *epoch || loss.first_seq < *expected || loss.end_seq > *found
        });
        false
    });
    losses
}

/// The values of one tag that have one, in the hub's order.
fn values_of(samples: &[Sample], path: &str) -> Vec<u64> {
    samples.iter().filter(|sample| sample.path == path).filter_map(|sample| sample.value).collect()
}

/// Sequence numbers count samples without a gap, epoch by epoch.
fn sequence_breaks(samples: &[Sample]) -> Vec<(String, u64, u64)> {
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    let mut breaks = Vec::new();
    for sample in samples {
        let expected = next.insert(&sample.epoch, sample.seq.saturating_add(1));
        if let Some(expected) = expected.filter(|expected| *expected != sample.seq) {
            breaks.push((sample.epoch.clone(), expected, sample.seq));
        }
    }
    breaks
}

/// Polls of which only a part arrived, or whose parts do not belong together. Samples are stored tag
/// by tag, so the end of one tag's values may be read before the other's: judged are the polls that
/// both have reached.
fn torn(counted: &[u64], tripled: &[u64]) -> Vec<u64> {
    let largest = |values: &[u64]| values.iter().copied().max().unwrap_or(0);
    let reached = largest(counted).min(largest(tripled) / 3);
    let mut counted = counted.iter().copied().filter(|n| *n <= reached);
    let mut tripled = tripled.iter().copied().filter(|triple| triple / 3 <= reached);
    let mut torn = Vec::new();
    loop {
        match (counted.next(), tripled.next()) {
            (None, None) => return torn,
            (Some(n), Some(triple)) if n.checked_mul(3) == Some(triple) => {}
            (Some(n), _) => torn.push(n),
            (None, Some(triple)) => torn.push(triple / 3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn tags() -> Tags {
        Tags { counter: "c".to_owned(), triple: "t".to_owned() }
    }

    /// One value a second from 1 on.
    fn served(upto: u64) -> Vec<Served> {
        (1..=upto).map(|n| Served { n, at_ns: i64::try_from(n).unwrap() * SECOND }).collect()
    }

    /// What the hub holds when these polls arrived in this order.
    fn held(polls: &[u64]) -> Vec<Sample> {
        let sample = |path: &str, value, seq| Sample {
            path: path.to_owned(),
            epoch: "e".to_owned(),
            seq,
            value: Some(value),
            quality: "good".to_owned(),
        };
        let pair =
            |(seq, n): (u64, &u64)| [sample("c", *n, seq * 2), sample("t", n * 3, seq * 2 + 1)];
        (0..).zip(polls).flat_map(pair).collect()
    }

    fn judged(served: &[Served], samples: &[Sample], losses: &[NamedLoss]) -> Findings {
        judge(served, samples, &tags(), losses, SECOND / 2)
    }

    fn loss(from: i64, to: i64) -> NamedLoss {
        let (subject, cause) = (String::new(), "not-running".to_owned());
        NamedLoss { subject, cause, from_ns: from * SECOND, to_ns: to * SECOND }
    }

    fn balanced() -> Claim {
        Claim { verdict: "balanced".to_owned(), exit_ok: true, losses: Vec::new() }
    }

    #[test]
    fn everything_served_and_held_is_clean() {
        let findings = judged(&served(5), &held(&[1, 2, 3, 4, 5]), &[]);
        assert!(findings.is_clean() && !findings.contradict(&balanced()));
        assert_eq!(findings.delivered, 5);
    }

    #[test]
    fn what_has_not_arrived_yet_is_no_hole() {
        let findings = judged(&served(9), &held(&[1, 2, 3]), &[]);
        assert!(findings.is_clean(), "{findings:?}");
    }

    #[test]
    fn a_hole_that_nobody_names_contradicts_a_balanced_claim() {
        let findings = judged(&served(5), &held(&[1, 2, 5]), &[]);
        assert_eq!(findings.unnamed_holes, [3, 4]);
        assert!(findings.contradict(&balanced()));
        let honest = Claim { verdict: "unbalanced".to_owned(), exit_ok: false, losses: Vec::new() };
        assert!(!findings.contradict(&honest));
        // An exit code that says yes beside a verdict that says no is a claim as well.
        assert!(findings.contradict(&Claim { exit_ok: true, ..honest }));
    }

    #[test]
    fn a_hole_inside_a_named_loss_is_admitted_and_one_beside_it_is_not() {
        let findings = judged(&served(6), &held(&[1, 5, 6]), &[loss(3, 4)]);
        assert_eq!(findings.unnamed_holes, [2]);
        let admitted = [(3, "not-running".to_owned()), (4, "not-running".to_owned())];
        assert_eq!(findings.named_holes, admitted);
    }

    #[test]
    fn a_value_held_twice_is_found_even_side_by_side() {
        let findings = judged(&served(4), &held(&[1, 2, 2, 3, 4]), &[]);
        assert_eq!((findings.twice.clone(), findings.is_clean()), (vec![2], false));
    }

    #[test]
    fn a_late_value_is_found() {
        let findings = judged(&served(4), &held(&[1, 3, 2, 4]), &[]);
        assert_eq!(findings.out_of_order, [2]);
    }

    #[test]
    fn a_value_never_served_is_found() {
        let findings = judged(&served(3), &held(&[1, 2, 3, 40]), &[]);
        assert_eq!(findings.invented, [40]);
    }

    #[test]
    fn half_a_poll_is_found() {
        let mut samples = held(&[1, 2, 3, 4]);
        samples.retain(|sample| !(sample.path == "t" && sample.value == Some(6)));
        let findings = judged(&served(4), &samples, &[]);
        assert!(!findings.torn.is_empty() && !findings.is_clean(), "{findings:?}");
    }

    #[test]
    fn tags_that_are_stored_one_after_the_other_are_not_torn() {
        let mut samples = held(&[1, 2, 3, 4]);
        samples.sort_by(|a, b| a.path.cmp(&b.path));
        for (seq, sample) in (0..).zip(&mut samples) {
            sample.seq = seq;
        }
        // Read until the counter was at 4: of the other tag, only the first two are there.
        samples.truncate(6);
        let findings = judged(&served(4), &samples, &[]);
        assert!(findings.is_clean(), "{findings:?}");
    }

    #[test]
    fn a_jump_in_the_sequence_is_found_and_each_epoch_counts_for_itself() {
        let mut samples = held(&[1, 2, 3]);
        for sample in &mut samples[4..] {
            sample.seq += 7;
        }
        let breaks = judged(&served(3), &samples, &[]).sequence_breaks;
        assert_eq!(breaks, [("e".to_owned(), 4, 11)]);
        for (seq, sample) in (0..).zip(&mut samples[4..]) {
            sample.seq = seq;
            sample.epoch = "f".to_owned();
        }
        assert_eq!(judged(&served(3), &samples, &[]).sequence_breaks, []);
    }
}
