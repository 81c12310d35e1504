//! Commands that are in the tools' program and not in the gateway's.
//!
//! # Invariants
//! - Whoever calls one where it is not is told which package has it, and not that there is none.

use super::exit::{Failure, USAGE};

/// Commands that a feature brings, and whether this program has it.
const COMMANDS: [(&str, bool); 4] = [
    ("demo", cfg!(feature = "demo")),
    ("hub", cfg!(feature = "hub")),
    ("mcp", cfg!(feature = "analysis")),
    ("sim", cfg!(feature = "sim")),
];

/// What is said to somebody who calls `name`; nothing where this program may know it.
pub(super) fn command(name: &str) -> Option<Failure> {
    told(name, &COMMANDS)
}

fn told(name: &str, commands: &[(&str, bool)]) -> Option<Failure> {
    commands.contains(&(name, false)).then(|| {
        let text = format!(
            "`tidegate {name}` is not part of a gateway's program; run it on another machine, from \
             the package tidegate-tools"
        );
        Failure::new(USAGE, text)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn a_command_of_the_tools_names_its_package_and_no_other_does() {
        let commands = [("hub", false), ("sim", true)];
        let text = told("hub", &commands).map(|failure| failure.to_string()).unwrap();
        assert!(text.contains("`tidegate hub`") && text.contains("tidegate-tools"), "{text}");
        assert!(told("sim", &commands).is_none() && told("hubs", &commands).is_none());
    }

    #[test]
    fn each_command_is_known_to_this_program_or_said_to_be_absent() {
        let program = super::super::Arguments::command();
        for (name, _) in COMMANDS {
            assert_ne!(program.find_subcommand(name).is_some(), command(name).is_some(), "{name}");
        }
    }
}
