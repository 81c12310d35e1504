//! sled 0.34, whose `flush` does not reach the device by itself: with an `fdatasync` of ours, or
//! as it comes.

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;

use crate::{CACHE_BYTES, MESSAGE_BYTES, Store};

pub(crate) struct Sled {
    store: sled::Db,
    /// Its file, to be synced after each flush.
    file: Option<File>,
    next: u64,
    unread: u64,
    dropped: u64,
}

fn number(key: &[u8]) -> anyhow::Result<u64> {
    Ok(u64::from_be_bytes(key.try_into().context("a key of another length")?))
}

impl Sled {
    pub(crate) fn open(place: &Path, synced: bool) -> anyhow::Result<Self> {
        let config = sled::Config::new().path(place).cache_capacity(CACHE_BYTES);
        let store = config.flush_every_ms(None).open()?;
        let file = synced.then(|| File::open(place.join("db"))).transpose()?;
        let unread = store.first()?.map_or(Ok(0), |(key, _)| number(&key))?;
        let next = store.last()?.map_or(Ok(0), |(key, _)| number(&key).map(|last| last + 1))?;
        Ok(Self { store, file, next, unread, dropped: unread })
    }
}

impl Store for Sled {
    fn append(&mut self, record: &[u8]) -> anyhow::Result<()> {
        self.store.insert(self.next.to_be_bytes(), record)?;
        self.next += 1;
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        self.store.flush()?;
        if let Some(file) = &self.file {
            file.sync_data()?;
        }
        Ok(())
    }

    fn read(&mut self, visit: &mut dyn FnMut(&[u8])) -> anyhow::Result<bool> {
        let mut bytes = 0;
        for entry in self.store.range(self.unread.to_be_bytes()..) {
            let (key, record) = entry?;
            visit(&record);
            self.unread = number(&key)? + 1;
            bytes += record.len();
            if bytes >= MESSAGE_BYTES {
                break;
            }
        }
        Ok(bytes > 0)
    }

    fn delivered(&mut self) -> anyhow::Result<()> {
        for number in self.dropped..self.unread {
            self.store.remove(number.to_be_bytes())?;
        }
        self.dropped = self.unread;
        Ok(())
    }
}
