//! The passwords of the daemon's users, and the files that hold them.
//!
//! # Invariants
//! - Passwords are random, never written by a person, never printed, wiped on drop.
//! - A file with a password in it is made with its final mode and replaced by one rename: nobody
//!   else can read it at any moment, and nobody reads half of it.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::config::LeafPlanError;

/// The configuration's name in the leaf's folder.
pub(super) const CONFIG: &str = "nats-server.conf";
/// The passwords' name in the leaf's folder.
const PASSWORDS: &str = "local-passwords";
/// The daemon alone.
pub(super) const OWNER: u32 = 0o600;
/// The daemon, and the leaf's own service through the folder's group.
pub(super) const GROUP: u32 = 0o640;

/// The passwords of the daemon's users at its leaf.
pub struct Credentials {
    live: Zeroizing<String>,
    record: Zeroizing<String>,
    system: Zeroizing<String>,
}

/// Why a file of the leaf could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refused.
    #[error("cannot {doing} {path}; see that [leaf] dir belongs to the user that runs tidegate", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A certificate file for the hub cannot be copied for the leaf's service.
    #[error("the leaf's certificate file {path} cannot be read; correct [hub] tls, or make it readable for the user that runs tidegate", path = path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no randomness for a password.
    #[error("the system gives no random numbers for a password")]
    Random(#[source] getrandom::Error),
    /// The plan cannot be written down.
    #[error("the leaf cannot be configured")]
    Plan(#[source] LeafPlanError),
}

impl Credentials {
    pub(super) const LIVE_USER: &str = "tidegate-live";
    pub(super) const RECORD_USER: &str = "tidegate-record";
    /// In the account of local applications, with the password of the live user.
    pub(super) const INGEST_USER: &str = "tidegate-ingest";
    /// In the system account of a leaf that is a service of its own.
    pub(super) const SYSTEM_USER: &str = "tidegate-system";

    /// New random passwords of 128 bits each.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn random() -> Result<Self, FileError> {
        Ok(Self { live: password()?, record: password()?, system: password()? })
    }

    #[cfg(test)]
    pub(super) fn of(live: &str, record: &str) -> Self {
        let text = |text: &str| Zeroizing::new(text.to_owned());
        Self { live: text(live), record: text(record), system: text("system-password") }
    }

    pub(super) fn live(&self) -> &str {
        &self.live
    }

    pub(super) fn record(&self) -> &str {
        &self.record
    }

    pub(super) fn system(&self) -> &str {
        &self.system
    }

    /// The line without any password that might stand in it.
    pub(super) fn scrub(&self, line: &str) -> String {
        let passwords = [self.live(), self.record(), self.system()];
        passwords.iter().fold(line.to_owned(), |line, password| line.replace(password, "***"))
    }

    /// A leaf that is its own service keeps the configuration that it started with, so the
    /// passwords must be the same after a restart of the daemon. One that is missing or damaged is
    /// made anew; those around it stay.
    pub(super) fn kept_in(dir: &Path) -> Result<Self, FileError> {
        let path = dir.join(PASSWORDS);
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Zeroizing::default(),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Zeroizing::default(),
            Err(source) => return Err(FileError::Io { doing: "read", path, source }),
        };
        let mut lines = text.lines();
        let is_ours = |line: &&str| line.len() == 32 && line.bytes().all(|b| b.is_ascii_hexdigit());
        let mut next = || match lines.next().filter(is_ours) {
            Some(line) => Ok(Zeroizing::new(line.to_owned())),
            None => password(),
        };
        let kept = Self { live: next()?, record: next()?, system: next()? };
        let whole = format!("{}\n{}\n{}\n", kept.live(), kept.record(), kept.system());
        let whole = Zeroizing::new(whole);
        if *whole != *text {
            write_whole(&path, whole.as_bytes(), OWNER)?;
        }
        Ok(kept)
    }
}

/// A random password of 128 bits.
fn password() -> Result<Zeroizing<String>, FileError> {
    let mut bytes = Zeroizing::new([0_u8; 16]);
    getrandom::fill(bytes.as_mut_slice()).map_err(FileError::Random)?;
    Ok(Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Makes a folder and those above it; one that exists keeps its mode.
pub(super) fn make_dir(dir: &Path, mode: u32) -> Result<(), FileError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(dir);
    made.map_err(|source| FileError::Io { doing: "make", path: dir.to_owned(), source })
}

/// Replaces a file by one rename.
pub(super) fn write_whole(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let draft = path.with_extension("new");
    let doing = |doing: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| FileError::Io { doing, path, source }
    };
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(doing("remove", &draft)(error));
        }
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        // The umask may have taken the group's right away.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(doing("write", &draft))?;
    fs::rename(&draft, path).map_err(doing("replace", path))?;
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(doing("sync", parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_differ_and_are_not_printed() {
        let (a, b) = (Credentials::random().unwrap(), Credentials::random().unwrap());
        assert_ne!(a.live(), a.record());
        assert_ne!(a.live(), b.live());
        assert_eq!(format!("{a:?}"), "Credentials(..)");
    }

    #[test]
    fn a_line_of_the_log_never_holds_a_password() {
        let credentials = Credentials::of("secret-a", "secret-b");
        assert_eq!(credentials.scrub("x secret-a y secret-b"), "x *** y ***");
    }

    #[test]
    fn damaged_passwords_are_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let half = "0123456789abcdef0123456789abcdef\n";
        for damage in ["", "short\n", "00\u{fffd}\n", half] {
            fs::write(dir.path().join(PASSWORDS), damage).unwrap();
            let made = Credentials::kept_in(dir.path()).unwrap();
            assert_eq!(made.live().len(), 32, "{damage:?}");
            assert_eq!(Credentials::kept_in(dir.path()).unwrap().live(), made.live());
        }
        // As before there was a third: what the server knows stays.
        fs::write(dir.path().join(PASSWORDS), format!("{half}{half}")).unwrap();
        let kept = Credentials::kept_in(dir.path()).unwrap();
        assert_eq!(
            (kept.live(), kept.record(), kept.system().len()),
            (half.trim(), half.trim(), 32)
        );
        fs::write(dir.path().join(PASSWORDS), [0xff, 0xfe]).unwrap();
        assert_eq!(Credentials::kept_in(dir.path()).unwrap().live().len(), 32);
    }
}
