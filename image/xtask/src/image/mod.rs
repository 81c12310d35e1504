//! Flashable images and signed updates.
//!
//! # Invariants
//! - Every step's result is renamed into place: an interrupted build is begun again without harm.
//! - What the image is made of stands in `image/`: packages, modules, scripts, units, GRUB's rules.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::arch::Arch;
use crate::figures::Figure;
use crate::workspace::Workspace;
use crate::{deb, shell};

mod base;
mod bundle;
mod disk;
mod initrd;
#[cfg(test)]
mod rules;
mod slot;
pub(crate) mod sources;
mod tools;
mod tree;

/// What the compressed root may have.
const MOST_OF_ROOT: u64 = 120_000_000;

/// What a build takes for a while: the tree, its squashfs, the disk.
const ROOM: u64 = 4_000_000_000;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct ImageArgs {
    /// For which gateways
    pub(crate) arch: Arch,
    /// An image with a root shell on the virtual machine's console (hvc0); never for a plant
    #[arg(long)]
    pub(crate) development: bool,
    /// Only the signed update, no disk
    #[arg(long)]
    pub(crate) bundle_only: bool,
    /// A folder that is copied over the root; may be given several times
    #[arg(long, value_name = "DIR")]
    pub(crate) root_overlay: Vec<PathBuf>,
    /// A folder with keyring.pem, signer.pem and signer.key; development keys when left out
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// Where the update goes (with --bundle-only) or the folder for everything
    #[arg(long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// What this build is called; the workspace's version when left out
    #[arg(long, value_name = "TEXT")]
    pub(crate) image_version: Option<String>,
    /// The gateway's package; the one in target/appliance when left out
    #[arg(long, value_name = "FILE")]
    pub(crate) package: Option<PathBuf>,
    /// Compress the root little: for tests, its size is not judged
    #[arg(long)]
    pub(crate) quick: bool,
    /// Make Debian's root again instead of taking the kept one
    #[arg(long)]
    pub(crate) fresh: bool,
}

impl ImageArgs {
    /// An image and its update as they are released.
    pub(crate) const fn of(arch: Arch) -> Self {
        Self {
            arch,
            development: false,
            bundle_only: false,
            root_overlay: Vec::new(),
            keys: None,
            output: None,
            image_version: None,
            package: None,
            quick: false,
            fresh: false,
        }
    }
}

/// Makes what is asked for and returns its figures.
pub(crate) fn make(workspace: &Workspace, args: &ImageArgs) -> anyhow::Result<Vec<Figure>> {
    ensure!(
        args.arch != Arch::Armv7,
        "no image for armv7: its boards boot in their own ways; docs/image.md says how to port one"
    );
    tools::provide()?;
    let folder = args.arch.folder(workspace);
    std::fs::create_dir_all(&folder)?;
    enough_room(&folder)?;
    let package = match &args.package {
        Some(named) => named.clone(),
        None => deb::gateway_package(&folder, args.arch)?,
    };
    let version =
        args.image_version.clone().unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned());
    ensure!(
        !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_graphic()),
        "image version {version:?}: letters, digits and signs without spaces"
    );
    let keys = bundle::Keys::provide(workspace, args.keys.as_deref())?;
    let compatible = format!("tidegate-{}", args.arch.word());
    let base = base::provide(workspace, args.arch, args.fresh)?;
    let recipe = workspace.root.join("image");
    let development = recipe.join("development");
    let mut overlays: Vec<&Path> = Vec::new();
    if args.development {
        overlays.push(&development);
    }
    overlays.extend(args.root_overlay.iter().map(PathBuf::as_path));
    let parts = tree::Parts {
        base: &base,
        package: &package,
        recipe: &recipe,
        overlays,
        keyring: &keys.keyring,
        compatible: &compatible,
        version: &version,
    };
    // Two builds side by side (a bundle for a test, an image) do not meet.
    let work = folder.join(format!("image-work-{}", std::process::id()));
    let result = pack(workspace, args, &parts, &keys, &work, &folder);
    let removed = std::fs::remove_dir_all(&work);
    let figures = result?;
    removed.with_context(|| format!("{} not removed", work.display()))?;
    Ok(figures)
}

/// The command: makes it and shows the figures.
pub(crate) fn run(workspace: &Workspace, args: &ImageArgs) -> anyhow::Result<()> {
    let figures = make(workspace, args)?;
    shell::say(&format!("made:\n{}", crate::figures::table(&figures)));
    ensure!(figures.iter().all(|figure| figure.holds != Some(false)), "a bound is missed");
    Ok(())
}

fn pack(
    workspace: &Workspace,
    args: &ImageArgs,
    parts: &tree::Parts<'_>,
    keys: &bundle::Keys,
    work: &Path,
    folder: &Path,
) -> anyhow::Result<Vec<Figure>> {
    let tree = tree::compose(parts, work)?;
    let slot = slot::pack(&tree, args.arch, workspace.epoch()?, args.quick, work)?;
    let (update, disk) = match (&args.output, args.bundle_only) {
        (Some(file), true) => (file.clone(), None),
        (Some(folder), false) => (folder.join("update.raucb"), Some(folder.join("disk.img"))),
        (None, true) => (folder.join("update.raucb"), None),
        (None, false) => (folder.join("update.raucb"), Some(folder.join("disk.img"))),
    };
    std::fs::create_dir_all(update.parent().unwrap_or(folder))?;
    bundle::pack(&slot, keys, parts.compatible, parts.version, work, &update)?;
    let arch = args.arch.word();
    let mut figures = vec![
        if args.quick {
            Figure::told(format!("image root, {arch}, barely compressed"), megabytes(&slot.root)?)
        } else {
            Figure::bytes_at_most(format!("image root, {arch}"), slot.content, MOST_OF_ROOT)
        },
        Figure::told(format!("kernel and initrd, {arch}"), megabytes(&slot.boot)?),
        Figure::told(format!("signed update, {arch}"), megabytes(&update)?),
    ];
    if let Some(disk) = disk {
        disk::make(&slot, &tree.build, args.arch, work, &disk)?;
        figures.push(Figure::told(format!("disk image, {arch}"), megabytes(&disk)?));
        std::fs::rename(&slot.root, folder.join("root.squashfs"))?;
    }
    Ok(figures)
}

fn megabytes(file: &Path) -> anyhow::Result<String> {
    Ok(format!("{} MB", std::fs::metadata(file)?.len() / 1_000_000))
}

fn enough_room(folder: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("df");
    let told = shell::ask(command.args(["--output=avail", "--block-size=1"]).arg(folder));
    let free = told.as_deref().and_then(|text| text.lines().last()?.trim().parse::<u64>().ok());
    match free {
        Some(free) if free < ROOM => bail!(
            "{} has {} MB left; an image needs {} MB while it is made",
            folder.display(),
            free / 1_000_000,
            ROOM / 1_000_000
        ),
        _ => Ok(()),
    }
}

/// The SHA-256 of texts one behind the other, in hexadecimal.
fn digest_of(texts: &[&str]) -> anyhow::Result<String> {
    use std::io::Write as _;

    let mut command = Command::new("sha256sum");
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().context("sha256sum did not start")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(texts.join("\0").as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let digest = text.split_whitespace().next().unwrap_or_default();
    ensure!(digest.len() == 64, "sha256sum told {text:?}");
    Ok(digest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_knows_where_one_text_ends() {
        assert_ne!(digest_of(&["ab", "c"]).unwrap(), digest_of(&["a", "bc"]).unwrap());
    }
}
