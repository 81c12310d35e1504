//! What was told of a device's silence: bad samples once, losses when they are certain.
//!
//! # Invariants
//! - While nothing is heard of the server each tag has one bad sample, and no second one.
//! - A loss is told when nothing can bring the values back any more: at once without a session
//!   that the server keeps, otherwise when it stops keeping it. From then on it grows each second.
//! - Every moment of an absence that was not made good is in exactly one report.

use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::{Clock, LossCause, Missed, Reason, Sample, Sink, TagId, Timestamp};
use tokio::time::Instant;

use crate::poll::Slots;

/// How often a loss that goes on is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// An absence of the server.
#[derive(Debug, Clone, Copy)]
struct Absence {
    /// Until where its loss was told.
    told: Timestamp,
    /// Its end, once the server is back and it is not yet clear what was lost.
    end: Option<Timestamp>,
    /// When it is certain that something was lost.
    certain: Instant,
    next: Instant,
}

/// What is known and was told.
pub(crate) struct Ledger {
    device: Arc<str>,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn Sink>,
    /// When the server was last heard.
    heard: Timestamp,
    /// Whether all tags say so.
    silent: bool,
    absence: Option<Absence>,
    /// The slots of a device that is polled: what is missed of it can be counted.
    pub(crate) slots: Vec<Slots>,
}

impl Ledger {
    pub(crate) fn new(device: Arc<str>, clock: Arc<dyn Clock>, sink: Arc<dyn Sink>) -> Self {
        let heard = clock.now();
        Self { device, clock, sink, heard, silent: false, absence: None, slots: Vec::new() }
    }

    /// The wall clock, for samples.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// When the server was last heard.
    pub(crate) const fn last_heard(&self) -> Timestamp {
        self.heard
    }

    /// The server said something. Gives the time.
    pub(crate) fn hears(&mut self) -> Timestamp {
        self.heard = self.clock.now();
        self.heard
    }

    /// Values come again.
    pub(crate) const fn speaks(&mut self) {
        self.silent = false;
    }

    /// Every tag turns bad, once.
    pub(crate) fn silence(
        &mut self,
        tags: impl Iterator<Item = TagId>,
        reason: Reason,
        status: u32,
    ) {
        if std::mem::replace(&mut self.silent, true) {
            return;
        }
        let now = self.clock.now();
        self.hand_over(tags.map(|tag| Sample::bad(tag, now, reason, status)).collect());
    }

    /// Hands samples over.
    pub(crate) fn hand_over(&self, samples: Vec<Sample>) {
        if !samples.is_empty() {
            self.sink.samples(samples);
        }
    }

    /// The server is gone since it was last heard; it keeps what it has for so long.
    pub(crate) fn away(&mut self, now: Instant, kept: Option<Duration>) {
        let certain = now + kept.unwrap_or_default();
        match &mut self.absence {
            // It went again before it was clear what the first absence cost.
            Some(absence) => {
                absence.end = None;
                absence.certain = absence.certain.min(certain);
            }
            None => {
                let told = self.heard;
                self.absence = Some(Absence { told, end: None, certain, next: now });
            }
        }
    }

    /// The session is gone for good: what the server held back for it is lost.
    pub(crate) fn is_certain(&mut self, now: Instant) {
        if let Some(absence) = &mut self.absence {
            absence.certain = absence.certain.min(now);
        }
    }

    /// Whether an absence is open.
    pub(crate) const fn is_away(&self) -> bool {
        self.absence.is_some()
    }

    /// How long the absence lasted, or has lasted until now.
    pub(crate) fn away_for(&self) -> Option<Duration> {
        let absence = self.absence?;
        let end = absence.end.unwrap_or_else(|| self.clock.now());
        let nanos = end.0.saturating_sub(absence.told.0);
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
    }

    /// When the ledger has something to tell, unless the server comes back before.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.absence.as_ref().filter(|a| a.end.is_none()).map(|a| a.certain.max(a.next))
    }

    /// Tells what has become certain. Gives the span, for those who count slots.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        let wall = self.clock.now();
        if let Some(absence) = &mut self.absence {
            absence.next = now + TELL_EVERY;
            let from = absence.told;
            let to = wall.max(from);
            absence.told = to;
            let count = self.pass(now);
            self.missed(None, LossCause::DeviceSilent, from, to, count);
        }
    }

    /// Values that were due until now and are not read, where they can be counted.
    fn pass(&mut self, now: Instant) -> Option<u64> {
        let passed = |sum: u64, slots: &mut Slots| sum.saturating_add(slots.pass(now));
        (!self.slots.is_empty()).then(|| self.slots.iter_mut().fold(0, passed))
    }

    /// The server is back; what happens between is not yet clear. Gives the time from which on
    /// nothing is lost any more.
    pub(crate) fn returned(&mut self) -> Timestamp {
        let now = self.clock.now();
        if let Some(absence) = &mut self.absence {
            absence.end.get_or_insert(now);
        }
        now
    }

    /// Everything that happened meanwhile is there.
    pub(crate) const fn forgive(&mut self) {
        self.absence = None;
    }

    /// What was not told yet of the absence is lost.
    pub(crate) fn settle(&mut self, now: Instant) {
        let count = self.pass(now);
        if let Some(absence) = self.absence.take() {
            let to = absence.end.unwrap_or_else(|| self.clock.now());
            if to > absence.told {
                self.missed(None, LossCause::DeviceSilent, absence.told, to, count);
            }
        }
    }

    /// Tells a loss.
    pub(crate) fn missed(
        &self,
        tag: Option<Arc<str>>,
        cause: LossCause,
        from: Timestamp,
        to: Timestamp,
        count: Option<u64>,
    ) {
        let device = Arc::clone(&self.device);
        self.sink.missed(Missed { device, tag, cause, from, to: to.max(from), count });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicI64, Ordering};

    use tidegate_translator::DeviceState;

    use super::*;

    #[derive(Default)]
    struct Told {
        samples: Mutex<Vec<Sample>>,
        missed: Mutex<Vec<(i64, i64)>>,
    }

    impl Sink for Told {
        fn samples(&self, batch: Vec<Sample>) {
            self.samples.lock().unwrap().extend(batch);
        }
        fn missed(&self, missed: Missed) {
            assert_eq!((missed.cause, missed.count), (LossCause::DeviceSilent, None));
            let span = (missed.from.as_millis(), missed.to.as_millis());
            self.missed.lock().unwrap().push(span);
        }
        fn state(&self, _: &Arc<str>, _: DeviceState, _: Option<String>) {}
    }

    #[derive(Default)]
    struct Wall(AtomicI64);

    impl Clock for Wall {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    fn ledger() -> (Ledger, Arc<Told>, Arc<Wall>) {
        let (told, wall) = (Arc::new(Told::default()), Arc::new(Wall::default()));
        let ledger = Ledger::new("press".into(), Arc::clone(&wall) as _, Arc::clone(&told) as _);
        (ledger, told, wall)
    }

    fn at(wall: &Wall, begin: Instant, millis: u64) -> Instant {
        wall.0.store(i64::try_from(millis).unwrap(), Ordering::Relaxed);
        begin + Duration::from_millis(millis)
    }

    fn spans(told: &Told) -> Vec<(i64, i64)> {
        told.missed.lock().unwrap().clone()
    }

    #[test]
    fn each_tag_turns_bad_once_until_values_come_again() {
        let (mut ledger, told, _) = ledger();
        let tags = || [TagId(1), TagId(2)].into_iter();
        ledger.silence(tags(), Reason::NotConnected, 7);
        ledger.silence(tags(), Reason::NotConnected, 7);
        assert_eq!(told.samples.lock().unwrap().len(), 2);
        ledger.speaks();
        ledger.silence(tags(), Reason::NotConnected, 7);
        assert_eq!(told.samples.lock().unwrap().len(), 4);
    }

    #[test]
    fn a_loss_is_told_when_the_session_is_over_and_grows_each_second() {
        let (mut ledger, told, wall) = ledger();
        let begin = Instant::now();
        ledger.away(at(&wall, begin, 1_000), Some(Duration::from_secs(60)));
        ledger.tick(at(&wall, begin, 60_900));
        assert_eq!(spans(&told), []);
        ledger.tick(at(&wall, begin, 61_000));
        ledger.tick(at(&wall, begin, 61_500));
        ledger.tick(at(&wall, begin, 62_000));
        at(&wall, begin, 62_300);
        ledger.returned();
        at(&wall, begin, 70_000);
        ledger.settle(begin);
        assert_eq!(spans(&told), [(0, 61_000), (61_000, 62_000), (62_000, 62_300)]);
        ledger.settle(begin);
        assert_eq!(spans(&told).len(), 3);
    }

    #[test]
    fn without_a_session_to_come_back_to_a_loss_is_told_at_once() {
        let (mut ledger, told, wall) = ledger();
        let begin = Instant::now();
        ledger.away(at(&wall, begin, 500), Some(Duration::from_secs(60)));
        let now = at(&wall, begin, 2_000);
        ledger.is_certain(now);
        ledger.tick(now);
        assert_eq!(spans(&told), [(0, 2_000)]);
    }

    #[test]
    fn an_absence_that_cost_nothing_is_no_loss() {
        let (mut ledger, told, wall) = ledger();
        let begin = Instant::now();
        ledger.away(at(&wall, begin, 500), Some(Duration::from_secs(60)));
        ledger.returned();
        ledger.forgive();
        ledger.settle(begin);
        assert_eq!(spans(&told), []);
    }

    #[test]
    fn a_server_that_goes_again_leaves_one_absence_without_a_hole() {
        let (mut ledger, told, wall) = ledger();
        let begin = Instant::now();
        ledger.away(at(&wall, begin, 500), Some(Duration::from_secs(60)));
        at(&wall, begin, 600);
        ledger.returned();
        ledger.hears();
        ledger.away(at(&wall, begin, 900), None);
        ledger.tick(at(&wall, begin, 2_000));
        assert_eq!(spans(&told), [(0, 2_000)]);
    }
}
