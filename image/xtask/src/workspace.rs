//! Where the workspace and its target directory are, and what packages it has.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use crate::shell;

/// The workspace, as cargo describes it.
pub(crate) struct Workspace {
    /// The directory of the virtual manifest.
    pub(crate) root: PathBuf,
    /// The target directory.
    pub(crate) target: PathBuf,
    /// Its members.
    pub(crate) packages: Vec<Package>,
}

/// One member.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its directory, relative to the workspace root, with `/`.
    pub(crate) directory: String,
    /// The packages that it depends on: ordinary, build and development alike.
    pub(crate) dependencies: Vec<String>,
    /// Its examples.
    pub(crate) examples: Vec<String>,
}

impl Workspace {
    /// Asks cargo about the workspace that this program was started from.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let mut command = Command::new(cargo_program());
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        // Set by `cargo run`; the alias works from any directory of the workspace.
        if let Some(manifest) = std::env::var_os("CARGO_MANIFEST_DIR") {
            command.current_dir(manifest);
        }
        let output = command.output().context("cargo did not start")?;
        anyhow::ensure!(
            output.status.success(),
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self::from_metadata(&serde_json::from_slice(&output.stdout)?)
            .context("cargo metadata has an unknown form")
    }

    /// What stands for the time of a build, in seconds since 1970: `SOURCE_DATE_EPOCH`, or when the
    /// sources were committed.
    pub(crate) fn epoch(&self) -> anyhow::Result<u64> {
        if let Ok(set) = std::env::var("SOURCE_DATE_EPOCH") {
            return set.parse().ok().with_context(|| {
                format!("SOURCE_DATE_EPOCH is {set:?}; set it to seconds since 1970")
            });
        }
        let mut git = Command::new("git");
        let committed = shell::ask(git.current_dir(&self.root).args(["log", "-1", "--format=%ct"]));
        committed.and_then(|seconds| seconds.parse().ok()).context(
            "git does not say when the sources were committed; set SOURCE_DATE_EPOCH to seconds \
             since 1970",
        )
    }

    fn from_metadata(metadata: &Value) -> Option<Self> {
        let root = PathBuf::from(metadata["workspace_root"].as_str()?);
        let packages = metadata["packages"].as_array()?;
        Some(Self {
            packages: packages.iter().map(|p| package(p, &root)).collect::<Option<_>>()?,
            target: PathBuf::from(metadata["target_directory"].as_str()?),
            root,
        })
    }

    /// Cargo, run in the workspace root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(cargo_program());
        command.current_dir(&self.root);
        // What `cargo run` set for this program is not meant for the next one.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command
    }

    /// Where fetched tools live.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// The gateway as the development profile builds it.
    pub(crate) fn gateway_binary(&self) -> PathBuf {
        self.target.join("debug").join("tidegate")
    }
}

fn cargo_program() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn package(package: &Value, root: &Path) -> Option<Package> {
    let manifest = Path::new(package["manifest_path"].as_str()?);
    let directory = manifest.parent()?.strip_prefix(root).ok()?;
    let names = |values: &Value| -> Option<Vec<String>> {
        values.as_array()?.iter().map(|v| v["name"].as_str().map(str::to_owned)).collect()
    };
    let targets = package["targets"].as_array()?;
    let examples = targets
        .iter()
        .filter(|t| t["kind"].as_array().is_some_and(|k| k.iter().any(|k| k == "example")))
        .filter_map(|t| t["name"].as_str().map(str::to_owned))
        .collect();
    Some(Package {
        name: package["name"].as_str()?.to_owned(),
        directory: directory.to_string_lossy().replace('\\', "/"),
        dependencies: names(&package["dependencies"])?,
        examples,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_into_packages() {
        let metadata = serde_json::json!({
            "workspace_root": "/w", "target_directory": "/t",
            "packages": [{
                "name": "a", "manifest_path": "/w/x/a/Cargo.toml",
                "dependencies": [{"name": "b"}],
                "targets": [{"name": "a", "kind": ["lib"]}, {"name": "bench_x", "kind": ["example"]}],
            }],
        });
        let workspace = Workspace::from_metadata(&metadata).unwrap();
        let a = &workspace.packages[0];
        assert_eq!((a.name.as_str(), a.directory.as_str()), ("a", "x/a"));
        assert_eq!(a.dependencies, ["b"]);
        assert_eq!(a.examples, ["bench_x"]);
        assert_eq!(workspace.gateway_binary(), Path::new("/t/debug/tidegate"));
    }
}
