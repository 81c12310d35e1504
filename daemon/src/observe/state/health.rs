//! Which part is down: a pure judgement over a status report.
//!
//! # Invariants
//! - A part is judged by the age of what it should deliver; a socket that is open counts for
//!   nothing.
//! - A part that just started is given the time in which it could have delivered.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_translator::DeviceState;

use super::{DeviceReport, JournalStatus, UplinkState, UplinkStatus};

/// From when on a part is called down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthLimits {
    /// A device without a usable value for this long, however slowly it is polled, at least.
    pub data_age: Duration,
    /// A backlog without an acknowledgement for this long.
    pub ack_age: Duration,
}

impl Default for HealthLimits {
    /// 10 s and 60 s: a few poll intervals of a slow device; a few message deadlines of the
    /// slowest link that the uplink is built for.
    fn default() -> Self {
        Self { data_age: Duration::from_secs(10), ack_age: Duration::from_secs(60) }
    }
}

/// How a part is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartState {
    /// It does its job.
    Up,
    /// It does part of its job, or not long enough not to.
    Degraded,
    /// It does not do its job.
    Down,
}

impl PartState {
    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// A part of the gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// `device NAME`, `journal`, `uplink`.
    pub part: String,
    /// How it is doing.
    pub state: PartState,
    /// Why it is not up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Age of its last usable value, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_age_ms: Option<u64>,
    /// Age of the hub's last acknowledgement, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_age_ms: Option<u64>,
}

/// How the gateway is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The state of the worst part.
    pub state: PartState,
    /// Every part.
    pub parts: Vec<Part>,
}

impl Health {
    /// Judges. `uptime` is how long the daemon has been running.
    #[must_use]
    pub fn judge(
        devices: &[DeviceReport],
        journal: &JournalStatus,
        uplink: &UplinkStatus,
        uptime: Duration,
        limits: &HealthLimits,
    ) -> Self {
        let mut parts: Vec<Part> = devices.iter().map(|d| judge_device(d, limits)).collect();
        parts.push(judge_journal(journal));
        if uplink.state != UplinkState::NotConfigured {
            parts.push(judge_uplink(uplink, uptime, limits));
        }
        let state = parts.iter().map(|p| p.state).max().unwrap_or(PartState::Up);
        Self { state, parts }
    }

    /// The parts that are down.
    pub fn down(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|p| p.state == PartState::Down)
    }
}

fn judge_device(device: &DeviceReport, limits: &HealthLimits) -> Part {
    let least = millis(limits.data_age);
    let silent_for = device.data_age_ms.unwrap_or(device.configured_for_ms);
    let too_long = device.fresh_for_ms.is_some_and(|fresh| silent_for > fresh.max(least));
    let mute_for = device
        .heard_age_ms
        .filter(|age| device.heard_within_ms.is_some_and(|within| *age > within.max(least)));
    let (state, why) = match device.state {
        _ if too_long => {
            let why = device.why.clone();
            (PartState::Down, why.or_else(|| Some(format!("no usable value for {silent_for} ms"))))
        }
        DeviceState::Down | DeviceState::ConfigurationError => {
            (PartState::Down, device.why.clone())
        }
        _ if let Some(mute_for) = mute_for => {
            (PartState::Down, Some(format!("nothing heard of its driver for {mute_for} ms")))
        }
        DeviceState::Live => (PartState::Up, None),
        DeviceState::Connecting | DeviceState::Degraded => {
            (PartState::Degraded, device.why.clone())
        }
    };
    Part {
        part: format!("device {}", device.name),
        state,
        why,
        data_age_ms: device.data_age_ms,
        ack_age_ms: None,
    }
}

fn judge_journal(journal: &JournalStatus) -> Part {
    let state = if journal.writable { PartState::Up } else { PartState::Down };
    let why = (!journal.writable)
        .then(|| journal.why.clone().unwrap_or_else(|| "not writable".to_owned()));
    Part { part: "journal".to_owned(), state, why, data_age_ms: None, ack_age_ms: None }
}

fn judge_uplink(uplink: &UplinkStatus, uptime: Duration, limits: &HealthLimits) -> Part {
    let waited = uplink.ack_age_ms.unwrap_or_else(|| millis(uptime));
    let overdue = uplink.backlog_frames > 0 && waited > millis(limits.ack_age);
    let state = match uplink.state {
        UplinkState::Halted => PartState::Down,
        _ if overdue => PartState::Down,
        UplinkState::CaughtUp | UplinkState::Draining => PartState::Up,
        _ => PartState::Degraded,
    };
    let why = match state {
        PartState::Up => None,
        PartState::Down if overdue => Some(format!(
            "{} frames wait, no acknowledgement for {} s{}",
            uplink.backlog_frames,
            waited / 1000,
            uplink.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
        )),
        _ => uplink.why.clone().or_else(|| Some(uplink.state.word().to_owned())),
    };
    Part { part: "uplink".to_owned(), state, why, data_age_ms: None, ack_age_ms: uplink.ack_age_ms }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tidegate_translator::Timestamp;

    use super::*;

    fn device(state: DeviceState, age: Option<u64>) -> DeviceReport {
        DeviceReport {
            name: "press-1".into(),
            state,
            why: None,
            since: Timestamp(0),
            last_data: None,
            data_age_ms: age,
            fresh_for_ms: Some(3000),
            heard_age_ms: None,
            heard_within_ms: None,
            configured_for_ms: 1000,
            tags: 1,
            missed: BTreeMap::new(),
            restarts: 0,
        }
    }

    fn judge(device: DeviceReport, uplink: &UplinkStatus) -> Health {
        let journal = JournalStatus { writable: true, ..JournalStatus::default() };
        let uptime = Duration::from_secs(100);
        Health::judge(&[device], &journal, uplink, uptime, &HealthLimits::default())
    }

    #[test]
    fn a_device_that_claims_to_be_live_and_delivers_nothing_is_down() {
        let uplink = UplinkStatus::default();
        assert_eq!(judge(device(DeviceState::Live, Some(9_000)), &uplink).state, PartState::Up);
        let health = judge(device(DeviceState::Live, Some(10_001)), &uplink);
        assert_eq!(health.state, PartState::Down);
        assert_eq!(health.down().next().unwrap().part, "device press-1");
    }

    #[test]
    fn a_device_that_only_a_person_can_help_is_down_at_once_and_says_why() {
        let mut device = device(DeviceState::ConfigurationError, Some(0));
        device.why = Some("the password of user \"gw\" is refused".into());
        let health = judge(device, &UplinkStatus::default());
        let down = health.down().next().unwrap();
        assert_eq!(down.why.as_deref(), Some("the password of user \"gw\" is refused"));
    }

    #[test]
    fn every_state_has_the_same_word_in_json_and_in_labels() {
        for state in [
            DeviceState::Connecting,
            DeviceState::Live,
            DeviceState::Degraded,
            DeviceState::Down,
            DeviceState::ConfigurationError,
        ] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
    }

    #[test]
    fn a_device_that_only_just_started_is_not_down() {
        let health = judge(device(DeviceState::Connecting, None), &UplinkStatus::default());
        assert_eq!(health.state, PartState::Degraded);
    }

    #[test]
    fn a_hub_that_acknowledges_nothing_is_down_only_while_something_waits() {
        let mut uplink = UplinkStatus {
            state: UplinkState::Draining,
            ack_age_ms: Some(61_000),
            ..UplinkStatus::default()
        };
        assert_eq!(judge(device(DeviceState::Live, Some(0)), &uplink).state, PartState::Up);
        uplink.backlog_frames = 3;
        let health = judge(device(DeviceState::Live, Some(0)), &uplink);
        let down: Vec<_> = health.down().collect();
        assert_eq!(down[0].part, "uplink");
        assert!(down[0].why.as_ref().unwrap().contains("3 frames wait"), "{down:?}");
    }

    #[test]
    fn a_journal_that_takes_nothing_is_down_and_says_why() {
        let journal =
            JournalStatus { why: Some("read-only file system".into()), ..JournalStatus::default() };
        let health = Health::judge(
            &[],
            &journal,
            &UplinkStatus::default(),
            Duration::ZERO,
            &HealthLimits::default(),
        );
        assert_eq!(health.down().next().unwrap().why.as_deref(), Some("read-only file system"));
    }
}
