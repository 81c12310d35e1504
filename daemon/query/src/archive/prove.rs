//! The gateway's own side of the proof: what its journal holds, epoch by epoch.
//!
//! # Invariants
//! - Without `verify` it says what is known without reading frames, and says that nothing was
//!   checked. With it every kept frame is read and judged as at the hub, by the same ledger.

use std::ops::ControlFlow;

use serde::Serialize;
use tidegate_journal::{EpochSpan, FrameRef, Read, ReadError};
use tidegate_record::proof::{Filter, HubMessage, Ledger, LocalTail, Report};

use super::book::{Book, over};
use super::walk::{PAGE_BYTES, Walk, unreadable};
use super::{Answer, Archive, Out, Watch};
use crate::{ProveQuestion, Refusal, Summary};

/// One epoch as a row.
#[derive(Serialize)]
struct EpochRow<'a> {
    epoch: String,
    /// Whether it is being written.
    current: bool,
    first_frame: u64,
    first_seq: u64,
    end_frame: u64,
    end_seq: u64,
    /// What the first kept frame must carry as the hash of the one before it.
    hash_before: String,
    /// The hash of the last durable frame, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_last: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    began: Option<String>,
    losses_sequenced: u64,
    losses_unsequenced: u64,
    /// Whether every kept frame was read and its place in the chain checked.
    verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<&'a tidegate_record::proof::EpochReport>,
}

pub(super) fn answer(
    archive: &Archive,
    question: &ProveQuestion,
    watch: &dyn Watch,
    out: &mut Out<'_>,
) -> Result<Summary, Refusal> {
    let mut walk = archive.walk(watch);
    let report = if question.verify { Some(verify(archive, &mut walk)?) } else { None };
    let book = archive.book(&mut walk)?;
    let last = archive.reader.durable();
    let mut answer = Answer::new(u64::MAX, out);
    for span in &walk.epochs {
        let is_last = last.filter(|(epoch, _)| *epoch == span.epoch);
        let name = span.epoch.to_string();
        let proof = report.as_ref().and_then(|r| r.epochs.iter().find(|e| e.epoch == name));
        let row = row(span, &book, is_last.map(|(_, at)| at.hash.to_string()), proof);
        let json = serde_json::to_string(&row).unwrap_or_default();
        if answer.give(json, String::new)? == ControlFlow::Break(()) {
            // A proof is whole or none: there is no place to continue at.
            answer.next = None;
            break;
        }
    }
    drop(book);
    let mut summary = answer.summary(&archive.gateway, &walk);
    if let Some(report) = report {
        summary.notes.push(format!("verdict {}", report.verdict.word()));
        summary.notes.extend(report.because);
    } else {
        summary.notes.push("no frame was read; ask with verify to check every one".to_owned());
    }
    Ok(summary)
}

fn row<'a>(
    span: &EpochSpan,
    book: &Book,
    hash_last: Option<String>,
    proof: Option<&'a tidegate_record::proof::EpochReport>,
) -> EpochRow<'a> {
    let predecessor = book.predecessors.get(&span.epoch);
    let word = |reason| serde_json::to_value(reason).ok()?.as_str().map(str::to_owned);
    EpochRow {
        epoch: span.epoch.to_string(),
        current: hash_last.is_some(),
        first_frame: span.first_frame,
        first_seq: span.first_seq,
        end_frame: span.end_frame,
        end_seq: span.end_seq,
        hash_before: span.hash_before.to_string(),
        hash_last,
        predecessor: predecessor.and_then(|it| it.epoch).map(|epoch| epoch.to_string()),
        began: predecessor.and_then(|it| word(it.reason)),
        losses_sequenced: count(book.holes.iter().filter(|hole| hole.at.epoch == span.epoch)),
        losses_unsequenced: count(book.missed.keys().filter(|(epoch, _)| *epoch == span.epoch)),
        verified: proof.is_some(),
        proof,
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}

/// Reads every frame that was kept when the question began.
fn verify(archive: &Archive, walk: &mut Walk<'_>) -> Result<Report, Refusal> {
    let (plant, name) = archive.gateway.split_once('/').unwrap_or(("", &archive.gateway));
    let mut ledger = Ledger::new(plant, name, Filter::default());
    let mut last = None;
    for span in walk.epochs.clone() {
        let mut at = FrameRef { epoch: span.epoch, frame: span.first_frame };
        while at.frame < span.end_frame {
            if walk.is_over() {
                return Err(over(walk.ended));
            }
            match walk.reader.read_from(at.epoch, at.frame, PAGE_BYTES) {
                Ok(Read::Frames(batch)) => {
                    ledger.observe(HubMessage {
                        stream_seq: at.frame,
                        epoch: at.epoch,
                        bytes: &batch.bytes,
                    });
                    last = batch.last().map(|last| (at.epoch, last));
                    at.frame = batch.next().unwrap_or(span.end_frame);
                    walk.watch.breathe();
                }
                Ok(Read::Gap { next }) => at.frame = next.max(at.frame + 1),
                Ok(Read::EndOfEpoch { .. } | Read::AtTail) => break,
                Err(ReadError::UnknownEpoch { .. }) => break,
                Err(error) => return Err(unreadable(error)),
            }
        }
    }
    let tail = last.map(|(epoch, last)| LocalTail {
        epoch,
        last: Some(last),
        at_watermark: Some(last.hash),
    });
    Ok(ledger.report(walk.watch.now(), tail))
}
