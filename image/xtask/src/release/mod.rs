//! A whole release: programs, packages and images for every architecture, the images lived through in
//! emulated machines, and a committed report of each part.
//!
//! # Invariants
//! - A report names its part's inputs by their hash: one that speaks of others is not believed.
//! - A report is written only after everything of its part has passed.
//! - A part that is left out for want of time is named, and its report stays as it was.

mod inputs;
mod part;
pub(crate) mod report;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::shell;
use crate::workspace::Workspace;
use part::Part;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct ReleaseArgs {
    /// Only parts of a release with this in their name, such as `image` or `armv7`
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Only parts of a release of which something has changed since their report
    #[arg(long)]
    if_changed: bool,
    /// Begin no part of a release that would end later than this, by the time that it took last
    #[arg(long, value_name = "MINUTES")]
    within: Option<u64>,
}

/// Makes what is asked for, and writes the reports.
pub(crate) fn run(workspace: &Workspace, args: &ReleaseArgs) -> anyhow::Result<()> {
    let only = args.only.as_deref().unwrap_or_default();
    let parts: Vec<_> = Part::ALL.into_iter().filter(|part| part.name().contains(only)).collect();
    ensure!(!parts.is_empty(), "no part of a release has {only:?} in its name: {}", names());
    let begun = Instant::now();
    for part in parts {
        let (name, place) = (part.name(), workspace.root.join(part.report()));
        let inputs = inputs::hash(&workspace.root, part.inputs())?;
        let written = std::fs::read_to_string(&place).unwrap_or_default();
        if args.if_changed && report::inputs_of(&written) == Some(&inputs) {
            shell::say(&format!("{name}: nothing of it has changed since its report"));
            continue;
        }
        let left = args.within.map(|most| minutes(most).saturating_sub(begun.elapsed()));
        if !fits(left, report::minutes_of(&written).map(minutes)) {
            shell::say(&format!(
                "NOT RUN: {name} has changed, and there is no time for it here; write its report \
                 with: cargo xtask long release --only {name}"
            ));
            continue;
        }
        let since = Instant::now();
        let made = part.make(workspace).with_context(|| name.clone())?;
        let date = shell::ask(std::process::Command::new("date").args(["-u", "+%Y-%m-%d"]));
        let took = since.elapsed().as_secs().div_ceil(60);
        let text = report::write(&name, &date.unwrap_or_default(), &inputs, took, &made);
        if let Some(folder) = place.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("make {}", folder.display()))?;
        }
        std::fs::write(&place, text).with_context(|| format!("write {}", place.display()))?;
        shell::say(&format!("{name}: {took} min, told in {}", part.report().display()));
    }
    Ok(())
}

/// Whether a part that took this long may begin; one that nothing is known of may not when time is
/// short.
fn fits(left: Option<Duration>, took: Option<Duration>) -> bool {
    left.is_none_or(|left| took.is_some_and(|took| took <= left))
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count.saturating_mul(60))
}

fn names() -> String {
    Part::ALL.map(Part::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_begins_when_it_would_end_in_time_or_when_nobody_waits() {
        let five = Some(minutes(5));
        assert!(fits(None, None) && fits(None, five) && fits(five, five));
        assert!(!fits(Some(minutes(4)), five) && !fits(five, None));
    }
}
