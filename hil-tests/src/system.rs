//! The system under test, whatever it is: a process of this machine, an emulated machine with the
//! product's image, or a real gateway on a bench.
//!
//! | | process | machine | bench |
//! |---|---|---|---|
//! | power on | `tidegate run` | QEMU | the rig file's relay |
//! | power cut | SIGKILL to the daemon; its leaf lives on | SIGKILL to QEMU, what was not synced is lost | the relay |
//! | switched off in good order | SIGTERM | the power button | there is no button: an error |
//! | stick | takes none: an error | USB, plugged while it runs | a stick behind a switch |
//! | what it says | its log | serial console | serial port |
//! | a shell | none | where the image is made for development | none |
//!
//! Its wide-area link is cut at the rig ([`Wan`](crate::wan::Wan)), the same for all of them; what
//! it holds is asked from its hub.
//!
//! # Invariants
//! - A scenario that needs what a system has not fails with that as its message; nothing is left out
//!   silently.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::bench::Bench;
use crate::gateway::Gateway;
use crate::machine::console::{self, Console};
use crate::machine::disk::Stick;
use crate::machine::{self, Machine};
use crate::wait;

/// A system under test.
#[derive(Debug)]
pub enum System {
    /// A process of this machine.
    Process(Box<Gateway>),
    /// An emulated machine.
    Machine(Box<Machine>),
    /// A real gateway.
    Bench(Box<Bench>),
}

impl System {
    /// Where the rig's hub, authority and PLC must listen, and where the system sees them.
    #[must_use]
    pub const fn rig(&self) -> (IpAddr, IpAddr) {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        match self {
            Self::Process(_) => (here, here),
            Self::Machine(_) => (here, machine::RIG),
            Self::Bench(bench) => (bench.rig(), bench.rig()),
        }
    }

    /// The longest that it may take from power on until values arrive.
    #[must_use]
    pub const fn boot_within(&self) -> Duration {
        match self {
            Self::Process(_) => wait::SOON,
            // Firmware, boot loader, kernel and services, each instruction translated, beside
            // other work.
            Self::Machine(_) => Duration::from_secs(900),
            Self::Bench(bench) => bench.boot_within(),
        }
    }

    /// Switches it on.
    ///
    /// # Errors
    /// When it is on, or does not start.
    pub async fn power_on(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Process(gateway) => gateway.start().await,
            Self::Machine(machine) => machine.power_on().await,
            Self::Bench(bench) => bench.power_on(),
        }
    }

    /// Takes its power away at once.
    ///
    /// # Errors
    /// When it is off.
    pub async fn cut_power(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Process(gateway) => gateway.kill9(),
            Self::Machine(machine) => machine.cut_power(),
            Self::Bench(bench) => bench.cut_power().await,
        }
    }

    /// Switches it off in good order.
    ///
    /// # Errors
    /// When it is off, does not go off, or has no button.
    pub async fn shut_down(&mut self) -> anyhow::Result<()> {
        let patience = self.boot_within();
        match self {
            Self::Process(gateway) => gateway.stop().await,
            Self::Machine(machine) => machine.shut_down(patience).await,
            Self::Bench(_) => bail!("a bench has no power button"),
        }
    }

    /// Plugs a stick in.
    ///
    /// # Errors
    /// When another is in, or the system takes none.
    pub async fn plug(&mut self, stick: &Stick) -> anyhow::Result<()> {
        match self {
            Self::Process(_) => bail!("a process takes no stick"),
            Self::Machine(machine) => machine.plug(stick).await,
            Self::Bench(bench) => bench.plug(stick),
        }
    }

    /// Pulls the stick out; what the system wrote onto it can be read then.
    ///
    /// # Errors
    /// When there is none in it.
    pub async fn unplug(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Process(_) => bail!("a process takes no stick"),
            Self::Machine(machine) => machine.unplug().await,
            Self::Bench(bench) => bench.unplug(),
        }
    }

    /// How much it has said by now: where [`System::says_since`] begins.
    ///
    /// # Errors
    /// When it has no console.
    pub fn mark(&mut self) -> anyhow::Result<usize> {
        match self {
            Self::Process(gateway) => Ok(gateway.log()?.len()),
            _ => Ok(self.console()?.mark()),
        }
    }

    /// Waits until it has said one of these; returns the whole line, and the mark behind it.
    ///
    /// # Errors
    /// When it has not within `patience`, or has no console.
    pub async fn says_since(
        &mut self,
        mark: usize,
        words: &[&str],
        patience: Duration,
    ) -> anyhow::Result<(String, usize)> {
        let Self::Process(gateway) = self else {
            return self.console()?.says_since(mark, words, patience).await;
        };
        let what = format!("the log says {words:?}");
        wait::until(patience, &what, || {
            let log = gateway.log();
            async move {
                let found = console::line_with(log?.get(mark..).unwrap_or_default(), words);
                Ok(found.map(|(line, end)| (line, mark + end)))
            }
        })
        .await
    }

    fn console(&mut self) -> anyhow::Result<&mut Console> {
        match self {
            Self::Process(_) => bail!("a process has no console"),
            Self::Machine(machine) => machine.serial(),
            Self::Bench(bench) => bench.console(),
        }
    }

    /// A root shell on it: an image made for development has one.
    ///
    /// # Errors
    /// When it has none.
    pub fn shell(&mut self) -> anyhow::Result<&mut Console> {
        match self {
            Self::Machine(machine) => machine.shell(),
            Self::Process(_) | Self::Bench(_) => None.context("this system has no shell"),
        }
    }
}
