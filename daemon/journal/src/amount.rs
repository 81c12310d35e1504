//! How much is kept from a frame on, for backlog and drain time.

use crate::Epoch;
use crate::log::Log;
use crate::reader::Reader;
use crate::scan::Run;
use crate::segment::{BLOCK_OFFSET, Tail};

/// An amount of record. Frames are exact. Samples are interpolated in the segment that the frame
/// stands in, and bytes of sealed segments include the padding of their commits: counting them
/// would mean reading them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Whole frames.
    pub frames: u64,
    /// Samples in them.
    pub samples: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Reader {
    /// How much is kept of an epoch at and after a frame.
    #[must_use]
    pub fn amount_from(&self, epoch: Epoch, frame: u64) -> Kept {
        self.with_log(|log| {
            let mut kept = Kept::default();
            for (at, segment) in log.segments.iter().enumerate() {
                let Some(end) = log.end_of(at) else { continue };
                if segment.header.epoch != epoch || end.frame <= frame {
                    continue;
                }
                let sealed = at + 1 < log.segments.len();
                let used = if sealed { segment.bytes.saturating_sub(BLOCK_OFFSET) } else { 0 };
                add(&mut kept, segment.start(), end, frame, used);
                if !sealed {
                    kept.bytes += active_bytes(log, frame);
                }
            }
            kept
        })
    }
}

/// Bytes of frames in the segment being written, whose commits are known.
fn active_bytes(log: &Log, from: u64) -> u64 {
    let share = |run: &Run| {
        let part = run.end().saturating_sub(from.max(run.first));
        run.bytes * part / run.frames.max(1)
    };
    log.active_runs.iter().filter(|run| run.end() > from).map(share).sum()
}

fn add(kept: &mut Kept, start: Tail, end: Tail, from: u64, used: u64) {
    let all = end.frame.saturating_sub(start.frame).max(1);
    let part = end.frame.saturating_sub(from.max(start.frame));
    let share = |whole: u64| {
        let share = u128::from(whole) * u128::from(part) / u128::from(all);
        u64::try_from(share).unwrap_or(whole)
    };
    kept.frames += part;
    kept.samples += share(end.seq.saturating_sub(start.seq));
    kept.bytes += share(used);
}
