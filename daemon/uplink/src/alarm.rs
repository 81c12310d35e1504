//! The conditions that a person should know, each raised once and cleared by itself.
//!
//! # Invariants
//! - A kind is raised once, however often its cause recurs, and can be raised again after it was
//!   cleared.
//! - A *state* is cleared when the machine gets past it; an *incident* (something that happened,
//!   not something that lasts) is cleared [`HOLD`] after it last happened.

use std::time::Duration;

/// How long an incident stays raised after it last happened: long enough to be seen by a scrape
/// and a shift, short enough that a healed gateway looks healed.
pub(crate) const HOLD: Duration = Duration::from_secs(3600);

/// One condition, in words that name object, value and remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Which condition.
    pub kind: AlarmKind,
    /// What a person reads.
    pub text: String,
}

/// The conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlarmKind {
    /// The hub has no such stream.
    NoStream,
    /// Another domain or stream answered.
    WrongHub,
    /// The hub answers questions but takes no frames.
    NoPermission,
    /// The stream, or the hub's disk, is full.
    StreamFull,
    /// A single frame is larger than the hub takes.
    TooLarge,
    /// The hub answers questions and no frames.
    Unanswered,
    /// JetStream is off at the hub, or in the account that holds the stream.
    NoJetStream,
    /// The hub refuses for a reason that this version does not know.
    HubRefuses,
    /// The local server is up and the hub does not answer through it.
    HubSilent,
    /// The last message at the hub cannot be read.
    HeadUnreadable,
    /// The hub holds frames of a newer version of this program.
    NewerVersion,
    /// The journal cannot read what must be sent.
    JournalUnreadable,
    /// A message of somebody else stands on our subject.
    ForeignMessage,
    /// The hub holds frames of our epoch that are not ours.
    Fork,
    /// Another gateway with our name is writing.
    TwoEpochs,
    /// The hub lost what it had acknowledged.
    HubLostData,
}

impl AlarmKind {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoStream => "no-stream",
            Self::WrongHub => "wrong-hub",
            Self::NoPermission => "no-permission",
            Self::StreamFull => "stream-full",
            Self::TooLarge => "too-large",
            Self::Unanswered => "frames-unanswered",
            Self::NoJetStream => "no-jetstream",
            Self::HubRefuses => "hub-refuses",
            Self::HubSilent => "hub-silent",
            Self::HeadUnreadable => "head-unreadable",
            Self::NewerVersion => "newer-version",
            Self::JournalUnreadable => "journal-unreadable",
            Self::ForeignMessage => "foreign-message",
            Self::Fork => "fork",
            Self::TwoEpochs => "two-epochs",
            Self::HubLostData => "hub-lost-data",
        }
    }

    const fn is_incident(self) -> bool {
        matches!(self, Self::ForeignMessage | Self::Fork | Self::TwoEpochs | Self::HubLostData)
    }
}

/// What is raised.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    raised: Vec<(AlarmKind, Duration)>,
}

impl Alarms {
    /// Whether the kind is new; it counts as raised from `now` on.
    pub(crate) fn raise(&mut self, kind: AlarmKind, now: Duration) -> bool {
        if let Some(entry) = self.raised.iter_mut().find(|(k, _)| *k == kind) {
            entry.1 = now;
            return false;
        }
        self.raised.push((kind, now));
        true
    }

    /// Whether the kind was raised; it is no longer.
    pub(crate) fn clear(&mut self, kind: AlarmKind) -> bool {
        let before = self.raised.len();
        self.raised.retain(|(k, _)| *k != kind);
        before != self.raised.len()
    }

    /// An incident that is old enough to be over, if there is one.
    pub(crate) fn over(&self, now: Duration) -> Option<AlarmKind> {
        self.raised
            .iter()
            .find(|(kind, at)| kind.is_incident() && now.saturating_sub(*at) >= HOLD)
            .map(|(kind, _)| *kind)
    }

    /// The state that holds delivery up, for the state word: the one raised first.
    pub(crate) fn blocking(&self) -> Option<AlarmKind> {
        self.raised.iter().map(|(kind, _)| *kind).find(|kind| !kind.is_incident())
    }

    pub(crate) fn has(&self, kind: AlarmKind) -> bool {
        self.raised.iter().any(|(raised, _)| *raised == kind)
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = AlarmKind> + '_ {
        self.raised.iter().map(|(kind, _)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_raised_once_until_it_is_cleared() {
        let mut alarms = Alarms::default();
        assert!(alarms.raise(AlarmKind::StreamFull, Duration::ZERO));
        assert!(!alarms.raise(AlarmKind::StreamFull, Duration::from_secs(1)));
        assert!(alarms.clear(AlarmKind::StreamFull));
        assert!(!alarms.clear(AlarmKind::StreamFull));
        assert!(alarms.raise(AlarmKind::StreamFull, Duration::from_secs(2)));
    }

    #[test]
    fn an_incident_is_over_an_hour_after_it_last_happened_and_a_state_is_not() {
        let mut alarms = Alarms::default();
        alarms.raise(AlarmKind::NoStream, Duration::ZERO);
        alarms.raise(AlarmKind::Fork, Duration::ZERO);
        alarms.raise(AlarmKind::Fork, Duration::from_secs(60));
        assert_eq!(alarms.over(HOLD), None);
        assert_eq!(alarms.over(HOLD + Duration::from_secs(60)), Some(AlarmKind::Fork));
    }
}
