//! What the proof says, for programs (`serde`, kebab-case, format 1) and for people (`Display`).

use serde::Serialize;
use tidegate_journal::BridgeCause;

use super::MAX_LISTED;
use super::bridges::Misfit;
use super::seals::Signatures;
use super::seam::Seam;
use crate::moment::{Moment, Span};

/// The shape of the JSON; a field may be added without a new number.
pub const FORMAT: u32 = 1;

/// What can be claimed. Ordered from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Complete to the very end: the gateway's journal ends where the hub's copy ends.
    Balanced,
    /// Complete up to the watermark; what was captured later is unknown here.
    BalancedToWatermark,
    /// Nothing speaks against it, and it cannot be shown.
    Unverifiable,
    /// Something is missing that nobody names, stands there twice, or out of order.
    Unbalanced,
}

impl Verdict {
    /// Whether the exit code is 0.
    #[must_use]
    pub const fn is_balanced(self) -> bool {
        matches!(self, Self::Balanced | Self::BalancedToWatermark)
    }

    /// The word, as JSON has it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::BalancedToWatermark => "balanced-to-watermark",
            Self::Unverifiable => "unverifiable",
            Self::Unbalanced => "unbalanced",
        }
    }
}

/// The whole proof of one gateway.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// The gateway's plant.
    pub plant: String,
    /// The gateway's name.
    pub gateway: String,
    /// When this was said.
    pub now: Moment,
    /// The worst of the epochs.
    pub verdict: Verdict,
    /// Why it is not better, in sentences; empty when balanced.
    pub because: Vec<String>,
    /// Messages read.
    pub messages: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is listed, when not everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listed_from: Option<Moment>,
    /// See `listed_from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listed_to: Option<Moment>,
    /// In the order in which they began at the hub.
    pub epochs: Vec<EpochReport>,
    /// What stood in this gateway's place and is not its own. It does not touch the verdict: the
    /// chain shows whether something of its own is missing.
    pub foreign: Listed<Foreign>,
}

/// The proof of one epoch.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EpochReport {
    /// Its identity.
    pub epoch: String,
    /// What can be claimed.
    pub verdict: Verdict,
    /// Why it is not better, in sentences; empty when balanced.
    pub because: Vec<String>,
    /// From here on every frame is at the hub or its loss is named. `None` when none could be read.
    pub complete_from: Option<Beginning>,
    /// Up to here. Later samples are unknown unless the gateway's journal was asked.
    pub watermark: Option<Watermark>,
    /// How it follows the epoch before.
    pub seam: Option<Seam>,
    /// What the gateway's journal adds, when it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<Tail>,
    /// Frames at the hub, each counted once.
    pub frames: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Captured, then dropped or damaged.
    pub sequenced: SequencedLosses,
    /// Never captured. Never part of a sum with the sequenced ones.
    pub unsequenced: UnsequencedLosses,
    /// Missing, and nobody says why.
    pub gaps: Listed<Gap>,
    /// There more than once.
    pub duplicates: Listed<Duplicate>,
    /// Behind a later one.
    pub inversions: Listed<Disorder>,
    /// Neighbours that do not fit, by hash or by sequence number.
    pub chain_breaks: Listed<Disorder>,
    /// Bodies that do not hold what their headers say.
    pub bodies: Listed<Disorder>,
    /// Bridges that do not fit.
    pub misfits: Listed<Misfit>,
    /// Bridges that name frames of which at least one is at the hub, which counts more.
    pub overridden_claims: u64,
    /// Up to where the gateway signed it.
    pub signatures: Signatures,
    /// Frames that need a later reader.
    pub newer: Newer,
}

/// A list of at most [`MAX_LISTED`] of `count`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listed<T> {
    /// How many there are, listed or not, within the filter or not.
    pub count: u64,
    /// Those that are listed.
    pub list: Vec<T>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { count: 0, list: Vec::new() }
    }
}

impl<T> Listed<T> {
    pub(super) fn of(items: impl IntoIterator<Item = T>, takes: impl Fn(&T) -> bool) -> Self {
        let mut listed = Self::default();
        for item in items {
            listed.count += 1;
            if listed.list.len() < MAX_LISTED && takes(&item) {
                listed.list.push(item);
            }
        }
        listed
    }
}

/// Where the proof of an epoch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Beginning {
    /// Its first frame, at the hub or named as lost.
    pub frame: u64,
    /// The first sequence number.
    pub seq: u64,
    /// The earliest time in it.
    pub at: Moment,
    /// Whether that is the beginning of the epoch; otherwise what was before has aged out.
    pub is_beginning: bool,
}

/// Where the proof of an epoch ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Watermark {
    /// The last frame at the hub.
    pub frame: u64,
    /// The sequence number after its last sample.
    pub next_seq: u64,
    /// The latest time in it.
    pub at: Moment,
    /// How long ago that is.
    #[serde(rename = "age-s")]
    pub age: Span,
}

/// What the gateway's own journal says of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Tail {
    /// It ends at the watermark: nothing is on its way.
    Agrees,
    /// It goes on: so much is not at the hub yet.
    Ahead {
        /// Frames that the hub does not have.
        frames: u64,
        /// Samples that the hub does not have.
        samples: u64,
    },
    /// It cannot be the journal that the hub's copy comes from.
    Conflicts,
}

/// Captured samples that exist no more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SequencedLosses {
    /// How many frames.
    pub frames: u64,
    /// How many samples.
    pub samples: u64,
    /// Each loss.
    #[serde(flatten)]
    pub losses: Listed<SequencedLoss>,
}

/// A range of captured samples that exist no more, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SequencedLoss {
    /// Why.
    pub cause: BridgeCause,
    /// The first frame that is gone.
    pub first_frame: u64,
    /// The last frame that is gone.
    pub last_frame: u64,
    /// The first sequence number that is gone.
    pub first_seq: u64,
    /// The sequence number after the last that is gone.
    pub end_seq: u64,
    /// How many samples.
    pub samples: u64,
    /// The earliest time of what the bridge names.
    pub from: Moment,
    /// The latest time of what the bridge names.
    pub to: Moment,
    /// The frame that holds the bridge, where one of the same epoch does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named_in_frame: Option<u64>,
    /// The later epoch that names it, where its own was closed by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named_in_epoch: Option<String>,
}

/// Samples that were never captured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct UnsequencedLosses {
    /// Samples of the losses whose count is known.
    pub samples: u64,
    /// Losses whose count nobody can know.
    pub uncounted: u64,
    /// Losses that were still going on when they were last recorded.
    pub open: u64,
    /// Each loss.
    #[serde(flatten)]
    pub losses: Listed<UnsequencedLoss>,
}

/// What was not captured, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct UnsequencedLoss {
    /// Its identity within the epoch, as 16 hexadecimal digits.
    pub id: String,
    /// The device, the tag's path, or `gateway`.
    pub subject: String,
    /// Why, such as `device-silent`.
    pub cause: String,
    /// When it began.
    pub from: Moment,
    /// Until when it is known to have lasted.
    pub to: Moment,
    /// `from` by the best clock of that boot, where the clock was set later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrected_from: Option<Moment>,
    /// `to` by that clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrected_to: Option<Moment>,
    /// How many samples; `null` when nobody can know.
    pub count: Option<u64>,
    /// Whether it was still going on.
    pub open: bool,
}

/// Frames that are missing without a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gap {
    /// The first frame.
    pub first_frame: u64,
    /// The last frame.
    pub last_frame: u64,
    /// The first sequence number.
    pub first_seq: u64,
    /// The sequence number after the last.
    pub end_seq: u64,
    /// How many samples.
    pub samples: u64,
    /// The time of the frame before.
    pub after: Moment,
    /// The time of the frame behind.
    pub before: Moment,
}

/// A frame that is there again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Duplicate {
    /// Which one.
    pub frame: u64,
    /// Whether both are the same; `null` when the first is too far back to compare.
    pub is_same: Option<bool>,
}

/// What does not fit, beside holes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "finding")]
pub enum Disorder {
    /// A frame's `previous` is not the hash of the frame before it.
    ChainBreak {
        /// The frame whose `previous` does not fit.
        frame: u64,
    },
    /// Sequence numbers between two neighbouring frames are missing.
    SeqGap {
        /// The frame that begins too late.
        frame: u64,
        /// The sequence number that it should begin with.
        expected: u64,
        /// The one that it begins with.
        found: u64,
    },
    /// Sequence numbers are given twice.
    SeqOverlap {
        /// The frame that begins too early.
        frame: u64,
        /// The sequence number that it should begin with.
        expected: u64,
        /// The one that it begins with.
        found: u64,
    },
    /// A frame stands behind a later one.
    Inversion {
        /// The frame that comes late.
        frame: u64,
        /// The later frame that was there before.
        after: u64,
    },
    /// The body does not hold what the header says.
    Body {
        /// Which frame.
        frame: u64,
        /// What is wrong, in words.
        what: String,
    },
}

/// Something that is not this gateway's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Foreign {
    /// The message in the stream.
    pub stream_seq: u64,
    /// The epoch in its subject.
    pub epoch: String,
    /// What it is.
    pub what: String,
}

/// Frames that need a later reader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Newer {
    /// How many.
    pub frames: u64,
    /// The version that reads all of them; 0 when there is none.
    pub needs_version: u8,
}

impl Report {
    /// Whether everything between each complete-from and its watermark is there once, in order,
    /// or named: exit code 0.
    #[must_use]
    pub const fn is_balanced(&self) -> bool {
        self.verdict.is_balanced()
    }
}
