//! Whether this boot went well: what decides if an updated system is kept. Pure.
//!
//! # Invariants
//! - What the system cannot help never counts against it: a dead PLC, a hub that was not reached
//!   before the update either, a certificate that has ended.
//! - What only the system can do always counts: the daemon runs and is this system's, its loops come
//!   round, the journal takes frames, the leaf serves.
//! - All of it must hold for a while in one run of the daemon: one that starts again and again is up
//!   whenever it is looked at.

use std::time::Duration;

use tidegate_translator::Timestamp;

use super::record::{BeforeUpdate, LastHealthy, System};
use crate::observe::state::StatusReport;

/// What is expected of a healthy boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The version of this system's program.
    pub version: String,
    /// Whether the hub must be reached.
    pub hub: bool,
}

impl Expected {
    /// Of this system, after what was remembered before an update. The hub counts on another system
    /// than the one that was updated, and only when that one reached it.
    #[must_use]
    pub fn of(system: &System, before: Option<&BeforeUpdate>) -> Self {
        let hub = before
            .is_some_and(|before| before.hub_was_reached && !before.system.is_the_same(system));
        Self { version: system.version.clone(), hub }
    }
}

/// What is wrong, each in a sentence; empty when all is well.
#[must_use]
pub fn complaints(report: &StatusReport, expected: &Expected) -> Vec<String> {
    let mut wrong = Vec::new();
    if report.version != expected.version {
        wrong.push(format!(
            "the daemon that answers is {}, and this system's is {}",
            report.version, expected.version
        ));
    }
    if let Some(alarm) = report.alarms.iter().find(|alarm| alarm.kind == "part-hangs") {
        wrong.push(format!("a critical loop hangs: {}", alarm.text));
    }
    if !report.journal.writable {
        let why = report.journal.why.as_deref().unwrap_or("it is not open yet");
        wrong.push(format!("the journal takes nothing: {why}"));
    } else if report.journal.epoch.is_empty() {
        wrong.push("the journal is not open yet".to_owned());
    }
    if !report.link.leaf_up {
        let why = report.link.why.as_deref().unwrap_or("not connected yet");
        wrong.push(format!("the leaf does not serve: {why}"));
    }
    if expected.hub && report.link.configured && !report.link.hub_up {
        let why = report.link.why.as_deref().unwrap_or("no word why");
        wrong.push(format!("the hub was reached before the update and is not reached now: {why}"));
    }
    wrong
}

/// Whether a configuration that does not check is the system's fault: it is when the same text was
/// healthy on a boot before.
#[must_use]
pub fn blames_the_system(digest: &str, last: Option<&LastHealthy>) -> bool {
    last.is_some_and(|last| last.configuration == digest)
}

/// Looks on until all is well for long enough, or the time is over.
#[derive(Debug, Clone)]
pub struct Watch {
    within: Duration,
    steady: Duration,
    well: Option<Well>,
    complaints: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Well {
    /// When the daemon's run began, by its own clock: tells one run from another.
    run: Timestamp,
    since: Duration,
}

/// What a look comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It is not decided yet.
    Again,
    /// This boot went well.
    Healthy,
    /// It did not, for these reasons.
    Ill(Vec<String>),
}

impl Watch {
    /// For at most `within`, until all was well for `steady`.
    #[must_use]
    pub const fn new(within: Duration, steady: Duration) -> Self {
        Self { within, steady, well: None, complaints: Vec::new() }
    }

    /// Takes a look: `at` counts from the first. `found` is the daemon's report and what is wrong
    /// with it, or why there is none.
    pub fn look(
        &mut self,
        at: Duration,
        found: Result<(&StatusReport, Vec<String>), String>,
    ) -> Look {
        match found {
            Ok((report, complaints)) if complaints.is_empty() => {
                let well = self.well.filter(|well| well.run == report.started);
                let well = well.unwrap_or(Well { run: report.started, since: at });
                if at.saturating_sub(well.since) >= self.steady {
                    return Look::Healthy;
                }
                if self.well.is_some_and(|before| before.run != well.run) {
                    self.complaints = vec!["the daemon started again meanwhile".to_owned()];
                } else if self.well.is_none() {
                    let steady = self.steady.as_secs();
                    self.complaints = vec![format!("all was well, but not for {steady} s")];
                }
                self.well = Some(well);
            }
            Ok((_, complaints)) => (self.well, self.complaints) = (None, complaints),
            Err(why) => (self.well, self.complaints) = (None, vec![why]),
        }
        if at >= self.within { Look::Ill(self.complaints.clone()) } else { Look::Again }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::state::tests::board;
    use crate::observe::state::{AlarmReport, HealthLimits, UplinkState};

    fn report() -> StatusReport {
        let board = board();
        board.update_journal(|journal| {
            journal.writable = true;
            journal.epoch = "0a".into();
        });
        board.update_link(|link| link.leaf_up = true);
        board.report(&HealthLimits::default())
    }

    fn expected(hub: bool) -> Expected {
        Expected { version: env!("CARGO_PKG_VERSION").into(), hub }
    }

    fn system(slot: &str) -> System {
        System { slot: Some(slot.into()), version: "1".into() }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn dead_plcs_an_absent_hub_and_an_ended_certificate_do_not_count() {
        let mut report = report();
        tokio::time::advance(SECOND * 600).await;
        report.link.configured = true;
        report.uplink.state = UplinkState::Halted;
        let alarm =
            |kind: &str| AlarmReport { kind: kind.into(), text: "x".into(), since: Timestamp(0) };
        report.alarms = vec![alarm("identity-expired"), alarm("driver-unsteady:press-1")];
        assert_eq!(complaints(&report, &expected(false)), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_thing_that_only_the_system_can_do_counts() {
        let ill = |change: fn(&mut StatusReport)| {
            let mut report = report();
            report.link.configured = true;
            report.link.hub_up = true;
            change(&mut report);
            complaints(&report, &expected(true)).join("; ")
        };
        assert_eq!(ill(|_| {}), "");
        assert!(ill(|r| r.version = "0".into()).contains("the daemon that answers is 0"));
        assert_eq!(ill(|r| r.link.leaf_up = false), "the leaf does not serve: not connected yet");
        assert_eq!(ill(|r| r.journal.epoch.clear()), "the journal is not open yet");
        let read_only = ill(|r| {
            r.journal.writable = false;
            r.journal.why = Some("read-only file system".into());
        });
        assert_eq!(read_only, "the journal takes nothing: read-only file system");
        let hangs = ill(|r| {
            let (kind, text) = ("part-hangs".into(), "recorder did not come round in time".into());
            r.alarms.push(AlarmReport { kind, text, since: Timestamp(0) });
        });
        assert_eq!(hangs, "a critical loop hangs: recorder did not come round in time");
        assert!(
            ill(|r| r.link.hub_up = false).starts_with("the hub was reached before the update")
        );
    }

    #[test]
    fn the_hub_counts_on_the_updated_system_alone_and_only_when_it_was_reached_before() {
        let before =
            |slot, reached| BeforeUpdate { system: system(slot), hub_was_reached: reached };
        assert!(Expected::of(&system("B"), Some(&before("A", true))).hub);
        assert!(!Expected::of(&system("B"), Some(&before("A", false))).hub);
        // Fallen back: it is as it was.
        assert!(!Expected::of(&system("A"), Some(&before("A", true))).hub);
        assert!(!Expected::of(&system("B"), None).hub);
    }

    #[test]
    fn a_configuration_that_was_healthy_once_is_not_to_blame() {
        let last = LastHealthy { system: system("A"), configuration: "d1".into() };
        assert!(blames_the_system("d1", Some(&last)));
        assert!(!blames_the_system("d2", Some(&last)));
        assert!(!blames_the_system("d1", None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_starts_again_and_again_is_never_healthy() {
        let mut watch = Watch::new(SECOND * 60, SECOND * 20);
        let mut report = report();
        for at in 0..60 {
            report.started = Timestamp::from_millis(i64::from(at / 15));
            let look = watch.look(SECOND * at, Ok((&report, Vec::new())));
            assert_eq!(look, Look::Again, "{at}");
        }
        let look = watch.look(SECOND * 60, Ok((&report, Vec::new())));
        assert_eq!(look, Look::Ill(vec!["the daemon started again meanwhile".into()]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_holds_long_enough_is_healthy_and_what_never_answers_is_ill() {
        let mut watch = Watch::new(SECOND * 60, SECOND * 20);
        let report = report();
        assert_eq!(watch.look(Duration::ZERO, Err("nobody answers".into())), Look::Again);
        assert_eq!(watch.look(SECOND, Ok((&report, Vec::new()))), Look::Again);
        assert_eq!(watch.look(SECOND * 20, Ok((&report, Vec::new()))), Look::Again);
        assert_eq!(watch.look(SECOND * 21, Ok((&report, Vec::new()))), Look::Healthy);
        let mut watch = Watch::new(SECOND * 60, SECOND * 20);
        let look = watch.look(SECOND * 60, Err("nobody answers".into()));
        assert_eq!(look, Look::Ill(vec!["nobody answers".into()]));
    }
}
