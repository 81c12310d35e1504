//! `cargo xtask deps`: licences and known vulnerabilities of everything that is built in, without a
//! network.
//!
//! # Invariants
//! - `deny.toml` is the one list of what is accepted; cargo-deny reads the same, where the network and
//!   the database of advisories can be had.
//! - Each exception has a reason, and one that nothing needs any more is a mistake.
//! - What the checklist of standards names as evidence is there.
//! - A crate that comes in, and a nats-server of another version or build, are judged by a person
//!   first: `image/advisories.toml` says what was looked up and when.

mod evidence;
mod go;
mod licence;
mod policy;
mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::shell;
use crate::workspace::Workspace;
use policy::{Judged, Policy};
use version::Version;

/// What is built for; platforms beyond these bring crates that are never compiled.
const TARGETS: [&str; 3] =
    ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "armv7-unknown-linux-gnueabihf"];

/// What advisories of the server that is brought along call it.
const NATS_SERVER: &str = "nats-server";

/// From how many days on it is said how old the judgement is.
const OLD_DAYS: i64 = 90;

/// A crate of the tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    licence: Option<String>,
    /// Where it comes from; `None` for one of ours.
    source: Option<String>,
}

/// Checks everything, and fails with every mistake.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    shell::say("check the licences and advisories of everything that is built in …");
    let policy = Policy::read(&workspace.root.join("deny.toml"))?;
    let judged = Judged::read(&workspace.root.join("image/advisories.toml"))?;
    let crates = crates(workspace)?;
    let pinned = policy::pinned_server(&workspace.root.join("image/pins.toml"))?;
    let mut mistakes = mistakes(&crates, &policy, &judged, &pinned)?;
    let sums = policy::pinned_sums(&workspace.root.join("image/pins.toml"))?;
    mistakes.extend(go::mistakes(workspace, &judged.go, &sums)?);
    mistakes.extend(evidence::missing(&workspace.root)?);
    if !mistakes.is_empty() {
        bail!("{} mistakes in what is built in:\n  {}", mistakes.len(), mistakes.join("\n  "));
    }
    let foreign = crates.iter().filter(|one| one.source.is_some()).count();
    shell::say(&format!(
        "{foreign} crates: licences allowed; {} advisories judged on {}, {} accepted with a reason; \
         {} crates not looked up one by one; {} advisories of nats-server's Go modules",
        judged.advisories.len(),
        judged.day,
        policy.ignored.len(),
        judged.not_looked_up.len(),
        judged.go.advisories.len(),
    ));
    if let Some(days) = age(&judged.day, today()).filter(|days| *days > OLD_DAYS) {
        shell::say(&format!(
            "ADVISORIES JUDGED {days} DAYS AGO: run cargo deny check advisories where there is a \
             network, and bring image/advisories.toml up to date"
        ));
    }
    Ok(())
}

/// Every crate that is compiled for any of the targets.
fn crates(workspace: &Workspace) -> anyhow::Result<BTreeSet<Crate>> {
    let mut all = BTreeSet::new();
    for target in TARGETS {
        let metadata = |offline: bool| -> anyhow::Result<Output> {
            let mut command = workspace.cargo();
            command.args(["metadata", "--format-version", "1", "--locked"]);
            command.args(["--filter-platform", target]);
            if offline {
                command.arg("--offline");
            }
            command.output().context("cargo did not start")
        };
        let mut output = metadata(true)?;
        if !output.status.success() {
            // A machine that has never built for this target lacks a few crates.
            output = metadata(false)?;
        }
        anyhow::ensure!(
            output.status.success(),
            "cargo metadata for {target} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata = serde_json::from_slice(&output.stdout)?;
        all.extend(crates_of(&metadata).context("cargo metadata has an unknown form")?);
    }
    Ok(all)
}

fn crates_of(metadata: &Value) -> Option<Vec<Crate>> {
    let nodes = metadata["resolve"]["nodes"].as_array()?;
    let used: BTreeSet<&str> = nodes.iter().filter_map(|node| node["id"].as_str()).collect();
    let packages = metadata["packages"].as_array()?.iter();
    let packages = packages.filter(|p| p["id"].as_str().is_some_and(|id| used.contains(id)));
    packages
        .map(|package| {
            let text = |key: &str| package[key].as_str().map(str::to_owned);
            Some(Crate {
                name: text("name")?,
                version: text("version")?,
                licence: text("license"),
                source: text("source"),
            })
        })
        .collect()
}

/// Everything that is wrong. Pure.
fn mistakes(
    crates: &BTreeSet<Crate>,
    policy: &Policy,
    judged: &Judged,
    pinned: &str,
) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    let foreign: Vec<&Crate> = crates.iter().filter(|one| one.source.is_some()).collect();
    wrong.extend(sources(&foreign));
    wrong.extend(licences(&foreign, policy));
    for one in &foreign {
        if let Some((_, why)) = policy.banned.iter().find(|(name, _)| *name == one.name) {
            wrong.push(format!("{} {} must not come in: {why}", one.name, one.version));
        }
    }
    let server = Crate {
        name: NATS_SERVER.to_owned(),
        version: pinned.to_owned(),
        licence: None,
        source: None,
    };
    let with_server: Vec<&Crate> = foreign.iter().copied().chain([&server]).collect();
    wrong.extend(advisories(&with_server, policy, judged)?);
    wrong.extend(unjudged(&foreign, judged));
    if pinned != judged.nats_server {
        wrong.push(format!(
            "image/pins.toml has nats-server {pinned}, and advisories were judged for {}; look at \
             those of the new one and write its version into image/advisories.toml",
            judged.nats_server
        ));
    }
    Ok(wrong)
}

/// All from one registry: what cargo.lock's hashes vouch for.
fn sources(foreign: &[&Crate]) -> Vec<String> {
    let is_registry =
        |source: &str| source.starts_with("registry+") || source.starts_with("sparse+");
    let all: BTreeSet<&str> = foreign.iter().filter_map(|one| one.source.as_deref()).collect();
    let several = all.len() > 1;
    let odd = all.into_iter().filter(|source| several || !is_registry(source));
    odd.map(|source| {
        let from = foreign.iter().filter(|one| one.source.as_deref() == Some(source));
        let first = from.map(|one| one.name.as_str()).next().unwrap_or_default();
        format!("{first} and others come from {source}; all crates come from one registry")
    })
    .collect()
}

fn licences(foreign: &[&Crate], policy: &Policy) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for one in foreign {
        let exception = policy.exceptions.iter().find(|(name, _)| *name == one.name);
        let everyone = |licence: &str| policy.licences.iter().any(|allowed| allowed == licence);
        let this_one = |licence: &str| {
            everyone(licence)
                || exception.is_some_and(|(_, more)| more.iter().any(|allowed| allowed == licence))
        };
        let shown = format!("{} {}", one.name, one.version);
        let Some(expression) = &one.licence else {
            wrong.push(format!(
                "{shown} declares no licence; read its sources and write an exception"
            ));
            continue;
        };
        match licence::is_allowed(expression, &this_one) {
            Some(true) => {
                if licence::is_allowed(expression, &everyone) != Some(true) {
                    used.insert(one.name.as_str());
                }
            }
            Some(false) => wrong.push(format!(
                "{shown} is under {expression}, which deny.toml does not allow; do without it, or \
                 write an exception"
            )),
            None => {
                wrong.push(format!("{shown} declares the licence {expression:?}, which is no SPDX"))
            }
        }
    }
    let idle = policy.exceptions.iter().filter(|(name, _)| !used.contains(name.as_str()));
    wrong.extend(idle.map(|(name, _)| {
        format!("deny.toml excepts the licence of {name}, which needs no exception; take it out")
    }));
    wrong
}

fn advisories(foreign: &[&Crate], policy: &Policy, judged: &Judged) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mut needed = BTreeSet::new();
    for advisory in &judged.advisories {
        for one in foreign.iter().filter(|one| one.name == advisory.package) {
            let version = Version::parse(&one.version)?;
            if !version::is_affected(&version, &advisory.patched, &advisory.unaffected)? {
                continue;
            }
            needed.insert(advisory.id.as_str());
            if !policy.ignored.iter().any(|(id, _)| *id == advisory.id) {
                wrong.push(format!(
                    "{} {} has {}: {}; use one of {:?}, or write in deny.toml why it is accepted",
                    one.name, one.version, advisory.id, advisory.title, advisory.patched
                ));
            }
        }
    }
    let idle = policy.ignored.iter().filter(|(id, _)| !needed.contains(id.as_str()));
    wrong.extend(idle.map(|(id, _)| {
        format!("deny.toml accepts {id}, which nothing here has any more; take it out")
    }));
    Ok(wrong)
}

/// Crates that nobody looked at. One that was looked at and is not built in does no harm.
fn unjudged(foreign: &[&Crate], judged: &Judged) -> Vec<String> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for name in judged.looked_up.iter().chain(&judged.not_looked_up) {
        *times.entry(name).or_default() += 1;
    }
    let names: BTreeSet<&str> = foreign.iter().map(|one| one.name.as_str()).collect();
    let new = names.iter().filter(|name| !times.contains_key(**name)).map(|name| {
        format!(
            "{name} came in and nobody looked for its advisories; look, and add its name to looked-up \
             in image/advisories.toml"
        )
    });
    let twice = times.iter().filter(|(_, times)| **times > 1).map(|(name, times)| {
        format!("image/advisories.toml names {name} {times} times; once is enough")
    });
    new.chain(twice).collect()
}

/// Days since 1970.
fn today() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_secs() / 86_400).unwrap_or(i64::MAX)
}

/// Days between a `YYYY-MM-DD` and a day counted from 1970.
fn age(day: &str, today: i64) -> Option<i64> {
    let mut parts = day.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, date) = (parts.next()??, parts.next()??, parts.next()??);
    // Howard Hinnant's days_from_civil.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + date - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(today - days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::Advisory;

    const REGISTRY: &str = "registry+x";

    fn one(name: &str, version: &str, licence: &str) -> Crate {
        Crate {
            name: name.into(),
            version: version.into(),
            licence: Some(licence.into()),
            source: Some(REGISTRY.into()),
        }
    }

    fn said(crates: &[Crate], change: impl FnOnce(&mut Policy, &mut Judged)) -> Vec<String> {
        let mut policy = Policy { licences: vec!["MIT".into()], ..Policy::default() };
        let mut judged = Judged {
            day: "2026-11-30".into(),
            looked_up: crates.iter().map(|one| one.name.clone()).collect(),
            nats_server: "2.15.1".into(),
            ..Judged::default()
        };
        judged.looked_up.dedup();
        change(&mut policy, &mut judged);
        let crates = crates.iter().cloned().collect();
        mistakes(&crates, &policy, &judged, "2.15.1").unwrap()
    }

    fn advisory(patched: &[&str]) -> Advisory {
        Advisory {
            id: "RUSTSEC-1".into(),
            package: "a".into(),
            title: "it breaks".into(),
            patched: patched.iter().map(|&range| range.to_owned()).collect(),
            unaffected: vec!["< 0.2".into()],
        }
    }

    #[test]
    fn a_licence_that_nobody_allowed_is_named_with_its_crate() {
        let gpl = one("a", "1.0.0", "GPL-3.0-only");
        let wrong = said(std::slice::from_ref(&gpl), |_, _| ());
        assert!(
            wrong[0].starts_with("a 1.0.0 is under GPL-3.0-only, which deny.toml"),
            "{wrong:?}"
        );
        let excepted = |name: &str| {
            let exception = (name.to_owned(), vec!["GPL-3.0-only".to_owned()]);
            said(std::slice::from_ref(&gpl), |policy, _| policy.exceptions.push(exception))
        };
        assert_eq!(excepted("a"), [""; 0]);
        assert_eq!(excepted("b").len(), 2, "an exception of another crate, which is idle as well");
        let none = Crate { licence: None, ..gpl };
        assert!(said(&[none], |_, _| ())[0].contains("declares no licence"));
    }

    #[test]
    fn a_vulnerable_version_is_a_mistake_until_it_is_patched_or_accepted() {
        let wrong = |version: &str, accepted: bool| {
            said(&[one("a", version, "MIT")], |policy, judged| {
                judged.advisories.push(advisory(&[">= 1.2.0"]));
                if accepted {
                    policy.ignored.push(("RUSTSEC-1".into(), "why".into()));
                }
            })
        };
        assert!(wrong("1.1.9", false)[0].contains("has RUSTSEC-1: it breaks"));
        assert_eq!(wrong("1.1.9", true), [""; 0]);
        assert_eq!(wrong("1.2.0", false), [""; 0]);
        assert_eq!(wrong("0.1.0", false), [""; 0]);
        assert!(wrong("1.2.0", true)[0].contains("take it out"));
    }

    #[test]
    fn a_crate_that_comes_in_waits_for_a_person() {
        let wrong = said(&[one("a", "1.0.0", "MIT")], |_, judged| judged.looked_up.clear());
        assert!(wrong[0].starts_with("a came in and nobody looked"), "{wrong:?}");
        let wrong = said(&[one("a", "1.0.0", "MIT")], |_, judged| {
            judged.not_looked_up = vec!["a".into(), "gone".into()];
        });
        assert_eq!(wrong, ["image/advisories.toml names a 2 times; once is enough"]);
        let wrong = said(&[one("a", "1.0.0", "MIT")], |policy, _| {
            policy.banned.push(("a".into(), "archived".into()));
        });
        assert_eq!(wrong, ["a 1.0.0 must not come in: archived"]);
    }

    #[test]
    fn another_nats_server_waits_for_a_person_too() {
        let wrong = said(&[], |_, judged| judged.nats_server = "2.15.0".into());
        assert!(wrong[0].contains("nats-server 2.15.1, and advisories were judged for 2.15.0"));
        let wrong = said(&[], |_, judged| {
            judged.advisories.push(Advisory { package: NATS_SERVER.into(), ..advisory(&[">= 3"]) });
        });
        assert!(wrong[0].starts_with("nats-server 2.15.1 has RUSTSEC-1"), "{wrong:?}");
    }

    #[test]
    fn a_crate_from_elsewhere_than_the_registry_is_named() {
        let mut git = one("a", "1.0.0", "MIT");
        git.source = Some("git+https://example.com/a".into());
        let wrong = said(&[git, one("b", "1.0.0", "MIT")], |_, _| ());
        assert!(wrong.iter().any(|text| text.contains("git+https://example.com/a")), "{wrong:?}");
    }

    #[test]
    fn only_what_is_compiled_counts() {
        let metadata = serde_json::json!({
            "packages": [
                {"id": "1", "name": "a", "version": "1.0.0", "license": "MIT", "source": "registry+x"},
                {"id": "2", "name": "w", "version": "1.0.0", "license": null, "source": "registry+x"},
            ],
            "resolve": {"nodes": [{"id": "1"}]},
        });
        assert_eq!(crates_of(&metadata).unwrap(), [one("a", "1.0.0", "MIT")]);
    }

    #[test]
    fn days_are_counted() {
        assert_eq!(age("1970-01-01", 0), Some(0));
        assert_eq!(age("2026-11-30", 20_787), Some(0));
        assert_eq!(age("2024-02-29", 19_783), Some(1));
        assert_eq!(age("soon", 0), None);
    }
}
