//! Reading a day of record from its files.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value as Json, json};
use tidegate_journal::{Kind, Read, Reader, frame};
use tidegate_record::samples::{Scanner, TagSet};

use crate::frames::Tally;
use crate::make::{bytes_of, reader};
use crate::{Failure, cpu, float};

/// Bytes that are read at once.
const BUDGET: usize = 1 << 20;

/// Reads every frame of every epoch.
fn scan_all(reader: &Reader, tags: &TagSet, tallies: &mut [Tally]) -> Result<u64, Failure> {
    let mut scanner = Scanner::new();
    let mut samples = 0;
    for span in reader.epochs() {
        let mut next = span.first_frame;
        while next < span.end_frame {
            match reader.read_from(span.epoch, next, BUDGET)? {
                Read::Frames(batch) => {
                    let mut rest = batch.bytes.as_slice();
                    while let Ok(found) = frame::decode(rest) {
                        rest = rest.get(found.bytes.len()..).unwrap_or_default();
                        if found.kind != Kind::Samples {
                            continue;
                        }
                        scanner.scan(&found, tags, |run| {
                            samples += run.len() as u64;
                            if let Some(tally) = tallies.get_mut(run.tag.0 as usize) {
                                tally.add(run);
                            }
                        })?;
                    }
                    next = batch.next().unwrap_or(u64::MAX);
                }
                Read::Gap { next: after } => next = after,
                Read::EndOfEpoch { .. } | Read::AtTail => break,
            }
        }
    }
    Ok(samples)
}

/// The journal read whole, without the engine of questions.
fn whole(reader: &Reader) -> Result<Json, Failure> {
    let mut tallies = vec![Tally::NOTHING; 1 << 16];
    let (begun, from) = (Instant::now(), cpu());
    let samples = scan_all(reader, &TagSet::all(), &mut tallies)?;
    let (took, used) = (begun.elapsed(), cpu().saturating_sub(from));
    black_box(tallies);
    Ok(json!({
        "table": "ask",
        "what": "every frame read and added up",
        "rows": 0,
        "seconds": took.as_secs_f64(),
        "cpu_s": used.as_secs_f64(),
        "samples": samples,
        "samples_per_core_s": float(samples) / used.as_secs_f64(),
    }))
}

pub(crate) fn rows(place: &Path) -> Result<Vec<Json>, Failure> {
    let (journal, reader) = reader(place)?;
    let mut rows = vec![json!({
        "table": "files",
        "journal_bytes": bytes_of(place, ".tgj")?,
        "sidecar_bytes": bytes_of(place, ".tgx")?,
    })];
    rows.push(whole(&reader)?);
    journal.close()?;
    Ok(rows)
}
