//! What the record does not hold, and why.
//!
//! # Invariants
//! - Captured and gone, and never captured, are two ledgers that are never added up.
//! - Losses come in the order in which they began.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::PoisonError;

use serde::Serialize;
use tidegate_record::Moment;

use super::book::Book;
use super::coverage::{GATEWAY, cause_word};
use super::place::{Place, RowPlace, mark_of};
use super::plan::{Range, between, limit, patterns};
use super::{Answer, Archive, Bounds, Out, Watch};
use crate::{LossesQuestion, Refusal, Summary};

/// One loss as a row.
#[derive(Debug, Serialize)]
struct LossRow {
    ledger: &'static str,
    who: String,
    cause: String,
    from: String,
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_seq: Option<u64>,
    epoch: String,
    open: bool,
}

struct Loss {
    from: i64,
    to: i64,
    key: String,
    row: LossRow,
}

pub(super) fn answer(
    archive: &Archive,
    question: &LossesQuestion,
    bounds: &Bounds,
    watch: &dyn Watch,
    out: &mut Out<'_>,
) -> Result<Summary, Refusal> {
    let mark = mark_of(&LossesQuestion { limit: None, after: None, ..question.clone() });
    let after = question.after.as_deref().map(|text| Place::read(text, mark)).transpose()?;
    let range = match &after {
        Some(place) => Range { from: place.from, to: place.to },
        None => between(question.from, question.to, watch.now())?,
    };
    let limit = limit(question.limit, bounds)?;
    let wanted = patterns(&question.tags)?;
    let mut walk = archive.walk(watch);
    let book = archive.book(&mut walk)?;
    let who = if wanted.is_empty() {
        None
    } else {
        let names = archive.names(&wanted, bounds, &mut walk, &book)?;
        let mut who = HashSet::from([GATEWAY.to_owned()]);
        for tag in &names.tags {
            who.insert(tag.entry.path.as_str().to_owned());
            who.insert(tag.entry.device.to_string());
        }
        Some(who)
    };
    let mut losses = all(&book);
    drop(book);
    losses.retain(|loss| {
        loss.from < range.to
            && loss.to >= range.from
            && who.as_ref().is_none_or(|who| who.contains(&loss.row.who))
    });
    losses.sort_by(|a, b| (a.from, &a.key).cmp(&(b.from, &b.key)));
    if let Some(RowPlace::Loss { from, key }) = after.map(|place| place.row) {
        losses.retain(|loss| (loss.from, &loss.key) >= (from, &key));
    }
    let mut answer = Answer::new(limit, out);
    for loss in losses {
        let json = serde_json::to_string(&loss.row).unwrap_or_default();
        let row = RowPlace::Loss { from: loss.from, key: loss.key };
        let place = || Place { mark, from: range.from, to: range.to, row }.to_string();
        if walk.is_over() {
            answer.cut(walk.ended, place());
            break;
        }
        if answer.give(json, place)? == ControlFlow::Break(()) {
            break;
        }
    }
    let mut summary = answer.summary(&archive.gateway, &walk);
    let book = archive.book.lock().unwrap_or_else(PoisonError::into_inner);
    summary.notes.extend(book.notes());
    Ok(summary)
}

fn all(book: &Book) -> Vec<Loss> {
    let rfc3339 = |at: i64| Moment(at).rfc3339();
    let missed = book.missed.iter().map(|((epoch, id), known)| {
        let loss = &known.loss;
        Loss {
            from: loss.from,
            to: loss.to,
            key: format!("u{epoch}{id:016x}"),
            row: LossRow {
                ledger: "unsequenced",
                who: loss.subject.clone(),
                cause: loss.cause.clone(),
                from: rfc3339(loss.from),
                to: rfc3339(loss.to),
                count: loss.count,
                first_seq: None,
                end_seq: None,
                epoch: epoch.to_string(),
                open: loss.open,
            },
        }
    });
    let holes = book.holes.iter().map(|hole| {
        let bridge = &hole.bridge;
        Loss {
            from: bridge.wall.0,
            to: bridge.wall.1,
            key: format!("s{}{:020}", hole.at.epoch, bridge.first_frame),
            row: LossRow {
                ledger: "sequenced",
                who: GATEWAY.to_owned(),
                cause: cause_word(bridge.cause).to_owned(),
                from: rfc3339(bridge.wall.0),
                to: rfc3339(bridge.wall.1),
                count: bridge.end_seq.checked_sub(bridge.first_seq),
                first_seq: Some(bridge.first_seq),
                end_seq: Some(bridge.end_seq),
                epoch: hole.at.epoch.to_string(),
                open: false,
            },
        }
    });
    missed.chain(holes).collect()
}
