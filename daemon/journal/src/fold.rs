//! What dropped frames leave behind.
//!
//! # Invariants
//! - No loss record disappears with the frames that are dropped: it is folded into the bridge, or
//!   written again.
//! - The result is bounded however long the hub stays away. What must give way is detail (which
//!   device, which interval), never the fact or the count.

use std::collections::BTreeMap;

use crate::{Bridge, BridgeCause, LossRecord, Predecessor, Unsequenced};

/// Separate bridges that are written again; beyond this, neighbours become one.
const MAX_BRIDGES: usize = 16;

/// The loss records that stood in frames about to be dropped.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Stood {
    bridges: Vec<Bridge>,
    unsequenced: BTreeMap<u64, Unsequenced>,
    predecessor: Option<Predecessor>,
}

impl Stood {
    /// Adds a record, in the order of the chain.
    pub(crate) fn add(&mut self, record: LossRecord) {
        match record {
            LossRecord::Bridge(mut bridge) => {
                for folded in bridge.folded.drain(..) {
                    self.add_unsequenced(folded);
                }
                self.bridges.push(bridge);
            }
            LossRecord::Unsequenced(record) => self.add_unsequenced(record),
            LossRecord::Predecessor(record) => self.predecessor = Some(record),
        }
    }

    /// Of two records with one id, the one that lasts longer knows more.
    fn add_unsequenced(&mut self, record: Unsequenced) {
        match self.unsequenced.get(&record.id) {
            Some(known) if known.to > record.to => {}
            _ => {
                self.unsequenced.insert(record.id, record);
            }
        }
    }

    /// The records to write in place of the dropped range that `hole` describes. The last one is
    /// the bridge over the range, widened over an adjacent earlier one, with everything
    /// unsequenced folded in, at most about `budget` bytes of it.
    pub(crate) fn replace(self, mut hole: Bridge, budget: usize) -> Vec<LossRecord> {
        let mut others = Vec::new();
        for bridge in self.bridges {
            let within =
                bridge.first_frame >= hole.first_frame && bridge.last_frame <= hole.last_frame;
            if within {
                continue;
            }
            let adjacent = bridge.last_frame.checked_add(1) == Some(hole.first_frame);
            if adjacent && bridge.cause == hole.cause {
                hole = join(bridge, hole);
            } else {
                others.push(bridge);
            }
        }
        others.sort_by_key(|bridge| bridge.first_frame);
        while others.len() > MAX_BRIDGES {
            // Those that are nearest to each other claim the least that is not lost.
            let gap = |pair: &[Bridge]| match pair {
                [a, b] => b.first_frame.saturating_sub(a.last_frame),
                _ => u64::MAX,
            };
            let nearest =
                others.windows(2).enumerate().min_by_key(|(_, pair)| gap(pair)).map(|(at, _)| at);
            let Some(at) = nearest else { break };
            let later = others.remove(at + 1);
            let earlier = others.remove(at);
            others.insert(at, join(earlier, later));
        }
        hole.folded = within_budget(self.unsequenced.into_values().collect(), budget);
        let mut records: Vec<LossRecord> =
            self.predecessor.map(LossRecord::Predecessor).into_iter().collect();
        records.extend(others.into_iter().map(LossRecord::Bridge));
        records.push(LossRecord::Bridge(hole));
        records
    }
}

/// One bridge over two, and over what lies between: what the hub has of that counts as present.
fn join(a: Bridge, b: Bridge) -> Bridge {
    let cause = if a.cause == b.cause { a.cause } else { BridgeCause::DroppedOldest };
    let (mut first, last) = if a.first_frame <= b.first_frame { (a, b) } else { (b, a) };
    first.folded.extend(last.folded);
    let ends = if last.last_frame >= first.last_frame {
        (last.last_frame, last.end_seq, last.hash_after)
    } else {
        (first.last_frame, first.end_seq, first.hash_after)
    };
    Bridge {
        cause,
        first_frame: first.first_frame,
        last_frame: ends.0,
        first_seq: first.first_seq,
        end_seq: ends.1,
        hash_before: first.hash_before,
        hash_after: ends.2,
        wall: (first.wall.0.min(last.wall.0), first.wall.1.max(last.wall.1)),
        folded: first.folded,
    }
}

/// A bridge as it reads in another epoch, whose frame numbers it does not name: what it covers
/// was captured in the epoch before and never came into this one.
pub(crate) fn in_another_epoch(bridge: &Bridge) -> Vec<Unsequenced> {
    let word = match bridge.cause {
        BridgeCause::DroppedOldest => "dropped-oldest",
        BridgeCause::Damaged => "damaged",
        BridgeCause::LostAtHub => "lost-at-hub",
    };
    let [a, b, c, d, e, f, g, h, ..] = bridge.hash_after.0;
    let mut records = vec![Unsequenced {
        // The same bridge gives the same identity, however often it is carried.
        id: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        subject: "gateway".to_owned(),
        cause: word.to_owned(),
        from: bridge.wall.0,
        to: bridge.wall.1,
        count: Some(bridge.end_seq.saturating_sub(bridge.first_seq)),
        open: false,
    }];
    records.extend(bridge.folded.iter().cloned());
    records
}

fn within_budget(records: Vec<Unsequenced>, budget: usize) -> Vec<Unsequenced> {
    type Coarser = fn(&Unsequenced) -> (String, String);
    let steps: [Coarser; 3] = [
        |record| (record.subject.clone(), record.cause.clone()),
        |record| ("gateway".to_owned(), record.cause.clone()),
        |_| ("gateway".to_owned(), "several".to_owned()),
    ];
    let mut records = records;
    for step in steps {
        if size(&records) <= budget {
            break;
        }
        let mut merged: BTreeMap<(String, String), Unsequenced> = BTreeMap::new();
        for record in records {
            let (subject, cause) = step(&record);
            let record = Unsequenced { subject: subject.clone(), cause: cause.clone(), ..record };
            match merged.get_mut(&(subject, cause)) {
                Some(whole) => extend(whole, &record),
                None => {
                    merged.insert((record.subject.clone(), record.cause.clone()), record);
                }
            }
        }
        records = merged.into_values().collect();
    }
    records
}

fn extend(whole: &mut Unsequenced, part: &Unsequenced) {
    whole.id = whole.id.min(part.id);
    whole.from = whole.from.min(part.from);
    whole.to = whole.to.max(part.to);
    whole.count = whole.count.zip(part.count).and_then(|(a, b)| a.checked_add(b));
    whole.open |= part.open;
}

/// The most that the records take in postcard: texts, and five integers of up to ten bytes.
fn size(records: &[Unsequenced]) -> usize {
    records.iter().map(|record| 64 + record.subject.len() + record.cause.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrameHash;

    fn bridge(cause: BridgeCause, first_frame: u64, last_frame: u64) -> Bridge {
        Bridge {
            cause,
            first_frame,
            last_frame,
            first_seq: first_frame * 10,
            end_seq: (last_frame + 1) * 10,
            hash_before: FrameHash::of(&first_frame.to_le_bytes()),
            hash_after: FrameHash::of(&last_frame.to_le_bytes()),
            wall: (0, 1),
            folded: Vec::new(),
        }
    }

    fn missed(id: u64, to: i64) -> Unsequenced {
        Unsequenced {
            id,
            subject: format!("device-{}", id % 200),
            cause: format!("cause-{}", id % 3),
            from: 0,
            to,
            count: Some(1),
            open: false,
        }
    }

    fn bridges(records: &[LossRecord]) -> Vec<&Bridge> {
        records
            .iter()
            .filter_map(|record| match record {
                LossRecord::Bridge(bridge) => Some(bridge),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn an_adjacent_bridge_of_the_same_cause_becomes_one_with_the_new_hole() {
        let mut stood = Stood::default();
        let mut earlier = bridge(BridgeCause::DroppedOldest, 0, 9);
        earlier.folded.push(missed(1, 5));
        stood.add(LossRecord::Bridge(earlier.clone()));
        let hole = bridge(BridgeCause::DroppedOldest, 10, 19);
        let records = stood.replace(hole.clone(), 10_000);
        let whole = bridges(&records)[0];
        assert_eq!((whole.first_frame, whole.last_frame), (0, 19));
        assert_eq!((whole.first_seq, whole.end_seq), (0, 200));
        assert_eq!(whole.hash_before, earlier.hash_before);
        assert_eq!(whole.hash_after, hole.hash_after);
        assert_eq!(whole.folded, [missed(1, 5)]);
    }

    #[test]
    fn a_bridge_of_another_cause_or_place_is_written_again() {
        let mut stood = Stood::default();
        stood.add(LossRecord::Bridge(bridge(BridgeCause::Damaged, 0, 9)));
        stood.add(LossRecord::Bridge(bridge(BridgeCause::Damaged, 12, 13)));
        let records = stood.replace(bridge(BridgeCause::DroppedOldest, 10, 19), 10_000);
        let ranges: Vec<_> =
            bridges(&records).iter().map(|it| (it.first_frame, it.last_frame)).collect();
        assert_eq!(ranges, [(0, 9), (10, 19)], "one inside the hole is part of it");
    }

    #[test]
    fn of_two_records_with_one_id_the_longer_one_stays_whatever_their_order() {
        for order in [[3, 8], [8, 3]] {
            let mut stood = Stood::default();
            for to in order {
                stood.add(LossRecord::Unsequenced(missed(1, to)));
            }
            let records = stood.replace(bridge(BridgeCause::DroppedOldest, 0, 1), 10_000);
            assert_eq!(bridges(&records)[0].folded, [missed(1, 8)]);
        }
    }

    #[test]
    fn however_much_stood_there_the_result_is_bounded_and_the_count_is_kept() {
        for (losses, budget) in [(2000, 20_000), (2000, 1000), (2000, 80)] {
            let mut stood = Stood::default();
            for id in 0..losses {
                stood.add(LossRecord::Unsequenced(missed(id, 5)));
                stood.add(LossRecord::Bridge(bridge(BridgeCause::LostAtHub, id * 3, id * 3)));
            }
            let hole = bridge(BridgeCause::DroppedOldest, 1_000_000, 1_000_009);
            let records = stood.replace(hole, budget);
            let found = bridges(&records);
            assert!(found.len() <= MAX_BRIDGES + 1);
            assert_eq!((found[0].first_frame, found[0].first_seq), (0, 0));
            let folded = &found.last().unwrap().folded;
            assert!(size(folded) <= budget.max(size(&[missed(0, 0)])), "{}", size(folded));
            assert_eq!(folded.iter().map(|it| it.count.unwrap()).sum::<u64>(), losses);
        }
    }

    #[test]
    fn an_unknown_count_stays_unknown_when_merged() {
        let mut whole = missed(1, 5);
        extend(&mut whole, &Unsequenced { count: None, ..missed(2, 9) });
        assert_eq!((whole.count, whole.to, whole.id), (None, 9, 1));
    }
}
