//! Which tag a number stands for: the bodies of catalog frames, and the catalog that they build.
//!
//! # Invariants
//! - A catalog only grows. A number belongs to one path for ever and a path to one number; a
//!   changed unit, address or kind is a new version of the entry under the same number.
//! - Applying the same part twice, an older part late, or a daily snapshot changes nothing that
//!   is already known better.
//! - What was learned of a tag stays while its device and address do: a definition that does not
//!   know the kind takes none away, so that a restart makes no new version.
//! - At most [`MAX_TAGS`] entries of at most [`MAX_ENTRY_BYTES`] each, whatever the frames claim.
//! - Tag numbers are scoped by epoch: a reader keeps one catalog per epoch.

mod part;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Serialize};
use tidegate_translator::{TagId, TagPath, ValueKind};

pub use part::{CatalogPart, Snapshot, bodies};

/// The most tags of one gateway: twenty times the largest that is aimed at.
pub const MAX_TAGS: usize = 1024 * 1024;

/// The most bytes of an entry's texts together, so that several entries always fit a frame.
pub const MAX_ENTRY_BYTES: usize = 4096;

/// What a tag is, as the configuration describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogEntry {
    /// The number in samples.
    pub id: TagId,
    /// Where it stands in the unified namespace.
    pub path: TagPath,
    /// What values it has; [`ValueKind::None`] when that is not known beforehand.
    pub kind: ValueKind,
    /// The engineering unit.
    pub unit: Option<Arc<str>>,
    /// The configured name of the device.
    pub device: Arc<str>,
    /// The address within the device, as configured.
    pub address: Arc<str>,
    /// Which translator reads it, as the live plane's `src`.
    pub source: Arc<str>,
}

impl CatalogEntry {
    /// Fills in what only the device could tell, as far as `known` is of the same value there.
    fn learn_from(&mut self, known: &Self) {
        let is_the_same = self.device == known.device && self.address == known.address;
        if self.kind == ValueKind::None && is_the_same {
            self.kind = known.kind;
            if self.unit.is_none() {
                self.unit.clone_from(&known.unit);
            }
        }
    }

    fn text_bytes(&self) -> usize {
        let texts = [&self.device, &self.address, &self.source];
        self.path.as_str().len()
            + self.unit.as_ref().map_or(0, |unit| unit.len())
            + texts.iter().map(|t| t.len()).sum::<usize>()
    }
}

/// Why an entry cannot be taken into a catalog.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The number belongs to another path.
    #[error("tag {} is {known:?} and cannot become {given:?}", id.0)]
    NumberTaken {
        /// The number.
        id: TagId,
        /// Whose it is.
        known: TagPath,
        /// Who wants it.
        given: TagPath,
    },
    /// The path has another number.
    #[error("path {path:?} is tag {} and cannot become tag {}", known.0, given.0)]
    PathTaken {
        /// The path.
        path: TagPath,
        /// Its number.
        known: TagId,
        /// The number that it was given.
        given: TagId,
    },
    /// There is no room for more tags.
    #[error("catalog holds {MAX_TAGS} tags, its limit; path {path:?} cannot be added")]
    Full {
        /// The one too many.
        path: TagPath,
    },
    /// The texts of the entry are too long.
    #[error(
        "tag {path:?} has {bytes} bytes of texts, more than {MAX_ENTRY_BYTES}; shorten its address or unit"
    )]
    TooLarge {
        /// Whose entry.
        path: TagPath,
        /// How long they are together.
        bytes: usize,
    },
    /// A file of another format.
    #[error("catalog file has format {found}, this reader knows format {FILE_FORMAT}")]
    Format {
        /// By the file.
        found: u32,
    },
}

/// What becomes of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defined {
    /// The catalog already says so.
    Known(TagId),
    /// The entry is new, or has a new version: a catalog frame must be durable before the first
    /// sample that uses it.
    Written(TagId),
}

impl Defined {
    /// The tag's number.
    #[must_use]
    pub const fn id(self) -> TagId {
        match self {
            Self::Known(id) | Self::Written(id) => id,
        }
    }
}

/// A tag without its number, for [`Catalog::define`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Where it stands in the unified namespace.
    pub path: TagPath,
    /// What values it has.
    pub kind: ValueKind,
    /// The engineering unit.
    pub unit: Option<Arc<str>>,
    /// The configured name of the device.
    pub device: Arc<str>,
    /// The address within the device.
    pub address: Arc<str>,
    /// Which translator reads it.
    pub source: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Versioned {
    entry: CatalogEntry,
    version: u64,
}

/// All tags of one gateway and epoch.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "File")]
pub struct Catalog {
    version: u64,
    /// In the order in which they became known. A list without holes: a tree of entries would be
    /// half empty, because numbers are given in ascending order.
    entries: Vec<Versioned>,
    /// Where the entry of a number stands in the list; empty as long as the list is in the order
    /// of the numbers, as a gateway's own always is.
    places: BTreeMap<TagId, u32>,
    /// The numbers of the paths; empty until it is needed.
    paths: HashMap<TagPath, TagId>,
}

impl PartialEq for Catalog {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version && self.versioned().eq(other.versioned())
    }
}

impl Eq for Catalog {}

impl Catalog {
    /// A catalog without tags.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Grows with each change; 0 when empty.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// How many tags it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it knows no tag.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What a number stands for; `None` while its catalog frame has not been read.
    #[must_use]
    pub fn resolve(&self, tag: TagId) -> Option<&CatalogEntry> {
        self.entries.get(self.place(tag)?).map(|v| &v.entry)
    }

    /// The number of a path.
    #[must_use]
    pub fn id_of(&self, path: &TagPath) -> Option<TagId> {
        if self.is_indexed() {
            return self.paths.get(path).copied();
        }
        self.entries.iter().map(|v| &v.entry).find(|entry| entry.path == *path).map(|e| e.id)
    }

    /// Makes room for as many more tags.
    pub fn reserve(&mut self, more: usize) {
        let more = more.min(MAX_TAGS);
        self.entries.reserve_exact(more);
        self.paths.reserve(self.entries.len() + more);
        self.index();
    }

    /// Gives back the memory that only a change of the catalog needs.
    pub fn settle(&mut self) {
        self.paths = HashMap::new();
        self.entries.shrink_to_fit();
    }

    fn is_indexed(&self) -> bool {
        self.paths.len() == self.entries.len()
    }

    fn index(&mut self) {
        if !self.is_indexed() {
            let each = self.entries.iter().map(|v| (v.entry.path.clone(), v.entry.id));
            self.paths.extend(each);
        }
    }

    /// All entries, by number.
    pub fn entries(&self) -> impl Iterator<Item = &CatalogEntry> {
        self.versioned().map(|v| &v.entry)
    }

    /// The entries that changed after `version`, for one catalog frame or several.
    pub fn changed_since(&self, version: u64) -> impl Iterator<Item = &CatalogEntry> {
        self.versioned().filter(move |v| v.version > version).map(|v| &v.entry)
    }

    /// All entries with their versions, by number.
    fn versioned(&self) -> impl Iterator<Item = &Versioned> {
        let in_order: &[Versioned] = if self.places.is_empty() { &self.entries } else { &[] };
        let places = self.places.values().filter_map(|place| usize::try_from(*place).ok());
        in_order.iter().chain(places.filter_map(|place| self.entries.get(place)))
    }

    fn place(&self, tag: TagId) -> Option<usize> {
        if self.places.is_empty() {
            return self.entries.binary_search_by_key(&tag, |v| v.entry.id).ok();
        }
        usize::try_from(*self.places.get(&tag)?).ok()
    }

    fn at_mut(&mut self, tag: TagId) -> Option<&mut Versioned> {
        let place = self.place(tag)?;
        self.entries.get_mut(place)
    }

    /// The highest number.
    fn last_id(&self) -> Option<TagId> {
        match self.places.last_key_value() {
            Some((last, _)) => Some(*last),
            None => self.entries.last().map(|v| v.entry.id),
        }
    }

    fn push(&mut self, entry: Versioned) {
        let id = entry.entry.id;
        if self.places.is_empty() && self.last_id().is_some_and(|last| id < last) {
            let each = (0..).zip(&self.entries).map(|(place, v)| (v.entry.id, place));
            self.places = each.collect();
        }
        if !self.places.is_empty() {
            let place = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
            self.places.insert(id, place);
        }
        self.entries.push(entry);
    }

    /// Gives a path its number, or its number a new version of the entry. A definition of unknown
    /// kind ([`ValueKind::None`]) keeps the kind that the entry has, and where it names no unit,
    /// that as well, as long as device and address are the same.
    ///
    /// # Errors
    /// When the catalog is full or the texts are too long.
    pub fn define(&mut self, definition: Definition) -> Result<Defined, CatalogError> {
        let Definition { path, kind, unit, device, address, source } = definition;
        self.index();
        let id = match self.id_of(&path) {
            Some(id) => id,
            None => self.next_id(&path)?,
        };
        let mut entry = CatalogEntry { id, path, kind, unit, device, address, source };
        if let Some(known) = self.resolve(id) {
            entry.learn_from(known);
        }
        if self.resolve(id) == Some(&entry) {
            self.share(entry);
            return Ok(Defined::Known(id));
        }
        self.put(entry, self.version + 1)?;
        Ok(Defined::Written(id))
    }

    /// Keeps the texts of an equal entry in the place of its own: whoever defines a tag holds
    /// them anyhow, and what came from a file would be a second copy.
    fn share(&mut self, entry: CatalogEntry) {
        if self.paths.remove(&entry.path).is_some() {
            self.paths.insert(entry.path.clone(), entry.id);
        }
        if let Some(known) = self.at_mut(entry.id) {
            known.entry = entry;
        }
    }

    /// Takes in a part that was read from a frame. Returns how many entries it changed.
    ///
    /// # Errors
    /// At the first entry that conflicts with what is known; the entries before it stay.
    pub fn apply(&mut self, part: &CatalogPart) -> Result<usize, CatalogError> {
        let mut changed = 0;
        for entry in &part.entries {
            changed += usize::from(self.put(entry.clone(), part.version)?);
        }
        self.version = self.version.max(part.version);
        Ok(changed)
    }

    /// The number after the highest, so that a number is never reused.
    fn next_id(&self, path: &TagPath) -> Result<TagId, CatalogError> {
        let next = match self.last_id() {
            None => Some(1),
            Some(last) => last.0.checked_add(1),
        };
        next.map(TagId).ok_or_else(|| CatalogError::Full { path: path.clone() })
    }

    fn put(&mut self, entry: CatalogEntry, version: u64) -> Result<bool, CatalogError> {
        self.index();
        let bytes = entry.text_bytes();
        if bytes > MAX_ENTRY_BYTES {
            return Err(CatalogError::TooLarge { path: entry.path, bytes });
        }
        if let Some(known) = self.id_of(&entry.path).filter(|known| *known != entry.id) {
            return Err(CatalogError::PathTaken { path: entry.path, known, given: entry.id });
        }
        let is_full = self.entries.len() >= MAX_TAGS;
        match self.at_mut(entry.id) {
            Some(known) if known.entry.path != entry.path => {
                return Err(CatalogError::NumberTaken {
                    id: entry.id,
                    known: known.entry.path.clone(),
                    given: entry.path,
                });
            }
            Some(known) if known.version >= version || known.entry == entry => return Ok(false),
            Some(known) => *known = Versioned { entry, version },
            None if is_full => {
                return Err(CatalogError::Full { path: entry.path });
            }
            None => {
                self.paths.insert(entry.path.clone(), entry.id);
                self.push(Versioned { entry, version });
            }
        }
        self.version = self.version.max(version);
        Ok(true)
    }
}

const FILE_FORMAT: u32 = 1;

/// The catalog in the gateway's own file, as it is read.
#[derive(Deserialize)]
struct File {
    format: u32,
    version: u64,
    entries: Vec<(u64, CatalogEntry)>,
}

/// The same as it is written, without a copy of anything.
#[derive(Serialize)]
struct FileOf<'a> {
    format: u32,
    version: u64,
    entries: EntriesOf<'a>,
}

struct EntriesOf<'a>(&'a Catalog);

impl Serialize for EntriesOf<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for Versioned { entry, version } in self.0.versioned() {
            list.serialize_element(&(version, entry))?;
        }
        list.end()
    }
}

impl Serialize for Catalog {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (format, version) = (FILE_FORMAT, self.version);
        FileOf { format, version, entries: EntriesOf(self) }.serialize(serializer)
    }
}

impl TryFrom<File> for Catalog {
    type Error = CatalogError;
    fn try_from(file: File) -> Result<Self, CatalogError> {
        if file.format != FILE_FORMAT {
            return Err(CatalogError::Format { found: file.format });
        }
        let mut catalog = Self { version: file.version, ..Self::default() };
        let mut known = HashSet::new();
        for (version, mut entry) in file.entries {
            entry.device = one_of(&mut known, entry.device);
            entry.source = one_of(&mut known, entry.source);
            entry.unit = entry.unit.map(|unit| one_of(&mut known, unit));
            catalog.put(entry, version)?;
        }
        Ok(catalog)
    }
}

/// One text for all entries that say the same.
fn one_of(known: &mut HashSet<Arc<str>>, text: Arc<str>) -> Arc<str> {
    if let Some(known) = known.get(&text) {
        return Arc::clone(known);
    }
    known.insert(Arc::clone(&text));
    text
}

#[cfg(test)]
mod tests;
