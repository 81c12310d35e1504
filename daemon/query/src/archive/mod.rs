//! Answers from the gateway's record.
//!
//! # Invariants
//! - Nothing is written and no lock is held while the record is read; the writer never waits.
//! - Memory is bounded by the limits in `plan` and `buckets`, whatever is asked.
//! - Every frame that was in the range and was not read is named: by a gap, or by `partial`.
//! - A question that is continued asks the range that it asked at first, even if it was told
//!   relative to the present.

mod at;
mod book;
mod buckets;
mod coverage;
mod losses;
mod names;
mod place;
mod plan;
mod prove;
mod raw;
mod walk;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;
use tidegate_journal::Reader;
use tidegate_record::{Catalog, Moment};

use crate::sidecar::Sidecars;
use crate::{Code, History, LossesQuestion, PartialCause, ProveQuestion, Refusal, Source, Summary};
use book::Book;
use plan::{Plan, What};
use walk::Walk;

/// One row of an answer, as its JSON object.
#[derive(Debug, Clone)]
pub struct Row(pub Box<RawValue>);

impl Row {
    fn of(json: String) -> Result<Self, Refusal> {
        RawValue::from_string(json)
            .map(Self)
            .map_err(|error| Refusal::new(Code::Unreadable, format!("row is no JSON: {error}")))
    }
}

/// Who waits for an answer. Asked between two frames, so it must be cheap.
pub trait Watch {
    /// The wall clock, nanoseconds since 1970 UTC.
    fn now(&self) -> i64;
    /// Why the answer must end now; `None` to go on.
    fn ended(&self) -> Option<PartialCause>;
    /// Gives way to collection. Called after every page of the record, about 256 KiB.
    fn breathe(&self) {}
}

/// Where the gateway's tag numbers are known.
pub trait Catalogs: Send + Sync {
    /// Those of the epoch that is being written.
    fn current(&self) -> Arc<Catalog>;
}

/// The most of everything that one question may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Rows of one answer.
    pub max_rows: u64,
    /// Tags that the patterns may mean.
    pub max_tags: usize,
    /// Steps of time between the beginning and the end of a range.
    pub max_steps: u64,
}

impl Default for Bounds {
    /// Twice the tags of the largest gateway that is aimed at; a week in seconds.
    fn default() -> Self {
        Self { max_rows: 1_000_000, max_tags: 100_000, max_steps: 1_000_000 }
    }
}

/// Takes rows. [`ControlFlow::Break`] says that this row was not taken: the answer ends before it,
/// and its `next` begins with it.
pub type Out<'a> = dyn FnMut(Row) -> ControlFlow<()> + 'a;

/// The record of one gateway, for questions.
pub struct Archive {
    gateway: String,
    reader: Reader,
    catalogs: Arc<dyn Catalogs>,
    sidecars: Arc<Sidecars>,
    book: Mutex<Book>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

impl Archive {
    /// The record behind `reader`; `gateway` is `PLANT/NAME`.
    #[must_use]
    pub fn new(gateway: String, reader: Reader, catalogs: Arc<dyn Catalogs>) -> Self {
        let sidecars = Arc::new(Sidecars::new(reader.clone()));
        Self { gateway, reader, catalogs, sidecars, book: Mutex::new(Book::default()) }
    }

    /// The digests of the record, to be carried on in the background.
    #[must_use]
    pub fn sidecars(&self) -> Arc<Sidecars> {
        Arc::clone(&self.sidecars)
    }

    /// Reads on in what is no sample, so that the first question need not. For a thread in the
    /// background, after [`Sidecars::advance`].
    ///
    /// # Errors
    /// When the record cannot be read, or `watch` ended it before its end; the next call goes on.
    pub fn keep_up(&self, watch: &dyn Watch) -> Result<(), Refusal> {
        self.book(&mut self.walk(watch)).map(drop)
    }

    fn walk<'a>(&'a self, watch: &'a dyn Watch) -> Walk<'a> {
        Walk::new(&self.reader, &self.sidecars, watch)
    }

    /// Answers from the record: single samples, buckets, or the state at a moment. Blocks while it
    /// reads.
    ///
    /// # Errors
    /// When the question cannot be answered, or the record cannot be read.
    pub fn history(
        &self,
        question: &History,
        bounds: &Bounds,
        watch: &dyn Watch,
        out: &mut Out<'_>,
    ) -> Result<Summary, Refusal> {
        let plan = Plan::of(question, bounds, watch.now())?;
        let mut walk = self.walk(watch);
        let book = self.book(&mut walk)?;
        let mut names = self.names(&plan.patterns, bounds, &mut walk, &book)?;
        walk.believe(&book);
        drop(book);
        let mut answer = Answer::new(plan.limit, out);
        match &plan.what {
            What::Raw => raw::answer(&plan, &names, &mut walk, &mut answer)?,
            What::Buckets(steps) => buckets::answer(&plan, steps, &names, &mut walk, &mut answer)?,
            What::At => at::answer(&plan, &names, &mut walk, &mut answer)?,
        }
        let mut summary = answer.summary(&self.gateway, &walk);
        summary.notes.splice(0..0, plan.notes.iter().cloned().chain(names.notes.drain(..)));
        if plan.what != What::At {
            let tags = names.meant();
            let kept = walk.kept();
            let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            let missing = coverage::missing(&book, &walk.damage, plan.past(), kept);
            summary.coverage = Some(coverage::of(plan.past(), &tags, missing));
            summary.notes.extend(book.notes());
        }
        Ok(summary)
    }

    /// What the record does not hold, and why. Blocks while it reads.
    ///
    /// # Errors
    /// When the question cannot be answered, or the record cannot be read.
    pub fn losses(
        &self,
        question: &LossesQuestion,
        bounds: &Bounds,
        watch: &dyn Watch,
        out: &mut Out<'_>,
    ) -> Result<Summary, Refusal> {
        losses::answer(self, question, bounds, watch, out)
    }

    /// The gateway's own side of the proof, a row for each epoch. Blocks while it reads.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn prove(
        &self,
        question: &ProveQuestion,
        watch: &dyn Watch,
        out: &mut Out<'_>,
    ) -> Result<Summary, Refusal> {
        prove::answer(self, question, watch, out)
    }

    /// What is no sample, read on to the durable end.
    fn book(&self, walk: &mut Walk<'_>) -> Result<MutexGuard<'_, Book>, Refusal> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.observe(walk)?;
        Ok(book)
    }
}

/// An answer on its way out.
struct Answer<'a, 'o> {
    limit: u64,
    out: &'a mut Out<'o>,
    rows: u64,
    next: Option<String>,
    partial: Option<PartialCause>,
    notes: Vec<String>,
}

impl<'a, 'o> Answer<'a, 'o> {
    fn new(limit: u64, out: &'a mut Out<'o>) -> Self {
        Self { limit, out, rows: 0, next: None, partial: None, notes: Vec::new() }
    }

    /// Gives one row, which stands at `place`. [`ControlFlow::Break`]: it was not taken, and the
    /// answer ends before it.
    fn give(
        &mut self,
        json: String,
        place: impl FnOnce() -> String,
    ) -> Result<ControlFlow<()>, Refusal> {
        if self.rows >= self.limit {
            self.cut(Some(PartialCause::Rows), place());
            return Ok(ControlFlow::Break(()));
        }
        if (self.out)(Row::of(json)?).is_break() {
            self.cut(Some(PartialCause::Bytes), place());
            return Ok(ControlFlow::Break(()));
        }
        self.rows += 1;
        Ok(ControlFlow::Continue(()))
    }

    fn cut(&mut self, cause: Option<PartialCause>, next: String) {
        self.partial = cause;
        self.next = Some(next);
    }

    fn summary(self, gateway: &str, walk: &Walk<'_>) -> Summary {
        let mut notes = self.notes;
        if walk.misfits > 0 {
            notes.push(format!("{} frames do not hold what their headers say", walk.misfits));
        }
        let dropped = walk.dropped.then_some(PartialCause::Dropped);
        Summary {
            rows: self.rows,
            sources: vec![Source {
                gateway: gateway.to_owned(),
                at: Moment(walk.watch.now()).rfc3339(),
                rows: self.rows,
            }],
            next: self.next,
            partial: self.partial.or(dropped),
            bytes_read: walk.bytes(),
            notes,
            ..Summary::default()
        }
    }
}
