//! A journal in a real directory, and the record as a reader who trusts nothing sees it.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use serde_json::Value as Json;
use tidegate_journal::{
    ClockState, Codec, DirStorage, Draft, Epoch, EpochReason, Journal, Kind, LossRecord,
    MIN_SEGMENT_BYTES, Read, Settings, Stamp, Unsequenced, frame,
};
use tidegate_query::sidecar::Progress;
use tidegate_query::{
    Archive, Bounds, Catalogs, History, PartialCause, Refusal, Row, Summary, Watch,
};
use tidegate_record::catalog::{self, Definition};
use tidegate_record::samples::{self, Packer};
use tidegate_record::{Catalog, CatalogPart};
use tidegate_translator::{Sample, TagId, TagPath, ValueKind};

pub const SECOND: i64 = 1_000_000_000;
/// 2026-09-21T14:13:20Z.
pub const START: i64 = 1_790_000_000 * SECOND;
/// Tags of every journal here; each device has two of them.
pub const TAGS: u32 = 6;

pub fn path(tag: u32) -> String {
    format!("P/Line{}/d{}/t{tag}", tag % 2, tag / 2)
}

pub fn device(tag: u32) -> String {
    format!("d{}", tag / 2)
}

pub fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    for tag in 0..TAGS {
        catalog
            .define(Definition {
                path: TagPath::new(path(tag)).unwrap(),
                kind: ValueKind::F64,
                unit: tag.is_multiple_of(2).then(|| "bar".into()),
                device: device(tag).as_str().into(),
                address: "a".into(),
                source: "s".into(),
            })
            .unwrap();
    }
    catalog
}

/// The number of one of the tags.
pub fn id(catalog: &Catalog, tag: u32) -> TagId {
    catalog.id_of(&TagPath::new(path(tag)).unwrap()).unwrap()
}

struct Fixed(Arc<Catalog>);

impl Catalogs for Fixed {
    fn current(&self) -> Arc<Catalog> {
        Arc::clone(&self.0)
    }
}

/// Someone who waits until a number of looks at the clock.
pub struct Patience {
    pub now: AtomicI64,
    pub looks: AtomicU64,
    pub cause: PartialCause,
}

impl Patience {
    pub fn endless(now: i64) -> Self {
        Self::of(now, u64::MAX)
    }

    pub fn of(now: i64, looks: u64) -> Self {
        Self { now: now.into(), looks: looks.into(), cause: PartialCause::Deadline }
    }
}

impl Watch for Patience {
    fn now(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }

    fn ended(&self) -> Option<PartialCause> {
        let left = self.looks.load(Ordering::Relaxed);
        self.looks.store(left.saturating_sub(1), Ordering::Relaxed);
        (left == 0).then_some(self.cause)
    }
}

pub struct Rig {
    pub journal: Journal,
    pub catalog: Arc<Catalog>,
    pub archive: Archive,
    pub now: i64,
    packer: Packer,
    dir: tempfile::TempDir,
}

pub fn stamp(wall: (i64, i64)) -> Stamp {
    Stamp { wall, mono: (1, 1), boot: [7; 16], clock: ClockState::Synchronised }
}

impl Rig {
    pub fn new(segments: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage = Arc::new(DirStorage::new(dir.path()).unwrap());
        let settings = Settings {
            segment_bytes: MIN_SEGMENT_BYTES,
            headroom: 0,
            sidecar_bytes: MIN_SEGMENT_BYTES,
            ..Settings::new("PlantA", "gw-1", segments * MIN_SEGMENT_BYTES)
        };
        let (journal, _) = Journal::open(storage, settings, stamp((START, START))).unwrap();
        let catalog = Arc::new(catalog());
        let catalogs = Arc::new(Fixed(Arc::clone(&catalog)));
        let archive = Archive::new("PlantA/gw-1".into(), journal.reader(), catalogs);
        let mut rig = Self { journal, catalog, archive, now: START, packer: Packer::new(), dir };
        rig.record_catalog();
        rig
    }

    fn catalog_bodies(&self) -> Vec<Vec<u8>> {
        let all = self.catalog.entries();
        catalog::bodies(self.catalog.version(), all, true).unwrap().map(Result::unwrap).collect()
    }

    pub fn record_catalog(&mut self) {
        for body in self.catalog_bodies() {
            self.append(Kind::Catalog, &body);
        }
    }

    fn append(&mut self, kind: Kind, body: &[u8]) {
        let stamp = stamp((self.now, self.now));
        self.journal.append(&Draft { kind, codec: Codec::Plain, body, count: 0, stamp }).unwrap();
    }

    pub fn record(&mut self, samples: &[Sample]) {
        for body in self.packer.pack(samples).bodies {
            self.journal
                .append(&Draft {
                    kind: Kind::Samples,
                    codec: body.codec,
                    body: &body.bytes,
                    count: body.count,
                    stamp: stamp(body.wall),
                })
                .unwrap();
        }
    }

    pub fn lose(&mut self, loss: Unsequenced) {
        let body = postcard::to_stdvec(&LossRecord::Unsequenced(loss)).unwrap();
        self.append(Kind::Loss, &body);
    }

    pub fn commit(&mut self) {
        self.journal.commit().unwrap();
    }

    /// Writes the sidecars that are missing.
    pub fn advance(&self) {
        while self.archive.sidecars().advance(&mut || true).unwrap() == Progress::More {}
    }

    /// Spoils some bytes in the middle of the oldest segment.
    pub fn damage_the_first_segment(&self) {
        let mut files: Vec<_> =
            std::fs::read_dir(self.dir.path()).unwrap().map(|it| it.unwrap().path()).collect();
        files.retain(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("seg-") && name.ends_with(".tgj")
        });
        files.sort();
        let file = std::fs::File::options().write(true).open(&files[0]).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0x55; 64], 40_000).unwrap();
    }

    /// Begins an epoch; the last `carried` frames are written again in it.
    pub fn begin_epoch(&mut self, carried: Option<u64>) {
        self.commit();
        let bodies = self.catalog_bodies();
        let opening: Vec<_> = bodies
            .iter()
            .map(|body| Draft {
                kind: Kind::Catalog,
                codec: Codec::Plain,
                body,
                count: 0,
                stamp: stamp((self.now, self.now)),
            })
            .collect();
        let from = carried.map(|n| self.journal.upcoming().number.saturating_sub(n).max(1));
        self.journal.start_epoch(EpochReason::Fork, from, &opening).unwrap();
    }

    pub fn ask(&self, question: &History, watch: &dyn Watch) -> Result<Answered, Refusal> {
        self.ask_within(question, &Bounds::default(), watch)
    }

    pub fn ask_within(
        &self,
        question: &History,
        bounds: &Bounds,
        watch: &dyn Watch,
    ) -> Result<Answered, Refusal> {
        let mut rows = Vec::new();
        let summary = self.archive.history(question, bounds, watch, &mut |row: Row| {
            rows.push(serde_json::from_str(row.0.get()).unwrap());
            ControlFlow::Continue(())
        })?;
        assert_eq!(summary.rows, rows.len() as u64);
        Ok(Answered { rows, summary })
    }

    /// Asks on until nothing more comes.
    pub fn ask_to_the_end(&self, question: &History, watch: &dyn Watch) -> Answered {
        let mut question = question.clone();
        let mut all = self.ask(&question, watch).unwrap();
        let mut pages = 0;
        while let Some(next) = all.summary.next.take() {
            question.after = Some(next);
            let more = self.ask(&question, watch).unwrap();
            all.rows.extend(more.rows);
            all.summary = more.summary;
            pages += 1;
            assert!(pages < 100_000, "an answer does not end");
        }
        all
    }

    /// Everything that is kept and counts, one sample after the other.
    pub fn naive(&self) -> Vec<Known> {
        let reader = self.journal.reader();
        let mut all: Vec<Known> = Vec::new();
        let mut catalogs: HashMap<Epoch, Catalog> = HashMap::new();
        for span in reader.epochs() {
            let mut at = span.first_frame;
            loop {
                let batch = match reader.read_from(span.epoch, at, 1 << 20).unwrap() {
                    Read::Frames(batch) => batch,
                    Read::Gap { next } => {
                        at = next;
                        continue;
                    }
                    _ => break,
                };
                at = batch.next().unwrap();
                let mut rest = batch.bytes.as_slice();
                while !rest.is_empty() {
                    let found = frame::decode(rest).unwrap();
                    rest = &rest[found.bytes.len()..];
                    match found.kind {
                        Kind::Catalog => {
                            let part = CatalogPart::decode(found.body).unwrap();
                            catalogs.entry(span.epoch).or_default().apply(&part).unwrap();
                        }
                        Kind::Loss => {
                            if let Ok(LossRecord::Predecessor(it)) =
                                postcard::from_bytes(found.body)
                                && it.carried_frames > 0
                            {
                                let end = it.last.map_or(0, |last| last.next_seq);
                                all.retain(|k| Some(k.epoch) != it.epoch || k.seq < end);
                            }
                        }
                        Kind::Samples => {
                            let known = samples::decode_frame(&found).unwrap();
                            all.extend(known.into_iter().map(|(seq, sample)| Known {
                                epoch: span.epoch,
                                seq,
                                path: String::new(),
                                sample,
                            }));
                        }
                        _ => {}
                    }
                }
            }
        }
        let current = reader.epochs().last().unwrap().epoch;
        all.retain_mut(|known| {
            let catalog = match catalogs.get(&known.epoch) {
                Some(catalog) => catalog,
                None if known.epoch == current => &self.catalog,
                None => return false,
            };
            let catalog = if known.epoch == current { &*self.catalog } else { catalog };
            let Some(entry) = catalog.resolve(known.sample.tag) else { return false };
            known.path = entry.path.as_str().to_owned();
            true
        });
        all
    }
}

#[derive(Debug)]
pub struct Answered {
    pub rows: Vec<Json>,
    pub summary: Summary,
}

#[derive(Debug, Clone)]
pub struct Known {
    pub epoch: Epoch,
    pub seq: u64,
    pub path: String,
    pub sample: Sample,
}
