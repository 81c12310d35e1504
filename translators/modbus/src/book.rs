//! The book of slots: every slot of every tag ends as exactly one sample or one missed reading.
//!
//! # Invariants
//! - Samples handed over plus missed readings reported equal the slots accounted for, tag by tag.
//! - A tag turns bad once, when its device is lost or it is refused; while that lasts its slots are
//!   missed, not repeated as samples.
//! - A device from which nothing was heard for two poll periods has no good tag left, whatever a
//!   request still waits for. Polls that follow each other faster than answers may come are given
//!   the time of an answer, half a second at most.
//! - Times come from the injected clock; a slot's wall time is reckoned back from it.

use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::{
    Clock, LossCause, Missed, Quality, Reason, Sample, Sink, TagId, Timestamp, Value,
};
use tokio::time::Instant;

use crate::blocks::Cause;
use crate::spec::DeviceSpec;
use tidegate_translator::grid::Grid;

/// A tag that is polled each 10 ms is not lost because one answer took 20.
const SHORTEST_SILENCE: Duration = Duration::from_millis(500);

/// What the last sample of a tag said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// There is none yet.
    Unknown,
    /// The device answered.
    Answered,
    /// Refused with this exception.
    Refused(u8),
    /// The device, or this part of it, does not answer.
    Silent,
}

/// One tag's page.
#[derive(Debug, Clone)]
struct Page {
    id: TagId,
    /// The first slot that is not accounted for.
    next: u64,
    standing: Standing,
}

/// The book of one device.
pub(crate) struct Book {
    device: Arc<str>,
    spec: Arc<DeviceSpec>,
    pages: Box<[Page]>,
    pub(crate) grid: Grid<Instant>,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn Sink>,
    /// When the device was last heard, an exception included.
    heard: Instant,
    /// Why nothing is heard; `None` while the device answers.
    silent: Option<Reason>,
    /// Whether every tag already says so.
    told: bool,
    /// Slots of single tags missed in this cycle.
    missed: Vec<(usize, u64, LossCause)>,
}

impl Book {
    pub(crate) fn new(
        device: Arc<str>,
        spec: Arc<DeviceSpec>,
        ids: &[TagId],
        grid: Grid<Instant>,
        clock: Arc<dyn Clock>,
        sink: Arc<dyn Sink>,
    ) -> Self {
        let page = |id: &TagId| Page { id: *id, next: 0, standing: Standing::Unknown };
        let pages = ids.iter().map(page).collect();
        let heard = grid.due(0);
        let missed = Vec::new();
        Self { device, spec, pages, grid, clock, sink, heard, silent: None, told: false, missed }
    }

    /// The path of a tag.
    pub(crate) fn path(&self, tag: usize) -> Arc<str> {
        self.spec.tags.get(tag).map_or_else(|| "?".into(), |tag| tag.path.shared())
    }

    /// The number of a tag.
    pub(crate) fn id(&self, tag: usize) -> Option<TagId> {
        self.pages.get(tag).map(|page| page.id)
    }

    pub(crate) const fn tags(&self) -> usize {
        self.pages.len()
    }

    /// When silence must be told unless something is heard before; `None` when it was.
    pub(crate) fn silent_at(&self) -> Option<Instant> {
        let shortest = self.spec.timeout.min(SHORTEST_SILENCE);
        (!self.told).then(|| self.heard + shortest.max(2 * self.grid.period()))
    }

    /// The next slot that still needs a poll: the present one, or a later one when every reading
    /// of the present one exists already.
    pub(crate) fn next_slot(&self, now: Instant) -> u64 {
        let begun = self.pages.iter().map(|page| page.next).max().unwrap_or_default();
        self.grid.slot_at(now).max(begun)
    }

    /// The device answered. What passed in silence until now is missed.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.told = false;
        if self.silent.is_some() {
            self.pass(self.grid.slot_at(now), LossCause::DeviceSilent);
            self.silent = None;
        }
    }

    /// Accounts for every slot before `slot` that has no reading: the device was silent, or the
    /// poll before took too long. Tells whether the latter is the case.
    pub(crate) fn pass_before(&mut self, slot: u64) -> bool {
        match self.silent {
            Some(_) => {
                self.pass(slot, LossCause::DeviceSilent);
                false
            }
            None => self.pass(slot, LossCause::PollOverrun),
        }
    }

    /// Accounts for every slot due until now: nobody will read them.
    pub(crate) fn close(&mut self, now: Instant) {
        self.flush();
        self.pass(self.grid.slot_at(now) + 1, LossCause::NotRunning);
    }

    fn pass(&mut self, slot: u64, cause: LossCause) -> bool {
        let mut count = 0;
        let mut first = slot;
        for page in &mut self.pages {
            if page.next < slot {
                count += slot - page.next;
                first = first.min(page.next);
                page.next = slot;
            }
        }
        if count > 0 {
            self.report(None, cause, first..=slot - 1, count);
        }
        count > 0
    }

    /// Adds a tag's reading to `samples`, and tells whether the device refused the tag until now.
    #[inline]
    pub(crate) fn read(
        &mut self,
        tag: usize,
        value: Value,
        quality: Quality,
        acquired: Timestamp,
        samples: &mut Vec<Sample>,
    ) -> bool {
        let Some(page) = self.pages.get_mut(tag) else { return false };
        page.next += 1;
        let before = std::mem::replace(&mut page.standing, Standing::Answered);
        samples.push(Sample { quality, ..Sample::good(page.id, acquired, value) });
        matches!(before, Standing::Refused(_))
    }

    /// The wall clock, for samples.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Hands samples over.
    pub(crate) fn hand_over(&self, samples: Vec<Sample>) {
        if !samples.is_empty() {
            self.sink.samples(samples);
        }
    }

    /// A tag was not read for this cause: bad once, missed from then on. Tells whether it is new.
    pub(crate) fn fail(&mut self, tag: usize, cause: Cause, samples: &mut Vec<Sample>) -> bool {
        let now = self.clock.now();
        let Some(page) = self.pages.get_mut(tag) else { return false };
        let (standing, reason, status, loss) = match cause {
            Cause::Refused(code) => {
                (Standing::Refused(code), Reason::Refused, code, LossCause::DeviceRefused)
            }
            Cause::Poison(reason) => (Standing::Silent, reason, 0, LossCause::DeviceSilent),
        };
        let slot = page.next;
        page.next += 1;
        if page.standing == standing {
            self.missed.push((tag, slot, loss));
            return false;
        }
        let was_refused = matches!(page.standing, Standing::Refused(_) | Standing::Silent);
        page.standing = standing;
        samples.push(Sample::bad(page.id, now, reason, u32::from(status)));
        !was_refused
    }

    /// The device is lost: every tag whose slot up to `slot` is open turns bad, or misses it.
    pub(crate) fn lose(&mut self, slot: u64, reason: Reason, status: u32) {
        self.flush();
        self.silent.get_or_insert(reason);
        let now = self.clock.now();
        let mut samples = Vec::new();
        let mut count = 0;
        let mut first = slot;
        for page in &mut self.pages {
            if page.next > slot {
                continue;
            }
            first = first.min(page.next);
            if page.standing == Standing::Silent {
                count += slot + 1 - page.next;
            } else {
                page.standing = Standing::Silent;
                samples.push(Sample::bad(page.id, now, reason, status));
                count += slot - page.next;
            }
            page.next = slot + 1;
        }
        self.told = self.pages.iter().all(|page| page.standing == Standing::Silent);
        self.hand_over(samples);
        if count > 0 {
            self.report(None, LossCause::DeviceSilent, first..=slot, count);
        }
    }

    /// The device is still lost in `slot`, and nobody asked it.
    pub(crate) fn lose_again(&mut self, slot: u64) {
        self.lose(slot, self.silent.unwrap_or(Reason::NotConnected), 0);
    }

    /// Nothing was heard for so long, although a request may still be waiting: every tag that
    /// is not bad yet turns bad now, in its first open slot. Where everything was refused and
    /// rests, nothing was asked, and there is nothing to tell.
    pub(crate) fn fall_silent(&mut self) {
        self.told = true;
        let reason = self.silent.unwrap_or(Reason::Timeout);
        let now = self.clock.now();
        let mut samples = Vec::new();
        for page in &mut self.pages {
            if matches!(page.standing, Standing::Unknown | Standing::Answered) {
                page.next += 1;
                page.standing = Standing::Silent;
                samples.push(Sample::bad(page.id, now, reason, 0));
            }
        }
        if !samples.is_empty() {
            self.silent = Some(reason);
        }
        self.hand_over(samples);
    }

    /// Reports the single tags' misses of a cycle: one report for the device when it is all of
    /// them for one cause, otherwise one for each tag.
    pub(crate) fn flush(&mut self) {
        let missed = std::mem::take(&mut self.missed);
        let Some(&(_, first_slot, first_cause)) = missed.first() else { return };
        let alike =
            missed.iter().all(|&(_, slot, cause)| (slot, cause) == (first_slot, first_cause));
        if alike && missed.len() == self.pages.len() {
            let count = u64::try_from(missed.len()).unwrap_or(u64::MAX);
            self.report(None, first_cause, first_slot..=first_slot, count);
            return;
        }
        for (tag, slot, cause) in missed {
            self.report(Some(self.path(tag)), cause, slot..=slot, 1);
        }
    }

    fn report(
        &self,
        tag: Option<Arc<str>>,
        cause: LossCause,
        slots: std::ops::RangeInclusive<u64>,
        count: u64,
    ) {
        let (wall, now) = (self.clock.now(), Instant::now());
        let at = |slot| {
            let due = self.grid.due(slot);
            let late = nanos(now.saturating_duration_since(due));
            let early = nanos(due.saturating_duration_since(now));
            Timestamp(wall.0.saturating_sub(late).saturating_add(early))
        };
        self.sink.missed(Missed {
            device: Arc::clone(&self.device),
            tag,
            cause,
            from: at(*slots.start()),
            to: at(*slots.end()),
            count: Some(count),
        });
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
