//! The positive control of the power cut: a file that grows and is never synced.

use std::fs::File;
use std::io::{BufReader, Read as _, Write as _};
use std::path::Path;

use crate::Store;

pub(crate) struct Unsynced {
    file: File,
    from: BufReader<File>,
}

impl Unsynced {
    pub(crate) fn open(place: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(place)?;
        let path = place.join("records");
        let file = File::options().create(true).append(true).open(&path)?;
        Ok(Self { file, from: BufReader::new(File::open(&path)?) })
    }
}

impl Store for Unsynced {
    fn append(&mut self, record: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(&u32::try_from(record.len())?.to_le_bytes())?;
        self.file.write_all(record)?;
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn read(&mut self, visit: &mut dyn FnMut(&[u8])) -> anyhow::Result<bool> {
        let mut length = [0; 4];
        if self.from.read_exact(&mut length).is_err() {
            return Ok(false);
        }
        let mut record = vec![0; usize::try_from(u32::from_le_bytes(length))?.min(1 << 20)];
        if self.from.read_exact(&mut record).is_err() {
            return Ok(false);
        }
        visit(&record);
        Ok(true)
    }

    fn delivered(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}
