//! What a certificate says about itself.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

/// The facts of a certificate that people and hubs ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The subject as RFC 2253 writes it, most specific part first: the user name that a hub
    /// with `verify_and_map` gives to whoever holds it.
    pub subject: String,
    /// The issuer, written alike.
    pub issuer: String,
    /// Host names and addresses in the subject alternative name.
    pub names: Vec<String>,
    /// The serial number, hexadecimal.
    pub serial: String,
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
    /// Whether a TLS client may use it: no list of usages, or one with clientAuth in it.
    pub client_auth: bool,
}

/// What the time says about a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It is valid and ends in this time.
    Valid {
        /// Until it ends.
        left: Duration,
    },
    /// It begins in this time; or the clock is wrong.
    NotYet {
        /// Until it begins.
        begins_in: Duration,
    },
    /// It ended this long ago; or the clock is wrong.
    Expired {
        /// Since it ended.
        since: Duration,
    },
}

/// Why bytes are no certificate.
#[derive(Debug, thiserror::Error)]
#[error("not an X.509 certificate")]
pub struct CertificateError {
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl CertificateFacts {
    /// Reads a certificate.
    ///
    /// # Errors
    /// When the bytes are not one X.509 certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|error| CertificateError { source: Box::new(error) })?;
        Ok(Self::of_parsed(&parsed))
    }

    pub(crate) fn of_parsed(parsed: &X509Certificate<'_>) -> Self {
        let names = parsed
            .subject_alternative_name()
            .ok()
            .flatten()
            .map(|extension| extension.value.general_names.iter().filter_map(name_of).collect())
            .unwrap_or_default();
        Self {
            subject: rfc2253(parsed.subject()),
            issuer: rfc2253(parsed.issuer()),
            names,
            serial: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: instant(parsed.validity().not_before.timestamp()),
            not_after: instant(parsed.validity().not_after.timestamp()),
            client_auth: match parsed.extended_key_usage() {
                Ok(None) => true,
                Ok(Some(usage)) => usage.value.any || usage.value.client_auth,
                Err(_) => false,
            },
        }
    }

    /// Whether it is valid at `now`. Both ends belong to the validity (RFC 5280, 4.1.2.5).
    #[must_use]
    pub fn validity(&self, now: SystemTime) -> Validity {
        if let Ok(begins_in) = self.not_before.duration_since(now)
            && begins_in > Duration::ZERO
        {
            return Validity::NotYet { begins_in };
        }
        match self.not_after.duration_since(now) {
            Ok(left) => Validity::Valid { left },
            Err(past) => Validity::Expired { since: past.duration() },
        }
    }
}

fn name_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address_of(bytes).map(|address| address.to_string()),
        _ => None,
    }
}

/// The address in the four or sixteen bytes of an alternative name.
pub(crate) fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => Some(v4.into()),
        Err(_) => <[u8; 16]>::try_from(bytes).ok().map(Into::into),
    }
}

/// Certificates hold any year up to 9999; a time that the system cannot hold is cut to its ends.
pub(crate) fn instant(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    if seconds < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) }
        .unwrap_or(epoch)
}

/// A distinguished name as RFC 2253 writes it: last part first, parts of one level joined by `+`.
pub(crate) fn rfc2253(name: &X509Name<'_>) -> String {
    let mut levels: Vec<String> = name
        .iter_rdn()
        .map(|level| {
            let parts: Vec<String> = level
                .iter()
                .map(|part| {
                    let oid = part.attr_type().to_id_string();
                    let kind = short_name(&oid).unwrap_or(&oid);
                    match part.as_str() {
                        Ok(text) => format!("{kind}={}", escape(text)),
                        Err(_) => {
                            let hex: String =
                                part.as_slice().iter().map(|byte| format!("{byte:02x}")).collect();
                            format!("{kind}=#{hex}")
                        }
                    }
                })
                .collect();
            parts.join("+")
        })
        .collect();
    levels.reverse();
    levels.join(",")
}

/// RFC 2253, section 2.3: attribute types with a name of their own.
fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        _ => return None,
    })
}

/// RFC 2253, section 2.4.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        let special = matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
        let edge = (at == 0 && matches!(c, ' ' | '#')) || (at == last && c == ' ');
        if special || edge {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{LabCa, Lifetime};

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_subject_is_the_users_name_at_the_hub() {
        let ca = LabCa::new("lab", Lifetime::from(at(0)).lasting(DAY)).unwrap();
        let issued = ca.gateway("PlantA/gw-line3", Lifetime::from(at(0)).lasting(DAY)).unwrap();
        let facts = issued.identity().unwrap().facts().clone();
        assert_eq!(facts.subject, "CN=PlantA/gw-line3,O=Tidegate");
        assert_eq!(facts.issuer, "CN=lab,O=Tidegate lab");
        assert!(!facts.serial.is_empty());
    }

    #[test]
    fn characters_with_a_meaning_are_escaped() {
        assert_eq!(escape("a,b+c\"d\\e<f>g;h"), "a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h");
        assert_eq!(escape(" #a "), "\\ #a\\ ");
        assert_eq!(escape("#"), "\\#");
        assert_eq!(escape("#a b"), "\\#a b");
    }

    #[test]
    fn validity_counts_both_ends() {
        let ca = LabCa::new("lab", Lifetime::from(at(1_000)).lasting(DAY)).unwrap();
        let facts = CertificateFacts::of(&ca.certificate()).unwrap();
        let end = 1_000 + DAY.as_secs();
        let second = Duration::from_secs(1);
        assert_eq!(facts.validity(at(999)), Validity::NotYet { begins_in: second });
        assert_eq!(facts.validity(at(1_000)), Validity::Valid { left: DAY });
        assert_eq!(facts.validity(at(end)), Validity::Valid { left: Duration::ZERO });
        assert_eq!(facts.validity(at(end + 1)), Validity::Expired { since: second });
    }

    #[test]
    fn junk_is_no_certificate() {
        assert!(CertificateFacts::of(&CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])).is_err());
        assert!(CertificateFacts::of(&CertificateDer::from(Vec::new())).is_err());
    }

    #[test]
    fn host_names_and_addresses_are_listed() {
        let ca = LabCa::new("lab", Lifetime::from(at(0)).lasting(DAY)).unwrap();
        let hosts = ["hub.example.com", "127.0.0.1", "::1"];
        let hub = ca.hub("hub-1", &hosts, Lifetime::from(at(0)).lasting(DAY)).unwrap();
        assert_eq!(hub.identity().unwrap().facts().names, hosts);
    }
}
