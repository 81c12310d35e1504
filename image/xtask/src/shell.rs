//! Starting other programs, saying first what for.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};

/// Runs a program on this terminal and fails unless it succeeds.
pub(crate) fn run(what: &str, command: &mut Command) -> anyhow::Result<()> {
    let begun = begin(what);
    let status = command.status().with_context(|| format!("{} did not start", line_of(command)))?;
    finish(what, begun, status, command)
}

/// Runs a program, shows what it prints as it comes, and returns that as well.
pub(crate) fn run_and_keep(what: &str, command: &mut Command) -> anyhow::Result<Kept> {
    let begun = begin(what);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} did not start", line_of(command)))?;
    let errors = child.stderr.take().map(|from| std::thread::spawn(move || relay(from, false)));
    let output = child.stdout.take().map(|from| relay(from, true)).unwrap_or_default();
    let errors = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
    let status = child.wait().with_context(|| format!("{} was lost", line_of(command)))?;
    Ok(Kept { text: output + &errors, ended: finish(what, begun, status, command) })
}

/// What a program printed, and how it ended.
pub(crate) struct Kept {
    /// Standard output, then standard error.
    pub(crate) text: String,
    /// An error that names the program when it failed.
    pub(crate) ended: anyhow::Result<()>,
}

/// Runs a program silently and returns its standard output; `None` when it cannot be started or
/// fails.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// One line of progress.
pub(crate) fn say(line: &str) {
    // A closed terminal must not end the work.
    let _ = writeln!(std::io::stderr(), "xtask: {line}");
}

fn begin(what: &str) -> Instant {
    say(&format!("{what} …"));
    Instant::now()
}

fn finish(what: &str, begun: Instant, status: ExitStatus, command: &Command) -> anyhow::Result<()> {
    if !status.success() {
        bail!("{what} failed ({status}): {}", line_of(command));
    }
    if begun.elapsed().as_secs() >= 2 {
        say(&format!("{what}: {:.0} s", begun.elapsed().as_secs_f64()));
    }
    Ok(())
}

fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        // Writing to a String cannot fail.
        let _ = write!(line, " {}", argument.to_string_lossy());
    }
    line
}

fn relay(mut from: impl Read, to_stdout: bool) -> String {
    let mut kept = Vec::new();
    let mut chunk = [0; 8192];
    // A closed terminal must not end the tests: what was printed is still counted.
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        kept.extend_from_slice(&chunk[..length]);
        let _ = if to_stdout {
            std::io::stdout().write_all(&chunk[..length])
        } else {
            std::io::stderr().write_all(&chunk[..length])
        };
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// How many bytes the disk below a folder, or below where it will be, has left; `None` where `df`
/// does not tell.
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|place| place.exists())?;
    let mut command = Command::new("df");
    let told = ask(command.args(["--output=avail", "--block-size=1"]).arg(there))?;
    told.lines().last()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_is_named_with_its_arguments() {
        let error = run("try", Command::new("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c exit 3") && error.contains('3'), "{error}");
    }

    #[test]
    fn both_outputs_are_kept_also_of_a_program_that_fails() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 1"]);
        let kept = run_and_keep("try", &mut command).unwrap();
        assert_eq!(kept.text, "out\nerr\n");
        assert!(kept.ended.is_err());
    }

    #[test]
    fn a_program_that_is_not_there_gives_no_answer() {
        assert_eq!(ask(&mut Command::new("/nonexistent/program")), None);
    }
}
