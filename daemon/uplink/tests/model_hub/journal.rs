//! A journal in memory: kept frames, what was dropped under a name, and the shell's marks.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_journal::{Epoch, FrameHash, Position};
use tidegate_uplink::{Amount, Chain, Cursor, Memory, MessageEnd, Run};

#[derive(Debug, Clone, Copy)]
pub struct Kept {
    pub at: Position,
    pub bytes: usize,
}

#[derive(Debug)]
pub struct EpochLog {
    pub epoch: Epoch,
    pub kept: BTreeMap<u64, Kept>,
    /// Every frame ever written, by number.
    pub written: Vec<Kept>,
    /// Named by a bridge of the journal.
    pub dropped: BTreeSet<u64>,
    /// Named as lost at the hub.
    pub lost_at_hub: BTreeSet<u64>,
    /// Frames below this count as delivered.
    pub delivered_below: u64,
    pub closed: bool,
    pub cursor: Option<Cursor>,
}

#[derive(Debug)]
pub struct Journal {
    pub logs: Vec<EpochLog>,
    /// What the shell was told to remember; of it, only the ends of messages are used.
    pub memory: Memory,
    /// Those that a kill leaves.
    pub durable_ends: Vec<MessageEnd>,
}

pub fn epoch(n: u8) -> Epoch {
    Epoch([n; 16])
}

pub fn hash(epoch: Epoch, frame: u64, writer: u8) -> FrameHash {
    let mut bytes = [writer; 32];
    bytes[..16].copy_from_slice(&epoch.0);
    bytes[16..24].copy_from_slice(&frame.to_le_bytes());
    FrameHash(bytes)
}

impl Journal {
    pub fn new() -> Self {
        let (memory, durable_ends) = (Memory::default(), Vec::new());
        let mut journal = Self { logs: Vec::new(), memory, durable_ends };
        journal.begin_epoch();
        journal
    }

    pub fn begin_epoch(&mut self) -> Epoch {
        let number = u8::try_from(self.logs.len() + 1).unwrap();
        let epoch = epoch(number);
        self.logs.push(EpochLog {
            epoch,
            kept: BTreeMap::new(),
            written: Vec::new(),
            dropped: BTreeSet::new(),
            lost_at_hub: BTreeSet::new(),
            delivered_below: 0,
            closed: false,
            cursor: None,
        });
        epoch
    }

    pub fn current(&mut self) -> &mut EpochLog {
        self.logs.last_mut().unwrap()
    }

    pub fn log(&mut self, epoch: Epoch) -> &mut EpochLog {
        self.logs.iter_mut().find(|log| log.epoch == epoch).unwrap()
    }

    pub fn append(&mut self, frames: usize, bytes: usize) {
        for _ in 0..frames {
            let log = self.current();
            let frame = log.written.len() as u64;
            let hash = hash(log.epoch, frame, 1);
            let kept = Kept { at: Position { frame, next_seq: (frame + 1) * 10, hash }, bytes };
            log.written.push(kept);
            log.kept.insert(frame, kept);
        }
    }

    /// Makes room: delivered frames first, silently; then undelivered ones, under a name.
    pub fn drop_oldest(&mut self, frames: usize) {
        self.save();
        for _ in 0..frames {
            let delivered = self.logs.iter_mut().find_map(|log| {
                let (frame, _) = log.kept.first_key_value()?;
                (*frame < log.delivered_below).then_some(*frame).map(|frame| (log, frame))
            });
            if let Some((log, frame)) = delivered {
                log.kept.remove(&frame);
                continue;
            }
            let Some(log) = self.logs.iter_mut().find(|log| !log.kept.is_empty()) else { return };
            let (frame, _) = log.kept.pop_first().unwrap();
            log.dropped.insert(frame);
        }
    }

    /// Writes the cursor, as before each drop.
    pub fn save(&mut self) {
        self.durable_ends.clone_from(&self.memory.ends);
    }

    /// Keeps a cursor, and what stands beside it.
    pub fn keep(&mut self, cursor: Cursor) {
        self.log(cursor.epoch).cursor = Some(cursor.clone());
        self.memory.take(cursor);
        self.save();
    }

    /// Closes an epoch and carries over what the hub never had.
    pub fn fork(&mut self, epoch: Epoch, common: Option<Position>) {
        let log = self.log(epoch);
        log.closed = true;
        let from = common.map_or(0, |common| common.frame + 1);
        let carried = log.kept.range(from..).count();
        if self.logs.last().unwrap().epoch == epoch {
            self.begin_epoch();
        }
        self.append(1 + carried, 300);
    }
}

impl Chain for Journal {
    fn epochs(&self) -> Vec<Epoch> {
        let current = self.logs.len() - 1;
        let offered =
            |(n, log): &(usize, &EpochLog)| !log.closed && (*n == current || !log.kept.is_empty());
        self.logs.iter().enumerate().filter(offered).map(|(_, log)| log.epoch).collect()
    }

    fn tail(&self, epoch: Epoch) -> Option<Position> {
        let log = self.logs.iter().find(|log| log.epoch == epoch)?;
        log.kept.last_key_value().map(|(_, kept)| kept.at)
    }

    fn position_of(&self, epoch: Epoch, frame: u64) -> Option<Position> {
        let log = self.logs.iter().find(|log| log.epoch == epoch)?;
        log.kept.get(&frame).map(|kept| kept.at)
    }

    fn run(&self, epoch: Epoch, from: u64, max_bytes: usize) -> Option<Run> {
        let log = self.logs.iter().find(|log| log.epoch == epoch)?;
        let mut run: Option<Run> = None;
        for (frame, kept) in log.kept.range(from..) {
            run = match run {
                None => Some(Run { first: *frame, last: kept.at, bytes: kept.bytes, samples: 10 }),
                Some(run)
                    if run.last.frame + 1 == *frame && run.bytes + kept.bytes <= max_bytes =>
                {
                    let (bytes, samples) = (run.bytes + kept.bytes, run.samples + 10);
                    Some(Run { last: kept.at, bytes, samples, ..run })
                }
                done => return done,
            };
        }
        run
    }

    fn amount_from(&self, epoch: Epoch, from: u64) -> Amount {
        let mut sum = Amount::default();
        if let Some(log) = self.logs.iter().find(|log| log.epoch == epoch) {
            for kept in log.kept.range(from..).map(|(_, kept)| kept) {
                sum += Amount { frames: 1, samples: 10, bytes: kept.bytes as u64 };
            }
        }
        sum
    }
}
