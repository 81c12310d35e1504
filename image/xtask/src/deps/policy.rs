//! What is accepted, as it is written in `deny.toml` (which cargo-deny reads too) and in
//! `image/advisories.toml`.

use std::path::Path;

use anyhow::Context as _;
use toml_span::Value as Toml;

use super::go;

/// Licences, sources and crates that are accepted, and exceptions with their reasons.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// Licences that any crate may have.
    pub(super) licences: Vec<String>,
    /// A crate, and what it may have besides.
    pub(super) exceptions: Vec<(String, Vec<String>)>,
    /// Advisories that are accepted, and why.
    pub(super) ignored: Vec<(String, String)>,
    /// Crates that must not come in, and why.
    pub(super) banned: Vec<(String, String)>,
}

/// What was judged, and when.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// The day, `YYYY-MM-DD`.
    pub(super) day: String,
    /// Advisories of crates that are used here.
    pub(super) advisories: Vec<Advisory>,
    /// Crates that were looked up in the database.
    pub(super) looked_up: Vec<String>,
    /// Crates that are used and were not.
    pub(super) not_looked_up: Vec<String>,
    /// The version of nats-server that was judged.
    pub(super) nats_server: String,
    /// The Go modules of its builds.
    pub(super) go: go::Judged,
}

/// One advisory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Advisory {
    pub(super) id: String,
    pub(super) package: String,
    pub(super) title: String,
    /// Ranges of versions that have the fix.
    pub(super) patched: Vec<String>,
    /// Ranges that never had the fault.
    pub(super) unaffected: Vec<String>,
}

impl Policy {
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        parsed(file, Self::of)
    }

    fn of(root: &Toml<'_>) -> anyhow::Result<Self> {
        let exceptions = tables(root, "/licenses/exceptions")
            .map(|one| Ok((text(one, "crate")?, texts(one, "/allow"))));
        let ignored = tables(root, "/advisories/ignore")
            .map(|one| Ok((text(one, "id")?, text(one, "reason")?)));
        let banned =
            tables(root, "/bans/deny").map(|one| Ok((text(one, "crate")?, text(one, "reason")?)));
        Ok(Self {
            licences: texts(root, "/licenses/allow"),
            exceptions: exceptions.collect::<anyhow::Result<_>>()?,
            ignored: ignored.collect::<anyhow::Result<_>>()?,
            banned: banned.collect::<anyhow::Result<_>>()?,
        })
    }
}

impl Judged {
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        parsed(file, Self::of)
    }

    fn of(root: &Toml<'_>) -> anyhow::Result<Self> {
        let advisories = tables(root, "/advisory").map(|one| {
            Ok(Advisory {
                id: text(one, "id")?,
                package: text(one, "crate")?,
                title: text(one, "title")?,
                patched: texts(one, "/patched"),
                unaffected: texts(one, "/unaffected"),
            })
        });
        Ok(Self {
            day: text(root, "judged")?,
            advisories: advisories.collect::<anyhow::Result<_>>()?,
            looked_up: texts(root, "/looked-up"),
            not_looked_up: texts(root, "/not-looked-up"),
            nats_server: text(root, "nats-server")?,
            go: go::Judged::of(root)?,
        })
    }
}

/// The sums of every build of nats-server that packages may bring along.
pub(super) fn pinned_sums(file: &Path) -> anyhow::Result<Vec<String>> {
    parsed(file, |root| {
        let tables = ["/nats-server/wheel", "/nats-server/debian"].into_iter();
        let tables = tables.filter_map(|at| root.pointer(at).and_then(Toml::as_table));
        let values = tables.flat_map(|table| table.values().filter_map(|value| value.as_str()));
        Ok(values.filter(|text| text.len() == 64).map(str::to_owned).collect())
    })
}

/// The version of nats-server that packages bring along.
pub(super) fn pinned_server(file: &Path) -> anyhow::Result<String> {
    parsed(file, |root| {
        let table = root.pointer("/nats-server").context("there is no [nats-server]")?;
        text(table, "version")
    })
}

fn parsed<T>(file: &Path, read: fn(&Toml<'_>) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let shown = || format!("{} cannot be used", file.display());
    let content = std::fs::read_to_string(file).with_context(shown)?;
    let root = toml_span::parse(&content).map_err(|error| anyhow::anyhow!("{error}"));
    root.and_then(|root| read(&root)).with_context(shown)
}

pub(super) fn tables<'a, 'de>(
    root: &'a Toml<'de>,
    at: &str,
) -> impl Iterator<Item = &'a Toml<'de>> {
    root.pointer(at).and_then(Toml::as_array).into_iter().flatten()
}

pub(super) fn text(table: &Toml<'_>, key: &str) -> anyhow::Result<String> {
    let value = table.pointer(&format!("/{key}")).and_then(Toml::as_str);
    let text = value.filter(|text| !text.trim().is_empty());
    Ok(text.with_context(|| format!("an entry has no {key}"))?.to_owned())
}

pub(super) fn texts(root: &Toml<'_>, at: &str) -> Vec<String> {
    tables(root, at).filter_map(Toml::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> anyhow::Result<Policy> {
        Policy::of(&toml_span::parse(text).unwrap())
    }

    #[test]
    fn an_exception_without_a_reason_is_none() {
        let text = "[advisories]\nignore = [{ id = \"RUSTSEC-1\", reason = \" \" }]\n";
        assert!(policy(text).unwrap_err().to_string().contains("no reason"));
        let text = "[advisories]\nignore = [{ id = \"RUSTSEC-1\", reason = \"why\" }]\n";
        assert_eq!(policy(text).unwrap().ignored, [("RUSTSEC-1".into(), "why".into())]);
    }

    #[test]
    fn what_is_committed_can_be_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let policy = Policy::read(&root.join("deny.toml")).unwrap();
        assert!(policy.licences.iter().any(|licence| licence == "MIT"));
        assert!(policy.ignored.iter().any(|(id, _)| id == "RUSTSEC-2023-0071"));
        let judged = Judged::read(&root.join("image/advisories.toml")).unwrap();
        assert!(judged.advisories.iter().any(|one| one.package == "rsa"));
    }
}
