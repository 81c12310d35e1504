//! What was never captured: the unsequenced ledger's raw material.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Why readings that were due do not exist. The words are part of record format version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossCause {
    /// The device did not answer, or could not be reached.
    DeviceSilent,
    /// The device answered with a refusal.
    DeviceRefused,
    /// A poll took so long that later slots passed unused.
    PollOverrun,
    /// The way from the translator to the recorder was full.
    QueueOverflow,
    /// The daemon was not running.
    NotRunning,
    /// The journal could not be written.
    JournalUnwritable,
    /// The journal is full and the policy is to stop recording.
    JournalFull,
    /// The journal of the epoch before cannot be read or was replaced: what it held is unknown.
    PredecessorUnknown,
    /// A value was larger than a frame takes.
    TooLarge,
    /// A message named no tag, or could not be identified as it claimed.
    Unusable,
}

impl LossCause {
    /// The word for people and JSON, such as `device-silent`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::DeviceSilent => "device-silent",
            Self::DeviceRefused => "device-refused",
            Self::PollOverrun => "poll-overrun",
            Self::QueueOverflow => "queue-overflow",
            Self::NotRunning => "not-running",
            Self::JournalUnwritable => "journal-unwritable",
            Self::JournalFull => "journal-full",
            Self::PredecessorUnknown => "predecessor-unknown",
            Self::TooLarge => "too-large",
            Self::Unusable => "unusable",
        }
    }
}

/// Slots that passed without a reading, as a translator reports them. The daemon folds reports of
/// one subject and cause into one loss record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// The device, by its configured name.
    pub device: Arc<str>,
    /// The tag's path when only that tag is meant; `None` means the whole device.
    pub tag: Option<Arc<str>>,
    /// Why.
    pub cause: LossCause,
    /// The first missed slot.
    pub from: Timestamp,
    /// The last missed slot.
    pub to: Timestamp,
    /// How many samples were missed; `None` when nobody can know.
    pub count: Option<u64>,
}
