//! What a person sees of a certificate that a server showed.

use x509_parser::objects::{oid_registry, oid2sn};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::certificate::{Certificate, Key, Strength};
use super::thumbprint::Thumbprint;
use crate::certificate::CertificateFacts;

/// The most certificates of a chain that are counted.
const MAX_CHAIN: usize = 10;

/// A server's certificate, described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The SHA-256 that people compare.
    pub thumbprint: Thumbprint,
    /// Subject, issuer, names and dates.
    pub facts: CertificateFacts,
    /// The URIs that it names.
    pub uris: Vec<String>,
    /// Kind and length of its key, such as `RSA 2048`.
    pub key: String,
    /// The algorithm of its signature, such as `sha256WithRSAEncryption`, and a word where it can
    /// be forged.
    pub signature: String,
    /// How many certificates of authorities came with it.
    pub authorities: usize,
}

/// Why it cannot be described.
#[derive(Debug, thiserror::Error)]
#[error("what the server shows is no certificate")]
pub struct NotACertificate;

impl Described {
    /// Describes the first certificate of a chain: DER, one behind the other.
    ///
    /// # Errors
    /// When the first is none.
    pub fn of(chain: &[u8]) -> Result<Self, NotACertificate> {
        let (leaf, mut rest) = Certificate::split(chain).map_err(|_| NotACertificate)?;
        let mut authorities = 0;
        while authorities < MAX_CHAIN
            && let Ok((_, after)) = Certificate::split(rest)
        {
            (authorities, rest) = (authorities + 1, after);
        }
        Ok(Self {
            thumbprint: leaf.thumbprint,
            uris: leaf.uris.clone(),
            key: match leaf.key {
                Key::Rsa(bits) => format!("RSA {bits}"),
                Key::Other => "not RSA".to_owned(),
            },
            signature: signature(&leaf),
            facts: leaf.facts,
            authorities,
        })
    }
}

fn signature(leaf: &Certificate) -> String {
    let name = X509Certificate::from_der(&leaf.der).map(|(_, parsed)| {
        let oid = &parsed.signature_algorithm.algorithm;
        oid2sn(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), str::to_owned)
    });
    let name = name.unwrap_or_default();
    match leaf.signature {
        Strength::Weak(_) => format!("{name} (weak)"),
        Strength::Strong | Strength::Unknown(_) => name,
    }
}
