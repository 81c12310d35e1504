//! Versions and the ranges that advisories name. Pure.
//!
//! # Invariants
//! - A version of a crate counts without what stands behind `+`.
//! - A pre-release comes before its release, and is compared as text among its like.

use std::cmp::Ordering;

use anyhow::{Context as _, bail};

/// A version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    numbers: [u64; 3],
    pre: String,
}

impl Version {
    /// Reads one; parts that are left out are zero.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        let without = text.split('+').next().unwrap_or_default();
        let (numbers, pre) = without.split_once('-').unwrap_or((without, ""));
        let mut parts = [0; 3];
        let mut given = numbers.split('.');
        for (index, part) in parts.iter_mut().enumerate() {
            let Some(number) = given.next() else { break };
            let number = number.parse();
            *part = number.with_context(|| format!("{text:?} is no version (part {index})"))?;
        }
        if given.next().is_some() {
            bail!("{text:?} is no version: it has more than three parts");
        }
        Ok(Self { numbers: parts, pre: pre.to_owned() })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // Without a pre-release it is the later one.
        let pre = (self.pre.is_empty(), &self.pre).cmp(&(other.pre.is_empty(), &other.pre));
        self.numbers.cmp(&other.numbers).then(pre)
    }
}

/// Whether a version lies in a range such as `>= 0.11.6, < 0.12.0`.
pub(super) fn lies_in(version: &Version, range: &str) -> anyhow::Result<bool> {
    for bound in range.split(',').map(str::trim) {
        let end = bound.find(|c: char| c.is_ascii_digit()).unwrap_or(bound.len());
        let (operator, of) = bound.split_at(end);
        let of = Version::parse(of).with_context(|| format!("range {range:?}"))?;
        let holds = match operator.trim() {
            ">=" => *version >= of,
            ">" => *version > of,
            "<" => *version < of,
            "<=" => *version <= of,
            "=" => *version == of,
            "^" | "" => *version >= of && *version < next_breaking(&of),
            other => bail!("range {range:?} has the unknown operator {other:?}"),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

fn next_breaking(version: &Version) -> Version {
    let numbers = match version.numbers {
        [0, 0, patch] => [0, 0, patch + 1],
        [0, minor, _] => [0, minor + 1, 0],
        [major, ..] => [major + 1, 0, 0],
    };
    Version { numbers, pre: String::new() }
}

/// Whether an advisory speaks of a version: it lies in none of the ranges that have the fix or never
/// had the fault. Every range is read, so that none is wrong unseen.
pub(super) fn is_affected(
    version: &Version,
    patched: &[String],
    unaffected: &[String],
) -> anyhow::Result<bool> {
    let mut is_fine = false;
    for range in patched.iter().chain(unaffected) {
        is_fine |= lies_in(version, range)?;
    }
    Ok(!is_fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lies(version: &str, range: &str) -> bool {
        lies_in(&Version::parse(version).unwrap(), range).unwrap()
    }

    #[test]
    fn ranges_are_read_as_advisories_write_them() {
        for (version, range, expected) in [
            ("0.23.46", ">= 0.23.45", true),
            ("0.23.44", ">= 0.23.45", false),
            ("0.8.8", "< 0.9.0, >= 0.8.6", true),
            ("0.11.6", ">= 0.11.6, < 0.12.0", true),
            ("0.12.0", ">= 0.11.6, < 0.12.0", false),
            ("3.11.0", ">=1.4.0", true),
            ("0.9.34+deprecated", ">= 0.8.4", true),
            ("0.104.0-alpha.2", ">= 0.103.13, < 0.104.0-alpha.1", false),
            ("0.104.0-alpha.2", "< 0.104.0", true),
            ("1.9.0", "^1.8", true),
            ("2.0.0", "^1.8", false),
            ("0.9.1", "0.8", false),
            ("0.8.9", "0.8", true),
            ("0.15.0", "= 0.15.0", true),
        ] {
            assert_eq!(lies(version, range), expected, "{version} in {range}");
        }
    }

    #[test]
    fn what_is_no_version_is_named() {
        for wrong in ["x", "1.2.3.4", "1..2"] {
            let said = format!("{:#}", Version::parse(wrong).unwrap_err());
            assert!(said.contains(wrong), "{said}");
        }
        let version = Version::parse("1.0.0").unwrap();
        assert!(lies_in(&version, "~1.0").is_err());
    }
}
