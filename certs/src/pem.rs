//! PEM, as it is written. Reading is `rustls-pki-types`' part.

use rsa::pkcs8::LineEnding;
use rsa::pkcs8::der::pem::encode_string;
use rustls_pki_types::CertificateDer;

pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
pub(crate) const REQUEST: &str = "CERTIFICATE REQUEST";

/// One block.
pub(crate) fn pem_of(label: &str, der: &[u8]) -> String {
    // Only a label that is none could fail, and those are above.
    encode_string(label, LineEnding::LF, der).unwrap_or_default()
}

/// Certificates as PEM, one block each.
#[must_use]
pub fn pem_of_all(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|certificate| pem_of(CERTIFICATE, certificate)).collect()
}
