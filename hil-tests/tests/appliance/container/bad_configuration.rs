//! A configuration that does not check: the unit says so, nothing spins, and the leaf goes on.

use std::time::Duration;

use anyhow::ensure;
use tidegate_hil_tests::Wishes;
use tidegate_hil_tests::installed::{DAEMON, LEAF};

use super::{Stage, staged};

/// Twice as long as a service waits before it is started again.
const A_WHILE: Duration = Duration::from_secs(4);

#[test]
fn a_configuration_that_does_not_check_is_told_in_one_line_and_the_leaf_goes_on() {
    staged(|net| async move {
        let mut stage = Stage::running(net, "bad configuration", Wishes::default()).await?;
        let good = stage.configuration()?;
        let bad = good.replace("send-every-ms", "send-evry-ms").replace("[gateway]", "[gatway]");
        ensure!(bad != good, "nothing was made wrong");
        let (daemon, leaf) = (stage.gateway.pid(DAEMON)?, stage.gateway.pid(LEAF)?);

        // A running daemon keeps what it has.
        stage.gateway.configure(&bad)?;
        stage.gateway.container.run(&format!("systemctl reload {DAEMON}"))?;
        stage.rig.polls(5).await?;
        assert_eq!(stage.gateway.pid(DAEMON)?, daemon);

        stage.gateway.container.run(&format!("systemctl restart {DAEMON} || true"))?;
        let failed = |state: &str| state == "failed";
        let machine = &stage.gateway.container;
        machine.unit_is(DAEMON, "ActiveState", A_WHILE * 2, failed).await?;
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(machine.unit(DAEMON, "ActiveState")?, "failed");
        assert_eq!(machine.unit(DAEMON, "NRestarts")?, "0", "only a person can mend it");

        // What an operator sees first.
        let status = machine.try_run(&format!("systemctl status --no-pager {DAEMON}"))?;
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        let told: Vec<_> = status.lines().filter(|line| line.contains("gatway")).collect();
        assert!(!told.is_empty(), "the status says what is wrong: {status}");
        assert!(told.iter().all(|line| line.contains("tidegate.toml")), "{status}");
        let log = machine.run(&format!(
            "journalctl --no-pager --output=cat --unit={DAEMON} \
             _SYSTEMD_INVOCATION_ID=$(systemctl show --value --property=InvocationID {DAEMON})"
        ))?;
        let lines = log.lines().filter(|line| line.contains("gatway") || line.contains("evry"));
        assert_eq!(lines.count(), 1, "one line in the journal: {log}");

        // What is asked for next gives the whole list.
        let check = machine.try_run("tidegate check 2>&1")?;
        let list = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(
            !check.status.success() && list.contains("gatway") && list.contains("evry"),
            "{list}"
        );

        assert_eq!(stage.gateway.pid(LEAF)?, leaf, "the leaf runs on");
        // Local applications get their greeting.
        let greeting = "bash -c 'exec 3<> /dev/tcp/127.0.0.1/4222; head -c 4 <&3'";
        assert_eq!(stage.gateway.container.run(greeting)?, "INFO");

        // No configuration at all is no failure, and the leaf goes on as well.
        let machine = &stage.gateway.container;
        machine.run("mv /etc/tidegate/tidegate.toml /root/")?;
        machine.run(&format!("systemctl restart {DAEMON}"))?;
        assert_eq!(machine.unit(DAEMON, "ActiveState")?, "inactive");
        assert_eq!(stage.gateway.pid(LEAF)?, leaf, "the leaf runs on");

        stage.gateway.configure(&good)?;
        stage.gateway.start().await?;
        stage.verify().await?;
        stage.pass();
        Ok(())
    });
}
