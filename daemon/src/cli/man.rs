//! The man pages of the commands, printed from their arguments.
//!
//! # Invariants
//! - The same arguments give the same bytes, whatever the version and the environment are.
//! - Hidden commands have no page.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::{Arguments, exit};
use crate::config::reference::Generated;

/// `tidegate(1)` and a page for each command.
pub(super) fn pages() -> Vec<Generated> {
    let mut all = Arguments::command().disable_help_subcommand(true);
    all.build();
    let commands: Vec<_> = all.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
    let names: Vec<_> = commands.iter().map(|c| c.get_name().to_owned()).collect();
    let mut pages: Vec<_> = page(all, Some(&names)).into_iter().collect();
    for command in commands {
        with_those_below(command, &mut pages);
    }
    pages
}

fn with_those_below(command: Command, pages: &mut Vec<Generated>) {
    let below: Vec<_> = command.get_subcommands().cloned().collect();
    pages.extend(page(command, None));
    for command in below {
        with_those_below(command, pages);
    }
}

/// `commands` are those of the whole. `None` cannot occur: writing to memory does not fail.
fn page(command: Command, commands: Option<&[String]>) -> Option<Generated> {
    let lists = command.has_subcommands();
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let man = Man::new(command);
    // An own title: the crate's one leaves out the quotes of an empty date.
    let title = name.to_uppercase();
    let mut out = format!("{HEAD}.TH {title} 1 \"\" \"Tidegate\" \"Commands\"\n").into_bytes();
    man.render_name_section(&mut out).ok()?;
    man.render_synopsis_section(&mut out).ok()?;
    man.render_description_section(&mut out).ok()?;
    man.render_options_section(&mut out).ok()?;
    if lists {
        man.render_subcommands_section(&mut out).ok()?;
    }
    // Each section repeats the definition of the apostrophe; it stands at the top once.
    let mut text = String::from_utf8(out).ok()?.replace(APOSTROPHE, "");
    text.insert_str(HEAD.len(), APOSTROPHE);
    if commands.is_some() {
        text.push_str(&exit_status());
    }
    text.push_str(".SH \"SEE ALSO\"\n");
    if let Some(commands) = commands {
        for command in commands {
            // Writing to a String cannot fail.
            let _ = writeln!(text, ".BR tidegate\\-{command} (1),");
        }
    } else {
        text.push_str(".BR tidegate (1),\n");
    }
    text.push_str(".BR tidegate.toml (5)\n");
    Some(Generated { path: format!("docs/man/{name}.1"), content: text })
}

const HEAD: &str =
    ".\\\" Printed from the arguments by \"tidegate internal-docs --write .\"; edit them.\n";

const APOSTROPHE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

fn exit_status() -> String {
    let codes: [(u8, &str); 7] = [
        (exit::OK, "All is well."),
        (exit::NO, "The answer is no: unbalanced, refused, not found."),
        (exit::USAGE, "The arguments are wrong."),
        (exit::CONFIG, "The configuration is wrong."),
        (exit::PEER, "A device, a hub or the daemon cannot be reached."),
        (exit::DISK, "The disk or the output cannot be read or written."),
        (exit::PERMISSION, "The daemon may not be asked by this user."),
    ];
    codes.iter().fold(String::from(".SH \"EXIT STATUS\"\n"), |mut out, (code, words)| {
        let _ = writeln!(out, ".TP\n.B {code}\n{words}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_is_shown_has_a_page_and_no_hidden_one_has() {
        let pages = pages();
        let paths: Vec<_> = pages.iter().map(|page| page.path.as_str()).collect();
        for name in ["tidegate", "tidegate-run", "tidegate-check", "tidegate-prove"] {
            assert!(paths.contains(&format!("docs/man/{name}.1").as_str()), "{paths:?}");
        }
        assert!(!pages.iter().any(|page| page.content.contains("internal\\-")));
    }

    #[test]
    fn each_command_says_in_one_line_what_to_do_with_it() {
        for command in Arguments::command().get_subcommands() {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let verb = about.split(' ').next().unwrap_or_default();
            let is_imperative = !verb.ends_with('s') && verb.starts_with(char::is_uppercase);
            assert!(is_imperative && !about.ends_with('.'), "{}: {about}", command.get_name());
        }
    }

    #[test]
    fn the_pages_are_plain_ascii_for_every_formatter() {
        for page in pages() {
            assert!(page.content.is_ascii(), "{}", page.path);
        }
    }
}
