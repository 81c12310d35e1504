//! The committed report of the last whole release: what it was made of, what was found.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::figures::{self, Figure};

/// Where it lies, relative to the workspace.
pub(super) const PLACE: &str = "docs/reports/release.md";

const HASH: &str = "inputs: ";

/// The inputs that a report speaks of.
pub(super) fn inputs_of(report: &str) -> Option<&str> {
    report.lines().find_map(|line| line.strip_prefix(HASH)).map(str::trim)
}

/// One scenario as the rig wrote it down.
#[derive(Debug, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    pub(crate) result: String,
    pub(crate) figures: Vec<Figure>,
}

/// Reads the rig's lines, one JSON object each.
pub(crate) fn scenarios(lines: &str) -> anyhow::Result<Vec<Scenario>> {
    let filled = lines.lines().filter(|line| !line.trim().is_empty());
    filled.map(|line| scenario(line).with_context(|| format!("in the line {line}"))).collect()
}

fn scenario(line: &str) -> anyhow::Result<Scenario> {
    let value: Value = serde_json::from_str(line)?;
    let word =
        |key: &str| value[key].as_str().map(str::to_owned).with_context(|| format!("no {key}"));
    let mut figures = Vec::new();
    for row in value["figures"].as_array().into_iter().flatten() {
        let text = |index: usize| row[index].as_str().unwrap_or_default().to_owned();
        ensure!(!text(0).is_empty() && !text(1).is_empty(), "a figure without name or value");
        let holds = row[3].as_bool();
        figures.push(Figure { what: text(0), found: text(1), asked: text(2), holds });
    }
    Ok(Scenario {
        name: word("scenario")?,
        seconds: value["seconds"].as_f64().context("no seconds")?,
        result: word("result")?,
        figures,
    })
}

/// The report as it is committed.
pub(super) fn write(date: &str, inputs: &str, built: &[Figure], scenarios: &[Scenario]) -> String {
    let mut text = format!(
        "# The last whole release\n\n\
         Written by `cargo xtask long release` on {date}. As long as the inputs are the same (recipes, \
         units, packages, locked dependencies, scenarios), `--if-changed` leaves it at that.\n\n\
         {HASH}{inputs}\n\n"
    );
    let figures: Vec<_> =
        built.iter().chain(scenarios.iter().flat_map(|s| &s.figures)).cloned().collect();
    // Writing to a String cannot fail.
    let _ = write!(text, "## Figures\n\n```text\n{}```\n\n", figures::table(&figures));
    text.push_str("## Scenarios\n\n| scenario | result | seconds |\n|---|---|---|\n");
    for Scenario { name, seconds, result, .. } in scenarios {
        let _ = writeln!(text, "| {name} | {result} | {seconds:.0} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_found_again_by_the_inputs_it_speaks_of() {
        let line = r#"{"scenario": "first boot", "seconds": 61.2, "result": "passed",
            "figures": [["boot", "3.2 s", "<= 5 s", true]]}"#
            .replace('\n', " ");
        let scenarios = scenarios(&line).unwrap();
        let report = write("2026-11-30", "ab12", &[Figure::told("glibc", "2.34")], &scenarios);
        assert_eq!(inputs_of(&report), Some("ab12"));
        assert!(report.contains("| first boot | passed | 61 |"), "{report}");
        assert!(report.contains("boot   3.2 s  <= 5 s  holds\n"), "{report}");
    }

    #[test]
    fn a_line_without_a_result_is_refused_with_its_text() {
        let error = scenarios("{\"scenario\": \"x\", \"seconds\": 1}").unwrap_err();
        assert!(format!("{error:#}").contains("no result"), "{error:#}");
    }
}
