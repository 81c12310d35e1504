//! What is killed, or hangs, comes back by itself and nothing durable is lost.

use std::time::Instant;

use tidegate_hil_tests::Wishes;
use tidegate_hil_tests::installed::{DAEMON, LEAF};

use super::{CATCH_UP, Stage, staged};

#[test]
fn a_killed_daemon_a_killed_leaf_and_a_daemon_that_hangs_come_back_by_themselves() {
    staged(|net| async move {
        let mut stage = Stage::running(net, "kills", Wishes::default()).await?;
        let leaf = stage.gateway.pid(LEAF)?;

        let daemon = stage.gateway.pid(DAEMON)?;
        stage.gateway.kill9(DAEMON)?;
        let daemon = stage.gateway.is_started_again(DAEMON, daemon).await?;
        stage.rig.polls(5).await?;
        assert_eq!(stage.gateway.pid(LEAF)?, leaf, "the leaf runs on whatever the daemon does");

        stage.gateway.kill9(LEAF)?;
        stage.gateway.is_started_again(LEAF, leaf).await?;
        let polled = stage.rig.polls(5).await?;
        stage.rig.hub_holds(polled, CATCH_UP).await?;
        assert_eq!(stage.gateway.pid(DAEMON)?, daemon, "the daemon outlives its leaf");

        // It stands still and answers nobody: only the watchdog can know.
        let stopped = Instant::now();
        stage.gateway.freeze(DAEMON)?;
        stage.gateway.is_started_again(DAEMON, daemon).await?;
        let within = stopped.elapsed();
        let log = stage.gateway.container.journal(DAEMON)?;
        assert!(log.contains("Watchdog timeout"), "{log}");
        let took = format!("{:.0} s", within.as_secs_f64());
        stage.report.figure("a daemon that hangs runs again after", took, "");

        stage.verify().await?;
        stage.pass();
        Ok(())
    });
}
