//! The whole state at one moment, as `status` shows it and the control socket sends it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_translator::Timestamp;
use tokio::time::Instant;

use super::parts::millis_always;
use super::{
    AlarmReport, Board, CertificateStatus, DeviceReport, Health, HealthLimits, IdentityStatus,
    JournalStatus, LinkStatus, QuestionsStatus, TagTotals, UplinkState, UplinkStatus, lock,
};

/// Everything but the tags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Which gateway, `PLANT/NAME`.
    pub gateway: String,
    /// The daemon's version.
    pub version: String,
    /// The wall clock when this was written.
    #[serde(rename = "now_ms", with = "millis_always")]
    pub now: Timestamp,
    /// When the daemon started.
    #[serde(rename = "started_ms", with = "millis_always")]
    pub started: Timestamp,
    /// Seconds since, by the monotonic clock.
    pub uptime_seconds: u64,
    /// Which part is down, if any.
    pub health: Health,
    /// How many tags there are, by present quality.
    pub tags: TagTotals,
    /// Every device, by name.
    pub devices: Vec<DeviceReport>,
    /// The way to the hub.
    pub link: LinkStatus,
    /// The delivery.
    pub uplink: UplinkStatus,
    /// The record on disk.
    pub journal: JournalStatus,
    /// The certificates that the gateway depends on.
    pub certificates: Vec<CertificateStatus>,
    /// The gateway's own identity, where it keeps one.
    #[serde(default)]
    pub identity: Option<IdentityStatus>,
    /// The questions that are answered, where any are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<QuestionsStatus>,
    /// What an operator should know.
    pub alarms: Vec<AlarmReport>,
    /// Every counter, by name.
    pub counters: BTreeMap<String, u64>,
}

impl StatusReport {
    /// One line for `systemctl status`: what is down and how much waits. It has no ages, so that
    /// it changes only when something does.
    #[must_use]
    pub fn line(&self) -> String {
        let down: Vec<&str> = self.health.down().map(|part| part.part.as_str()).collect();
        let mut line = match down.len() {
            0 => self.health.state.word().to_owned(),
            1..=3 => format!("down: {}", down.join(", ")),
            n => format!("down: {} and {} more", down[..3].join(", "), n - 3),
        };
        line += &format!("; {} devices", self.devices.len());
        if self.uplink.state != UplinkState::NotConfigured {
            let (state, frames) = (self.uplink.state.word(), self.uplink.backlog_frames);
            line += &format!("; uplink {state}, {frames} frames wait");
        }
        line
    }
}

pub(super) fn report(board: &Board, limits: &HealthLimits) -> StatusReport {
    let at = Instant::now();
    let (devices, tags) = {
        let readings = lock(&board.readings);
        (readings.devices(at), readings.totals(at))
    };
    let (link, uplink, journal, certificates, identity, questions, alarms) = {
        let parts = lock(&board.parts);
        let mut uplink = parts.uplink.clone();
        uplink.ack_age_ms = parts
            .acknowledged_at
            .map(|then| u64::try_from(at.duration_since(then).as_millis()).unwrap_or(u64::MAX));
        let alarms = parts.alarms.iter().map(|(kind, alarm)| AlarmReport {
            kind: kind.to_string(),
            text: alarm.text.clone(),
            since: alarm.since,
        });
        (
            parts.link.clone(),
            uplink,
            parts.journal.clone(),
            parts.certificates.clone(),
            parts.identity.clone(),
            parts.questions.clone(),
            alarms.collect(),
        )
    };
    let uptime = at.duration_since(board.started_at);
    StatusReport {
        gateway: board.gateway.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now: board.now(),
        started: board.started,
        uptime_seconds: uptime.as_secs(),
        health: Health::judge(&devices, &journal, &uplink, uptime, limits),
        tags,
        devices,
        link,
        uplink,
        journal,
        certificates,
        identity,
        questions,
        alarms,
        counters: board.counters.read().iter().map(|c| (c.name.to_owned(), c.value)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use crate::observe::state::tests::{board, device};
    use crate::observe::state::{HealthLimits, UplinkState};

    #[tokio::test(start_paused = true)]
    async fn the_line_names_at_most_three_parts_and_the_rest_by_number() {
        let board = board();
        assert_eq!(board.report(&HealthLimits::default()).line(), "down: journal; 2 devices");
        board.configure(["a", "b", "c", "d"].map(device), []);
        tokio::time::advance(std::time::Duration::from_secs(60)).await;
        board.update_uplink(|uplink| uplink.state = UplinkState::CaughtUp);
        assert_eq!(
            board.report(&HealthLimits::default()).line(),
            "down: device a, device b, device c and 2 more; 4 devices; \
             uplink caught-up, 0 frames wait"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_survives_the_wire() {
        let board = board();
        board.raise("journal-full", "x");
        board.note_acknowledged(7);
        let report = board.report(&HealthLimits::default());
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<super::StatusReport>(&text).unwrap(), report);
        assert!(text.contains("\"last_ack_ms\":0"), "{text}");
    }
}
