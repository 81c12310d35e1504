//! What was never captured, folded into few records.
//!
//! # Invariants
//! - One record per subject and cause; it is extended while the loss lasts, never one per slot.
//! - An open record is written when it begins, once a minute while it lasts, soon after it was last
//!   extended, and once more when it ends: samples that came after it must not stand at the hub for
//!   long without it, and a kill must not take its extent away.
//! - The time without the daemon is over when it is told: written as ended, and once more if the
//!   clock first shows later how long it was.
//! - A record has its times from one clock: what goes on after the clock was set is another record.
//! - No record ends before it begins.
//! - The number of open records is bounded; what does not fit is told of the gateway as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_journal::Unsequenced;
use tidegate_translator::{LossCause, Missed, Timestamp};

/// A loss that nobody extended for this long has ended. Longer than the longest back-off of a
/// driver, so that one outage is one record.
pub(super) const QUIET: Duration = Duration::from_secs(60);

/// An open record that nobody extended for this long is written with what it has grown to. Long
/// enough that misses of one slot after the other are one, short beside the wait for delivery.
pub(super) const SETTLED: Duration = Duration::from_secs(2);

/// How often an open record that grows without a pause is written again.
pub(super) const REFRESH: Duration = Duration::from_secs(60);

/// Open records at most. A record takes about 200 bytes here.
pub(super) const MAX_OPEN: usize = 4096;

/// The subject of what concerns the whole gateway.
pub(super) const GATEWAY: &str = "gateway";

#[derive(Debug)]
struct Open {
    record: Unsequenced,
    last_report: Duration,
    /// When the record was last handed out, and whether it changed since.
    written: Option<Duration>,
    changed: bool,
}

/// The open losses of this run of the daemon.
#[derive(Debug, Default)]
pub(super) struct LossLedger {
    open: BTreeMap<(String, LossCause), Open>,
    ended: Vec<Unsequenced>,
    /// The record of the time before this run.
    downtime: Option<u64>,
}

impl LossLedger {
    /// Folds one report in. `now` is monotonic; `fresh_id` names a new record.
    pub(super) fn report(
        &mut self,
        missed: &Missed,
        now: Duration,
        fresh_id: impl FnOnce() -> u64,
    ) {
        let subject = missed.tag.as_ref().unwrap_or(&missed.device);
        let mut key = (subject.to_string(), missed.cause);
        if missed.cause == LossCause::NotRunning {
            // It is over when it is told. Of the gateway there is one in each run.
            let id = if key.0 == GATEWAY {
                *self.downtime.get_or_insert_with(fresh_id)
            } else {
                fresh_id()
            };
            self.ended.push(Open::new(&key, missed, now, id).ended());
            return;
        }
        if !self.open.contains_key(&key) && self.open.len() >= MAX_OPEN {
            key.0 = GATEWAY.to_owned();
        }
        if let Some(open) = self.open.get_mut(&key)
            && now.saturating_sub(open.last_report) < QUIET
        {
            open.extend(missed, now);
            return;
        }
        let fresh = Open::new(&key, missed, now, fresh_id());
        if let Some(before) = self.open.insert(key, fresh) {
            self.ended.push(before.ended());
        }
    }

    /// Ends every record: its times are of a clock that shows another time now.
    pub(super) fn clock_was_set(&mut self) {
        if self.ended.len() < MAX_OPEN {
            self.ended.extend(std::mem::take(&mut self.open).into_values().map(Open::ended));
        }
    }

    /// The records to write now: begun, due for a refresh, or ended.
    pub(super) fn due(&mut self, now: Duration) -> Vec<Unsequenced> {
        let mut out = std::mem::take(&mut self.ended);
        self.open.retain(|_, open| {
            if now.saturating_sub(open.last_report) >= QUIET {
                out.push(open.record.clone());
                if let Some(last) = out.last_mut() {
                    last.open = false;
                }
                return false;
            }
            let refresh = open.written.is_none_or(|at| now.saturating_sub(at) >= REFRESH);
            let settled = now.saturating_sub(open.last_report) >= SETTLED;
            if open.changed && (refresh || settled) {
                open.written = Some(now);
                open.changed = false;
                out.push(open.record.clone());
            }
            true
        });
        out
    }

    /// Takes records back that could not be written, to be handed out again.
    pub(super) fn take_back(&mut self, records: Vec<Unsequenced>) {
        let room = MAX_OPEN.saturating_sub(self.ended.len());
        for record in records.into_iter().take(room) {
            let open = self.open.values_mut().find(|open| open.record.id == record.id);
            match open {
                Some(open) => {
                    open.written = None;
                    open.changed = true;
                }
                None => self.ended.push(record),
            }
        }
    }

    /// Everything, as ended: for a graceful stop.
    pub(super) fn finish(&mut self) -> Vec<Unsequenced> {
        let mut out = std::mem::take(&mut self.ended);
        out.extend(std::mem::take(&mut self.open).into_values().map(Open::ended));
        out
    }
}

impl Open {
    fn new(key: &(String, LossCause), missed: &Missed, now: Duration, id: u64) -> Self {
        Self {
            record: Unsequenced {
                id,
                subject: key.0.clone(),
                cause: key.1.word().to_owned(),
                from: missed.from.0,
                to: missed.to.0.max(missed.from.0),
                count: missed.count,
                open: true,
            },
            last_report: now,
            written: None,
            changed: true,
        }
    }

    fn extend(&mut self, missed: &Missed, now: Duration) {
        self.record.from = self.record.from.min(missed.from.0);
        self.record.to = self.record.to.max(missed.to.0);
        self.record.count = match (self.record.count, missed.count) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            _ => None,
        };
        self.last_report = now;
        self.changed = true;
    }

    fn ended(mut self) -> Unsequenced {
        self.record.open = false;
        self.record
    }
}

/// A loss that concerns the whole gateway.
#[must_use]
pub fn of_gateway(cause: LossCause, from: Timestamp, to: Timestamp, count: Option<u64>) -> Missed {
    Missed { device: GATEWAY.into(), tag: None, cause, from, to, count }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(device: &str, at: i64, count: Option<u64>) -> Missed {
        Missed {
            device: device.into(),
            tag: None,
            cause: LossCause::DeviceSilent,
            from: Timestamp(at),
            to: Timestamp(at + 1),
            count,
        }
    }

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_lasting_loss_is_one_record_that_grows() {
        let mut ledger = LossLedger::default();
        let mut written = Vec::new();
        for second in 0..300 {
            let at = i64::try_from(second).unwrap();
            ledger.report(&missed("press", at, Some(5)), secs(second), || second);
            written.extend(ledger.due(secs(second)));
        }
        assert_eq!(written.len(), 5, "begun, then one refresh a minute: {written:?}");
        assert!(written.iter().all(|r| r.id == 0 && r.open && r.from == 0));
        written.extend(ledger.due(secs(300 + 60)));
        let last = written.last().unwrap();
        assert_eq!((last.count, last.to, last.open), (Some(1500), 300, false));
        assert!(ledger.open.is_empty());
    }

    #[test]
    fn the_time_without_the_daemon_is_over_when_it_is_told() {
        let mut ledger = LossLedger::default();
        let (from, to) = (Timestamp(1), Timestamp(2));
        ledger.report(&of_gateway(LossCause::NotRunning, from, to, None), secs(0), || 7);
        let due = ledger.due(secs(0));
        assert_eq!((due.len(), due[0].open, due[0].from, due[0].to), (1, false, 1, 2));
        assert!(ledger.due(secs(120)).is_empty() && ledger.finish().is_empty());
    }

    #[test]
    fn what_goes_on_after_the_clock_was_set_is_another_record() {
        let mut ledger = LossLedger::default();
        ledger.report(&missed("press", 5000, Some(1)), secs(0), || 1);
        ledger.clock_was_set();
        ledger.report(&missed("press", 10, Some(2)), secs(1), || 2);
        let all: Vec<_> =
            ledger.finish().iter().map(|r| (r.id, r.from, r.to, r.count, r.open)).collect();
        assert_eq!(all, [(1, 5000, 5001, Some(1), false), (2, 10, 11, Some(2), false)]);
    }

    #[test]
    fn a_loss_across_a_clock_that_went_back_ends_where_it_began() {
        let mut ledger = LossLedger::default();
        let back = of_gateway(LossCause::QueueOverflow, Timestamp(9), Timestamp(2), Some(3));
        ledger.report(&back, secs(0), || 1);
        let all = ledger.finish();
        assert_eq!((all[0].from, all[0].to, all[0].count), (9, 9, Some(3)));
    }

    #[test]
    fn a_downtime_whose_end_is_known_later_is_the_same_record() {
        let mut ledger = LossLedger::default();
        for (to, id) in [(1, 7), (50, 8)] {
            let known = of_gateway(LossCause::NotRunning, Timestamp(1), Timestamp(to), None);
            ledger.report(&known, secs(0), || id);
        }
        let all: Vec<_> = ledger.finish().iter().map(|r| (r.id, r.to)).collect();
        assert_eq!(all, [(7, 1), (7, 50)]);
    }

    #[test]
    fn a_loss_that_paused_is_written_with_its_whole_extent_long_before_it_counts_as_ended() {
        let mut ledger = LossLedger::default();
        for second in 0..30 {
            let at = i64::try_from(second).unwrap();
            ledger.report(&missed("press", at, Some(5)), secs(second), || 1);
            let _begun = ledger.due(secs(second));
        }
        assert_eq!(ledger.due(secs(30)), []);
        let due = ledger.due(secs(31));
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].count, due[0].to, due[0].open), (Some(150), 30, true));
        assert_eq!(ledger.due(secs(33)), []);
    }

    #[test]
    fn a_loss_after_a_quiet_minute_is_another_record() {
        let mut ledger = LossLedger::default();
        ledger.report(&missed("press", 0, Some(1)), secs(0), || 1);
        ledger.report(&missed("press", 90, Some(1)), secs(90), || 2);
        let ids: Vec<_> = ledger.due(secs(90)).iter().map(|r| (r.id, r.open)).collect();
        assert_eq!(ids, [(1, false), (2, true)]);
    }

    #[test]
    fn an_unknown_count_stays_unknown() {
        let mut ledger = LossLedger::default();
        ledger.report(&missed("press", 0, None), secs(0), || 1);
        ledger.report(&missed("press", 1, Some(7)), secs(1), || 2);
        assert_eq!(ledger.finish()[0].count, None);
    }

    #[test]
    fn too_many_subjects_are_told_of_the_gateway() {
        let mut ledger = LossLedger::default();
        for n in 0..MAX_OPEN + 10 {
            ledger.report(&missed(&n.to_string(), 0, Some(1)), secs(0), || n as u64);
        }
        let all = ledger.finish();
        assert_eq!(all.len(), MAX_OPEN + 1);
        let whole = all.iter().find(|r| r.subject == GATEWAY).unwrap();
        assert_eq!(whole.count, Some(10));
    }

    #[test]
    fn a_record_that_could_not_be_written_comes_again() {
        let mut ledger = LossLedger::default();
        ledger.report(&missed("press", 0, Some(1)), secs(0), || 1);
        let due = ledger.due(secs(0));
        assert!(ledger.due(secs(1)).is_empty());
        ledger.take_back(due);
        assert_eq!(ledger.due(secs(1)).len(), 1);
    }
}
