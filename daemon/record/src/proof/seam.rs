//! How one epoch follows another.

use serde::Serialize;
use tidegate_journal::{EpochReason, Predecessor};

use super::chain::Chain;

/// What is known of the seam at the beginning of an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Seam {
    /// Whether anything can be missing there.
    pub state: SeamState,
    /// The epoch before, where it is known.
    pub predecessor: Option<String>,
    /// Frames that the hub never had and that were carried over into this epoch.
    pub carried_frames: u64,
    /// The same for a person.
    pub words: String,
}

/// Whether anything can be missing at a seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeamState {
    /// There was nothing before.
    First,
    /// The epoch before ended, at the hub, exactly where this one says that it did.
    Joined,
    /// The beginning has aged out at the hub, and so has everything before it.
    AgedOut,
    /// What came between the two cannot be known.
    Unverifiable,
}

/// Judges the beginning of the epoch at `index`; `None` when none of its frames could be read.
pub(super) fn judge(chains: &[Chain], index: usize) -> Option<Seam> {
    let chain = chains.get(index)?;
    let first = chain.first?;
    let earlier = chains.iter().take(index).rev().find(|c| c.first.is_some());
    let seam = |state, words: String| Seam {
        state,
        predecessor: chain.predecessor.as_ref().and_then(|p| p.epoch).map(|e| e.to_string()),
        carried_frames: chain.predecessor.as_ref().map_or(0, |p| p.carried_frames),
        words,
    };
    let unverifiable = |words| Some(seam(SeamState::Unverifiable, words));
    let Some(predecessor) = &chain.predecessor else {
        return match earlier {
            Some(earlier) if first.frame == 0 => unverifiable(format!(
                "names no predecessor although epoch {} is at the hub",
                earlier.epoch
            )),
            Some(earlier) => unverifiable(format!(
                "its beginning is not at the hub, so what it says of epoch {} is unknown",
                earlier.epoch
            )),
            None if first.frame == 0 => Some(seam(
                SeamState::First,
                "names no predecessor, and no earlier epoch is at the hub".into(),
            )),
            None => Some(seam(
                SeamState::AgedOut,
                "its beginning and everything before it have aged out at the hub".into(),
            )),
        };
    };
    match predecessor.reason {
        EpochReason::Fork => unverifiable(format!(
            "began because the hub held frames of {} that its journal never wrote (a restored \
             image or a cloned card); what the other copy captured after {} is unknown",
            named(predecessor),
            place(predecessor)
        )),
        EpochReason::JournalLost => unverifiable(format!(
            "began because the journal of {} could not be read; what it captured after {} is \
             unknown",
            named(predecessor),
            place(predecessor)
        )),
        EpochReason::FirstStart | EpochReason::CatalogLost => {
            if let (Some(epoch), Some(last)) = (predecessor.epoch, predecessor.last)
                && let Some(before) = chains.iter().find(|c| c.epoch == epoch)
            {
                return if before.tip == Some(last) {
                    let words = format!("epoch {epoch} ends at the hub exactly where this begins");
                    Some(seam(SeamState::Joined, words))
                } else {
                    unverifiable(format!(
                        "epoch {epoch} should end after frame {} and ends elsewhere at the hub",
                        last.frame
                    ))
                };
            }
            match earlier {
                Some(earlier) => unverifiable(format!(
                    "does not name the end of epoch {}, which is at the hub; what that one still held \
                     is unknown",
                    earlier.epoch
                )),
                None if predecessor.epoch.is_some() => unverifiable(format!(
                    "began after {}, of which the hub has nothing",
                    named(predecessor)
                )),
                None => Some(seam(SeamState::First, "began as the gateway's first start".into())),
            }
        }
    }
}

fn named(predecessor: &Predecessor) -> String {
    predecessor
        .epoch
        .map_or_else(|| "an unknown epoch".to_owned(), |epoch| format!("epoch {epoch}"))
}

fn place(predecessor: &Predecessor) -> String {
    predecessor.last.map_or_else(
        || "an unknown place".to_owned(),
        |last| format!("frame {} (sample {})", last.frame, last.next_seq),
    )
}
