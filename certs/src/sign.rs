//! Signatures with an identity's key over messages that are not TLS: the record's checkpoints.
//!
//! # Invariants
//! - A signature names its scheme by TLS's number, so that whoever verifies needs no table of ours.
//! - Nothing weaker than SHA-256 is made or taken, and a scheme that does not fit the certificate's
//!   key verifies nothing.
//! - Whose certificate it is, and whether it is still good, is another question than whether it
//!   verifies: that is for whoever asks.

use rustls::SignatureScheme;
use rustls::crypto::ring::default_provider;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::identity::Identity;
use crate::key::{KeyError, PrivateKey};

/// In this order; of each kind of key one that every TLS stack knows.
const MADE: [SignatureScheme; 4] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
];

/// The longest signature that is looked at: RSA with 8192 bits.
const MAX_SIGNATURE: usize = 1024;

/// A signature over a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The scheme, as TLS numbers them (RFC 8446, 4.2.3).
    pub scheme: u16,
    /// The signature, as the scheme writes it.
    pub bytes: Vec<u8>,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// TLS cannot use the key.
    #[error("the private key cannot be used")]
    Key(#[source] KeyError),
    /// The key is of a kind that signs with none of the schemes that are made here.
    #[error("the private key is of a kind that signs nothing here; use P-256, Ed25519 or RSA")]
    Kind,
    /// The signing itself failed.
    #[error("the private key did not sign")]
    Failed(#[source] rustls::Error),
}

/// Why a signature is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// What should be the signer's certificate is none.
    #[error("the signer's certificate cannot be read")]
    Certificate,
    /// The scheme is unknown or too weak.
    #[error("signature scheme {scheme:#06x} is not taken here")]
    Scheme {
        /// Its number.
        scheme: u16,
    },
    /// The scheme is not one of the certificate's kind of key.
    #[error("signature scheme {scheme:#06x} does not fit the key of the certificate")]
    OtherKey {
        /// Its number.
        scheme: u16,
    },
    /// The message is not what was signed, or another key signed it.
    #[error("the signature does not belong to the message and the certificate")]
    Mismatch,
}

impl PrivateKey {
    /// Signs a message.
    ///
    /// # Errors
    /// When the key cannot be used, or there is no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        let key = self.signer().map_err(SignError::Key)?;
        let signer =
            MADE.iter().find_map(|scheme| key.choose_scheme(&[*scheme])).ok_or(SignError::Kind)?;
        let bytes = signer.sign(message).map_err(SignError::Failed)?;
        Ok(Signature { scheme: signer.scheme().into(), bytes })
    }
}

impl Identity {
    /// Signs a message with the identity's key.
    ///
    /// # Errors
    /// When the key cannot be used, or there is no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        self.key().sign(message)
    }
}

/// Whether the holder of `certificate`'s key signed `message`. Says nothing about the certificate.
///
/// # Errors
/// With the reason why not.
pub fn verify(
    certificate: &CertificateDer<'_>,
    message: &[u8],
    signature: &Signature,
) -> Result<(), VerifyError> {
    let scheme = signature.scheme;
    let certificate = EndEntityCert::try_from(certificate).map_err(|_| VerifyError::Certificate)?;
    let known = default_provider().signature_verification_algorithms;
    // The first of each is TLS 1.3's, where the scheme says the curve, too.
    let algorithm = known
        .mapping
        .iter()
        .find(|(known, _)| u16::from(*known) == scheme)
        .and_then(|(_, algorithms)| algorithms.first())
        .ok_or(VerifyError::Scheme { scheme })?;
    if signature.bytes.len() > MAX_SIGNATURE {
        return Err(VerifyError::Mismatch);
    }
    certificate.verify_signature(*algorithm, message, &signature.bytes).map_err(|error| match error
    {
        webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            VerifyError::OtherKey { scheme }
        }
        _ => VerifyError::Mismatch,
    })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    use super::*;
    use crate::lab::{LabCa, Lifetime};

    fn identity(algorithm: &'static SignatureAlgorithm) -> Identity {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        Identity::from_pem(key.serialize_pem().as_bytes(), certificate.pem().as_bytes()).unwrap()
    }

    fn rsa() -> Identity {
        use rsa::pkcs8::EncodePrivateKey as _;
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
        let der = key.to_pkcs8_der().unwrap();
        let pair = KeyPair::try_from(der.as_bytes()).unwrap();
        let certificate = CertificateParams::default().self_signed(&pair).unwrap();
        Identity::from_pem(pair.serialize_pem().as_bytes(), certificate.pem().as_bytes()).unwrap()
    }

    #[test]
    fn each_kind_of_key_signs_what_its_certificate_verifies_and_nothing_else() {
        let all = [
            (identity(&rcgen::PKCS_ECDSA_P256_SHA256), 0x0403),
            (identity(&rcgen::PKCS_ED25519), 0x0807),
            (identity(&rcgen::PKCS_ECDSA_P384_SHA384), 0x0503),
            (rsa(), 0x0804),
        ];
        for (identity, scheme) in &all {
            let signature = identity.sign(b"message").unwrap();
            assert_eq!(signature.scheme, *scheme);
            let own = &identity.chain()[0];
            assert_eq!(verify(own, b"message", &signature), Ok(()));
            assert_eq!(verify(own, b"massage", &signature), Err(VerifyError::Mismatch));
            for (other, _) in all.iter().filter(|(_, other)| other != scheme) {
                let other = verify(&other.chain()[0], b"message", &signature);
                assert_eq!(other, Err(VerifyError::OtherKey { scheme: *scheme }));
            }
        }
    }

    #[test]
    fn another_key_of_the_same_kind_verifies_nothing() {
        let (one, other) =
            (identity(&rcgen::PKCS_ECDSA_P256_SHA256), identity(&rcgen::PKCS_ECDSA_P256_SHA256));
        let signature = one.sign(b"message").unwrap();
        assert_eq!(verify(&other.chain()[0], b"message", &signature), Err(VerifyError::Mismatch));
    }

    #[test]
    fn weak_schemes_and_junk_are_refused() {
        let ca = LabCa::new("lab", Lifetime::from(SystemTime::UNIX_EPOCH)).unwrap();
        for scheme in [0, 0x0201, 0x0203, 0xffff] {
            let signature = Signature { scheme, bytes: vec![0; 64] };
            assert_eq!(
                verify(&ca.certificate(), b"", &signature),
                Err(VerifyError::Scheme { scheme })
            );
        }
        let signature = Signature { scheme: 0x0403, bytes: vec![] };
        assert_eq!(
            verify(&CertificateDer::from(&b"junk"[..]), b"", &signature),
            Err(VerifyError::Certificate)
        );
        let long = Signature { scheme: 0x0403, bytes: vec![0; 100_000] };
        assert_eq!(verify(&ca.certificate(), b"", &long), Err(VerifyError::Mismatch));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_verification_panic_or_succeed(
            scheme: u16,
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            certificate in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let ca = LabCa::new("lab", Lifetime::from(SystemTime::UNIX_EPOCH)).unwrap();
            let signature = Signature { scheme, bytes };
            prop_assert!(verify(&ca.certificate(), b"m", &signature).is_err());
            prop_assert!(verify(&certificate.into(), b"m", &signature).is_err());
        }
    }
}
