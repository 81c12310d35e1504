//! A disk of its own for a gateway: ext4 on a loop device, which only root can make.
//!
//! ```text
//! daemon ── nsenter ──► mount namespace of the keeper: ext4 on a loop device ──► image file
//! ```
//!
//! # Invariants
//! - The file system is mounted in a mount namespace that a process of the disk's own family keeps.
//!   It outlives the daemon's starts and kills, and goes, loop device included, with the last
//!   process in it: also when the test panics or is killed.
//! - [`Disk::cut`] copies what a power cut would leave: the image holds what the device was given
//!   and nothing of what is still in the mounted file system's cache, for that cache lies above the
//!   loop device. That the *image's* pages may be in the cache of the file system below changes
//!   nothing: they were written through the device.
//! - A copy counts only when the device completed no write while it was taken. What had been
//!   completed before is then in it whole, and what was under way may be in it in part or not at
//!   all: exactly what a cut leaves at that moment. A copy during which a write was completed could
//!   hold a later write without an earlier one, which no disk that obeys flushes does.
//! - The device is one without a volatile cache of its own: what it completed is kept. That the
//!   file system asks for a flush at every fdatasync is the kernel's part and is not judged here.

mod faults;

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::family::{Family, Process};
use crate::{Wishes, wait};

pub use faults::Stall;

/// Mounts, says on what, and stays. `mount -o loop` makes a device that frees itself.
const KEEPER: &str = r#"
eval "${6:-}"
mount -t ext4 -o "loop,$1" "$2" "$3" || exit
echo "mounted $(findmnt --noheadings --output SOURCE --target "$3")"
exec sleep infinity
"#;

/// A mounted ext4 file system in an image file.
#[derive(Debug)]
pub struct Disk {
    keeper: Process,
    family: Arc<Family>,
    device: String,
    place: PathBuf,
    /// What was mounted here before, which who has files open there keeps.
    earlier: Vec<Image>,
    /// Last, so that it is removed when nobody writes into it any more.
    image: Image,
}

/// A file system in a file, not mounted.
#[derive(Debug)]
pub struct Image {
    file: PathBuf,
    directory: TempDir,
}

impl Image {
    fn new() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("tidegate-disk-").tempdir()?;
        Ok(Self { file: directory.path().join("image"), directory })
    }

    /// Mounts it; of a copy that [`Disk::cut`] made, this replays the file system's own journal, as
    /// a start after a power cut does.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub async fn mounted(self, options: &str) -> anyhow::Result<Disk> {
        self.mounted_after(options, &["0", "0", ""]).await
    }

    /// Mounts it after a script, which gets two numbers, has made it.
    async fn mounted_after(self, options: &str, made: &[&str; 3]) -> anyhow::Result<Disk> {
        let family = Family::new()?;
        let place = self.directory.path().join("disk");
        std::fs::create_dir(&place)?;
        let mut command = family.command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", KEEPER, "keeper"]);
        command.arg(options).arg(&self.file).arg(&place).args(made);
        let log = self.directory.path().join("keeper.log");
        let mut keeper = Process::start(&family, "the disk's keeper", command, &log)?;
        let device = wait::until(wait::SOON, "the disk is mounted", || {
            let said = keeper.printed_since(0);
            let ended = keeper.ended();
            async move {
                let said = said?;
                if let Some(status) = ended? {
                    bail!("the disk's keeper ended ({status}): {said}");
                }
                let device = said.lines().find_map(|line| line.strip_prefix("mounted /dev/"));
                Ok(said.ends_with('\n').then_some(device).flatten().map(str::to_owned))
            }
        })
        .await?;
        Ok(Disk { keeper, family, device, place, earlier: Vec::new(), image: self })
    }
}

impl Disk {
    /// A new, empty file system of this size, mounted with options such as `commit=300`.
    ///
    /// # Errors
    /// When it cannot be made or mounted: only root can.
    pub async fn new(bytes: u64, options: &str) -> anyhow::Result<Self> {
        let image = Image::new()?;
        std::fs::File::create(&image.file)?.set_len(bytes)?;
        let family = Family::new()?;
        let mut format = family.command("mkfs.ext4");
        format.args([
            "-q",
            "-b",
            "4096",
            "-m",
            "0",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0",
        ]);
        run(format.arg(&image.file))?;
        image.mounted(options).await
    }

    /// A new file system on a medium of its own, which can be taken away from under it.
    ///
    /// # Errors
    /// When it cannot be made or mounted: only root can.
    pub async fn on_thin_medium(bytes: u64, options: &str) -> anyhow::Result<Self> {
        let mut image = Image::new()?;
        let medium = image.directory.path().join("medium");
        std::fs::create_dir(&medium)?;
        image.file = medium.join("image");
        let [size, length] = [bytes + (64 << 10), bytes].map(|bytes| bytes.to_string());
        image.mounted_after(options, &[&size, &length, faults::THIN]).await
    }

    /// Where it is mounted, for processes that were started into it.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// The same directory as seen from outside.
    #[must_use]
    pub fn seen(&self) -> PathBuf {
        let place = self.place.strip_prefix("/").unwrap_or(&self.place);
        Path::new("/proc").join(self.keeper.id().to_string()).join("root").join(place)
    }

    /// With the gateway's journal and its leaf's directory on this disk, and the daemon started
    /// where it is mounted.
    #[must_use]
    pub fn holding(&self, wishes: Wishes) -> Wishes {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.keeper.id());
        wishes
            .with("journal", "dir", self.place.join("journal").display().to_string())
            .with("leaf", "dir", self.place.join("leaf").display().to_string())
            .started_by(&["nsenter", &namespace, "--"])
    }

    /// Mounts it otherwise, such as `ro` or `rw`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remount(&self, options: &str) -> anyhow::Result<()> {
        let mut command = self.family.command("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.id()));
        command.args(["mount", "-o", &format!("remount,{options}")]).arg(&self.place);
        run(&mut command)
    }

    /// Copies what a power cut at this moment would leave.
    ///
    /// # Errors
    /// When the device is never quiet long enough for a copy to be of one moment.
    pub fn cut(&self) -> anyhow::Result<Image> {
        let cut = Image::new()?;
        // Each try is a moment of its own; a daemon that commits a few times a second leaves most
        // of them quiet.
        for _ in 0..50 {
            let before = self.writes()?;
            let mut copy = self.family.command("cp");
            copy.args(["--sparse=always", "--reflink=never"]);
            run(copy.arg(&self.image.file).arg(&cut.file))?;
            if self.writes()? == before {
                return Ok(cut);
            }
        }
        bail!("/dev/{} is never quiet long enough for a copy", self.device)
    }

    /// What the device has completed: writes, sectors written, discards.
    fn writes(&self) -> anyhow::Result<[u64; 3]> {
        let stat = std::fs::read_to_string(format!("/sys/block/{}/stat", self.device))?;
        let field = |at: usize| -> anyhow::Result<u64> {
            let text = stat.split_whitespace().nth(at).context("the device's figures are cut")?;
            Ok(text.parse()?)
        };
        Ok([field(4)?, field(6)?, field(11)?])
    }
}

/// Files whose content was never synced: what proves that a copy holds nothing of the cache.
#[derive(Debug)]
pub struct Canaries {
    directory: PathBuf,
}

/// What a canary says before and after the write that must vanish.
const SYNCED: [u8; 4096] = [b'.'; 4096];
const UNSYNCED: [u8; 4096] = [b'!'; 4096];

impl Canaries {
    /// Prepares so many on a disk; their first content is synced, here and at once, because a sync
    /// later would carry the names of other files with it.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn new(disk: &Disk, count: usize) -> anyhow::Result<Self> {
        let directory = disk.seen().join("canaries");
        std::fs::create_dir(&directory)?;
        for number in 0..count {
            std::fs::write(directory.join(format!("old-{number}")), SYNCED)?;
        }
        rustix::fs::syncfs(std::fs::File::open(&directory)?)?;
        Ok(Self { directory })
    }

    /// Writes one in place and one as a new file, without a sync.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn release(&self, number: usize) -> anyhow::Result<()> {
        let old = self.directory.join(format!("old-{number}"));
        std::fs::File::options().write(true).open(old)?.write_all_at(&UNSYNCED, 0)?;
        std::fs::write(self.directory.join(format!("new-{number}")), UNSYNCED)?;
        Ok(())
    }

    /// Makes sure that both are gone from a copy that was taken right after, and that the file
    /// system itself has them, so that it is the copy that lacks them.
    ///
    /// # Errors
    /// When one is there: such a copy proves nothing.
    pub fn are_gone_from(&self, copy: &Disk, number: usize) -> anyhow::Result<()> {
        let there = copy.seen().join("canaries");
        let (old, new) = (format!("old-{number}"), format!("new-{number}"));
        ensure!(std::fs::read(self.directory.join(&old))? == UNSYNCED, "{old} was never written");
        ensure!(std::fs::read(self.directory.join(&new))? == UNSYNCED, "{new} was never written");
        ensure!(std::fs::read(there.join(&old))? == SYNCED, "{old} lived on without a sync");
        let new_there = std::fs::read(there.join(&new)).unwrap_or_default();
        ensure!(!new_there.contains(&UNSYNCED[0]), "{new} lived on without a sync");
        Ok(())
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?} did not start"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ({}): {said}", output.status);
    Ok(())
}
