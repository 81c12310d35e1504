//! What the rig's devices of other makes need: libmodbus with our server around it, jsmodbus,
//! node-opcua, mbpoll and socat; and the official client of the Model Context Protocol.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::npm::{self, Packages};
use crate::workspace::Workspace;
use crate::{debian, shell};

/// Where the rig looks for the libmodbus server.
pub(crate) const LIBMODBUS: &str = "TIDEGATE_LIBMODBUS_PLC";

/// Where the rig looks for jsmodbus.
pub(crate) const JSMODBUS: &str = "TIDEGATE_JSMODBUS";

/// Where the rig looks for node-opcua.
pub(crate) const NODE_OPCUA: &str = "TIDEGATE_NODE_OPCUA";

/// Where the rig looks for the agent's client.
pub(crate) const AGENT: &str = "TIDEGATE_AGENT";

/// What was provided.
pub(crate) struct Peers {
    /// The libmodbus server.
    pub(crate) libmodbus: PathBuf,
    /// The directory with jsmodbus.
    pub(crate) jsmodbus: PathBuf,
    /// The directory with node-opcua.
    pub(crate) node_opcua: PathBuf,
    /// The directory with the agent's client.
    pub(crate) agent: PathBuf,
}

/// Installs and builds what is not there yet.
pub(crate) fn provide(workspace: &Workspace) -> anyhow::Result<Peers> {
    for program in ["mbpoll", "socat"] {
        if find(program).is_none() {
            debian::install(program, program)?;
        }
    }
    let jsmodbus = Packages { what: "jsmodbus", from: "hil-tests/plc/jsmodbus", name: "jsmodbus" };
    let agent = Packages {
        what: "the client of the Model Context Protocol (29 MB)",
        from: "hil-tests/agent",
        name: "agent",
    };
    let libmodbus = libmodbus(workspace, "hil-tests/plc/libmodbus_plc.c")?;
    Ok(Peers {
        libmodbus,
        jsmodbus: npm::provide(workspace, &jsmodbus)?,
        node_opcua: node_opcua(workspace)?,
        agent: npm::provide(workspace, &agent)?,
    })
}

/// The directory with node-opcua, also for what is measured beside it.
pub(crate) fn node_opcua(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let packages = Packages {
        what: "node-opcua (65 MB)",
        from: "hil-tests/plc/node_opcua",
        name: "node_opcua",
    };
    npm::provide(workspace, &packages)
}

/// A program of ours around the distribution's libmodbus. Its stamp is its source: when that
/// changes, it is built anew.
pub(crate) fn libmodbus(workspace: &Workspace, source: &str) -> anyhow::Result<PathBuf> {
    let source = workspace.root.join(source);
    let wanted = std::fs::read_to_string(&source)
        .with_context(|| format!("{} is not readable", source.display()))?;
    let name = source.file_stem().context("a source has a name")?.to_string_lossy().into_owned();
    let place = workspace.tools().join(&name);
    let stamp = workspace.tools().join(format!("{name}.stamp"));
    let stamped = std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted);
    if stamped && place.exists() {
        return Ok(place);
    }
    if !compiles("#include <stdio.h>") {
        debian::install("a C compiler", "gcc")?;
    }
    if !compiles("#include <modbus/modbus.h>") {
        debian::install("libmodbus with its headers", "libmodbus-dev")?;
    }
    std::fs::create_dir_all(workspace.tools())?;
    let fresh = workspace.tools().join(format!("{name}.{}", std::process::id()));
    let mut build = Command::new("cc");
    build.args(["-Wall", "-Wextra", "-Werror", "-O2", "-o"]).arg(&fresh).arg(&source);
    build.arg("-lmodbus");
    shell::run(&format!("build {name} with libmodbus"), &mut build)?;
    std::fs::rename(&fresh, &place)
        .with_context(|| format!("{} could not be put in place", place.display()))?;
    std::fs::write(&stamp, wanted)?;
    Ok(place)
}

/// Whether there is a C compiler that takes this.
fn compiles(text: &str) -> bool {
    let script = format!("printf '%s\\n' '{text}' | cc -fsyntax-only -x c -");
    shell::ask(Command::new("sh").args(["-c", &script])).is_some()
}

/// A program on PATH.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|place| place.join(program)).find(|place| is_file(place))
}

fn is_file(place: &Path) -> bool {
    place.metadata().is_ok_and(|found| found.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_on_the_path_and_one_that_is_not_there_is_not() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
    }

    #[test]
    fn a_header_that_is_missing_does_not_compile() {
        assert!(!compiles("#include <no/such/header.h>"));
    }
}
