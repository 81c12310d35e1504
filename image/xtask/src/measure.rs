//! `cargo xtask bench`: the workspace's examples named `bench_…`, in release mode.

use anyhow::bail;

use crate::shell;
use crate::workspace::Workspace;

/// Runs one benchmark or all of them; each prints its own table.
pub(crate) fn bench(workspace: &Workspace, name: Option<&str>) -> anyhow::Result<()> {
    let known: Vec<(&str, &str)> = workspace
        .packages
        .iter()
        .flat_map(|p| p.examples.iter().map(|e| (p.name.as_str(), e.as_str())))
        .filter_map(|(package, example)| Some((package, example.strip_prefix("bench_")?)))
        .collect();
    let chosen: Vec<_> =
        known.iter().filter(|(_, bench)| name.is_none_or(|name| name == *bench)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = known.iter().map(|(_, bench)| *bench).collect();
        let asked = name.unwrap_or("any");
        bail!("no benchmark {asked}; there are: [{}]", names.join(", "));
    }
    for (package, bench) in chosen {
        let mut run = workspace.cargo();
        run.args(["run", "--release", "--package", package, "--example"]);
        run.arg(format!("bench_{bench}"));
        shell::run(&format!("bench {bench}"), &mut run)?;
    }
    Ok(())
}
