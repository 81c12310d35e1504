//! Disks of emulated machines, and sticks.
//!
//! # Invariants
//! - What lies below a [`layer_over`] is never written.
//! - A machine whose disk is a fresh layer loses, when it is killed, what it wrote there and did not
//!   sync: QEMU learns of new clusters in its own memory, and writes that down at a flush.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};

use crate::family::Family;

/// Makes a layer that takes everything that is written, over a disk that stays as it is.
///
/// # Errors
/// When there is no such disk, or no `qemu-img`.
pub fn layer_over(family: &Arc<Family>, below: &Path, layer: &Path) -> anyhow::Result<()> {
    let below = std::fs::canonicalize(below).with_context(|| below.display().to_string())?;
    let format = if below.extension().is_some_and(|it| it == "qcow2") { "qcow2" } else { "raw" };
    let mut create = family.command("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-F", format, "-b"]).arg(below).arg(layer);
    told(create, "qemu-utils").map(drop)
}

/// A stick with a FAT file system of its own on the whole of it.
#[derive(Debug, Clone)]
pub struct Stick {
    family: Arc<Family>,
    image: PathBuf,
}

impl Stick {
    /// Makes an empty one in a file.
    ///
    /// # Errors
    /// When the file cannot be written, or there is no `mkfs.vfat`.
    pub fn new(family: &Arc<Family>, image: &Path, mib: u64) -> anyhow::Result<Self> {
        std::fs::File::create(image)?.set_len(mib << 20)?;
        let mut make = family.command("mkfs.vfat");
        make.args(["-n", "TIDEGATE"]).arg(image);
        told(make, "dosfstools")?;
        Ok(Self { family: Arc::clone(family), image: image.to_owned() })
    }

    /// Where its bytes are.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Copies a file onto it.
    ///
    /// # Errors
    /// When it does not fit, or there is no `mcopy`.
    pub fn put(&self, file: &Path, name: &str) -> anyhow::Result<()> {
        let mut copy = self.tool("mcopy");
        copy.arg("-o").arg(file).arg(format!("::{name}"));
        told(copy, "mtools").map(drop)
    }

    /// Writes a text onto it.
    ///
    /// # Errors
    /// As [`Stick::put`].
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let file = self.image.with_extension("file");
        std::fs::write(&file, text)?;
        self.put(&file, name)
    }

    /// What a file on it holds; none where there is no such file.
    ///
    /// # Errors
    /// When the stick cannot be read.
    pub fn read(&self, name: &str) -> anyhow::Result<Option<String>> {
        if !self.names()?.iter().any(|found| found.eq_ignore_ascii_case(name)) {
            return Ok(None);
        }
        let mut read = self.tool("mtype");
        read.arg(format!("::{name}"));
        told(read, "mtools").map(Some)
    }

    /// The names of the files on it.
    ///
    /// # Errors
    /// When the stick cannot be read.
    pub fn names(&self) -> anyhow::Result<Vec<String>> {
        let mut list = self.tool("mdir");
        list.args(["-b", "::"]);
        let printed = told(list, "mtools")?;
        Ok(printed.lines().map(|line| line.trim_start_matches("::/").to_owned()).collect())
    }

    /// Whether these bytes stand anywhere on it, also where no file is any more.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn holds(&self, secret: &str) -> anyhow::Result<bool> {
        ensure!(!secret.is_empty(), "an empty secret is everywhere");
        let bytes = std::fs::read(&self.image)?;
        Ok(bytes.windows(secret.len()).any(|window| window == secret.as_bytes()))
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = self.family.command(name);
        // Sticks written by others are not always what mtools would write.
        command.env("MTOOLS_SKIP_CHECK", "1").arg("-i").arg(&self.image);
        command
    }
}

fn told(mut command: Command, package: &str) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().with_context(|| format!("{name} did not start: install {package}"))?;
    if !output.status.success() {
        bail!("{command:?} ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
