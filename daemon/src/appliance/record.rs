//! What these commands remember, in a folder of root's own beside the configuration.
//!
//! # Invariants
//! - A file that cannot be understood counts as one that is not there: what is remembered only
//!   spares repetitions and comparisons, and a gateway never stays down for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::place;
use super::short::LaterMedia;

/// The folder's name, below the configuration's.
pub const FOLDER: &str = "appliance";

/// How many applied media are remembered.
const MOST: usize = 64;

/// Where these commands keep what they remember.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    dir: PathBuf,
}

/// What media did so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Provisioned {
    /// Whose configuration it was, `PLANT/NAME`.
    pub gateway: Option<String>,
    /// The digests of what was applied, the newest last.
    pub applied: Vec<String>,
    /// Whether later media are refused.
    pub refuses_media: bool,
}

impl Provisioned {
    /// Whether media may change the gateway.
    #[must_use]
    pub const fn later_media(&self) -> LaterMedia {
        if self.refuses_media { LaterMedia::Refuse } else { LaterMedia::Allow }
    }

    /// Notes one that was applied.
    pub fn note(&mut self, gateway: String, digest: String, later: Option<LaterMedia>) {
        self.gateway = Some(gateway);
        self.applied.retain(|known| *known != digest);
        self.applied.push(digest);
        let surplus = self.applied.len().saturating_sub(MOST);
        self.applied.drain(..surplus);
        if let Some(later) = later {
            self.refuses_media = later == LaterMedia::Refuse;
        }
    }
}

/// A system that a gateway ran on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct System {
    /// The slot that it was started from, where there are any.
    pub slot: Option<String>,
    /// The version of this program.
    pub version: String,
}

impl System {
    /// Whether it is the same one: by slots, or else by versions.
    #[must_use]
    pub fn is_the_same(&self, other: &Self) -> bool {
        match (&self.slot, &other.slot) {
            (Some(one), Some(another)) => one == another,
            _ => self.version == other.version,
        }
    }
}

/// The last boot that was healthy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct LastHealthy {
    /// On which system.
    pub system: System,
    /// The digest of the configuration's text.
    pub configuration: String,
}

/// How things were before an update.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct BeforeUpdate {
    /// On which system.
    pub system: System,
    /// Whether the hub was reached.
    pub hub_was_reached: bool,
}

const PROVISIONED: &str = "provisioned.json";
const HEALTHY: &str = "healthy.json";
const BEFORE: &str = "before-update.json";
const RESET: &str = "reset-requested";

impl Record {
    /// That of a configuration file.
    #[must_use]
    pub fn beside(config: &Path) -> Self {
        Self { dir: config.parent().unwrap_or(Path::new("/")).join(FOLDER) }
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What media did so far.
    #[must_use]
    pub fn provisioned(&self) -> Provisioned {
        self.read(PROVISIONED).unwrap_or_default()
    }

    /// Remembers it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep_provisioned(&self, provisioned: &Provisioned) -> io::Result<()> {
        self.write(PROVISIONED, provisioned)
    }

    /// The last boot that was healthy.
    #[must_use]
    pub fn last_healthy(&self) -> Option<LastHealthy> {
        self.read(HEALTHY)
    }

    /// Remembers it, where it is not what is remembered.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep_last_healthy(&self, healthy: &LastHealthy) -> io::Result<()> {
        if self.last_healthy().as_ref() == Some(healthy) {
            return Ok(());
        }
        self.write(HEALTHY, healthy)
    }

    /// How things were before an update.
    #[must_use]
    pub fn before_update(&self) -> Option<BeforeUpdate> {
        self.read(BEFORE)
    }

    /// Remembers it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep_before_update(&self, before: &BeforeUpdate) -> io::Result<()> {
        self.write(BEFORE, before)
    }

    /// Forgets it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget_before_update(&self) -> io::Result<()> {
        self.remove(BEFORE)
    }

    /// Whether a reset was asked for.
    #[must_use]
    pub fn reset_is_requested(&self) -> bool {
        self.dir.join(RESET).exists()
    }

    /// Asks for one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn request_reset(&self) -> io::Result<()> {
        place::own_folder(&self.dir)?;
        place::file(&self.dir.join(RESET), b"at the next boot\n", place::Whose::Root)
    }

    /// Takes the request back; the last act of a reset.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn withdraw_reset(&self) -> io::Result<()> {
        self.remove(RESET)
    }

    /// Forgets everything, the request for a reset last.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget_all(&self) -> io::Result<()> {
        for name in [PROVISIONED, HEALTHY, BEFORE] {
            self.remove(name)?;
        }
        self.withdraw_reset()
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.dir.join(name)).ok()?).ok()
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        place::own_folder(&self.dir)?;
        let text = serde_json::to_vec_pretty(value)?;
        place::file(&self.dir.join(name), &text, place::Whose::Root)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.dir.join(name)) {
            Ok(()) => fs::File::open(&self.dir)?.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_for_its_owner_alone_and_a_broken_file_counts_as_none() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let record = Record::beside(&dir.path().join("tidegate.toml"));
        assert_eq!(record.provisioned(), Provisioned::default());
        let mut provisioned = Provisioned::default();
        provisioned.note("P/g".into(), "d1".into(), Some(LaterMedia::Refuse));
        record.keep_provisioned(&provisioned).unwrap();
        assert_eq!(record.provisioned(), provisioned);
        assert_eq!(record.provisioned().later_media(), LaterMedia::Refuse);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(record.dir()), 0o700);
        assert_eq!(mode(&record.dir().join(PROVISIONED)), 0o600);
        fs::write(record.dir().join(PROVISIONED), "{").unwrap();
        assert_eq!(record.provisioned(), Provisioned::default());
    }

    #[test]
    fn a_reset_is_asked_for_and_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::beside(&dir.path().join("tidegate.toml"));
        assert!(!record.reset_is_requested());
        record.withdraw_reset().unwrap();
        record.request_reset().unwrap();
        record.request_reset().unwrap();
        assert!(record.reset_is_requested());
        record.withdraw_reset().unwrap();
        assert!(!record.reset_is_requested());
    }

    #[test]
    fn slots_tell_systems_apart_where_there_are_any() {
        let system = |slot: Option<&str>, version: &str| System {
            slot: slot.map(str::to_owned),
            version: version.into(),
        };
        assert!(system(Some("A"), "1").is_the_same(&system(Some("A"), "1")));
        assert!(!system(Some("A"), "1").is_the_same(&system(Some("B"), "1")));
        assert!(system(None, "1").is_the_same(&system(Some("B"), "1")));
        assert!(!system(None, "1").is_the_same(&system(None, "2")));
    }

    #[test]
    fn the_oldest_media_are_forgotten() {
        let mut provisioned = Provisioned::default();
        for n in 0..MOST + 2 {
            provisioned.note("P/g".into(), n.to_string(), None);
        }
        provisioned.note("P/g".into(), "5".into(), None);
        assert_eq!(provisioned.applied.len(), MOST);
        assert_eq!(provisioned.applied.last().map(String::as_str), Some("5"));
        assert!(!provisioned.applied.contains(&"0".to_owned()));
    }
}
