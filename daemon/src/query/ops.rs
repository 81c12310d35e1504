//! What each operation answers, and from where.
//!
//! # Invariants
//! - Everything here blocks, and ends soon after its watch does.
//! - `status` and `devices` are made at most ten times a second, however often they are asked: they
//!   look at every tag.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value, json};
use tidegate_query::{
    Archive, Bounds, Code, LatestQuestion, Out, Page, PartialCause, Question, ReadQuestion,
    Refusal, Row, Source, Summary, Watch,
};
use tidegate_record::json::value_tree;
use tidegate_record::{Catalog, Moment};
use tidegate_translator::{TagId, TagPath, ValueKind};

use super::credit::Running;
use super::paging::Wanted;
use super::service::Sources;
use crate::observe::state::{Board, StatusReport, TagReport};
use crate::run::{FreshReading, MAX_FRESH_TAGS};

/// Makes rows of some tags, each with its path.
type Describe<'a> =
    dyn FnMut(&Board, &[(TagId, TagPath)]) -> Result<Vec<(String, Row)>, Refusal> + 'a;

/// How old a status may be that is shown once more.
const GLANCE: Duration = Duration::from_millis(100);
/// How much of its time a question leaves for the way back.
const WAY_BACK: Duration = Duration::from_millis(250);
/// How often a reading from a device is looked at for being cancelled.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Everything that questions are answered from.
pub(super) struct Ops {
    sources: Sources,
    archive: Arc<Archive>,
    bounds: Bounds,
    glance: Mutex<Option<(Instant, Arc<StatusReport>)>>,
}

impl Ops {
    pub(super) fn new(sources: Sources, archive: Archive, max_rows: u64) -> Self {
        let bounds = Bounds { max_rows, ..Bounds::default() };
        Self { sources, archive: Arc::new(archive), bounds, glance: Mutex::default() }
    }

    /// What answers from the record.
    pub(super) fn archive(&self) -> Arc<Archive> {
        Arc::clone(&self.archive)
    }

    fn board(&self) -> &Board {
        &self.sources.board
    }

    /// Answers; `runtime` is where devices are waited for.
    ///
    /// # Errors
    /// When there is no answer, or no more of it.
    pub(super) fn produce(
        &self,
        question: &Question,
        running: &Running,
        runtime: &tokio::runtime::Handle,
        out: &mut Out<'_>,
    ) -> Result<Summary, Refusal> {
        match question {
            Question::Status => self.status(running, out),
            Question::Devices => self.devices(running, out),
            Question::Tags(page) => self.tags(page, running, out),
            Question::Latest(page) => self.latest(page, running, out),
            Question::Read(read) => self.read(read, running, runtime, out),
            Question::History(history) => self.archive.history(history, &self.bounds, running, out),
            Question::Losses(losses) => self.archive.losses(losses, &self.bounds, running, out),
            Question::Prove(prove) => self.archive.prove(prove, running, out),
            Question::Cancel(_) | Question::Credit(_) => Ok(self.summary(running)),
        }
    }

    /// A summary without rows.
    pub(super) fn summary(&self, watch: &dyn Watch) -> Summary {
        let source = Source {
            gateway: self.board().gateway().to_string(),
            at: Moment(watch.now()).rfc3339(),
            rows: 0,
        };
        Summary { sources: vec![source], ..Summary::default() }
    }

    fn report(&self) -> Arc<StatusReport> {
        let mut glance = self.glance.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, report)) = &*glance
            && at.elapsed() < GLANCE
        {
            return Arc::clone(report);
        }
        let report = Arc::new(self.board().report(&self.sources.health));
        *glance = Some((Instant::now(), Arc::clone(&report)));
        report
    }

    fn status(&self, watch: &dyn Watch, out: &mut Out<'_>) -> Result<Summary, Refusal> {
        let mut summary = self.summary(watch);
        let report = self.report();
        if out(row(&*report)?).is_break() {
            // Hundreds of devices are longer than a message; they have a question of their own.
            let mut shorter = StatusReport::clone(&report);
            shorter.devices.clear();
            if let Some(questions) = &mut shorter.questions {
                questions.recent.clear();
            }
            summary.notes.push("devices and recent questions are left out; ask devices".to_owned());
            if out(row(&shorter)?).is_break() {
                summary.partial = Some(PartialCause::Bytes);
            }
        }
        Ok(summary)
    }

    fn devices(&self, watch: &dyn Watch, out: &mut Out<'_>) -> Result<Summary, Refusal> {
        let mut summary = self.summary(watch);
        for device in &self.report().devices {
            if out(row(device)?).is_break() {
                summary.partial = Some(PartialCause::Bytes);
                summary.notes.push("not all devices fit; ask with credit".to_owned());
                break;
            }
        }
        Ok(summary)
    }

    fn latest(
        &self,
        page: &LatestQuestion,
        watch: &dyn Watch,
        out: &mut Out<'_>,
    ) -> Result<Summary, Refusal> {
        let catalog = page.search.as_ref().map(|_| self.sources.names.current());
        self.listed(page, watch, out, &mut |board, tags| {
            let mut ids: Vec<TagId> = tags.iter().map(|(id, _)| *id).collect();
            if let (Some(search), Some(catalog)) = (&page.search, &catalog) {
                ids.retain(|id| is_found(catalog, *id, search));
            }
            board
                .reports_of(&ids)
                .iter()
                .map(|it: &TagReport| Ok((it.path.clone(), row(it)?)))
                .collect()
        })
    }

    fn tags(&self, page: &Page, watch: &dyn Watch, out: &mut Out<'_>) -> Result<Summary, Refusal> {
        let catalog = self.sources.names.current();
        self.listed(page, watch, out, &mut |_, tags| {
            let found = |id| page.search.as_ref().is_none_or(|it| is_found(&catalog, id, it));
            let known = tags.iter().filter(|(id, _)| found(*id));
            known
                .map(|(id, path)| Ok((path.to_string(), described(&catalog, *id, path)?)))
                .collect()
        })
    }

    /// A page of a list in the order of paths; `rows` makes rows of some tags, each with its path.
    fn listed(
        &self,
        page: &Page,
        watch: &dyn Watch,
        out: &mut Out<'_>,
        rows: &mut Describe<'_>,
    ) -> Result<Summary, Refusal> {
        let board = self.board();
        if !board.is_configured() {
            return Err(starting());
        }
        let limit = match page.limit {
            Some(0) => return Err(Refusal::new(Code::BadLimit, "limit 0; ask for 1 row or more")),
            Some(limit) => limit.min(self.bounds.max_rows),
            None => self.bounds.max_rows,
        };
        let wanted = Wanted::new(&page.tags)?;
        let mut summary = self.summary(watch);
        let (mut given, mut last, mut failed) = (0_u64, page.after.clone(), None);
        wanted.visit(board, page.after.as_deref(), watch, &mut |tags| {
            let rows = match rows(board, &tags) {
                Ok(rows) => rows,
                Err(refusal) => {
                    failed = Some(refusal);
                    return false;
                }
            };
            for (path, row) in rows {
                if given >= limit {
                    summary.partial = Some(PartialCause::Rows);
                    return false;
                }
                if out(row).is_break() {
                    summary.partial = Some(PartialCause::Bytes);
                    return false;
                }
                given += 1;
                last = Some(path);
            }
            true
        });
        if let Some(refusal) = failed {
            return Err(refusal);
        }
        if summary.partial.is_none() {
            summary.partial = watch.ended();
        }
        if summary.partial.is_some() {
            // An empty text stands before every path.
            summary.next = Some(last.unwrap_or_default());
        } else if given == 0 && page.after.is_none() && !page.tags.is_empty() {
            return Err(unknown_tag(&page.tags));
        }
        Ok(summary)
    }

    fn read(
        &self,
        question: &ReadQuestion,
        running: &Running,
        runtime: &tokio::runtime::Handle,
        out: &mut Out<'_>,
    ) -> Result<Summary, Refusal> {
        let board = self.board();
        if !board.is_configured() {
            return Err(starting());
        }
        if question.tags.is_empty() {
            let text = "no tags named; name those that are to be read";
            return Err(Refusal::new(Code::UnknownTag, text));
        }
        let mut tags: Vec<(TagId, TagPath)> = Vec::new();
        Wanted::new(&question.tags)?.visit(board, None, running, &mut |page| {
            tags.extend(page);
            tags.len() <= MAX_FRESH_TAGS
        });
        if tags.is_empty() {
            return Err(unknown_tag(&question.tags));
        }
        if tags.len() > MAX_FRESH_TAGS {
            let text = format!("more than {MAX_FRESH_TAGS} tags are meant; read fewer at once");
            return Err(Refusal::new(Code::TooMuch, text));
        }
        let ids: Vec<TagId> = tags.iter().map(|(id, _)| *id).collect();
        let left = running.deadline.saturating_duration_since(Instant::now());
        let within = left.saturating_sub(WAY_BACK.min(left / 4));
        let readings = runtime.block_on(async {
            let deadline = tokio::time::Instant::now() + within;
            let mut reading = std::pin::pin!(self.sources.fresh.read(&ids, deadline));
            loop {
                tokio::select! {
                    readings = &mut reading => return Some(readings),
                    () = tokio::time::sleep(LOOK_EVERY) => {
                        if running.ended().is_some() {
                            return None;
                        }
                    }
                }
            }
        });
        let mut summary = self.summary(running);
        let Some(readings) = readings else {
            let (code, text) = match running.ended() {
                Some(PartialCause::Cancelled) => (Code::Cancelled, "question was cancelled"),
                _ => (Code::Deadline, "devices did not answer in time; allow more, or read fewer"),
            };
            return Err(Refusal::new(code, text));
        };
        let catalog = self.sources.names.current();
        for ((id, path), reading) in tags.iter().zip(&readings) {
            let unit = catalog.resolve(*id).and_then(|entry| entry.unit.as_deref());
            if out(fresh(path, unit, reading)?).is_break() {
                summary.partial = Some(PartialCause::Bytes);
                summary
                    .notes
                    .push("not all readings fit; read fewer, or ask with credit".to_owned());
                break;
            }
        }
        Ok(summary)
    }
}

/// Whether a question is answered in less time than it takes to start a thread.
pub(super) fn is_light(question: &Question) -> bool {
    match question {
        Question::Status | Question::Devices => true,
        Question::Latest(page) => {
            page.search.is_none()
                && page.tags.len() <= 16
                && Wanted::new(&page.tags).is_ok_and(|wanted| wanted.is_plain())
        }
        _ => false,
    }
}

/// Which tags a question is about, for the audit.
pub(super) fn subject_of(question: &Question) -> &[String] {
    match question {
        Question::Tags(page) | Question::Latest(page) => &page.tags,
        Question::Read(read) => &read.tags,
        Question::History(history) => &history.tags,
        Question::Losses(losses) => &losses.tags,
        _ => &[],
    }
}

fn starting() -> Refusal {
    Refusal::new(Code::NotReady, "the gateway has only just started; ask again in a second")
}

fn unknown_tag(patterns: &[String]) -> Refusal {
    let first: String =
        patterns.first().into_iter().flat_map(|text| text.chars().take(80)).collect();
    let more = if patterns.len() > 1 { " and the others" } else { "" };
    let text =
        format!("no tag of this gateway is meant by {first:?}{more}; ask tags for those there are");
    Refusal::new(Code::UnknownTag, text)
}

fn row(value: &impl Serialize) -> Result<Row, Refusal> {
    serde_json::value::to_raw_value(value).map(Row).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> Refusal {
    Refusal::new(Code::Unreadable, format!("row is no JSON: {error}"))
}

fn is_found(catalog: &Catalog, id: TagId, search: &str) -> bool {
    let Some(entry) = catalog.resolve(id) else { return false };
    let wanted = search.to_lowercase();
    let unit = entry.unit.as_deref().unwrap_or_default();
    [entry.path.as_str(), unit, &entry.device, &entry.address]
        .iter()
        .any(|text| text.to_lowercase().contains(&wanted))
}

fn described(catalog: &Catalog, id: TagId, path: &TagPath) -> Result<Row, Refusal> {
    let mut out = Map::new();
    out.insert("path".to_owned(), path.as_str().into());
    if let Some(entry) = catalog.resolve(id) {
        out.insert("kind".to_owned(), kind_word(entry.kind).into());
        if let Some(unit) = entry.unit.as_deref() {
            out.insert("u".to_owned(), unit.into());
        }
        out.insert("device".to_owned(), (*entry.device).into());
        out.insert("address".to_owned(), (*entry.address).into());
        out.insert("source".to_owned(), (*entry.source).into());
    }
    row(&out)
}

const fn kind_word(kind: ValueKind) -> Option<&'static str> {
    Some(match kind {
        ValueKind::None => return None,
        ValueKind::Bool => "bool",
        ValueKind::I64 => "i64",
        ValueKind::U64 => "u64",
        ValueKind::F32 => "f32",
        ValueKind::F64 => "f64",
        ValueKind::Text => "text",
        ValueKind::Bytes => "bytes",
        ValueKind::Json => "json",
    })
}

fn fresh(path: &TagPath, unit: Option<&str>, reading: &FreshReading) -> Result<Row, Refusal> {
    let sample = &reading.sample;
    let (value, inexact) = value_tree(&sample.value);
    let time = sample.source.or(sample.server).unwrap_or(sample.acquired);
    let mut out = json!({
        "path": path.as_str(), "v": value, "q": sample.quality.word(),
        "ts": Moment(time.0).rfc3339(), "fresh": reading.error.is_none(),
    });
    let why = sample.quality.reason().map(|reason| reason.word());
    let beside = [
        ("why", why.or(inexact.map(|inexact| inexact.word()))),
        ("u", unit),
        ("error", reading.error.as_deref()),
    ];
    for (key, text) in beside {
        if let (Some(text), Value::Object(out)) = (text, &mut out) {
            out.insert(key.to_owned(), text.into());
        }
    }
    row(&out)
}
