//! A request for a certificate: a new key, and the gateway's names signed with it.
//!
//! # Invariants
//! - The key is made here, on the device, and leaves only into a generation's folder.
//! - What comes back is taken only when it belongs to this key, bears this subject, and is good for
//!   a TLS client ([`CertificateRequest::accept`]).

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use zeroize::Zeroizing;

use crate::authority::Enrolled;
use crate::certificate::{CertificateError, CertificateFacts};
use crate::identity::{Identity, IdentityError};
use crate::lab::{ORGANISATION, gateway_subject};

/// A key without a certificate, and the request for one.
pub struct CertificateRequest {
    key_pem: Zeroizing<String>,
    der: CertificateSigningRequestDer<'static>,
    gateway: String,
    subject: String,
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
#[error("no certificate can be requested for {gateway:?}")]
pub struct RequestError {
    gateway: String,
    #[source]
    source: rcgen::Error,
}

/// Why what was signed is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotAccepted {
    /// It is no certificate.
    #[error("what was signed cannot be read")]
    Unreadable(#[source] CertificateError),
    /// It bears another name: the hub would take this gateway for another, or for nobody.
    #[error("the certificate is {got}'s, and {asked} was asked for")]
    Name {
        /// What it says.
        got: String,
        /// What was asked for.
        asked: String,
    },
    /// It is not good for a TLS client.
    #[error("the certificate may not be used by a TLS client; have the authority allow clientAuth")]
    Usage,
    /// It belongs to another key, or the key is of no use.
    #[error("the certificate does not belong to the key that was made for it")]
    Key(#[source] IdentityError),
}

impl CertificateRequest {
    /// Makes a P-256 key and signs a request for `gateway`, which is `PLANT/NAME`. The subject is
    /// `CN=PLANT/NAME,O=Tidegate`; the URI `urn:tidegate:PLANT:NAME` and `hosts` are asked for as
    /// alternative names.
    ///
    /// # Errors
    /// When there is no randomness, or a name cannot stand in a certificate.
    pub fn new(gateway: &str, hosts: &[String]) -> Result<Self, RequestError> {
        let failed = |source| RequestError { gateway: gateway.to_owned(), source };
        let key = KeyPair::generate().map_err(failed)?;
        Self::of(key, gateway, hosts)
    }

    /// The request for a key that was made before.
    ///
    /// # Errors
    /// When the text is no private key, or a name cannot stand in a certificate.
    pub fn from_key(key_pem: &str, gateway: &str, hosts: &[String]) -> Result<Self, RequestError> {
        let failed = |source| RequestError { gateway: gateway.to_owned(), source };
        let key = KeyPair::from_pem(key_pem).map_err(failed)?;
        Self::of(key, gateway, hosts)
    }

    fn of(key: KeyPair, gateway: &str, hosts: &[String]) -> Result<Self, RequestError> {
        let failed = |source| RequestError { gateway: gateway.to_owned(), source };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, ORGANISATION);
        params.distinguished_name.push(DnType::CommonName, gateway);
        let uri = uri(gateway).as_str().try_into().map_err(failed)?;
        params.subject_alt_names.push(SanType::URI(uri));
        for host in hosts {
            params.subject_alt_names.push(match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.as_str().try_into().map_err(failed)?),
            });
        }
        let der = params.serialize_request(&key).map_err(failed)?.der().clone();
        let key_pem = Zeroizing::new(key.serialize_pem());
        Ok(Self { key_pem, der, gateway: gateway.to_owned(), subject: gateway_subject(gateway) })
    }

    /// The request, PKCS #10.
    #[must_use]
    pub fn der(&self) -> &CertificateSigningRequestDer<'static> {
        &self.der
    }

    /// Whose it is: `PLANT/NAME`.
    #[must_use]
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// The subject that is asked for, as RFC 2253 writes it.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The key, for a generation's folder and nothing else.
    #[must_use]
    pub fn key_pem(&self) -> &Zeroizing<String> {
        &self.key_pem
    }

    /// Puts what was signed together with the key.
    ///
    /// # Errors
    /// When it belongs to another key, bears another name, or is not for a TLS client.
    pub fn accept(&self, signed: &Enrolled) -> Result<Identity, NotAccepted> {
        let facts = CertificateFacts::of(&signed.certificate).map_err(NotAccepted::Unreadable)?;
        if facts.subject != self.subject {
            return Err(NotAccepted::Name { got: facts.subject, asked: self.subject.clone() });
        }
        if !facts.client_auth {
            return Err(NotAccepted::Usage);
        }
        let key = crate::key::PrivateKey::from_pem(self.key_pem.as_bytes())
            .map_err(|error| NotAccepted::Key(IdentityError::Key(error)))?;
        let own = std::iter::once(&signed.certificate);
        let chain: Vec<CertificateDer<'static>> = own.chain(&signed.chain).cloned().collect();
        Identity::new(key, chain).map_err(NotAccepted::Key)
    }
}

/// The gateway's name as a URI: `urn:tidegate:PLANT:NAME`.
#[must_use]
pub fn uri(gateway: &str) -> String {
    format!("urn:tidegate:{}", gateway.replace('/', ":"))
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateRequest").field("subject", &self.subject).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

    use super::*;
    use crate::lab::{LabCa, Lifetime};

    fn request() -> CertificateRequest {
        CertificateRequest::new("P/g", &["gw.example.com".to_owned()]).unwrap()
    }

    #[test]
    fn a_request_carries_subject_uri_and_hosts_and_never_shows_its_key() {
        let request = request();
        let (_, read) = X509CertificationRequest::from_der(request.der()).unwrap();
        read.verify_signature().unwrap();
        assert_eq!(
            crate::certificate::rfc2253(&read.certification_request_info.subject),
            "CN=P/g,O=Tidegate"
        );
        let text = format!("{:?}", read.requested_extensions().unwrap().collect::<Vec<_>>());
        assert!(text.contains("urn:tidegate:P:g") && text.contains("gw.example.com"), "{text}");
        assert_eq!(
            format!("{request:?}"),
            "CertificateRequest { subject: \"CN=P/g,O=Tidegate\", .. }"
        );
    }

    #[test]
    fn only_a_certificate_of_this_key_and_name_is_taken() {
        let ca = LabCa::new("lab", Lifetime::from(SystemTime::UNIX_EPOCH)).unwrap();
        let of = |name: &str| {
            let issued = ca.gateway(name, Lifetime::from(SystemTime::UNIX_EPOCH)).unwrap();
            let certificate = issued.identity().unwrap().chain()[0].clone();
            Enrolled { certificate, chain: Vec::new() }
        };
        assert!(matches!(request().accept(&of("P/other")), Err(NotAccepted::Name { .. })));
        assert!(matches!(request().accept(&of("P/g")), Err(NotAccepted::Key(_))));
        let junk = Enrolled { certificate: b"junk".to_vec().into(), chain: Vec::new() };
        assert!(matches!(request().accept(&junk), Err(NotAccepted::Unreadable(_))));
    }
}
