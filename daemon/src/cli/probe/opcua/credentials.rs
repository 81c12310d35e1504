//! Our certificate, whom we trust, and the user's password, for a command.
//!
//! # Invariants
//! - What a command makes for itself alone is gone when it ends.
//! - A password never stands among the arguments, and is wiped.

use std::error::Error;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::termios::{self, LocalModes, OptionalActions};
use tidegate_identity::opcua::{KeyBits, Own, OwnSpec};
use tidegate_opcua::{Application, Credentials, Distrust, Presented, UserSpec};
use zeroize::Zeroizing;

use super::access::Scratch;
use super::progress::{clear, say};
use crate::causes::chain;
use crate::cli::exit::{self, Failure};
use crate::config::Config;
use crate::recorder::SystemClock;
use crate::run::opcua::{crl_rule, own_spec};
use crate::run::opcua_credentials::OpcUaCredentials;

/// The longest password that is asked for, its line feed included.
const MAX_PASSWORD: u64 = 1025;

/// The credentials of the daemon, and what a command adds to them.
pub(in crate::cli) struct Files {
    kept: OpcUaCredentials,
    dir: PathBuf,
    uri: String,
    asked: Option<Zeroizing<String>>,
    /// Keeps the folder of a command that makes its own.
    scratch: Option<Scratch>,
}

impl Files {
    /// Those of a configuration.
    pub(super) fn of(config: &Config) -> Self {
        let host = Some(host()).filter(|host| !host.is_empty());
        let mut files = Self::folder(&config.opcua.dir, own_spec(config, host));
        if let Some(rule) = crl_rule(config) {
            files.kept = files.kept.revoking(rule);
        }
        files
    }

    /// Those of a folder; `spec` says what a certificate that must be made says.
    pub(in crate::cli) fn folder(dir: &Path, spec: OwnSpec) -> Self {
        let uri = spec.application_uri.clone();
        let kept = OpcUaCredentials::new(dir, spec, Arc::new(SystemClock));
        Self { kept, dir: dir.to_owned(), uri, asked: None, scratch: None }
    }

    /// Those of a folder that belongs to no gateway.
    pub(super) fn stray(dir: &Path) -> Self {
        let host = host();
        let name = if host.is_empty() { "gateway" } else { &host };
        let spec = OwnSpec {
            application_uri: format!("urn:tidegate:{name}"),
            common_name: format!("tidegate {name}"),
            host: Some(host.clone()).filter(|host| !host.is_empty()),
            key: KeyBits::default(),
        };
        Self::folder(dir, spec)
    }

    /// New ones, gone when this is dropped.
    pub(in crate::cli) fn throw_away() -> io::Result<Self> {
        let scratch = Scratch::new()?;
        let mut made = Self::stray(scratch.path());
        made.scratch = Some(scratch);
        Ok(made)
    }

    /// The application URI that a new certificate has.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Asks for the password of a user.
    pub(in crate::cli) fn ask(&mut self, user: &str) -> Result<(), Failure> {
        if !io::stdin().is_terminal() {
            let why = format!("the password of {user:?} is not known: give --password-file FILE");
            return Err(Failure::new(exit::USAGE, why));
        }
        let asked = ask(&format!("password of {user}: "));
        let failed = |error| Failure::new(exit::USAGE, format!("no password was read: {error}"));
        self.asked = Some(asked.map_err(failed)?);
        Ok(())
    }
}

fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')).collect()
}

/// Reads a line from the terminal without showing it.
fn ask(question: &str) -> io::Result<Zeroizing<String>> {
    let stdin = io::stdin();
    let before = termios::tcgetattr(&stdin)?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    write!(io::stderr(), "{question}")?;
    io::stderr().flush()?;
    termios::tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    let mut line = Zeroizing::new(String::new());
    let read = stdin.lock().take(MAX_PASSWORD).read_line(&mut line);
    termios::tcsetattr(&stdin, OptionalActions::Flush, &before)?;
    writeln!(io::stderr())?;
    read?;
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    Ok(line)
}

impl Credentials for Files {
    fn application(&self, device: &str) -> Result<Application, Box<dyn Error + Send + Sync>> {
        let made = matches!(Own::below(&self.dir).load(), Ok(None));
        if made {
            say("making a key and a certificate for us, which takes some seconds …");
        }
        let own = self.kept.application(device);
        if made {
            clear();
        }
        own.map_err(|error| chain(&*error).into())
    }

    fn judge(&self, presented: &Presented<'_>) -> Result<(), Distrust> {
        self.kept.judge(presented)
    }

    fn password(
        &self,
        user: &UserSpec,
    ) -> Result<Option<Zeroizing<String>>, Box<dyn Error + Send + Sync>> {
        match (&self.asked, user) {
            (Some(asked), UserSpec::Password { .. }) => Ok(Some(asked.clone())),
            _ => self.kept.password(user).map_err(|error| chain(&*error).into()),
        }
    }
}
