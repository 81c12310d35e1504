//! A package of another architecture, unpacked and tried under qemu's emulation of single programs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::arch::Arch;
use crate::cross::Targets;
use crate::workspace::Workspace;
use crate::{pins, shell};

/// Unpacks the gateway's package and has each of its programs say what it is.
pub(super) fn run(workspace: &Workspace, arch: Arch, package: &Path) -> anyhow::Result<()> {
    let folder = arch.folder(workspace).join("smoke");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--extract").arg(package).arg(&folder);
    shell::run(&format!("unpack {}", package.display()), &mut unpack)?;
    let targets = Targets::load()?;
    let target = targets.of(arch)?;
    let server = pins::NatsServer::load()?.version;
    for (program, version) in [
        ("usr/bin/tidegate", env!("CARGO_PKG_VERSION")),
        ("usr/lib/tidegate/nats-server", server.as_str()),
    ] {
        let path = folder.join(program);
        let mut command = match &target.emulator {
            None => Command::new(&path),
            Some(emulator) => {
                let mut command = Command::new(emulator);
                command.arg("-L").arg(Path::new("/usr").join(&target.gnu)).arg(&path);
                command
            }
        };
        let Some(said) = shell::ask(command.arg("--version")) else {
            bail!("{program} of {} does not run", package.display());
        };
        ensure!(said.contains(version), "{program} of {} says {said}", package.display());
        shell::say(&format!("{program}, {}: {said}", arch.debian()));
    }
    std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))
}
