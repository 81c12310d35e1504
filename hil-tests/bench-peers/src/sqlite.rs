//! SQLite: write-ahead log, `synchronous = FULL`.

use std::path::Path;

use rusqlite::{Connection, params};

use crate::{CACHE_BYTES, MESSAGE_BYTES, Store};

pub(crate) struct Sqlite {
    store: Connection,
    next: i64,
    unread: i64,
}

impl Sqlite {
    pub(crate) fn open(place: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(place)?;
        let store = Connection::open(place.join("sqlite"))?;
        let cache_kib = CACHE_BYTES / 1024;
        store.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -{cache_kib};
             CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY, body BLOB NOT NULL);"
        ))?;
        let one = |sql| store.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
        let next = one("SELECT MAX(number) FROM records")?.map_or(0, |last| last + 1);
        let unread = one("SELECT MIN(number) FROM records")?.unwrap_or(next);
        store.execute_batch("BEGIN")?;
        Ok(Self { store, next, unread })
    }
}

impl Store for Sqlite {
    fn append(&mut self, record: &[u8]) -> anyhow::Result<()> {
        let mut insert = self.store.prepare_cached("INSERT INTO records VALUES (?1, ?2)")?;
        insert.execute(params![self.next, record])?;
        self.next += 1;
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        self.store.execute_batch("COMMIT; BEGIN")?;
        Ok(())
    }

    fn read(&mut self, visit: &mut dyn FnMut(&[u8])) -> anyhow::Result<bool> {
        let sql = "SELECT number, body FROM records WHERE number >= ?1 ORDER BY number";
        let mut select = self.store.prepare_cached(sql)?;
        let mut rows = select.query([self.unread])?;
        let mut bytes = 0;
        while bytes < MESSAGE_BYTES
            && let Some(row) = rows.next()?
        {
            let record = row.get_ref(1)?.as_blob()?;
            visit(record);
            bytes += record.len();
            self.unread = row.get::<_, i64>(0)? + 1;
        }
        Ok(bytes > 0)
    }

    fn delivered(&mut self) -> anyhow::Result<()> {
        let mut delete = self.store.prepare_cached("DELETE FROM records WHERE number < ?1")?;
        delete.execute([self.unread])?;
        Ok(())
    }
}
