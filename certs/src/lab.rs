//! A throw-away certification authority: demo, rig, and a first hub on a bench.
//!
//! # Invariants
//! - P-256 throughout, as the product uses in the field.
//! - A gateway's subject is `CN=PLANT/NAME,O=Tidegate`, so that the hub's user name for it can be
//!   written down before the certificate exists.
//! - Its keys leave only as PEM in an [`Issued`], whose text is wiped on drop.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::identity::{Identity, IdentityError};

/// The organisation in the subject of every gateway.
pub const ORGANISATION: &str = "Tidegate";

/// The organisation in the subject of people and programs at the hub: never a gateway's.
const READER_ORGANISATION: &str = "Tidegate readers";

/// The user name that a hub with `verify_and_map` gives to a gateway, by RFC 2253.
#[must_use]
pub fn gateway_subject(name: &str) -> String {
    format!("CN={name},O={ORGANISATION}")
}

/// The user name that a hub with `verify_and_map` gives to a reader, by RFC 2253.
#[must_use]
pub fn reader_subject(name: &str) -> String {
    format!("CN={name},O={READER_ORGANISATION}")
}

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    from: SystemTime,
    lasts: Duration,
}

impl Lifetime {
    /// A day from `start` on.
    #[must_use]
    pub fn from(start: SystemTime) -> Self {
        Self { from: start, lasts: Duration::from_secs(86_400) }
    }

    /// The same start with another length.
    #[must_use]
    pub fn lasting(self, lasts: Duration) -> Self {
        Self { lasts, ..self }
    }
}

/// The authority.
pub struct LabCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its key, PKCS #8.
    pub key_pem: Zeroizing<String>,
}

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
#[error("cannot issue a certificate for {subject:?}")]
pub struct IssueError {
    subject: String,
    #[source]
    source: rcgen::Error,
}

impl LabCa {
    /// Makes an authority with a key of its own.
    ///
    /// # Errors
    /// When there is no randomness for a key, or the name cannot stand in a certificate.
    pub fn new(name: &str, lifetime: Lifetime) -> Result<Self, IssueError> {
        let failed = |source| IssueError { subject: name.to_owned(), source };
        let mut params = params(name, "Tidegate lab", lifetime);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(failed)?;
        Ok(Self { issuer })
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// The authority's certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// A hub's certificate: for its own leaf and client listeners and its cluster routes.
    /// `hosts` are the names and addresses that gateways dial.
    ///
    /// # Errors
    /// When a host is neither a name nor an address, or there is no randomness.
    pub fn hub(
        &self,
        name: &str,
        hosts: &[impl AsRef<str>],
        lifetime: Lifetime,
    ) -> Result<Issued, IssueError> {
        let mut params = params(name, "Tidegate hub", lifetime);
        for host in hosts {
            let host = host.as_ref();
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(
                    host.try_into()
                        .map_err(|source| IssueError { subject: name.to_owned(), source })?,
                ),
            });
        }
        self.issue(
            name,
            params,
            &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        )
    }

    /// A gateway's certificate; `name` is `PLANT/NAME`. It has no alternative names: a hub with
    /// `verify_and_map` would try those as user names before the subject.
    ///
    /// # Errors
    /// When there is no randomness, or the name cannot stand in a certificate.
    pub fn gateway(&self, name: &str, lifetime: Lifetime) -> Result<Issued, IssueError> {
        let params = params(name, ORGANISATION, lifetime);
        self.issue(name, params, &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// The certificate of somebody who reads at the hub.
    ///
    /// # Errors
    /// When there is no randomness, or the name cannot stand in a certificate.
    pub fn reader(&self, name: &str, lifetime: Lifetime) -> Result<Issued, IssueError> {
        let params = params(name, READER_ORGANISATION, lifetime);
        self.issue(name, params, &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn issue(
        &self,
        name: &str,
        mut params: CertificateParams,
        usages: &[ExtendedKeyUsagePurpose],
    ) -> Result<Issued, IssueError> {
        let failed = |source| IssueError { subject: name.to_owned(), source };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }
}

fn params(name: &str, organisation: &str, lifetime: Lifetime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    params.distinguished_name.push(DnType::CommonName, name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let start = lifetime.from.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    params.not_before = epoch + start;
    params.not_after = epoch + start + lifetime.lasts;
    params
}

impl Issued {
    /// The certificate with its key.
    ///
    /// # Errors
    /// Never for what this module issued.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        Identity::from_pem(self.key_pem.as_bytes(), self.certificate_pem.as_bytes())
    }
}

impl fmt::Debug for LabCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LabCa(..)")
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}
