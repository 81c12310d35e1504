//! The rig's scenarios of the installed product, and what they found.
//!
//! # Invariants
//! - One after the other: their times and memory are measured.
//! - A scenario that wrote no line has not passed.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::checks;
use crate::figures::Figure;
use crate::release::report;
use crate::workspace::Workspace;
use crate::{nats, python, shell};

/// What the scenarios are run with.
pub(crate) struct Stage {
    /// The folder with packages and images.
    pub(crate) artefacts: PathBuf,
    /// Names and values of further variables.
    pub(crate) more: Vec<(&'static str, PathBuf)>,
}

/// Runs the scenarios of one group (`container` or `machine`) whose names contain `only`, has each
/// append its line to `lines`, and returns what they found there.
pub(crate) fn run(
    workspace: &Workspace,
    stage: &Stage,
    group: &str,
    only: &str,
    lines: &Path,
) -> anyhow::Result<Vec<Figure>> {
    // What hubs, authorities and analysts of the rig run: everything, from the sources as they are.
    let mut build = checks::linting_cargo(workspace);
    build.args(["build", "--workspace", "--bin", "tidegate"]);
    shell::run("build what the rig's hub runs", &mut build)?;
    let mut command = checks::linting_cargo(workspace);
    let nextest = workspace.cargo().args(["nextest", "--version"]).output();
    let has_nextest = nextest.is_ok_and(|output| output.status.success());
    // All packages, so that dependencies have the features that every other command gives them.
    let selection =
        ["--workspace", "--features", "tidegate-hil-tests/appliance", "--test", "appliance"];
    if has_nextest {
        command.args(["nextest", "run", "--profile", "appliance"]).args(selection);
        command.args(["-E", &format!("test(/^{group}::.*{only}/)")]);
    } else {
        command.arg("test").args(selection).args(["--", "--test-threads=1"]);
        command.arg(format!("{group}::{only}"));
    }
    command
        .env(nats::VARIABLE, nats::provide(workspace)?)
        .env("TIDEGATE_PYTHON", python::provide(workspace)?)
        .env("TIDEGATE_BIN", workspace.gateway_binary())
        .env("TIDEGATE_APPLIANCE", &stage.artefacts)
        .env("TIDEGATE_REPORT", lines)
        .env("RUST_LIB_BACKTRACE", "0")
        .envs(stage.more.iter().map(|(name, value)| (name, value)));
    let ran = shell::run(&format!("live through the scenarios: {group}"), &mut command);
    let text = std::fs::read_to_string(lines).unwrap_or_default();
    let found = report::scenarios(&text).with_context(|| format!("in {}", lines.display()))?;
    for scenario in &found {
        shell::say(&format!("{} {} ({:.0} s)", scenario.result, scenario.name, scenario.seconds));
    }
    ran?;
    anyhow::ensure!(!found.is_empty(), "no scenario of {group} ran whose name contains {only:?}");
    Ok(found.into_iter().flat_map(|scenario| scenario.figures).collect())
}
