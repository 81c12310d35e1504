//! One line for whoever looks at the service: why the daemon does not run.
//!
//! # Invariants
//! - It is one line, however many mistakes there are, and names the first of them.
//! - It says where the rest is.

use super::RunError;
use crate::causes::chain;
use crate::cli::terminal;
use crate::config::LoadError;

/// The longest line, in characters: what `systemctl status` and a person take in.
const LONGEST: usize = 400;

/// The error in a line, for `systemctl status`.
pub(super) fn in_a_line(error: &RunError) -> String {
    let RunError::Config(LoadError::Mistakes(mistakes)) = error else { return cut(&chain(error)) };
    let count = u64::try_from(mistakes.count()).unwrap_or(u64::MAX);
    let first = mistakes.lines().next().unwrap_or_default();
    let all = if count > 1 { "; `tidegate check` shows all" } else { "" };
    let count = terminal::count(count, "mistake");
    cut(&format!("the configuration has {count}{all}: {first}"))
}

/// The line as journald takes it from a stream: with its urgency before it (sd-daemon(3)).
pub(super) fn for_journald(line: &str) -> String {
    const ERROR: &str = "<3>";
    format!("{ERROR}{line}")
}

fn cut(text: &str) -> String {
    let line = text.replace(['\n', '\r'], " ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn said(text: &str) -> String {
        let mistakes = parse(Path::new("/etc/tidegate/tidegate.toml"), text, [], &[]).unwrap_err();
        in_a_line(&RunError::Config(LoadError::Mistakes(mistakes)))
    }

    #[test]
    fn a_single_mistake_is_the_line() {
        let line = said("[gateway]\nplant = \"P\"\n");
        assert_eq!(
            line,
            "the configuration has 1 mistake: /etc/tidegate/tidegate.toml:1: gateway.name: \
             \"name\" is missing; legal: 1 to 31 letters, digits, '-' or '_', beginning with a \
             letter or digit, for example name = \"gw-line3\""
        );
    }

    #[test]
    fn of_many_the_first_is_named_and_the_others_are_counted() {
        let line = said("[gateway]\n[journal]\nmax-bytes = 1\nx = 2\n");
        let begin = "the configuration has 4 mistakes; `tidegate check` shows all: \
                     /etc/tidegate/tidegate.toml:1: gateway.";
        assert!(line.starts_with(begin), "{line}");
    }

    #[test]
    fn a_line_stays_one_line_of_bounded_length() {
        let line = cut(&"ä\n".repeat(LONGEST));
        assert!(line.chars().count() == LONGEST + 1 && !line.contains('\n'), "{line}");
    }
}
