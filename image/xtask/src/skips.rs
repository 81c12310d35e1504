//! No test is skipped without a reason: what the runner says it left out, against
//! `hil-tests/allowed-skips`.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Test name → why it may be skipped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed(BTreeMap<String, String>);

impl Allowed {
    /// Reads `name: reason` lines; `#` begins a comment.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut allowed = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // A path such as `a::b` has no space after its colons.
            match line.split_once(": ") {
                Some((name, reason)) if !reason.trim().is_empty() => {
                    allowed.insert(name.trim().to_owned(), reason.trim().to_owned());
                }
                _ => bail!("allowed-skips line {}: {line:?} is not `name: reason`", index + 1),
            }
        }
        Ok(Self(allowed))
    }

    /// Fails on a skipped test without a reason, and on a reason without a skipped test.
    pub(crate) fn judge(&self, skipped: &[String]) -> anyhow::Result<()> {
        let unexplained: Vec<_> =
            skipped.iter().filter(|name| !self.0.contains_key(*name)).cloned().collect();
        let stale: Vec<_> = self.0.keys().filter(|name| !skipped.contains(name)).cloned().collect();
        if !unexplained.is_empty() {
            bail!(
                "skipped without a reason in hil-tests/allowed-skips: {}",
                unexplained.join(", ")
            );
        }
        if !stale.is_empty() {
            bail!("listed in hil-tests/allowed-skips but not skipped: {}", stale.join(", "));
        }
        Ok(())
    }
}

/// The tests that nextest would leave out, from `cargo nextest list --message-format json`.
pub(crate) fn in_nextest_list(list: &str) -> anyhow::Result<Vec<String>> {
    let list: Value = serde_json::from_str(list).context("nextest's list is no JSON")?;
    let suites = list["rust-suites"].as_object().context("nextest's list has no rust-suites")?;
    let mut skipped = Vec::new();
    for suite in suites.values() {
        let cases = suite["testcases"].as_object().context("a suite has no testcases")?;
        for (name, case) in cases {
            let runs = case["ignored"] == false && case["filter-match"]["status"] == "matches";
            if !runs {
                skipped.push(name.clone());
            }
        }
    }
    Ok(skipped)
}

/// The tests that `cargo test` said it ignored: `test a::b ... ignored, reason`.
pub(crate) fn in_libtest_output(output: &str) -> Vec<String> {
    let name = |line: &str| {
        let (name, outcome) = line.trim().strip_prefix("test ")?.rsplit_once(" ... ")?;
        outcome.starts_with("ignored").then(|| name.to_owned())
    };
    output.lines().filter_map(name).collect()
}

/// What the runner says at its end, to be repeated where everything ends. nextest also shows what a
/// failed test's binary said of that one test; its own summary counts.
pub(crate) fn closing_lines(output: &str) -> Vec<String> {
    let lines = || output.lines().map(str::trim);
    let summary: Vec<_> = lines().filter(|line| line.starts_with("Summary [")).collect();
    // A binary without tests has nothing to say.
    let empty = " 0 passed; 0 failed; 0 ignored;";
    let results = lines().filter(|line| line.starts_with("test result:") && !line.contains(empty));
    let closing = if summary.is_empty() { results.collect() } else { summary };
    closing.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_needs_a_line_and_a_line_needs_a_skip() {
        let allowed = Allowed::parse("# why\n\na::b: needs a bench\n").unwrap();
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        allowed.judge(&names(&["a::b"])).unwrap();
        let unexplained = allowed.judge(&names(&["a::b", "c"])).unwrap_err().to_string();
        assert!(unexplained.ends_with(": c"), "{unexplained}");
        let stale = allowed.judge(&[]).unwrap_err().to_string();
        assert!(stale.contains("a::b"), "{stale}");
    }

    #[test]
    fn a_line_without_a_reason_is_refused() {
        assert!(Allowed::parse("a::b").is_err());
        assert!(Allowed::parse("a::b: ").is_err());
    }

    #[test]
    fn libtest_names_what_it_ignored() {
        let output = "test a::b ... ok\ntest a::c ... ignored, needs a bench\n\
                      test src/lib.rs - f (line 3) ... ignored\n\
                      test result: ok. 1 passed; 0 failed; 2 ignored; 0 measured\n";
        assert_eq!(in_libtest_output(output), ["a::c", "src/lib.rs - f (line 3)"]);
        assert_eq!(closing_lines(output).len(), 1);
        let empty = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert!(closing_lines(empty).is_empty());
        let nextest = format!("  {output}     Summary [ 1.0s] 3 tests run: 1 passed, 2 failed");
        assert_eq!(closing_lines(&nextest), ["Summary [ 1.0s] 3 tests run: 1 passed, 2 failed"]);
    }

    #[test]
    fn nextest_lists_what_it_leaves_out() {
        let list = serde_json::json!({"rust-suites": {"x": {"testcases": {
            "runs": {"ignored": false, "filter-match": {"status": "matches"}},
            "ignored": {"ignored": true, "filter-match": {"status": "mismatch"}},
            "filtered": {"ignored": false, "filter-match": {"status": "mismatch"}},
        }}}});
        let mut skipped = in_nextest_list(&list.to_string()).unwrap();
        skipped.sort();
        assert_eq!(skipped, ["filtered", "ignored"]);
    }

    #[test]
    fn a_changed_list_format_is_an_error_and_no_empty_list() {
        assert!(in_nextest_list("{}").is_err());
    }
}
