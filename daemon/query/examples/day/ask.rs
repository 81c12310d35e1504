//! Reading a day of record from its files.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value as Json, json};
use tidegate_journal::{Kind, Read, Reader, frame};
use tidegate_query::{Aggregate, Archive, Bounds, Catalogs, History, PartialCause, Watch, Wish};
use tidegate_record::Catalog;
use tidegate_record::samples::{Scanner, TagSet};

use crate::frames::Tally;
use crate::make::{Day, SECOND, bytes_of, now, reader};
use crate::{Failure, cpu, float};

/// Bytes that are read at once.
const BUDGET: usize = 1 << 20;
const HOUR: i64 = 3_600 * SECOND;

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

/// Whoever asks is in no hurry.
struct Patient;

impl Watch for Patient {
    fn now(&self) -> i64 {
        now()
    }

    fn ended(&self) -> Option<PartialCause> {
        None
    }
}

struct Known(Arc<Catalog>);

impl Catalogs for Known {
    fn current(&self) -> Arc<Catalog> {
        Arc::clone(&self.0)
    }
}

/// A question and what answering it took.
struct Asked<'a> {
    archive: &'a Archive,
    journal_bytes: u64,
}

impl Asked<'_> {
    fn ask(&self, what: &str, question: &History, samples: u64) -> Result<Json, Failure> {
        let bounds = Bounds { max_rows: u64::MAX, ..Bounds::default() };
        let mut bytes = 0;
        let (begun, from) = (Instant::now(), cpu());
        let summary = self.archive.history(question, &bounds, &Patient, &mut |row| {
            bytes += row.0.get().len();
            ControlFlow::Continue(())
        });
        let (took, used) = (begun.elapsed(), cpu().saturating_sub(from));
        let summary = summary.map_err(|refusal| format!("{what}: {refusal:?}"))?;
        if summary.partial.is_some() {
            return Err(format!("{what}: cut by {:?}", summary.partial).into());
        }
        Ok(json!({
            "table": "ask",
            "what": what,
            "rows": summary.rows,
            "answer_bytes": bytes,
            "seconds": took.as_secs_f64(),
            "cpu_s": used.as_secs_f64(),
            "samples": samples,
            "samples_per_core_s": float(samples) / used.as_secs_f64(),
            "bytes_read": summary.bytes_read,
            "read_percent": 100.0 * float(summary.bytes_read) / float(self.journal_bytes),
            "coverage": summary.coverage.map(|coverage| coverage.share),
        }))
    }
}

pub(crate) fn rows(place: &Path, tags: &str) -> Result<Vec<Json>, Failure> {
    let (journal, reader) = reader(place)?;
    let day = Day { tags: tags.parse()?, seconds: 0, start: 0 };
    let (from, to) = span(&reader)?;
    let samples: u64 = reader.epochs().iter().map(|span| span.end_seq - span.first_seq).sum();
    let mut rows = vec![whole(&reader)?];
    let journal_bytes = bytes_of(place, ".tgj")?;
    let known = Arc::new(Known(Arc::new(day.catalog()?)));
    let archive = Archive::new("PlantA/gw-bench".into(), reader, known);
    let asked = Asked { archive: &archive, journal_bytes };
    let one = "PlantA/Bench/D0/t507";
    let whole_day = (from, to);
    let of_one = samples / u64::from(day.tags.max(1));
    let first = over(one, whole_day, Some("5m"));
    rows.push(asked.ask("one tag, all of it, every 5 min: the first question", &first, of_one)?);
    let hour = if to - from < 2 * HOUR { whole_day } else { (to - 2 * HOUR, to - HOUR) };
    let more = [
        ("one tag, all of it, every 5 min", first.clone(), of_one),
        ("one tag, raw, 1 h", over(one, hour, None), 3_600),
        ("every tag, all of it, every 5 min", over("**", whole_day, Some("5m")), samples),
        ("every tag, all of it, every 4 min", means("**", whole_day, "4m"), samples),
        ("every tag, the state 3 h ago", at("**", to - 3 * HOUR), u64::from(day.tags)),
    ];
    for (what, question, samples) in more {
        rows.push(asked.ask(what, &question, samples)?);
    }
    journal.close()?;
    rows.push(json!({
        "table": "files",
        "samples": samples,
        "journal_bytes": bytes_of(place, ".tgj")?,
        "sidecar_bytes": bytes_of(place, ".tgx")?,
    }));
    Ok(rows)
}

/// The samples of a range, single or in steps.
fn over(tags: &str, (from, to): (i64, i64), every: Option<&str>) -> History {
    History {
        tags: vec![tags.to_owned()],
        from: Some(Wish::At(from)),
        to: Some(Wish::At(to)),
        every: every.map(str::to_owned),
        ..History::default()
    }
}

/// Means alone, in steps that no sidecar has.
fn means(tags: &str, range: (i64, i64), every: &str) -> History {
    History { agg: vec![Aggregate::Avg], ..over(tags, range, Some(every)) }
}

/// The state of these tags at a moment.
fn at(tags: &str, moment: i64) -> History {
    History { tags: vec![tags.to_owned()], at: Some(Wish::At(moment)), ..History::default() }
}

/// From the first frame to the last one, in whole seconds.
fn span(reader: &Reader) -> Result<(i64, i64), Failure> {
    let first = reader.oldest().ok_or("the journal is empty")?;
    let (epoch, last) = reader.durable().ok_or("the journal is empty")?;
    let wall = |epoch, number| match reader.read_from(epoch, number, 1)? {
        Read::Frames(batch) => Ok::<_, Failure>(frame::decode(&batch.bytes)?.header.wall),
        _ => Err("a frame is gone".into()),
    };
    let (from, to) = (wall(first.epoch, first.frame)?.0, wall(epoch, last.frame)?.1);
    Ok((from, to + SECOND - to.rem_euclid(SECOND)))
}
