//! Scenarios that passed only when they were tried again: a few are named, more fail the whole.
//!
//! # Invariants
//! - Only scenarios of the rig are tried again (`.config/nextest.toml`): they run real servers that
//!   share two cores. A unit or property test that fails once has failed.

use anyhow::bail;

/// How many may pass only at the second attempt in one run of some 260 scenarios.
const AT_MOST: usize = 2;

/// Those that nextest named at its end: `FLAKY 2/2 [ 1.2s] (3/9) binary test`.
pub(crate) fn in_nextest_output(output: &str) -> Vec<String> {
    let name = |line: &str| {
        let rest = line.trim().strip_prefix("FLAKY ")?;
        rest.split_whitespace().next_back().map(str::to_owned)
    };
    output.lines().filter_map(name).collect()
}

/// Fails when too many needed a second attempt for it to be chance.
pub(crate) fn judge(flaky: &[String]) -> anyhow::Result<()> {
    if flaky.len() > AT_MOST {
        bail!(
            "{} scenarios passed only at the second attempt, and at most {AT_MOST} may: {}",
            flaky.len(),
            flaky.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "  TRY 1 FAIL [   0.113s] (───) rig::scenarios wan::one\n  \
                          TRY 2 PASS [   0.009s] (2/2) rig::scenarios wan::one\n     \
                          Summary [   0.125s] 2 tests run: 2 passed (1 flaky), 0 skipped\n   \
                          FLAKY 2/2 [   0.009s] (2/2) rig::scenarios wan::one\n";

    #[test]
    fn nextest_names_what_passed_at_the_second_attempt() {
        assert_eq!(in_nextest_output(OUTPUT), ["wan::one"]);
        assert!(in_nextest_output("Summary [ 1.0s] 2 tests run: 2 passed, 0 skipped").is_empty());
    }

    #[test]
    fn two_are_named_and_three_fail_the_whole() {
        let names = |count| vec!["wan::one".to_owned(); count];
        judge(&names(2)).unwrap();
        let error = judge(&names(3)).unwrap_err().to_string();
        assert!(error.starts_with("3 scenarios") && error.contains("wan::one"), "{error}");
    }
}
