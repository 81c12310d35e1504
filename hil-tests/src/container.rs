//! A whole Debian system in a container: booted with `systemd-nspawn`, powered off, cut off, and
//! given commands.
//!
//! ```text
//!   scenario's namespace                      gateway's namespace: the container's only network
//!   PLC, hub, authority ── 10.78/10.77.0.2 ══ 10.78/10.77.0.1 ── systemd, tidegate, leaf
//! ```
//!
//! # Invariants
//! - The container has the network of [`Net`]'s gateway and no other: also across its boots, so that
//!   the network is there before the system is.
//! - Its files are a copy of a root that is only read; they stay between boots and go with it.
//! - Its processes have a numbering of their own inside the family's: whoever ends the family ends
//!   them all.
//! - Mounts are made in a mount namespace that goes with the container, control groups below one of
//!   its own name; those of containers that were killed are swept by the next one.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::family::{self, Family, Process};
use crate::net::Net;
use crate::wait;

/// How long a boot, or a power-off, may take on a machine that has other work: 1.6 s when idle.
const TO_BOOT: Duration = Duration::from_secs(60);

/// A machine may have control groups of the first kind; a system of today wants the second.
const BOOT: &str = r#"
set -e
root=$1 group=$2
mount --make-rprivate /
mount --bind "$root" "$root"
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for left in /sys/fs/cgroup/tidegate-box-*; do
    grep -qs 'populated 0' "$left/cgroup.events" || continue
    find "$left" -depth -type d -exec rmdir {} + || true
done
group=/sys/fs/cgroup/tidegate-box-$group
mkdir -p "$group"
echo $$ > "$group/cgroup.procs"
exec systemd-nspawn --quiet --register=no --keep-unit --network-namespace-path=/proc/self/ns/net \
    --machine=gateway --hostname=gateway --console=pipe --directory="$root" --boot
"#;

/// A system in a container.
#[derive(Debug)]
pub struct Container {
    family: Arc<Family>,
    /// What enters its network and becomes a program there.
    at_network: Vec<String>,
    root: PathBuf,
    log: PathBuf,
    group: String,
    process: Option<Process>,
}

impl Container {
    /// Copies a root; nothing runs yet.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn of(
        base: &Path,
        family: &Arc<Family>,
        net: &Net,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let root = directory.join("root");
        family::copy_tree(family, base, &root)?;
        // Each has an identity of its own, made at its first boot.
        std::fs::write(root.join("etc/machine-id"), "")?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            family: Arc::clone(family),
            at_network: net.at_gateway(),
            root,
            log: directory.join("container.log"),
            group: format!("{}-{number}", std::process::id()),
            process: None,
        })
    }

    /// Where its files are.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Switches it on and waits for nothing. Returns when that was.
    ///
    /// # Errors
    /// When it is on.
    pub fn switch_on(&mut self) -> anyhow::Result<Instant> {
        ensure!(self.process.is_none(), "the container is on already");
        let mut command = self.family.command(&self.at_network[0]);
        command.args(&self.at_network[1..]).arg("unshare");
        // Whoever kills `unshare` kills all that runs in its numbering of processes.
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--mount"]);
        command.args(["--propagation", "private", "sh", "-c", BOOT, "boot"]);
        command.arg(&self.root).arg(&self.group);
        let begun = Instant::now();
        self.process = Some(Process::start(&self.family, "the container", command, &self.log)?);
        Ok(begun)
    }

    /// Switches it on and waits until every unit that starts at boot has started. Returns when it
    /// was switched on.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn boot(&mut self) -> anyhow::Result<Instant> {
        let begun = self.switch_on()?;
        self.is_up().await?;
        Ok(begun)
    }

    /// Waits until every unit that starts at boot has started.
    ///
    /// # Errors
    /// When it has not soon, or a unit failed: the error names it.
    pub async fn is_up(&mut self) -> anyhow::Result<()> {
        let state = wait::until(TO_BOOT, "the container has booted", || {
            let ended = self.process.as_mut().map_or(Ok(None), Process::ended);
            let log = self.log.clone();
            let state = self.try_run("systemctl is-system-running").ok();
            async move {
                if let Some(status) = ended? {
                    bail!("the container ended ({status}): {}", std::fs::read_to_string(log)?);
                }
                let said = state.map(|output| text(&output.stdout)).unwrap_or_default();
                Ok(["running", "degraded"].contains(&said.as_str()).then_some(said))
            }
        })
        .await?;
        if state == "degraded" {
            bail!("units failed: {}", self.run("systemctl --failed --no-legend --plain")?);
        }
        Ok(())
    }

    /// Powers it off in good order.
    ///
    /// # Errors
    /// When it is off, or does not go off.
    pub async fn power_off(&mut self) -> anyhow::Result<()> {
        self.run("systemctl poweroff --no-block")?;
        let mut process = self.process.take().context("the container is off")?;
        wait::until(TO_BOOT, "the container is off", || {
            let ended = process.ended();
            async move { ended }
        })
        .await?;
        Ok(())
    }

    /// Pulls its plug: every process in it is gone at once. What was written stays, as on a disk
    /// that keeps its promises.
    ///
    /// # Errors
    /// When it is off.
    pub fn pull_the_plug(&mut self) -> anyhow::Result<()> {
        self.process.take().context("the container is off")?.kill9()
    }

    /// The first process inside, which is systemd.
    fn first(&self) -> anyhow::Result<u32> {
        let process = self.process.as_ref().context("the container is off")?;
        let around = family::children_of(process.id(), "systemd-nspawn")?;
        let around = around.first().context("the container has no first process yet")?;
        let inside = family::children_of(*around, "systemd")?;
        inside.first().copied().context("the container has no first process yet")
    }

    /// Who keeps its processes.
    #[must_use]
    pub const fn family(&self) -> &Arc<Family> {
        &self.family
    }

    /// The number outside of a process that has this number inside.
    ///
    /// # Errors
    /// When there is none.
    pub fn outside(&self, inside: u32) -> anyhow::Result<u32> {
        let space = |id: u32| std::fs::read_link(format!("/proc/{id}/ns/pid")).ok();
        let own = space(self.first()?).context("the container is off")?;
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // Processes come and go while we look.
            let Ok(status) = std::fs::read_to_string(format!("/proc/{id}/status")) else {
                continue;
            };
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let innermost = numbers.and_then(|numbers| numbers.split_whitespace().next_back());
            if innermost == Some(&inside.to_string()) && space(id).as_ref() == Some(&own) {
                return Ok(id);
            }
        }
        bail!("the container has no process {inside}")
    }

    /// Runs a line of shell inside, as root, and returns all that came of it.
    ///
    /// # Errors
    /// When the container is off.
    pub fn try_run(&self, line: &str) -> anyhow::Result<Output> {
        let first = self.first()?.to_string();
        let mut command = self.family.command("nsenter");
        command.args(["--target", &first, "--all", "--", "sh", "-c", line]);
        // What this test was started with is nothing to a machine of its own.
        command.env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LANG", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        Ok(command.output()?)
    }

    /// Runs a line of shell inside, as root, and returns what it printed.
    ///
    /// # Errors
    /// When it fails; the error holds all that it said.
    pub fn run(&self, line: &str) -> anyhow::Result<String> {
        let output = self.try_run(line)?;
        if !output.status.success() {
            bail!("{line} ({}): {}{}", output.status, text(&output.stdout), text(&output.stderr));
        }
        Ok(text(&output.stdout))
    }

    /// Properties of a unit, one a line.
    ///
    /// # Errors
    /// When the container is off.
    pub fn unit(&self, unit: &str, property: &str) -> anyhow::Result<String> {
        self.run(&format!("systemctl show --value --property={property} {unit}"))
    }

    /// Waits until a property of a unit is as it should be, and returns it.
    ///
    /// # Errors
    /// When it is not within `patience`.
    pub async fn unit_is(
        &self,
        unit: &str,
        property: &str,
        patience: Duration,
        is_right: impl Fn(&str) -> bool,
    ) -> anyhow::Result<String> {
        wait::until(patience, &format!("{property} of {unit} is as it should be"), || {
            let value = self.unit(unit, property);
            let right = value.as_ref().is_ok_and(|value| is_right(value));
            async move { Ok(right.then_some(value?)) }
        })
        .await
    }

    /// What a unit has logged in this boot.
    ///
    /// # Errors
    /// When the container is off.
    pub fn journal(&self, unit: &str) -> anyhow::Result<String> {
        self.run(&format!("journalctl --boot --no-pager --output=cat --unit={unit}"))
    }

    /// What it would take to understand a failure: failed units and the end of the journal.
    #[must_use]
    pub fn story(&self) -> String {
        let line = "systemctl --failed --no-legend --plain; \
                    systemctl status --no-pager --lines=0 'tidegate*'; \
                    journalctl --boot --no-pager --output=short-monotonic | tail -n 80";
        self.try_run(line).map_or_else(
            |error| format!("{error:#}"),
            |output| text(&output.stdout) + &text(&output.stderr),
        )
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
