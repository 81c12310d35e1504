//! cargo-deb and lintian.
//!
//! # Invariants
//! - cargo-deb is the pinned one, and never builds or strips anything.
//! - The package stands in its place only when lintian found no error.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::stage::Stage;
use super::{DebArgs, Variant};
use crate::workspace::Workspace;
use crate::{debian, pins, shell};

/// Who signs the changelog: as in the manifest. It receives no mail (SECURITY.md).
pub(super) const MAINTAINER: &str = "The Tidegate authors <tidegate@users.noreply.github.com>";

/// The version of the packages.
pub(super) fn version(args: &DebArgs) -> String {
    args.deb_version.clone().unwrap_or_else(|| format!("{}-1", env!("CARGO_PKG_VERSION")))
}

/// The version of a reader that what this release writes to the journal needs.
pub(super) fn journal_format(root: &Path) -> anyhow::Result<u8> {
    let of = |file: &str, name: &str| -> anyhow::Result<u8> {
        let place = root.join("daemon/journal/src").join(file);
        let text = std::fs::read_to_string(&place)
            .with_context(|| format!("{} is not readable", place.display()))?;
        let number = text.split_once(&format!("const {name}: u8 = ")).map(|(_, rest)| rest);
        let number = number.and_then(|rest| rest.split_once(';')).map(|(number, _)| number);
        let number = number.and_then(|number| number.parse().ok());
        number.with_context(|| format!("no {name} in {}", place.display()))
    };
    Ok(of("frame.rs", "FORMAT_VERSION")?.max(of("segment.rs", "LAYOUT_VERSION")?))
}

/// Packs, and looks the package over.
pub(super) fn pack(
    workspace: &Workspace,
    args: &DebArgs,
    variant: Variant,
    stage: &Stage,
    epoch: u64,
) -> anyhow::Result<PathBuf> {
    let tool = provide(workspace)?;
    let out = out(workspace, args)?;
    let file = format!("{}_{}_{}.deb", variant.package(), version(args), args.arch.debian());
    let made = stage.target.join(&file);
    let mut command = Command::new(tool);
    command.args(["--no-build", "--no-strip", "--quiet", "--multiarch", "none"]);
    command.args(["--target", args.arch.triple(), "--variant", variant.word()]);
    command.arg("--manifest-path").arg(workspace.root.join("daemon/Cargo.toml"));
    command.arg("--deb-version").arg(version(args)).arg("--output").arg(&made);
    if args.fast {
        command.arg("--fast");
    }
    command.env("CARGO_TARGET_DIR", &stage.target).env("SOURCE_DATE_EPOCH", epoch.to_string());
    shell::run(&format!("pack {file}"), &mut command)?;
    look_over(&made)?;
    let place = out.join(&file);
    std::fs::rename(&made, &place)
        .or_else(|_| std::fs::copy(&made, &place).map(|_| ()))
        .with_context(|| format!("{} could not be put in place", place.display()))?;
    Ok(place)
}

/// Where packages go.
pub(super) fn out(workspace: &Workspace, args: &DebArgs) -> anyhow::Result<PathBuf> {
    let out = args.out.clone().unwrap_or_else(|| args.arch.folder(workspace));
    std::fs::create_dir_all(&out).with_context(|| format!("make {}", out.display()))?;
    Ok(out)
}

/// The pinned cargo-deb, built once.
fn provide(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let version = pins::cargo_deb()?;
    let root = workspace.tools().join(format!("cargo-deb-{version}"));
    let program = root.join("bin/cargo-deb");
    if shell::ask(Command::new(&program).arg("--version"))
        .is_some_and(|said| is_version(&said, &version))
    {
        return Ok(program);
    }
    let mut install = workspace.cargo();
    install.args(["install", "cargo-deb", "--locked", "--force", "--version", &version]);
    install.arg("--root").arg(&root);
    shell::run(&format!("build cargo-deb {version} (about two minutes, once)"), &mut install)?;
    Ok(program)
}

/// Whether `cargo-deb 3.8.0` is this version.
fn is_version(said: &str, version: &str) -> bool {
    said.split_whitespace().last() == Some(version)
}

/// Fails when lintian finds an error that no override gives a reason for.
fn look_over(package: &Path) -> anyhow::Result<()> {
    debian::need("lintian", "lintian")?;
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error", "--allow-root", "--no-tag-display-limit", "--info"]);
    let kept = shell::run_and_keep("look over the package with lintian", lintian.arg(package))?;
    if kept.ended.is_err() {
        bail!("lintian finds errors in {}", package.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    #[test]
    fn reports_go_to_the_repository_that_the_crates_name() {
        let read = |file: &str| std::fs::read_to_string(repository().join(file)).unwrap();
        let manifest = read("Cargo.toml");
        let named = manifest.lines().find_map(|line| line.strip_prefix("repository = "));
        let place = format!("{}/security/advisories/new", named.unwrap().trim_matches('"'));
        assert!(read("SECURITY.md").contains(&place), "SECURITY.md does not name {place}");
        let maintainer = format!("maintainer = \"{MAINTAINER}\"");
        assert!(read("daemon/Cargo.toml").contains(&maintainer), "two maintainers");
    }

    #[test]
    fn the_script_before_an_installation_reads_what_this_release_reads() {
        let reads = journal_format(&repository()).unwrap();
        let script = repository().join("image/deb/tidegate/preinst");
        let script = std::fs::read_to_string(script).unwrap();
        assert!(script.contains(&format!("\nREADS={reads}\n")), "READS is not {reads}");
    }

    /// What `preinst` says to an older release beside a journal: nothing when it may be installed.
    fn refusal(installed_writes: Option<&str>, segment: Option<[u8; 2]>) -> Option<String> {
        let root = tempfile::tempdir().unwrap();
        let (share, journal) = ("usr/share/tidegate", "var/lib/tidegate/journal");
        for folder in [share, journal] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        if let Some(version) = installed_writes {
            std::fs::write(root.path().join(share).join("journal-format"), version).unwrap();
        }
        if let Some([of_segment, of_frame]) = segment {
            let mut bytes = vec![0; 8192];
            bytes[..4].copy_from_slice(b"TGSG");
            bytes[9] = of_segment;
            bytes[4200..4204].copy_from_slice(b"TGFR");
            bytes[4209] = of_frame;
            let name = format!("seg-{:020}.tgj", 7);
            std::fs::write(root.path().join(journal).join(name), bytes).unwrap();
        }
        let mut script = Command::new("sh");
        script.arg(repository().join("image/deb/tidegate/preinst")).args(["upgrade", "9.0.0-1"]);
        let output = script.env("DPKG_ROOT", root.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (!output.status.success()).then_some(said)
    }

    #[test]
    fn a_release_that_cannot_read_the_journal_is_refused_before_it_is_unpacked() {
        for (writes, segment) in [(Some("2\n"), [1, 1]), (None, [2, 1]), (None, [1, 2])] {
            let said = refusal(writes, Some(segment)).unwrap();
            assert!(said.contains("9.0.0-1") && said.contains("version 2"), "{said}");
        }
        assert_eq!(refusal(Some("1\n"), Some([1, 1])), None);
        assert_eq!(refusal(Some("2\n"), None), None, "without a journal nothing can be lost");
    }
}
