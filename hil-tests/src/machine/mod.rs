//! An emulated machine: QEMU with a disk, a network that leads to the rig alone, consoles, a port for
//! sticks, and a power switch.
//!
//! # Invariants
//! - The machine reaches [`RIG`] and nothing else: the ports that were opened for it lead to the same
//!   ports of this machine's loopback.
//! - A power cut is SIGKILL: the machine gets no chance to write anything. What it had not synced is
//!   lost where its disk is a fresh layer (see [`disk`]).
//! - It ends with the family that it belongs to.

pub mod console;
pub mod disk;
mod qmp;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use tokio::net::UnixStream;

use crate::family::{Family, Process};
use crate::wait;
use console::Console;
use disk::Stick;
use qmp::Monitor;

/// Connects to a socket of the emulator's, once it listens.
async fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    let what = format!("{} is there", socket.display());
    let try_it = || async move { Ok(UnixStream::connect(socket).await.ok()) };
    wait::until(wait::SOON, &what, try_it).await
}

/// The rig, as the machine sees it.
pub const RIG: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 100));

/// What kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A PC with UEFI.
    X86_64,
    /// QEMU's `virt` board with UEFI.
    Aarch64,
}

impl Kind {
    /// As `cargo xtask image` calls it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    const fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => ("qemu-system-x86_64", "qemu-system-x86"),
            Self::Aarch64 => ("qemu-system-aarch64", "qemu-system-arm"),
        }
    }

    /// The firmware, what it remembers, and the package of both.
    const fn firmware(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::X86_64 => {
                ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", "ovmf")
            }
            Self::Aarch64 => (
                "/usr/share/AAVMF/AAVMF_CODE.fd",
                "/usr/share/AAVMF/AAVMF_VARS.fd",
                "qemu-efi-aarch64",
            ),
        }
    }

    /// The board, and what is not the same on both.
    const fn board(self) -> &'static [&'static str] {
        match self {
            // Several emulated processors of a q35 hang when it is switched off in good order.
            Self::X86_64 => &[
                "-machine",
                "q35",
                "-cpu",
                "max",
                "-device",
                "i6300esb",
                "-action",
                "watchdog=reset",
            ],
            Self::Aarch64 => &["-machine", "virt", "-cpu", "cortex-a57"],
        }
    }
}

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// What kind of machine.
    pub kind: Kind,
    /// What it has in memory, in MiB.
    pub memory_mib: u32,
    /// Its disk, a layer of its own.
    pub disk: PathBuf,
    /// A kernel, its first file system and its command line, in place of the firmware: for a machine
    /// that shows what the rig itself can do.
    pub kernel: Option<(PathBuf, PathBuf, String)>,
    /// The ports of the rig that it reaches.
    pub ports: Vec<u16>,
}

/// A machine, on or off.
#[derive(Debug)]
pub struct Machine {
    family: Arc<Family>,
    folder: PathBuf,
    /// What it is made of; a change holds from the next time that it is switched on.
    pub parts: Parts,
    running: Option<Running>,
    starts: u32,
    sticks: u32,
}

#[derive(Debug)]
struct Running {
    process: Process,
    monitor: Monitor,
    serial: Console,
    shell: Console,
    stick: Option<String>,
}

impl Machine {
    /// A machine that is off; what it prints is kept in `folder`.
    ///
    /// # Errors
    /// When the folder cannot be written, or its firmware is missing.
    pub fn off(family: &Arc<Family>, folder: &Path, parts: Parts) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (code, variables, package) = parts.kind.firmware();
        if parts.kernel.is_none() {
            for file in [code, variables] {
                ensure!(Path::new(file).exists(), "{file} is missing: install {package}");
            }
            std::fs::copy(variables, folder.join("firmware-variables"))?;
        }
        let (family, folder) = (Arc::clone(family), folder.to_owned());
        Ok(Self { family, folder, parts, running: None, starts: 0, sticks: 0 })
    }

    /// Switches it on, and waits for nothing but its monitor and consoles.
    ///
    /// # Errors
    /// When it is on, or QEMU does not start; the error holds what that said.
    pub async fn power_on(&mut self) -> anyhow::Result<()> {
        ensure!(self.running.is_none(), "the machine is on already");
        self.starts += 1;
        for socket in ["monitor", "serial", "shell"] {
            let socket = self.folder.join(socket);
            if socket.exists() {
                std::fs::remove_file(socket)?;
            }
        }
        let (program, package) = self.parts.kind.program();
        let mut command = self.family.command(program);
        command.args(arguments(&self.parts, &self.folder));
        let log = self.folder.join("qemu.log");
        let process = Process::start(&self.family, program, command, &log)
            .with_context(|| format!("{program} is missing: install {package}"))?;
        let connected = async {
            let monitor = Monitor::at(&self.folder.join("monitor")).await?;
            let log = |name: &str| self.folder.join(format!("{name}.log"));
            let serial = Console::at(&self.folder.join("serial"), &log("serial")).await?;
            let shell = Console::at(&self.folder.join("shell"), &log("shell")).await?;
            anyhow::Ok((monitor, serial, shell))
        };
        let (monitor, serial, shell) =
            connected.await.with_context(|| process.printed_since(0).unwrap_or_default())?;
        self.running = Some(Running { process, monitor, serial, shell, stick: None });
        Ok(())
    }

    /// Takes its power away.
    ///
    /// # Errors
    /// When it was off.
    pub fn cut_power(&mut self) -> anyhow::Result<()> {
        self.running.take().context("the machine is off already")?.process.kill9()
    }

    /// Presses its power button, and waits until it is off.
    ///
    /// # Errors
    /// When it is not within `patience`.
    pub async fn shut_down(&mut self, patience: Duration) -> anyhow::Result<()> {
        self.running()?.monitor.tell("system_powerdown", json!({})).await?;
        self.goes_off(patience).await
    }

    /// Waits until it has switched itself off.
    ///
    /// # Errors
    /// When it has not within `patience`.
    pub async fn goes_off(&mut self, patience: Duration) -> anyhow::Result<()> {
        let mut running = self.running.take().context("the machine is off already")?;
        let ended = wait::until(patience, "the machine is off", || {
            let ended = running.process.ended();
            async move { ended }
        })
        .await;
        if ended.is_err() {
            self.running = Some(running);
        }
        ended.map(drop)
    }

    /// Whether it is on.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.running.is_some()
    }

    /// Its serial console: firmware, kernel, services.
    ///
    /// # Errors
    /// When it is off.
    pub fn serial(&mut self) -> anyhow::Result<&mut Console> {
        Ok(&mut self.running()?.serial)
    }

    /// The console with a shell, where its image has one.
    ///
    /// # Errors
    /// When it is off.
    pub fn shell(&mut self) -> anyhow::Result<&mut Console> {
        Ok(&mut self.running()?.shell)
    }

    /// Plugs a stick in.
    ///
    /// # Errors
    /// When it is off, or another stick is in.
    pub async fn plug(&mut self, stick: &Stick) -> anyhow::Result<()> {
        self.sticks += 1;
        let name = format!("stick-{}", self.sticks);
        let running = self.running()?;
        if let Some(other) = &running.stick {
            bail!("{other} is in the machine already");
        }
        let file = json!({ "driver": "file", "filename": stick.image() });
        let node = json!({ "driver": "raw", "node-name": name, "file": file });
        running.monitor.tell("blockdev-add", node).await?;
        let device = json!({
            "driver": "usb-storage", "id": format!("usb-{name}"), "drive": name, "removable": true,
        });
        running.monitor.tell("device_add", device).await?;
        running.stick = Some(name);
        Ok(())
    }

    /// Pulls the stick out.
    ///
    /// # Errors
    /// When there is none in it.
    pub async fn unplug(&mut self) -> anyhow::Result<()> {
        let running = self.running()?;
        let name = running.stick.take().context("no stick is in the machine")?;
        let device = format!("usb-{name}");
        running.monitor.tell("device_del", json!({ "id": device })).await?;
        running.monitor.event("DEVICE_DELETED", &device).await?;
        running.monitor.tell("blockdev-del", json!({ "node-name": name })).await?;
        Ok(())
    }

    fn running(&mut self) -> anyhow::Result<&mut Running> {
        self.running.as_mut().context("the machine is off")
    }
}

/// How QEMU is started.
fn arguments(parts: &Parts, folder: &Path) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut say = |words: &[&str]| all.extend(words.iter().map(ToString::to_string));
    let at = |name: &str| folder.join(name).display().to_string();
    say(parts.kind.board());
    say(&["-nodefaults", "-no-user-config", "-display", "none", "-smp", "1"]);
    say(&["-m", &parts.memory_mib.to_string(), "-accel", accelerator(parts.kind)]);
    match &parts.kernel {
        Some((kernel, initrd, line)) => {
            say(&["-kernel", &kernel.display().to_string()]);
            say(&["-initrd", &initrd.display().to_string(), "-append", line]);
        }
        None => {
            let (code, _, _) = parts.kind.firmware();
            say(&["-drive", &format!("if=pflash,format=raw,unit=0,readonly=on,file={code}")]);
            let variables = at("firmware-variables");
            say(&["-drive", &format!("if=pflash,format=raw,unit=1,file={variables}")]);
        }
    }
    let disk = parts.disk.display();
    say(&[
        "-blockdev",
        &format!("driver=qcow2,node-name=disk,file.driver=file,file.filename={disk}"),
    ]);
    say(&["-device", "virtio-blk-pci,drive=disk,bootindex=1"]);
    let mut net = "user,id=net,restrict=on".to_owned();
    for port in &parts.ports {
        net.push_str(&format!(",guestfwd=tcp:{RIG}:{port}-cmd:socat - TCP:127.0.0.1:{port}"));
    }
    say(&["-netdev", &net, "-device", "virtio-net-pci,netdev=net,romfile="]);
    say(&["-device", "virtio-rng-pci", "-device", "qemu-xhci,id=usb"]);
    let socket = |id: &str| format!("socket,id={id},path={},server=on,wait=off", at(id));
    say(&["-chardev", &socket("serial"), "-serial", "chardev:serial"]);
    say(&["-device", "virtio-serial-pci", "-chardev", &socket("shell")]);
    say(&["-device", "virtconsole,chardev=shell"]);
    say(&["-qmp", &format!("unix:{},server=on,wait=off", at("monitor"))]);
    all
}

/// KVM where it is asked for (`TIDEGATE_RIG_KVM=1`) and the processor is of that kind; emulation
/// otherwise. That there is a `/dev/kvm` says nothing: on a machine that is virtual itself the kernel
/// got no further than its first line with it (QEMU 7.2, 2026-11-30).
fn accelerator(kind: Kind) -> &'static str {
    let is_asked = std::env::var_os("TIDEGATE_RIG_KVM").is_some_and(|word| word == "1");
    if is_asked && kind.word() == std::env::consts::ARCH { "kvm" } else { "tcg,tb-size=256" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_reaches_the_rig_and_nothing_else() {
        let parts = Parts {
            kind: Kind::X86_64,
            memory_mib: 768,
            disk: "/tmp/disk.qcow2".into(),
            kernel: None,
            ports: vec![7422, 502],
        };
        let all = arguments(&parts, Path::new("/tmp/m"));
        let nets: Vec<_> = all.iter().filter(|word| word.starts_with("user,")).collect();
        assert_eq!(
            nets,
            [&"user,id=net,restrict=on,guestfwd=tcp:10.0.2.100:7422-cmd:socat - TCP:127.0.0.1:7422,\
               guestfwd=tcp:10.0.2.100:502-cmd:socat - TCP:127.0.0.1:502"
                .to_owned()]
        );
        assert!(all.iter().all(|word| !word.contains("hostfwd")), "{all:?}");
    }
}
