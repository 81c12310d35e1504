//! The two partitions of a slot: the root with its hash tree, and what starts it.
//!
//! # Invariants
//! - The root hash stands in the slot's own boot partition, so that an update brings both.
//! - GRUB cannot read zstd: the boot partition is a squashfs without compression, of files that are
//!   compressed themselves.
//! - Both depend on the tree alone: times are the build's epoch.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use super::tree::Tree;
use super::{initrd, tools};
use crate::arch::Arch;
use crate::shell;

/// A block of the root and of its hash tree.
const BLOCK: u64 = 4096;

/// The two files of a slot, and how much of the root is content.
pub(super) struct Slot {
    /// The root with its hash tree behind it.
    pub(super) root: PathBuf,
    /// Kernel, initrd and GRUB's words.
    pub(super) boot: PathBuf,
    /// The compressed root without its hash tree, in bytes.
    pub(super) content: u64,
}

/// Packs a tree as the two files of a slot.
pub(super) fn pack(
    tree: &Tree,
    arch: Arch,
    epoch: u64,
    quick: bool,
    work: &Path,
) -> anyhow::Result<Slot> {
    let root = work.join("rootfs.img");
    // 15 takes a minute of a processor, 3 a tenth of it for a fifth more bytes.
    let level = if quick { "3" } else { "15" };
    let how = ["-comp", "zstd", "-Xcompression-level", level, "-b", "256K"];
    squash(&tree.root, &root, epoch, &how)?;
    let content = std::fs::metadata(&root)?.len();
    let verity = verify(&root)?;

    let folder = work.join("boot");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let kernel = tree.build.join("boot").join(format!("vmlinuz-{}", tree.kernel));
    std::fs::copy(&kernel, folder.join("vmlinuz"))
        .with_context(|| format!("{} not copied", kernel.display()))?;
    initrd::pack(tree, work, &folder.join("initrd.img"))?;
    std::fs::write(folder.join("slot.cfg"), slot_words(arch, &verity))?;
    let boot = work.join("boot.img");
    let plain = ["-comp", "gzip", "-noI", "-noId", "-noD", "-noF", "-noX", "-no-fragments"];
    squash(&folder, &boot, epoch, &plain)?;
    Ok(Slot { root, boot, content })
}

/// What GRUB reads of a slot.
fn slot_words(arch: Arch, verity: &str) -> String {
    // The last console is the one that services and panics write to.
    let console = match arch {
        Arch::X86_64 => "console=tty0 console=ttyS0,115200",
        Arch::Aarch64 | Arch::Armv7 => "console=tty0 console=ttyAMA0,115200",
    };
    // A kernel that cannot go on restarts, so that GRUB counts.
    format!(
        "set slot_options=\"tidegate.verity={verity} {console} panic=10 oops=panic loglevel=5 \
         systemd.show_status=error\"\n"
    )
}

fn squash(from: &Path, to: &Path, epoch: u64, how: &[&str]) -> anyhow::Result<()> {
    let mut command = tools::command("mksquashfs");
    command.arg(from).arg(to).args(how);
    command.args(["-noappend", "-quiet", "-no-progress", "-all-time"]).arg(epoch.to_string());
    command.args(["-mkfs-time"]).arg(epoch.to_string());
    // Two clocks would contradict: mksquashfs refuses both at once.
    command.env_remove("SOURCE_DATE_EPOCH");
    let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
    shell::run(&format!("pack {name}"), &mut command)
}

/// Appends the hash tree and returns what the kernel needs: blocks, root hash, salt.
fn verify(root: &Path) -> anyhow::Result<String> {
    let content = std::fs::metadata(root)?.len().next_multiple_of(BLOCK);
    let file = std::fs::OpenOptions::new().write(true).open(root)?;
    file.set_len(content)?;
    drop(file);
    let mut command = tools::command("veritysetup");
    command.arg("format").arg(root).arg(root).arg(format!("--hash-offset={content}"));
    // No salt: it hides nothing, and the same root has the same hash.
    command.args(["--no-superblock", "--hash=sha256", "--data-block-size=4096"]);
    command
        .args(["--hash-block-size=4096", "--salt=-"])
        .arg(format!("--data-blocks={}", content / BLOCK));
    let told = shell::ask(&mut command).context("veritysetup failed")?;
    let hash =
        root_hash(&told).with_context(|| format!("veritysetup told no root hash: {told}"))?;
    ensure!(std::fs::metadata(root)?.len() > content, "veritysetup wrote no hash tree");
    Ok(format!("{}:{hash}:-", content / BLOCK))
}

fn root_hash(told: &str) -> Option<&str> {
    let hash = told.lines().find_map(|line| line.strip_prefix("Root hash:"))?.trim();
    (hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hash)
}

/// Refuses a file that does not fit its partition.
pub(super) fn must_fit(file: &Path, most: u64) -> anyhow::Result<()> {
    let length = std::fs::metadata(file)?.len();
    if length > most {
        bail!(
            "{} has {length} bytes, its partition {most}: leave something out of image/base.packages \
             or image/kernel.keep",
            file.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_root_hash_is_taken() {
        let hash = "ab".repeat(32);
        assert_eq!(root_hash(&format!("UUID:\nRoot hash:      \t{hash}\n")), Some(hash.as_str()));
        assert_eq!(root_hash("Root hash: abcd"), None);
    }

    #[test]
    fn a_slot_tells_its_kernel_how_it_is_verified_and_to_restart_after_a_panic() {
        let words = slot_words(Arch::Aarch64, "8:ab:-");
        assert!(words.contains("tidegate.verity=8:ab:-") && words.contains("panic=10"), "{words}");
        assert!(words.contains("ttyAMA0") && !words.contains("ttyS0"));
    }

    #[test]
    fn a_file_that_does_not_fit_names_what_can_be_left_out() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        assert!(must_fit(file.path(), 5).is_ok());
        assert!(must_fit(file.path(), 4).unwrap_err().to_string().contains("kernel.keep"));
    }
}
