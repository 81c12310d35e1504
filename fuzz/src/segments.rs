//! Recovery of a journal's directory, whatever happened to its files.
//!
//! The input is what happens to them: bytes written at random, blocks copied, files cut, replaced
//! and removed, and, worse than any accident, fields changed under a checksum that fits.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use tidegate_journal::storage::sim::SimStorage;
use tidegate_journal::{Codec, Draft, FrameHash, Journal, Kind, Storage as _, WriteError};

use crate::chain::{Base, Stored, base, checksum, frames_of, put_right, settings, stamp};
use crate::recipe::Recipe;
use crate::{MIB, Target, at_most, seed};

pub(crate) const TARGET: Target = Target {
    name: "segments",
    run,
    seeds,
    words: &[b"TGFR", b"TGSG", b"TGCM", b"TGCU", b"\x07\xff", b"\x03"],
    memory: |_| at_most(8 * MIB),
    mutations: 400,
};

const BLOCK: usize = 4096;
/// The length of a commit's mark.
const MARK: usize = 104;
/// More things than this do not happen at once.
const MOST_HARMS: usize = 12;

fn run(bytes: &[u8]) {
    let harmed = Harmed::new(base(), &mut Recipe(bytes));
    let storage = harmed.storage();
    let opened = Journal::open(Arc::new(storage.clone()), settings(), stamp(900));
    let (mut journal, _) = match opened {
        Ok(opened) => opened,
        // Only a checksum that fits can speak of a later version or another gateway.
        Err(error) => {
            assert!(harmed.forged, "{error:?}");
            return;
        }
    };
    let Some(found) = frames_of(&journal.reader(), harmed.forged) else {
        assert!(harmed.forged, "a frame of another version appeared by chance");
        return;
    };
    harmed.judge(&found);
    // What the reading found is named now, and recording goes on.
    if let Err(error) = record(&mut journal) {
        assert!(harmed.forged, "{error:?}");
        // A forged end may leave no place to write at; asking again must not panic either.
        let _ = journal.reopen();
        return;
    }
    let Some(before) = frames_of(&journal.reader(), harmed.forged) else { return };
    let fresh = before.iter().filter(|it| it.bytes.ends_with(&BODY)).count();
    assert!(harmed.forged || fresh == 3, "{fresh} of three frames are there");
    journal.close().expect("closing");
    let opened = Journal::open(Arc::new(storage), settings(), stamp(902));
    if harmed.forged {
        // A link that was forged contradicts its neighbours: which of them counts may change with
        // what is read first. It must not panic, and it did not.
        return;
    }
    let (mut journal, again) = opened.expect("what recovery left behind opens");
    assert_eq!((again.cut_frames, again.began), (0, None), "{again:?}");
    journal.commit().expect("a commit of nothing");
    same(&before, &frames_of(&journal.reader(), false).expect("what could be read before"));
}

/// A body that no frame of the base has.
const BODY: [u8; 600] = [7; 600];

fn record(journal: &mut Journal) -> Result<(), WriteError> {
    journal.commit()?;
    let (kind, codec, stamp) = (Kind::Samples, Codec::Plain, stamp(901));
    for _ in 0..3 {
        journal.append(&Draft { kind, codec, body: &BODY, count: 2, stamp })?;
        journal.commit()?;
    }
    Ok(())
}

fn same(before: &[Stored], after: &[Stored]) {
    let place = |it: &Stored| (it.epoch, it.number, it.hash);
    let differs = before.iter().map(place).zip(after.iter().map(place)).find(|(a, b)| a != b);
    assert_eq!(differs, None, "a second recovery changed a frame");
    let (fewer, more) = (before.len().min(after.len()), before.len().max(after.len()));
    let longer = if before.len() < after.len() { after } else { before };
    let odd: Vec<_> = longer[fewer..].iter().map(|it| (it.number, it.kind, &it.bytes)).collect();
    assert_eq!(fewer, more, "a second recovery changed the end: {odd:?}");
}

/// Something with a checksum.
#[derive(Debug, Clone)]
struct Sealed {
    file: usize,
    range: Range<usize>,
    sort: Sort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Block,
    Mark,
    Frame,
}

/// Where a frame of the base stands: its file and its commit, mark and padding included.
#[derive(Debug)]
struct Place {
    file: usize,
    commit: Range<usize>,
}

#[derive(Debug)]
struct Map {
    sealed: Vec<Sealed>,
    places: HashMap<FrameHash, Place>,
}

/// The map of the base's files, read with nothing but the description of the format.
fn map() -> &'static Map {
    static MAP: OnceLock<Map> = OnceLock::new();
    MAP.get_or_init(|| {
        let base = base();
        let mut map = Map { sealed: Vec::new(), places: HashMap::new() };
        for (file, (name, bytes)) in base.files.iter().enumerate() {
            let is_segment = bytes.starts_with(b"TGSG");
            let mut at = 0;
            while let Some(block) = bytes.get(at..at + BLOCK) {
                let end = match &block[..4] {
                    b"TGSG" | b"TGCU" => {
                        map.sealed.push(Sealed { file, range: at..at + BLOCK, sort: Sort::Block });
                        at + BLOCK
                    }
                    b"TGCM" if is_segment => map.commit(base, file, at),
                    _ => at + BLOCK,
                };
                at = end.next_multiple_of(BLOCK);
            }
            assert!(!name.is_empty());
        }
        assert_eq!(map.places.len(), base.frames.len(), "every frame has its place");
        map
    })
}

impl Map {
    fn commit(&mut self, base: &Base, file: usize, at: usize) -> usize {
        let bytes = &base.files[file].1;
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        self.sealed.push(Sealed { file, range: at..at + MARK, sort: Sort::Mark });
        let end = at + MARK + usize::try_from(word(at + 80)).unwrap();
        let commit = at..end.next_multiple_of(BLOCK);
        let mut next = at + MARK;
        while next < end {
            let length = usize::try_from(word(next + 4)).unwrap();
            let range = next..next + length;
            let hash = FrameHash::of(&bytes[range.clone()]);
            self.sealed.push(Sealed { file, range, sort: Sort::Frame });
            // Only what is live: a file that was something else before still holds that.
            if base.frames.iter().any(|it| it.hash == hash) {
                self.places.insert(hash, Place { file, commit: commit.clone() });
            }
            next += length;
        }
        end
    }
}

struct Harmed<'b> {
    base: &'b Base,
    files: Vec<(String, Vec<u8>)>,
    touched: Vec<(usize, Range<usize>)>,
    /// Files were moved, cut or removed.
    moved: bool,
    /// A checksum fits that a writer did not make.
    forged: bool,
}

impl<'b> Harmed<'b> {
    fn new(base: &'b Base, recipe: &mut Recipe<'_>) -> Self {
        let (touched, files) = (Vec::new(), base.files.clone());
        let mut harmed = Self { base, files, touched, moved: false, forged: false };
        for _ in 0..MOST_HARMS {
            if recipe.is_empty() {
                break;
            }
            harmed.one(recipe);
        }
        harmed
    }

    fn one(&mut self, recipe: &mut Recipe<'_>) {
        let what = recipe.byte() % 8;
        let file = recipe.choice(self.files.len());
        match what {
            0 | 1 => {
                let at = usize::try_from(recipe.u32()).unwrap() % self.files[file].1.len().max(1);
                let bytes = recipe.bytes(255);
                self.write(file, at, bytes);
            }
            2 => {
                let at = usize::try_from(recipe.u32()).unwrap() % self.files[file].1.len().max(1);
                let mask = 1 << (recipe.byte() % 8);
                if let Some(byte) = self.files[file].1.get(at).map(|byte| byte ^ mask) {
                    self.write(file, at, &[byte]);
                }
            }
            3 => {
                let other = recipe.choice(self.files.len());
                let (from, to) = (recipe.choice(24) * BLOCK, recipe.choice(24) * BLOCK);
                let length = recipe.choice(3 * BLOCK);
                let source = &self.files[other].1;
                let from = from.min(source.len())..(from + length).min(source.len());
                let bytes = source[from].to_vec();
                self.write(file, to, &bytes);
            }
            4 => {
                let size = usize::try_from(recipe.u32() % 130_000).unwrap();
                let keep = recipe.byte().is_multiple_of(2);
                let bytes = &mut self.files[file].1;
                if !keep {
                    bytes.clear();
                }
                bytes.resize(size, 0);
                self.moved = true;
            }
            5 => {
                let with = recipe.choice(self.files.len());
                self.files[file].1 = self.files[with].1.clone();
                self.moved = true;
            }
            6 => {
                // An empty name stands for no file, so that the numbers of the others stay.
                self.files[file].0.clear();
                self.moved = true;
            }
            _ => self.forge(recipe),
        }
    }

    fn write(&mut self, file: usize, at: usize, bytes: &[u8]) {
        let target = &mut self.files[file].1;
        let end = (at + bytes.len()).min(target.len());
        if at >= end {
            return;
        }
        target[at..end].copy_from_slice(&bytes[..end - at]);
        self.touched.push((file, at..end));
    }

    /// Changes some field and puts the checksum over it right.
    fn forge(&mut self, recipe: &mut Recipe<'_>) {
        let sealed = &map().sealed;
        let chosen = sealed[recipe.choice(sealed.len())].clone();
        let offset = usize::from(recipe.byte()) % chosen.range.len();
        let bytes = recipe.bytes(40);
        let Some(whole) = self.files[chosen.file].1.get_mut(chosen.range.clone()) else { return };
        for (to, from) in whole[offset..].iter_mut().zip(bytes) {
            *to = *from;
        }
        match chosen.sort {
            Sort::Frame => put_right(whole),
            Sort::Mark | Sort::Block => {
                let sum = checksum(whole, 4);
                whole[4..8].copy_from_slice(&sum.to_le_bytes());
            }
        }
        self.touched.push((chosen.file, chosen.range));
        self.forged = true;
    }

    fn storage(&self) -> SimStorage {
        let storage = SimStorage::new();
        for (name, bytes) in self.files.iter().filter(|(name, _)| !name.is_empty()) {
            let size = u64::try_from(bytes.len()).unwrap();
            let file = storage.create(name, size).unwrap();
            file.write_at(bytes, 0).unwrap();
            file.sync_data().unwrap();
        }
        storage.sync_dir().unwrap();
        storage
    }

    /// Nothing is invented, and what was not touched is there.
    fn judge(&self, found: &[Stored]) {
        if self.forged {
            return;
        }
        let known: BTreeMap<u64, FrameHash> =
            self.base.frames.iter().map(|it| (it.number, it.hash)).collect();
        for stored in found.iter().filter(|it| it.epoch == self.base.epoch) {
            let own = stored.kind == Kind::Loss && !known.contains_key(&stored.number);
            let true_one = known.get(&stored.number) == Some(&stored.hash);
            assert!(own || true_one || stored.kind == Kind::Loss, "{} is invented", stored.number);
        }
        if self.moved {
            return;
        }
        for frame in &self.base.frames {
            let place = &map().places[&frame.hash];
            let spoilt = self.touched.iter().any(|(file, range)| {
                let over =
                    |other: &Range<usize>| range.start < other.end && other.start < range.end;
                *file == place.file && (over(&place.commit) || over(&(0..BLOCK)))
            });
            let there = found.iter().any(|it| it.hash == frame.hash);
            assert!(
                spoilt || there,
                "frame {} at {place:?} was not touched and is gone; touched: {:?}; {} found",
                frame.number,
                self.touched,
                found.len()
            );
        }
    }
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let sealed = &map().sealed;
    let mut seeds = vec![
        seed("nothing", []),
        seed("garbage", [0, 1, 0, 0, 32, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        seed("bit", [2, 1, 0, 0x10, 0x20, 0, 0, 3]),
        seed("copy", [3, 1, 0, 2, 0, 3, 0, 5, 0, 0, 32]),
        seed("cut", [4, 2, 0, 0, 0x80, 0, 0, 0]),
        seed("replace", [5, 1, 0, 2, 0]),
        seed("remove", [6, 1, 0]),
    ];
    // A number that does not go on, a count beyond everything, and a later version, in each sort.
    for sort in [Sort::Block, Sort::Mark, Sort::Frame] {
        let at = sealed.iter().rposition(|it| it.sort == sort).unwrap();
        let [low, high] = u16::try_from(at).unwrap().to_le_bytes();
        for offset in [8, 9, 12, 24, 32, 48, 80, 84] {
            let name = format!("forged-{sort:?}-{offset}").to_lowercase();
            let recipe = [7, 0, 0, low, high, offset, 8, 255, 255, 255, 255, 255, 255, 255, 127];
            seeds.push(seed(&name, recipe));
        }
    }
    seeds
}
