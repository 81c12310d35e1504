//! What is left to look at of a scenario that failed.

use tempfile::TempDir;

/// How many lines of each log are shown.
const SHOWN: usize = 60;

/// While a scenario fails, prints the ends of its processes' logs and keeps its directory.
#[expect(clippy::print_stderr, reason = "a failed scenario shows what its processes logged")]
pub(crate) fn show_if_failing(directory: &mut Option<TempDir>, logs: &[&str]) {
    if !std::thread::panicking() {
        return;
    }
    let Some(directory) = directory.take() else { return };
    for log in logs {
        let bytes = std::fs::read(directory.path().join(log)).unwrap_or_default();
        let whole = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = whole.lines().collect();
        let end = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
        eprintln!("---- the end of {log}\n{end}");
    }
    eprintln!("---- kept: {}", directory.keep().display());
}
