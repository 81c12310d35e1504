//! The direction of dependencies between the workspace's packages:
//! translator API ← translators ← daemon → journal, record, uplink, identity.
//!
//! # Invariants
//! - Every package is either a translator or has a row in [`ROWS`]; a new one must be given its
//!   place before the check passes.
//! - Development dependencies count: a test that reaches across is an arrow too.

use std::fmt;

use crate::workspace::Package;

/// What a package may depend on within the workspace, and what it must not use from outside.
struct Row {
    package: &'static str,
    may_use: &'static [&'static str],
    must_not_use: &'static [&'static str],
    why: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        package: "tidegate-translator",
        may_use: &[],
        must_not_use: &["async-nats"],
        why: "the translator API is types, and the queue between a driver and whoever asks it; no I/O",
    },
    Row {
        package: "tidegate-journal",
        may_use: &[],
        must_not_use: &["async-nats", "tokio"],
        why: "the journal knows frames, neither tags nor NATS",
    },
    Row {
        package: "tidegate-record",
        may_use: &["tidegate-journal", "tidegate-translator"],
        must_not_use: &["async-nats", "tokio"],
        why: "packing and proving are pure",
    },
    Row {
        package: "tidegate-query",
        may_use: &["tidegate-journal", "tidegate-record", "tidegate-translator"],
        must_not_use: &["async-nats", "tokio"],
        why: "questions are answered from the record, whoever carries them",
    },
    Row {
        package: "tidegate-uplink",
        may_use: &["tidegate-journal"],
        must_not_use: &["async-nats", "tokio"],
        why: "the delivery state machine is pure",
    },
    Row {
        package: "tidegate-identity",
        may_use: &[],
        must_not_use: &["async-nats"],
        why: "identity is used by the daemon, never the other way round",
    },
    Row {
        package: "tidegate",
        may_use: &[
            "tidegate-identity",
            "tidegate-ingest",
            "tidegate-journal",
            "tidegate-modbus",
            "tidegate-opcua",
            "tidegate-query",
            "tidegate-record",
            "tidegate-translator",
            "tidegate-uplink",
        ],
        must_not_use: &[],
        why: "only the daemon joins the parts",
    },
    Row {
        package: "tidegate-fuzz",
        may_use: &[
            "tidegate",
            "tidegate-ingest",
            "tidegate-journal",
            "tidegate-modbus",
            "tidegate-opcua",
            "tidegate-query",
            "tidegate-record",
            "tidegate-translator",
            "tidegate-uplink",
        ],
        must_not_use: &["async-nats"],
        why: "the fuzz targets call every reader of foreign bytes, without a network",
    },
    Row {
        package: "tidegate-hil-tests",
        may_use: &[],
        must_not_use: &[],
        why: "the rig judges the binary from outside, with none of its code",
    },
    Row {
        package: "xtask",
        may_use: &[],
        must_not_use: &[],
        why: "the build commands must build before everything else",
    },
];

/// Every translator, by its directory.
const TRANSLATOR: Row = Row {
    package: "translators/*",
    may_use: &["tidegate-translator"],
    must_not_use: &["async-nats"],
    why: "translators know their protocol and the translator API; not NATS, not each other",
};

/// A dependency that points the wrong way, or a package without a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// `from` must not depend on `to`.
    Edge { from: String, to: String, why: &'static str },
    /// Nobody has said where the package stands.
    NoPlace { package: String },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edge { from, to, why } => write!(
                f,
                "{from} depends on {to}, but {why}; take {to} out of {from}'s Cargo.toml and let \
                 the daemon join the two"
            ),
            Self::NoPlace { package } => write!(
                f,
                "package {package} has no row in image/xtask/src/arrows.rs; add what it may use"
            ),
        }
    }
}

/// Every dependency that points the wrong way.
pub(crate) fn check(packages: &[Package]) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    for package in packages {
        let Some(row) = row_of(package) else {
            wrong.push(Wrong::NoPlace { package: package.name.clone() });
            continue;
        };
        for dependency in &package.dependencies {
            // A package that tests itself with a feature switched on points nowhere.
            let inside =
                *dependency != package.name && packages.iter().any(|p| p.name == *dependency);
            let barred = inside && !row.may_use.contains(&dependency.as_str());
            if barred || row.must_not_use.contains(&dependency.as_str()) {
                wrong.push(Wrong::Edge {
                    from: package.name.clone(),
                    to: dependency.clone(),
                    why: row.why,
                });
            }
        }
    }
    wrong
}

fn row_of(package: &Package) -> Option<&'static Row> {
    let named = ROWS.iter().find(|row| row.package == package.name);
    named.or_else(|| package.directory.starts_with("translators/").then_some(&TRANSLATOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, directory: &str, dependencies: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            directory: directory.to_owned(),
            dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
            examples: Vec::new(),
        }
    }

    fn edges(packages: &[Package]) -> Vec<(String, String)> {
        let edge = |wrong| match wrong {
            Wrong::Edge { from, to, .. } => (from, to),
            Wrong::NoPlace { package } => (package, String::new()),
        };
        check(packages).into_iter().map(edge).collect()
    }

    fn lawful() -> Vec<Package> {
        vec![
            package("tidegate-translator", "translators/api", &["serde"]),
            package("tidegate-modbus", "translators/modbus", &["tidegate-translator", "tokio"]),
            package("tidegate-opcua", "translators/opcua", &["tidegate-translator"]),
            package("tidegate-journal", "daemon/journal", &["blake3"]),
            package(
                "tidegate-record",
                "daemon/record",
                &["tidegate-journal", "tidegate-translator"],
            ),
            package("tidegate-uplink", "daemon/uplink", &["tidegate-journal"]),
            package("tidegate-ingest", "translators/nats", &["tidegate-translator"]),
            package("tidegate", "daemon", &["tidegate-journal", "tidegate-modbus", "async-nats"]),
            package("tidegate-fuzz", "fuzz", &["tidegate", "tidegate-journal"]),
            package("tidegate-hil-tests", "hil-tests", &["async-nats"]),
        ]
    }

    #[test]
    fn the_designed_arrows_pass() {
        assert_eq!(check(&lawful()), []);
    }

    #[test]
    fn a_package_may_test_itself_with_another_feature() {
        let mut packages = lawful();
        let journal = packages.iter_mut().find(|it| it.name == "tidegate-journal").unwrap();
        journal.dependencies.push("tidegate-journal".to_owned());
        assert_eq!(edges(&packages), []);
    }

    #[test]
    fn each_wrong_arrow_is_named() {
        for (from, to) in [
            ("tidegate-journal", "tidegate-translator"),
            ("tidegate-journal", "async-nats"),
            ("tidegate-modbus", "async-nats"),
            ("tidegate-modbus", "tidegate-opcua"),
            ("tidegate-opcua", "tidegate-journal"),
            ("tidegate-ingest", "async-nats"),
            ("tidegate-record", "tidegate-uplink"),
            ("tidegate-uplink", "tidegate-translator"),
            ("tidegate-uplink", "tokio"),
            ("tidegate-translator", "tidegate-journal"),
            ("tidegate-record", "tidegate"),
            ("tidegate-hil-tests", "tidegate"),
            ("tidegate-fuzz", "tidegate-hil-tests"),
            ("tidegate", "tidegate-fuzz"),
        ] {
            let mut packages = lawful();
            let changed = packages.iter_mut().find(|p| p.name == from).unwrap();
            changed.dependencies.push(to.to_owned());
            assert_eq!(edges(&packages), [(from.to_owned(), to.to_owned())]);
        }
    }

    #[test]
    fn a_package_without_a_place_is_refused() {
        let mut packages = lawful();
        packages.push(package("tidegate-new", "new", &[]));
        assert_eq!(edges(&packages), [("tidegate-new".to_owned(), String::new())]);
    }

    #[test]
    fn the_message_names_both_ends_and_the_remedy() {
        let mut packages = lawful();
        packages[3].dependencies.push("async-nats".to_owned());
        let message = check(&packages)[0].to_string();
        assert!(message.contains("tidegate-journal depends on async-nats"), "{message}");
        assert!(message.contains("Cargo.toml"), "{message}");
    }
}
