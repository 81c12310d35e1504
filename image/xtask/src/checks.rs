//! `cargo xtask test`: every check and every test, in the order that finds a mistake soonest.
//!
//! # Invariants
//! - Everything is built once, with one set of features and flags, for binary, tests and rig, and
//!   clippy reads it as it is compiled: checking it first would go over every dependency twice.
//! - A test that did not run is named, and fails the whole unless its reason is written down.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::peers::Peers;
use crate::skips::{self, Allowed};
use crate::workspace::Workspace;
use crate::{arrows, debian, deps, faketime, flaky, nats, peers, python, shell, units};

/// The whole workspace with everything in it: the same selection at every step, so that cargo
/// joins features the same way at every step.
const EVERYTHING: [&str; 2] = ["--workspace", "--all-targets"];

/// How the names of scenarios begin that mount file systems or make network namespaces.
const AS_ROOT: &str = "as_root::";

/// What the tests need besides cargo.
pub(crate) struct Tools {
    nats_server: PathBuf,
    interpreter: PathBuf,
    faketime: PathBuf,
    peers: Peers,
}

/// Fetches what is not there yet.
pub(crate) fn setup(workspace: &Workspace) -> anyhow::Result<Tools> {
    let tools = Tools {
        interpreter: python::provide(workspace)?,
        nats_server: nats::provide(workspace)?,
        faketime: faketime::provide()?,
        peers: peers::provide(workspace)?,
    };
    shell::say(&format!("python with pymodbus and asyncua: {}", tools.interpreter.display()));
    shell::say(&format!("libfaketime: {}", tools.faketime.display()));
    shell::say(&format!("libmodbus server: {}", tools.peers.libmodbus.display()));
    shell::say(&format!("jsmodbus: {}", tools.peers.jsmodbus.display()));
    shell::say(&format!("node-opcua: {}", tools.peers.node_opcua.display()));
    shell::say(&format!("agent: {}", tools.peers.agent.display()));
    Ok(tools)
}

/// Every check and every test.
pub(crate) fn test(workspace: &Workspace) -> anyhow::Result<()> {
    let tools = setup(workspace)?;
    need_component("rustfmt", "fmt")?;
    need_component("clippy", "clippy")?;
    shell::run("check the formatting", workspace.cargo().args(["fmt", "--all", "--check"]))?;
    check_arrows(workspace)?;
    units::run(workspace)?;
    deps::run(workspace)?;
    build(workspace)?;
    check_generated_docs(workspace)?;
    run_tests(workspace, &tools, Length::Ordinary)
}

/// The tests with many more cases and longer outages.
pub(crate) fn long(workspace: &Workspace) -> anyhow::Result<()> {
    let tools = setup(workspace)?;
    build(workspace)?;
    run_tests(workspace, &tools, Length::Long)
}

fn build(workspace: &Workspace) -> anyhow::Result<()> {
    let mut build = linting_cargo(workspace);
    shell::run("build everything, with clippy", build.arg("build").args(EVERYTHING))
}

/// A cargo that has the workspace's own packages compiled by clippy, whose warnings are errors. All
/// steps use the same, so that none compiles anew.
pub(crate) fn linting_cargo(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo();
    command.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver").env("CLIPPY_ARGS", "--deny=warnings");
    command
}

fn check_arrows(workspace: &Workspace) -> anyhow::Result<()> {
    shell::say("check the direction of dependencies …");
    let wrong: Vec<_> =
        arrows::check(&workspace.packages).iter().map(ToString::to_string).collect();
    if !wrong.is_empty() {
        bail!("dependencies point the wrong way:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

/// Generated documents must say what the code says.
fn check_generated_docs(workspace: &Workspace) -> anyhow::Result<()> {
    let mut check = Command::new(workspace.gateway_binary());
    check.args(["internal-docs", "--check"]).arg(&workspace.root);
    shell::run("check the generated documents", &mut check)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Ordinary,
    Long,
}

fn run_tests(workspace: &Workspace, tools: &Tools, length: Length) -> anyhow::Result<()> {
    let place = workspace.root.join("hil-tests/allowed-skips");
    let allowed = std::fs::read_to_string(&place)
        .with_context(|| format!("{} is not readable", place.display()))?;
    let allowed = Allowed::parse(&allowed)?;

    let nextest = workspace.cargo().args(["nextest", "--version"]).output();
    let ran = if nextest.is_ok_and(|output| output.status.success()) {
        with_nextest(workspace, tools, length)?
    } else {
        shell::say("cargo-nextest is not installed: the tests run one binary after the other");
        with_libtest(workspace, tools, length)?
    };
    let mut doc = cargo_with(workspace, tools, length);
    doc.args(["test", "--workspace", "--doc", "--no-fail-fast"]);
    let doc = shell::run_and_keep("test the documentation's examples", &mut doc)?;

    let mut skipped = ran.skipped;
    skipped.extend(skips::in_libtest_output(&doc.text));
    for line in skips::closing_lines(&ran.text).iter().chain(&skips::closing_lines(&doc.text)) {
        shell::say(line);
    }
    for name in &skipped {
        shell::say(&format!("SKIPPED {name}"));
    }
    let flaky = flaky::in_nextest_output(&ran.text);
    for name in &flaky {
        shell::say(&format!("FLAKY {name}: passed at the second attempt; the first one is above"));
    }
    if !debian::is_root() {
        shell::say(&format!(
            "NOT RUN {AS_ROOT}*: these need file systems and networks of their own; run as root"
        ));
    }
    ran.ended?;
    doc.ended?;
    flaky::judge(&flaky)?;
    allowed.judge(&skipped)
}

struct Ran {
    text: String,
    ended: anyhow::Result<()>,
    skipped: Vec<String>,
}

fn with_nextest(workspace: &Workspace, tools: &Tools, length: Length) -> anyhow::Result<Ran> {
    let mut list = cargo_with(workspace, tools, length);
    list.args(["nextest", "list"]).args(EVERYTHING).args(["--message-format", "json"]);
    let list = list.output().context("cargo did not start")?;
    if !list.status.success() {
        bail!("cargo nextest list failed: {}", String::from_utf8_lossy(&list.stderr));
    }
    let skipped = skips::in_nextest_list(&String::from_utf8_lossy(&list.stdout))?;
    let mut run = cargo_with(workspace, tools, length);
    run.args(["nextest", "run"]).args(EVERYTHING);
    if !debian::is_root() {
        run.args(["--filterset", &format!("not test(/^{AS_ROOT}/)")]);
    }
    if length == Length::Long {
        run.args(["--profile", "long"]);
    }
    let kept = shell::run_and_keep("run the tests", &mut run)?;
    Ok(Ran { text: kept.text, ended: kept.ended, skipped })
}

fn with_libtest(workspace: &Workspace, tools: &Tools, length: Length) -> anyhow::Result<Ran> {
    let mut run = cargo_with(workspace, tools, length);
    run.arg("test").args(EVERYTHING).arg("--no-fail-fast");
    if !debian::is_root() {
        run.args(["--", "--skip", AS_ROOT]);
    }
    let kept = shell::run_and_keep("run the tests", &mut run)?;
    let skipped = skips::in_libtest_output(&kept.text);
    Ok(Ran { text: kept.text, ended: kept.ended, skipped })
}

fn cargo_with(workspace: &Workspace, tools: &Tools, length: Length) -> Command {
    let mut command = linting_cargo(workspace);
    command
        .env(nats::VARIABLE, &tools.nats_server)
        .env("TIDEGATE_PYTHON", &tools.interpreter)
        .env(faketime::VARIABLE, &tools.faketime)
        .env(peers::LIBMODBUS, &tools.peers.libmodbus)
        .env(peers::JSMODBUS, &tools.peers.jsmodbus)
        .env(peers::NODE_OPCUA, &tools.peers.node_opcua)
        .env(peers::AGENT, &tools.peers.agent)
        .env("TIDEGATE_BIN", workspace.gateway_binary())
        // Where a panic is says enough; the backtrace of each error in its chain says no more.
        .env("RUST_LIB_BACKTRACE", "0");
    if length == Length::Long {
        // Twenty times proptest's default of 256.
        command.env("PROPTEST_CASES", "5120").env("TIDEGATE_RIG_LONG", "1");
    }
    command
}

fn need_component(component: &str, subcommand: &str) -> anyhow::Result<()> {
    let mut command = Command::new("cargo");
    if shell::ask(command.args([subcommand, "--version"])).is_none() {
        bail!(
            "cargo {subcommand} is missing; with rustup: rustup component add {component}, \
             otherwise install your distribution's {component} for this cargo"
        );
    }
    Ok(())
}
