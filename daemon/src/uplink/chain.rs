//! The journal as the state machine sees it.
//!
//! # Invariants
//! - It reads what is durable and nothing else.
//! - A failed read looks like "nothing there": the machine waits, and the recorder's alarms tell
//!   why. It is never taken for a loss.

use tidegate_journal::{Epoch, Position, Read, Reader, frame};
use tidegate_uplink::{Amount, Chain, Run};

use crate::recorder::Handle;

/// Holes that are stepped over in one look; more are met by the next one.
const MAX_GAPS: usize = 64;

/// A view onto the journal for the length of one call.
#[derive(Debug)]
pub(super) struct JournalChain {
    reader: Reader,
    closed: Vec<Epoch>,
}

impl JournalChain {
    pub(super) fn of(recorder: &Handle) -> Self {
        Self { reader: recorder.reader(), closed: recorder.closed_epochs() }
    }
}

impl Chain for JournalChain {
    fn epochs(&self) -> Vec<Epoch> {
        let epochs = self.reader.epochs().into_iter().map(|span| span.epoch);
        epochs.filter(|epoch| !self.closed.contains(epoch)).collect()
    }

    fn tail(&self, epoch: Epoch) -> Option<Position> {
        let span = self.reader.epochs().into_iter().find(|span| span.epoch == epoch)?;
        self.position_of(epoch, span.end_frame.checked_sub(1)?)
    }

    fn position_of(&self, epoch: Epoch, frame: u64) -> Option<Position> {
        self.reader.position_of(epoch, frame).ok().flatten()
    }

    fn run(&self, epoch: Epoch, from: u64, max_bytes: usize) -> Option<Run> {
        let mut next = from;
        for _ in 0..MAX_GAPS {
            match self.reader.read_from(epoch, next, max_bytes).ok()? {
                Read::Frames(batch) => return cut(&batch.bytes, &batch.positions, max_bytes),
                Read::Gap { next: after } if after > next => next = after,
                _ => return None,
            }
        }
        None
    }

    fn amount_from(&self, epoch: Epoch, from: u64) -> Amount {
        let kept = self.reader.amount_from(epoch, from);
        Amount { frames: kept.frames, samples: kept.samples, bytes: kept.bytes }
    }
}

/// The frames at the front that fit, at least one.
fn cut(bytes: &[u8], positions: &[Position], max_bytes: usize) -> Option<Run> {
    let mut used = 0;
    let mut run: Option<Run> = None;
    for position in positions {
        let found = frame::decode(bytes.get(used..)?).ok()?;
        let length = found.bytes.len();
        if run.is_some() && used + length > max_bytes {
            break;
        }
        used += length;
        let samples = u64::from(found.header.count);
        let so_far =
            run.get_or_insert(Run { first: position.frame, last: *position, bytes: 0, samples: 0 });
        so_far.last = *position;
        so_far.bytes = used;
        so_far.samples += samples;
    }
    run
}

/// The bytes of the frames from `first` to `last`. Blocks on the disk.
///
/// # Errors
/// With a reason for a person when they cannot be read any more.
pub(super) fn read_run(
    reader: &Reader,
    epoch: Epoch,
    first: u64,
    last: u64,
    bytes: usize,
) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(bytes);
    let mut next = first;
    while next <= last {
        let batch = match reader.read_from(epoch, next, bytes) {
            Ok(Read::Frames(batch)) => batch,
            Ok(_) => return Err(format!("frame {next} of epoch {epoch} is not kept any more")),
            Err(error) => return Err(crate::causes::chain(&error)),
        };
        let mut rest = batch.bytes.as_slice();
        for position in &batch.positions {
            let length = frame::whole_length(rest).map_err(|error| error.to_string())?;
            let Some((whole, after)) = rest.split_at_checked(length) else { break };
            if position.frame <= last {
                out.extend_from_slice(whole);
            }
            rest = after;
            next = position.frame.saturating_add(1);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_journal::{
        ClockState, Codec, DirStorage, Draft, Journal, Kind, MIN_SEGMENT_BYTES, Settings, Stamp,
    };

    use super::*;

    /// One frame with its header.
    const BODY: usize = 5000;

    fn open(dir: &std::path::Path) -> Journal {
        let sizes = Settings::new("PlantA", "gw-1", 4 * MIN_SEGMENT_BYTES);
        let sizes = Settings { segment_bytes: MIN_SEGMENT_BYTES, headroom: 0, ..sizes };
        Journal::open(Arc::new(DirStorage::new(dir).unwrap()), sizes, stamp()).unwrap().0
    }

    const fn stamp() -> Stamp {
        Stamp { wall: (1, 1), mono: (1, 1), boot: [0; 16], clock: ClockState::Unknown }
    }

    /// Appends frames of two samples each.
    fn append(journal: &mut Journal, frames: usize) {
        for _ in 0..frames {
            let body = [7; BODY];
            let (kind, codec) = (Kind::Samples, Codec::Plain);
            let draft = Draft { kind, codec, body: &body, count: 2, stamp: stamp() };
            journal.append(&draft).unwrap();
        }
    }

    fn chain(journal: &Journal, closed: &[Epoch]) -> JournalChain {
        JournalChain { reader: journal.reader(), closed: closed.to_vec() }
    }

    #[test]
    fn a_run_ends_where_the_next_frame_does_not_fit_and_its_bytes_are_what_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        append(&mut journal, 5);
        journal.commit().unwrap();
        let (chain, epoch) = (chain(&journal, &[]), journal.epoch());
        let one = chain.run(epoch, 1, 0).unwrap();
        assert_eq!((one.first, one.last.frame, one.samples), (1, 1, 2), "the first comes anyhow");
        assert!(one.bytes > BODY);
        for (limit, last) in [(one.bytes * 2, 2), (one.bytes * 2 - 1, 1), (one.bytes * 9, 5)] {
            let run = chain.run(epoch, 1, limit).unwrap();
            assert_eq!(run.last.frame, last, "within {limit} bytes");
            assert_eq!((run.bytes, run.samples), (one.bytes * run_len(&run), 2 * last));
            assert_eq!(run.last, chain.position_of(epoch, last).unwrap());
            let bytes = read_run(&chain.reader, epoch, 1, last, run.bytes).unwrap();
            assert_eq!(bytes.len(), run.bytes);
            let found = frame::decode(&bytes[bytes.len() - one.bytes..]).unwrap();
            assert_eq!(found.hash(), run.last.hash);
        }
        assert_eq!(chain.run(epoch, 6, 1 << 20), None, "nothing is there yet");
        // The reader keeps to its budget only about; the cut is exact.
        let Read::Frames(all) = chain.reader.read_from(epoch, 1, 1 << 20).unwrap() else {
            panic!()
        };
        for (limit, last) in [(0, 1), (one.bytes * 3 - 1, 2), (one.bytes * 3, 3)] {
            let run = cut(&all.bytes, &all.positions, limit).unwrap();
            assert_eq!((run.last.frame, run.bytes), (last, one.bytes * run_len(&run)));
        }
    }

    fn run_len(run: &Run) -> usize {
        usize::try_from(run.frames()).unwrap()
    }

    #[test]
    fn what_is_not_durable_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        append(&mut journal, 1);
        journal.commit().unwrap();
        append(&mut journal, 1);
        let (chain, epoch) = (chain(&journal, &[]), journal.epoch());
        assert_eq!(chain.tail(epoch).map(|tail| tail.frame), Some(1));
        assert_eq!((chain.run(epoch, 2, 1 << 20), chain.position_of(epoch, 2)), (None, None));
        assert_eq!(chain.amount_from(epoch, 0).frames, 2);
        assert!(read_run(&chain.reader, epoch, 1, 2, 1 << 20).is_err());
    }

    #[test]
    fn a_run_begins_behind_frames_that_were_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        for _ in 0..30 {
            append(&mut journal, 4);
            journal.commit().unwrap();
        }
        let (chain, epoch) = (chain(&journal, &[]), journal.epoch());
        let first = chain.reader.epochs()[0].first_frame;
        assert!(first > 5, "the journal was full");
        let run = chain.run(epoch, 2, 1 << 20).unwrap();
        assert_eq!(run.first, first);
        let why = read_run(&chain.reader, epoch, 2, first, 1 << 20).unwrap_err();
        assert!(why.contains("frame 2 of epoch") && why.contains("not kept"), "{why}");
        let (all, tail) = (chain.amount_from(epoch, 2), chain.tail(epoch).unwrap().frame);
        assert_eq!(all.frames, tail + 1 - first);
        let later = chain.amount_from(epoch, tail);
        assert!(later.frames == 1 && later.bytes < all.bytes && later.samples <= all.samples);
        assert_eq!(chain.amount_from(epoch, tail + 1), Amount { frames: 0, samples: 0, bytes: 0 });
    }

    #[test]
    fn an_epoch_that_a_fork_closed_is_not_offered() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        append(&mut journal, 3);
        let old = journal.epoch();
        let fresh = journal.start_epoch(tidegate_journal::EpochReason::Fork, Some(2), &[]).unwrap();
        assert_eq!(chain(&journal, &[]).epochs(), [old, fresh]);
        assert_eq!(chain(&journal, &[old]).epochs(), [fresh]);
        let run = chain(&journal, &[old]).run(fresh, 0, 1 << 20).unwrap();
        assert_eq!((run.first, run.samples), (0, 4), "two of the three frames were carried over");
        assert_eq!(chain(&journal, &[]).run(Epoch([9; 16]), 0, 1 << 20), None);
    }
}
