//! What is said of the answers of many owners together.
//!
//! # Invariants
//! - The share that is covered is told of those that answered; whoever did not is a gap of its own
//!   with a name, since nobody knows how many tags it would have had.
//! - Whatever is missing makes the whole partial.

use std::time::Duration;

use tidegate_query::{Code, Coverage, Gap, PartialCause, Refusal, Summary};

use super::conversation::Absence;
use crate::names::GatewayId;

/// The most gaps that are listed.
const MOST_GAPS: usize = 1_000;

/// What came of asking one owner.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Its answer, and what it says of itself.
    Answered(Box<Summary>),
    /// No answer.
    Absent(Absence),
    /// It said no.
    Refused(Refusal),
    /// Its answer broke off, for this reason.
    Lost(String),
    /// Whoever asked stopped listening.
    Stopped,
}

/// One owner and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnerReport {
    /// Which.
    pub gateway: GatewayId,
    /// Rows that were taken of it.
    pub rows: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of asking all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// As if one had answered.
    pub summary: Summary,
    /// Each of them.
    pub owners: Vec<OwnerReport>,
}

impl OwnerReport {
    /// What is wrong with it, for people; `None` when nothing is.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let gateway = &self.gateway;
        match &self.outcome {
            Outcome::Answered(_) | Outcome::Stopped => None,
            Outcome::Absent(absence) => Some(format!("{gateway} {}", absence.words())),
            Outcome::Refused(refusal) if refusal.code == Code::UnknownTag => None,
            Outcome::Refused(refusal) => {
                Some(format!("{gateway} refused ({}): {}", refusal.code.word(), refusal.text))
            }
            Outcome::Lost(why) => {
                Some(format!("{gateway} was lost after {} rows: {why}", self.rows))
            }
        }
    }
}

impl Report {
    /// Whether nothing is missing, as far as owners know.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.summary.partial.is_none()
    }

    /// The refusal that is the answer: when there are owners and each of them said no.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        let mut refusals = self.owners.iter().map(|owner| match &owner.outcome {
            Outcome::Refused(refusal) => Some(refusal),
            _ => None,
        });
        let first = refusals.next().flatten()?;
        let others: Option<Vec<_>> = refusals.collect();
        // That one has no such tag says less than what another one said.
        let telling = |it: &&Refusal| it.code != Code::UnknownTag;
        Some(others?.into_iter().chain([first]).find(telling).unwrap_or(first))
    }
}

/// The summary over all owners.
pub(super) fn of_all(owners: Vec<OwnerReport>, rows: u64, took: Duration, cut: bool) -> Report {
    let mut summary = Summary { rows, took_ms: took.as_secs_f64() * 1e3, ..Summary::default() };
    let several = owners.len() > 1;
    let mut gaps = Gaps { several, covered: Vec::new(), missing: Vec::new() };
    let worse = |summary: &mut Summary, cause: PartialCause| {
        summary.partial.get_or_insert(cause);
    };
    for owner in &owners {
        match &owner.outcome {
            Outcome::Answered(said) => {
                if let Some(cause) = said.partial {
                    worse(&mut summary, cause);
                }
                let gateway = &owner.gateway;
                summary.bytes_read = summary.bytes_read.saturating_add(said.bytes_read);
                summary.sources.extend(said.sources.iter().cloned());
                summary.notes.extend(said.notes.iter().map(|note| match several {
                    true => format!("{gateway}: {note}"),
                    false => note.clone(),
                }));
                if let Some(coverage) = &said.coverage {
                    gaps.covered.push((owner, coverage));
                }
                if !several {
                    summary.next.clone_from(&said.next);
                }
            }
            Outcome::Absent(_) => {
                worse(&mut summary, PartialCause::OwnerAbsent);
                gaps.missing.push((owner, "owner-absent"));
            }
            Outcome::Lost(_) => {
                worse(&mut summary, PartialCause::OwnerLost);
                gaps.missing.push((owner, "owner-lost"));
            }
            Outcome::Refused(refusal) if refusal.code == Code::UnknownTag => {}
            Outcome::Refused(_) => {
                worse(&mut summary, PartialCause::Other);
                gaps.missing.push((owner, "refused"));
            }
            Outcome::Stopped if cut => {}
            Outcome::Stopped => worse(&mut summary, PartialCause::Cancelled),
        }
    }
    // Whoever is lost or absent matters more than that an owner had more rows.
    if cut && matches!(summary.partial, None | Some(PartialCause::Rows)) {
        summary.partial = Some(PartialCause::Rows);
    }
    summary.coverage = gaps.joined();
    Report { summary, owners }
}

struct Gaps<'a> {
    several: bool,
    covered: Vec<(&'a OwnerReport, &'a Coverage)>,
    missing: Vec<(&'a OwnerReport, &'static str)>,
}

impl Gaps<'_> {
    fn joined(&self) -> Option<Coverage> {
        let (_, first) = self.covered.first()?;
        // Times of one form compare as texts when their lengths are the same; they are read otherwise.
        let time = |text: &str| text.parse::<jiff::Timestamp>().ok();
        let all = || self.covered.iter().map(|(_, coverage)| coverage);
        let from = all().map(|it| &it.from).min_by_key(|it| time(it)).unwrap_or(&first.from);
        let to = all().map(|it| &it.to).max_by_key(|it| time(it)).unwrap_or(&first.to);
        let tags: u64 = all().map(|it| it.tags).sum();
        let mut gaps = Vec::new();
        for (owner, coverage) in &self.covered {
            gaps.extend(coverage.gaps.iter().cloned().map(|mut gap| {
                if self.several {
                    gap.who = match gap.who.as_str() {
                        "gateway" => owner.gateway.to_string(),
                        who => format!("{} {who}", owner.gateway),
                    };
                }
                gap
            }));
        }
        gaps.extend(self.missing.iter().map(|(owner, cause)| Gap {
            from: from.clone(),
            to: to.clone(),
            who: owner.gateway.to_string(),
            cause: (*cause).to_owned(),
            count: None,
            open: false,
        }));
        gaps.sort_by_key(|gap| time(&gap.from));
        let over = gaps.len().saturating_sub(MOST_GAPS);
        gaps.truncate(MOST_GAPS);
        let left_off = all().map(|it| it.gaps_left_off).sum::<u64>();
        Some(Coverage {
            from: from.clone(),
            to: to.clone(),
            tags,
            share: share(all()),
            gaps,
            gaps_left_off: left_off.saturating_add(u64::try_from(over).unwrap_or(u64::MAX)),
        })
    }
}

/// Weighted by tags, and evenly where an owner does not tell how many it has.
#[expect(clippy::cast_precision_loss, reason = "a share for a person")]
fn share<'a>(all: impl Iterator<Item = &'a &'a Coverage> + Clone) -> f64 {
    let told = all.clone().all(|it| it.tags > 0);
    let weight = |it: &Coverage| if told { it.tags as f64 } else { 1.0 };
    let whole: f64 = all.clone().map(|it| weight(it)).sum();
    all.map(|it| it.share * weight(it)).sum::<f64>() / whole.max(1.0)
}
