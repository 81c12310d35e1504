//! A real gateway on a bench: a relay in its supply, its serial console, and a stick that is switched
//! between it and the rig. `docs/bench.md` says how it is wired.
//!
//! # Invariants
//! - Everything that is done to it is a command or a device that the rig file names; nothing is
//!   guessed.
//! - After every power cut the supply is given the time that it needs to be empty.

pub mod file;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};

use crate::family::Family;
use crate::machine::console::Console;
use crate::machine::disk::Stick;
use file::RigFile;

/// A gateway on a bench, which is off until it is switched on.
#[derive(Debug)]
pub struct Bench {
    family: Arc<Family>,
    file: RigFile,
    console: Option<Console>,
    is_on: bool,
    stick: Option<Stick>,
}

impl Bench {
    /// Takes its supply away, and listens to its console, into a log.
    ///
    /// # Errors
    /// When a command fails, or the port cannot be opened.
    pub async fn off(family: &Arc<Family>, file: RigFile, log: &Path) -> anyhow::Result<Self> {
        let console = match &file.console {
            None => None,
            Some(console) => {
                let port = serial2_tokio::SerialPort::open(&console.port, console.baud);
                let port = port.with_context(|| format!("console {}", console.port))?;
                let read = port.try_clone().context("console cannot be shared")?;
                Some(Console::over(read, port, log)?)
            }
        };
        let mut bench =
            Self { family: Arc::clone(family), file, console, is_on: true, stick: None };
        bench.cut_power().await?;
        Ok(bench)
    }

    /// Gives it power.
    ///
    /// # Errors
    /// When it has it, or the command fails.
    pub fn power_on(&mut self) -> anyhow::Result<()> {
        ensure!(!self.is_on, "the gateway has power already");
        self.obey(&self.file.power.on)?;
        self.is_on = true;
        Ok(())
    }

    /// Takes its power away, and waits until the supply is empty.
    ///
    /// # Errors
    /// When it has none, or the command fails.
    pub async fn cut_power(&mut self) -> anyhow::Result<()> {
        ensure!(self.is_on, "the gateway has no power already");
        self.obey(&self.file.power.off)?;
        self.is_on = false;
        tokio::time::sleep(self.file.power.settle).await;
        Ok(())
    }

    /// Its console.
    ///
    /// # Errors
    /// When the rig file names none.
    pub fn console(&mut self) -> anyhow::Result<&mut Console> {
        self.console.as_mut().context("the rig file names no console")
    }

    /// The rig, as the gateway sees it.
    #[must_use]
    pub const fn rig(&self) -> IpAddr {
        self.file.address
    }

    /// How much slower than a process on this machine it may be: the time for a boot.
    #[must_use]
    pub const fn boot_within(&self) -> std::time::Duration {
        self.file.boot_within
    }

    /// Writes what a stick holds onto the real one, and switches that to the gateway.
    ///
    /// # Errors
    /// When another is plugged, it does not fit, or a command fails.
    pub fn plug(&mut self, stick: &Stick) -> anyhow::Result<()> {
        ensure!(self.stick.is_none(), "a stick is in the gateway already");
        let switch = self.file.stick.as_ref().context("the rig file names no stick")?;
        self.obey(&switch.to_rig)?;
        let mut from = std::fs::File::open(stick.image())?;
        let mut to = std::fs::File::options()
            .write(true)
            .open(&switch.device)
            .with_context(|| format!("stick {}", switch.device))?;
        std::io::copy(&mut from, &mut to)
            .and_then(|_size| to.sync_all())
            .with_context(|| format!("stick {}", switch.device))?;
        self.obey(&switch.to_gateway)?;
        self.stick = Some(stick.clone());
        Ok(())
    }

    /// Switches the stick back to the rig, and reads what is on it now.
    ///
    /// # Errors
    /// When none is plugged, or a command fails.
    pub fn unplug(&mut self) -> anyhow::Result<()> {
        let stick = self.stick.take().context("no stick is in the gateway")?;
        let switch = self.file.stick.as_ref().context("the rig file names no stick")?;
        self.obey(&switch.to_rig)?;
        let size = std::fs::metadata(stick.image())?.len();
        let from = std::fs::File::open(&switch.device)
            .with_context(|| format!("stick {}", switch.device))?;
        let mut to = std::fs::File::create(stick.image())?;
        std::io::copy(&mut std::io::Read::take(from, size), &mut to)?;
        Ok(())
    }

    fn obey(&self, words: &[String]) -> anyhow::Result<()> {
        let (program, arguments) = words.split_first().context("an empty command")?;
        let output = self.family.command(program).args(arguments).output();
        let output = output.with_context(|| format!("{program} did not start"))?;
        if !output.status.success() {
            bail!("{words:?} ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}
