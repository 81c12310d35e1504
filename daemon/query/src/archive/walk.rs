//! Reading frames for a question, between which it can end.
//!
//! # Invariants
//! - Whoever asked is asked between frames whether to go on; collection is given way after every
//!   page.
//! - Frames that were kept when the question began and are dropped under the reading are noticed.
//! - Reading ends at what was durable when the question began, however fast more is written.

use std::ops::ControlFlow;

use tidegate_journal::{Epoch, EpochSpan, Frame, FrameRef, Read, ReadError, Reader, frame};

use tidegate_record::samples::{Run, Scanner, TagSet};

use super::Watch;
use super::plan::Range;
use crate::{Code, PartialCause, Refusal};

/// About how much is read between two breaths: 10 ms of a slow card.
pub(super) const PAGE_BYTES: usize = 256 * 1024;

/// Is shown frames; may end the reading.
type Visit<'v, 'a> = dyn FnMut(&mut Walk<'a>, &Frame<'_>) -> Result<ControlFlow<()>, Refusal> + 'v;

/// What is read for one question.
pub(super) struct Walk<'a> {
    pub reader: &'a Reader,
    pub watch: &'a dyn Watch,
    /// Bytes of frames and sidecars that were read.
    pub bytes: u64,
    /// Why reading ended before its end.
    pub ended: Option<PartialCause>,
    /// Whether anything was dropped under the reading.
    pub dropped: bool,
    /// Frames whose bodies do not hold what their headers say.
    pub misfits: u64,
    /// What was kept when the question began, oldest first.
    pub epochs: Vec<EpochSpan>,
    scanner: Scanner,
}

impl<'a> Walk<'a> {
    pub(super) fn new(reader: &'a Reader, watch: &'a dyn Watch) -> Self {
        Self {
            reader,
            watch,
            bytes: 0,
            ended: None,
            dropped: false,
            misfits: 0,
            epochs: reader.epochs(),
            scanner: Scanner::new(),
        }
    }

    /// Where an epoch stands among those that were kept.
    pub(super) fn rank(&self, epoch: Epoch) -> Option<usize> {
        self.epochs.iter().position(|span| span.epoch == epoch)
    }

    /// Whether the question must end now; remembered.
    pub(super) fn is_over(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.watch.ended();
        }
        self.ended.is_some()
    }

    /// Shows every frame whose time meets the range, in the order of the record, from `from` or the
    /// oldest on. Returns whether `visit` ended it.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub(super) fn frames(
        &mut self,
        range: Range,
        from: Option<FrameRef>,
        visit: &mut Visit<'_, 'a>,
    ) -> Result<ControlFlow<()>, Refusal> {
        if range.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let wall = (range.from, range.to - 1);
        let mut resume = from;
        loop {
            if self.is_over() {
                return Ok(ControlFlow::Continue(()));
            }
            let page = self.reader.overlapping(wall, resume, PAGE_BYTES).map_err(unreadable)?;
            for batch in &page.batches {
                self.bytes += batch.bytes.len() as u64;
                let Some(span) = self.rank(batch.epoch).and_then(|at| self.epochs.get(at)).copied()
                else {
                    // Of an epoch that began after the question.
                    continue;
                };
                let mut rest = batch.bytes.as_slice();
                while !rest.is_empty() {
                    let frame = frame::decode(rest).map_err(|error| {
                        Refusal::new(Code::Unreadable, format!("frame cannot be read: {error}"))
                    })?;
                    rest = rest.get(frame.bytes.len()..).unwrap_or_default();
                    if frame.header.number >= span.end_frame {
                        break;
                    }
                    if self.is_over() {
                        return Ok(ControlFlow::Continue(()));
                    }
                    if visit(self, &frame)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            self.watch.breathe();
            match page.resume {
                Some(next) => resume = Some(next),
                None => return Ok(ControlFlow::Continue(())),
            }
        }
    }

    /// Shows the runs of these tags in a frame of samples.
    pub(super) fn scan(&mut self, frame: &Frame<'_>, tags: &TagSet, visit: impl FnMut(&Run<'_>)) {
        if self.scanner.scan(frame, tags, visit).is_err() {
            self.misfits += 1;
        }
    }

    /// Notes whether what was oldest when the question began is still kept, if that matters to the
    /// range.
    pub(super) fn look_for_drops(&mut self, range: Range) {
        let Some(first) = self.epochs.first().copied() else { return };
        let oldest = self.reader.oldest();
        let is_kept = oldest
            .is_some_and(|oldest| oldest.epoch == first.epoch && oldest.frame <= first.first_frame);
        if is_kept {
            return;
        }
        // What is gone ended before what is oldest now, by its own clock.
        let begins = oldest.and_then(|oldest| self.wall_of(oldest));
        self.dropped |= begins.is_none_or(|(begins, _)| range.from < begins);
    }

    /// The time of one frame, of which the first that is kept is looked at.
    pub(super) fn wall_of(&mut self, at: FrameRef) -> Option<(i64, i64)> {
        let read = self.reader.read_from(at.epoch, at.frame, 1).ok()?;
        let batch = match read {
            Read::Frames(batch) => batch,
            Read::Gap { next } => match self.reader.read_from(at.epoch, next, 1).ok()? {
                Read::Frames(batch) => batch,
                _ => return None,
            },
            _ => return None,
        };
        self.bytes += batch.bytes.len() as u64;
        frame::decode(&batch.bytes).ok().map(|frame| frame.header.wall)
    }
}

/// A record that cannot be read, for whoever asked.
pub(super) fn unreadable(error: ReadError) -> Refusal {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Refusal::new(Code::Unreadable, format!("{text}; see the gateway's status"))
}
