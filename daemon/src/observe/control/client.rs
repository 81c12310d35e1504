//! The asking side, for the command line. Blocking: a command has nothing else to do.

use std::io::{self, BufRead as _, BufReader, ErrorKind as Io, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::protocol::{Answer, Ask, Refusal, Response};
use super::{FaultQuery, GROUP, TagQuery, VERSION};
use crate::cli::exit;
use crate::observe::state::{DeviceFaults, StatusReport, TagPage};

/// How long the daemon may take. It answers from memory; a loaded small board needs a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes: a full page of the longest values shown.
const MAX_ANSWER: u64 = 128 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no tidegate answers on {path}; start it (systemctl start tidegate), or name its socket \
         with --socket"
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// Somebody listens, but not to us.
    #[error(
        "no permission to ask on {path}; become a member of group {GROUP} (usermod -aG {GROUP} \
         USER, then log in again), or use sudo"
    )]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The conversation broke off.
    #[error("tidegate on {path} did not answer")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The answer is no answer in this version of the protocol.
    #[error("what answers on {path} is no tidegate of this version")]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// What was wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The daemon refused the question.
    #[error("tidegate refused: {}", .0.text)]
    Refused(Refusal),
}

impl AskError {
    /// The exit code: 77 for a lack of permission, 1 for a refusal, else 69.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Denied { .. } => exit::PERMISSION,
            Self::Refused(_) => exit::NO,
            Self::NotRunning { .. } | Self::Broken { .. } | Self::Foreign { .. } => exit::PEER,
        }
    }
}

/// A connection to a running daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens or the caller may not ask.
    pub fn connect(path: &Path) -> Result<Self, AskError> {
        let path = path.to_owned();
        let stream = match UnixStream::connect(&path) {
            Ok(stream) => stream,
            Err(error) => {
                return Err(match error.kind() {
                    Io::NotFound | Io::ConnectionRefused => AskError::NotRunning { path },
                    Io::PermissionDenied => AskError::Denied { path },
                    _ => AskError::Broken { path, source: error },
                });
            }
        };
        let client = Self { path, stream: BufReader::new(stream) };
        let stream = client.stream.get_ref();
        stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .map_err(|error| client.broken(error))?;
        Ok(client)
    }

    /// Asks for everything but the tags.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses.
    pub fn status(&mut self) -> Result<StatusReport, AskError> {
        match self.ask(&Ask::Status)? {
            Answer::Status(status) => Ok(*status),
            other => Err(self.unexpected(other)),
        }
    }

    /// Asks for one page of tags.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses.
    pub fn tags(&mut self, query: TagQuery) -> Result<TagPage, AskError> {
        match self.ask(&Ask::Tags(query))? {
            Answer::Tags(page) => Ok(page),
            other => Err(self.unexpected(other)),
        }
    }

    /// Asks for the last faults of a device.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses, for one because it has no such device.
    pub fn faults(&mut self, device: &str) -> Result<DeviceFaults, AskError> {
        match self.ask(&Ask::Faults(FaultQuery { device: device.to_owned() }))? {
            Answer::Faults(faults) => Ok(faults),
            other => Err(self.unexpected(other)),
        }
    }

    fn ask(&mut self, ask: &Ask) -> Result<Answer, AskError> {
        let line = self.exchange(ask).map_err(|error| self.broken(error))?;
        let response: Response = serde_json::from_slice(&line)
            .map_err(|source| AskError::Foreign { path: self.path.clone(), source })?;
        match response.answer {
            Answer::Error(refusal) => Err(AskError::Refused(refusal)),
            answer => Ok(answer),
        }
    }

    fn exchange(&mut self, ask: &Ask) -> io::Result<Vec<u8>> {
        let mut request = serde_json::to_value(ask)?;
        request["v"] = VERSION.into();
        let sent = self.stream.get_mut().write_all(format!("{request}\n").as_bytes());
        // A daemon that turns us away has said so before it closed: read that first.
        let mut line = Vec::new();
        self.stream.by_ref().take(MAX_ANSWER).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            sent?;
            return Err(Io::UnexpectedEof.into());
        }
        Ok(line)
    }

    fn broken(&self, source: io::Error) -> AskError {
        AskError::Broken { path: self.path.clone(), source }
    }

    fn unexpected(&self, _answer: Answer) -> AskError {
        let source = serde::de::Error::custom("the answer is to another question");
        AskError::Foreign { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_daemon_that_is_not_there_is_told_from_one_that_does_not_let_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let error = Client::connect(&path).unwrap_err();
        assert_eq!(error.exit_code(), 69);
        assert!(error.to_string().contains("systemctl start tidegate"), "{error}");
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(Client::connect(&path), Err(AskError::NotRunning { .. })));
        let denied = AskError::Denied { path };
        assert_eq!(denied.exit_code(), 77);
        assert!(denied.to_string().contains("group tidegate"), "{denied}");
    }

    #[test]
    fn an_answer_that_is_none_is_called_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            for line in ["hello\n", "{\"v\":1,\"tags\":{\"tags\":[],\"next\":null}}\n", ""] {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(line.as_bytes()).unwrap();
                let mut sink = Vec::new();
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read_to_end(&mut sink);
            }
        });
        for _ in 0..2 {
            let error = Client::connect(&path).unwrap().status().unwrap_err();
            assert!(matches!(error, AskError::Foreign { .. }), "{error}");
        }
        let error = Client::connect(&path).unwrap().status().unwrap_err();
        assert!(matches!(error, AskError::Broken { .. }), "{error}");
        server.join().unwrap();
    }
}
