//! Installed, commissioned, booted anew, looked over, removed, installed again, purged.

use std::time::Duration;

use tidegate_hil_tests::installed::{self, DAEMON, LEAF};
use tidegate_hil_tests::{Wishes, live_values};

use super::{CATCH_UP, Stage, staged};

/// From the container's start until a new sample is in the hub's record.
const TO_FIRST_SAMPLE: Duration = Duration::from_secs(5);

/// The most that `systemd-analyze security` may say of each unit.
const EXPOSURE: [(&str, f64); 2] = [(DAEMON, 1.5), (LEAF, 1.2)];

#[test]
fn a_package_is_installed_commissioned_booted_removed_installed_again_and_purged() {
    staged(|net| async move {
        let mut stage = Stage::bare(net, "package lifecycle", Wishes::default()).await?;
        is_installed_clean(&stage).await?;
        stage.commission().await?;
        files_are_closed(&stage)?;

        boots_to_samples(&mut stage).await?;
        exposure(&mut stage)?;

        let machine = &stage.gateway.container;
        machine.run("dpkg --remove tidegate < /dev/null")?;
        for gone in ["/usr/bin/tidegate", "/usr/lib/tidegate", "/run/tidegate"] {
            machine.run(&format!("test ! -e {gone}"))?;
        }
        let running = "ls -l /proc/[0-9]*/exe 2> /dev/null | grep -c -e tidegate -e nats || true";
        assert_eq!(machine.run(running)?, "0");
        machine
            .run("ls /var/lib/tidegate/journal/seg-* /var/lib/tidegate/identity/current/key.pem")?;
        machine.run("test -s /etc/tidegate/tidegate.toml")?;

        stage.gateway.install(&installed::package()?)?;
        stage.gateway.answers().await?;
        stage.verify().await?;

        let machine = &stage.gateway.container;
        machine.run("dpkg --purge tidegate < /dev/null")?;
        let left = machine.run("find / -xdev -path /proc -prune -o -path '*tidegate*' -print")?;
        assert!(is_nothing(&left), "a purge leaves {left}");
        assert_eq!(machine.run("systemctl --failed --no-legend --plain")?, "");
        stage.pass();
        Ok(())
    });
}

/// Nothing fails, nothing runs that has no configuration, and it is said how to begin.
async fn is_installed_clean(stage: &Stage) -> anyhow::Result<()> {
    let said = stage.gateway.install(&installed::package()?)?;
    let hints: Vec<_> = said.lines().filter(|line| line.contains("tidegate.toml")).collect();
    assert_eq!(hints.len(), 1, "one line says how to begin: {said}");
    for word in ["warning", "error", "fail"] {
        assert!(!said.to_lowercase().contains(word), "{said}");
    }
    let machine = &stage.gateway.container;
    assert_eq!(machine.run("systemctl --failed --no-legend --plain")?, "");
    for unit in [DAEMON, LEAF] {
        assert_eq!(machine.unit(unit, "ActiveState")?, "inactive", "{unit}");
        assert_eq!(machine.unit(unit, "UnitFileState")?, "enabled", "{unit}");
    }
    machine.run("getent passwd tidegate tidegate-leaf && id -nG tidegate | grep -w dialout")?;
    machine.run("tidegate --version && man -w tidegate 2> /dev/null || true")?;
    Ok(())
}

/// What is secret is readable by whom it is for, and by nobody else.
fn files_are_closed(stage: &Stage) -> anyhow::Result<()> {
    let machine = &stage.gateway.container;
    let open = "find /var/lib/tidegate /etc/tidegate -type f -perm /o+r -print";
    assert_eq!(machine.run(open)?, "", "readable by everybody");
    for (user, file, may) in [
        ("tidegate", "/etc/tidegate/tidegate.toml", true),
        ("tidegate", "/etc/tidegate/credentials/token", false),
        ("tidegate-leaf", "/etc/tidegate/tidegate.toml", false),
        ("tidegate-leaf", "/var/lib/tidegate/identity/current/key.pem", false),
        ("tidegate-leaf", "/var/lib/tidegate/leaf/nats-server.conf", true),
        ("nobody", "/var/lib/tidegate/leaf/nats-server.conf", false),
    ] {
        let line = format!(
            "setpriv --reuid {user} --regid $(id -g {user}) --init-groups cat {file} > /dev/null"
        );
        let can = machine.try_run(&line)?.status.success();
        assert_eq!(can, may, "{user} reads {file}");
    }
    let keys =
        "grep -rlZ 'PRIVATE KEY' /var/lib/tidegate/leaf | xargs -0 stat -c '%a %U:%G' | uniq";
    assert_eq!(machine.run(keys)?, "640 tidegate:tidegate-leaf");
    Ok(())
}

/// How long it takes from the switch until a value that was read after it is at the hub.
async fn boots_to_samples(stage: &mut Stage) -> anyhow::Result<()> {
    stage.gateway.container.power_off().await?;
    let before = stage.rig.served()?;
    let begun = stage.gateway.container.switch_on()?;
    let rig = &stage.rig;
    let record = async {
        rig.hub_holds(before + 1, CATCH_UP).await?;
        anyhow::Ok(begun.elapsed())
    };
    let live = async {
        live_values(rig, 1).await?;
        anyhow::Ok(begun.elapsed())
    };
    let (record, live) = tokio::try_join!(record, live)?;
    stage.gateway.container.is_up().await?;
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let asked = format!("<= {}", seconds(TO_FIRST_SAMPLE));
    let first = live.min(record);
    // Told and not judged: how long a boot takes is the machine's business as much as ours.
    stage.report.figure("container boot to first sample at the hub", seconds(first), &asked);
    stage.report.figure("the same, in the hub's record", seconds(record), "");
    let boot = stage.gateway.container.run("systemd-analyze time")?;
    let boot = boot.lines().next().and_then(|line| line.split("= ").last()).unwrap_or_default();
    stage.report.figure("of which systemd's own part", boot, "");
    Ok(())
}

/// As systemd sees the running services.
fn exposure(stage: &mut Stage) -> anyhow::Result<()> {
    for (unit, most) in EXPOSURE {
        let line = format!("systemd-analyze security --no-pager {unit}");
        let told = stage.gateway.container.run(&line)?;
        let level = told.rsplit_once("exposure level for ").map_or("", |(_, level)| level);
        let level: f64 = level.split_whitespace().nth(1).unwrap_or_default().parse()?;
        stage.report.bound(
            &format!("exposure of {unit}, live"),
            format!("{level:.1}"),
            &format!("<= {most:.1}"),
            level <= most,
        );
        assert!(level <= most, "{told}");
    }
    Ok(())
}

/// What a purge may leave: the package that was installed from, and dpkg's own log of it.
fn is_nothing(left: &str) -> bool {
    left.lines().all(|path| path.starts_with("/root/") || path.starts_with("/var/log/"))
}
