//! A certificate with everything that is asked of it over OPC UA.
//!
//! # Invariants
//! - Reading never panics and never reads past what it is given.
//! - A certificate whose extensions contradict each other is none.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry as oid;
use x509_parser::prelude::{AlgorithmIdentifier, FromDer as _, X509Certificate, X509Error};
use x509_parser::public_key::PublicKey;
use x509_parser::signature_algorithm::RsaSsaPssParams;

use super::thumbprint::Thumbprint;
use crate::certificate::{CertificateFacts, address_of};

/// The longest name of a certificate in a message.
const MAX_NAME: usize = 80;

/// A parsed certificate that owns its bytes.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    pub(super) der: CertificateDer<'static>,
    pub(super) thumbprint: Thumbprint,
    pub(super) facts: CertificateFacts,
    pub(super) common_name: String,
    /// The names as their DER: compared byte by byte, as issuers copy them.
    pub(super) subject: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) serial: Vec<u8>,
    /// URIs of the subject alternative name, wherever in it they stand.
    pub(super) uris: Vec<String>,
    pub(super) hosts: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) key: Key,
    pub(super) signature: Strength,
    pub(super) usage: Option<Usage>,
    /// Whether the extended key usage, where there is one, lets it be a server's.
    pub(super) serves: bool,
    pub(super) authority: Option<Authority>,
    /// A critical extension that nothing here understands.
    pub(super) obscure: Option<String>,
}

/// A public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// With so many bits.
    Rsa(usize),
    /// Of another kind, which OPC UA's policies cannot use; an authority may have one.
    Other,
}

/// What a signature is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Strength {
    Strong,
    /// Its hash can be forged.
    Weak(&'static str),
    /// Nothing here knows it.
    Unknown(String),
}

/// What the key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) signs: bool,
    pub(super) encrypts: bool,
    pub(super) signs_certificates: bool,
}

/// It may sign certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Authority {
    /// How many further authorities may stand between it and a server.
    pub(super) path_length: Option<u32>,
}

impl Certificate {
    /// Reads one certificate, and returns what follows it.
    pub(super) fn split(bytes: &[u8]) -> Result<(Self, &[u8]), X509Error> {
        let (rest, parsed) = X509Certificate::from_der(bytes).map_err(|error| match error {
            x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => error,
            x509_parser::nom::Err::Incomplete(_) => X509Error::InvalidCertificate,
        })?;
        Ok((Self::of(&parsed)?, rest))
    }

    /// Reads exactly one certificate.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, X509Error> {
        match Self::split(bytes)? {
            (certificate, []) => Ok(certificate),
            _ => Err(X509Error::InvalidCertificate),
        }
    }

    fn of(parsed: &X509Certificate<'_>) -> Result<Self, X509Error> {
        let mut uris = Vec::new();
        let mut hosts = Vec::new();
        let mut addresses = Vec::new();
        for name in parsed
            .subject_alternative_name()?
            .map(|extension| extension.value.general_names.as_slice())
            .unwrap_or_default()
        {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(host) => hosts.push((*host).to_owned()),
                GeneralName::IPAddress(bytes) => addresses.extend(address_of(bytes)),
                _ => {}
            }
        }
        let usage = parsed.key_usage()?.map(|extension| Usage {
            signs: extension.value.digital_signature(),
            encrypts: extension.value.key_encipherment() || extension.value.data_encipherment(),
            signs_certificates: extension.value.key_cert_sign(),
        });
        let serves = parsed
            .extended_key_usage()?
            .is_none_or(|extension| extension.value.server_auth || extension.value.any);
        let authority = parsed
            .basic_constraints()?
            .filter(|extension| extension.value.ca)
            .map(|extension| Authority { path_length: extension.value.path_len_constraint });
        let der = CertificateDer::from(parsed.as_raw().to_vec());
        let common_name = parsed
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .unwrap_or_default()
            .to_owned();
        Ok(Self {
            thumbprint: Thumbprint::of(&der),
            facts: CertificateFacts::of_parsed(parsed),
            common_name,
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            serial: parsed.raw_serial().to_vec(),
            uris,
            hosts,
            addresses,
            key: key_of(parsed),
            signature: strength_of(&parsed.signature_algorithm),
            usage,
            serves,
            authority,
            obscure: obscure(parsed),
            der,
        })
    }

    /// Whether `issuer`'s key made this certificate's signature.
    pub(super) fn is_signed_by(&self, issuer: &Certificate) -> bool {
        let (Ok((_, own)), Ok((_, issuer))) =
            (X509Certificate::from_der(&self.der), X509Certificate::from_der(&issuer.der))
        else {
            return false;
        };
        own.verify_signature(Some(issuer.public_key())).is_ok()
    }

    /// What messages call it: `certificate 12ab34cd56ef7890 of "CN=press,O=Maker"`.
    pub(super) fn name(&self) -> String {
        format!("certificate {} of \"{}\"", self.thumbprint.short(), tame(&self.facts.subject))
    }
}

/// A name out of a certificate, as a message may hold it: short, and nothing in it steers a
/// terminal or reads as something else.
pub(super) fn tame(text: &str) -> String {
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == MAX_NAME {
            out.push('…');
            break;
        }
        if c.is_control()
            || c == '"'
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn key_of(parsed: &X509Certificate<'_>) -> Key {
    match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => {
            let mut modulus = key.modulus;
            while let [0, rest @ ..] = modulus {
                modulus = rest;
            }
            let unused = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
            Key::Rsa(modulus.len().saturating_mul(8).saturating_sub(unused))
        }
        _ => Key::Other,
    }
}

pub(super) fn strength_of(algorithm: &AlgorithmIdentifier<'_>) -> Strength {
    let known = [
        (oid::OID_PKCS1_SHA256WITHRSA, Strength::Strong),
        (oid::OID_PKCS1_SHA384WITHRSA, Strength::Strong),
        (oid::OID_PKCS1_SHA512WITHRSA, Strength::Strong),
        (oid::OID_SIG_ECDSA_WITH_SHA256, Strength::Strong),
        (oid::OID_SIG_ECDSA_WITH_SHA384, Strength::Strong),
        (oid::OID_SIG_ED25519, Strength::Strong),
        (oid::OID_PKCS1_SHA1WITHRSA, Strength::Weak("SHA-1")),
        (oid::OID_SHA1_WITH_RSA, Strength::Weak("SHA-1")),
        (oid::OID_PKCS1_MD5WITHRSAENC, Strength::Weak("MD5")),
        (oid::OID_PKCS1_MD4WITHRSAENC, Strength::Weak("MD4")),
        (oid::OID_PKCS1_MD2WITHRSAENC, Strength::Weak("MD2")),
    ];
    let found = &algorithm.algorithm;
    if *found == oid::OID_PKCS1_RSASSAPSS {
        let hash = algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| RsaSsaPssParams::try_from(parameters).ok())
            .map(|parameters| parameters.hash_algorithm_oid().to_id_string());
        let strong =
            [oid::OID_NIST_HASH_SHA256, oid::OID_NIST_HASH_SHA384, oid::OID_NIST_HASH_SHA512];
        // RFC 4055, 3.1: SHA-1 where nothing is written.
        return match hash {
            Some(hash) if strong.iter().any(|oid| oid.to_id_string() == hash) => Strength::Strong,
            _ => Strength::Weak("SHA-1"),
        };
    }
    known
        .into_iter()
        .find(|(oid, _)| oid == found)
        .map_or_else(|| Strength::Unknown(tame(&found.to_id_string())), |(_, strength)| strength)
}

/// RFC 5280, 4.2: whoever does not understand a critical extension must not use the certificate.
fn obscure(parsed: &X509Certificate<'_>) -> Option<String> {
    parsed
        .extensions()
        .iter()
        .filter(|extension| extension.critical)
        .find(|extension| {
            !matches!(
                extension.parsed_extension(),
                ParsedExtension::BasicConstraints(_)
                    | ParsedExtension::KeyUsage(_)
                    | ParsedExtension::ExtendedKeyUsage(_)
                    | ParsedExtension::SubjectAlternativeName(_)
                    | ParsedExtension::AuthorityKeyIdentifier(_)
                    | ParsedExtension::SubjectKeyIdentifier(_)
            )
        })
        .map(|extension| tame(&extension.oid.to_id_string()))
}
