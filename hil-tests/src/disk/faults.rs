//! What can be wrong with a disk while it is in use.
//!
//! # Invariants
//! - Every fault is one that the kernel itself reports to the daemon: no call is intercepted.
//! - A stall ends by itself, also when the test is killed in the middle of it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Disk, Image, run};

/// Holds all writes for a while, again and again.
const STALLS: &str = r#"
trap 'fsfreeze --unfreeze "$1"' EXIT
for _ in $(seq "$3"); do
    fsfreeze --freeze "$1" && sleep "$2"
    fsfreeze --unfreeze "$1"
    sleep 0.05
done
trap - EXIT
"#;

/// The image of a disk on a medium that has room for all of it, as yet.
pub(super) const THIN: &str = r#"
mount -t tmpfs -o "size=$4" tmpfs "$(dirname "$2")" || exit
fallocate -l "$5" "$2" && mkfs.ext4 -q -b 4096 -m 0 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$2" &&
    fallocate -l "$5" "$2" || exit
"#;

/// Blocks of the file systems here.
const BLOCK: u64 = 4096;

/// Writes that wait, until all stalls are over.
#[derive(Debug)]
pub struct Stall(Mutex<Child>);

impl Stall {
    /// Whether the last one has ended.
    ///
    /// # Errors
    /// When stalling failed.
    pub fn is_over(&self) -> anyhow::Result<bool> {
        let mut child = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(status) = child.try_wait()? else { return Ok(false) };
        ensure!(status.success(), "the disk could not be stalled ({status})");
        Ok(true)
    }
}

impl Disk {
    /// Keeps every write waiting for so long, again and again, for about `total`.
    ///
    /// # Errors
    /// When it cannot begin.
    pub fn stall(&self, each: Duration, total: Duration) -> anyhow::Result<Stall> {
        let times = total.as_millis().div_ceil(each.as_millis().max(1)).to_string();
        // Not one of the family, whose end would come in the middle of a stall: nobody could then
        // end a process that waits for the disk.
        let mut command = Command::new("nsenter");
        command.arg(self.namespace()).args(["sh", "-c", STALLS, "stalls"]).arg(&self.place);
        command.args([each.as_secs_f64().to_string(), times]).stdin(Stdio::null());
        Ok(Stall(Mutex::new(command.spawn().context("nsenter did not start")?)))
    }

    /// Lets the file system find an error in itself; mounted with `errors=remount-ro`, it refuses
    /// every write from then on, and cannot be made writable in place.
    ///
    /// # Errors
    /// When the kernel has no such switch.
    pub fn turn_read_only(&self) -> anyhow::Result<()> {
        let switch = format!("/sys/fs/ext4/{}/trigger_fs_error", self.device);
        std::fs::write(&switch, "1").with_context(|| format!("cannot write {switch}"))
    }

    /// Puts a copy of the file system in its place, mounted anew: what an operator does when one
    /// has turned read-only. Who has files of the old one open keeps them.
    ///
    /// # Errors
    /// When it cannot be copied or mounted.
    pub fn mount_anew(&mut self, options: &str) -> anyhow::Result<()> {
        let copy = Image::new()?;
        let mut command = self.family.command("cp");
        run(command.args(["--sparse=always"]).arg(&self.image.file).arg(&copy.file))?;
        self.within("umount", |umount| umount.arg("--lazy").arg(&self.place))?;
        let loop_options = format!("loop,{options}");
        self.within("mount", |mount| {
            mount.args(["-t", "ext4", "-o", &loop_options]).arg(&copy.file).arg(&self.place)
        })?;
        let source = self.within("findmnt", |findmnt| {
            findmnt.args(["--noheadings", "--output", "SOURCE", "--target"]).arg(&self.place)
        })?;
        source.trim().strip_prefix("/dev/").context("no device")?.clone_into(&mut self.device);
        self.earlier.push(std::mem::replace(&mut self.image, copy));
        Ok(())
    }

    /// Takes the medium away from under the unwritten end of a file and from under everything that
    /// is free: what is written there is accepted, and refused by the device when it is synced.
    ///
    /// # Errors
    /// When the disk is not on a thin medium.
    pub fn wear_out(&self, file: &Path) -> anyhow::Result<()> {
        let mut bad = self.extents(file)?;
        let half = bad.iter().map(|(_, blocks)| blocks).sum::<u64>() / 2;
        let mut kept = 0;
        bad.retain_mut(|(first, blocks)| {
            let keep = half.saturating_sub(kept).min(*blocks);
            kept += keep;
            (*first, *blocks) = (*first + keep, *blocks - keep);
            *blocks > 0
        });
        let free = rustix::fs::statvfs(self.seen())?;
        let all = self.place.join("all-that-is-free");
        // Some blocks for the directory's and the file's own entries.
        let most = (free.f_bavail * free.f_frsize).saturating_sub(64 * BLOCK).to_string();
        self.within("fallocate", |fallocate| fallocate.args(["-l", &most]).arg(&all))?;
        bad.extend(self.extents(&all)?);
        std::fs::remove_file(self.seen().join("all-that-is-free"))?;
        rustix::fs::syncfs(std::fs::File::open(self.seen())?)?;
        for (first, blocks) in bad {
            let range = [first, blocks].map(|count| (count * BLOCK).to_string());
            self.within("fallocate", |fallocate| {
                let [offset, length] = &range;
                fallocate.args(["--punch-hole", "-o", offset, "-l", length]).arg(&self.image.file)
            })?;
        }
        let ballast = self.image.file.with_file_name("ballast");
        self.within("sh", |sh| {
            sh.args(["-c", r#"dd if=/dev/zero bs=4096 of="$1" 2>/dev/null || true"#, "sh"])
                .arg(ballast)
        })?;
        Ok(())
    }

    /// Gives the medium back.
    ///
    /// # Errors
    /// When it was not taken away.
    pub fn recover(&self) -> anyhow::Result<()> {
        let ballast = self.image.file.with_file_name("ballast");
        self.within("rm", |rm| rm.arg(ballast)).map(drop)
    }

    /// Where a file lies on the device: first block and how many, in the file's order.
    fn extents(&self, file: &Path) -> anyhow::Result<Vec<(u64, u64)>> {
        let said = self.within("filefrag", |it| it.args(["-b4096", "-v"]).arg(file))?;
        let extent = |line: &str| {
            // `  0:        0..    1023:      34816..     35839:   1024:  unwritten`
            let mut fields = line.split(':').skip(2);
            let first = fields.next()?.split("..").next()?.trim().parse().ok()?;
            Some((first, fields.next()?.trim().parse().ok()?))
        };
        Ok(said.lines().filter_map(extent).collect())
    }

    fn namespace(&self) -> String {
        format!("--mount=/proc/{}/ns/mnt", self.keeper.id())
    }

    /// Runs a program where the disk is mounted; what it printed.
    fn within(
        &self,
        program: &str,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> anyhow::Result<String> {
        let mut command = self.family.command("nsenter");
        command.arg(self.namespace()).arg(program);
        let output = arguments(&mut command).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?} ({}): {said}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
