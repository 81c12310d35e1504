//! Which nats-server to run.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// The oldest nats-server that takes what the generated configuration says: remotes that can be
/// changed by reload (2.14), and how long dialling may take (2.15).
pub const MINIMUM: Version = Version { major: 2, minor: 15, patch: 0 };

/// Where the package puts it.
const PACKAGED: &str = "/usr/lib/tidegate/nats-server";
/// The program's name beside our binary and on PATH.
const NAME: &str = "nats-server";
/// How long `--version` may take; it takes 20 ms, on a cold and slow disk a second.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

/// A version of nats-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Before the first dot.
    pub major: u32,
    /// After it.
    pub minor: u32,
    /// After the second.
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Version {
    /// Reads what `nats-server --version` prints: `nats-server: v2.15.1`.
    fn parse(text: &str) -> Option<Self> {
        Self::of(text.split_whitespace().find_map(|word| word.strip_prefix('v'))?)
    }

    /// Reads `2.15.1`. What follows the three numbers (`-beta.1`) counts for nothing.
    pub(super) fn of(numbers: &str) -> Option<Self> {
        let mut parts = numbers.splitn(3, '.');
        let mut next = || {
            let part = parts.next()?;
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse().ok()
        };
        Some(Self { major: next()?, minor: next()?, patch: next()? })
    }
}

/// A nats-server that may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsServer {
    /// The program.
    pub path: PathBuf,
    /// Its version, at least [`MINIMUM`].
    pub version: Version,
}

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// What the configuration names; then nothing else is looked at.
    pub configured: Option<PathBuf>,
    /// Otherwise these, in this order.
    pub places: Vec<PathBuf>,
}

impl Search {
    /// The package's own, then beside our binary, then PATH.
    #[must_use]
    pub fn usual(configured: Option<PathBuf>) -> Self {
        let mut places = vec![PathBuf::from(PACKAGED)];
        let own = std::env::current_exe().ok();
        if let Some(beside) = own.as_deref().and_then(Path::parent) {
            places.push(beside.join(NAME));
            // A build's `target/debug/tidegate` beside its `target/tools`.
            places.extend(beside.parent().map(|target| target.join("tools").join(NAME)));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        places.extend(std::env::split_paths(&path).map(|dir| dir.join(NAME)));
        Self { configured, places }
    }
}

/// Why there is no nats-server to run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configured one will not do.
    #[error("[leaf] nats-server {path} cannot be used; correct the path, or remove the line to use the packaged one", path = path.display())]
    Configured {
        /// What the configuration names.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Unsuitable,
    },
    /// None was found anywhere.
    #[error("no nats-server found; install {MINIMUM} or newer, or name it in [leaf] nats-server (looked in {places})", places = joined(places))]
    Missing {
        /// Where it was looked for.
        places: Vec<PathBuf>,
    },
    /// Some were found, and none will do.
    #[error("no nats-server will do, {MINIMUM} or newer is needed: {found}", found = found.join("; "))]
    NoneSuitable {
        /// Each with its reason.
        found: Vec<String>,
    },
}

/// Why one nats-server will not do.
#[derive(Debug, thiserror::Error)]
pub enum Unsuitable {
    /// There is no such file.
    #[error("there is no such file")]
    Missing,
    /// It cannot be run.
    #[error("it cannot be run; make it executable for the user that runs tidegate")]
    NotExecutable(#[source] io::Error),
    /// It did not answer.
    #[error("it did not tell its version within {} s", VERSION_DEADLINE.as_secs())]
    Silent,
    /// It answered something else.
    #[error("it is no nats-server: --version printed {said:?}")]
    Foreign {
        /// The first characters of what it printed.
        said: String,
    },
    /// It is too old.
    #[error("version {version} is older than {MINIMUM}")]
    TooOld {
        /// Its version.
        version: Version,
    },
}

/// Finds the first nats-server that will do, by running each with `--version`.
///
/// # Errors
/// When the configured one will not do, or no other place has one that will.
pub async fn find_server(search: &Search) -> Result<NatsServer, ServerError> {
    if let Some(path) = &search.configured {
        let unusable = |source| ServerError::Configured { path: path.clone(), source };
        let version = version_of(path).await.map_err(unusable)?;
        return Ok(NatsServer { path: path.clone(), version });
    }
    let mut found = Vec::new();
    for path in &search.places {
        match version_of(path).await {
            Ok(version) => return Ok(NatsServer { path: path.clone(), version }),
            Err(Unsuitable::Missing) => {}
            Err(reason) => found.push(format!("{}: {reason}", path.display())),
        }
    }
    if found.is_empty() {
        return Err(ServerError::Missing { places: search.places.clone() });
    }
    Err(ServerError::NoneSuitable { found })
}

async fn version_of(path: &Path) -> Result<Version, Unsuitable> {
    let mut command = tokio::process::Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(VERSION_DEADLINE, command.output()).await {
        Err(_) => return Err(Unsuitable::Silent),
        Ok(Err(error)) if is_absent(&error) => return Err(Unsuitable::Missing),
        Ok(Err(error)) => return Err(Unsuitable::NotExecutable(error)),
        Ok(Ok(output)) => output,
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let Some(version) = Version::parse(&said).filter(|_| said.starts_with(NAME)) else {
        return Err(Unsuitable::Foreign { said: said.chars().take(60).collect() });
    };
    if version < MINIMUM {
        return Err(Unsuitable::TooOld { version });
    }
    Ok(version)
}

/// PATH may name what is no directory.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn joined(places: &[PathBuf]) -> String {
    let places: Vec<_> = places.iter().map(|place| place.as_os_str()).map(OsStr::display).collect();
    places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::causes::chain;

    fn program(dir: &Path, name: &str, prints: &str, mode: u32) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho '{prints}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    async fn configured(path: &Path) -> String {
        let search = Search { configured: Some(path.to_owned()), places: Vec::new() };
        chain(&find_server(&search).await.unwrap_err())
    }

    #[test]
    fn versions_are_read_and_ordered() {
        let version = |text| Version::parse(text).unwrap();
        assert_eq!(version("nats-server: v2.15.1\n").to_string(), "2.15.1");
        assert_eq!(version("nats-server: v2.15.0-beta.1"), MINIMUM);
        assert!(version("nats-server: v2.9.25") < MINIMUM);
        assert!(version("nats-server: v10.0.0") > MINIMUM);
        for no in ["", "nats-server", "nats-server: vx.y.z", "v2.15", "v2..1", "v99999999999.1.1"] {
            assert_eq!(Version::parse(no), None, "{no}");
        }
    }

    #[tokio::test]
    async fn a_configured_server_that_will_not_do_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("absent");
        assert!(configured(&path).await.contains("no such file"));
        let path = program(dir.path(), "old", "nats-server: v2.10.27", 0o755);
        let said = configured(&path).await;
        assert!(said.contains("2.10.27 is older than 2.15.0") && said.contains("old"), "{said}");
        let path = program(dir.path(), "plain", "nats-server: v2.15.1", 0o644);
        assert!(configured(&path).await.contains("make it executable"));
        let path = program(dir.path(), "other", "mosquitto version 2", 0o755);
        assert!(configured(&path).await.contains("no nats-server: --version printed"));
    }

    #[tokio::test]
    async fn the_first_suitable_place_wins_and_unsuitable_ones_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent");
        let old = program(dir.path(), "old", "nats-server: v2.9.10", 0o755);
        let good = program(dir.path(), "good", "nats-server: v2.15.1", 0o755);
        let newer = program(dir.path(), "newer", "nats-server: v2.16.0", 0o755);
        let places = vec![absent.clone(), old.clone(), good.clone(), newer];
        let found = find_server(&Search { configured: None, places }).await.unwrap();
        assert_eq!(found.path, good);
        let places = vec![absent.clone(), old];
        let error = find_server(&Search { configured: None, places }).await.unwrap_err();
        assert!(error.to_string().contains("2.9.10 is older"), "{error}");
        let error = find_server(&Search { configured: None, places: vec![absent] }).await;
        let said = error.unwrap_err().to_string();
        assert!(said.contains("no nats-server found") && said.contains("absent"), "{said}");
    }
}
