//! redb with quick repair, without which it reads everything after a kill.

use std::path::Path;

use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::{CACHE_BYTES, MESSAGE_BYTES, Store};

const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

pub(crate) struct Redb {
    store: Database,
    waiting: Vec<Vec<u8>>,
    next: u64,
    unread: u64,
    dropped: u64,
    drop_to: u64,
}

impl Redb {
    pub(crate) fn open(place: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(place)?;
        let cache = usize::try_from(CACHE_BYTES)?;
        let store = Builder::new().set_cache_size(cache).create(place.join("redb"))?;
        let write = store.begin_write()?;
        let table = write.open_table(RECORDS)?;
        let next = table.last()?.map_or(0, |(key, _)| key.value() + 1);
        let unread = table.first()?.map_or(next, |(key, _)| key.value());
        drop(table);
        write.commit()?;
        Ok(Self { store, waiting: Vec::new(), next, unread, dropped: unread, drop_to: unread })
    }
}

impl Store for Redb {
    fn append(&mut self, record: &[u8]) -> anyhow::Result<()> {
        self.waiting.push(record.to_vec());
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        let mut write = self.store.begin_write()?;
        write.set_quick_repair(true);
        let mut table = write.open_table(RECORDS)?;
        for record in self.waiting.drain(..) {
            table.insert(self.next, record.as_slice())?;
            self.next += 1;
        }
        for number in self.dropped..self.drop_to {
            table.remove(number)?;
        }
        self.dropped = self.drop_to;
        drop(table);
        write.commit()?;
        Ok(())
    }

    fn read(&mut self, visit: &mut dyn FnMut(&[u8])) -> anyhow::Result<bool> {
        let read = self.store.begin_read()?;
        let table = read.open_table(RECORDS)?;
        let mut bytes = 0;
        for entry in table.range(self.unread..)? {
            let (key, record) = entry?;
            visit(record.value());
            self.unread = key.value() + 1;
            bytes += record.value().len();
            if bytes >= MESSAGE_BYTES {
                break;
            }
        }
        Ok(bytes > 0)
    }

    fn delivered(&mut self) -> anyhow::Result<()> {
        self.drop_to = self.unread;
        Ok(())
    }
}
