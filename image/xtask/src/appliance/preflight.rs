//! Whether whole systems can be booted in containers here, found out before anything is built.
//!
//! # Invariants
//! - What is missing is named together with what helps; nothing is left out silently.
//! - Nothing of this machine is changed: what is tried is tried in a mount namespace of its own.

use std::process::Command;

use anyhow::bail;

use crate::{debian, shell};

/// Programs, and Debian's packages of them.
const PROGRAMS: [(&str, &str); 5] = [
    ("systemd-nspawn", "systemd-container"),
    ("mmdebstrap", "mmdebstrap"),
    ("unshare", "util-linux"),
    ("ip", "iproute2"),
    ("dpkg-deb", "dpkg"),
];

/// What the rig does to boot a container, up to the control group.
const TRY: &str = "set -e
mount --make-rprivate /
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/tidegate-preflight
rmdir /sys/fs/cgroup/tidegate-preflight";

/// Makes the programs present, and tries what only some machines allow.
pub(super) fn provide() -> anyhow::Result<()> {
    if !debian::is_root() {
        bail!(
            "no container can be booted: this needs root, for mounts, networks and control groups of \
             its own; run the command as root, or with --without-booting"
        );
    }
    for (program, package) in PROGRAMS {
        debian::need(program, package)?;
    }
    let mut network = Command::new("unshare");
    if shell::ask(network.args(["--net", "true"])).is_none() {
        bail!(
            "no container can be booted: this machine gives no network of one's own (unshare --net); \
             run where CAP_SYS_ADMIN is given, or with --without-booting"
        );
    }
    let tried = Command::new("unshare").args(["--mount", "sh", "-c", TRY]).output()?;
    if !tried.status.success() {
        bail!(
            "no container can be booted: the second version of control groups cannot be mounted here \
             ({}); run where mounts are allowed, or with --without-booting",
            String::from_utf8_lossy(&tried.stderr).trim()
        );
    }
    Ok(())
}
