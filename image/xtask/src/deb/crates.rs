//! Which crates are in a program, and what cargo knows of them.
//!
//! # Invariants
//! - Crates that only run while something is built (procedural macros, build scripts) are not among
//!   them: nothing of theirs is handed on.
//! - Versions, sources and hashes are those of Cargo.lock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, ensure};
use serde_json::Value;

use super::Variant;
use crate::arch::Arch;
use crate::workspace::Workspace;

/// One crate in a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) version: String,
    /// SPDX.
    pub(super) licence: String,
    /// Where its source is developed; empty when it does not say.
    pub(super) repository: String,
    /// Its authors as it names them.
    pub(super) authors: Vec<String>,
    /// Where its source lies here.
    pub(super) folder: PathBuf,
    /// SHA-256 of its archive; `None` for the workspace's own.
    pub(super) sha256: Option<String>,
    /// The crates in the same program that it uses: name and version.
    pub(super) uses: Vec<(String, String)>,
}

/// Every crate in the program of `variant` for `arch`, in the order of names.
pub(super) fn of(
    workspace: &Workspace,
    arch: Arch,
    variant: Variant,
) -> anyhow::Result<Vec<Crate>> {
    let mut tree = workspace.cargo();
    tree.args(["tree", "--locked", "--package", "tidegate", "--edges", "normal,no-proc-macro"]);
    tree.args(["--target", arch.triple(), "--prefix", "none", "--format", "{p}"]);
    if variant == Variant::Gateway {
        tree.arg("--no-default-features");
    }
    let mut metadata = workspace.cargo();
    metadata.args(["metadata", "--locked", "--format-version", "1"]);
    metadata.args(["--filter-platform", arch.triple()]);
    let lock = workspace.root.join("Cargo.lock");
    let lock = std::fs::read_to_string(&lock).with_context(|| lock.display().to_string())?;
    joined(
        &output("cargo tree", tree)?,
        &serde_json::from_str(&output("cargo metadata", metadata)?)?,
        &checksums(&lock)?,
    )
}

fn output(what: &str, mut command: std::process::Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{what} did not start"))?;
    ensure!(
        output.status.success(),
        "{what} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

type Named = (String, String);

fn joined(
    tree: &str,
    metadata: &Value,
    checksums: &BTreeMap<Named, String>,
) -> anyhow::Result<Vec<Crate>> {
    let inside: BTreeSet<Named> = tree.lines().filter_map(named).collect();
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let names: BTreeMap<&str, Named> = packages
        .iter()
        .filter_map(|p| Some((p["id"].as_str()?, (word(p, "name"), word(p, "version")))))
        .collect();
    let uses = |id: &str| {
        let nodes = metadata["resolve"]["nodes"].as_array().into_iter().flatten();
        let node = nodes.into_iter().find(|node| node["id"].as_str() == Some(id));
        let deps = node.and_then(|node| node["deps"].as_array()).into_iter().flatten();
        let normal = deps.filter(|dep| {
            let kinds = dep["dep_kinds"].as_array().into_iter().flatten();
            kinds.into_iter().any(|kind| kind["kind"].is_null())
        });
        let named = normal.filter_map(|dep| names.get(dep["pkg"].as_str()?).cloned());
        named.filter(|one| inside.contains(one)).collect::<BTreeSet<_>>().into_iter().collect()
    };
    let mut crates = Vec::new();
    for package in packages {
        let named = (word(package, "name"), word(package, "version"));
        if !inside.contains(&named) {
            continue;
        }
        let manifest = PathBuf::from(word(package, "manifest_path"));
        let licence = word(package, "license").replace(" / ", " OR ").replace('/', " OR ");
        ensure!(!licence.is_empty(), "the crate {} {} names no licence", named.0, named.1);
        let authors = package["authors"].as_array().into_iter().flatten();
        crates.push(Crate {
            licence,
            repository: word(package, "repository"),
            authors: authors.filter_map(|a| a.as_str().map(str::to_owned)).collect(),
            folder: manifest.parent().map(PathBuf::from).unwrap_or_default(),
            sha256: checksums.get(&named).cloned(),
            uses: uses(package["id"].as_str().unwrap_or_default()),
            name: named.0,
            version: named.1,
        });
    }
    ensure!(
        crates.len() == inside.len(),
        "cargo tree names {} crates, cargo metadata knows {} of them",
        inside.len(),
        crates.len()
    );
    crates.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(crates)
}

/// `aes v0.8.4 (*)` → name and version.
fn named(line: &str) -> Option<Named> {
    let mut words = line.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
}

fn word(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn checksums(lock: &str) -> anyhow::Result<BTreeMap<Named, String>> {
    let tree = toml_span::parse(lock).map_err(|error| anyhow!("Cargo.lock: {error}"))?;
    let packages = tree.pointer("/package").and_then(toml_span::Value::as_array);
    let packages = packages.context("Cargo.lock has no packages")?;
    let read = |package: &toml_span::Value<'_>| {
        let table = package.as_table()?;
        let word = |key: &str| table.get(key)?.as_str().map(str::to_owned);
        Some(((word("name")?, word("version")?), word("checksum")?))
    };
    Ok(packages.iter().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_has_what_tree_metadata_and_lock_say_of_it() {
        let tree = "a v1.0.0 (/w/a)\nb v0.2.0\nb v0.2.0 (*)\n";
        let package = |name: &str, version: &str, licence: &str| {
            serde_json::json!({"id": name, "name": name, "version": version, "license": licence,
                "manifest_path": format!("/x/{name}/Cargo.toml"), "authors": ["A"]})
        };
        let metadata = serde_json::json!({
            "packages": [package("b", "0.2.0", "MIT/Apache-2.0"), package("c", "3.0.0", "MIT"),
                package("a", "1.0.0", "MIT")],
            "resolve": {"nodes": [{"id": "a", "deps": [
                {"pkg": "b", "dep_kinds": [{"kind": null}]},
                {"pkg": "c", "dep_kinds": [{"kind": "build"}]}]}]},
        });
        let lock = format!(
            "[[package]]\nname = 'a'\nversion = '1.0.0'\n[[package]]\nname = 'b'\n\
             version = '0.2.0'\nchecksum = '{}'\n",
            "ab".repeat(32)
        );
        let crates = joined(tree, &metadata, &checksums(&lock).unwrap()).unwrap();
        let names: Vec<_> = crates.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(crates[0].uses, [("b".to_owned(), "0.2.0".to_owned())]);
        assert_eq!((crates[0].sha256.is_none(), crates[1].sha256.is_some()), (true, true));
        assert_eq!(crates[1].licence, "MIT OR Apache-2.0");
        assert!(joined("d v1.0.0\n", &metadata, &BTreeMap::new()).is_err());
    }
}
