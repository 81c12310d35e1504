//! Checkpoints: up to where the gateway itself signed what the hub holds.
//!
//! # Invariants
//! - A signature that does not fit, or fits another chain than the one at the hub, is a finding that
//!   no authority can talk away.
//! - A signature that fits under a certificate that nobody vouches for is told as that, and nothing
//!   is claimed of it.

use std::fmt;

use serde::Serialize;
use tidegate_journal::{Frame, FrameHash};

use super::Capped;
use super::report::Listed;
use crate::Checkpoint;
use crate::moment::Moment;

/// Judges signatures: the record knows no certificates.
pub trait Notary: fmt::Debug + Send {
    /// Whether the signature of `checkpoint` over `message` is that of the gateway `PLANT/NAME`.
    ///
    /// # Errors
    /// What is wrong with it, when it is not.
    fn judge(
        &self,
        gateway: &str,
        checkpoint: &Checkpoint,
        message: &[u8],
    ) -> Result<Signatory, String>;
}

/// Whose signature it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Signatory {
    /// The certificate's subject.
    pub subject: String,
    /// The certificate's serial number, hexadecimal.
    pub serial: String,
    /// Why the certificate is not vouched for; `None` when it leads to a given authority.
    pub not_vouched_for: Option<String>,
}

/// How far a signature covers an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Signed {
    /// The last frame that is covered.
    pub frame: u64,
    /// The sequence number after its last sample.
    pub next_seq: u64,
    /// When it was signed, by the gateway's clock.
    pub at: Moment,
    /// By whom.
    #[serde(flatten)]
    pub by: Signatory,
}

/// A checkpoint that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refused {
    /// The frame that holds it.
    pub frame: u64,
    /// What is wrong.
    pub why: String,
}

/// What the checkpoints of an epoch say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Signatures {
    /// Whether signatures were looked at.
    pub judged: bool,
    /// Checkpoints at the hub.
    pub count: u64,
    /// The furthest of those that fit and are vouched for; without one, of those that fit.
    pub up_to: Option<Signed>,
    /// Those that do not fit.
    pub refused: Listed<Refused>,
}

/// The checkpoints of one epoch so far.
#[derive(Debug, Default)]
pub(super) struct Seals {
    count: u64,
    vouched: Option<Signed>,
    unvouched: Option<Signed>,
    refused: Capped<Refused>,
}

impl Seals {
    /// Takes in a checkpoint. `known` is the hash of the covered frame at the hub, where it is
    /// still remembered.
    pub(super) fn take(
        &mut self,
        frame: &Frame<'_>,
        known: Option<FrameHash>,
        notary: Option<&dyn Notary>,
    ) {
        self.count += 1;
        let Some(notary) = notary else { return };
        let number = frame.header.number;
        match judge(frame, known, notary) {
            Ok(signed) => {
                let best = if signed.by.not_vouched_for.is_none() {
                    &mut self.vouched
                } else {
                    &mut self.unvouched
                };
                if best.as_ref().is_none_or(|best| signed.frame >= best.frame) {
                    *best = Some(signed);
                }
            }
            Err(why) => self.refused.push(Refused { frame: number, why }),
        }
    }

    /// How many do not fit.
    pub(super) const fn refused(&self) -> u64 {
        self.refused.count
    }

    pub(super) fn report(&self, judged: bool) -> Signatures {
        let up_to = self.vouched.as_ref().or(self.unvouched.as_ref()).cloned();
        let refused = Listed { count: self.refused.count, list: self.refused.kept.clone() };
        Signatures { judged, count: self.count, up_to, refused }
    }
}

fn judge(
    frame: &Frame<'_>,
    known: Option<FrameHash>,
    notary: &dyn Notary,
) -> Result<Signed, String> {
    let header = &frame.header;
    let read = Checkpoint::decode(frame.body).map_err(|error| error.to_string())?;
    let up_to = read.up_to;
    if up_to.frame >= header.number {
        return Err(format!("it covers frame {}, which comes after it", up_to.frame));
    }
    let before = up_to.frame.saturating_add(1) == header.number;
    let is_next = !before || (up_to.hash == header.previous && up_to.next_seq == header.first_seq);
    if !is_next || known.is_some_and(|hash| hash != up_to.hash) {
        return Err(format!("frame {} at the hub is not the one that was signed", up_to.frame));
    }
    let (plant, gateway) = (&header.plant, &header.gateway);
    let message = Checkpoint::message(plant, gateway, header.epoch, &up_to, read.at)
        .map_err(|error| error.to_string())?;
    let by = notary.judge(&format!("{plant}/{gateway}"), &read, &message)?;
    Ok(Signed { frame: up_to.frame, next_seq: up_to.next_seq, at: Moment(read.at), by })
}
