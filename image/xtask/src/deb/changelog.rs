//! CHANGELOG.md as Debian writes changelogs.
//!
//! # Invariants
//! - What is not released yet stands under the version that the package has; a released version
//!   stands under its own.
//! - Only text: links, code marks and headings of Markdown do not reach the package.

use std::fmt::Write as _;

/// Debian's changelog of `package`, whose version is `version`. `date` is RFC 5322.
pub(super) fn of(
    package: &str,
    version: &str,
    maintainer: &str,
    date: &str,
    markdown: &str,
) -> String {
    let mut text = String::new();
    let mut entry: Option<String> = None;
    let mut items: Vec<String> = Vec::new();
    let mut close = |entry: &mut Option<String>, items: &mut Vec<String>| {
        if let Some(version) = entry.take() {
            // Writing to a String cannot fail.
            let _ = write!(text, "{package} ({version}) unstable; urgency=medium\n\n");
            if items.is_empty() {
                items.push("No changes that are told.".to_owned());
            }
            for item in items.drain(..) {
                text.push_str(&wrapped(&item));
            }
            let _ = write!(text, "\n -- {maintainer}  {date}\n\n");
        }
    };
    for line in markdown.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            close(&mut entry, &mut items);
            let released = heading.trim_matches(['[', ']']).split([' ', ']']).next();
            entry = Some(match released {
                Some(number) if number.starts_with(|c: char| c.is_ascii_digit()) => {
                    format!("{number}-1")
                }
                _ => version.to_owned(),
            });
        } else if let Some(item) = line.strip_prefix("- ") {
            items.push(plain(item));
        } else if let (Some(more), Some(last)) = (line.strip_prefix("  "), items.last_mut()) {
            let _ = write!(last, " {}", plain(more.trim()));
        }
    }
    close(&mut entry, &mut items);
    text
}

/// Without links' targets and marks of code and emphasis.
fn plain(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    text.replace(['[', ']', '`'], "").replace("**", "")
}

/// An item of at most 80 columns, unless a word is longer.
fn wrapped(item: &str) -> String {
    let mut text = String::from("  *");
    let mut column = 3;
    for word in item.split_whitespace() {
        let width = word.chars().count();
        if column + 1 + width > 80 && column > 4 {
            text.push_str("\n   ");
            column = 3;
        }
        text.push(' ');
        text.push_str(word);
        column += 1 + width;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_released_stands_under_the_packages_version() {
        let markdown = "# Changelog\n\nWords.\n\n## Unreleased\n\n### Added\n- One, by `run`\n  \
            ([decision 12](docs/x.md)).\n\n## 0.1.0 - 2026-11-01\n- **Two**.\n";
        let text =
            of("tidegate", "0.2.0-1", "A <a@b>", "Mon, 30 Nov 2026 10:00:00 +0000", markdown);
        assert_eq!(
            text,
            "tidegate (0.2.0-1) unstable; urgency=medium\n\n  * One, by run (decision 12).\n\n \
             -- A <a@b>  Mon, 30 Nov 2026 10:00:00 +0000\n\n\
             tidegate (0.1.0-1) unstable; urgency=medium\n\n  * Two.\n\n \
             -- A <a@b>  Mon, 30 Nov 2026 10:00:00 +0000\n\n"
        );
    }

    #[test]
    fn long_items_are_wrapped_under_themselves() {
        let text = wrapped(&"word ".repeat(40));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("    word")), "{text}");
    }
}
