//! Devices for the gateway to read: servers of other makes, and one of our own that breaks as told.
//!
//! # Invariants
//! - Every peer takes a port of the system's choice or a pseudo-terminal of its own, and says which
//!   on its first line.
//! - Every register of every peer holds its own address until somebody writes to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::family::{Family, Process};
use crate::field::{Site, quoted};
use crate::papers::Papers;
use crate::{tools, wait};

mod fault;
pub mod heard;

pub use fault::{FaultPlc, Speaks};

/// Where a peer is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A TCP port.
    Port(SocketAddr),
    /// A serial port.
    Serial(PathBuf),
}

impl Place {
    /// The keys of a `[[device]]` that lead there.
    #[must_use]
    pub fn way(&self, protocol: &str) -> String {
        match self {
            Self::Port(address) => format!("protocol = \"{protocol}\"\naddress = \"{address}\""),
            // A pseudo-terminal has no parity.
            Self::Serial(port) => {
                format!("protocol = \"{protocol}\"\naddress = {}\nparity = \"none\"", quoted(port))
            }
        }
    }
}

/// A running peer of whatever make.
#[derive(Debug)]
pub struct Peer {
    process: Process,
    place: Place,
    /// Where it writes down what it heard.
    log: PathBuf,
}

impl Peer {
    /// Starts one and waits until it says where it is.
    async fn start(
        family: &Arc<Family>,
        name: &str,
        command: Command,
        printed: &Path,
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let before = std::fs::metadata(printed).map_or(0, |metadata| metadata.len());
        let mut process = Process::start(family, name, command, printed)?;
        let place = wait::until(wait::SOON, &format!("{name} says where it is"), || {
            let said = process.printed_since(before);
            let ended = process.ended();
            async move {
                let said = said?;
                if let Some(status) = ended? {
                    bail!("{name} ended ({status}): {said}");
                }
                said.split_inclusive('\n')
                    .find(|line| line.starts_with('{'))
                    .map_or(Ok(None), place)
            }
        })
        .await?;
        Ok(Self { process, place, log })
    }

    /// pymodbus over TCP, with these options of `plc/pymodbus_plc.py`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn pymodbus(site: &Site, name: &str, options: &[&str]) -> anyhow::Result<Self> {
        let log = site.path(&format!("{name}.jsonl"));
        let mut command = script(&site.family, "pymodbus_plc.py")?;
        command.arg("--log").arg(&log).args(options);
        if !options.contains(&"--transport") {
            command.args(["--transport", "tcp"]);
        }
        Self::start(&site.family, name, command, &site.path(&format!("{name}.log")), log).await
    }

    /// pymodbus over TLS, which shows a certificate and wants to see one where `mutual`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn pymodbus_tls(
        site: &Site,
        name: &str,
        papers: &Papers,
        mutual: bool,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        let log = site.path(&format!("{name}.jsonl"));
        let mut command = script(&site.family, "pymodbus_plc.py")?;
        command.args(["--transport", "tls"]).arg("--log").arg(&log).args(options);
        command.arg("--cert").arg(&papers.server().cert).arg("--key").arg(&papers.server().key);
        if mutual {
            command.arg("--clients-ca").arg(papers.ca());
        }
        Self::start(&site.family, name, command, &site.path(&format!("{name}.log")), log).await
    }

    /// A libmodbus server over TCP.
    ///
    /// # Errors
    /// When it was not built or does not come up.
    pub async fn libmodbus_tcp(site: &Site, name: &str) -> anyhow::Result<Self> {
        Self::libmodbus(site, name, &["tcp", "0"]).await
    }

    /// A libmodbus server on a serial port.
    ///
    /// # Errors
    /// When it was not built or does not come up.
    pub async fn libmodbus_rtu(
        site: &Site,
        name: &str,
        port: &Path,
        unit: u8,
    ) -> anyhow::Result<Self> {
        let port = port.to_str().context("a serial port's path is text")?;
        Self::libmodbus(site, name, &["rtu", port, &unit.to_string()]).await
    }

    async fn libmodbus(site: &Site, name: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = site.family.command(tools::libmodbus_plc()?);
        command.args(arguments);
        let printed = site.path(&format!("{name}.log"));
        Self::start(&site.family, name, command, &printed, printed.clone()).await
    }

    /// A jsmodbus server over TCP that answers in a `mode` of `plc/jsmodbus/plc.js`.
    ///
    /// # Errors
    /// When it was not installed or does not come up.
    pub async fn jsmodbus(site: &Site, name: &str, mode: &str) -> anyhow::Result<Self> {
        let mut command = site.family.command("node");
        command.arg(plc_directory().join("jsmodbus/plc.js")).arg(mode);
        command.env("TIDEGATE_JSMODBUS", tools::jsmodbus()?);
        let printed = site.path(&format!("{name}.log"));
        Self::start(&site.family, name, command, &printed, printed.clone()).await
    }

    /// Where it is.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// Its TCP port.
    ///
    /// # Errors
    /// When it is on a serial port.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        match &self.place {
            Place::Port(address) => Ok(*address),
            Place::Serial(port) => bail!("the peer is on {}", port.display()),
        }
    }

    /// Everything that it was asked so far.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn requests(&self) -> anyhow::Result<Vec<heard::Request>> {
        heard::requests(&self.journal()?)
    }

    /// How many connections were made to it so far.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn connects(&self) -> anyhow::Result<usize> {
        Ok(heard::events(&self.journal()?, "connect").count())
    }

    /// What it wrote down.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn journal(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// Waits until it was asked so many times more.
    ///
    /// # Errors
    /// When it was not.
    pub async fn hears(&self, more: usize) -> anyhow::Result<()> {
        let target = self.requests()?.len() + more;
        wait::until(wait::SOON, &format!("the peer is asked {more} times"), || async {
            Ok((self.requests()?.len() >= target).then_some(()))
        })
        .await
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.process.kill9()
    }
}

/// Two serial ports that are one line, made by socat.
#[derive(Debug)]
pub struct Line {
    /// For the gateway.
    pub ours: PathBuf,
    /// For the peer.
    pub theirs: PathBuf,
    _socat: Process,
}

impl Line {
    /// Lays it.
    ///
    /// # Errors
    /// When there is no socat.
    pub async fn laid(site: &Site, name: &str) -> anyhow::Result<Self> {
        let end = |side: &str| site.path(&format!("{name}-{side}"));
        let (ours, theirs) = (end("ours"), end("theirs"));
        let mut command = site.family.command("socat");
        for end in [&ours, &theirs] {
            command.arg(format!("pty,raw,echo=0,link={}", end.display()));
        }
        let log = site.path(&format!("{name}.log"));
        let socat = Process::start(&site.family, "socat", command, &log)?;
        wait::until(wait::SOON, "socat has laid the line", || async {
            Ok((ours.exists() && theirs.exists()).then_some(()))
        })
        .await?;
        Ok(Self { ours, theirs, _socat: socat })
    }

    /// The keys of a `[[device]]` that lead there.
    #[must_use]
    pub fn way(&self) -> String {
        Place::Serial(self.ours.clone()).way("modbus-rtu")
    }
}

/// Has `mbpoll` write holding registers from an address of a server on. Type and word order are
/// its own options, such as `["-t", "4:float", "-B"]`.
///
/// # Errors
/// When it is not installed, or the server does not take them.
pub fn mbpoll_writes(
    site: &Site,
    server: SocketAddr,
    options: &[&str],
    address: u16,
    values: &[&str],
) -> anyhow::Result<()> {
    let mut command = site.family.command("mbpoll");
    command.args(["-m", "tcp", "-a", "1", "-0", "-1", "-p", &server.port().to_string()]);
    command.args(["-r", &address.to_string()]).args(options).arg(server.ip().to_string());
    // Values may begin with a minus.
    command.arg("--").args(values);
    let output = command.output().context("mbpoll did not start")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.contains("Written"),
        "mbpoll did not write {values:?} ({}): {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn plc_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plc")
}

fn script(family: &Arc<Family>, name: &str) -> anyhow::Result<Command> {
    let mut command = family.command(tools::python()?);
    command.arg(plc_directory().join(name));
    Ok(command)
}

/// Where a peer says it is; `None` while the line is not whole.
fn place(line: &str) -> anyhow::Result<Option<Place>> {
    let Some(line) = line.strip_suffix('\n') else { return Ok(None) };
    let said: Value = serde_json::from_str(line).with_context(|| format!("a peer said {line}"))?;
    if let Some(port) = said["port"].as_u64() {
        return Ok(Some(Place::Port(([127, 0, 0, 1], u16::try_from(port)?).into())));
    }
    let port = said["pty"].as_str().with_context(|| format!("a peer said {line}"))?;
    Ok(Some(Place::Serial(port.into())))
}

/// How long the rig's devices wait before they give a request up, as configured unless a scenario
/// says otherwise.
pub const TIMEOUT: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_once_its_line_is_whole() {
        assert_eq!(place("{\"port\": 50").unwrap(), None);
        let port = place("{\"port\": 502}\n").unwrap();
        assert_eq!(port, Some(Place::Port(([127, 0, 0, 1], 502).into())));
        let serial = place("{\"pty\": \"/dev/pts/3\"}\n").unwrap();
        assert_eq!(serial, Some(Place::Serial("/dev/pts/3".into())));
        assert!(place("{}\n").is_err());
    }
}
