//! The committed report of a part of a release: what it was made of, what was found.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::part::Made;
use crate::figures::{self, Figure};

/// What is longer is a sentence, and would make a table too wide to read.
const LONGEST: usize = 60;

const HASH: &str = "inputs: ";
const TOOK: &str = "minutes: ";

/// The inputs that a report speaks of.
pub(super) fn inputs_of(report: &str) -> Option<&str> {
    report.lines().find_map(|line| line.strip_prefix(HASH)).map(str::trim)
}

/// How long the part took, in minutes.
pub(super) fn minutes_of(report: &str) -> Option<u64> {
    report.lines().find_map(|line| line.strip_prefix(TOOK)?.trim().parse().ok())
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
pub(super) fn write(name: &str, date: &str, inputs: &str, took: u64, made: &Made) -> String {
    let mut text = format!(
        "# The last release: {name}\n\nWritten by `cargo xtask long release` on {date}. While its \
         inputs are the same (recipes, units, locked dependencies, scenarios), `--if-changed` leaves \
         it at that.\n\n{HASH}{inputs}\n{TOOK}{took}\n\n"
    );
    let (said, measured): (Vec<_>, Vec<_>) =
        made.figures.iter().cloned().partition(|figure| figure.found.len() > LONGEST);
    // Writing to a String cannot fail.
    let _ = write!(text, "## Figures\n\n```text\n{}```\n", figures::table(&measured));
    for Figure { what, found, .. } in said {
        let _ = write!(text, "\n{what}: `{found}`\n");
    }
    if !made.scenarios.is_empty() {
        text.push_str("\n## Scenarios\n\n| scenario | result | seconds |\n|---|---|---|\n");
    }
    for Scenario { name, seconds, result, .. } in &made.scenarios {
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
            "figures": [["boot", "3.2 s", "<= 5 s", true], ["what it says",
            "a sentence that says more than a table of numbers has any room for", "", null]]}"#
            .replace('\n', " ");
        let scenarios = scenarios(&line).unwrap();
        let figures = scenarios.iter().flat_map(|s| s.figures.clone()).collect();
        let made = Made { figures, scenarios };
        let report = write("image-x86_64", "2026-11-30", "ab12", 14, &made);
        assert_eq!((inputs_of(&report), minutes_of(&report)), (Some("ab12"), Some(14)));
        assert!(report.contains("| first boot | passed | 61 |"), "{report}");
        assert!(report.contains("boot  3.2 s  <= 5 s  holds\n```\n"), "{report}");
        assert!(report.contains("\nwhat it says: `a sentence that"), "{report}");
    }

    #[test]
    fn a_line_without_a_result_is_refused_with_its_text() {
        let error = scenarios("{\"scenario\": \"x\", \"seconds\": 1}").unwrap_err();
        assert!(format!("{error:#}").contains("no result"), "{error:#}");
    }
}
