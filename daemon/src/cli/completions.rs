//! `tidegate internal-completions`: writes what shells complete, for packages.
//!
//! # Invariants
//! - Hidden commands are not completed, nor those that the program of a package does not have.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate_to};

use super::Arguments;

/// Write shell completions.
#[derive(Debug, Clone, clap::Args)]
pub struct CompletionsArgs {
    /// The directory that gets `tidegate.bash`, `_tidegate` and `tidegate.fish`.
    #[arg(value_name = "DIR")]
    pub place: PathBuf,
    /// Leave this command out, because the program of the package does not have it.
    #[arg(long, value_name = "COMMAND")]
    pub without: Vec<String>,
}

/// Runs it and returns the exit code: 0 written, 2 no such command, 73 not writable.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub fn run(args: &CompletionsArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let all = Arguments::command();
    if let Some(unknown) = args.without.iter().find(|name| all.find_subcommand(name).is_none()) {
        writeln!(err, "error: there is no command {unknown} to leave out")?;
        return Ok(super::exit::USAGE);
    }
    let mut shown = without(&all, &args.without);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        match generate_to(shell, &mut shown, "tidegate", &args.place) {
            Ok(place) => writeln!(out, "{}", place.display())?,
            Err(error) => {
                writeln!(err, "error: {} cannot be written: {error}", args.place.display())?;
                return Ok(super::exit::DISK);
            }
        }
    }
    Ok(super::exit::OK)
}

/// The command line without hidden commands and without those named. A command cannot be taken out
/// of one, so the rest is put into a new one.
fn without(all: &Command, absent: &[String]) -> Command {
    let shown = all.get_subcommands().filter(|command| {
        !command.is_hide_set() && !absent.iter().any(|name| name == command.get_name())
    });
    let about = all.get_about().cloned().unwrap_or_default();
    let fresh = Command::new("tidegate").about(about).version(env!("CARGO_PKG_VERSION"));
    fresh.subcommands(shown.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completions(without: &[&str]) -> (u8, String) {
        let dir = tempfile::tempdir().unwrap();
        let without = without.iter().map(ToString::to_string).collect();
        let args = CompletionsArgs { place: dir.path().to_owned(), without };
        let code = run(&args, &mut Vec::new(), &mut Vec::new()).unwrap();
        let read = |name| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        (code, read("tidegate.bash") + &read("_tidegate") + &read("tidegate.fish"))
    }

    #[test]
    fn commands_that_are_hidden_or_left_out_are_not_completed() {
        let (code, all) = completions(&[]);
        assert_eq!(code, 0);
        assert!(all.contains("tidegate__subcmd__mcp"), "bash completes mcp");
        assert!(!all.contains("internal-"));
        let (code, gateway) = completions(&["mcp"]);
        assert_eq!(code, 0);
        assert!(!gateway.contains("tidegate__subcmd__mcp") && gateway.contains("prove"));
    }

    #[test]
    fn a_command_that_does_not_exist_cannot_be_left_out() {
        assert_eq!(completions(&["mpc"]).0, 2);
    }
}
