//! `cargo xtask units`: the systemd units of the packages and of the image are valid, and locked up
//! as far as they promise.
//!
//! # Invariants
//! - Nothing of this machine's own units, settings or programs is looked at: both checks see a root
//!   that is made for them below the target directory.
//! - A warning of systemd's fails the check like an error: a key that it does not know is a lock
//!   that is not there.

mod consistent;
mod image;
mod score;
mod stage;

use std::process::Command;

use anyhow::{Context as _, bail};

use crate::figures::{self, Figure};
use crate::workspace::Workspace;
use crate::{debian, shell};
use score::{LIMITS, Limit, Tenths};
use stage::Stage;

/// Checks every unit and shows how far each service is exposed.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let (figures, open) = check(workspace)?;
    shell::say("what systemd-analyze holds against the services, with its reasons:");
    for line in open {
        shell::say(&format!("  {line}"));
    }
    for line in figures::table(&figures).lines() {
        shell::say(line);
    }
    if figures.iter().any(|figure| figure.holds == Some(false)) {
        bail!("a service is exposed further than it promises; lock it up, or say why in LIMITS");
    }
    Ok(())
}

/// The scores, and what stands open in each service.
fn check(workspace: &Workspace) -> anyhow::Result<(Vec<Figure>, Vec<String>)> {
    debian::need("systemd-analyze", "systemd")?;
    let stage = Stage::make(workspace)?;
    let wrong = consistent::check(&stage.texts);
    if !wrong.is_empty() {
        bail!("the files in {} contradict each other:\n  {}", stage::FOLDER, wrong.join("\n  "));
    }
    let wrong = image::check(&stage.image);
    if !wrong.is_empty() {
        bail!("the image's units cannot be as they are:\n  {}", wrong.join("\n  "));
    }
    verify(&stage)?;
    let mut figures = Vec::new();
    let mut open = Vec::new();
    for limit in &LIMITS {
        let (found, reasons) = exposure(&stage, limit)?;
        open.extend(reasons.into_iter().map(|reason| format!("{}: {reason}", limit.unit)));
        figures.push(Figure {
            what: format!("exposure of {}, 0 to 10", limit.unit),
            found: found.to_string(),
            asked: format!("<= {} ({})", limit.most, limit.why),
            holds: Some(found <= limit.most),
        });
    }
    Ok((figures, open))
}

/// Lets systemd read every unit with everything that it names.
fn verify(stage: &Stage) -> anyhow::Result<()> {
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--root"]).arg(&stage.root).args(stage.units());
    let output = command.output().context("systemd-analyze did not start")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !said.trim().is_empty() {
        bail!("systemd does not take the units as they are:\n{}", said.trim_end());
    }
    Ok(())
}

fn exposure(stage: &Stage, limit: &Limit) -> anyhow::Result<(Tenths, Vec<String>)> {
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager", "--root"]).arg(&stage.root);
    command.arg(limit.unit).env("SYSTEMD_COLORS", "0");
    let output = command.output().context("systemd-analyze did not start")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = score::overall(&text).with_context(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("systemd-analyze security told no score of {}: {said}", limit.unit)
    })?;
    Ok((found, score::reasons(&text)))
}
