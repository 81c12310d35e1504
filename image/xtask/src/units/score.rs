//! How far a service may be exposed, and what `systemd-analyze security` says of it.

use std::fmt;

/// A score of `systemd-analyze security`: 0.0 is shut, 10.0 is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tenths(pub(super) u32);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// What is promised of a service.
pub(super) struct Limit {
    pub(super) unit: &'static str,
    pub(super) most: Tenths,
    /// What its work leaves open.
    pub(super) why: &'static str,
}

/// Of every service, the packages' and the image's own.
pub(super) const LIMITS: [Limit; 10] = [
    Limit {
        unit: "tidegate.service",
        most: Tenths(15),
        why: "dials whatever PLC, authority and hub it is told, and opens serial ports",
    },
    Limit {
        unit: "tidegate-leaf.service",
        most: Tenths(12),
        why: "dials the hub, and is dialled by local applications",
    },
    Limit { unit: "tidegate-leaf-restart.service", most: Tenths(5), why: "no input, no network" },
    Limit {
        unit: "tidegate-boot.service",
        most: Tenths(25),
        why: "root's rights to restart the machine and to have rauc mark a slot",
    },
    Limit {
        unit: "tidegate-configuration.service",
        most: Tenths(44),
        why: "mounts for another service, so it has the system's own mounts",
    },
    Limit {
        unit: "tidegate-data-growth.service",
        most: Tenths(27),
        why: "writes the disk's partition table, and has the kernel take it",
    },
    Limit {
        unit: "tidegate-provision.service",
        most: Tenths(38),
        why: "unmounts what another service mounted, so it has the system's own mounts",
    },
    Limit {
        unit: "tidegate-reset.service",
        most: Tenths(18),
        why: "root's rights to destroy the files of the daemon's user",
    },
    Limit {
        unit: "tidegate-stick@x.service",
        most: Tenths(46),
        why: "mounts what rauc.service reads, so it has the system's own mounts",
    },
    Limit {
        unit: "tidegate-development-shell.service",
        most: Tenths(97),
        why: "a shell of root's, in development images only",
    },
];

/// The score at the end of what was printed: `→ Overall exposure level for …: 1.4 OK`.
pub(super) fn overall(text: &str) -> Option<Tenths> {
    let line = text.lines().find(|line| line.contains("Overall exposure level"))?;
    let (_, verdict) = line.rsplit_once(": ")?;
    let (whole, tenth) = verdict.split_whitespace().next()?.split_once('.')?;
    let (whole, tenth): (u32, u32) = (whole.parse().ok()?, tenth.parse().ok()?);
    (tenth < 10 && whole <= 10).then_some(Tenths(whole * 10 + tenth))
}

/// What it holds against the service: setting, words, points.
pub(super) fn reasons(text: &str) -> Vec<String> {
    let held = text.lines().filter_map(|line| line.strip_prefix('✗'));
    held.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
  NAME             DESCRIPTION                              EXPOSURE
✗ PrivateNetwork=  Service has access to the host's network      0.5
✓ UMask=           Files created by service are accessible only by service's own user
  RootDirectory=   Not in question

→ Overall exposure level for tidegate-leaf.service: 1.1 OK 🙂
";

    #[test]
    fn the_score_and_what_lies_behind_it_are_read() {
        assert_eq!(overall(PRINTED), Some(Tenths(11)));
        assert_eq!(overall(PRINTED).unwrap().to_string(), "1.1");
        let expected = "PrivateNetwork= Service has access to the host's network 0.5";
        assert_eq!(reasons(PRINTED), [expected]);
    }

    #[test]
    fn words_that_changed_are_no_score() {
        assert_eq!(overall(""), None);
        assert_eq!(overall("→ Overall exposure level for a.service: fine"), None);
        assert_eq!(overall("→ Overall exposure level for a.service: 1.12 OK"), None);
    }
}
