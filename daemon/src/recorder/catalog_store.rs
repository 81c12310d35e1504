//! The gateway's own copy of its catalog, and what of it stands in the record.
//!
//! # Invariants
//! - A number is never given twice in an epoch: the file is written before a frame that uses the
//!   number, and a directory without the file begins a new epoch.
//! - What is not known to stand in the record is written there again; readers take the same
//!   entry twice without harm.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_journal::Epoch;
use tidegate_record::catalog::{Catalog, CatalogError, Defined, Definition, bodies};
use tidegate_translator::TagId;

/// The file's name in the journal's directory.
pub(super) const FILE: &str = "catalog";

const MAGIC: &[u8; 4] = b"TGCA";

/// A whole snapshot is repeated this often, so that a reader that begins anywhere finds one.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Why the catalog's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refuses.
    #[error("catalog {path} cannot be {action}")]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what this program wrote.
    #[error("catalog {path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Contents {
    catalog: Arc<Catalog>,
    /// The epoch and the version up to which the record has the entries.
    recorded: Option<(Epoch, u64)>,
}

/// The catalog as it is, for whoever reads it meanwhile.
#[derive(Debug, Clone, Default)]
pub struct SharedCatalog(Arc<RwLock<Arc<Catalog>>>);

impl SharedCatalog {
    /// The catalog. Whoever holds it while tags are added makes the recorder copy it once.
    #[must_use]
    pub fn current(&self) -> Arc<Catalog> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The catalog and where it is kept.
#[derive(Debug, Default)]
pub struct CatalogStore {
    path: PathBuf,
    contents: Contents,
    shared: SharedCatalog,
    /// What of the catalog is in frames that the next commit makes durable.
    appended: Option<(Epoch, u64)>,
    snapshot_at: Option<Duration>,
}

impl CatalogStore {
    /// Reads the catalog; `None` when there is none yet.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn load(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = dir.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::File { path, action: "read", source }),
        };
        let contents = parse(&bytes).ok_or_else(|| StoreError::Damaged { path: path.clone() })?;
        let shared = SharedCatalog(Arc::new(RwLock::new(Arc::clone(&contents.catalog))));
        Ok(Some(Self { path, contents, shared, appended: None, snapshot_at: None }))
    }

    /// An empty catalog to be kept in this directory.
    #[must_use]
    pub fn empty(dir: &Path) -> Self {
        Self {
            path: dir.join(FILE),
            contents: Contents::default(),
            shared: SharedCatalog::default(),
            appended: None,
            snapshot_at: None,
        }
    }

    /// The catalog for whoever reads it meanwhile.
    #[must_use]
    pub fn shared(&self) -> SharedCatalog {
        self.shared.clone()
    }

    /// The catalog.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.contents.catalog
    }

    /// Gives each definition its number; the file has them when this returns.
    ///
    /// # Errors
    /// When the catalog is full, or the file cannot be written. The numbers hold for this run
    /// either way, and [`Self::save`] is tried again before they are recorded.
    pub fn define(
        &mut self,
        definitions: impl IntoIterator<Item = Definition>,
    ) -> Vec<Result<TagId, Box<CatalogError>>> {
        let mut shared = self.shared.0.write().unwrap_or_else(PoisonError::into_inner);
        // Nobody else holds it then but a question at work: it is not copied.
        *shared = Arc::default();
        let catalog = Arc::make_mut(&mut self.contents.catalog);
        let definitions = definitions.into_iter();
        // Few are new after a restart: then the room is not touched, and given back.
        catalog.reserve(definitions.size_hint().0);
        let number = |d| catalog.define(d).map(Defined::id).map_err(Box::new);
        let numbers = definitions.map(number).collect();
        catalog.settle();
        *shared = Arc::clone(&self.contents.catalog);
        numbers
    }

    /// The bodies of the catalog frames that must stand before the next sample of `epoch`: what
    /// changed, or a whole snapshot for a new epoch, after a day, or when `again`. Each is made
    /// when it is asked for, and counts as appended already.
    pub fn frames_due(
        &mut self,
        epoch: Epoch,
        now: Duration,
        again: bool,
    ) -> impl Iterator<Item = Vec<u8>> {
        let version = self.contents.catalog.version();
        let known = self.appended.or(self.contents.recorded).filter(|(of, _)| *of == epoch);
        let stale = self.snapshot_at.is_none_or(|at| now.saturating_sub(at) >= SNAPSHOT_EVERY);
        let since = known.map(|(_, recorded)| recorded).filter(|_| !again && !stale);
        match since {
            Some(recorded) if recorded == version => {}
            Some(_) => self.appended = Some((epoch, version)),
            None => self.appended_snapshot(epoch, now),
        }
        let catalog = &self.contents.catalog;
        let entries = catalog.changed_since(since.unwrap_or(0));
        bodies(version, entries, since.is_none()).into_iter().flatten().flatten()
    }

    /// The bodies of a whole snapshot.
    pub fn snapshot(&self) -> impl Iterator<Item = Vec<u8>> {
        let catalog = &self.contents.catalog;
        bodies(catalog.version(), catalog.entries(), true).into_iter().flatten().flatten()
    }

    /// Notes that a snapshot opens this epoch.
    pub fn appended_snapshot(&mut self, epoch: Epoch, now: Duration) {
        self.appended = Some((epoch, self.contents.catalog.version()));
        self.snapshot_at = Some(now);
    }

    /// Forgets that frames were appended: they could not be written.
    pub fn not_appended(&mut self) {
        self.appended = None;
        self.snapshot_at = None;
    }

    /// Whether a commit made something durable that the file does not know of.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        self.appended.is_some_and(|appended| self.contents.recorded != Some(appended))
    }

    /// Notes that what was appended is durable, and keeps that.
    ///
    /// # Errors
    /// When the file cannot be written; the entries are then recorded once more after a restart.
    pub fn committed(&mut self) -> Result<(), StoreError> {
        if !self.is_unsaved() {
            return Ok(());
        }
        self.contents.recorded = self.appended;
        self.save()
    }

    /// Writes the file: a new one, made durable, put in the old one's place.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn save(&self) -> Result<(), StoreError> {
        let write = || -> io::Result<()> {
            // Encoded twice rather than kept: the catalog of 50,000 tags takes megabytes.
            let hash = postcard::to_io(&self.contents, blake3::Hasher::new());
            let hash = hash.map_err(io::Error::other)?.finalize();
            let fresh = self.path.with_extension("new");
            let mut file = BufWriter::new(File::create(&fresh)?);
            file.write_all(MAGIC)?;
            file.write_all(hash.as_bytes())?;
            let file = postcard::to_io(&self.contents, file).map_err(io::Error::other)?;
            file.into_inner()?.sync_all()?;
            fs::rename(&fresh, &self.path)?;
            match self.path.parent() {
                Some(dir) => File::open(dir)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(|source| StoreError::File {
            path: self.path.clone(),
            action: "written",
            source,
        })
    }
}

fn parse(bytes: &[u8]) -> Option<Contents> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (hash, body) = rest.split_first_chunk::<32>()?;
    (blake3::hash(body).as_bytes() == hash).then(|| postcard::from_bytes(body).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use tidegate_record::catalog::CatalogPart;
    use tidegate_translator::{TagPath, ValueKind};

    use super::*;

    fn definition(path: &str) -> Definition {
        Definition {
            path: TagPath::new(path).unwrap(),
            kind: ValueKind::F64,
            unit: None,
            device: "press".into(),
            address: "holding:1".into(),
            source: "press".into(),
        }
    }

    fn ids(store: &mut CatalogStore, paths: &[&str]) -> Vec<u32> {
        let defined = store.define(paths.iter().map(|path| definition(path)));
        defined.into_iter().map(|id| id.unwrap().0).collect()
    }

    const A: Epoch = Epoch([1; 16]);
    const B: Epoch = Epoch([2; 16]);

    #[test]
    fn a_number_survives_a_restart_and_is_never_given_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = CatalogStore::empty(dir.path());
        assert_eq!(ids(&mut store, &["P/a", "P/b"]), [1, 2]);
        store.save().unwrap();
        let mut store = CatalogStore::load(dir.path()).unwrap().unwrap();
        assert_eq!(ids(&mut store, &["P/c", "P/b"]), [3, 2]);
    }

    #[test]
    fn only_changes_are_recorded_until_an_epoch_or_a_day_begins() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = CatalogStore::empty(dir.path());
        ids(&mut store, &["P/a"]);
        let due = |store: &mut CatalogStore, epoch, hours: u64| {
            let bodies = store.frames_due(epoch, Duration::from_secs(hours * 3600), false);
            let parts: Vec<_> = bodies.map(|b| CatalogPart::decode(&b).unwrap()).collect();
            parts.iter().map(|p| (p.snapshot.is_some(), p.entries.len())).collect::<Vec<_>>()
        };
        assert_eq!(due(&mut store, A, 0), [(true, 1)]);
        store.committed().unwrap();
        assert_eq!(due(&mut store, A, 1), []);
        ids(&mut store, &["P/b"]);
        assert_eq!(due(&mut store, A, 2), [(false, 1)]);
        assert_eq!(due(&mut store, A, 25), [(true, 2)]);
        assert_eq!(due(&mut store, B, 26), [(true, 2)]);
    }

    #[test]
    fn a_damaged_file_is_named_and_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        CatalogStore::empty(dir.path()).save().unwrap();
        let path = dir.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(CatalogStore::load(dir.path()), Err(StoreError::Damaged { .. })));
    }
}
