//! A whole installed system between a PLC and a hub: what the scenarios of images and benches begin
//! with.
//!
//! ```text
//! counting PLC ──cable──► system under test ──wan──► hub (hub init, its own authority)
//!      └──────── history of what was served ────────► oracle ◄──── tap, prove
//! ```
//!
//! # Invariants
//! - The system is told what it must know by a stick, as a technician would, and by nothing else.
//! - What is judged are the values at the hub against those that the PLC gave out.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::bench::Bench;
use crate::bench::file::RigFile;
use crate::family::Family;
use crate::gateway::{BASE_PATH, DEVICE, Gateway, Settings, Wishes};
use crate::hub::Credentials;
use crate::machine::disk::{self, Stick};
use crate::machine::{self, Kind, Machine, Parts};
use crate::oracle::{self, Claim, Findings};
use crate::pilot::Pilot;
use crate::plc::Plc;
use crate::rig::Rig;
use crate::system::System;
use crate::wan::Wan;
use crate::{reader, remains, wait};

/// The gateway's name everywhere.
pub const GATEWAY: &str = "PlantA/gw-line3";

/// How far the PLC's and the record's idea of a moment may differ: a machine's clock is set to whole
/// seconds when it is switched on, and runs by itself then.
const SLACK: Duration = Duration::from_secs(10);

/// Which system is under test.
#[derive(Debug, Clone)]
pub enum Choice {
    /// A process of this machine, which is told what it must know by files: what the rig is tried
    /// with.
    Process,
    /// An emulated machine with this disk, which stays as it is.
    Machine(Kind, PathBuf),
    /// A bench.
    Bench(RigFile),
}

/// A system, off and not told anything yet, with everything around it running.
#[derive(Debug)]
pub struct Outpost {
    /// The PLC.
    pub plc: Plc,
    /// Between PLC and system.
    pub cable: Wan,
    /// Between the system and the hub.
    pub wan: Wan,
    /// Between the system and the hub's authority.
    pub way_to_authority: Wan,
    /// The hub.
    pub hub: Pilot,
    /// The system under test.
    pub system: System,
    family: Arc<Family>,
    /// Last, so that it is removed when nobody writes into it any more.
    directory: Option<TempDir>,
}

impl Outpost {
    /// Sets everything up.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn of(choice: Choice) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("tidegate-outpost-").tempdir()?;
        let dir = directory.path();
        let family = Family::new()?;
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (near, seen_at) = match &choice {
            Choice::Process => (here, here),
            Choice::Machine(..) => (here, machine::RIG),
            Choice::Bench(file) => (file.address, file.address),
        };
        let hub = Pilot::start(&family, &dir.join("hub"), seen_at).await?;
        let wan = Wan::open_at(near, hub.leafs()).await?;
        let way_to_authority = Wan::open_at(near, hub.est()).await?;
        let mut cable = Wan::to_nowhere_at(near).await?;
        let mut plc = Plc::off(&family, dir);
        cable.lead_to(plc.switch_on().await?).await?;
        cable.restore().await?;
        let ports = [&wan, &way_to_authority, &cable].map(|link| link.address().port());
        let system = match choice {
            Choice::Process => {
                let place = dir.join("gateway");
                let (links, pin) = ((&wan, &way_to_authority, &cable), hub.pin());
                let gateway = Gateway::configured(&family, &place, &settings(links, pin))?;
                std::fs::create_dir_all(place.join("identity"))?;
                std::fs::write(place.join("identity/token"), hub.admit(GATEWAY, BASE_PATH)?)?;
                System::Process(Box::new(gateway))
            }
            Choice::Machine(kind, image) => {
                let own = dir.join("disk.qcow2");
                disk::layer_over(&family, &image, &own)?;
                let parts =
                    Parts { kind, memory_mib: 768, disk: own, kernel: None, ports: ports.to_vec() };
                System::Machine(Box::new(Machine::off(&family, &dir.join("machine"), parts)?))
            }
            Choice::Bench(file) => {
                System::Bench(Box::new(Bench::off(&family, file, &dir.join("serial.log")).await?))
            }
        };
        let directory = Some(directory);
        Ok(Self { plc, cable, wan, way_to_authority, hub, system, family, directory })
    }

    /// A place for files.
    ///
    /// # Errors
    /// When the rig is gone.
    pub fn path(&self, name: &str) -> anyhow::Result<PathBuf> {
        Ok(self.directory.as_ref().context("the rig is gone")?.path().join(name))
    }

    /// Gives an emulated machine a fresh layer over its disk, while it is off: whatever is written
    /// from now on and not synced is lost in a power cut.
    ///
    /// # Errors
    /// When it is on.
    pub fn lay_fresh_disk(&mut self, name: &str) -> anyhow::Result<()> {
        let layer = self.path(&format!("{name}.qcow2"))?;
        let System::Machine(machine) = &mut self.system else { return Ok(()) };
        ensure!(!machine.is_on(), "the machine is on");
        disk::layer_over(&self.family, &machine.parts.disk, &layer)?;
        machine.parts.disk = layer;
        Ok(())
    }

    /// An empty stick.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn stick(&self, name: &str, mib: u64) -> anyhow::Result<Stick> {
        Stick::new(&self.family, &self.path(&format!("{name}.stick"))?, mib)
    }

    /// A stick with everything that the system must be told, and the token that is on it.
    ///
    /// # Errors
    /// When the hub does not admit the gateway.
    pub fn provisioning_stick(&self, name: &str) -> anyhow::Result<(Stick, String)> {
        let token = match self.hub.admits(GATEWAY)? {
            true => self.hub.token(GATEWAY)?,
            false => self.hub.admit(GATEWAY, BASE_PATH)?,
        };
        let (_, seen_at) = self.system.rig();
        let at = |link: &Wan| format!("{seen_at}:{}", link.address().port());
        let (hub, est) = (at(&self.wan), at(&self.way_to_authority));
        let (plant, name_there) = GATEWAY.split_once('/').context("no PLANT/NAME")?;
        let pin = self.hub.pin();
        let stick = self.stick(name, 64)?;
        stick.write(
            "provision.toml",
            &format!(
                "plant = \"{plant}\"\nname = \"{name_there}\"\nhub = [\"tls://{hub}\"]\nest = \
                 \"https://{est}\"\nca-pins = [\"{pin}\"]\ndevices = \"devices.toml\"\n"
            ),
        )?;
        stick.write("devices.toml", &devices(&at(&self.cable)))?;
        stick.write("tidegate.token", &format!("{token}\n"))?;
        Ok((stick, token))
    }

    /// The largest value that the PLC has served.
    ///
    /// # Errors
    /// When its history cannot be read.
    pub fn served(&self) -> anyhow::Result<u64> {
        Ok(self.plc.history()?.last().map_or(0, |served| served.n))
    }

    /// Waits until the system has polled this many values more, and returns the last.
    ///
    /// # Errors
    /// When it does not within `patience`.
    pub async fn polls(&self, more: u64, patience: Duration) -> anyhow::Result<u64> {
        let target = self.served()? + more;
        wait::until(patience, &format!("the system polls {more} times"), || {
            let served = self.served();
            async move { served.map(|served| (served >= target).then_some(served)) }
        })
        .await
    }

    /// Waits until the hub holds everything up to this value of the counter.
    ///
    /// # Errors
    /// When it does not within `patience`.
    pub async fn hub_holds(
        &self,
        n: u64,
        patience: Duration,
    ) -> anyhow::Result<Vec<oracle::Sample>> {
        let tags = Rig::tags();
        let goals = [(tags.counter, n), (tags.triple, n * 3)];
        reader::tap_until(&self.family, &self.hub.door(), GATEWAY, patience, &goals).await
    }

    /// Waits until everything served so far is at the hub, then judges the values and compares them
    /// with the binary's own proof.
    ///
    /// # Errors
    /// When anything is missing that no loss names, doubled or out of order, and above all when the
    /// proof says balanced nevertheless.
    pub async fn verify(&self, patience: Duration) -> anyhow::Result<(Findings, Claim)> {
        // One poll further, so that what is judged was followed by something.
        let upto = self.polls(2, patience).await?;
        let samples = self.hub_holds(upto, patience).await?;
        let mut claim = reader::prove(&self.family, &self.hub.door(), GATEWAY).await?;
        claim.keep_losses_of(DEVICE, BASE_PATH);
        let history = self.plc.history()?;
        let slack = i64::try_from(SLACK.as_nanos())?;
        let findings = oracle::judge(&history, &samples, &Rig::tags(), &claim.losses, slack);
        if findings.contradict(&claim) {
            bail!("prove contradicts the values: {claim:?} against {findings:?}");
        }
        ensure!(findings.is_clean(), "the values are not whole: {findings:?} with {claim:?}");
        ensure!(claim.is_balanced() && claim.exit_ok, "prove does not say so: {claim:?}");
        Ok((findings, claim))
    }

    /// [`Outpost::verify`], and nothing may be missing at all, named or not.
    ///
    /// # Errors
    /// As there, and when a single value that was served is missing.
    pub async fn verify_nothing_lost(&self, patience: Duration) -> anyhow::Result<u64> {
        let (findings, _) = self.verify(patience).await?;
        ensure!(findings.named_holes.is_empty(), "lost, though named: {findings:?}");
        Ok(findings.delivered)
    }
}

/// What a process is told.
fn settings((wan, authority, cable): (&Wan, &Wan, &Wan), pin: &str) -> Settings {
    let est = authority.address();
    let identity = format!("dir = \"identity\"\nest = \"https://{est}\"\nca-pins = [\"{pin}\"]\n");
    Settings {
        gateway: GATEWAY.to_owned(),
        hubs: vec![wan.address()],
        credentials: Credentials::none(),
        stream: "TIDE".to_owned(),
        domain: "hub".to_owned(),
        plc: cable.address(),
        wishes: Wishes { identity: Some(identity), ..Wishes::default() },
    }
}

/// What a plant writes of its devices. An emulated machine beside other work answers slowly: nothing
/// here is as quick as it could be.
fn devices(plc: &str) -> String {
    format!(
        r#"[journal]
max-bytes = "64 MiB"

[[device]]
name = "{DEVICE}"
protocol = "modbus-tcp"
address = "{plc}"
unit = 1
poll-every-ms = 2000
timeout-ms = 2000
retry-after-ms = 500
retry-at-most-ms = 2000
base-path = "{BASE_PATH}"

[[device.tag]]
path = "counter"
address = "holding:100"
type = "uint64"

[[device.tag]]
path = "triple"
address = "holding:104"
type = "uint32"
"#
    )
}

impl Drop for Outpost {
    fn drop(&mut self) {
        let logs = ["machine/qemu.log", "machine/serial.log", "serial.log", "hub/authority.log"];
        remains::show_if_failing(&mut self.directory, &logs);
    }
}
