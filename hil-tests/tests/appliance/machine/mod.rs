//! Images in an emulated machine, or a gateway on a bench where `TIDEGATE_RIG_FILE` names one.
//!
//! A boot of an emulated machine takes a minute or more, so one machine lives through everything, in
//! the order in which a gateway would; each step is reported by itself, and ends with the oracle's
//! judgement of everything that was polled since the first boot.

mod bench;
mod process;
mod steps;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tidegate_hil_tests::bench::file::RigFile;
use tidegate_hil_tests::machine::Kind;
use tidegate_hil_tests::outpost::{Choice, Outpost};
use tidegate_hil_tests::report::Report;
use tidegate_hil_tests::system::System;
use tidegate_hil_tests::tools;

/// The time until values of a machine that is up are at the hub, or everything of an outage.
const CATCH_UP: Duration = Duration::from_secs(300);

/// How long a stick's update may take: a hundred megabytes are checked and written.
const TO_INSTALL: Duration = Duration::from_secs(900);

/// A system under test, and where in what it said the present step began.
struct Life {
    outpost: Outpost,
    arch: &'static str,
    mark: usize,
}

impl Life {
    /// The system that the rig file names, else an emulated machine of this kind.
    async fn of(kind: Kind) -> anyhow::Result<Self> {
        let choice = match RigFile::named()? {
            Some(file) => Choice::Bench(file),
            None => Choice::Machine(kind, tools::image(kind.word(), "disk.img")?),
        };
        let outpost = Outpost::of(choice).await?;
        Ok(Self { outpost, arch: kind.word(), mark: 0 })
    }

    /// Switches it on; what it says from now on is what the next step waits for.
    async fn power_on(&mut self) -> anyhow::Result<()> {
        self.outpost.system.power_on().await?;
        // A bench's console goes on where it was, an emulated machine's begins anew.
        self.mark = match &mut self.outpost.system {
            System::Machine(_) => 0,
            other => other.mark()?,
        };
        Ok(())
    }

    /// Waits until it says one of these in this step, and goes on behind it.
    async fn says(&mut self, words: &[&str], patience: Duration) -> anyhow::Result<String> {
        let (line, behind) = self.outpost.system.says_since(self.mark, words, patience).await?;
        self.mark = behind;
        Ok(line)
    }

    /// Waits for the verdict over a boot; which slot it was, and what was said of it.
    async fn verdict(&mut self) -> anyhow::Result<String> {
        let patience = self.outpost.system.boot_within();
        self.says(&["tidegate-boot: slot="], patience).await
    }

    /// Waits for a healthy boot of a slot.
    async fn is_good_in(&mut self, slot: &str) -> anyhow::Result<()> {
        let said = self.verdict().await?;
        ensure!(
            said.contains(&format!("slot={slot} good")),
            "not slot {slot}, or not good: {said}"
        );
        Ok(())
    }

    /// Plugs a stick with an update in, and waits until it is dealt with; returns what the stick says.
    async fn update_by_stick(&mut self, bundle: &str) -> anyhow::Result<String> {
        let stick = self.outpost.stick(bundle, 256)?;
        stick.put(&tools::image(self.arch, bundle)?, "update.raucb")?;
        self.outpost.system.plug(&stick).await?;
        self.says(&["tidegate-stick: done"], TO_INSTALL).await?;
        self.outpost.system.unplug().await?;
        let said = stick.read("tidegate-result.txt")?.context("the stick says nothing")?;
        Ok(said.lines().last().unwrap_or_default().to_owned())
    }
}

/// One step of a life, which ends with its line in the report, also when it fails.
async fn step(name: &str, act: impl AsyncFnOnce(&mut Report) -> anyhow::Result<()>) {
    let mut report = Report::of(name);
    act(&mut report).await.unwrap();
}

fn since(begun: Instant) -> String {
    format!("{:.0} s", begun.elapsed().as_secs_f64())
}
