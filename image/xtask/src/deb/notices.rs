//! The notices of everything in a package: whose it is, its licence's text, where source is to be had.
//!
//! # Invariants
//! - Every crate and every module is listed and has at least one text; one without is an error.
//! - A text that several have stands once, with all their names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

use super::crates::Crate;
use super::go::Module;

/// How files with terms begin, in capitals.
const TERMS: [&str; 7] =
    ["LICEN", "COPYING", "NOTICE", "UNLICENSE", "COPYRIGHT", "PATENTS", "AUTHORS"];

const APACHE: &str = include_str!("../../../../LICENSE-APACHE");
const BSD: &str = include_str!("../../../licences/BSD-3-Clause.txt");
const MIT: &str = include_str!("../../../licences/MIT.txt");
const MPL: &str = include_str!("../../../licences/MPL-2.0.txt");

/// The whole document.
pub(super) fn write(crates: &[Crate], modules: &[Module]) -> anyhow::Result<String> {
    let mut text = String::from(HEAD);
    let mut texts = Texts::default();
    for one in crates.iter().filter(|one| one.sha256.is_some()) {
        let named = format!("{} {}", one.name, one.version);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{named}: {} {}", one.licence, one.repository);
        for terms in terms_of(one)? {
            texts.add(&named, &terms);
        }
    }
    text.push_str(RUST);
    texts.add("Rust's standard library", APACHE);
    texts.add(
        "Rust's standard library",
        &format!("Copyright (c) The Rust Project Contributors\n\n{MIT}"),
    );
    text.push_str(MPL_HEAD);
    let mpl: Vec<_> = crates.iter().filter(|one| one.licence.contains("MPL-2.0")).collect();
    for one in &mpl {
        ensure!(!one.repository.is_empty(), "{} is under MPL-2.0 and names no source", one.name);
        let _ = writeln!(text, "{} {}: {}", one.name, one.version, one.repository);
    }
    text.push_str(GO_HEAD);
    for module in modules {
        let named = format!("{} {}", module.path, module.version);
        let _ = writeln!(text, "{named}: {} (Copyright {})", module.licence, module.copyright);
        for id in module.licence.split(" AND ") {
            let terms = standard(id, &format!("Copyright {}", module.copyright));
            texts.add(&named, &terms.with_context(|| format!("{named}: no text of {id}"))?);
        }
    }
    text.push_str(&texts.written());
    Ok(text)
}

const HEAD: &str = "\
Notices of everything that is in Tidegate's programs and not Tidegate's own. Tidegate itself is under
Apache-2.0 OR MIT, see copyright. The SBOM beside this file lists the same with hashes.

== Crates in /usr/bin/tidegate ==

";
const RUST: &str = "Rust's standard library: Apache-2.0 OR MIT https://github.com/rust-lang/rust\n";
const MPL_HEAD: &str = "
== Source of what is under MPL-2.0 ==

These are used as they were published, without a change. Their source in exactly this version is the
crate of that name and version in Rust's package registry, and lies in the repository named here.

";
const GO_HEAD: &str = "\n== Modules in /usr/lib/tidegate/nats-server ==\n\n";

/// Texts with who has them, told apart by their words alone.
#[derive(Default)]
struct Texts(BTreeMap<String, (String, Vec<String>)>);

impl Texts {
    fn add(&mut self, who: &str, text: &str) {
        let key = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, names) = self.0.entry(key).or_insert_with(|| (text.trim().to_owned(), Vec::new()));
        if names.last().is_none_or(|last| last != who) {
            names.push(who.to_owned());
        }
    }

    /// All of them, in the order of the first that has each.
    fn written(self) -> String {
        let mut all: Vec<_> = self.0.into_values().collect();
        all.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
        let mut out = String::new();
        for (text, names) in all {
            let _ = write!(out, "\n== {} ==\n\n{text}\n", names.join(", "));
        }
        out
    }
}

/// The texts in a crate's folder, or the standard ones of its licences.
fn terms_of(one: &Crate) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(&one.folder)
        .with_context(|| format!("{} is not readable", one.folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.is_file() && has_terms(path)) {
        let bytes = std::fs::read(path)?;
        found.push(String::from_utf8_lossy(&bytes).replace("\r\n", "\n"));
    }
    if found.is_empty() {
        let whose = match one.authors.join(", ") {
            authors if authors.is_empty() => format!("The authors of {}", one.repository),
            authors => authors,
        };
        let whose = format!("Copyright {whose}");
        let ids = one.licence.split([' ', '(', ')']);
        found = ids.filter_map(|id| standard(id, &whose)).collect();
    }
    ensure!(
        !found.is_empty(),
        "{} {} has no licence text, and {} none that is kept in image/licences",
        one.name,
        one.version,
        one.licence
    );
    Ok(found)
}

fn has_terms(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_uppercase());
    let name = name.unwrap_or_default();
    TERMS.iter().any(|begin| name.starts_with(begin)) && !name.ends_with(".RS")
}

/// The text of a licence that is the same for all, under whose it is where the licence says that.
fn standard(id: &str, whose: &str) -> Option<String> {
    match id {
        "Apache-2.0" => Some(format!("{whose}\n\n{APACHE}")),
        "MPL-2.0" => Some(MPL.to_owned()),
        "MIT" => Some(format!("{whose}\n\n{MIT}")),
        "BSD-3-Clause" => Some(format!("{whose}\n\n{BSD}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, licence: &str, folder: &Path) -> Crate {
        Crate {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: licence.to_owned(),
            repository: format!("https://example.org/{name}"),
            authors: vec!["Ann".to_owned()],
            folder: folder.to_owned(),
            sha256: Some("00".repeat(32)),
            uses: Vec::new(),
        }
    }

    #[test]
    fn equal_texts_stand_once_and_mpl_parts_say_where_their_source_is() {
        let folder = tempfile::tempdir().unwrap();
        let (a, none) = (folder.path().join("a"), folder.path().join("none"));
        for path in [&a, &none] {
            std::fs::create_dir(path).unwrap();
        }
        std::fs::write(a.join("LICENSE-MIT"), "Terms  of\r\nAnn\n").unwrap();
        let crates = [one("x", "MIT", &a), one("y", "MIT", &a), one("ua", "MPL-2.0", &none)];
        let module = Module {
            path: "std".to_owned(),
            version: "1.27".to_owned(),
            licence: "BSD-3-Clause".to_owned(),
            copyright: "2009 Go".to_owned(),
        };
        let text = write(&crates, &[module]).unwrap();
        assert_eq!(text.matches("Terms  of\nAnn").count(), 1);
        assert!(text.contains("== x 1.0.0, y 1.0.0 =="), "{text}");
        assert!(text.contains("ua 1.0.0: https://example.org/ua"));
        assert!(text.contains("Mozilla Public License") && text.contains("Copyright 2009 Go"));
        let unknown = [one("z", "Beerware", &none)];
        assert!(write(&unknown, &[]).unwrap_err().to_string().contains("Beerware"));
    }
}
