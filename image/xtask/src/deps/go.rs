//! Known vulnerabilities of the Go modules in the nats-server that packages bring along.
//!
//! # Invariants
//! - A build whose sum is pinned and whose modules nobody wrote down is a mistake: its modules are
//!   judged before it is shipped.
//! - A module in the range of an advisory needs a written judgement, and one that nothing needs any
//!   more is a mistake.
//! - "Not linked" is not believed where the program is at hand: its own tables are looked at.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use toml_span::Value as Toml;

use super::policy::{tables, text, texts};
use super::version::{self, Version};
use crate::deb::go::build_info;
use crate::workspace::Workspace;

/// A build of the server, by the sums that pins know it by.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Build {
    /// Where it comes from, in a word.
    from: String,
    sums: Vec<String>,
    /// A module, or `std` for Go's own library, and its version.
    modules: Vec<(String, String)>,
}

/// An advisory of Go's database.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Advisory {
    id: String,
    module: String,
    title: String,
    /// Ranges of versions that have the fix.
    patched: Vec<String>,
    /// Ranges that never had the fault.
    unaffected: Vec<String>,
    /// Packages without which the fault is not in a program.
    packages: Vec<String>,
    /// What a person says of builds in its range, and why.
    judged: Option<String>,
}

/// What was judged of the server's modules.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) builds: Vec<Build>,
    pub(super) advisories: Vec<Advisory>,
}

/// A program that is at hand, and the sum of what it came out of.
#[derive(Debug)]
struct Program {
    path: PathBuf,
    sum: String,
    bytes: Vec<u8>,
    /// The same as a text, which is searched faster.
    names: String,
}

impl Program {
    fn new(path: PathBuf, sum: String, bytes: Vec<u8>) -> Self {
        let names = String::from_utf8_lossy(&bytes).into_owned();
        Self { path, sum, bytes, names }
    }
}

impl Judged {
    pub(super) fn of(root: &Toml<'_>) -> anyhow::Result<Self> {
        let builds = tables(root, "/go-build").map(|one| {
            let modules = texts(one, "/modules").into_iter().map(|line| {
                let (path, version) =
                    line.split_once(' ').with_context(|| format!("{line:?} has no version"))?;
                Ok((path.to_owned(), version.to_owned()))
            });
            Ok(Build {
                from: text(one, "from")?,
                sums: texts(one, "/sums"),
                modules: modules.collect::<anyhow::Result<_>>()?,
            })
        });
        let advisories = tables(root, "/go-advisory").map(|one| {
            Ok(Advisory {
                id: text(one, "id")?,
                module: text(one, "module")?,
                title: text(one, "title")?,
                patched: texts(one, "/patched"),
                unaffected: texts(one, "/unaffected"),
                packages: texts(one, "/packages"),
                judged: one.pointer("/judged").map(|_| text(one, "judged")).transpose()?,
            })
        });
        Ok(Self {
            builds: builds.collect::<anyhow::Result<_>>()?,
            advisories: advisories.collect::<anyhow::Result<_>>()?,
        })
    }
}

/// Every mistake, with the programs that are at hand.
pub(super) fn mistakes(
    workspace: &Workspace,
    judged: &Judged,
    pinned: &[String],
) -> anyhow::Result<Vec<String>> {
    let mut wrong = unjudged(judged, pinned);
    wrong.extend(vulnerable(judged)?);
    for program in programs(workspace) {
        wrong.extend(differing(judged, &program)?);
    }
    Ok(wrong)
}

/// Builds that pins name and nobody looked into, and the other way round.
fn unjudged(judged: &Judged, pinned: &[String]) -> Vec<String> {
    let known: BTreeSet<&String> = judged.builds.iter().flat_map(|build| &build.sums).collect();
    let pinned: BTreeSet<&String> = pinned.iter().collect();
    let new = pinned.difference(&known).map(|sum| {
        format!(
            "image/pins.toml has a nats-server with the sum {sum}, and nobody looked for advisories \
             of its Go modules; write it into a go-build of image/advisories.toml"
        )
    });
    let gone = known.difference(&pinned).map(|sum| {
        format!("image/advisories.toml has a go-build with the sum {sum}, which is not pinned")
    });
    new.chain(gone).collect()
}

fn vulnerable(judged: &Judged) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    for advisory in &judged.advisories {
        let mut is_needed = false;
        for build in &judged.builds {
            for (_, found) in build.modules.iter().filter(|(path, _)| *path == advisory.module) {
                let version = Version::parse(found)?;
                if !version::is_affected(&version, &advisory.patched, &advisory.unaffected)? {
                    continue;
                }
                is_needed = true;
                if advisory.judged.is_none() {
                    wrong.push(format!(
                        "nats-server ({}) has {} {found}, and that has {}: {}; pin one with {:?}, or \
                         write in image/advisories.toml how it was judged",
                        build.from, advisory.module, advisory.id, advisory.title, advisory.patched
                    ));
                }
            }
        }
        if advisory.judged.is_some() && !is_needed {
            wrong.push(format!(
                "image/advisories.toml judges {}, which no nats-server has any more; take the \
                 judgement out",
                advisory.id
            ));
        }
    }
    Ok(wrong)
}

/// Where a program is not what was written down of its build.
fn differing(judged: &Judged, program: &Program) -> anyhow::Result<Vec<String>> {
    let shown = program.path.display();
    let Some(build) = judged.builds.iter().find(|build| build.sums.contains(&program.sum)) else {
        return Ok(Vec::new());
    };
    let (go, mut found) =
        build_info(&program.bytes).with_context(|| format!("{shown} is no Go program"))?;
    for (_, version) in &mut found {
        *version = version.trim_start_matches('v').to_owned();
    }
    // A program built without modules, as Debian's is, tells its Go version alone.
    let whole = !found.is_empty();
    found.push(("std".to_owned(), go.trim_start_matches("go").to_owned()));
    let mut wrong = Vec::new();
    for (path, version) in &found {
        let written = build.modules.iter().find(|(known, _)| known == path);
        if written.is_none_or(|(_, written)| written != version) {
            wrong.push(format!(
                "{shown} has {path} {version}, and the go-build {} of image/advisories.toml has not",
                build.from
            ));
        }
    }
    let gone = build.modules.iter().filter(|(path, _)| !found.iter().any(|(has, _)| has == path));
    wrong.extend(gone.filter(|_| whole).map(|(path, _)| {
        format!("{shown} has no {path}; take it out of the go-build {}", build.from)
    }));
    for advisory in judged.advisories.iter().filter(|one| one.judged.is_some()) {
        let linked = advisory.packages.iter().filter(|package| is_linked(program, package));
        wrong.extend(linked.map(|package| {
            format!("{shown} has the package {package}, which {} was judged to lack", advisory.id)
        }));
    }
    Ok(wrong)
}

/// Whether a function of a package is in the program's table of names, which stripping leaves.
fn is_linked(program: &Program, package: &str) -> bool {
    program.names.contains(&format!("{package}."))
}

/// The servers that a test or a packaging put in place, each beside its stamp.
fn programs(workspace: &Workspace) -> Vec<Program> {
    let appliance = std::fs::read_dir(workspace.target.join("appliance"));
    let folders = appliance.into_iter().flatten().flatten().map(|entry| entry.path());
    folders.chain([workspace.tools()]).filter_map(|folder| program(&folder)).collect()
}

fn program(folder: &Path) -> Option<Program> {
    let stamp = std::fs::read_to_string(folder.join("nats-server.stamp")).ok()?;
    // The first is of what it came out of; another may follow, of the program itself.
    let sum = stamp.split_whitespace().find(|word| word.len() == 64)?.to_owned();
    let path = folder.join("nats-server");
    let bytes = std::fs::read(&path).ok()?;
    Some(Program::new(path, sum, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79";

    fn judged(verdict: &str) -> Judged {
        let text = format!(
            "[[go-build]]\nfrom = 'wheel'\nsums = ['{SUM}']\nmodules = ['std 1.27.2', 'a.org/b 1.20.1']\n\
             [[go-advisory]]\nid = 'GO-1'\nmodule = 'a.org/b'\ntitle = 'it breaks'\n\
             patched = ['>= 1.20.2']\nunaffected = ['< 1.0']\npackages = ['a.org/b/c']\n{verdict}\n"
        );
        Judged::of(&toml_span::parse(&text).unwrap()).unwrap()
    }

    const ABSENT: &str = "judged = 'c is not linked'";

    fn program(content: &str) -> Program {
        let mut bytes =
            crate::deb::go::tests::program("path\tx\nmod\ta.org/b\tv1.20.1\t\nbuild\tGOOS=linux\n");
        bytes.extend_from_slice(content.as_bytes());
        Program::new("nats-server".into(), SUM.into(), bytes)
    }

    #[test]
    fn a_module_in_the_range_of_an_advisory_needs_a_written_judgement() {
        let wrong = vulnerable(&judged("")).unwrap();
        assert_eq!(wrong.len(), 1);
        let expected = "nats-server (wheel) has a.org/b 1.20.1, and that has GO-1: it breaks";
        assert!(wrong[0].starts_with(expected), "{wrong:?}");
        assert_eq!(vulnerable(&judged(ABSENT)).unwrap(), [""; 0]);
    }

    #[test]
    fn a_judgement_that_nothing_needs_any_more_is_taken_out() {
        for version in ["1.20.2", "0.9.0"] {
            let mut judged = judged(ABSENT);
            judged.builds[0].modules[1].1 = version.into();
            assert!(vulnerable(&judged).unwrap()[0].contains("take the judgement out"));
            judged.advisories[0].judged = None;
            assert_eq!(vulnerable(&judged).unwrap(), [""; 0]);
        }
    }

    #[test]
    fn another_build_of_the_server_waits_for_a_person() {
        assert_eq!(unjudged(&judged(""), &[SUM.into()]), [""; 0]);
        let wrong = unjudged(&judged(""), &["ab".into()]);
        assert!(wrong[0].contains("a nats-server with the sum ab, and nobody looked"), "{wrong:?}");
        assert!(wrong[1].contains(SUM) && wrong[1].contains("is not pinned"), "{wrong:?}");
    }

    #[test]
    fn a_program_that_is_at_hand_must_be_what_was_written_down() {
        let mut judged = judged(ABSENT);
        let said = |judged: &Judged| differing(judged, &program("")).unwrap().join("\n");
        assert_eq!(said(&judged), "");
        judged.builds[0].modules[1].1 = "1.20.0".into();
        assert!(said(&judged).contains("nats-server has a.org/b 1.20.1, and the go-build wheel"));
        judged.builds[0].modules[1].1 = "1.20.1".into();
        judged.builds[0].modules.push(("a.org/x".into(), "1.0.0".into()));
        assert!(said(&judged).contains("nats-server has no a.org/x"));
        judged.builds[0].sums.clear();
        assert_eq!(said(&judged), "", "a program of another build says nothing");
    }

    #[test]
    fn a_package_that_was_judged_not_to_be_linked_is_looked_for() {
        let wrong = differing(&judged(ABSENT), &program("a.org/b/c.Decode")).unwrap();
        let expected = "nats-server has the package a.org/b/c, which GO-1 was judged to lack";
        assert_eq!(wrong, [expected]);
        assert_eq!(differing(&judged(ABSENT), &program("a.org/b/cd.Decode")).unwrap(), [""; 0]);
    }

    #[test]
    fn an_advisory_is_read_with_its_judgement_or_not_at_all() {
        let text = "[[go-advisory]]\nid = 'GO-1'\nmodule = 'a'\ntitle = 't'\njudged = ' '\n";
        let error = Judged::of(&toml_span::parse(text).unwrap()).unwrap_err();
        assert!(error.to_string().contains("no judged"), "{error}");
        let text = "[[go-build]]\nfrom = 'x'\nmodules = ['std']\n";
        let error = Judged::of(&toml_span::parse(text).unwrap()).unwrap_err();
        assert!(error.to_string().contains("\"std\" has no version"), "{error}");
    }
}
