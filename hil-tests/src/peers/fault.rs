//! The device that breaks as told: `plc/fault_plc.py`, whose head says how.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use super::{Peer, Place, heard, script};
use crate::field::Site;

/// What it speaks, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// MBAP on a TCP port.
    Tcp,
    /// RTU on a TCP port.
    RtuOverTcp,
    /// RTU on a pseudo-terminal.
    Rtu,
}

impl Speaks {
    /// The word of `protocol` in the configuration.
    #[must_use]
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::Tcp => "modbus-tcp",
            Self::RtuOverTcp => "modbus-rtu-over-tcp",
            Self::Rtu => "modbus-rtu",
        }
    }

    /// Whether its frames are RTU's.
    #[must_use]
    pub const fn is_rtu(self) -> bool {
        !matches!(self, Self::Tcp)
    }
}

/// A device that breaks as told.
#[derive(Debug)]
pub struct FaultPlc {
    peer: Peer,
    speaks: Speaks,
    control: PathBuf,
    serial: PathBuf,
}

impl FaultPlc {
    /// Starts one, with further options of the script.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(
        site: &Site,
        name: &str,
        speaks: Speaks,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        let control = site.path(&format!("{name}.sock"));
        let serial = site.path(&format!("{name}.tty"));
        let log = site.path(&format!("{name}.jsonl"));
        let mut command = script(&site.family, "fault_plc.py")?;
        command.args(["--framing", if speaks.is_rtu() { "rtu" } else { "tcp" }]);
        if speaks == Speaks::Rtu {
            command.arg("--pty").arg(&serial);
        }
        command.arg("--control").arg(&control).arg("--log").arg(&log).args(options);
        let printed = site.path(&format!("{name}.log"));
        let peer = Peer::start(&site.family, name, command, &printed, log).await?;
        Ok(Self { peer, speaks, control, serial })
    }

    /// The keys of a `[[device]]` that lead there.
    #[must_use]
    pub fn way(&self) -> String {
        let place = match self.speaks {
            // The link, which is the same when the terminal is plugged in anew.
            Speaks::Rtu => Place::Serial(self.serial.clone()),
            _ => self.peer.place().clone(),
        };
        place.way(self.speaks.protocol())
    }

    /// The serial port, where it is on one.
    #[must_use]
    pub const fn serial(&self) -> &PathBuf {
        &self.serial
    }

    /// Gives it a command, and waits until it was carried out.
    ///
    /// # Errors
    /// When it does not know it, or has ended.
    pub fn tell(&self, command: &str) -> anyhow::Result<()> {
        let mut stream = UnixStream::connect(&self.control)
            .with_context(|| format!("no fault server to tell {command}"))?;
        writeln!(stream, "{command}")?;
        let mut said = String::new();
        BufReader::new(stream).read_line(&mut said)?;
        ensure!(said == "ok\n", "{command}: the fault server said {said:?}");
        Ok(())
    }

    /// Has every unit behave like this from now on.
    ///
    /// # Errors
    /// When there is no such fault.
    pub fn turn(&self, fault: &str) -> anyhow::Result<()> {
        self.tell(&format!("fault {fault}"))
    }

    /// The peer that it is.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Everything that it was asked so far.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn requests(&self) -> anyhow::Result<Vec<heard::Request>> {
        self.peer.requests()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.peer.kill9()
    }
}
