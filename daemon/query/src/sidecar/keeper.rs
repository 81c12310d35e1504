//! The digests of one journal: from the sidecars, and made where there are none.
//!
//! # Invariants
//! - The segment being written is read once, as it grows; each later look reads what is new.
//! - A segment without a sidecar is read whole once, and its sidecar kept when that works; what
//!   failed for one is not tried again in this process.
//! - No lock is held while a sealed segment is read.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_journal::{ReadError, Reader, SegmentSpan, SidecarError, Visited};

use super::file::{Stored, encode};
use super::tally::Tally;
use super::{Content, Digest};

/// Segments of which it is remembered that they get no sidecar; beyond that they are tried again.
const MAX_GIVEN_UP: usize = 4096;
/// Tallies kept while nobody advances.
const MAX_LIVE: usize = 2;
/// Head and checksums of a sidecar, which count as its own.
const HEAD_BYTES: usize = 12 << 10;

/// The digests of a journal's segments.
pub struct Sidecars {
    reader: Reader,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of the segment being written, behind those that were sealed since the last [`Sidecars::advance`].
    live: Vec<(u64, Arc<Mutex<Tally>>)>,
    given_up: BTreeSet<u64>,
    walls: HashMap<u64, (i64, i64)>,
}

impl State {
    fn of(&self, number: u64) -> Option<Arc<Mutex<Tally>>> {
        self.live.iter().find(|(it, _)| *it == number).map(|(_, tally)| Arc::clone(tally))
    }
}

impl std::fmt::Debug for Sidecars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sidecars").field("reader", &self.reader).finish_non_exhaustive()
    }
}

/// What [`Sidecars::advance`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do: a segment without a sidecar.
    More,
    /// Everything durable is taken in.
    Done,
}

impl Sidecars {
    /// Of the journal behind this reader; one in a process.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        Self { reader, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wall-clock range of a sealed segment, as far as it was looked at before; nanoseconds
    /// since 1970 UTC.
    #[must_use]
    pub fn wall(&self, span: &SegmentSpan) -> Option<(i64, i64)> {
        self.state().walls.get(&span.number).copied()
    }

    /// What a segment holds in short; `None` when the frames must be read: `go_on`, which is asked
    /// between two frames, said no, the segment is gone, or its digest would be too large.
    ///
    /// `reader` reads the sidecar and counts it.
    ///
    /// # Errors
    /// When the segment cannot be read.
    pub fn of(
        &self,
        span: &SegmentSpan,
        reader: &Reader,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Digest>, ReadError> {
        if !span.sealed {
            return self.live(span, reader, go_on);
        }
        if let Some(digest) = self.stored(span, reader) {
            return Ok(Some(digest));
        }
        let live = {
            let state = self.state();
            if state.given_up.contains(&span.number) {
                return Ok(None);
            }
            state.of(span.number)
        };
        let tally = live.unwrap_or_else(|| Arc::new(Mutex::new(Tally::new(span.first_frame))));
        if !fold(reader, span, &tally, go_on)? {
            return Ok(None);
        }
        self.keep(span, &tally);
        let digest = Digest::in_memory(&tally);
        self.remember(span, &digest);
        Ok(Some(digest))
    }

    fn live(
        &self,
        span: &SegmentSpan,
        reader: &Reader,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Digest>, ReadError> {
        let tally = {
            let mut state = self.state();
            state.of(span.number).unwrap_or_else(|| {
                let tally = Arc::new(Mutex::new(Tally::new(span.first_frame)));
                state.live.push((span.number, Arc::clone(&tally)));
                if state.live.len() > MAX_LIVE {
                    state.live.remove(0);
                }
                tally
            })
        };
        let whole = fold(reader, span, &tally, go_on)?;
        Ok(whole.then(|| Digest::in_memory(&tally)))
    }

    fn stored(&self, span: &SegmentSpan, reader: &Reader) -> Option<Digest> {
        let sidecar = reader.sidecar(span)?;
        match Stored::open(Box::new(sidecar)).filter(|it| it.end_frame() <= span.end_frame) {
            Some(stored) => {
                let content = Content::Stored(Arc::new(stored), reader.clone(), *span);
                let digest = Digest(content);
                self.remember(span, &digest);
                Some(digest)
            }
            None => {
                // Of another version of this program, or damaged.
                reader.drop_sidecar(span);
                None
            }
        }
    }

    fn remember(&self, span: &SegmentSpan, digest: &Digest) {
        if let Some(wall) = digest.wall() {
            self.state().walls.insert(span.number, wall);
        }
    }

    /// Writes the sidecar of a sealed segment.
    fn keep(&self, span: &SegmentSpan, tally: &Mutex<Tally>) {
        let limit = usize::try_from(self.reader.sidecar_limit()).unwrap_or(usize::MAX);
        let content = encode(
            &mut tally.lock().unwrap_or_else(PoisonError::into_inner),
            limit.saturating_sub(HEAD_BYTES),
        );
        let kept = content.is_some_and(|content| match self.reader.keep_sidecar(span, &content) {
            Ok(()) | Err(SidecarError::NotSealed { .. }) => true,
            Err(_) => false,
        });
        if !kept {
            let mut state = self.state();
            if state.given_up.len() >= MAX_GIVEN_UP {
                state.given_up.pop_first();
            }
            state.given_up.insert(span.number);
        }
    }

    /// Takes in what became durable since the last call, and writes at most one sidecar, of the
    /// newest segment that lacks one. For a thread in the background; `go_on` is asked between two
    /// frames.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn advance(&self, go_on: &mut dyn FnMut() -> bool) -> Result<Progress, ReadError> {
        let segments = self.reader.segments();
        self.forget_others(&segments);
        let Some(active) = segments.last() else { return Ok(Progress::Done) };
        // Those sealed since the last call are in memory already, except for their ends.
        let sealed = {
            let mut state = self.state();
            let live = std::mem::take(&mut state.live);
            let (active, sealed): (Vec<_>, Vec<_>) =
                live.into_iter().partition(|(number, _)| *number == active.number);
            state.live = active;
            sealed
        };
        for (number, tally) in sealed {
            if let Some(span) = segments.iter().find(|it| it.number == number)
                && !span.sidecar
                && self.reader.sidecar_limit() > 0
                && fold(&self.reader, span, &tally, go_on)?
            {
                self.keep(span, &tally);
            }
        }
        if self.live(active, &self.reader, go_on)?.is_none() {
            return Ok(Progress::More);
        }
        if self.reader.sidecar_limit() == 0 {
            return Ok(Progress::Done);
        }
        let missing = |span: &&SegmentSpan| {
            span.sealed && !span.sidecar && !self.state().given_up.contains(&span.number)
        };
        let mut missing = segments.iter().rev().filter(missing);
        let Some(span) = missing.next() else { return Ok(Progress::Done) };
        let tally = Mutex::new(Tally::new(span.first_frame));
        if fold(&self.reader, span, &tally, go_on)? {
            self.keep(span, &tally);
        }
        Ok(Progress::More)
    }

    /// Memory of segments that are not kept any more.
    fn forget_others(&self, segments: &[SegmentSpan]) {
        let Some(oldest) = segments.first().map(|it| it.number) else { return };
        let mut state = self.state();
        state.walls.retain(|number, _| *number >= oldest);
        state.given_up.retain(|number| *number >= oldest);
    }
}

/// Reads on to the end that `span` names; `false` when that was not reached.
fn fold(
    reader: &Reader,
    span: &SegmentSpan,
    tally: &Mutex<Tally>,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<bool, ReadError> {
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    if tally.end_frame() >= span.end_frame {
        return Ok(true);
    }
    let from = tally.end_frame();
    let visited = reader.visit(span, from, &mut |frame, spot| {
        tally.take(frame, spot);
        if go_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(visited == Visited::All)
}
