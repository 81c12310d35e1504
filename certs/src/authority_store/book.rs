//! What was issued and what was revoked.
//!
//! # Invariants
//! - A line is appended whole and synced. What a power cut left of one is no line, and the next one
//!   begins behind it.
//! - Serial numbers are written in lower case, without leading zeros.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::certificate::CertificateFacts;
use crate::lab::gateway_subject;
use crate::opcua::Thumbprint;

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holder {
    /// A server of the hub, or of the authority itself.
    Server,
    /// Somebody who works at the hub.
    Person,
    /// A gateway.
    Gateway,
}

/// How a certificate was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Together with its key, which was made by the authority.
    WithKey,
    /// By a token.
    Token,
    /// By the certificate before it.
    Renewal,
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Its subject, as RFC 2253 writes it.
    pub subject: String,
    /// Whom it is for.
    pub holder: Holder,
    /// How it was obtained.
    pub how: How,
    /// When it was issued, in seconds since 1970.
    pub at: u64,
    /// When it ends, in seconds since 1970.
    pub until: u64,
    /// The SHA-256 of the certificate, hexadecimal: how a server names the certificate of a
    /// connection. Empty in lines that were written without it.
    #[serde(default)]
    pub sha256: String,
}

impl Entry {
    pub(super) fn of(
        certificate: &CertificateDer<'_>,
        facts: &CertificateFacts,
        holder: Holder,
        how: How,
        now: SystemTime,
    ) -> Self {
        Self {
            sha256: Thumbprint::of(certificate).to_string(),
            serial: bare(&facts.serial).to_owned(),
            subject: facts.subject.clone(),
            holder,
            how,
            at: seconds(now),
            until: seconds(facts.not_after),
        }
    }

    /// Which gateway it is for, `PLANT/NAME`; `None` for anybody else.
    #[must_use]
    pub fn gateway(&self) -> Option<&str> {
        let name = self.subject.strip_prefix("CN=")?.split(',').next()?;
        (self.holder == Holder::Gateway && gateway_subject(name) == self.subject).then_some(name)
    }

    /// Whether its time is over.
    #[must_use]
    pub fn ended(&self, now: SystemTime) -> bool {
        self.until < seconds(now)
    }
}

/// A serial number without leading zeros.
pub(super) fn bare(serial: &str) -> &str {
    serial.trim_start_matches('0')
}

pub(super) fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The lines that are whole.
pub(super) fn entries(text: &[u8]) -> Vec<Entry> {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Appends a line and syncs it.
pub(super) fn append(path: &Path, entry: &Entry) -> io::Result<()> {
    let is_new = !path.exists();
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    if file.metadata()?.len() > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            line.insert(0, b'\n');
        }
    }
    file.write_all(&line)?;
    file.sync_all()?;
    if is_new && let Some(above) = path.parent() {
        crate::disk::sync(above)?;
    }
    Ok(())
}

/// What was revoked, and when the last list of it was made.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Revoked {
    /// The last list's.
    number: u64,
    /// When it was made, in seconds since 1970.
    at: u64,
    /// Serial number → since when, in seconds since 1970.
    revoked: BTreeMap<String, u64>,
}

impl Revoked {
    pub(super) fn holds(&self, serial: &str) -> bool {
        self.revoked.contains_key(serial)
    }

    /// Whether it was not in it yet.
    pub(super) fn add(&mut self, serial: &str, now: SystemTime) -> bool {
        let is_new = !self.holds(serial) && digits(serial).is_some();
        if is_new {
            self.revoked.insert(serial.to_owned(), seconds(now));
        }
        is_new
    }

    /// The number of the next list, which is made now.
    pub(super) fn next(&mut self, now: SystemTime) -> u64 {
        self.number = self.number.saturating_add(1);
        self.at = seconds(now);
        self.number
    }

    /// A list from the future is not: the clock was wrong then, or is now.
    pub(super) fn is_recent(&self, now: SystemTime, within: Duration) -> bool {
        seconds(now).checked_sub(self.at).is_some_and(|age| age < within.as_secs())
    }

    pub(super) fn serials(&self) -> Vec<(Vec<u8>, SystemTime)> {
        let since = |at: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(at);
        let all = self.revoked.iter();
        all.filter_map(|(serial, at)| Some((digits(serial)?, since(*at)))).collect()
    }

    /// The serial numbers, hexadecimal.
    pub(super) fn names(&self) -> Vec<String> {
        self.revoked.keys().cloned().collect()
    }

    pub(super) fn counts(&self) -> (u64, usize) {
        (self.number, self.revoked.len())
    }
}

/// The bytes of a serial number.
fn digits(serial: &str) -> Option<Vec<u8>> {
    let whole =
        if serial.len().is_multiple_of(2) { serial.to_owned() } else { format!("0{serial}") };
    // RFC 5280, 4.1.2.2: 20 bytes at most.
    if whole.is_empty() || whole.len() > 40 {
        return None;
    }
    let pairs = whole.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(serial: &str) -> Entry {
        Entry {
            serial: serial.to_owned(),
            subject: "CN=P/g,O=Tidegate".to_owned(),
            holder: Holder::Gateway,
            how: How::Token,
            at: 1,
            until: 100,
            sha256: String::new(),
        }
    }

    #[test]
    fn a_torn_line_costs_nothing_but_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("issued.jsonl");
        append(&path, &entry("1")).unwrap();
        append(&path, &entry("2")).unwrap();
        let mut text = std::fs::read(&path).unwrap();
        text.truncate(text.len() - 9);
        std::fs::write(&path, &text).unwrap();
        append(&path, &entry("3")).unwrap();
        let serials: Vec<_> =
            entries(&std::fs::read(&path).unwrap()).into_iter().map(|one| one.serial).collect();
        assert_eq!(serials, ["1", "3"]);
    }

    #[test]
    fn only_a_gateways_certificate_names_a_gateway() {
        assert_eq!(entry("1").gateway(), Some("P/g"));
        let other = |subject: &str| Entry { subject: subject.to_owned(), ..entry("1") };
        assert_eq!(other("CN=P/g,O=Tidegate readers").gateway(), None);
        assert_eq!(other("O=Tidegate").gateway(), None);
        assert_eq!(Entry { holder: Holder::Person, ..entry("1") }.gateway(), None);
        assert!(entry("1").ended(SystemTime::now()));
    }

    #[test]
    fn serial_numbers_of_any_length_become_bytes() {
        assert_eq!(digits("abc"), Some(vec![0x0a, 0xbc]));
        assert_eq!(digits("0102"), Some(vec![1, 2]));
        for none in ["", "xy", "é1", &"1".repeat(41)] {
            assert_eq!(digits(none), None, "{none}");
        }
    }
}
