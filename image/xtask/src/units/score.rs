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
}

/// Of every service. The daemon dials whatever PLC, authority and hub it is told, and opens serial
/// ports: network and devices alone are 1.1 of its score.
pub(super) const LIMITS: [Limit; 3] = [
    Limit { unit: "tidegate.service", most: Tenths(15) },
    Limit { unit: "tidegate-leaf.service", most: Tenths(12) },
    Limit { unit: "tidegate-leaf-restart.service", most: Tenths(5) },
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
