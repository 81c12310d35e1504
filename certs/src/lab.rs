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
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509CertificationRequest};
use zeroize::Zeroizing;

use crate::identity::{Identity, IdentityError};
use crate::request::uri;

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
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
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

/// Why an authority cannot be taken up again from its files.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The certificate is none, or not an authority's.
    #[error("the authority's certificate cannot be used")]
    Certificate,
    /// The key is none, or of another kind.
    #[error("the authority's key cannot be used")]
    Key,
    /// They were made for each other by nobody.
    #[error("the authority's key does not belong to its certificate")]
    Mismatch,
}

/// Why a request is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The request cannot be read.
    #[error("the request is no PKCS #10")]
    Malformed,
    /// Whoever made it does not have the key.
    #[error("the request is not signed with the key in it")]
    Unsigned,
    /// Another kind of key.
    #[error("the request has a key of a kind that is not signed here; make one with P-256")]
    Key,
    /// It could not be issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
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
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Takes an authority up again that was made before.
    ///
    /// # Errors
    /// When a text is not what it should be, or the two do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, ReadError> {
        let key = KeyPair::from_pem(key).map_err(|_| ReadError::Key)?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| ReadError::Certificate)?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| ReadError::Certificate)?;
        if !parsed.is_ca() {
            return Err(ReadError::Certificate);
        }
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(ReadError::Mismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|_| ReadError::Certificate)?;
        Ok(Self { pem: certificate.to_owned(), certificate: der, issuer })
    }

    /// An authority below this one.
    #[cfg(test)]
    pub(crate) fn below(&self, name: &str, lifetime: Lifetime) -> Self {
        let mut params = params(name, "Tidegate lab", lifetime);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        self.pem.clone()
    }

    /// The authority's certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// The authority's key, for a file of its own and nothing else.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// Signs the key of a request for a gateway; `name` is `PLANT/NAME`. Nothing else of the request
    /// is used: the subject, the URI `urn:tidegate:PLANT:NAME` and the purpose, clients of TLS, are
    /// written here.
    ///
    /// # Errors
    /// When it is no request, its sender does not have the key, or the key is not of P-256.
    pub fn sign(
        &self,
        request: &CertificateSigningRequestDer<'_>,
        name: &str,
        lifetime: Lifetime,
    ) -> Result<CertificateDer<'static>, SignError> {
        let (rest, parsed) =
            X509CertificationRequest::from_der(request).map_err(|_| SignError::Malformed)?;
        if !rest.is_empty() {
            return Err(SignError::Malformed);
        }
        parsed.verify_signature().map_err(|_| SignError::Unsigned)?;
        let key = SubjectPublicKeyInfo::from_der(parsed.certification_request_info.subject_pki.raw)
            .map_err(|_| SignError::Key)?;
        if rcgen::PublicKeyData::algorithm(&key) != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(SignError::Key);
        }
        let failed = |source| IssueError { subject: name.to_owned(), source };
        let mut params = params(name, ORGANISATION, lifetime);
        let uri = uri(name).as_str().try_into().map_err(failed)?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial().ok_or_else(|| failed(rcgen::Error::RingUnspecified))?);
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(certificate.der().clone())
    }

    /// A list of revoked certificates, PEM: serial numbers, and since when each is revoked. `number`
    /// grows from list to list.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn crl(
        &self,
        number: u64,
        revoked: &[(Vec<u8>, SystemTime)],
        lifetime: Lifetime,
    ) -> Result<String, IssueError> {
        let failed =
            |source| IssueError { subject: "list of revoked certificates".to_owned(), source };
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let revoked_certs = revoked
            .iter()
            .map(|(serial, from)| RevokedCertParams {
                serial_number: SerialNumber::from(serial.clone()),
                revocation_time: epoch + since(*from),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: epoch + since(lifetime.from),
            next_update: epoch + since(lifetime.from) + lifetime.lasts,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(failed)
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

/// A key may be signed twice, so its hash is no serial number.
fn serial() -> Option<SerialNumber> {
    let random = ring::rand::SystemRandom::new();
    let mut bytes: [u8; 16] = ring::rand::generate(&random).ok()?.expose();
    // Positive, and not shorter than the others.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Some(SerialNumber::from(bytes.to_vec()))
}

fn params(name: &str, organisation: &str, lifetime: Lifetime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    params.distinguished_name.push(DnType::CommonName, name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since(lifetime.from);
    params.not_after = epoch + since(lifetime.from) + lifetime.lasts;
    params
}

/// Since 1970.
fn since(at: SystemTime) -> Duration {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::CertificateFacts;
    use crate::request::CertificateRequest;

    fn lifetime() -> Lifetime {
        Lifetime::from(SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn an_authority_goes_on_after_its_files_were_read_again() {
        let ca = LabCa::new("lab", lifetime()).unwrap();
        let again = LabCa::from_pem(&ca.certificate_pem(), &ca.key_pem()).unwrap();
        assert_eq!(again.certificate(), ca.certificate());
        let issued = again.gateway("P/g", lifetime()).unwrap().identity().unwrap();
        let (_, issued) = X509Certificate::from_der(&issued.chain()[0]).unwrap();
        let ca_der = ca.certificate();
        let (_, root) = X509Certificate::from_der(&ca_der).unwrap();
        issued.verify_signature(Some(root.public_key())).unwrap();
        let other = LabCa::new("lab", lifetime()).unwrap();
        let mixed = LabCa::from_pem(&ca.certificate_pem(), &other.key_pem());
        assert!(matches!(mixed, Err(ReadError::Mismatch)));
        let leaf = ca.gateway("P/g", lifetime()).unwrap();
        let no_ca = LabCa::from_pem(&leaf.certificate_pem, &leaf.key_pem);
        assert!(matches!(no_ca, Err(ReadError::Certificate)));
        assert!(LabCa::from_pem("junk", &ca.key_pem()).is_err());
        assert!(LabCa::from_pem(&ca.certificate_pem(), "junk").is_err());
    }

    #[test]
    fn only_the_key_of_a_request_is_signed() {
        let ca = LabCa::new("lab", lifetime()).unwrap();
        let asks = CertificateRequest::new("P/other", &["hub.example.com".to_owned()]).unwrap();
        let signed = ca.sign(asks.der(), "P/g", lifetime()).unwrap();
        let facts = CertificateFacts::of(&signed).unwrap();
        assert_eq!(facts.subject, "CN=P/g,O=Tidegate");
        assert!(facts.names.is_empty() && facts.client_auth);
        let (_, parsed) = X509Certificate::from_der(&signed).unwrap();
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !parsed.is_ca());
        let names = parsed.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(format!("{:?}", names.general_names), "[URI(\"urn:tidegate:P:g\")]");
        let again = ca.sign(asks.der(), "P/g", lifetime()).unwrap();
        assert_ne!(CertificateFacts::of(&again).unwrap().serial, facts.serial);
    }

    #[test]
    fn a_request_without_its_key_or_with_another_kind_is_not_signed() {
        let ca = LabCa::new("lab", lifetime()).unwrap();
        let of = |der: &[u8]| ca.sign(&der.to_vec().into(), "P/g", lifetime());
        assert!(matches!(of(b"junk"), Err(SignError::Malformed)));
        let good = CertificateRequest::new("P/g", &[]).unwrap();
        let mut forged = good.der().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert!(matches!(of(&forged), Err(SignError::Unsigned)));
        assert!(matches!(of(&[good.der(), &b"x"[..]].concat()), Err(SignError::Malformed)));
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let other = CertificateParams::default().serialize_request(&key).unwrap();
        assert!(matches!(of(other.der()), Err(SignError::Key)));
    }
}
