//! What a scenario of the appliance says of itself, for the table at the end of the run and for the
//! committed report.
//!
//! # Invariants
//! - One line a scenario, written at once: what runs beside it cannot tear it, and a scenario that
//!   is killed leaves the lines of the others whole.
//! - A scenario that panics leaves a line, too.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

/// Names the file that lines are appended to; without it nobody wants to know.
pub const VARIABLE: &str = "TIDEGATE_REPORT";

/// The line of one scenario, written when it is dropped.
#[derive(Debug)]
pub struct Report {
    scenario: String,
    file: Option<PathBuf>,
    begun: Instant,
    figures: Vec<Value>,
    failed: bool,
}

impl Report {
    /// Begins; the time until it is dropped is the scenario's.
    #[must_use]
    pub fn of(scenario: &str) -> Self {
        let file = std::env::var_os(VARIABLE).filter(|file| !file.is_empty());
        Self {
            scenario: scenario.to_owned(),
            file: file.map(PathBuf::from),
            begun: Instant::now(),
            figures: Vec::new(),
            failed: false,
        }
    }

    /// Adds a figure: of what, as it was found, and what is asked of it (empty where nothing is).
    pub fn figure(&mut self, what: &str, found: impl Into<String>, asked: &str) {
        self.add(what, &found.into(), asked, None);
    }

    /// Adds a figure that has a bound, and whether it holds.
    pub fn bound(&mut self, what: &str, found: impl Into<String>, asked: &str, holds: bool) {
        self.add(what, &found.into(), asked, Some(holds));
    }

    #[expect(clippy::print_stderr, reason = "who runs a scenario alone sees its figures")]
    fn add(&mut self, what: &str, found: &str, asked: &str, holds: Option<bool>) {
        eprintln!("{what}: {found} {asked}");
        self.figures.push(json!([what, found, asked, holds]));
    }

    /// The scenario has failed, though nothing panics.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    fn line(&self, passed: bool) -> Value {
        json!({
            "scenario": self.scenario,
            "seconds": (self.begun.elapsed().as_secs_f64() * 10.0).round() / 10.0,
            "result": if passed { "passed" } else { "failed" },
            "figures": self.figures,
        })
    }
}

impl Drop for Report {
    #[expect(clippy::print_stderr, reason = "a report that cannot be written is told of")]
    fn drop(&mut self) {
        let Some(path) = &self.file else { return };
        let line = format!("{}\n", self.line(!self.failed && !std::thread::panicking()));
        let file = File::options().create(true).append(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("{} cannot be written: {error}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_was_found_and_how_it_ended() {
        let mut report = Report::of("first boot");
        report.file = None;
        report.bound("boot to first sample", "3.2 s", "<= 5 s", true);
        let line = report.line(true);
        assert_eq!(line["result"], "passed");
        assert_eq!(line["figures"], json!([["boot to first sample", "3.2 s", "<= 5 s", true]]));
        assert_eq!(report.line(false)["result"], "failed");
    }

    #[test]
    fn a_scenario_that_panics_leaves_its_line_beside_those_before() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("report.jsonl");
        let of = |scenario: &str| {
            let mut report = Report::of(scenario);
            report.file = Some(file.clone());
            report
        };
        drop(of("good"));
        let failing = of("bad");
        let ended = std::thread::spawn(move || {
            let _failing = failing;
            panic!("as intended");
        });
        assert!(ended.join().is_err());
        let text = std::fs::read_to_string(&file).unwrap();
        let results: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((results.len(), &results[0]["result"]), (2, &json!("passed")));
        assert_eq!(results[1]["result"], "failed");
    }
}
