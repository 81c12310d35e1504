//! Where Debian's packages come from: the machine's own configuration, never a name written here.
//!
//! # Invariants
//! - Only sources of the release that the image is made of are taken, and nothing of other vendors.
//! - A machine that tells apt to overlook the age of its indices tells the same to this build.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::shell;

/// The release that images are made of.
pub(crate) const RELEASE: &str = "bookworm";

/// What of apt's settings counts for this build as well.
const SETTINGS: [&str; 4] = [
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
];

/// Writes the machine's sources of the release to `folder`, in the form that mmdebstrap takes.
pub(crate) fn write(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut texts = Vec::new();
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let parts = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let mut parts: Vec<PathBuf> = parts.map(|entry| entry.path()).collect();
    parts.sort();
    files.extend(parts);
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => texts.push(("sources", stanzas_of(&text, RELEASE))),
            Some("list") => texts.push(("list", lines_of(&text, RELEASE))),
            _ => {}
        }
    }
    texts.retain(|(_, text)| !text.is_empty());
    if texts.is_empty() {
        bail!(
            "/etc/apt has no source of Debian's {RELEASE}; add one: the image is made of its packages"
        );
    }
    let mut written = Vec::new();
    for (number, (form, text)) in texts.iter().enumerate() {
        let path = folder.join(format!("apt-{number}.{form}"));
        std::fs::write(&path, text).with_context(|| format!("{} not written", path.display()))?;
        written.push(path);
    }
    Ok(written)
}

/// apt's settings of this machine that a build must share, as `--aptopt` takes them.
pub(crate) fn settings() -> Vec<String> {
    let dump = shell::ask(Command::new("apt-config").arg("dump")).unwrap_or_default();
    chosen(&dump)
}

fn chosen(dump: &str) -> Vec<String> {
    let wanted = |line: &&str| {
        SETTINGS.iter().any(|name| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') && rest != " \"\";")
        })
    };
    dump.lines().filter(wanted).map(|line| line.trim_end_matches(';').to_owned()).collect()
}

/// The stanzas (deb822) whose suites belong to the release and whose vendor is Debian.
fn stanzas_of(text: &str, release: &str) -> String {
    let mut kept = String::new();
    let is_debian = |stanza: &str| {
        let value = |key: &str| {
            stanza.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap_or("")
        };
        let suites = value("Suites");
        !suites.trim().is_empty()
            && suites.split_whitespace().all(|suite| belongs(suite, release))
            && value("Components").split_whitespace().any(|component| component == "main")
            && !value("Enabled").trim().eq_ignore_ascii_case("no")
    };
    for stanza in text.split("\n\n").map(str::trim).filter(|stanza| is_debian(stanza)) {
        for line in stanza.lines().filter(|line| !line.starts_with('#')) {
            kept.push_str(line);
            kept.push('\n');
        }
        kept.push('\n');
    }
    kept
}

/// The one-line sources of the release.
fn lines_of(text: &str, release: &str) -> String {
    let mut kept = String::new();
    for line in text.lines().map(str::trim).filter(|line| line.starts_with("deb ")) {
        // Options in brackets stand before the address.
        let rest = line.split_once(']').map_or(&line[4..], |(_, rest)| rest);
        let mut words = rest.split_whitespace().skip(1);
        if words.next().is_some_and(|suite| belongs(suite, release))
            && words.any(|component| component == "main")
        {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn belongs(suite: &str, release: &str) -> bool {
    let rest = suite.strip_prefix(release).unwrap_or("/");
    rest.is_empty() || ["-updates", "-security"].contains(&rest) || rest == "/updates"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_other_vendors_and_releases_are_left_out() {
        let text = "Types: deb\n# a mirror\nURIs: mirror\nSuites: bookworm bookworm-updates\nComponents: main\n\n\
                    Types: deb\nURIs: vendor\nSuites: nodistro\nComponents: main\n\n\
                    Types: deb\nURIs: mirror\nSuites: trixie\nComponents: main\n";
        let kept = stanzas_of(text, "bookworm");
        assert!(kept.contains("URIs: mirror\nSuites: bookworm bookworm-updates"), "{kept}");
        assert!(!kept.contains("vendor") && !kept.contains("trixie") && !kept.contains('#'));
    }

    #[test]
    fn one_line_sources_may_have_options() {
        let text = "deb [arch=amd64 signed-by=/k] mirror bookworm-security main\n\
                    deb vendor bookworm-vendor main\n# deb mirror bookworm main\n";
        let expected = "deb [arch=amd64 signed-by=/k] mirror bookworm-security main\n";
        assert_eq!(lines_of(text, "bookworm"), expected);
    }

    #[test]
    fn settings_about_age_and_proxies_are_shared_and_others_are_not() {
        let dump = "Acquire::Check-Valid-Until \"false\";\nAcquire::http::Proxy \"\";\nAPT::Architecture \"amd64\";\n";
        assert_eq!(chosen(dump), ["Acquire::Check-Valid-Until \"false\""]);
    }
}
