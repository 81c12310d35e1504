//! Another version is installed while a backlog waits in the journal, and the one before again.

use std::path::Path;
use std::time::Duration;

use tidegate_hil_tests::Wishes;
use tidegate_hil_tests::installed::{self, DAEMON, LEAF};

use super::{CATCH_UP, GATEWAY, Stage, staged};

/// The version that a journal of a later release asks for.
const LATER: u8 = 9;

#[test]
fn an_upgrade_and_a_downgrade_over_a_backlog_lose_nothing_and_an_unreadable_one_is_refused() {
    staged(|net| async move {
        let mut stage = Stage::bare(net, "upgrade with a backlog", Wishes::default()).await?;
        let release = installed::package()?;
        stage.gateway.install(&release)?;
        // This one's token is sealed for its machine.
        stage.gateway.seal_credential("token", &stage.authority.token(GATEWAY)?)?;
        stage.begin_with(&stage.configuration()?).await?;
        let first = stage.gateway.version()?;
        let newer = installed::as_release(&stage.gateway, &release, "99.0", None)?;
        let leaf = stage.gateway.pid(LEAF)?;

        over_a_backlog(&mut stage, &newer).await?;
        assert_eq!(stage.gateway.version()?, "99.0");
        over_a_backlog(&mut stage, &release).await?;
        assert_eq!(stage.gateway.version()?, first);
        assert_eq!(stage.gateway.pid(LEAF)?, leaf, "the leaf is the same and runs on");

        // One whose journal the former release could not read: there is no way back.
        let later = installed::as_release(&stage.gateway, &release, "100.0", Some(LATER))?;
        over_a_backlog(&mut stage, &later).await?;
        let daemon = stage.gateway.pid(DAEMON)?;
        let (done, said) = stage.gateway.try_install(&release)?;
        assert!(!done, "{said}");
        let reason = said.lines().find(|line| line.starts_with("tidegate: not installed"));
        let reason = reason.unwrap_or_default();
        assert!(reason.contains(&format!("version {LATER}")) && reason.contains("100.0"), "{said}");
        assert_eq!(stage.gateway.version()?, "100.0");
        assert_eq!(stage.gateway.container.run("dpkg --audit")?, "");
        assert_eq!(stage.gateway.pid(DAEMON)?, daemon, "a refusal changes nothing");

        let findings = stage.verify().await?;
        stage.report.figure("polls judged", findings.delivered.to_string(), "");
        stage.report.figure("lost or twice", "0", "0");
        let missed = findings.named_holes.len().to_string();
        stage.report.figure("polls under way while the daemon ended, named", missed, "");
        stage.pass();
        Ok(())
    });
}

/// The hub is away, a backlog grows, the package is installed, the backlog grows, the hub returns.
async fn over_a_backlog(stage: &mut Stage, package: &Path) -> anyhow::Result<()> {
    let daemon = stage.gateway.pid(DAEMON)?;
    stage.rig.wan.cut_closed().await?;
    stage.rig.sit_out(Duration::from_secs(2)).await?;
    let before = stage.rig.messages_at_hub().await?;
    stage.gateway.install(package)?;
    stage.gateway.is_started_again(DAEMON, daemon).await?;
    stage.gateway.answers().await?;
    stage.rig.polls(10).await?;
    anyhow::ensure!(stage.rig.messages_at_hub().await? == before, "the hub is cut off");
    stage.rig.wan.restore().await?;
    let polled = stage.rig.polls(2).await?;
    stage.rig.hub_holds(polled, CATCH_UP).await
}
