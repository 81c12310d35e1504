//! The disk as it is flashed: partitions, boot loader, empty data.
//!
//! # Invariants
//! - Both slots hold the same build at first; A starts, B is not started before an update was taken
//!   by it or A failed three times.
//! - The data partition is the last one, so that it can grow.
//! - No loop device and no mount is needed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::slot::{Slot, must_fit};
use super::{base, tools};
use crate::arch::Arch;
use crate::shell;

const GRUB: &str = include_str!("../../../grub/grub.cfg");

/// What the boot loader's own program holds; everything of a slot is read by these.
const GRUB_MODULES: &str = "part_gpt fat squash4 regexp loadenv test echo normal linux reboot sleep \
                            configfile boot";

/// One mebibyte.
const MIB: u64 = 1024 * 1024;

/// The partitions by name, size and type. GRUB and RAUC know them by number and name.
const PARTITIONS: [(&str, u64, &str); 7] = [
    ("esp", 32 * MIB, "U"),
    ("boot-a", 64 * MIB, "L"),
    ("boot-b", 64 * MIB, "L"),
    // Twice what the root may have.
    ("rootfs-a", 256 * MIB, "L"),
    ("rootfs-b", 256 * MIB, "L"),
    ("tidegate-cfg", 16 * MIB, "F"),
    ("tidegate-data", 256 * MIB, "L"),
];

/// Makes the disk's image from a slot.
pub(super) fn make(
    slot: &Slot,
    build: &Path,
    arch: Arch,
    work: &Path,
    to: &Path,
) -> anyhow::Result<()> {
    for (file, name) in [(&slot.root, "rootfs-a"), (&slot.boot, "boot-a")] {
        must_fit(file, size_of(name))?;
    }
    let folder = work.join("disk");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("empty"))?;
    boot_partition(build, arch, &folder)?;
    let configuration = folder.join("tidegate-cfg.img");
    vfat(&configuration, "TIDEGATECFG", "7D60C0F6", size_of("tidegate-cfg"))?;
    data_partition(&folder.join("tidegate-data.img"))?;
    for (file, names) in
        [(&slot.root, ["rootfs-a", "rootfs-b"]), (&slot.boot, ["boot-a", "boot-b"])]
    {
        for name in names {
            let link = folder.join(format!("{name}.img"));
            std::os::unix::fs::symlink(std::path::absolute(file)?, link)?;
        }
    }
    let config = folder.join("genimage.cfg");
    std::fs::write(&config, genimage_words())?;
    let mut command = tools::command("genimage");
    for (option, path) in [
        ("--inputpath", folder.clone()),
        ("--outputpath", folder.join("out")),
        ("--rootpath", folder.join("empty")),
        ("--tmppath", folder.join("tmp")),
        ("--config", config),
    ] {
        command.arg(option).arg(path);
    }
    shell::run("lay out the disk", &mut command)?;
    std::fs::rename(folder.join("out/disk.img"), to)
        .with_context(|| format!("{} not made", to.display()))?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn size_of(name: &str) -> u64 {
    PARTITIONS.iter().find(|(known, ..)| *known == name).map_or(0, |(_, size, _)| *size)
}

fn genimage_words() -> String {
    let mut words =
        String::from("image disk.img {\n  hdimage { partition-table-type = \"gpt\" }\n");
    for (name, size, kind) in PARTITIONS {
        // Writing to a String cannot fail.
        let _ = writeln!(
            words,
            "  partition {name} {{ image = \"{name}.img\" size = {size} partition-type-uuid = \"{kind}\" }}"
        );
    }
    words.push_str("}\n");
    words
}

/// GRUB as one program that holds its configuration, and which slot starts.
fn boot_partition(build: &Path, arch: Arch, folder: &Path) -> anyhow::Result<()> {
    let (format, program) = match arch {
        Arch::X86_64 => ("x86_64-efi", "BOOTX64.EFI"),
        Arch::Aarch64 | Arch::Armv7 => ("arm64-efi", "BOOTAA64.EFI"),
    };
    let config = folder.join("grub.cfg");
    std::fs::write(&config, GRUB)?;
    let modules = build.join("usr/lib/grub").join(format);
    let efi = folder.join(program);
    let mut grub = tools::command("grub-mkstandalone");
    grub.args(["--format", format, "--locales=", "--fonts=", "--themes="]);
    grub.arg("--directory").arg(&modules).arg(format!("--install-modules={GRUB_MODULES}"));
    grub.arg(format!("--modules={GRUB_MODULES}"));
    grub.arg("--output").arg(&efi).arg(format!("boot/grub/grub.cfg={}", config.display()));
    shell::run(&format!("make the boot loader (grub-efi-{}-bin)", base::grub(arch)), &mut grub)?;

    let words = folder.join("grubenv");
    let mut editenv = tools::command("grub-editenv");
    shell::run("make GRUB's words", editenv.arg(&words).arg("create"))?;
    let mut editenv = tools::command("grub-editenv");
    editenv.arg(&words).args(["set", "ORDER=A B", "A_OK=1", "A_TRY=0", "B_OK=1", "B_TRY=0"]);
    shell::run("say which slot starts", &mut editenv)?;

    let esp = folder.join("esp.img");
    vfat(&esp, "TIDEGATEESP", "7D60E5B0", size_of("esp"))?;
    let mut folders = tools::command("mmd");
    folders.arg("-i").arg(&esp).args(["::EFI", "::EFI/BOOT", "::EFI/tidegate"]);
    shell::run("make the boot partition's folders", &mut folders)?;
    let boot = format!("EFI/BOOT/{program}");
    for (from, to) in [
        (&efi, boot.as_str()),
        (&words, "EFI/tidegate/grubenv"),
        (&words, "EFI/tidegate/grubenv.old"),
    ] {
        let mut copy = tools::command("mcopy");
        copy.arg("-i").arg(&esp).arg(from).arg(format!("::{to}"));
        shell::run(&format!("place {to}"), &mut copy)?;
    }
    Ok(())
}

fn vfat(file: &PathBuf, label: &str, number: &str, size: u64) -> anyhow::Result<()> {
    std::fs::File::create(file)?.set_len(size)?;
    let mut command = tools::command("mkfs.vfat");
    command.args(["--invariant", "-n", label, "-i", number]).arg(file);
    // It tells nothing that matters on standard output.
    command.stdout(std::process::Stdio::null());
    shell::run(&format!("make {label}"), &mut command)
}

fn data_partition(file: &Path) -> anyhow::Result<()> {
    std::fs::File::create(file)?.set_len(size_of("tidegate-data"))?;
    let mut command = tools::command("mkfs.ext4");
    // Everything at once: what is left for the kernel to do later would be written at each start.
    command.args(["-q", "-F", "-b", "4096", "-L", "tidegate-data", "-m", "1", "-E", "lazy_itable_init=0"]);
    shell::run("make the data partition", command.arg(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_loader_counts_on_the_order_of_the_partitions() {
        let names: Vec<&str> = PARTITIONS.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names[..3], ["esp", "boot-a", "boot-b"]);
        assert!(GRUB.contains("gpt1)/EFI/tidegate"));
        assert!(GRUB.contains("part=\"gpt2\"") && GRUB.contains("part=\"gpt3\""));
        assert_eq!(names.last(), Some(&"tidegate-data"), "only the last one can grow");
    }

    #[test]
    fn both_slots_have_the_same_room() {
        assert_eq!(size_of("rootfs-a"), size_of("rootfs-b"));
        assert_eq!(size_of("boot-a"), size_of("boot-b"));
    }
}
