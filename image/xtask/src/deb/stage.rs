//! What goes into a package, laid out where cargo-deb looks for it.
//!
//! # Invariants
//! - The folder is made anew for each package: nothing of another one gets in.
//! - cargo-deb takes `target/release` for the folder returned here, whatever it really is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::server::Server;
use super::{DebArgs, Variant, changelog, pack};
use crate::shell;
use crate::workspace::Workspace;

/// Commands that are in the tools alone: their pages are not in the gateway's package.
const TOOLS_ONLY: [&str; 3] = ["demo", "mcp", "sim"];

/// Where cargo-deb is told the target directory is, for one package.
#[derive(Debug)]
pub(super) struct Stage {
    /// The target directory.
    pub(super) target: PathBuf,
    /// What takes the place of `target/release`.
    pub(super) release: PathBuf,
}

/// Lays everything out.
pub(super) fn lay(
    workspace: &Workspace,
    args: &DebArgs,
    variant: Variant,
    server: &Server,
    epoch: u64,
) -> anyhow::Result<Stage> {
    let folder = args.arch.folder(workspace);
    let program = folder.join(variant.package());
    ensure!(
        program.is_file(),
        "{} is missing; build it with: cargo xtask cross {}",
        program.display(),
        args.arch.word()
    );
    let target = folder.join("stage").join(variant.word());
    if target.exists() {
        std::fs::remove_dir_all(&target)?;
    }
    let release = target.join(args.arch.triple()).join("release");
    let stage = Stage { target, release };
    for inner in ["doc", "man", "completions"] {
        std::fs::create_dir_all(stage.release.join(inner))?;
    }
    link(&program, &stage.release.join("tidegate"))?;
    link(&server.path, &stage.release.join("nats-server"))?;
    man_pages(&workspace.root.join("docs/man"), variant, &stage.release.join("man"))?;
    documents(workspace, args, variant, epoch, &stage.release.join("doc"))?;
    Ok(stage)
}

/// A second name for a file, or a copy where that cannot be.
fn link(from: &Path, to: &Path) -> anyhow::Result<()> {
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    }
    Ok(())
}

fn man_pages(from: &Path, variant: Variant, to: &Path) -> anyhow::Result<()> {
    let pages = std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))?;
    for page in pages {
        let page = page?;
        let name = page.file_name().to_string_lossy().into_owned();
        if variant == Variant::Tools || !is_of_the_tools(&name) {
            std::fs::copy(page.path(), to.join(name))?;
        }
    }
    Ok(())
}

fn is_of_the_tools(page: &str) -> bool {
    let command = page.strip_prefix("tidegate-").and_then(|name| name.strip_suffix(".1"));
    command.is_some_and(|command| {
        TOOLS_ONLY.iter().any(|tool| {
            command.strip_prefix(tool).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
    })
}

fn documents(
    workspace: &Workspace,
    args: &DebArgs,
    variant: Variant,
    epoch: u64,
    to: &Path,
) -> anyhow::Result<()> {
    let markdown = std::fs::read_to_string(workspace.root.join("CHANGELOG.md"))?;
    let text = changelog::of(
        variant.package(),
        &pack::version(args),
        pack::MAINTAINER,
        &date(epoch)?,
        &markdown,
    );
    gzipped(&to.join("changelog.Debian"), &text)?;
    let needs = args.journal_needs.map_or_else(|| pack::journal_format(&workspace.root), Ok)?;
    std::fs::write(to.join("journal-format"), format!("{needs}\n"))?;
    Ok(())
}

/// A moment as RFC 5322 writes it.
fn date(epoch: u64) -> anyhow::Result<String> {
    let mut date = Command::new("date");
    date.env("LC_ALL", "C").args(["-u", "-R", "-d"]).arg(format!("@{epoch}"));
    shell::ask(&mut date).with_context(|| format!("date could not say {epoch}"))
}

/// Writes `text` to `place` with `.gz`, the same bytes for the same text.
fn gzipped(place: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(place, text)?;
    let mut gzip = Command::new("gzip");
    shell::run("compress a document", gzip.args(["-9", "-n", "-f"]).arg(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_commands_that_a_gateway_does_not_have_are_left_out() {
        assert!(is_of_the_tools("tidegate-mcp.1") && is_of_the_tools("tidegate-sim-x.1"));
        assert!(!is_of_the_tools("tidegate-simple.1") && !is_of_the_tools("tidegate.1"));
        assert!(!is_of_the_tools("tidegate.toml.5"));
    }
}
