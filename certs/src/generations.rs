//! Generations of key and certificate in one folder, switched by one link.
//!
//! ```text
//! identity/
//!   gen-1/ key.pem cert.pem chain.pem full.pem     0600
//!   gen-2/ …
//!   current -> gen-2
//! ```
//!
//! # Invariants
//! - Only the link says which generation counts, and it is moved by one rename, so a key and a
//!   certificate of different generations are never seen together.
//! - Order of an installation: each file and its fsync, the folder's fsync, rename into its
//!   name, the parent's fsync, the new link, its rename, the parent's fsync. A power cut anywhere
//!   leaves the former generation or the new one.
//! - Whatever is installed belongs to the owner of the folder: root may install for the daemon.
//! - The former generation stays; older ones are removed, their keys overwritten, unless more are
//!   to be kept. A number is never used twice.
//! - `full.pem` is `cert.pem` and `chain.pem` in one, for servers that want one file. Nothing here
//!   reads it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::disk::{Before, Step, clear_drafts, io_at, shred, steps, write_folder, write_link};
use crate::identity::{Identity, IdentityError};

const KEY: &str = "key.pem";
const CERT: &str = "cert.pem";
const CHAIN: &str = "chain.pem";
const FULL: &str = "full.pem";
const CURRENT: &str = "current";

/// The number of a generation, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "gen-{}", self.0)
    }
}

impl Generation {
    fn of(name: &str) -> Option<Self> {
        let digits = name.strip_prefix("gen-")?;
        let number = digits.parse().ok()?;
        // `gen-01` and `gen-+1` are not names of ours.
        (format!("gen-{number}") == name).then_some(Self(number))
    }
}

/// The folder.
#[derive(Debug)]
pub struct GenerationStore {
    dir: PathBuf,
    /// How many stay beside the new one, the former among them.
    kept: usize,
}

/// A generation that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// Which one.
    pub generation: Generation,
    /// Its key and certificates.
    pub identity: Identity,
    /// Why the current generation is not the one that was loaded: an alarm.
    pub fallen_back: Option<StoreError>,
}

/// What a decommissioning removed.
#[derive(Debug, Default)]
pub struct Wiped {
    /// What is gone.
    pub removed: Vec<PathBuf>,
    /// What could not be removed, and why. Empty when the work is done.
    pub left: Vec<StoreError>,
}

impl Wiped {
    pub(crate) fn note(&mut self, path: &Path, gone: Result<bool, StoreError>) {
        match gone {
            Ok(true) => self.removed.push(path.to_owned()),
            Ok(false) => {}
            Err(error) => self.left.push(error),
        }
    }
}

/// Why a generation could not be installed or loaded.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("cannot {doing} {path}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What stands in it, or should be installed, is no identity.
    #[error("{generation} in {dir} is no usable identity", dir = dir.display())]
    Unusable {
        /// Which generation.
        generation: Generation,
        /// In which folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: IdentityError,
    },
    /// Something else than a file bears a file's name.
    #[error("{path} is no file; remove it", path = path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
    },
    /// A file is far larger than what belongs there.
    #[error("{path} is larger than {most} bytes; something else was put there", path = path.display())]
    TooLarge {
        /// Which one.
        path: PathBuf,
        /// How large it may be.
        most: u64,
    },
    /// A file holds something else than what belongs there.
    #[error("{path} cannot be used: {why}; {remedy}", path = path.display())]
    Broken {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What helps.
        remedy: &'static str,
    },
    /// Another process works in the folder.
    #[error("another process is changing the identity in {dir}; try again when it has finished", dir = dir.display())]
    Busy {
        /// The folder.
        dir: PathBuf,
    },
    /// The link names no generation.
    #[error("{path} does not name a generation; install an identity, or point it at one of the gen- folders", path = path.display())]
    NoCurrent {
        /// The link.
        path: PathBuf,
    },
}

impl GenerationStore {
    /// Opens the folder, making it if need be, and clears what an interrupted installation left.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(io_at("make", &dir))?;
        clear_drafts(&dir)?;
        Ok(Self::at(dir))
    }

    /// Looks into the folder without making it or clearing anything, for whoever only reads: an
    /// installation may be under way in another process.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), kept: 1 }
    }

    /// Keeps so many generations beside a new one; the former always.
    #[must_use]
    pub fn keeping(self, kept: usize) -> Self {
        Self { kept, ..self }
    }

    /// Installs a new generation and makes it current. `chain` holds the certificates between
    /// `cert` and the authority and may be empty. All three are PEM.
    ///
    /// # Errors
    /// When the key does not belong to the certificate, or the file system refuses; the current
    /// generation is then what it was.
    pub fn install(&self, key: &[u8], cert: &[u8], chain: &[u8]) -> Result<Generation, StoreError> {
        self.install_with(key, cert, chain, &mut |_| Ok(()))
    }

    /// `before` is told each step that is about to change the disk, so that a test can stop there.
    fn install_with(
        &self,
        key: &[u8],
        cert: &[u8],
        chain: &[u8],
        before: &mut Before<'_>,
    ) -> Result<Generation, StoreError> {
        let former = self.current().ok();
        let newest = self.all()?.last().map_or(0, |generation| generation.0);
        let generation = Generation(newest.saturating_add(1));
        let full = joined(cert, chain);
        Identity::from_pem(key, &full).map_err(|source| StoreError::Unusable {
            generation,
            dir: self.dir.clone(),
            source,
        })?;
        let mut step = steps(before);
        let files = [(KEY, key), (CERT, cert), (CHAIN, chain), (FULL, &full)];
        write_folder(&self.path_of(generation), &files, &mut step)?;
        self.point_at(generation, &mut step)?;
        // Whatever is older than the former one has served; failing to remove it harms nobody.
        let mut older = self.all()?;
        older.retain(|old| *old < generation && Some(*old) != former);
        let others = self.kept.saturating_sub(usize::from(former.is_some()));
        older.truncate(older.len().saturating_sub(others));
        for old in older {
            let home = self.path_of(old);
            shred(&home.join(KEY), &mut step)?;
            step("remove", &home, &mut || fs::remove_dir_all(&home))?;
        }
        Ok(generation)
    }

    /// Makes an installed generation current again: the way back to the former one.
    ///
    /// # Errors
    /// When it cannot be used, or the file system refuses; what was current then still is.
    pub fn switch_to(&self, generation: Generation) -> Result<(), StoreError> {
        self.load_one(generation)?;
        self.point_at(generation, &mut steps(&mut |_| Ok(())))
    }

    fn point_at(&self, generation: Generation, step: &mut Step<'_>) -> Result<(), StoreError> {
        write_link(&self.dir.join(CURRENT), &generation.to_string(), step)
    }

    /// The generation that the link names.
    ///
    /// # Errors
    /// When there is no link, or it names something else.
    pub fn current(&self) -> Result<Generation, StoreError> {
        let path = self.dir.join(CURRENT);
        let target = match fs::read_link(&path) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoCurrent { path });
            }
            Err(source) => return Err(StoreError::Io { doing: "read", path, source }),
        };
        target.to_str().and_then(Generation::of).ok_or(StoreError::NoCurrent { path })
    }

    /// Every generation in the folder, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn all(&self) -> Result<Vec<Generation>, StoreError> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(io_at("list", &self.dir))? {
            let entry = entry.map_err(io_at("list", &self.dir))?;
            all.extend(entry.file_name().to_str().and_then(Generation::of));
        }
        all.sort_unstable();
        Ok(all)
    }

    /// Loads the current generation, or, where that one is broken, the newest one before it.
    /// Validity in time is not looked at: ask [`Identity::facts`].
    ///
    /// # Errors
    /// What is wrong with the current generation, when there is no other that can be used.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        let current = self.current();
        let error = match current.and_then(|generation| self.load_one(generation)) {
            Ok(loaded) => return Ok(loaded),
            Err(error) => error,
        };
        let broken = self.current().ok();
        for generation in self.all()?.into_iter().rev() {
            // Without a link the newest one is as good a guess as any; with one, a generation
            // beyond it was never switched to.
            if broken.is_some_and(|broken| generation >= broken) {
                continue;
            }
            if let Ok(loaded) = self.load_one(generation) {
                return Ok(Loaded { fallen_back: Some(error), ..loaded });
            }
        }
        Err(error)
    }

    fn load_one(&self, generation: Generation) -> Result<Loaded, StoreError> {
        let dir = self.path_of(generation);
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read(&path).map(Zeroizing::new).map_err(io_at("read", &path))
        };
        let certificates = joined(&read(CERT)?, &read(CHAIN)?);
        let identity = Identity::from_pem(&read(KEY)?, &certificates)
            .map_err(|source| StoreError::Unusable { generation, dir: self.dir.clone(), source })?;
        Ok(Loaded { generation, identity, fallen_back: None })
    }

    /// Loads one generation, whichever is current.
    ///
    /// # Errors
    /// When it is not there or cannot be used.
    pub fn load_generation(&self, generation: Generation) -> Result<Identity, StoreError> {
        self.load_one(generation).map(|loaded| loaded.identity)
    }

    /// Removes every generation for ever, the keys first and overwritten; what was removed.
    /// Whatever else lies in the folder stays.
    pub(crate) fn wipe(&self, wiped: &mut Wiped, step: &mut Step<'_>) {
        let all = match self.all() {
            Ok(all) => all,
            Err(error) => return wiped.left.push(error),
        };
        for generation in &all {
            let key = self.path_of(*generation).join(KEY);
            wiped.note(&key, shred(&key, step));
        }
        for path in all.iter().map(|generation| self.path_of(*generation)) {
            let gone = step("remove", &path, &mut || fs::remove_dir_all(&path));
            wiped.note(&path, gone.map(|()| true));
        }
        let link = self.dir.join(CURRENT);
        wiped.note(&link, crate::disk::remove_file(&link, step));
    }

    /// Where a generation's files are.
    #[must_use]
    pub fn path_of(&self, generation: Generation) -> PathBuf {
        self.dir.join(generation.to_string())
    }
}

fn joined(cert: &[u8], chain: &[u8]) -> Vec<u8> {
    let mut all = cert.to_vec();
    if !all.ends_with(b"\n") {
        all.push(b'\n');
    }
    all.extend_from_slice(chain);
    all
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::SystemTime;

    use super::*;
    use crate::lab::{Issued, LabCa, Lifetime};

    struct Lab {
        dir: tempfile::TempDir,
        ca: LabCa,
    }

    impl Lab {
        fn new() -> Self {
            let ca = LabCa::new("lab", Lifetime::from(SystemTime::UNIX_EPOCH)).unwrap();
            Self { dir: tempfile::tempdir().unwrap(), ca }
        }

        fn issue(&self) -> Issued {
            self.ca.gateway("P/g", Lifetime::from(SystemTime::UNIX_EPOCH)).unwrap()
        }

        fn store(&self) -> GenerationStore {
            GenerationStore::open(self.dir.path().join("identity")).unwrap()
        }
    }

    fn install(store: &GenerationStore, issued: &Issued) -> Result<Generation, StoreError> {
        let key = issued.key_pem.as_bytes();
        store.install(key, issued.certificate_pem.as_bytes(), b"")
    }

    fn serial(issued: &Issued) -> String {
        issued.identity().unwrap().facts().serial.clone()
    }

    #[test]
    fn what_was_installed_last_is_loaded() {
        let lab = Lab::new();
        let store = lab.store();
        for number in 1..=3 {
            let issued = lab.issue();
            assert_eq!(install(&store, &issued).unwrap(), Generation(number));
            let loaded = lab.store().load().unwrap();
            assert_eq!(loaded.generation, Generation(number));
            assert_eq!(loaded.identity.facts().serial, serial(&issued));
            assert!(loaded.fallen_back.is_none());
        }
        assert_eq!(store.all().unwrap(), [Generation(2), Generation(3)], "the former one stays");
    }

    #[test]
    fn intermediate_certificates_follow_the_own_one() {
        let lab = Lab::new();
        let issued = lab.issue();
        let chain = lab.ca.certificate_pem();
        // Without a line feed at the end of the first text the blocks would run into each other.
        let cert = issued.certificate_pem.trim_end();
        lab.store().install(issued.key_pem.as_bytes(), cert.as_bytes(), chain.as_bytes()).unwrap();
        assert_eq!(lab.store().load().unwrap().identity.chain().len(), 2);
    }

    #[test]
    fn nobody_else_can_read_a_key() {
        let lab = Lab::new();
        let store = lab.store();
        let generation = install(&store, &lab.issue()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let home = store.path_of(generation);
        assert_eq!(mode(&home.join(KEY)), 0o600);
        assert_eq!(mode(&home), 0o700);
    }

    #[test]
    fn a_key_of_another_certificate_is_not_installed() {
        let lab = Lab::new();
        let store = lab.store();
        let (good, other) = (lab.issue(), lab.issue());
        install(&store, &good).unwrap();
        let error = store
            .install(other.key_pem.as_bytes(), good.certificate_pem.as_bytes(), b"")
            .unwrap_err();
        assert!(matches!(error, StoreError::Unusable { generation: Generation(2), .. }));
        assert_eq!(store.load().unwrap().generation, Generation(1));
        assert_eq!(store.all().unwrap(), [Generation(1)]);
    }

    #[test]
    fn a_broken_generation_falls_back_to_the_former_one_and_says_why() {
        let lab = Lab::new();
        let store = lab.store();
        let former = lab.issue();
        install(&store, &former).unwrap();
        let broken = install(&store, &lab.issue()).unwrap();
        for damage in [b"".as_slice(), b"-----BEGIN PRIVATE KEY-----\n".as_slice()] {
            fs::write(store.path_of(broken).join(KEY), damage).unwrap();
            let loaded = store.load().unwrap();
            assert_eq!(loaded.generation, Generation(1));
            assert_eq!(loaded.identity.facts().serial, serial(&former));
            assert!(matches!(
                loaded.fallen_back,
                Some(StoreError::Unusable { generation: Generation(2), .. })
            ));
        }
        fs::remove_file(store.path_of(broken).join(CERT)).unwrap();
        assert!(matches!(store.load().unwrap().fallen_back, Some(StoreError::Io { .. })));
    }

    #[test]
    fn an_empty_folder_says_that_nothing_is_installed() {
        let lab = Lab::new();
        assert!(matches!(lab.store().load(), Err(StoreError::NoCurrent { .. })));
    }

    #[test]
    fn stopping_at_any_step_leaves_the_former_generation_or_the_new_one() {
        let lab = Lab::new();
        let (first, second) = (lab.issue(), lab.issue());
        let mut steps = 0;
        for stop_at in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let store = GenerationStore::open(dir.path()).unwrap();
            // Two before, so that the removal of the oldest is a step too.
            install(&store, &lab.issue()).unwrap();
            install(&store, &first).unwrap();
            let mut at = 0;
            let mut switched = false;
            let done = store.install_with(
                second.key_pem.as_bytes(),
                second.certificate_pem.as_bytes(),
                b"",
                &mut |doing| {
                    if at == stop_at {
                        return Err(io::Error::other("power cut"));
                    }
                    at += 1;
                    switched |= doing == "switch";
                    Ok(())
                },
            );
            let reopened = GenerationStore::open(dir.path()).unwrap();
            let loaded = reopened.load().unwrap();
            assert!(loaded.fallen_back.is_none(), "stopped at step {stop_at}");
            let expected = if switched { serial(&second) } else { serial(&first) };
            assert_eq!(loaded.identity.facts().serial, expected, "stopped at step {stop_at}");
            // And the next installation works.
            let third = lab.issue();
            install(&reopened, &third).unwrap();
            assert_eq!(reopened.load().unwrap().identity.facts().serial, serial(&third));
            if done.is_ok() {
                steps = stop_at;
                break;
            }
        }
        assert_eq!(
            steps, 15,
            "make, four files, sync, name, sync, link, switch, sync, four to remove"
        );
    }

    #[test]
    fn the_way_back_to_the_former_generation_is_one_step_and_numbers_go_on() {
        let lab = Lab::new();
        let store = lab.store();
        let (first, second) = (lab.issue(), lab.issue());
        install(&store, &first).unwrap();
        install(&store, &second).unwrap();
        store.switch_to(Generation(1)).unwrap();
        assert_eq!(store.load().unwrap().identity.facts().serial, serial(&first));
        let bad = store.load_generation(Generation(2)).unwrap();
        assert_eq!(bad.facts().serial, serial(&second), "it can still be looked at");
        assert!(matches!(store.switch_to(Generation(9)), Err(StoreError::Io { .. })));
        assert_eq!(store.current().unwrap(), Generation(1));
        assert_eq!(install(&store, &lab.issue()).unwrap(), Generation(3));
        assert_eq!(store.all().unwrap(), [Generation(1), Generation(3)]);
    }

    #[test]
    fn more_than_the_former_one_is_kept_when_asked_for() {
        let lab = Lab::new();
        let store = lab.store().keeping(3);
        for _ in 0..5 {
            install(&store, &lab.issue()).unwrap();
        }
        assert_eq!(store.all().unwrap(), (2..=5).map(Generation).collect::<Vec<_>>());
        // The former one is not the newest but one after a way back.
        store.switch_to(Generation(2)).unwrap();
        install(&store.keeping(1), &lab.issue()).unwrap();
        assert_eq!(lab.store().all().unwrap(), [Generation(2), Generation(6)]);
    }

    #[test]
    fn only_our_own_names_are_generations() {
        for name in ["gen-", "gen-01", "gen-+1", "gen-x", "gen-1.bak", "current"] {
            assert_eq!(Generation::of(name), None, "{name}");
        }
        assert_eq!(Generation::of("gen-7"), Some(Generation(7)));
    }
}
