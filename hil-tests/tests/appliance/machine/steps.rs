//! The life of a gateway, from its first boot to its reset.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tidegate_hil_tests::machine::Kind;
use tidegate_hil_tests::outpost::GATEWAY;
use tidegate_hil_tests::system::System;

use super::{CATCH_UP, Life, TO_INSTALL, since, step};

/// Polls during which the hub is away: what waits in the journal while the gateway is updated.
const BACKLOG: u64 = 30;

/// Whether RAUC says that it is writing an image, asked again and again until it does.
const UNTIL_IT_WRITES: &str = "until busctl get-property de.pengutronix.rauc / \
     de.pengutronix.rauc.Installer Progress 2>/dev/null | grep -q Copying; do sleep 0.2; done";

/// From the factory to the reset, in one go.
#[tokio::test(flavor = "multi_thread")]
async fn an_x86_64_gateway_lives_from_its_first_boot_through_updates_and_a_power_cut_to_its_reset()
{
    let mut life = Life::of(Kind::X86_64).await.unwrap();
    let life = &mut life;
    first_boot(life, "image, x86-64").await;
    foreign_update(life).await;
    update_with_backlog(life).await;
    update_that_is_not_healthy(life).await;
    power_cut_in_an_update(life).await;
    reset(life).await;
}

/// The same image on the other architecture: up to values at the hub.
#[tokio::test(flavor = "multi_thread")]
async fn an_aarch64_gateway_boots_and_delivers() {
    let mut life = Life::of(Kind::Aarch64).await.unwrap();
    first_boot(&mut life, "image, aarch64").await;
}

/// A stick tells the gateway everything; it enrols at the hub's authority, and its values arrive.
async fn first_boot(life: &mut Life, image: &str) {
    let name = format!("{image}: first boot, provisioned by a stick, enrolled, values at the hub");
    step(&name, async |report| {
        let begun = Instant::now();
        life.power_on().await?;
        life.is_good_in("A").await?;
        report.figure("power on until the first boot is good", since(begun), "");

        let (stick, token) = life.outpost.provisioning_stick("provisioning")?;
        ensure!(stick.holds(&token)?, "the stick holds no token to be destroyed");
        let begun = Instant::now();
        life.outpost.system.plug(&stick).await?;
        let polled = life.outpost.polls(3, CATCH_UP).await?;
        life.outpost.hub_holds(polled, CATCH_UP).await?;
        report.figure("stick plugged in until values are at the hub", since(begun), "");
        life.says(&["tidegate-stick: done"], CATCH_UP).await?;
        life.outpost.system.unplug().await?;
        let said = stick.read("tidegate-result.txt")?.context("the stick says nothing")?;
        ensure!(!stick.holds(&token)?, "the token is still on the stick: {said}");
        ensure!(life.outpost.hub.authority_said()?.contains("issued a certificate"));
        let values = life.outpost.verify_nothing_lost(CATCH_UP).await?;
        report.figure("values judged", values.to_string(), "none lost, none twice");
        Ok(())
    })
    .await;
}

/// What somebody else signed is refused, and the gateway goes on.
async fn foreign_update(life: &mut Life) {
    step("an update with a wrong key is refused", async |report| {
        let begun = Instant::now();
        let said = life.update_by_stick("foreign.raucb").await?;
        ensure!(said.contains("refused"), "the stick says: {said}");
        report.figure("what the stick says", said, "");
        report.figure("plugged in until refused", since(begun), "");
        life.outpost.verify_nothing_lost(CATCH_UP).await?;
        Ok(())
    })
    .await;
}

/// The hub is away while the gateway is updated and restarts into the other slot; what it read before
/// and after that is delivered by the new build.
async fn update_with_backlog(life: &mut Life) {
    step("an update with a backlog in the journal: nothing lost, nothing twice", async |report| {
        life.outpost.wan.cut_closed().await?;
        let first = life.outpost.served()?;
        life.outpost.polls(BACKLOG, CATCH_UP).await?;
        let begun = Instant::now();
        let said = life.update_by_stick("update.raucb").await?;
        ensure!(said.contains("installed"), "the stick says: {said}");
        report.figure("plugged in until installed", since(begun), "");
        let begun = Instant::now();
        life.is_good_in("B").await?;
        report.figure("restarted until slot B is good", since(begun), "");
        let last = life.outpost.polls(BACKLOG, CATCH_UP).await?;
        life.outpost.wan.restore().await?;
        let values = life.outpost.verify_nothing_lost(CATCH_UP).await?;
        report.figure("values read while the hub was away", (last - first).to_string(), "");
        report.figure("values judged", values.to_string(), "none lost, none twice");
        Ok(())
    })
    .await;
}

/// A build whose daemon does not start is left again, without anybody's doing.
async fn update_that_is_not_healthy(life: &mut Life) {
    step("an update that does not come up healthy falls back by itself", async |report| {
        let said = life.update_by_stick("broken.raucb").await?;
        ensure!(said.contains("installed"), "the stick says: {said}");
        let begun = Instant::now();
        let verdict = life.verdict().await?;
        ensure!(verdict.contains("slot=A not healthy"), "the broken build: {verdict}");
        report.figure("what the broken build says", verdict, "");
        life.is_good_in("B").await?;
        report.figure("restarted until the former build is good again", since(begun), "");
        life.outpost.verify_nothing_lost(CATCH_UP).await?;
        Ok(())
    })
    .await;
}

/// The power goes while an update is written; the running build comes back, what is at the hub is
/// whole, and the same update is taken afterwards.
async fn power_cut_in_an_update(life: &mut Life) {
    step("a power cut in the middle of an update", async |report| {
        if let System::Machine(_) = life.outpost.system {
            life.outpost.system.shut_down().await?;
            life.outpost.lay_fresh_disk("cut")?;
            life.power_on().await?;
            life.is_good_in("B").await?;
        }
        life.outpost.polls(5, CATCH_UP).await?;
        let stick = life.outpost.stick("cut", 256)?;
        stick.put(&tidegate_hil_tests::tools::image(life.arch, "next.raucb")?, "update.raucb")?;
        life.outpost.system.plug(&stick).await?;
        match &mut life.outpost.system {
            System::Machine(machine) => {
                let shell = machine.shell()?;
                shell.shell_answers(CATCH_UP).await?;
                shell.run(UNTIL_IT_WRITES, TO_INSTALL).await?;
            }
            // No shell on a real one: its update takes longer than this.
            _ => tokio::time::sleep(Duration::from_secs(5)).await,
        }
        life.outpost.system.cut_power().await?;
        let begun = Instant::now();
        life.power_on().await?;
        life.is_good_in("B").await?;
        report.figure("power back until the running build is good", since(begun), "");
        let (findings, claim) = life.outpost.verify(CATCH_UP).await?;
        report.figure("verdict of the proof", claim.verdict, "balanced");
        let lost = findings.named_holes.len();
        report.figure("values lost with the power, each named", lost.to_string(), "");

        life.outpost.system.plug(&stick).await?;
        life.says(&["tidegate-stick: done"], TO_INSTALL).await?;
        life.outpost.system.unplug().await?;
        life.is_good_in("A").await?;
        life.outpost.verify(CATCH_UP).await?;
        Ok(())
    })
    .await;
}

/// The gateway forgets everything, and can be told anew.
async fn reset(life: &mut Life) {
    step("a factory reset, and provisioned again", async |report| {
        let stick = life.outpost.stick("reset", 64)?;
        stick.write("factory-reset", &format!("{GATEWAY}\n"))?;
        life.outpost.system.plug(&stick).await?;
        life.says(&["tidegate-stick: done"], CATCH_UP).await?;
        life.outpost.system.unplug().await?;
        let begun = Instant::now();
        life.is_good_in("A").await?;
        report.figure("restarted until reset and good", since(begun), "");
        let before = life.outpost.served()?;
        if let System::Machine(machine) = &mut life.outpost.system {
            let shell = machine.shell()?;
            shell.shell_answers(CATCH_UP).await?;
            let left = "find /etc/tidegate /var/lib/tidegate -type f";
            let found = shell.run(left, CATCH_UP).await?;
            report.figure("files left", found.printed.lines().count().to_string(), "");
            let keys = shell.run(&format!("{left} | grep -c -e key -e token"), CATCH_UP).await?;
            ensure!(keys.printed.trim() == "0", "keys are left: {}", found.printed);
        }
        ensure!(life.outpost.served()? == before, "a gateway without a configuration polls");

        let (stick, _) = life.outpost.provisioning_stick("again")?;
        life.outpost.system.plug(&stick).await?;
        let polled = life.outpost.polls(3, CATCH_UP).await?;
        life.outpost.hub_holds(polled, CATCH_UP).await?;
        Ok(())
    })
    .await;
}
