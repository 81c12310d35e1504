//! The journal.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tidegate_journal::{
    ClockState, Codec, DirStorage, Draft, Epoch, FrameHash, Header, Journal, Kind, Position, Read,
    Reader, Settings, Stamp, frame,
};

use crate::{MESSAGE_BYTES, Store};

const STAMP: Stamp = Stamp {
    wall: (1_790_000_000_000_000_000, 1_790_000_001_000_000_000),
    mono: (1_000_000_000_000, 1_001_000_000_000),
    boot: [7; 16],
    clock: ClockState::Synchronised,
};

pub(crate) struct Ours {
    journal: Journal,
    reader: Reader,
    epoch: Epoch,
    next: u64,
    last: Option<Position>,
}

impl Ours {
    pub(crate) fn open(place: &Path, max_bytes: u64) -> anyhow::Result<Self> {
        let settings = Settings::new("PlantA", "gw-line3", max_bytes);
        let storage = Arc::new(DirStorage::new(place)?);
        let (journal, _) = Journal::open(storage, settings, STAMP)?;
        let delivered = journal.delivered();
        let spans = journal.reader().epochs();
        let span = spans.last().context("a journal without an epoch")?;
        let next = delivered.position.map_or(span.first_frame, |position| position.frame + 1);
        let (reader, epoch) = (journal.reader(), journal.epoch());
        Ok(Self { journal, reader, epoch, next, last: None })
    }
}

impl Store for Ours {
    fn append(&mut self, record: &[u8]) -> anyhow::Result<()> {
        let kind = Kind::Samples;
        let draft = Draft { kind, codec: Codec::Plain, body: record, count: 1, stamp: STAMP };
        self.journal.append(&draft)?;
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        self.journal.commit()?;
        Ok(())
    }

    fn read(&mut self, visit: &mut dyn FnMut(&[u8])) -> anyhow::Result<bool> {
        let batch = match self.reader.read_from(self.epoch, self.next, MESSAGE_BYTES)? {
            Read::Frames(batch) => batch,
            Read::AtTail => return Ok(false),
            other => bail!("a whole journal has no {other:?}"),
        };
        let mut rest = batch.bytes.as_slice();
        while !rest.is_empty() {
            let found = frame::decode(rest)?;
            // The journal itself writes one frame: that the epoch begins.
            if found.kind == Kind::Samples {
                visit(found.body);
            }
            rest = &rest[found.bytes.len()..];
        }
        self.next = batch.next().context("an empty batch")?;
        self.last = batch.last();
        Ok(true)
    }

    fn delivered(&mut self) -> anyhow::Result<()> {
        if let Some(last) = self.last {
            self.journal.acknowledge(self.epoch, last, b"hub")?;
        }
        Ok(())
    }
}

/// In the middle of a long life: numbers of the usual length.
pub(crate) fn overhead() -> anyhow::Result<usize> {
    let header = Header {
        plant: "PlantA".to_owned(),
        gateway: "gw-line3".to_owned(),
        epoch: Epoch([7; 16]),
        number: 10_000,
        first_seq: 10_000,
        count: 1,
        wall: STAMP.wall,
        mono: STAMP.mono,
        boot: STAMP.boot,
        clock: STAMP.clock,
        previous: FrameHash::ZERO,
        codec: Codec::Plain,
    };
    Ok(frame::encode(Kind::Samples, &header, &[])?.len())
}
