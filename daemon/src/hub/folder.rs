//! The folder of a hub: `hub.toml`, and what is printed from it.
//!
//! ```text
//! DIR/hub.toml                      the only truth
//! DIR/ca.pem                        whom everybody trusts
//! DIR/cluster.secret                by which the servers of a cluster know each other
//! DIR/compose.yaml                  all servers in containers
//! DIR/NODE/nats-server.conf         relative paths in it begin here
//! DIR/NODE/{ca,cert,key}.pem        what the server shows, and whom it trusts
//! DIR/NODE/nats-server.service      the systemd unit
//! DIR/users/NAME.{pem,key}          the people's certificates
//! DIR/ca/                           the lab authority, where the hub has one
//! ```
//!
//! # Invariants
//! - A file is replaced whole: written beside it, synced, renamed. Keys have mode 0600.
//! - `hub.toml` is written last, after what is printed from it was found to be legal.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::file::{HubFile, Mistakes};
use crate::names::Name;

/// The largest `hub.toml` that is read: 20,000 gateways take about 4 MB.
const MAX_BYTES: u64 = 32 << 20;

/// A hub's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFolder {
    dir: PathBuf,
}

/// Why a folder is not read or written.
#[derive(Debug, thiserror::Error)]
pub enum HubFolderError {
    /// A file cannot be read.
    #[error("{path} cannot be read; is this the hub's folder?", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `hub.toml` is larger than any hub.
    #[error("{path} is larger than {MAX_BYTES} bytes; is it the right file?", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("{path} cannot be written", path = path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No random numbers for the cluster's secret.
    #[error("the system gives no random numbers")]
    Random,
    /// What `hub.toml` says cannot be configured.
    #[error("no hub can be made of {path}: {said}", path = path.display())]
    NoHub {
        /// The file.
        path: PathBuf,
        /// Why not.
        said: String,
    },
    /// `hub.toml` has mistakes.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
    /// Somebody else changed `hub.toml` meanwhile.
    #[error("{path} was changed meanwhile; do it again", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

/// A `hub.toml` that was read, with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubText {
    /// What it says.
    pub file: HubFile,
    text: String,
}

impl HubFolder {
    /// The folder `dir`; nothing is looked at yet.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `hub.toml`.
    #[must_use]
    pub fn hub_toml(&self) -> PathBuf {
        self.dir.join("hub.toml")
    }

    /// Whom everybody trusts.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The lab authority's folder.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca")
    }

    /// The compose file.
    #[must_use]
    pub fn compose(&self) -> PathBuf {
        self.dir.join("compose.yaml")
    }

    /// The folder of a server.
    #[must_use]
    pub fn node(&self, node: &Name) -> PathBuf {
        self.dir.join(node.as_str())
    }

    /// The configuration of a server.
    #[must_use]
    pub fn conf(&self, node: &Name) -> PathBuf {
        self.node(node).join("nats-server.conf")
    }

    /// The certificate of a person.
    #[must_use]
    pub fn user_cert(&self, name: &Name) -> PathBuf {
        self.dir.join("users").join(format!("{name}.pem"))
    }

    /// The key of a person.
    #[must_use]
    pub fn user_key(&self, name: &Name) -> PathBuf {
        self.dir.join("users").join(format!("{name}.key"))
    }

    /// Reads `hub.toml`.
    ///
    /// # Errors
    /// When it cannot be read, or with every mistake in it.
    pub fn load(&self) -> Result<HubText, HubFolderError> {
        let path = self.hub_toml();
        let unreadable = |source| HubFolderError::Unreadable { path: path.clone(), source };
        let opened = fs::File::open(&path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        opened.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
            return Err(HubFolderError::TooLarge { path });
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            unreadable(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
        })?;
        Ok(HubText { file: HubFile::read(&path, &text)?, text })
    }

    /// Writes `hub.toml` for the first time.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(&self, file: &HubFile) -> Result<(), HubFolderError> {
        self.write(&self.hub_toml(), file.print().as_bytes(), Secrecy::Open)
    }

    /// Has `hub.toml` say `wanted` instead of what was read; what is not about a changed gateway
    /// stays as a person wrote it.
    ///
    /// # Errors
    /// When what is wanted is not legal, the file was changed since, or it cannot be written.
    pub fn save(&self, read: &HubText, wanted: &HubFile) -> Result<HubText, HubFolderError> {
        let path = self.hub_toml();
        let text = read.file.edited(&read.text, wanted);
        let checked = HubFile::read(&path, &text)?;
        if self.load()?.text != read.text {
            return Err(HubFolderError::Changed { path });
        }
        self.write(&path, text.as_bytes(), Secrecy::Open)?;
        Ok(HubText { file: checked, text })
    }

    /// Replaces a file whole, and makes the folders above it.
    ///
    /// # Errors
    /// When it cannot be written; what was there is there still.
    pub fn write(&self, path: &Path, bytes: &[u8], secrecy: Secrecy) -> Result<(), HubFolderError> {
        replace(path, bytes, secrecy)
            .map_err(|source| HubFolderError::Unwritable { path: path.to_owned(), source })
    }
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// Everybody.
    Open,
    /// Its owner.
    Secret,
}

fn replace(path: &Path, bytes: &[u8], secrecy: Secrecy) -> io::Result<()> {
    let folder = path.parent().filter(|above| !above.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let mode = match secrecy {
        Secrecy::Open => 0o644,
        Secrecy::Secret => 0o600,
    };
    let beside = path.with_extension("new");
    // Left over from a run that was cut off, with whatever mode it had.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn text(gateway: &str) -> String {
        format!(
            "[hub]\nname = \"h\"\nmax-store = \"1 GiB\" # here\n[[node]]\nname = \"h-1\"\n\
             hosts = [\"127.0.0.1\"]\nclient = \"127.0.0.1:4222\"\nleaf = \"127.0.0.1:7422\"\n\
             [[stream]]\nname = \"TIDE\"\n[[user]]\nname = \"admin\"\nrole = \"admin\"\n[[user]]\n\
             name = \"operator\"\nrole = \"operator\"\n[[gateway]]\nid = \"{gateway}\"\n"
        )
    }

    #[test]
    fn a_change_by_somebody_else_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let folder = HubFolder::at(dir.path());
        fs::write(folder.hub_toml(), text("P/a")).unwrap();
        let read = folder.load().unwrap();
        let mut wanted = read.file.clone();
        wanted.gateways.clear();
        fs::write(folder.hub_toml(), text("P/b")).unwrap();
        assert!(matches!(folder.save(&read, &wanted), Err(HubFolderError::Changed { .. })));
        let read = folder.load().unwrap();
        let saved = folder.save(&read, &wanted).unwrap();
        assert_eq!(folder.load().unwrap(), saved);
        assert!(saved.text.contains("# here") && !saved.text.contains("[[gateway]]"));
    }

    #[test]
    fn a_file_with_mistakes_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = HubFolder::at(dir.path());
        fs::write(folder.hub_toml(), text("P/a")).unwrap();
        let read = folder.load().unwrap();
        let mut wanted = read.file.clone();
        wanted.gateways.extend(read.file.gateways.clone());
        assert!(matches!(folder.save(&read, &wanted), Err(HubFolderError::Mistakes(_))));
        assert_eq!(folder.load().unwrap(), read);
    }

    #[test]
    fn keys_are_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = HubFolder::at(dir.path());
        let key = dir.path().join("users/admin.key");
        fs::create_dir(dir.path().join("users")).unwrap();
        fs::write(key.with_extension("new"), "left over").unwrap();
        folder.write(&key, b"secret", Secrecy::Secret).unwrap();
        assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
        assert!(!key.with_extension("new").exists());
    }
}
