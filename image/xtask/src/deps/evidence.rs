//! The checklist `docs/compliance.md`: what it names as evidence must be there.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;

/// The checklist, relative to the workspace root.
const CHECKLIST: &str = "docs/compliance.md";

/// Where tests are written.
const SOURCES: [&str; 6] = ["certs", "daemon", "fuzz", "hil-tests", "image", "translators"];

/// Names of tests and of files in the checklist that are not there.
pub(super) fn missing(root: &Path) -> anyhow::Result<Vec<String>> {
    let file = root.join(CHECKLIST);
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let mut functions = BTreeSet::new();
    for folder in SOURCES {
        functions_below(&root.join(folder), &mut functions)?;
    }
    let gone = tests_in(&text).into_iter().filter(|name| !functions.contains(*name));
    let mut wrong: Vec<String> = gone
        .map(|name| {
            format!("{CHECKLIST} names the test {name}, which nobody wrote; name its successor")
        })
        .collect();
    let above = file.parent().unwrap_or(root);
    let dead = links_in(&text).into_iter().filter(|link| !above.join(link).exists());
    wrong.extend(dead.map(|link| format!("{CHECKLIST} leads to {link}, which is not there")));
    Ok(wrong)
}

/// What stands between backquotes and reads as a sentence.
fn tests_in(text: &str) -> BTreeSet<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_a_test = |name: &&str| {
        name.matches('_').count() >= 3
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    quoted.filter(is_a_test).collect()
}

/// Files that it leads to, without anchors.
fn links_in(text: &str) -> BTreeSet<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let targets = targets.map(|target| target.split('#').next().unwrap_or_default());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).collect()
}

fn functions_below(folder: &Path, functions: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        // Built things and downloads lie in a target of a workspace that is nested here.
        if kind.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            functions_below(&path, functions)?;
        } else if kind.is_file() && path.extension().is_some_and(|ending| ending == "rs") {
            functions.extend(functions_in(&std::fs::read_to_string(&path)?).map(str::to_owned));
        }
    }
    Ok(())
}

fn functions_in(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| {
        let rest = line.trim_start().trim_start_matches("pub ").trim_start_matches("async ");
        rest.strip_prefix("fn ")?.split(['(', '<']).next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checklist_is_read_for_its_tests_and_its_links() {
        let text =
            "| `a_test_that_is` and `cargo xtask deps`, `short_name` | [x](y.md#part) [z](a://b)";
        assert_eq!(Vec::from_iter(tests_in(text)), ["a_test_that_is"]);
        assert_eq!(Vec::from_iter(links_in(text)), ["y.md"]);
        let source = "    async fn a_test_that_is() {\npub fn other<T>(x: T) {}\n// fn no";
        assert_eq!(functions_in(source).collect::<Vec<_>>(), ["a_test_that_is", "other"]);
    }

    #[test]
    fn evidence_that_is_gone_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for folder in SOURCES.iter().chain(&["docs"]) {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        std::fs::write(dir.path().join("certs/a.rs"), "fn a_test_that_is() {}").unwrap();
        let text = "`a_test_that_is` `a_test_that_was` [x](gone.md) [y](../certs/a.rs)";
        std::fs::write(dir.path().join(CHECKLIST), text).unwrap();
        let wrong = missing(dir.path()).unwrap();
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].contains("a_test_that_was") && wrong[1].contains("gone.md"));
    }
}
