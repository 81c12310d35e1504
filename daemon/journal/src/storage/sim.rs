//! A disk in memory that forgets at a power cut what was not made durable.
//!
//! # Invariants
//! - Blocks and names have a cached and a durable state. [`StoredFile::sync_data`] makes a file's
//!   blocks durable and not its name; [`Storage::sync_dir`] makes names durable and no blocks.
//! - After a power cut any subset of the blocks that were written and not synced is there, chosen
//!   by the seed; the block written last is torn: part old, part new, part garbage, whatever stood
//!   in it before. Of the names that were changed and not synced, a prefix of the changes holds.
//! - After a failed sync the blocks read as written, as on Linux; half of them became durable, and
//!   no later sync makes the others so.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod fault;

pub use fault::{Counters, Fault, Op};

use self::fault::Window;
use super::{Storage, StoredFile};

const BLOCK: usize = 4096;

#[derive(Default, Clone)]
struct Node {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Blocks that differ from what is durable and that a sync would write.
    dirty: Vec<usize>,
}

impl Node {
    /// Ends the dirty state of all blocks; those that are chosen became durable.
    fn reach_the_medium(&mut self, chosen: impl Fn(usize) -> bool) {
        let size = self.cached.len();
        self.durable.resize(size, 0);
        for block in std::mem::take(&mut self.dirty).into_iter().filter(|block| chosen(*block)) {
            let to = ((block + 1) * BLOCK).min(size);
            let from = (block * BLOCK).min(to);
            self.durable[from..to].copy_from_slice(&self.cached[from..to]);
        }
    }
}

#[derive(Clone)]
enum Change {
    Put(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Default)]
struct Disk {
    nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    changes: Vec<Change>,
    last_block: Option<(usize, usize)>,
    cut_at: Option<u64>,
    off: bool,
    locked: bool,
    capacity: Option<u64>,
    faults: Vec<(Op, Fault, u32)>,
    changes_fail: Option<Window>,
    reads_fail: Option<Window>,
    counters: Counters,
    during_sync: Option<Interruption>,
    last_fault: Option<Fault>,
}

/// What happens elsewhere while a file is being synced.
type Interruption = Arc<dyn Fn() + Send + Sync>;

/// The disk; clones are the same disk.
#[derive(Clone, Default)]
pub struct SimStorage {
    disk: Arc<Mutex<Disk>>,
}

impl std::fmt::Debug for SimStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimStorage").finish_non_exhaustive()
    }
}

impl SimStorage {
    /// An empty disk without a limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power in the middle of the changing operation with this index, counted from 0
    /// over the life of this disk. Everything from there on fails.
    pub fn cut_power_at(&self, operation: u64) {
        self.disk().cut_at = Some(operation);
    }

    /// Whether the power was cut.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.disk().off
    }

    /// Takes the power cut back, cache and all: only the process died.
    pub fn survive_as_crash(&self) {
        let mut disk = self.disk();
        disk.off = false;
        disk.cut_at = None;
        disk.locked = false;
    }

    /// What was asked so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.disk().counters
    }

    /// Limits the bytes of all files; `None` lifts it.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// Makes the next `times` operations of this kind fail.
    pub fn fail(&self, op: Op, fault: Fault, times: u32) {
        self.disk().faults.push((op, fault, times));
    }

    /// Makes every changing operation with an index in this range fail, whatever it is.
    pub fn fail_changes(&self, during: Range<u64>, fault: Fault) {
        self.disk().changes_fail = Some(Window { during, fault });
    }

    /// Makes every operation that only looks and has an index in this range fail.
    pub fn fail_reads(&self, during: Range<u64>, fault: Fault) {
        self.disk().reads_fail = Some(Window { during, fault });
    }

    /// Lifts every fault.
    pub fn heal(&self) {
        let mut disk = self.disk();
        disk.faults.clear();
        disk.changes_fail = None;
        disk.reads_fail = None;
    }

    /// Lets something happen in the middle of every file sync, which is where a slow disk keeps
    /// its writer waiting.
    pub fn during_sync(&self, what: impl Fn() + Send + Sync + 'static) {
        self.disk().during_sync = Some(Arc::new(what));
    }

    /// Flips bits of one byte of a file, in the cache and on the medium.
    pub fn flip(&self, name: &str, offset: usize, mask: u8) {
        let mut disk = self.disk();
        let Some(&node) = disk.names.get(name) else { return };
        if let Some(node) = disk.nodes.get_mut(node) {
            for bytes in [&mut node.cached, &mut node.durable] {
                if let Some(byte) = bytes.get_mut(offset) {
                    *byte ^= mask;
                }
            }
        }
    }

    /// The names and sizes of the files.
    #[must_use]
    pub fn files(&self) -> Vec<(String, usize)> {
        let disk = self.disk();
        let size = |node: &usize| disk.nodes.get(*node).map_or(0, |node| node.cached.len());
        disk.names.iter().map(|(name, node)| (name.clone(), size(node))).collect()
    }

    /// The disk as it is found when the power is back, for this seed. Without `tear` the block
    /// written last is as likely whole as any other.
    #[must_use]
    pub fn after_power_cut(&self, seed: u64, tear: bool) -> Self {
        let disk = self.disk();
        let mut random = SplitMix(seed);
        let mut names = disk.durable_names.clone();
        let kept = random.below(disk.changes.len() as u64 + 1);
        for change in disk.changes.iter().take(usize::try_from(kept).unwrap_or(0)) {
            apply(&mut names, change);
        }
        let mut nodes = Vec::with_capacity(disk.nodes.len());
        for (number, node) in disk.nodes.iter().enumerate() {
            let mut bytes = node.durable.clone();
            for &block in &node.dirty {
                let torn = tear && disk.last_block == Some((number, block));
                let arrived = random.below(2) == 0;
                let (from, to) = (block * BLOCK, (block + 1) * BLOCK);
                if !torn && !arrived {
                    continue;
                }
                if bytes.len() < to {
                    bytes.resize(to.min(node.cached.len()).max(bytes.len()), 0);
                }
                let to = to.min(bytes.len()).min(node.cached.len());
                let (Some(target), Some(new)) =
                    (bytes.get_mut(from..to), node.cached.get(from..to))
                else {
                    continue;
                };
                if torn {
                    for (sector, (target, new)) in
                        target.chunks_mut(512).zip(new.chunks(512)).enumerate()
                    {
                        match random.below(3) {
                            0 => target.copy_from_slice(new),
                            1 => target.fill(0xA5 ^ u8::try_from(sector).unwrap_or(0)),
                            _ => {}
                        }
                    }
                } else {
                    target.copy_from_slice(new);
                }
            }
            nodes.push(Node { cached: bytes.clone(), durable: bytes, dirty: Vec::new() });
        }
        let disk = Disk { nodes, durable_names: names.clone(), names, ..Disk::default() };
        Self { disk: Arc::new(Mutex::new(disk)) }
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &Change) {
    match change {
        Change::Put(name, node) => {
            names.insert(name.clone(), *node);
        }
        Change::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
        Change::Remove(name) => {
            names.remove(name);
        }
    }
}

/// Sebastiano Vigna's splitmix64: enough to choose blocks, and the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }
}

impl Disk {
    fn power_is_off() -> io::Error {
        io::Error::other("the power is off")
    }

    /// Counts a changing operation. `Ok(true)` when the power goes off in the middle of it.
    fn begin(&mut self, op: Op) -> io::Result<bool> {
        if self.off {
            return Err(Self::power_is_off());
        }
        let index = self.counters.operations;
        self.counters.operations += 1;
        if self.cut_at.is_some_and(|cut| index >= cut) {
            self.off = true;
            return Ok(true);
        }
        match self.due(op, index) {
            Some(fault) => Err(self.refuse(op, fault)),
            None => Ok(false),
        }
    }

    /// Counts an operation that only looks.
    fn look(&mut self) -> io::Result<()> {
        if self.off {
            return Err(Self::power_is_off());
        }
        let index = self.counters.reads;
        self.counters.reads += 1;
        match self.due(Op::Read, index) {
            Some(fault) => Err(self.refuse(Op::Read, fault)),
            None => Ok(()),
        }
    }

    fn due(&mut self, op: Op, index: u64) -> Option<Fault> {
        let window = if op == Op::Read { &self.reads_fail } else { &self.changes_fail };
        if let Some(window) = window.as_ref().filter(|window| window.during.contains(&index)) {
            return Some(window.fault);
        }
        let due = |(at, _, times): &&mut (Op, Fault, u32)| *at == op && *times > 0;
        let (_, fault, times) = self.faults.iter_mut().find(due)?;
        *times -= 1;
        Some(*fault)
    }

    fn refuse(&mut self, op: Op, fault: Fault) -> io::Error {
        if let Some(refused) = self.counters.refused.get_mut(op.index()) {
            *refused += 1;
        }
        self.last_fault = Some(fault);
        fault.error()
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|node| self.nodes.get(*node))
            .map(|node| node.cached.len() as u64)
            .sum()
    }

    fn node(&mut self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Names are changed at once for this process; whether that lasts is settled later.
    fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }
}

impl Storage for SimStorage {
    fn place(&self) -> String {
        "simulated disk".to_owned()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.look()?;
        Ok(disk.names.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StoredFile>> {
        let mut disk = self.disk();
        let cut = disk.begin(Op::Create)?;
        if disk.capacity.is_some_and(|capacity| disk.used() + bytes > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let size = usize::try_from(bytes).map_err(io::Error::other)?;
        // A size that a journalling file system logged together with the name.
        let node = Node { cached: vec![0; size], durable: vec![0; size], dirty: Vec::new() };
        disk.nodes.push(node);
        let number = disk.nodes.len() - 1;
        disk.change(Change::Put(name.to_owned(), number));
        disk.counters.created += 1;
        if cut {
            return Err(Disk::power_is_off());
        }
        Ok(Arc::new(SimFile { disk: Arc::clone(&self.disk), node: number }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        let mut disk = self.disk();
        if disk.off {
            return Err(Disk::power_is_off());
        }
        let node = disk.node(name)?;
        Ok(Arc::new(SimFile { disk: Arc::clone(&self.disk), node }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let cut = disk.begin(Op::Rename)?;
        disk.node(from)?;
        disk.change(Change::Rename(from.to_owned(), to.to_owned()));
        if cut { Err(Disk::power_is_off()) } else { Ok(()) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let cut = disk.begin(Op::Remove)?;
        disk.node(name)?;
        disk.change(Change::Remove(name.to_owned()));
        if cut { Err(Disk::power_is_off()) } else { Ok(()) }
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.begin(Op::SyncDir)? {
            return Err(Disk::power_is_off());
        }
        disk.counters.dir_syncs += 1;
        disk.durable_names = disk.names.clone();
        disk.changes.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let disk = self.disk();
        Ok(disk.capacity.map_or(1 << 40, |capacity| capacity.saturating_sub(disk.used())))
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut disk = self.disk();
        if disk.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        disk.locked = true;
        Ok(Box::new(Guard { disk: Arc::clone(&self.disk) }))
    }
}

struct Guard {
    disk: Arc<Mutex<Disk>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner).locked = false;
    }
}

struct SimFile {
    disk: Arc<Mutex<Disk>>,
    node: usize,
}

impl SimFile {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoredFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk().nodes.get(self.node).map_or(0, |node| node.cached.len() as u64))
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk();
        disk.look()?;
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = disk.nodes.get(self.node).map_or(&[][..], |node| &node.cached);
        let bytes = bytes.get(from..).unwrap_or(&[]);
        let got = bytes.len().min(into.len());
        into[..got].copy_from_slice(&bytes[..got]);
        Ok(got)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk();
        let mut failure = None;
        let cut = match disk.begin(Op::Write) {
            Ok(cut) => cut,
            Err(error) if matches!(disk.last_fault, Some(Fault::Full | Fault::Short)) => {
                failure = Some(error);
                false
            }
            Err(error) => return Err(error),
        };
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        // It stops somewhere in the middle.
        let bytes = if failure.is_some() { &bytes[..bytes.len().min(BLOCK)] } else { bytes };
        let number = self.node;
        let Some(node) = disk.nodes.get_mut(number) else { return Ok(()) };
        let to = from + bytes.len();
        if node.cached.len() < to {
            node.cached.resize(to, 0);
        }
        node.cached[from..to].copy_from_slice(bytes);
        for block in from / BLOCK..to.div_ceil(BLOCK) {
            if !node.dirty.contains(&block) {
                node.dirty.push(block);
            }
        }
        disk.last_block = Some((number, to.saturating_sub(1) / BLOCK));
        disk.counters.written += bytes.len() as u64;
        match failure {
            Some(error) => Err(error),
            None if cut => Err(Disk::power_is_off()),
            None => Ok(()),
        }
    }

    fn settle(&self) -> io::Result<()> {
        let synced = self.sync_data();
        if let Some(node) = self.disk().nodes.get_mut(self.node)
            && node.dirty.is_empty()
        {
            node.cached = node.durable.clone();
        }
        synced
    }

    fn sync_data(&self) -> io::Result<()> {
        let interruption = self.disk().during_sync.clone();
        if let Some(what) = interruption {
            what();
        }
        let mut disk = self.disk();
        match disk.begin(Op::Sync) {
            Ok(false) => {
                disk.counters.syncs += 1;
                if let Some(node) = disk.nodes.get_mut(self.node) {
                    node.reach_the_medium(|_| true);
                }
                Ok(())
            }
            Ok(true) => Err(Disk::power_is_off()),
            Err(error) => {
                // The kernel drops the dirty marks: a later sync would report success.
                let parity = usize::from(disk.counters.operations % 2 == 1);
                if let Some(node) = disk.nodes.get_mut(self.node) {
                    node.reach_the_medium(|block| block % 2 == parity);
                }
                Err(error)
            }
        }
    }
}
