//! `cargo xtask bench`: programs named `bench_…`, in release mode.
//!
//! # Invariants
//! - What a benchmark needs is provided first, pinned; a peer that cannot be had is named, and the
//!   benchmark says in its table that it is missing.
//! - Standard output holds the tables alone: text, or one JSON object a line.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::npm::Packages;
use crate::workspace::Workspace;
use crate::{nats, npm, peers as devices, shell};

/// A workspace of its own, so that other stores cost nobody else anything to build.
const PEERS: &str = "hil-tests/bench-peers";
/// What `npm` is to install, with the hash of every package.
const NODE_RED: Packages = Packages {
    what: "Node-RED (about 110 MB)",
    from: "hil-tests/bench-peers/node-red",
    name: "node-red",
};

/// libmodbus as server and client.
const LIBMODBUS: &str = "hil-tests/bench-peers/modbus/libmodbus_bench.c";

/// One benchmark.
#[derive(Debug, PartialEq, Eq)]
struct Bench {
    /// As it is asked for: `end-to-end`.
    name: String,
    /// The package that has it as an example; `None` in the workspace of the peers.
    package: Option<String>,
}

/// Runs one benchmark or all of them; each prints its own tables.
pub(crate) fn bench(
    workspace: &Workspace,
    name: Option<&str>,
    json: bool,
    args: &[String],
) -> anyhow::Result<()> {
    let known = known(workspace)?;
    let chosen: Vec<_> =
        known.iter().filter(|bench| name.is_none_or(|name| name == bench.name)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = known.iter().map(|bench| bench.name.as_str()).collect();
        let asked = name.unwrap_or("any");
        bail!("no benchmark {asked}; there are: {}", names.join(", "));
    }
    let needs = Needs::provide(workspace, &chosen)?;
    for bench in chosen {
        let mut run = match &bench.package {
            Some(package) => {
                let mut run = workspace.cargo();
                run.args(["run", "--quiet", "--release", "--package", package]);
                run
            }
            None => peers(workspace, "run"),
        };
        run.args(["--example", &format!("bench_{}", bench.name), "--"]);
        run.args(json.then_some("--json")).args(args);
        needs.tell(&mut run);
        shell::run(&format!("bench {}", bench.name), &mut run)?;
    }
    Ok(())
}

/// Those of the workspace and those of the peers, in the order in which they run.
fn known(workspace: &Workspace) -> anyhow::Result<Vec<Bench>> {
    let mut known: Vec<Bench> = Vec::new();
    for package in &workspace.packages {
        for name in package.examples.iter().filter_map(|name| name.strip_prefix("bench_")) {
            known.push(Bench { name: name.to_owned(), package: Some(package.name.clone()) });
        }
    }
    let examples = workspace.root.join(PEERS).join("examples");
    let listed = std::fs::read_dir(&examples)
        .with_context(|| format!("{} cannot be read", examples.display()))?;
    for entry in listed {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(name) = stem.strip_prefix("bench_") {
            known.push(Bench { name: name.to_owned(), package: None });
        }
    }
    // The quick ones first.
    let order = ["pipeline", "query", "modbus", "opcua", "drain", "fleet", "end-to-end", "journal"];
    known.sort_by_key(|bench| order.iter().position(|name| *name == bench.name));
    Ok(known)
}

/// Cargo in the workspace of the peers, with a target directory below the usual one.
fn peers(workspace: &Workspace, verb: &str) -> Command {
    let mut command = workspace.cargo();
    command.args([verb, "--quiet", "--release", "--locked", "--manifest-path"]);
    command.arg(workspace.root.join(PEERS).join("Cargo.toml"));
    command.arg("--target-dir").arg(workspace.target.join("bench-peers"));
    command
}

/// What the chosen benchmarks need beside cargo.
struct Needs {
    scratch: PathBuf,
    gateway: Option<PathBuf>,
    nats_server: Option<PathBuf>,
    node_red: Option<PathBuf>,
    node_opcua: Option<PathBuf>,
    libmodbus: Option<PathBuf>,
}

impl Needs {
    fn provide(workspace: &Workspace, chosen: &[&Bench]) -> anyhow::Result<Self> {
        let has = |name: &str| chosen.iter().any(|bench| bench.name == name);
        let daemon =
            has("end-to-end") || has("drain") || has("opcua") || has("fleet") || has("query");
        let mut needs = Self {
            scratch: workspace.target.join("bench-scratch"),
            gateway: None,
            nats_server: None,
            node_red: None,
            node_opcua: None,
            libmodbus: None,
        };
        if daemon {
            needs.nats_server = Some(nats::provide(workspace)?);
            let mut build = workspace.cargo();
            build.args(["build", "--release", "--package", "tidegate", "--bin", "tidegate"]);
            shell::run("build the gateway in release mode", &mut build)?;
            needs.gateway = Some(workspace.target.join("release/tidegate"));
        }
        if has("drain") {
            let mut build = workspace.cargo();
            build.args(["build", "--release", "--package", "tidegate-record"]);
            shell::run("build the maker of backlogs", build.args(["--example", "backlog"]))?;
        }
        if has("query") {
            let mut build = workspace.cargo();
            build.args(["build", "--release", "--package", "tidegate-query"]);
            shell::run("build the maker of days", build.args(["--example", "day"]))?;
        }
        if has("end-to-end") {
            // The figures of Tidegate are worth having without the peer's.
            match npm::provide(workspace, &NODE_RED) {
                Ok(place) => needs.node_red = Some(place),
                Err(error) => shell::say(&format!("no Node-RED to compare with: {error:#}")),
            }
        }
        if has("opcua") {
            needs.node_opcua = Some(devices::node_opcua(workspace)?);
        }
        if has("modbus") {
            match devices::libmodbus(workspace, LIBMODBUS) {
                Ok(place) => needs.libmodbus = Some(place),
                Err(error) => shell::say(&format!("no libmodbus to compare with: {error:#}")),
            }
        }
        if chosen.iter().any(|bench| bench.package.is_none()) {
            let mut build = peers(workspace, "build");
            shell::run("build the stores to compare with", build.arg("--examples"))?;
        }
        Ok(needs)
    }

    fn tell(&self, command: &mut Command) {
        command.env("TIDEGATE_BENCH_DIR", &self.scratch).env("RUST_LIB_BACKTRACE", "0");
        let told = [
            ("TIDEGATE_BIN", &self.gateway),
            (nats::VARIABLE, &self.nats_server),
            ("TIDEGATE_NODE_RED", &self.node_red),
            (devices::NODE_OPCUA, &self.node_opcua),
            ("TIDEGATE_MODBUS_PEER", &self.libmodbus),
        ];
        for (name, place) in told {
            if let Some(place) = place {
                command.env(name, place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Package;

    #[test]
    fn benchmarks_of_both_workspaces_are_known_the_quick_ones_first() {
        let root = tempfile::tempdir().unwrap();
        let examples = root.path().join(PEERS).join("examples");
        std::fs::create_dir_all(examples.join("bench_journal")).unwrap();
        std::fs::write(examples.join("other.rs"), "").unwrap();
        let package = |name: &str, examples: &[&str]| Package {
            name: name.to_owned(),
            directory: name.to_owned(),
            dependencies: Vec::new(),
            examples: examples.iter().map(ToString::to_string).collect(),
        };
        let workspace = Workspace {
            root: root.path().to_owned(),
            target: root.path().join("target"),
            packages: vec![
                package("rig", &["bench_end-to-end"]),
                package("record", &["bench_pipeline", "backlog"]),
            ],
        };
        let known = known(&workspace).unwrap();
        let names: Vec<_> = known.iter().map(|bench| bench.name.as_str()).collect();
        assert_eq!(names, ["pipeline", "end-to-end", "journal"]);
        assert_eq!(known[2].package, None);
        let error = bench(&workspace, Some("jurnal"), false, &[]).unwrap_err().to_string();
        assert!(error.contains("jurnal") && error.contains("end-to-end"), "{error}");
    }
}
