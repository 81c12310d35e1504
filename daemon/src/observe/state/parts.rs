//! The states of the parts that are not devices: link, delivery, journal, certificates, alarms.
//!
//! Plain values: each part fills in its own, and they go out over the control socket as they are.
//! Times are Unix milliseconds on the wire, ages and durations are in the unit of their name.

use serde::{Deserialize, Serialize};
use tidegate_translator::Timestamp;

/// The way to the hub, as far as this gateway can see it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkStatus {
    /// Whether a hub is configured at all.
    pub configured: bool,
    /// Whether the local nats-server runs and this daemon is connected to it.
    pub leaf_up: bool,
    /// Whether the local nats-server is connected to the hub.
    pub hub_up: bool,
    /// Which of the configured URLs it is connected to.
    pub hub_url: Option<String>,
    /// Since when `hub_up` is what it is.
    #[serde(rename = "since_ms", with = "millis")]
    pub since: Option<Timestamp>,
    /// Round trip to the hub, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// What is in the way, for a person.
    pub why: Option<String>,
}

/// What the delivery is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UplinkState {
    /// No hub is configured; everything is recorded and nothing is delivered.
    #[default]
    NotConfigured,
    /// No connection to the hub.
    Disconnected,
    /// Connected; the hub has no such stream, or does not let us use it.
    WaitingForStream,
    /// Finding out what the hub has.
    Reconciling,
    /// Delivering a backlog.
    Draining,
    /// Nothing but what was just recorded is waiting.
    CaughtUp,
    /// Something that a person must decide; the alarms say what.
    Halted,
}

impl UplinkState {
    /// The word for people, such as `caught-up`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotConfigured => "not-configured",
            Self::Disconnected => "disconnected",
            Self::WaitingForStream => "waiting-for-stream",
            Self::Reconciling => "reconciling",
            Self::Draining => "draining",
            Self::CaughtUp => "caught-up",
            Self::Halted => "halted",
        }
    }
}

/// The delivery of the record.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UplinkStatus {
    /// What it is doing.
    pub state: UplinkState,
    /// Why it is not getting on, for a person.
    pub why: Option<String>,
    /// Frames not yet acknowledged.
    pub backlog_frames: u64,
    /// Samples not yet acknowledged.
    pub backlog_samples: u64,
    /// Bytes not yet acknowledged.
    pub backlog_bytes: u64,
    /// How much time the backlog spans, in seconds.
    pub backlog_seconds: Option<f64>,
    /// How long the backlog will take at the present rate, in seconds; `None` while unknown.
    pub drain_seconds: Option<f64>,
    /// The sequence number after the last acknowledged sample.
    pub acknowledged_seq: u64,
    /// When the hub last acknowledged anything.
    #[serde(rename = "last_ack_ms", with = "millis")]
    pub last_ack: Option<Timestamp>,
    /// How long ago that was, by the monotonic clock, in milliseconds. Filled in by the report.
    pub ack_age_ms: Option<u64>,
}

/// The record on disk.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JournalStatus {
    /// Whether it takes frames.
    pub writable: bool,
    /// Why it does not, for a person.
    pub why: Option<String>,
    /// The epoch, as its subject writes it.
    pub epoch: String,
    /// Bytes used by all segments and their sidecars.
    pub bytes: u64,
    /// Bytes it may use.
    pub max_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes of their sidecars, which are part of `bytes`.
    pub sidecar_bytes: u64,
    /// Sidecars that could not be written, or were found damaged.
    pub sidecar_failures: u64,
    /// The time of the oldest sample that is still there.
    #[serde(rename = "oldest_ms", with = "millis")]
    pub oldest: Option<Timestamp>,
    /// The sequence number after the last durable sample.
    pub durable_seq: u64,
    /// Bytes written since start, including what the format adds.
    pub written_bytes: u64,
    /// How long the last commit took, in milliseconds.
    pub commit_ms: Option<f64>,
    /// The longest commit of the last minute, in milliseconds.
    pub slowest_commit_ms: Option<f64>,
}

/// A certificate that the gateway depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// What it is for: `hub`, `opcua`.
    pub role: String,
    /// Its subject.
    pub subject: String,
    /// Until when it is valid.
    #[serde(rename = "not_after_ms", with = "millis_always")]
    pub not_after: Timestamp,
}

impl CertificateStatus {
    /// Days left at `now`; negative once it has expired.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "days with a fraction")]
    pub fn days_left(&self, now: Timestamp) -> f64 {
        self.not_after.as_millis().saturating_sub(now.as_millis()) as f64 / 86_400_000.0
    }
}

/// The gateway's own identity, where it keeps one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IdentityStatus {
    /// The generation of key and certificate in use; 0 while there is none.
    pub generation: u64,
    /// The serial number of its certificate, in hexadecimal digits.
    pub serial: String,
    /// From when it is valid.
    #[serde(rename = "not_before_ms", with = "millis_always")]
    pub not_before: Timestamp,
    /// Until when it is valid.
    #[serde(rename = "not_after_ms", with = "millis_always")]
    pub not_after: Timestamp,
    /// When it is renewed; `None` where certificates come as files.
    #[serde(rename = "renewal_due_ms", with = "millis")]
    pub renewal_due: Option<Timestamp>,
    /// The serial number that the hub was last seen to take.
    pub confirmed_serial: Option<String>,
    /// Why the last renewal failed; `None` when it did not.
    pub last_error: Option<String>,
    /// How many failed since the last that did not.
    pub failures: u32,
}

/// Something that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmReport {
    /// Its fixed word.
    pub kind: String,
    /// What is the matter, and what to do.
    pub text: String,
    /// Since when.
    #[serde(rename = "since_ms", with = "millis_always")]
    pub since: Timestamp,
}

/// Optional times as Unix milliseconds: nanoseconds since 1970 do not fit a double.
pub(super) mod millis {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use tidegate_translator::Timestamp;

    #[expect(clippy::ref_option, reason = "the signature that serde asks for")]
    pub(in super::super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(Timestamp::as_millis).serialize(out)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<i64>::deserialize(input)?.map(Timestamp::from_millis))
    }
}

/// Times as Unix milliseconds.
pub(super) mod millis_always {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use tidegate_translator::Timestamp;

    pub(in super::super) fn serialize<S: Serializer>(
        time: &Timestamp,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        time.as_millis().serialize(out)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Timestamp, D::Error> {
        Ok(Timestamp::from_millis(i64::deserialize(input)?))
    }
}
