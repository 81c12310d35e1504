//! One gateway, in one copy of the record or several: its samples in its order, each once.

use std::collections::VecDeque;

use tidegate_journal::Epoch;
use tidegate_record::{ClockBook, Reading};
use tidegate_translator::{Sample, Timestamp};

use super::feed::Feed;
use super::seen::Seen;
use super::{Block, Sink};
use crate::names::GatewayId;
use crate::sheet::SheetError;

/// One gateway.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) gateway: GatewayId,
    /// One for each copy.
    pub(super) arms: Vec<Arm>,
    /// What corrects times, where that is asked for.
    pub(super) clocks: Option<ClockBook>,
    order: Order,
    current: Option<Current>,
}

/// The gateway in one copy.
#[derive(Debug)]
pub(super) struct Arm {
    pub(super) feed: Feed,
    pub(super) ready: Vec<Block>,
    /// Decoded, and not given yet.
    pub(super) queue: VecDeque<Block>,
    pub(super) ended: bool,
}

#[derive(Debug)]
struct Current {
    arm: usize,
    epoch: Epoch,
    stamp: tidegate_journal::Stamp,
    samples: std::vec::IntoIter<(u64, Sample)>,
}

/// Which block comes next, and what of it.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// In the order in which the gateway began them.
    epochs: Vec<Epoch>,
    /// What was given, where several copies are read.
    seen: Option<Seen>,
    /// Whether samples of a frame are put into the order of time.
    by_time: bool,
}

impl Order {
    pub(super) fn new(once: bool, by_time: bool) -> Self {
        Self { epochs: Vec::new(), seen: once.then(Seen::default), by_time }
    }

    /// Takes the next block out of the heads of the copies; none while a copy that goes on has no
    /// head: its next one may stand before the others.
    pub(super) fn next(
        &mut self,
        queues: &mut [(&mut VecDeque<Block>, bool)],
    ) -> Option<(usize, Block)> {
        loop {
            if queues.iter().any(|(queue, ended)| queue.is_empty() && !ended) {
                return None;
            }
            let mut new: Vec<(i64, Epoch)> = queues
                .iter()
                .filter_map(|(queue, _)| queue.front())
                .filter(|block| !self.epochs.contains(&block.epoch))
                .map(|block| (block.stamp.wall.0, block.epoch))
                .collect();
            new.sort_unstable();
            for (_, epoch) in new {
                if !self.epochs.contains(&epoch) {
                    self.epochs.push(epoch);
                }
            }
            let place = |block: &Block| {
                let epoch = self.epochs.iter().position(|epoch| *epoch == block.epoch);
                (epoch, block.seqs.start, block.seqs.end)
            };
            let heads = queues.iter().enumerate();
            let heads = heads.filter_map(|(arm, (queue, _))| Some((place(queue.front()?), arm)));
            let (_, arm) = heads.min()?;
            let mut block = queues.get_mut(arm)?.0.pop_front()?;
            if let Some(seen) = &mut self.seen {
                let whole = block.seqs.clone();
                let new = seen.insert(block.epoch, block.seqs.clone());
                if new.as_slice() != [whole] {
                    block.samples.retain(|(seq, _)| new.iter().any(|range| range.contains(seq)));
                }
            }
            if self.by_time {
                block.samples.sort_by_key(|(seq, sample)| (sample.acquired, *seq));
            }
            if !block.samples.is_empty() {
                return Some((arm, block));
            }
        }
    }
}

impl Lane {
    pub(super) fn new(gateway: GatewayId, arms: Vec<Feed>, by_time: bool) -> Self {
        let order = Order::new(arms.len() > 1, by_time);
        let arm = |feed| Arm { feed, ready: Vec::new(), queue: VecDeque::new(), ended: false };
        let arms = arms.into_iter().map(arm).collect();
        Self { gateway, arms, clocks: None, order, current: None }
    }

    /// Moves on to the next block; `false` when there is none, or more has to be read before.
    pub(super) fn turn(&mut self) -> bool {
        if self.current.as_ref().is_some_and(|current| !current.samples.as_slice().is_empty()) {
            return true;
        }
        let mut queues: Vec<_> =
            self.arms.iter_mut().map(|arm| (&mut arm.queue, arm.ended)).collect();
        self.current = self.order.next(&mut queues).map(|(arm, block)| Current {
            arm,
            epoch: block.epoch,
            stamp: block.stamp,
            samples: block.samples.into_iter(),
        });
        self.current.is_some()
    }

    /// When the next sample was acquired.
    pub(super) fn time(&self) -> Option<Timestamp> {
        let (_, sample) = self.current.as_ref()?.samples.as_slice().first()?;
        Some(sample.acquired)
    }

    /// Gives the samples of the present block, up to and with this time.
    pub(super) fn give(
        &mut self,
        until: Option<Timestamp>,
        sink: &mut impl Sink,
    ) -> Result<(), SheetError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let Some(arm) = self.arms.get(current.arm) else { return Ok(()) };
        loop {
            let head = current.samples.as_slice().first();
            let within = head.is_some_and(|(_, sample)| until.is_none_or(|t| sample.acquired <= t));
            let Some((seq, sample)) = within.then(|| current.samples.next()).flatten() else {
                return Ok(());
            };
            let corrected = self.clocks.as_ref().map(|clocks| {
                let corrected = || clocks.corrected(sample.acquired.0, &current.stamp);
                sample.source.or(sample.server).unwrap_or_else(|| Timestamp(corrected()))
            });
            let entry = arm.feed.unpacker.entry(current.epoch, sample.tag);
            let reading = Reading { epoch: current.epoch, seq, entry, sample };
            sink.sample(&self.gateway, &reading, corrected)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_journal::{ClockState, Stamp};
    use tidegate_translator::{TagId, Value};

    use super::*;

    const A: Epoch = Epoch([1; 16]);
    const B: Epoch = Epoch([2; 16]);

    fn block(epoch: Epoch, seqs: std::ops::Range<u64>) -> Block {
        let wall = i64::from(epoch.0[0]);
        let stamp =
            Stamp { wall: (wall, wall), mono: (0, 0), boot: [0; 16], clock: ClockState::Unknown };
        // Two tags side by side: the later numbers begin again with the first time.
        let middle = u64::midpoint(seqs.start, seqs.end);
        let sample = |seq: u64| {
            let at = if seq < middle { seq * 2 } else { (seq - (middle - seqs.start)) * 2 };
            let at = Timestamp(i64::try_from(at).unwrap());
            (seq, Sample::good(TagId(0), at, Value::None))
        };
        let samples = seqs.clone().map(sample).collect();
        Block { epoch, seqs, stamp, place: 0, samples }
    }

    fn given(order: &mut Order, copies: &[Vec<Block>]) -> Vec<(Epoch, u64)> {
        let mut queues: Vec<VecDeque<Block>> =
            copies.iter().map(|blocks| blocks.iter().cloned().collect()).collect();
        let mut queues: Vec<_> = queues.iter_mut().map(|queue| (queue, true)).collect();
        let mut all = Vec::new();
        while let Some((_, block)) = order.next(&mut queues) {
            all.extend(block.samples.iter().map(|(seq, _)| (block.epoch, *seq)));
        }
        all
    }

    #[test]
    fn copies_with_different_holes_and_cuts_give_each_sample_once_and_in_order() {
        let one = vec![block(A, 0..10), block(A, 10..20), block(B, 0..8)];
        let two = vec![block(A, 5..12), block(A, 20..30), block(B, 4..12)];
        let all = given(&mut Order::new(true, false), &[one, two]);
        let expected: Vec<_> =
            (0..30).map(|seq| (A, seq)).chain((0..12).map(|seq| (B, seq))).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn a_copy_that_begins_with_a_later_epoch_waits_for_the_earlier_one() {
        let one = vec![block(B, 0..3), block(B, 3..6)];
        let two = vec![block(A, 7..9), block(B, 0..3)];
        let all = given(&mut Order::new(true, false), &[one, two]);
        let expected: Vec<_> =
            (7..9).map(|seq| (A, seq)).chain((0..6).map(|seq| (B, seq))).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn a_message_that_came_late_in_one_copy_is_given_all_the_same() {
        let one = vec![block(A, 0..2), block(B, 0..2), block(A, 2..4)];
        let two = vec![block(A, 0..2), block(A, 4..6), block(B, 0..2)];
        let mut all = given(&mut Order::new(true, false), &[one, two]);
        all.sort_unstable();
        let expected: Vec<_> =
            (0..6).map(|seq| (A, seq)).chain((0..2).map(|seq| (B, seq))).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn a_copy_that_goes_on_is_waited_for() {
        let mut order = Order::new(true, false);
        let (mut one, mut two) = (VecDeque::new(), VecDeque::new());
        one.extend([block(A, 0..2), block(A, 4..6)]);
        two.extend([block(A, 0..2)]);
        let mut queues = [(&mut one, false), (&mut two, false)];
        assert_eq!(order.next(&mut queues).unwrap().1.seqs, 0..2);
        // The other one's is the same, and what comes behind it is not known.
        assert_eq!(order.next(&mut queues), None);
        queues[1].0.push_back(block(A, 2..4));
        assert_eq!(order.next(&mut queues).unwrap().1.seqs, 2..4);
        queues[1].1 = true;
        assert_eq!(order.next(&mut queues).unwrap().1.seqs, 4..6);
    }

    #[test]
    fn one_copy_is_given_as_it_is_and_by_time_where_several_gateways_are_merged() {
        let twice = vec![block(A, 0..4), block(A, 0..4)];
        assert_eq!(given(&mut Order::default(), std::slice::from_ref(&twice)).len(), 8);
        let by_time = given(&mut Order::new(false, true), &[vec![block(A, 0..4)]]);
        assert_eq!(by_time, [(A, 0), (A, 2), (A, 1), (A, 3)]);
    }
}
