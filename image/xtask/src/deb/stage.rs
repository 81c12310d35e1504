//! What goes into a package, laid out where cargo-deb looks for it.
//!
//! # Invariants
//! - The folder is made anew for each package: nothing of another one gets in.
//! - cargo-deb takes `target/release` for the folder returned here, whatever it really is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::server::{self, Server};
use super::{DebArgs, Variant, changelog, crates, go, notices, pack, sbom};
use crate::arch::Arch;
use crate::shell;
use crate::workspace::Workspace;

const COPYRIGHT: &str = include_str!("../../../deb/copyright");
const OVERRIDES: &str = include_str!("../../../deb/overrides");

/// Commands that are in the tools alone: their pages are not in the gateway's package.
const TOOLS_ONLY: [&str; 4] = ["demo", "hub", "mcp", "sim"];

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
    completions(workspace, args.arch, variant, &stage.release.join("completions"))?;
    let documents = Documents { workspace, args, variant, epoch, to: stage.release.join("doc") };
    documents.changelog()?;
    documents.parts(server, &program)?;
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
    let mut copied = Vec::new();
    for page in pages {
        let page = page?;
        let name = page.file_name().to_string_lossy().into_owned();
        if variant == Variant::Tools || !is_of_the_tools(&name) {
            std::fs::copy(page.path(), to.join(&name))?;
            copied.push(to.join(name));
        }
    }
    gzip(&copied)
}

/// Completions are the same on every architecture: they are written by a program of the tools that
/// runs here.
fn completions(
    workspace: &Workspace,
    arch: Arch,
    variant: Variant,
    to: &Path,
) -> anyhow::Result<()> {
    let mut programs: Vec<_> =
        Arch::ALL.map(|arch| arch.folder(workspace).join(Variant::Tools.package())).into();
    programs.push(workspace.gateway_binary());
    for program in programs.iter().filter(|program| program.is_file()) {
        let mut write = Command::new(program);
        write.arg("internal-completions").arg(to);
        if variant == Variant::Gateway {
            for command in TOOLS_ONLY {
                write.args(["--without", command]);
            }
        }
        if shell::ask(&mut write).is_some() {
            // The name that bash looks for.
            std::fs::rename(to.join("tidegate.bash"), to.join("tidegate"))?;
            return Ok(());
        }
    }
    bail!(
        "no program here can write shell completions; build the tools with: cargo xtask cross {}, \
         or cargo build --package tidegate",
        arch.word()
    )
}

fn is_of_the_tools(page: &str) -> bool {
    let command = page.strip_prefix("tidegate-").and_then(|name| name.strip_suffix(".1"));
    command.is_some_and(|command| {
        TOOLS_ONLY.iter().any(|tool| {
            command.strip_prefix(tool).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
    })
}

/// What lies in `/usr/share/doc`, and beside it.
struct Documents<'a> {
    workspace: &'a Workspace,
    args: &'a DebArgs,
    variant: Variant,
    epoch: u64,
    to: PathBuf,
}

impl Documents<'_> {
    /// What changed, what may be done with it, what the journal needs.
    fn changelog(&self) -> anyhow::Result<()> {
        let markdown = std::fs::read_to_string(self.workspace.root.join("CHANGELOG.md"))?;
        let (package, version) = (self.variant.package(), pack::version(self.args));
        let date = date(self.epoch, "-R")?;
        let text = changelog::of(package, &version, pack::MAINTAINER, &date, &markdown);
        gzipped(&self.to.join("changelog.Debian"), &text)?;
        let needs = self.args.journal_needs;
        let needs = needs.map_or_else(|| pack::journal_format(&self.workspace.root), Ok)?;
        std::fs::write(self.to.join("journal-format"), format!("{needs}\n"))?;
        std::fs::write(self.to.join("copyright"), COPYRIGHT)?;
        let overrides = OVERRIDES.replace("PACKAGE", package);
        Ok(std::fs::write(self.to.join("lintian-overrides"), overrides)?)
    }

    /// Notices and SBOM; the SBOM also beside the package, where the packages go.
    fn parts(&self, server: &Server, program: &Path) -> anyhow::Result<()> {
        let crates = crates::of(self.workspace, self.args.arch, self.variant)?;
        let modules = go::modules(server)?;
        gzipped(&self.to.join("NOTICES"), &notices::write(&crates, &modules)?)?;
        let version = pack::version(self.args);
        let of = sbom::Of {
            package: self.variant.package(),
            version: &version,
            architecture: self.args.arch.debian(),
            program: &server::sha256(program)?,
            server: &server::sha256(&server.path)?,
            moment: &date(self.epoch, "+%Y-%m-%dT%H:%M:%SZ")?,
        };
        let list = sbom::write(&of, &crates, &modules)?;
        gzipped(&self.to.join("sbom.cdx.json"), &list)?;
        let out = pack::out(self.workspace, self.args)?;
        let name = format!("{}_{version}_{}.cdx.json", of.package, of.architecture);
        Ok(std::fs::write(out.join(name), list)?)
    }
}

/// A moment in a form of `date`.
fn date(epoch: u64, form: &str) -> anyhow::Result<String> {
    let mut date = Command::new("date");
    date.env("LC_ALL", "C").args(["-u", form, "-d"]).arg(format!("@{epoch}"));
    shell::ask(&mut date).with_context(|| format!("date could not say {epoch}"))
}

/// Writes `text` to `place` with `.gz`.
fn gzipped(place: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(place, text)?;
    gzip(&[place.to_owned()])
}

/// Puts compressed files in place of these, the same bytes for the same content.
fn gzip(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut gzip = Command::new("gzip");
    gzip.args(["-9", "-n", "-f"]).args(files);
    ensure!(shell::ask(&mut gzip).is_some(), "gzip could not compress {files:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_commands_that_a_gateway_does_not_have_are_left_out() {
        assert!(is_of_the_tools("tidegate-mcp.1") && is_of_the_tools("tidegate-hub-ca-serve.1"));
        assert!(!is_of_the_tools("tidegate-hubs.1") && !is_of_the_tools("tidegate.1"));
        assert!(!is_of_the_tools("tidegate.toml.5"));
    }
}
