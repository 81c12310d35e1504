//! The shared state behind `status`, `tags`, metrics and health: one [`Board`], written by every
//! part and read by whoever asks.
//!
//! # Invariants
//! - Bounded by configuration: one entry per configured device and tag, [`MAX_ALARMS`] alarms,
//!   texts cut at [`MAX_TEXT`] bytes, [`MAX_FAULTS`] faults for each device. Nothing received over a wire adds an entry.
//! - A value does not stay good by being looked at: quality decays with monotonic age, so neither
//!   a hung driver nor a step of the wall clock can keep it.
//! - No lock is held across an await or while anything is rendered to a peer.

mod counters;
mod faults;
mod health;
mod parts;
mod questions;
mod readings;
mod report;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering as Order};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_translator::{
    Clock, DeviceState, FaultReport, Missed, Sample, TagId, TagPath, Timestamp,
};
use tokio::time::Instant;

pub use counters::{Counter, CounterReading, Counters};
pub use faults::{
    DeviceFaults, ExchangeShown, FaultShown, GroupReport, MAX_FAULT_BYTES, MAX_FAULTS, hex,
};
pub use health::{Health, HealthLimits, Part, PartState};
pub use parts::{
    AlarmReport, CertificateStatus, IdentityStatus, JournalStatus, LinkStatus, UplinkState,
    UplinkStatus,
};
pub use questions::{AuditedQuestion, MAX_AUDITED, QuestionsStatus};
pub use readings::{
    Alive, DeviceMeta, DeviceReport, MAX_PAGE, MissedCount, TagMeta, TagPage, TagReport, TagTotals,
};
pub use report::StatusReport;
pub use tidegate_query::Pattern;

use readings::Readings;

use crate::names::GatewayId;

/// More alarms at once than this are one too many for a person; the rest is counted.
pub const MAX_ALARMS: usize = 64;

/// The longest text kept from outside (an error, a reason), in bytes.
pub const MAX_TEXT: usize = 512;

/// Everything that the daemon knows of itself. Shared as an `Arc`; every method locks briefly.
pub struct Board {
    gateway: GatewayId,
    clock: Arc<dyn Clock>,
    started: Timestamp,
    started_at: Instant,
    /// The named counters; each part adds to its own.
    pub counters: Counters,
    in_flight: AtomicBool,
    readings: Mutex<Readings>,
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    link: LinkStatus,
    uplink: UplinkStatus,
    acknowledged_at: Option<Instant>,
    journal: JournalStatus,
    certificates: Vec<CertificateStatus>,
    identity: Option<IdentityStatus>,
    questions: Option<QuestionsStatus>,
    alarms: BTreeMap<Box<str>, Alarm>,
}

struct Alarm {
    text: String,
    since: Timestamp,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// What a poisoned lock protects is plain values, each valid on its own; a panic elsewhere must
/// not take the status down too.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Cuts a text at [`MAX_TEXT`] bytes, at a character.
fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
    }
    text
}

impl Board {
    /// The board of a daemon that starts now.
    #[must_use]
    pub fn new(gateway: GatewayId, clock: Arc<dyn Clock>) -> Self {
        let started = clock.now();
        Self {
            gateway,
            clock,
            started,
            started_at: Instant::now(),
            counters: Counters::default(),
            in_flight: AtomicBool::new(false),
            readings: Mutex::default(),
            parts: Mutex::default(),
        }
    }

    /// Shows the losses of a log that began before this board.
    #[must_use]
    pub fn with_log(mut self, lost: Counter) -> Self {
        self.counters.log_overflow = lost;
        self
    }

    /// Whose board this is.
    #[must_use]
    pub const fn gateway(&self) -> &GatewayId {
        &self.gateway
    }

    /// Sets what is configured. What stays configured keeps its state; the rest is forgotten.
    pub fn configure(
        &self,
        devices: impl IntoIterator<Item = DeviceMeta>,
        tags: impl IntoIterator<Item = TagMeta>,
    ) {
        let now = self.clock.now();
        lock(&self.readings).configure(devices, tags, now, Instant::now());
    }

    /// Notes samples as the latest of their tags. A tag that is not configured is counted.
    pub fn note_samples(&self, samples: &[Sample]) {
        self.counters.samples_acquired.add_len(samples.len());
        let unknown = lock(&self.readings).note(samples, Instant::now());
        self.counters.samples_of_unknown_tags.add_len(unknown);
    }

    /// Notes slots that passed without a reading.
    pub fn note_missed(&self, missed: &Missed) {
        lock(&self.readings).note_missed(missed);
    }

    /// Notes how a device is doing.
    pub fn note_device(&self, device: &str, state: DeviceState, why: Option<String>) {
        let now = self.clock.now();
        lock(&self.readings).note_state(device, state, why.map(cut), now, Instant::now());
    }

    /// Notes what went over the wire around a fault.
    pub fn note_fault(&self, device: &str, fault: FaultReport) {
        lock(&self.readings).note_fault(device, fault);
    }

    /// The last faults of a device; `None` when no such device is configured.
    #[must_use]
    pub fn faults(&self, device: &str) -> Option<DeviceFaults> {
        lock(&self.readings).faults(device, Instant::now())
    }

    /// Notes that the driver of a device had to be started again.
    pub fn note_restart(&self, device: &str) {
        self.counters.driver_restarts.one();
        lock(&self.readings).note_restart(device);
    }

    /// Changes what is known of the link to the hub.
    pub fn update_link(&self, change: impl FnOnce(&mut LinkStatus)) {
        change(&mut lock(&self.parts).link);
    }

    /// Changes what is known of the delivery. [`Board::note_acknowledged`] notes acknowledgements.
    pub fn update_uplink(&self, change: impl FnOnce(&mut UplinkStatus)) {
        change(&mut lock(&self.parts).uplink);
    }

    /// Notes that the hub acknowledged every sample below `next_seq` just now.
    pub fn note_acknowledged(&self, next_seq: u64) {
        let now = self.clock.now();
        let mut parts = lock(&self.parts);
        parts.acknowledged_at = Some(Instant::now());
        parts.uplink.last_ack = Some(now);
        parts.uplink.acknowledged_seq = next_seq;
    }

    /// Changes what is known of the journal.
    pub fn update_journal(&self, change: impl FnOnce(&mut JournalStatus)) {
        change(&mut lock(&self.parts).journal);
    }

    /// Replaces what is known of certificates.
    pub fn set_certificates(&self, certificates: Vec<CertificateStatus>) {
        lock(&self.parts).certificates = certificates;
    }

    /// Notes a certificate in place of the one of its role.
    pub fn note_certificate(&self, certificate: CertificateStatus) {
        let certificates = &mut lock(&self.parts).certificates;
        match certificates.iter_mut().find(|known| known.role == certificate.role) {
            Some(known) => *known = certificate,
            None => certificates.push(certificate),
        }
    }

    /// Notes what is known of the gateway's own identity.
    pub fn set_identity(&self, identity: IdentityStatus) {
        lock(&self.parts).identity = Some(identity);
    }

    /// Notes whether the uplink waits for an answer of the hub.
    pub fn note_in_flight(&self, waits: bool) {
        self.in_flight.store(waits, Order::Relaxed);
    }

    /// Whether the uplink waits for an answer of the hub.
    #[must_use]
    pub fn is_in_flight(&self) -> bool {
        self.in_flight.load(Order::Relaxed)
    }

    /// Whether the hub answers the uplink.
    #[must_use]
    pub fn hub_answers(&self) -> bool {
        lock(&self.parts).link.hub_up
    }

    /// Raises an alarm, or changes the text of one that is raised; its start is kept.
    /// `kind` is a fixed word such as `journal-full`. Returns whether it is new.
    pub fn raise(&self, kind: &str, text: impl Into<String>) -> bool {
        let text = cut(text.into());
        let since = self.clock.now();
        let mut parts = lock(&self.parts);
        if let Some(alarm) = parts.alarms.get_mut(kind) {
            alarm.text = text;
            return false;
        }
        if parts.alarms.len() >= MAX_ALARMS {
            drop(parts);
            self.counters.alarms_overflow.one();
            return false;
        }
        parts.alarms.insert(kind.into(), Alarm { text, since });
        true
    }

    /// Takes an alarm back. Returns whether it was raised.
    pub fn clear(&self, kind: &str) -> bool {
        lock(&self.parts).alarms.remove(kind).is_some()
    }

    /// The time by the board's own clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The latest of these tags as a sample of what is known now: with its present quality and the
    /// time of the value. Left out are those without a reading, and values too long to be kept.
    #[must_use]
    pub fn latest(&self, tags: impl IntoIterator<Item = TagId>) -> Vec<Sample> {
        lock(&self.readings).latest(tags, Instant::now())
    }

    /// The device of each of these tags; `None` for one that is not configured.
    #[must_use]
    pub fn owners(&self, tags: impl IntoIterator<Item = TagId>) -> Vec<Option<Arc<str>>> {
        lock(&self.readings).owners(tags)
    }

    /// A page of the latest values, in the order of their paths: those that match `pattern`, after
    /// the path `after`, at most `limit` (never more than [`MAX_PAGE`]).
    #[must_use]
    pub fn tags(&self, pattern: &Pattern, after: Option<&str>, limit: usize) -> TagPage {
        lock(&self.readings).page(pattern, after, limit, Instant::now())
    }

    /// At most `limit` of the tags whose paths begin with `prefix`, in the order of their paths, and
    /// after the path `after`. The gateway's own are among them once they have a value.
    #[must_use]
    pub fn paths(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(TagId, TagPath)> {
        lock(&self.readings).paths(prefix, after, limit)
    }

    /// The latest of these tags, in their order, without those that are not configured.
    #[must_use]
    pub fn reports_of(&self, tags: &[TagId]) -> Vec<TagReport> {
        lock(&self.readings).reports_of(tags, Instant::now())
    }

    /// Whether the tags are known; before that the daemon has only just started.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        lock(&self.readings).is_configured()
    }

    /// Changes what is known of questions at work.
    pub fn update_questions(&self, change: impl FnOnce(&mut QuestionsStatus)) {
        change(lock(&self.parts).questions.get_or_insert_default());
    }

    /// Notes a question that has its answer, or will have none.
    pub fn note_question(&self, audited: AuditedQuestion) {
        self.update_questions(|questions| questions.note(audited));
    }

    /// Everything but the tags.
    #[must_use]
    pub fn report(&self, limits: &HealthLimits) -> StatusReport {
        report::report(self, limits)
    }

    /// Which part is down, if any.
    #[must_use]
    pub fn health(&self, limits: &HealthLimits) -> Health {
        self.report(limits).health
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use tidegate_translator::{LossCause, Quality, Reason, Value};

    use super::*;

    /// A wall clock that stands still until it is set.
    #[derive(Default)]
    pub(crate) struct SetClock(pub(crate) AtomicI64);

    impl Clock for SetClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    pub(crate) fn meta(id: u32, path: &str, device: &str) -> TagMeta {
        TagMeta {
            id: TagId(id),
            path: TagPath::new(path).unwrap(),
            unit: Some("degC".into()),
            device: device.into(),
            fresh_for: Some(Duration::from_secs(3)),
        }
    }

    pub(crate) fn device(name: &str) -> DeviceMeta {
        DeviceMeta { name: name.into(), alive: Alive::ByData(Duration::from_secs(3)) }
    }

    pub(crate) fn board() -> Board {
        let board = Board::new("PlantA/gw-1".parse().unwrap(), Arc::new(SetClock::default()));
        board.configure(
            vec![device("press-1"), device("press-2")],
            vec![
                meta(1, "PlantA/Press1/temperature", "press-1"),
                meta(2, "PlantA/Press1/running", "press-1"),
                meta(3, "PlantA/Press2/temperature", "press-2"),
            ],
        );
        board
    }

    fn all(board: &Board) -> Vec<TagReport> {
        board.tags(&Pattern::all(), None, 100).tags
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_nobody_renews_turns_bad_by_itself() {
        let board = board();
        board.note_samples(&[Sample::good(TagId(1), Timestamp(5), Value::I64(7))]);
        tokio::time::advance(Duration::from_secs(3)).await;
        let tags = all(&board);
        let tag = tags.iter().find(|t| t.path == "PlantA/Press1/temperature").unwrap();
        assert_eq!((tag.q.as_str(), tag.why.as_deref(), tag.age_ms), ("good", None, Some(3000)));
        tokio::time::advance(Duration::from_millis(1)).await;
        let tags = all(&board);
        let tag = tags.iter().find(|t| t.path == "PlantA/Press1/temperature").unwrap();
        assert_eq!((tag.q.as_str(), tag.why.as_deref()), ("bad", Some("stale")));
        assert_eq!(tag.v, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_only_when_it_changes_stays_good_while_its_driver_is_heard() {
        let board = board();
        let alive = Alive::ByDriver(Duration::from_secs(10));
        let tag = TagMeta { fresh_for: None, ..meta(1, "A/t", "press-1") };
        board.configure([DeviceMeta { name: "press-1".into(), alive }], [tag]);
        board.note_samples(&[Sample::good(TagId(1), Timestamp(5), Value::I64(7))]);
        for _ in 0..100 {
            tokio::time::advance(Duration::from_secs(10)).await;
            assert_eq!(all(&board)[0].q, "good");
            board.note_device("press-1", DeviceState::Live, None);
        }
        tokio::time::advance(Duration::from_millis(10_001)).await;
        let tag = &all(&board)[0];
        assert_eq!((tag.q.as_str(), tag.why.as_deref()), ("bad", Some("stale")));
        let report = board.report(&HealthLimits::default());
        assert_eq!((report.tags.bad, report.health.state), (1, PartState::Down));
        let why = report.health.parts[0].why.as_deref().unwrap();
        assert_eq!(why, "nothing heard of its driver for 10001 ms");
        board.note_device("press-1", DeviceState::Live, None);
        assert_eq!(board.report(&HealthLimits::default()).tags.good, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_too_long_to_be_shown_is_named_and_good() {
        let board = board();
        let text = |length| Value::Text("x".repeat(length).into());
        board.note_samples(&[Sample::good(TagId(1), Timestamp(5), text(16 * 1024))]);
        assert_eq!(all(&board)[1].v.as_str().map(str::len), Some(16 * 1024));
        board.note_samples(&[Sample::good(TagId(1), Timestamp(5), text(16 * 1024 + 1))]);
        let tag = &all(&board)[1];
        assert_eq!((tag.q.as_str(), tag.why.as_deref()), ("good", Some("too-long-to-show")));
        assert!(tag.v.is_null());
    }

    #[tokio::test(start_paused = true)]
    async fn before_the_tags_are_told_a_page_says_that_the_daemon_is_starting() {
        let board = Board::new("PlantA/gw-1".parse().unwrap(), Arc::new(SetClock::default()));
        assert!(board.tags(&Pattern::all(), None, 10).starting);
        board.configure([], []);
        assert!(!board.tags(&Pattern::all(), None, 10).starting);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_of_the_wall_clock_neither_ages_nor_renews_a_value() {
        let clock = Arc::new(SetClock::default());
        let board = Board::new("PlantA/gw-1".parse().unwrap(), clock.clone());
        board.configure(vec![device("press-1")], vec![meta(1, "A/t", "press-1")]);
        board.note_samples(&[Sample::good(TagId(1), Timestamp(0), Value::I64(7))]);
        clock.0.store(i64::MAX / 2_000_000, Ordering::Relaxed);
        assert_eq!(all(&board)[0].q, "good");
        clock.0.store(-1_000_000, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(all(&board)[0].q, "bad");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tag_without_a_reading_is_shown_as_bad_and_not_as_missing() {
        let tags = all(&board());
        assert_eq!(tags.len(), 3);
        assert!(tags.iter().all(|t| t.q == "bad" && t.v.is_null() && t.age_ms.is_none()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sample_of_an_unknown_tag_is_counted_and_not_kept() {
        let board = board();
        board.note_samples(&[Sample::good(TagId(99), Timestamp(0), Value::I64(7))]);
        assert_eq!(board.counters.samples_of_unknown_tags.read(), 1);
        assert_eq!(all(&board).len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn reconfiguring_keeps_what_stays_and_forgets_what_goes() {
        let board = board();
        board.note_samples(&[
            Sample::good(TagId(1), Timestamp(0), Value::I64(1)),
            Sample::good(TagId(3), Timestamp(0), Value::I64(3)),
        ]);
        board.note_restart("press-1");
        let stays = meta(1, "PlantA/Press1/temperature", "press-1");
        board.configure(vec![device("press-1")], vec![stays]);
        let tags = all(&board);
        assert_eq!((tags.len(), &tags[0].v), (1, &serde_json::json!(1)));
        let devices = board.report(&HealthLimits::default()).devices;
        assert_eq!((devices.len(), devices[0].restarts), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn pages_are_in_path_order_and_continue_after_the_last() {
        let board = board();
        let first = board.tags(&Pattern::all(), None, 2);
        assert_eq!(first.tags.len(), 2);
        let second = board.tags(&Pattern::all(), first.next.as_deref(), 2);
        let paths: Vec<_> = first.tags.iter().chain(&second.tags).map(|t| &t.path).collect();
        assert!(paths.is_sorted(), "{paths:?}");
        assert_eq!((paths.len(), second.next), (3, None));
    }

    #[tokio::test(start_paused = true)]
    async fn missed_slots_are_kept_by_cause_and_the_uncounted_apart() {
        let board = board();
        let mut missed = Missed {
            device: "press-1".into(),
            tag: None,
            cause: LossCause::PollOverrun,
            from: Timestamp(0),
            to: Timestamp(1),
            count: Some(3),
        };
        board.note_missed(&missed);
        board.note_missed(&missed);
        missed.count = None;
        board.note_missed(&missed);
        let report = board.report(&HealthLimits::default());
        let counted = report.devices[0].missed[&LossCause::PollOverrun];
        assert_eq!((counted.slots, counted.uncounted), (6, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn faults_are_kept_for_configured_devices_only_and_go_with_their_device() {
        let board = board();
        let fault = FaultReport {
            number: 0,
            at: Timestamp(0),
            what: "unit 1 silent".into(),
            exchanges: Vec::new(),
        };
        board.note_samples(&[Sample::good(TagId(1), Timestamp(5), Value::I64(7))]);
        tokio::time::advance(Duration::from_millis(1500)).await;
        board.note_fault("press-1", fault.clone());
        board.note_fault("nobody", fault);
        let told = board.faults("press-1").unwrap();
        assert_eq!((told.faults.len(), &*told.faults[0].what), (1, "unit 1 silent"));
        let [group] = &told.groups[..] else { panic!("{told:?}") };
        let ages = (group.data_age_ms, group.oldest_ms);
        assert_eq!((group.tags, group.good, ages), (2, 1, (Some(1500), Some(1500))));
        assert_eq!(board.faults("nobody"), None);
        board.configure([device("press-1")], []);
        assert_eq!(board.faults("press-1").unwrap().faults.len(), 1);
        board.configure([device("press-2")], []);
        assert_eq!(board.faults("press-1"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_reading_is_no_data() {
        let board = board();
        board.note_samples(&[Sample::good(TagId(1), Timestamp(0), Value::I64(1))]);
        tokio::time::advance(Duration::from_secs(2)).await;
        board.note_samples(&[Sample::bad(TagId(1), Timestamp(0), Reason::Timeout, 0)]);
        let report = board.report(&HealthLimits::default());
        assert_eq!(report.devices[0].data_age_ms, Some(2000));
        assert_eq!(report.tags.bad, 3);
        assert_eq!(Quality::Bad(Reason::Timeout).word(), all(&board)[1].q);
    }

    #[tokio::test(start_paused = true)]
    async fn alarms_are_bounded_keep_their_start_and_are_taken_back() {
        let board = board();
        assert!(board.raise("journal-full", "x".repeat(5000)));
        assert!(!board.raise("journal-full", "later"));
        assert_eq!(board.report(&HealthLimits::default()).alarms[0].text, "later");
        for i in 0..100 {
            board.raise(&format!("alarm-{i}"), "");
        }
        assert_eq!(board.report(&HealthLimits::default()).alarms.len(), MAX_ALARMS);
        assert_eq!(board.counters.alarms_overflow.read(), 100 - (MAX_ALARMS as u64 - 1));
        assert!(board.clear("journal-full") && !board.clear("journal-full"));
    }

    #[tokio::test(start_paused = true)]
    async fn paths_are_found_by_what_they_begin_with_and_continue_after_the_last() {
        let board = board();
        let paths = |prefix, after, limit| {
            let found = board.paths(prefix, after, limit);
            found.into_iter().map(|(id, path)| (id.0, path.to_string())).collect::<Vec<_>>()
        };
        let press = "PlantA/Press1";
        let running = (2, "PlantA/Press1/running".to_owned());
        let temperature = (1, "PlantA/Press1/temperature".to_owned());
        assert_eq!(paths(press, None, 10), [running.clone(), temperature.clone()]);
        assert_eq!(paths(press, None, 1).first(), Some(&running));
        assert_eq!(paths(press, Some(&running.1), 10), [temperature]);
        assert_eq!(paths("", Some("PlantA/Press2/a"), 10).len(), 1);
        assert!(paths("PlantB", None, 10).is_empty() && paths("", Some("z"), 10).is_empty());
        let reports = board.reports_of(&[TagId(3), TagId(99), TagId(2)]);
        let reported: Vec<_> = reports.iter().map(|report| &*report.path).collect();
        assert_eq!(reported, ["PlantA/Press2/temperature", "PlantA/Press1/running"]);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(cut("ü".repeat(300)).len(), 512);
        assert_eq!(cut(format!("a{}", "ü".repeat(300))).len(), 511);
    }
}
