//! What a refusal means, decided from what the stream's leader said and what stands at the hub.
//!
//! # Invariants
//! - The leader's number (`wrong last sequence: N`) decides; a read is believed only for the
//!   content of message `N` itself, so a lagging replica can delay and never mislead.
//! - Something counts as stored only when the journal knows the same hash, or knew it when it sent
//!   the frame. A place in a range that the journal dropped is no evidence: what another writer put
//!   there would pass for ours, and ours would be lost without a name.
//! - A loss at the hub is only a *claim* here. It is put on record when the leader has accepted a
//!   publish with the lower expectation.

use tidegate_journal::{Epoch, Position};

use crate::chain::Chain;
use crate::event::{HeadContent, RewindReason};
use crate::settings::Cursor;

/// What the hub acknowledged, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acked {
    pub(crate) at: Position,
    pub(crate) stream_seq: u64,
    /// The stream's creation time when it did.
    pub(crate) created: i64,
}

/// Where the next message of an epoch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Footing {
    /// The expected last sequence of the subject.
    pub(crate) expected: u64,
    /// The last frame that stands there; `None` for nothing.
    pub(crate) after: Option<Position>,
    /// Set while this rests on the belief that the hub lost something.
    pub(crate) claim: Option<RewindReason>,
}

/// The message under way, as far as a head is compared with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent<'a> {
    pub(crate) last: Position,
    pub(crate) msg_id: &'a str,
}

/// A message that was given up for a smaller one and may have been stored all the same.
#[derive(Debug, Clone)]
pub(crate) struct GivenUp {
    pub(crate) last: Position,
    pub(crate) msg_id: String,
}

/// One epoch's delivery.
#[derive(Debug, Clone)]
pub(crate) struct Track {
    pub(crate) epoch: Epoch,
    pub(crate) acked: Option<Acked>,
    pub(crate) footing: Footing,
    /// The hub lost data elsewhere: look before believing that this epoch is still there.
    pub(crate) doubtful: bool,
    /// The hub answered for this epoch in this run.
    pub(crate) confirmed: bool,
    /// The ends of messages given up for smaller ones since the last acknowledgement: one of them
    /// may have been stored, even when the journal has dropped its frames meanwhile.
    pub(crate) given_up: Vec<GivenUp>,
    /// The same of earlier runs: one of them may have been stored, and they prove nothing else.
    pub(crate) ends_before: Vec<Position>,
    /// The last message of somebody else that was stepped over, and what of ours is below it.
    pub(crate) stepped_over: Option<(u64, Option<Position>)>,
}

/// How many ends are remembered: each is half as large as the one before, so eight reach from the
/// largest message down to the smallest.
const MOST_GIVEN_UP: usize = 8;

impl Track {
    pub(crate) fn new(epoch: Epoch, acked: Option<Acked>) -> Self {
        let mut track = Self {
            epoch,
            acked,
            footing: Footing::default(),
            doubtful: false,
            confirmed: false,
            given_up: Vec::new(),
            ends_before: Vec::new(),
            stepped_over: None,
        };
        track.stand_on_acked();
        track
    }

    /// What an earlier run knew.
    pub(crate) fn remembered(cursor: &Cursor) -> Self {
        let (at, stream_seq) = (cursor.up_to, cursor.stream_seq);
        let mut track =
            Self::new(cursor.epoch, Some(Acked { at, stream_seq, created: cursor.hub.created }));
        if let Some(suspicion) = &cursor.suspicion {
            track.footing = Footing {
                expected: suspicion.expected_last_seq,
                after: suspicion.after,
                claim: Some(suspicion.reason),
            };
            for (last, msg_id) in &suspicion.sent {
                track.give_up(*last, msg_id.clone());
            }
        }
        track
    }

    /// Goes back to what was acknowledged.
    pub(crate) fn stand_on_acked(&mut self) {
        self.footing = self.acked.map_or_else(Footing::default, |acked| Footing {
            expected: acked.stream_seq,
            after: Some(acked.at),
            claim: None,
        });
    }

    /// Remembers a message that is given up for a smaller one.
    pub(crate) fn give_up(&mut self, last: Position, msg_id: String) {
        if self.given_up.len() >= MOST_GIVEN_UP {
            self.given_up.remove(0);
        }
        self.given_up.push(GivenUp { last, msg_id });
    }

    /// Where to stand when somebody else's message `n` is the last of the subject.
    ///
    /// Below an acknowledged message of ours it shows that the hub lost that one. What of ours is
    /// still below it is known only when it was stepped over in this run; otherwise everything
    /// kept is sent again, because the same frames twice are recognised by every reader and a
    /// hole is not filled by anybody. The flag says that frames may be repeated so.
    pub(crate) fn footing_over(&mut self, n: u64, created: i64) -> (Footing, bool) {
        let lost = self.acked.is_some_and(|acked| acked.created == created && n < acked.stream_seq);
        let below = self.stepped_over.filter(|(seq, _)| *seq == n).map(|(_, below)| below);
        let after = if lost { below.flatten() } else { self.footing.after };
        let claim = self.footing.claim.or(lost.then_some(RewindReason::HubBehind));
        self.stepped_over = Some((n, after));
        (Footing { expected: n, after, claim }, lost && below.is_none())
    }

    /// The number of the first frame that may have to be sent.
    pub(crate) fn next_frame(&self) -> u64 {
        self.footing.after.map_or(0, |after| after.frame.saturating_add(1))
    }
}

/// What the last message of the subject means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The hub has everything up to here.
    Stored {
        up_to: Position,
        /// What arrived is a message that was sent on a claim, so the claim was right.
        proves_claim: bool,
    },
    /// The hub's last frame is older than what it acknowledged.
    Behind { after: Position },
    /// Frames of our epoch that our journal never wrote, or that nothing shows to be its own.
    Fork { common: Option<Position> },
    /// Somebody else's.
    Foreign,
    /// Only a newer reader knows.
    Newer { needs: u8 },
}

/// Judges the content of the message that the leader named as the last of the subject.
pub(crate) fn judge(
    track: &Track,
    sent: Option<Sent<'_>>,
    content: &HeadContent,
    gateway: &str,
    chain: &dyn Chain,
) -> Verdict {
    let (last, msg_id) = match content {
        HeadContent::Newer { needs } => return Verdict::Newer { needs: *needs },
        HeadContent::NotFrames => return Verdict::Foreign,
        HeadContent::Frames { gateway: theirs, epoch, last, msg_id } => {
            if theirs != gateway || *epoch != track.epoch {
                return Verdict::Foreign;
            }
            (*last, msg_id.as_deref())
        }
    };
    let ours = known_at(track, sent, last.frame, chain);
    let acked = track.acked.map(|acked| acked.at);
    if ours.is_some_and(|ours| ours.hash != last.hash) {
        // Below the acknowledged frame nobody can say where the two copies parted.
        let common = acked.filter(|acked| acked.frame < last.frame);
        return Verdict::Fork { common };
    }
    let is_behind = acked.is_some_and(|acked| last.frame < acked.frame);
    let is_this = |run: Position, id: &str| msg_id.map_or(run == last, |found| found == id);
    let is_sent_on_claim = track.footing.claim.is_some()
        && (sent.is_some_and(|sent| is_this(sent.last, sent.msg_id))
            || track.given_up.iter().any(|old| is_this(old.last, &old.msg_id)));
    match ours {
        Some(up_to) if is_sent_on_claim => Verdict::Stored { up_to, proves_claim: true },
        _ if is_behind => Verdict::Behind { after: last },
        Some(up_to) => Verdict::Stored { up_to, proves_claim: false },
        None => Verdict::Fork { common: acked },
    }
}

/// What we know of a frame: from the journal, from what was sent, or from the cursor.
fn known_at(
    track: &Track,
    sent: Option<Sent<'_>>,
    frame: u64,
    chain: &dyn Chain,
) -> Option<Position> {
    let at = |position: Position| (position.frame == frame).then_some(position);
    chain
        .position_of(track.epoch, frame)
        .or_else(|| sent.and_then(|sent| at(sent.last)))
        .or_else(|| track.given_up.iter().find_map(|old| at(old.last)))
        .or_else(|| track.ends_before.iter().copied().find_map(at))
        .or_else(|| track.acked.and_then(|acked| at(acked.at)))
}

/// What an empty subject means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emptiness {
    /// Our messages aged out or were purged: nothing is lost, the server expects 0 again.
    Expired,
    /// Our messages are gone.
    Lost(RewindReason),
}

/// Judges that the leader has nothing on the subject, with its INFO from after it said so.
pub(crate) fn judge_empty(track: &Track, created: i64, first_seq: u64) -> Emptiness {
    if track.acked.is_some_and(|acked| acked.created != created) {
        Emptiness::Lost(RewindReason::Recreated)
    } else if first_seq > track.footing.expected {
        Emptiness::Expired
    } else {
        Emptiness::Lost(RewindReason::HubBehind)
    }
}

/// The number in `wrong last sequence: N`.
pub(crate) fn wrong_last_sequence(description: &str) -> Option<u64> {
    description.rsplit(':').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_refusal_is_read_from_its_text() {
        assert_eq!(wrong_last_sequence("wrong last sequence: 4711"), Some(4711));
        assert_eq!(wrong_last_sequence("wrong last sequence: 0"), Some(0));
        assert_eq!(wrong_last_sequence("wrong last sequence"), None);
        assert_eq!(wrong_last_sequence("wrong last sequence: -1"), None);
        assert_eq!(wrong_last_sequence(""), None);
    }
}
