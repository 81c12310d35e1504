//! Private keys.
//!
//! # Invariants
//! - No `Clone`, no `Display`; `Debug` says only that there is a key.
//! - The bytes are wiped on drop. Copies inside the TLS library are out of reach and live as long
//!   as its configuration does.

use std::fmt;
use std::sync::Arc;

use rustls::sign::SigningKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, pem};
use zeroize::Zeroize as _;

/// A private key, unencrypted, of a kind that TLS can sign with.
pub struct PrivateKey(PrivateKeyDer<'static>);

/// Why there is no private key in a text.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No `PRIVATE KEY` block, or only an encrypted one.
    #[error("no unencrypted PRIVATE KEY block")]
    Missing,
    /// The PEM itself is broken.
    #[error("the PEM text is broken")]
    Pem(#[source] pem::Error),
    /// TLS cannot sign with it.
    #[error("not an ECDSA, Ed25519 or RSA key that TLS can use")]
    Kind(#[source] rustls::Error),
}

impl PrivateKey {
    /// Reads the first private key of a PEM text.
    ///
    /// # Errors
    /// When there is none, the PEM is broken, or TLS cannot use such a key.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let der = PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
            pem::Error::NoItemsFound => KeyError::Missing,
            other => KeyError::Pem(other),
        })?;
        let key = Self(der);
        key.signer()?;
        Ok(key)
    }

    /// What signs for TLS with this key.
    ///
    /// # Errors
    /// When TLS cannot use such a key.
    pub fn signer(&self) -> Result<Arc<dyn SigningKey>, KeyError> {
        rustls::crypto::ring::sign::any_supported_type(&self.0).map_err(KeyError::Kind)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_printed() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = PrivateKey::from_pem(pair.serialize_pem().as_bytes()).unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
    }

    #[test]
    fn a_text_without_a_key_says_so() {
        assert!(matches!(PrivateKey::from_pem(b"hello"), Err(KeyError::Missing)));
        let encrypted =
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(matches!(PrivateKey::from_pem(encrypted), Err(KeyError::Missing)));
        let junk = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(PrivateKey::from_pem(junk), Err(KeyError::Kind(_))));
    }
}
