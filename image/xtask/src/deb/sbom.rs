//! The list of everything in a package: CycloneDX 1.6 as JSON.
//!
//! # Invariants
//! - The same package gives the same bytes: no moment but that of the commit, no random number.
//! - What is written was checked against the rules in [`faults`]: a list that breaks one is not packed.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::{Value, json};

use super::crates::Crate;
use super::go::Module;

/// What the list is of.
pub(super) struct Of<'a> {
    /// Debian's name of the package, its version and architecture.
    pub(super) package: &'a str,
    pub(super) version: &'a str,
    pub(super) architecture: &'a str,
    /// SHA-256 of the two programs.
    pub(super) program: &'a str,
    pub(super) server: &'a str,
    /// Moment of the commit, RFC 3339.
    pub(super) moment: &'a str,
}

/// The list.
pub(super) fn write(of: &Of<'_>, crates: &[Crate], modules: &[Module]) -> anyhow::Result<String> {
    let root = format!("pkg:deb/debian/{}@{}?arch={}", of.package, of.version, of.architecture);
    let mut components: Vec<_> = crates.iter().map(library).collect();
    let mut dependencies: Vec<_> = crates
        .iter()
        .map(|one| {
            let on: Vec<_> = one.uses.iter().map(|(name, version)| cargo(name, version)).collect();
            json!({"ref": cargo(&one.name, &one.version), "dependsOn": on})
        })
        .collect();
    let on: Vec<_> = modules.iter().skip(1).map(golang).collect();
    for (index, module) in modules.iter().enumerate() {
        let is_server = index == 0;
        components.push(part_of_server(module, is_server.then_some(of.server)));
        let on = if is_server { on.clone() } else { Vec::new() };
        dependencies.push(json!({"ref": golang(module), "dependsOn": on}));
    }
    let top = crates.iter().filter(|one| one.name == "tidegate");
    let top: Vec<_> = top.map(|one| cargo(&one.name, &one.version)).collect();
    let top: Vec<_> = top.into_iter().chain(modules.first().map(golang)).collect();
    dependencies.push(json!({"ref": root, "dependsOn": top}));
    let mut list = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": of.moment,
            "tools": {"components": [
                {"type": "application", "name": "cargo xtask deb", "version": env!("CARGO_PKG_VERSION")}
            ]},
            "component": {
                "type": "application", "bom-ref": root, "purl": root, "name": of.package,
                "version": of.version, "licenses": [{"expression": "Apache-2.0 OR MIT"}],
                "hashes": [{"alg": "SHA-256", "content": of.program}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    // By the content: the same list has the same number.
    list["serialNumber"] = json!(format!("urn:uuid:{}", uuid(&list.to_string())));
    let faults = faults(&list);
    ensure!(faults.is_empty(), "the SBOM breaks rules of CycloneDX: {}", faults.join("; "));
    Ok(serde_json::to_string_pretty(&list)? + "\n")
}

fn library(one: &Crate) -> Value {
    let id = cargo(&one.name, &one.version);
    let mut part = json!({
        "type": "library", "bom-ref": id, "purl": id, "name": one.name, "version": one.version,
        "licenses": [{"expression": one.licence}],
    });
    if let Some(sha256) = &one.sha256 {
        part["hashes"] = json!([{"alg": "SHA-256", "content": sha256}]);
    }
    if one.repository.starts_with("http") {
        part["externalReferences"] = json!([{"type": "vcs", "url": one.repository}]);
    }
    part
}

fn part_of_server(module: &Module, sha256: Option<&str>) -> Value {
    let id = golang(module);
    let kind = if sha256.is_some() { "application" } else { "library" };
    let mut part = json!({
        "type": kind, "bom-ref": id, "purl": id, "name": module.path, "version": module.version,
        "licenses": [{"expression": module.licence}],
        "copyright": format!("Copyright {}", module.copyright),
    });
    if let Some(sha256) = sha256 {
        part["hashes"] = json!([{"alg": "SHA-256", "content": sha256}]);
    }
    part
}

fn cargo(name: &str, version: &str) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

fn golang(module: &Module) -> String {
    format!("pkg:golang/{}@{}", module.path, module.version.replace('+', "%2B"))
}

/// A UUID made of a hash, marked as one of its maker's own kind (version 8).
fn uuid(text: &str) -> String {
    let hash = blake3::hash(text.as_bytes()).to_hex();
    let hash = hash.as_str();
    let part = |from: usize, to: usize| hash.get(from..to).unwrap_or_default();
    format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(12, 15), part(15, 18), part(18, 30))
}

/// What breaks the rules that CycloneDX 1.6 and package URLs have for what we write.
pub(super) fn faults(list: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let word = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    for (key, wanted) in [("bomFormat", "CycloneDX"), ("specVersion", "1.6")] {
        if word(list, key) != wanted {
            faults.push(format!("{key} is {}", list[key]));
        }
    }
    let serial = word(list, "serialNumber");
    let digits = serial.strip_prefix("urn:uuid:").map(|uuid| uuid.split('-').map(str::len));
    if !digits.is_some_and(|lengths| lengths.eq([8, 4, 4, 4, 12])) {
        faults.push(format!("serialNumber is {serial:?}"));
    }
    let moment = word(&list["metadata"], "timestamp");
    if moment.len() != 20 || !moment.ends_with('Z') || moment.as_bytes().get(10) != Some(&b'T') {
        faults.push(format!("timestamp is {moment:?}"));
    }
    let parts = list["components"].as_array().into_iter().flatten();
    let mut ids = BTreeSet::new();
    for part in parts.chain([&list["metadata"]["component"]]) {
        let (name, id) = (word(part, "name"), word(part, "bom-ref"));
        if !["application", "library"].contains(&word(part, "type").as_str()) {
            faults.push(format!("{name}: type is {}", part["type"]));
        }
        if name.is_empty() || word(part, "version").is_empty() {
            faults.push(format!("{id}: no name or no version"));
        }
        if !is_package_url(&word(part, "purl")) {
            faults.push(format!("{name}: purl is {}", part["purl"]));
        }
        if !part["licenses"][0]["expression"].as_str().is_some_and(is_spdx) {
            faults.push(format!("{name}: licence is {}", part["licenses"]));
        }
        for hash in part["hashes"].as_array().into_iter().flatten() {
            let content = word(hash, "content");
            let is_hex = content.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if word(hash, "alg") != "SHA-256" || content.len() != 64 || !is_hex {
                faults.push(format!("{name}: hash is {hash}"));
            }
        }
        if id.is_empty() || !ids.insert(id.clone()) {
            faults.push(format!("{name}: bom-ref {id:?} is empty or there twice"));
        }
    }
    let mut told = BTreeSet::new();
    for dependency in list["dependencies"].as_array().into_iter().flatten() {
        let on = dependency["dependsOn"].as_array().into_iter().flatten();
        for id in on.chain([&dependency["ref"]]).filter_map(Value::as_str) {
            if !ids.contains(id) {
                faults.push(format!("dependencies name {id}, which is no component"));
            }
        }
        if !told.insert(word(dependency, "ref")) {
            faults.push(format!("dependencies name {} twice", dependency["ref"]));
        }
    }
    faults
}

fn is_package_url(text: &str) -> bool {
    let Some((kind, rest)) = text.strip_prefix("pkg:").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let Some((name, version)) = rest.split_once('@') else { return false };
    let version = version.split('?').next().unwrap_or_default();
    let is_plain =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%/".contains(&b));
    ["cargo", "deb", "golang"].contains(&kind)
        && !name.is_empty()
        && !version.is_empty()
        && is_plain(name)
        && is_plain(version)
}

/// Identifiers, one operator between two of them, and parentheses that fit.
fn is_spdx(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    let (mut depth, mut wants_term) = (0_u32, true);
    for word in spaced.split_whitespace() {
        let fits = match word {
            "(" => {
                depth += 1;
                wants_term
            }
            ")" => {
                let open = depth > 0;
                depth = depth.saturating_sub(1);
                open && !wants_term
            }
            "AND" | "OR" | "WITH" => !std::mem::replace(&mut wants_term, true),
            id => {
                let is_plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.+".contains(&b));
                is_plain && std::mem::replace(&mut wants_term, false)
            }
        };
        if !fits {
            return false;
        }
    }
    depth == 0 && !wants_term
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> String {
        let one = |name: &str, uses: &[&str]| Crate {
            name: name.to_owned(),
            version: "1.0.0+x".to_owned(),
            licence: "(MIT OR Apache-2.0) AND Unicode-3.0".to_owned(),
            repository: "https://example.org".to_owned(),
            authors: Vec::new(),
            folder: std::path::PathBuf::new(),
            sha256: Some("ab".repeat(32)),
            uses: uses.iter().map(|u| ((*u).to_owned(), "1.0.0+x".to_owned())).collect(),
        };
        let module = |path: &str| Module {
            path: path.to_owned(),
            version: "v2.15.1".to_owned(),
            licence: "Apache-2.0".to_owned(),
            copyright: "2026 Ann".to_owned(),
        };
        let hash = "01".repeat(32);
        let of = Of {
            package: "tidegate",
            version: "0.1.0-1",
            architecture: "amd64",
            program: &hash,
            server: &hash,
            moment: "2026-11-30T10:00:00Z",
        };
        let modules = [module("github.com/nats-io/nats-server/v2"), module("std")];
        write(&of, &[one("b", &[]), one("tidegate", &["b"])], &modules).unwrap()
    }

    #[test]
    fn the_list_keeps_the_rules_and_is_the_same_again() {
        let text = example();
        assert_eq!(text, example());
        let list: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(faults(&list), [""; 0]);
        assert_eq!(list["components"].as_array().unwrap().len(), 4);
        assert_eq!(list["components"][0]["purl"], "pkg:cargo/b@1.0.0%2Bx");
    }

    #[test]
    fn each_broken_rule_is_named() {
        let list: Value = serde_json::from_str(&example()).unwrap();
        let broken: [(&str, Value, &str); 9] = [
            ("/specVersion", json!("2"), "specVersion"),
            ("/serialNumber", json!("7"), "serialNumber"),
            ("/metadata/timestamp", json!("today"), "timestamp"),
            ("/components/0/bom-ref", json!("pkg:cargo/tidegate@1.0.0%2Bx"), "twice"),
            ("/components/0/purl", json!("cargo/b"), "purl"),
            ("/components/0/licenses/0/expression", json!("MIT/Apache-2.0"), "licence"),
            ("/components/0/hashes/0/content", json!("ab"), "hash"),
            ("/components/0/version", json!(""), "no version"),
            ("/dependencies/1/dependsOn/0", json!("pkg:cargo/c@1"), "no component"),
        ];
        for (pointer, value, expected) in broken {
            let mut list = list.clone();
            *list.pointer_mut(pointer).unwrap() = value;
            let found = faults(&list);
            assert!(found.iter().any(|fault| fault.contains(expected)), "{pointer}: {found:?}");
        }
    }

    #[test]
    fn expressions_of_licences_are_told_from_other_words() {
        for good in ["MIT", "Apache-2.0 WITH LLVM-exception OR MIT", "(A OR B) AND C"] {
            assert!(is_spdx(good), "{good}");
        }
        for bad in ["", "MIT Apache-2.0", "MIT OR", "(MIT", "MIT)", "MIT/Apache-2.0", "OR MIT"] {
            assert!(!is_spdx(bad), "{bad}");
        }
    }
}
