//! A day of record, as a gateway with a thousand tags writes it.

use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};
use tidegate_journal::{
    ClockState, Codec, DirStorage, Draft, Journal, Kind, Reader, Settings, Stamp,
};
use tidegate_query::sidecar::{Progress, Sidecars};
use tidegate_record::catalog::{Catalog, Definition, bodies};
use tidegate_record::samples::{Body, Packer};
use tidegate_translator::{Sample, TagId, TagPath, Timestamp, Value, ValueKind};

use crate::signals::{mixed, noise};
use crate::{Failure, cpu, float};

pub(crate) const SECOND: i64 = 1_000_000_000;
/// What the recorder puts into one frame of a thousand tags: it commits at once when 16 KiB wait,
/// at 6 bytes a sample.
pub(crate) const SCANS_PER_FRAME: i64 = 3;
/// Frames between two commits; the recorder commits each, which would only take longer here.
const FRAMES_PER_COMMIT: u64 = 16;
const MAX_BYTES: u64 = 2 << 30;

/// What is made.
pub(crate) struct Day {
    pub(crate) tags: u32,
    pub(crate) seconds: i64,
    /// The time of its first scan.
    pub(crate) start: i64,
}

impl Day {
    /// One that ends now.
    pub(crate) fn ending_now(tags: &str, seconds: &str) -> Result<Self, Failure> {
        let (tags, seconds) = (tags.parse()?, seconds.parse()?);
        Ok(Self { tags, seconds, start: (now() / SECOND - seconds) * SECOND })
    }

    /// Appends one scan of all tags, whose numbers begin at 1: blocks of 50 registers are answered
    /// at once, up to 2 ms late.
    pub(crate) fn scan(&self, scan: i64, out: &mut Vec<Sample>) {
        out.extend((0..self.tags).map(|tag| {
            let late = (noise(tag / 50, scan + 7) % 2_000_000).cast_signed();
            let at = Timestamp(self.start + scan * SECOND + late);
            Sample::good(TagId(tag + 1), at, mixed(tag, scan))
        }));
    }

    pub(crate) fn catalog(&self) -> Result<Catalog, Failure> {
        let mut catalog = Catalog::new();
        for tag in 0..self.tags {
            let kind = mixed(tag, 0).kind();
            catalog.define(Definition {
                path: TagPath::new(format!("PlantA/Bench/D0/t{tag}"))?,
                kind,
                unit: (kind != ValueKind::Bool).then(|| "degC".into()),
                device: "d0".into(),
                address: format!("holding:{}", tag * 2).into(),
                source: "modbus".into(),
            })?;
        }
        Ok(catalog)
    }
}

struct Writer {
    journal: Journal,
    frames: u64,
    body_bytes: u64,
}

impl Writer {
    fn append(&mut self, kind: Kind, body: &Body) -> Result<(), Failure> {
        let (wall, mono) = (body.wall, (self.frames + 1, self.frames + 1));
        let stamp = Stamp { wall, mono, boot: [0; 16], clock: ClockState::Synchronised };
        let Body { codec, bytes, count, .. } = body;
        self.journal.append(&Draft { kind, codec: *codec, body: bytes, count: *count, stamp })?;
        self.body_bytes += bytes.len() as u64;
        self.frames += 1;
        if self.frames.is_multiple_of(FRAMES_PER_COMMIT) {
            self.journal.commit()?;
        }
        Ok(())
    }
}

/// The journal in this directory, which need not exist.
pub(crate) fn open(place: &Path, now: i64) -> Result<Journal, Failure> {
    let storage = Arc::new(DirStorage::new(place)?);
    let stamp =
        Stamp { wall: (now, now), mono: (1, 1), boot: [0; 16], clock: ClockState::Synchronised };
    let mut settings = Settings::new("PlantA", "gw-bench", MAX_BYTES);
    // As the daemon has it.
    settings.sidecar_bytes = settings.segment_bytes / 20;
    Ok(Journal::open(storage, settings, stamp)?.0)
}

/// Makes a day in an empty directory.
pub(crate) fn make(place: &Path, day: &Day) -> Result<Vec<Json>, Failure> {
    let mut writer = Writer { journal: open(place, day.start)?, frames: 0, body_bytes: 0 };
    let catalog = day.catalog()?;
    for bytes in bodies(catalog.len() as u64, catalog.entries(), true)? {
        let wall = (day.start, day.start);
        writer
            .append(Kind::Catalog, &Body { codec: Codec::Plain, bytes: bytes?, count: 0, wall })?;
    }
    let mut packer = Packer::new();
    let mut batch = Vec::new();
    let mut samples = 0;
    for scan in 0..day.seconds {
        day.scan(scan, &mut batch);
        if (scan + 1) % SCANS_PER_FRAME != 0 && scan + 1 != day.seconds {
            continue;
        }
        samples += batch.len() as u64;
        for body in packer.pack(&batch).bodies {
            writer.append(Kind::Samples, &body)?;
        }
        batch.clear();
    }
    writer.journal.commit()?;
    let from = cpu();
    let sidecars = Sidecars::new(writer.journal.reader());
    while sidecars.advance(&mut || true)? == Progress::More {}
    let sidecars = cpu().saturating_sub(from);
    writer.journal.close()?;
    Ok(vec![json!({
        "table": "day",
        "samples": samples,
        "frames": writer.frames,
        "bytes_per_sample": float(writer.body_bytes) / float(samples),
        "sidecars_cpu_s": sidecars.as_secs_f64(),
        "from": day.start,
        "to": day.start + day.seconds * SECOND,
    })])
}

/// The same samples as lines of numbers, for a peer: tag, sequence number, time, value.
pub(crate) fn print(day: &Day) -> Result<(), Failure> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut batch = Vec::new();
    let mut seq = 0_u64;
    for scan in 0..day.seconds {
        batch.clear();
        day.scan(scan, &mut batch);
        for Sample { tag, acquired, value, .. } in &batch {
            let (tag, acquired) = (tag.0, acquired.0);
            match value {
                Value::Bool(value) => {
                    writeln!(out, "{tag},{seq},{acquired},{}", u8::from(*value))?;
                }
                value => {
                    let value = value.as_f64().unwrap_or(0.0);
                    writeln!(out, "{tag},{seq},{acquired},{value}")?;
                }
            }
            seq += 1;
        }
    }
    out.flush()?;
    Ok(())
}

/// The files of a directory whose names end so, in bytes.
pub(crate) fn bytes_of(place: &Path, end: &str) -> Result<u64, Failure> {
    let mut sum = 0;
    for entry in std::fs::read_dir(place)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(end) {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}

/// A reader of what was made; the journal goes with it.
pub(crate) fn reader(place: &Path) -> Result<(Journal, Reader), Failure> {
    let journal = open(place, now())?;
    let reader = journal.reader();
    Ok((journal, reader))
}

/// The wall clock, nanoseconds since 1970 UTC.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
