//! The socket file: who may open it, and when an old one may be taken away.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;
use tracing::warn;

/// The group whose members may ask, when the system has it.
pub const GROUP: &str = "tidegate";

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A daemon answers there.
    #[error("another tidegate answers on {path}; stop it, or set [control] socket to another path")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket has that name; it is left alone.
    #[error("{path} is not a socket; remove it, or set [control] socket to another path")]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {what} control socket {path}; set [control] socket to a path that works")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A bound socket; its file goes when it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
}

impl Socket {
    /// Binds. The socket appears at `path` complete with mode and group: it is made under another
    /// name in the same directory and renamed.
    pub(super) fn bind(path: &Path) -> Result<Self, ControlError> {
        let failed = |what: &'static str| {
            move |source| ControlError::Io { what, path: path.to_owned(), source }
        };
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::create_dir_all(dir).map_err(failed("create the directory of"))?;
        }
        free(path)?;
        let fresh = beside(path);
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed("prepare")(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&fresh).map_err(failed("create"))?;
        let dressed = dress(&fresh).and_then(|inode| {
            fs::rename(&fresh, path)?;
            Ok(inode)
        });
        match dressed {
            Ok(inode) => Ok(Self { listener, path: path.to_owned(), inode }),
            Err(error) => {
                let _ = fs::remove_file(&fresh);
                Err(failed("set up")(error))
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Only our own: a daemon that was started meanwhile may have replaced it.
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == self.inode);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Sees to it that nobody listens at `path` and that nothing but a socket is replaced.
fn free(path: &Path) -> Result<(), ControlError> {
    let failed = |source| ControlError::Io { what: "look at", path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(ControlError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Somebody listens but cannot take more, or we may not ask: either way it is in use.
        Ok(_) => Err(ControlError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(ControlError::InUse { path: path.to_owned() })
        }
        Err(error) => Err(failed(error)),
    }
}

/// A name in the same directory that is not longer: a socket's path may fill all that the kernel
/// allows.
fn beside(path: &Path) -> PathBuf {
    let name = if path.file_name().is_some_and(|name| name == "~") { "_" } else { "~" };
    path.with_file_name(name)
}

/// The number of the group [`GROUP`], where the system has it.
pub(crate) fn group() -> Option<u32> {
    fs::read_to_string("/etc/group").ok().and_then(|all| group_id(&all, GROUP))
}

fn dress(path: &Path) -> io::Result<(u64, u64)> {
    if let Some(gid) = group() {
        // The service runs in the group, and its unit lets it give nothing away.
        let is_given = fs::symlink_metadata(path)?.gid() == gid;
        // An unprivileged daemon outside of the group may not; its owner can still ask.
        if !is_given && let Err(error) = chown(path, None, Some(gid)) {
            warn!(%error, "control socket not given to group {GROUP}");
        }
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

/// The number of a group in the text of `/etc/group`.
fn group_id(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(name);
        let gid = fields.nth(1)?;
        found.then(|| gid.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let text = "root:x:0:\n#x\ntidegate2:x:7:\nbroken\ntidegate:x:990:alice,bob\n";
        assert_eq!(group_id(text, "tidegate"), Some(990));
        assert_eq!(group_id(text, "tide"), None);
    }

    #[tokio::test]
    async fn the_socket_is_for_owner_and_group_and_goes_with_the_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control.sock");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        drop(socket);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(dir.path().join("run")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        // A standard listener leaves its file behind, like a daemon that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = Socket::bind(&path).unwrap();
        let error = Socket::bind(&path).unwrap_err();
        assert!(matches!(error, ControlError::InUse { .. }), "{error}");
        assert!(UnixStream::connect(&path).is_ok());
        drop(socket);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Socket::bind(&path), Err(ControlError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_daemon_that_ends_late_does_not_take_its_successor_s_socket_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let old = Socket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let new = Socket::bind(&path).unwrap();
        drop(old);
        assert!(path.exists());
        drop(new);
    }

    #[tokio::test]
    async fn a_path_of_the_longest_legal_length_works() {
        let dir = tempfile::tempdir().unwrap();
        let room = 107 - dir.path().as_os_str().len() - 1;
        let path = dir.path().join("x".repeat(room));
        assert!(Socket::bind(&path).is_ok());
        let error = Socket::bind(&dir.path().join("x/~".replace('x', &"x".repeat(room))));
        assert!(matches!(error, Err(ControlError::Io { .. })));
    }
}
