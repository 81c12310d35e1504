//! The product as an administrator has it: packages, services and files of a system in a container.
//!
//! # Invariants
//! - Everything goes through what an administrator has: `dpkg`, `systemctl`, `journalctl`, the files
//!   in `/etc/tidegate` and the installed `tidegate`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::container::Container;
use crate::{family, tools, wait};

/// The daemon's unit.
pub const DAEMON: &str = "tidegate.service";
/// The leaf's unit.
pub const LEAF: &str = "tidegate-leaf.service";

/// How long a scenario waits for what services do by themselves: a start, a restart after a crash
/// (2 s), the first certificate.
const TO_SETTLE: Duration = Duration::from_secs(40);

/// The package of the gateway in the folder that `TIDEGATE_APPLIANCE` names.
///
/// # Errors
/// When there is none.
pub fn package() -> anyhow::Result<PathBuf> {
    let folder = tools::appliance()?;
    let mut found: Vec<_> = std::fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("tidegate_") && name.ends_with("_amd64.deb")
        })
        .collect();
    found.sort();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            bail!("{} holds no tidegate_*_amd64.deb; run: cargo xtask deb x86_64", folder.display())
        }
        _ => bail!("{} holds several packages of the gateway: {found:?}", folder.display()),
    }
}

/// Makes the same package with another version, as a later release would have it; one whose journal
/// needs a reader of this version, where it is given.
///
/// # Errors
/// When the package cannot be taken apart.
pub fn as_release(
    gateway: &Installed,
    package: &Path,
    version: &str,
    journal_needs: Option<u8>,
) -> anyhow::Result<PathBuf> {
    let container = &gateway.container;
    let tree = container.root().with_file_name(format!("package-{version}"));
    let changed = tree.with_extension("deb");
    let script = r#"set -e
        dpkg-deb --raw-extract "$1" "$2"
        sed -i "s/^Version: .*/Version: $3/" "$2/DEBIAN/control"
        [ -z "$5" ] || echo "$5" > "$2/usr/share/tidegate/journal-format"
        dpkg-deb --root-owner-group -Zgzip -z1 --build "$2" "$4"
        rm -r "$2""#;
    let needs = journal_needs.map(|needs| needs.to_string()).unwrap_or_default();
    let mut command = container.family().command("sh");
    command
        .args(["-c", script, "sh"])
        .arg(package)
        .arg(&tree)
        .arg(version)
        .arg(&changed)
        .arg(needs);
    let output = command.output()?;
    ensure!(output.status.success(), "dpkg-deb: {}", String::from_utf8_lossy(&output.stderr));
    Ok(changed)
}

/// A system with the gateway's package on it.
#[derive(Debug)]
pub struct Installed {
    /// The system.
    pub container: Container,
}

impl Installed {
    /// What `dpkg --install` says, whether it succeeds or not.
    ///
    /// # Errors
    /// When the container is off.
    pub fn try_install(&self, package: &Path) -> anyhow::Result<(bool, String)> {
        let name = package.file_name().context("a package has a name")?;
        std::fs::copy(package, self.container.root().join("root").join(name))?;
        let name = name.to_string_lossy();
        let line = format!("dpkg --install /root/{name} 2>&1 < /dev/null");
        let output = self.container.try_run(&line)?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Installs a package, in place of another version where there is one.
    ///
    /// # Errors
    /// When `dpkg` fails; the error holds all that it said.
    pub fn install(&self, package: &Path) -> anyhow::Result<String> {
        let (done, said) = self.try_install(package)?;
        ensure!(done, "{} was not installed: {said}", package.display());
        Ok(said)
    }

    /// The version that is installed.
    ///
    /// # Errors
    /// When none is.
    pub fn version(&self) -> anyhow::Result<String> {
        self.container.run("dpkg-query --show --showformat='${Version}' tidegate")
    }

    /// Puts a configuration in place, as an editor does: whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, text: &str) -> anyhow::Result<()> {
        let fresh = self.container.root().join("etc/tidegate/tidegate.toml.fresh");
        std::fs::write(fresh, text)?;
        self.container.run(
            "cd /etc/tidegate && chown root:tidegate tidegate.toml.fresh && \
             chmod 0640 tidegate.toml.fresh && mv tidegate.toml.fresh tidegate.toml",
        )?;
        Ok(())
    }

    /// Puts a credential where the daemon's unit takes it from, readable by root alone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn give_credential(&self, name: &str, content: &str) -> anyhow::Result<()> {
        let path = self.container.root().join("etc/tidegate/credentials").join(name);
        std::fs::write(&path, content)?;
        self.container.run(&format!("chmod 0400 /etc/tidegate/credentials/{name}"))?;
        Ok(())
    }

    /// The same, sealed for this machine: nobody else can read the file, wherever it is copied.
    ///
    /// # Errors
    /// When systemd cannot seal.
    pub fn seal_credential(&self, name: &str, content: &str) -> anyhow::Result<()> {
        let plain = self.container.root().join("root/to-be-sealed");
        std::fs::write(&plain, content)?;
        self.container.run(&format!(
            "systemd-creds encrypt --name=sealed_{name} /root/to-be-sealed \
             /etc/tidegate/credentials.encrypted/{name} && shred --remove /root/to-be-sealed"
        ))?;
        Ok(())
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.container.run(&format!("systemctl start {DAEMON}"))?;
        self.answers().await
    }

    /// What `tidegate status --json` says.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> anyhow::Result<Value> {
        let said = self.container.run("tidegate status --json")?;
        serde_json::from_str(&said).with_context(|| format!("status said {said}"))
    }

    /// Waits until the daemon answers.
    ///
    /// # Errors
    /// When it does not soon; the error holds what it logged.
    pub async fn answers(&self) -> anyhow::Result<()> {
        let waited = wait::until(TO_SETTLE, "the daemon answers", || {
            let status = self.status();
            async move { Ok(status.is_ok().then_some(())) }
        })
        .await;
        waited.with_context(|| self.container.story())
    }

    /// Waits until an alarm is raised, and returns its text.
    ///
    /// # Errors
    /// When it is not within 90 s.
    pub async fn alarm(&self, kind: &str) -> anyhow::Result<String> {
        wait::until(Duration::from_secs(90), &format!("the alarm {kind}"), || {
            let status = self.status();
            async move {
                let Ok(status) = status else { return Ok(None) };
                let alarms = status["alarms"].as_array().context("no alarms in the status")?;
                let found = alarms.iter().find(|alarm| alarm["kind"] == kind);
                Ok(found.map(|alarm| alarm["text"].as_str().unwrap_or_default().to_owned()))
            }
        })
        .await
    }

    /// The main process of a unit, by the numbers of this machine.
    ///
    /// # Errors
    /// When the unit is down.
    pub fn pid(&self, unit: &str) -> anyhow::Result<u32> {
        let inside: u32 = self.container.unit(unit, "MainPID")?.parse()?;
        ensure!(inside != 0, "{unit} is down");
        self.container.outside(inside)
    }

    /// SIGKILL to the main process of a unit.
    ///
    /// # Errors
    /// When it is down.
    pub fn kill9(&self, unit: &str) -> anyhow::Result<()> {
        family::kill9(self.pid(unit)?)
    }

    /// SIGSTOP to the main process of a unit: it stands still, with everything that it has open.
    ///
    /// # Errors
    /// When it is down.
    pub fn freeze(&self, unit: &str) -> anyhow::Result<()> {
        family::freeze(self.pid(unit)?)
    }

    /// Waits until a unit runs with another main process than this one.
    ///
    /// # Errors
    /// When it does not come back by itself.
    pub async fn is_started_again(&self, unit: &str, former: u32) -> anyhow::Result<u32> {
        let what = format!("{unit} is started again");
        wait::until(TO_SETTLE * 2, &what, || {
            let active = self.container.unit(unit, "ActiveState");
            let pid = self.pid(unit).ok().filter(|pid| *pid != former);
            async move { Ok(pid.filter(|_| active.is_ok_and(|state| state == "active"))) }
        })
        .await
    }
}
