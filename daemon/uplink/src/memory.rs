//! What is remembered from one run to the next, kept with the journal.
//!
//! # Invariants
//! - The end of a message is kept from before its first transmission until the hub acknowledged its
//!   epoch: when the journal must drop the frames meanwhile, a head at the hub that ends with one of
//!   them can still be told from one of another writer, by its hash.
//! - An end is a fact about this journal and never becomes untrue. Forgetting one costs an epoch
//!   (what cannot be shown to be ours counts as somebody else's) and no data.

use serde::{Deserialize, Serialize};
use tidegate_journal::{Epoch, Position};

use crate::settings::Cursor;

/// Cursors that are kept: one hub, an older epoch beside the current one, and a spare.
const CURSORS: usize = 4;
/// Ends that are kept: one for each run that was cut off, and for each halving of a message in it.
const ENDS: usize = 16;

/// The last frame of a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageEnd {
    /// The epoch.
    pub epoch: Epoch,
    /// The frame.
    pub last: Position,
}

/// What a run leaves to the next one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// What the hubs acknowledged, the oldest first.
    pub cursors: Vec<Cursor>,
    /// Messages whose answer may never have come, the oldest first.
    pub ends: Vec<MessageEnd>,
}

impl Memory {
    /// Takes a cursor in place of the former one of the same epoch and hub. What was sent before an
    /// acknowledgement cannot become the epoch's last message any more.
    pub fn take(&mut self, cursor: Cursor) {
        if cursor.suspicion.is_none() {
            self.ends.retain(|end| end.epoch != cursor.epoch);
        }
        self.cursors.retain(|known| known.epoch != cursor.epoch || known.hub != cursor.hub);
        if self.cursors.len() >= CURSORS {
            self.cursors.remove(0);
        }
        self.cursors.push(cursor);
    }

    /// Notes a message that is about to be sent; the oldest goes when there are too many.
    pub fn note_sent(&mut self, end: MessageEnd) {
        self.ends.retain(|known| *known != end);
        if self.ends.len() >= ENDS {
            self.ends.remove(0);
        }
        self.ends.push(end);
    }

    pub(crate) fn ends_of(&self, epoch: Epoch) -> Vec<Position> {
        self.ends.iter().filter(|end| end.epoch == epoch).map(|end| end.last).collect()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_journal::FrameHash;

    use super::*;
    use crate::event::RewindReason;
    use crate::settings::{HubId, Suspicion};

    fn end(epoch: u8, frame: u64) -> MessageEnd {
        let last = Position { frame, next_seq: frame, hash: FrameHash([1; 32]) };
        MessageEnd { epoch: Epoch([epoch; 16]), last }
    }

    fn cursor(of: MessageEnd, suspicion: Option<Suspicion>) -> Cursor {
        let hub = HubId { domain: "hub".into(), stream: "TIDE".into(), created: 1 };
        Cursor { hub, epoch: of.epoch, up_to: of.last, stream_seq: 1, suspicion }
    }

    #[test]
    fn ends_are_kept_until_their_epoch_is_acknowledged_and_no_longer() {
        let mut memory = Memory::default();
        memory.note_sent(end(1, 4));
        memory.note_sent(end(2, 7));
        let suspicion = Suspicion {
            reason: RewindReason::HubBehind,
            after: None,
            expected_last_seq: 0,
            sent: Vec::new(),
        };
        memory.take(cursor(end(1, 2), Some(suspicion)));
        assert_eq!(memory.ends, [end(1, 4), end(2, 7)], "a belief is no acknowledgement");
        memory.take(cursor(end(1, 4), None));
        assert_eq!((memory.ends.as_slice(), memory.cursors.len()), ([end(2, 7)].as_slice(), 1));
    }

    #[test]
    fn of_too_many_ends_the_oldest_goes_and_a_repetition_is_none() {
        let mut memory = Memory::default();
        for frame in 0..ENDS as u64 {
            memory.note_sent(end(1, frame));
        }
        memory.note_sent(end(1, 0));
        assert_eq!(memory.ends.len(), ENDS);
        memory.note_sent(end(1, 99));
        let frames: Vec<_> = memory.ends.iter().map(|end| end.last.frame).collect();
        assert_eq!((frames.len(), frames.first(), frames.last()), (ENDS, Some(&2), Some(&99)));
    }
}
