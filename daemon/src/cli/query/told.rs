//! What is said beside the rows: who answers while it lasts, and at the end what is missing.

use std::io::{self, Write};

use serde::Serialize;
use tidegate_query::{Coverage, Summary};

use super::super::terminal::{count, tame};
use crate::asker::{Merged, Outcome, Owners, Report};

/// The most gaps that a person is shown.
const GAPS_SHOWN: usize = 12;

/// A line on the terminal that is written again and again.
pub(super) struct Progress {
    shows: bool,
    shown: bool,
}

impl Progress {
    pub(super) const fn new(shows: bool) -> Self {
        Self { shows, shown: false }
    }

    pub(super) fn show(&mut self, merged: &Merged) {
        use crate::asker::Progress as Stand;
        if !self.shows {
            return;
        }
        let (mut through, mut rows, mut all, mut asked) = (0_u64, 0_u64, 0_u64, Vec::new());
        for (gateway, own, stand) in merged.progress() {
            all += 1;
            rows += own;
            match stand {
                Stand::Through => through += 1,
                Stand::Asked => asked.push(gateway.to_string()),
                Stand::Answers => {}
            }
        }
        let mut line =
            format!("{} from {through} of {}", count(rows, "row"), count(all, "gateway"));
        if let Some(first) = asked.first() {
            let more = asked.len() - 1;
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            line.push_str(&format!("; no sign yet of {first}{more}"));
        }
        // A terminal that is gone shows nothing.
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
        let _ = io::stderr().flush();
        self.shown = true;
    }

    pub(super) fn clear(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
            self.shown = false;
        }
    }
}

/// Who was not asked, and what is not known of owners.
pub(super) fn owners(owners: &Owners, err: &mut dyn Write) {
    // Nobody is left to tell when stderr is gone, here and below.
    for note in &owners.notes {
        let _ = writeln!(err, "warning: {}", tame(note));
    }
    for (gateway, why) in &owners.left_out {
        let _ = writeln!(err, "warning: {gateway} was not asked: it {}", why.words());
    }
}

/// What is missing, and unless `quiet` what there is.
pub(super) fn report(report: &Report, quiet: bool, err: &mut dyn Write) {
    let summary = &report.summary;
    for note in &summary.notes {
        let _ = writeln!(err, "note: {}", tame(note));
    }
    if let Some(refusal) = report.refusal() {
        let _ = writeln!(err, "error: {} ({})", tame(&refusal.text), refusal.code.word());
        return;
    }
    if let Some(coverage) = &summary.coverage {
        gaps(coverage, err);
    }
    for owner in &report.owners {
        if let Some(complaint) = owner.complaint() {
            let _ = writeln!(err, "warning: {}", tame(&complaint));
        }
    }
    let is_away = |it: &&crate::asker::OwnerReport| matches!(it.outcome, Outcome::Absent(_));
    if let Some(away) = report.owners.iter().find(is_away) {
        let _ = writeln!(
            err,
            "note: what a gateway delivered before is at the hub: tidegate tap --server HUB --gateway {}",
            away.gateway
        );
    }
    if !quiet {
        let _ = writeln!(err, "{}", sentence(report));
    }
}

fn gaps(coverage: &Coverage, err: &mut dyn Write) {
    // Whoever did not answer is told of by name anyway.
    let told = |cause: &str| matches!(cause, "owner-absent" | "owner-lost" | "refused");
    let shown: Vec<_> = coverage.gaps.iter().filter(|gap| !told(&gap.cause)).collect();
    for gap in shown.iter().take(GAPS_SHOWN) {
        let open = if gap.open { ", still going on" } else { "" };
        let samples = gap.count.map(|it| format!(", {}", count(it, "sample"))).unwrap_or_default();
        let _ = writeln!(
            err,
            "gap: {} to {}  {}: {}{samples}{open}",
            short(&gap.from),
            short(&gap.to),
            tame(&gap.who),
            tame(&gap.cause)
        );
    }
    let more = u64::try_from(shown.len().saturating_sub(GAPS_SHOWN)).unwrap_or(u64::MAX);
    let more = more.saturating_add(coverage.gaps_left_off);
    if more > 0 {
        let _ = writeln!(err, "gap: {more} more; --json lists them");
    }
}

/// A time to the millisecond: nobody reads nanoseconds.
fn short(time: &str) -> String {
    time.parse::<jiff::Timestamp>().map_or_else(|_| tame(time), |it| format!("{it:.3}"))
}

fn sentence(report: &Report) -> String {
    let Summary { rows, took_ms, coverage, partial, .. } = &report.summary;
    let is_there = |it: &&crate::asker::OwnerReport| !matches!(it.outcome, Outcome::Absent(_));
    let there = report.owners.iter().filter(is_there).count();
    let whom = match (report.owners.as_slice(), there) {
        ([one], 1) => one.gateway.to_string(),
        (all, there) => format!("{there} of {} gateways", all.len()),
    };
    let mut text = format!("{} in {:.1} s from {whom}", count(*rows, "row"), took_ms / 1e3);
    if let Some(coverage) = coverage {
        text.push_str(&format!(
            "; {} of {} to {} is there",
            percent(coverage.share),
            short(&coverage.from),
            short(&coverage.to)
        ));
        if there < report.owners.len() {
            text.push_str(" as far as gateways answered");
        }
    }
    if let Some(cause) = partial {
        let cause = serde_json::to_value(cause).unwrap_or_default();
        text.push_str(&format!("; NOT ALL ({})", cause.as_str().unwrap_or("other")));
    }
    text
}

/// Never 100 % where something is missing, and never nothing where something is there.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if share >= 1.0 {
        "100 %".to_owned()
    } else if percent > 99.9 {
        "99.9 %".to_owned()
    } else if share > 0.0 && percent < 0.1 {
        "0.1 %".to_owned()
    } else {
        format!("{percent:.1} %")
    }
}

/// What stands behind the rows in a JSON object.
#[derive(Serialize)]
pub(super) struct Rest<'a> {
    summary: &'a Summary,
    owners: Vec<OwnerRow<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_asked: Vec<NotAsked>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'a [String],
}

#[derive(Serialize)]
struct OwnerRow<'a> {
    gateway: String,
    rows: u64,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<tidegate_query::Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    said: Option<&'a str>,
}

#[derive(Serialize)]
struct NotAsked {
    gateway: String,
    why: &'static str,
}

impl<'a> Rest<'a> {
    pub(super) fn of(report: &'a Report, owners: &'a Owners) -> Self {
        let row = |owner: &'a crate::asker::OwnerReport| {
            let (outcome, code, said) = match &owner.outcome {
                Outcome::Answered(_) => ("answered", None, None),
                Outcome::Absent(absence) => ("absent", None, Some(absence.words())),
                Outcome::Refused(it) => ("refused", Some(it.code), Some(it.text.as_str())),
                Outcome::Lost(why) => ("lost", None, Some(why.as_str())),
                Outcome::Stopped => ("stopped", None, None),
            };
            OwnerRow { gateway: owner.gateway.to_string(), rows: owner.rows, outcome, code, said }
        };
        let not_asked = owners
            .left_out
            .iter()
            .map(|(gateway, why)| NotAsked { gateway: gateway.to_string(), why: why.words() });
        Self {
            summary: &report.summary,
            owners: report.owners.iter().map(row).collect(),
            not_asked: not_asked.collect(),
            notes: &owners.notes,
        }
    }
}
