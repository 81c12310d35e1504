//! A file system of its own on a loop device, whose every written byte is counted.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Starts this program again in a mount namespace of its own.
pub(crate) fn become_private(mark: &str) -> anyhow::Result<()> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe()?);
    let error = command.args(std::env::args_os().skip(1)).env(mark, "1").exec();
    Err(anyhow::Error::new(error).context("unshare did not start"))
}

/// A mounted image; unmounted when dropped, and the loop device with it.
pub(crate) struct Device {
    image: PathBuf,
    mounted_at: PathBuf,
    statistics: PathBuf,
}

impl Device {
    /// A fresh ext4 of so many bytes below `scratch`.
    pub(crate) fn fresh(
        scratch: &Path,
        name: &str,
        bytes: u64,
        options: &str,
    ) -> anyhow::Result<Self> {
        let image = scratch.join(format!("{name}.img"));
        std::fs::File::create(&image)?.set_len(bytes)?;
        let mut format = Command::new("mkfs.ext4");
        // Otherwise the kernel goes on initialising the tables while others are counted.
        let complete = "lazy_itable_init=0,lazy_journal_init=0";
        ask(format.args(["-q", "-F", "-E", complete]).arg(&image))?;
        Self::mount(image, scratch.join(name), options)
    }

    /// Mounts an image that is there already.
    pub(crate) fn mount(image: PathBuf, at: PathBuf, options: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&at)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", &format!("loop,noatime{options}")]);
        ask(mount.arg(&image).arg(&at))?;
        let number = rustix::fs::stat(&at)?.st_dev;
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let statistics = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        Ok(Self { image, mounted_at: at, statistics })
    }

    pub(crate) fn place(&self) -> &Path {
        &self.mounted_at
    }

    pub(crate) fn image(&self) -> &Path {
        &self.image
    }

    /// Bytes written to the device so far, once everything of the file system is there.
    pub(crate) fn written(&self) -> anyhow::Result<u64> {
        rustix::fs::syncfs(std::fs::File::open(&self.mounted_at)?)?;
        let text = std::fs::read_to_string(self.statistics.join("stat"))?;
        let sectors = text.split_whitespace().nth(6).context("the device counts no sectors")?;
        Ok(sectors.parse::<u64>()? * 512)
    }

    /// Waits until the device has nothing in hand.
    pub(crate) fn idle(&self) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let text = std::fs::read_to_string(self.statistics.join("inflight"))?;
            if text.split_whitespace().all(|count| count == "0") {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("the loop device does not come to rest");
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        // Not yet possible while a killed worker is being taken apart; the namespace ends anyway.
        let _ = unmount.arg("--lazy").arg(&self.mounted_at).output();
        let _ = std::fs::remove_file(&self.image);
    }
}

fn ask(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?} did not start"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
