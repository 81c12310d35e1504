//! Images lived through in emulated machines: what is built for it, and the scenarios run.
//!
//! # Invariants
//! - Everything is made from one recipe: the builds differ in their name, in one overlay, in who
//!   signed them. What was made stays while its package stays: an interrupted run goes on.
//! - The scenarios run one after the other; an emulated machine has a processor for itself.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::appliance::scenarios;
use crate::arch::Arch;
use crate::figures::Figure;
use crate::image::{self, ImageArgs};
use crate::workspace::Workspace;
use crate::{debian, shell};

/// What the rig starts, and Debian's packages of it.
const PROGRAMS: [(&str, &str); 7] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-system-aarch64", "qemu-system-arm"),
    ("qemu-img", "qemu-utils"),
    ("socat", "socat"),
    ("mtype", "mtools"),
    ("rauc", "rauc"),
    ("openssl", "openssl"),
];

/// The firmware of an emulated machine, and Debian's package of it.
const FIRMWARE: [(&str, &str); 2] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"),
    ("/usr/share/AAVMF/AAVMF_CODE.fd", "qemu-efi-aarch64"),
];

/// The daemon of the build that is not healthy: it ends at once. What judges it is as ever, and has
/// less patience.
const BROKEN: [(&str, &str); 2] = [
    (
        "etc/systemd/system/tidegate.service.d/broken.conf",
        "[Service]\nExecStart=\nExecStart=/bin/false\n",
    ),
    ("etc/tidegate-boot.conf", "WITHIN=90s\n"),
];

/// What images are made for.
const ARCHES: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct MachineArgs {
    /// Only scenarios with this in their name, such as `aarch64`; all when left out
    pub(crate) name: Option<String>,
    /// Make the images and updates, and run nothing
    #[arg(long)]
    pub(crate) prepare: bool,
}

/// Makes what is missing, runs the scenarios, and returns what they found.
pub(crate) fn run(workspace: &Workspace, args: &MachineArgs) -> anyhow::Result<Vec<Figure>> {
    provide()?;
    let name = args.name.as_deref().unwrap_or_default();
    // A name that is no architecture may be any scenario's.
    let wanted = |arch: Arch| name.contains(arch.word());
    let all = !ARCHES.into_iter().any(wanted);
    for arch in ARCHES.into_iter().filter(|arch| all || wanted(*arch)) {
        prepare(workspace, arch)?;
    }
    if args.prepare {
        return Ok(Vec::new());
    }
    let folder = Arch::X86_64.folder(workspace);
    let lines = lines(workspace);
    if lines.exists() {
        std::fs::remove_file(&lines).with_context(|| format!("remove {}", lines.display()))?;
    }
    let stage = scenarios::Stage {
        artefacts: folder,
        more: vec![("TIDEGATE_IMAGES", workspace.target.join("appliance"))],
    };
    scenarios::run(workspace, &stage, "machine", name, &lines)
}

/// Where the scenarios write what they found.
pub(crate) fn lines(workspace: &Workspace) -> PathBuf {
    Arch::X86_64.folder(workspace).join("machine.jsonl")
}

fn provide() -> anyhow::Result<()> {
    for (program, package) in PROGRAMS {
        debian::need(program, package)?;
    }
    for (file, package) in FIRMWARE {
        if !Path::new(file).exists() {
            debian::install(file, package)?;
        }
    }
    Ok(())
}

/// The disk of an architecture; for x86-64 the updates as well.
fn prepare(workspace: &Workspace, arch: Arch) -> anyhow::Result<()> {
    let folder = arch.folder(workspace).join("machine");
    if is_outdated(&folder)? {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let made = |name: &str| folder.join(name).exists();
    if !made("disk.img") {
        // Into a folder of its own first: what is there is whole.
        let part = folder.join("part");
        image::make(workspace, &ImageArgs { development: true, ..wanted(arch, "first", &part) })?;
        for name in ["update.raucb", "disk.img"] {
            std::fs::rename(part.join(name), folder.join(name.replace("update", "first")))
                .with_context(|| format!("{name} of the image"))?;
        }
        std::fs::remove_dir_all(&part)?;
    }
    if arch != Arch::X86_64 {
        return Ok(());
    }
    for (name, version) in [("update.raucb", "second"), ("next.raucb", "third")] {
        if !made(name) {
            update(workspace, wanted(arch, version, &folder.join(name)))?;
        }
    }
    if !made("broken.raucb") {
        let overlay = folder.join("broken");
        for (file, text) in BROKEN {
            let file = overlay.join(file);
            std::fs::create_dir_all(file.parent().context("a file without a folder")?)?;
            std::fs::write(file, text)?;
        }
        let broken = wanted(arch, "broken", &folder.join("broken.raucb"));
        update(workspace, ImageArgs { root_overlay: vec![overlay.clone()], ..broken })?;
        std::fs::remove_dir_all(overlay)?;
    }
    if !made("foreign.raucb") {
        sign_anew(workspace, &folder)?;
    }
    Ok(())
}

/// Whether a package was made after the disk.
fn is_outdated(folder: &Path) -> anyhow::Result<bool> {
    let Ok(disk) = std::fs::metadata(folder.join("disk.img")) else { return Ok(false) };
    let made = disk.modified()?;
    let packages = std::fs::read_dir(folder.parent().context("a folder within none")?)?;
    for package in packages {
        let path = package?.path();
        let is_package = path.extension().is_some_and(|it| it == "deb");
        if is_package && std::fs::metadata(&path)?.modified()? > made {
            return Ok(true);
        }
    }
    Ok(false)
}

fn update(workspace: &Workspace, args: ImageArgs) -> anyhow::Result<()> {
    let args = ImageArgs { development: true, bundle_only: true, ..args };
    let file = args.output.clone().context("an update without a place")?;
    image::make(workspace, &args)?;
    ensure!(file.exists(), "{} was not made", file.display());
    Ok(())
}

fn wanted(arch: Arch, version: &str, output: &Path) -> ImageArgs {
    ImageArgs {
        output: Some(output.to_owned()),
        image_version: Some(version.to_owned()),
        quick: true,
        ..ImageArgs::of(arch)
    }
}

/// The update once more, signed by somebody whom no gateway trusts.
fn sign_anew(workspace: &Workspace, folder: &Path) -> anyhow::Result<()> {
    let stranger = folder.join("stranger");
    std::fs::create_dir_all(&stranger)?;
    let (key, certificate) = (stranger.join("signer.key"), stranger.join("signer.pem"));
    let mut make = std::process::Command::new("openssl");
    make.args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt"]);
    make.args(["ec_paramgen_curve:P-256", "-days", "3650", "-subj", "/O=Somebody else/CN=Updates"]);
    make.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    shell::run("make a stranger's key", &mut make)?;
    let keyring: PathBuf = workspace.target.join("appliance/keys/keyring.pem");
    let part = folder.join("foreign.part");
    let _ = std::fs::remove_file(&part);
    let mut sign = std::process::Command::new("rauc");
    sign.arg("resign").arg("--keyring").arg(keyring).arg("--signing-keyring").arg(&certificate);
    sign.arg("--cert").arg(&certificate).arg("--key").arg(&key);
    sign.arg(folder.join("update.raucb")).arg(&part);
    shell::run("sign the update with it", &mut sign)?;
    std::fs::rename(part, folder.join("foreign.raucb"))?;
    Ok(std::fs::remove_dir_all(stranger)?)
}
