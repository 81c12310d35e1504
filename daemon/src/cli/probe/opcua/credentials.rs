//! Our certificate, whom we trust, and the user's password, for a command.
//!
//! # Invariants
//! - What a command makes for itself alone is gone when it ends.
//! - A password never stands among the arguments, and is wiped.

use std::error::Error;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::termios::{self, LocalModes, OptionalActions};
use tidegate_identity::opcua::{self as store, Expectation, KeyBits, Own, OwnSpec, TrustStore};
use tidegate_opcua::{
    Application, Credentials, Distrust, DistrustKind, Presented, Thumbprint, UserSpec,
};
use zeroize::Zeroizing;

use super::access::Scratch;
use super::progress::{clear, say};
use crate::causes::chain;
use crate::cli::exit::{self, Failure};
use crate::config::Config;

/// The longest password that is read.
const MAX_PASSWORD: u64 = 4096;

/// Credentials out of a folder.
pub(in crate::cli) struct Files {
    dir: PathBuf,
    own: OwnSpec,
    asked: Option<Zeroizing<String>>,
    /// Keeps the folder of a command that makes its own.
    scratch: Option<Scratch>,
}

impl Files {
    /// Those of a configuration.
    pub(super) fn of(config: &Config) -> Self {
        let opcua = &config.opcua;
        let key = KeyBits::of(opcua.key_bits.into()).unwrap_or_default();
        Self::in_folder(opcua.dir.clone(), opcua.application_uri.clone(), key)
    }

    /// Those of a folder.
    pub(super) fn folder(dir: &Path) -> Self {
        Self::in_folder(dir.to_owned(), format!("urn:tidegate:{}", host()), KeyBits::default())
    }

    /// New ones, gone when this is dropped.
    pub(super) fn throw_away() -> io::Result<Self> {
        let scratch = Scratch::new()?;
        let mut made = Self::folder(scratch.path());
        made.own.application_uri.push_str(":probe");
        made.scratch = Some(scratch);
        Ok(made)
    }

    fn in_folder(dir: PathBuf, application_uri: String, key: KeyBits) -> Self {
        let host = host();
        let own = OwnSpec {
            application_uri,
            common_name: format!("Tidegate on {host}"),
            host: Some(host),
            key,
        };
        Self { dir, own, asked: None, scratch: None }
    }

    /// The application URI that a new certificate has.
    pub(super) fn uri(&self) -> &str {
        &self.own.application_uri
    }

    /// Asks for the password of a user.
    pub(super) fn ask(&mut self, user: &str) -> Result<(), Failure> {
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
    let legal = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let name: String = name.chars().filter(legal).collect();
    if name.is_empty() { "gateway".to_owned() } else { name }
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
    fn application(&self) -> Result<Application, Box<dyn Error + Send + Sync>> {
        let own = Own::below(&self.dir);
        let made = matches!(own.load(), Ok(None));
        if made {
            say("making a key and a certificate for us, which takes some seconds …");
        }
        let own = own.ensure(&self.own, SystemTime::now()).map_err(|error| chain(&error));
        if made {
            clear();
        }
        let own = own?;
        Ok(Application { uri: own.application_uri, certificate: own.certificate, key: own.key })
    }

    fn judge(&self, presented: &Presented<'_>) -> Result<(), Distrust> {
        let thumbprints: Vec<store::Thumbprint> =
            presented.trust.thumbprints.iter().map(|t| store::Thumbprint(t.0)).collect();
        let expected = Expectation {
            application_uri: presented
                .trust
                .application_uri
                .as_deref()
                .unwrap_or(presented.application_uri),
            host: presented.host,
            any_host: presented.trust.any_host,
            thumbprints: &thumbprints,
            now: SystemTime::now(),
        };
        let judged = TrustStore::below(&self.dir).judge(presented.chain, &expected);
        judged.map(|_| ()).map_err(|distrust| Distrust {
            kind: kind(distrust.kind),
            text: distrust.text,
            thumbprint: distrust.thumbprint.map(|thumbprint| Thumbprint(thumbprint.0)),
        })
    }

    fn password(
        &self,
        user: &UserSpec,
    ) -> Result<Option<Zeroizing<String>>, Box<dyn Error + Send + Sync>> {
        let UserSpec::Password { file, .. } = user else { return Ok(None) };
        if let Some(asked) = &self.asked {
            return Ok(Some(asked.clone()));
        }
        let failed = |error: io::Error| format!("{} cannot be read: {error}", file.display());
        let mut password = Zeroizing::new(String::new());
        let opened = std::fs::File::open(file).map_err(failed)?;
        opened.take(MAX_PASSWORD).read_to_string(&mut password).map_err(failed)?;
        let length = password.strip_suffix('\n').unwrap_or(&password).len();
        password.truncate(length);
        Ok(Some(password))
    }
}

const fn kind(kind: store::DistrustKind) -> DistrustKind {
    use store::DistrustKind as Kind;
    match kind {
        Kind::Unknown => DistrustKind::Unknown,
        Kind::Rejected => DistrustKind::Rejected,
        Kind::Expired => DistrustKind::Expired,
        Kind::NotYetValid => DistrustKind::NotYetValid,
        Kind::Revoked => DistrustKind::Revoked,
        Kind::WrongUri => DistrustKind::WrongUri,
        Kind::WrongHost => DistrustKind::WrongHost,
        Kind::TooWeak => DistrustKind::TooWeak,
        Kind::Unusable => DistrustKind::Unusable,
        Kind::Store => DistrustKind::Store,
    }
}
