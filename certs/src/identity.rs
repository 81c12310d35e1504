//! A key with the certificate that belongs to it.

use std::fmt;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, pem};

use crate::certificate::{CertificateError, CertificateFacts};
use crate::key::{KeyError, PrivateKey};

/// A private key, its certificate, and the certificates between it and the authority.
pub struct Identity {
    key: PrivateKey,
    chain: Vec<CertificateDer<'static>>,
    facts: CertificateFacts,
}

/// Why a key and a certificate are no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no certificate in the text.
    #[error("no CERTIFICATE block")]
    NoCertificate,
    /// The PEM of the certificates is broken.
    #[error("the certificate's PEM text is broken")]
    Pem(#[source] pem::Error),
    /// The first certificate is none.
    #[error("the certificate cannot be read")]
    Certificate(#[source] CertificateError),
    /// The key cannot be used.
    #[error("the private key cannot be used")]
    Key(#[source] KeyError),
    /// They were made for each other by nobody.
    #[error("the private key does not belong to the certificate of {subject}")]
    Mismatch {
        /// Whose certificate it is.
        subject: String,
    },
}

impl Identity {
    /// Puts a key and its certificates together, the own certificate first.
    ///
    /// # Errors
    /// When there is no certificate, the first is unreadable, or the key belongs to another.
    pub fn new(
        key: PrivateKey,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<Self, IdentityError> {
        let own = chain.first().ok_or(IdentityError::NoCertificate)?;
        let facts = CertificateFacts::of(own).map_err(IdentityError::Certificate)?;
        let signer = key.signer().map_err(IdentityError::Key)?;
        CertifiedKey::new(chain.clone(), signer)
            .keys_match()
            .map_err(|_| IdentityError::Mismatch { subject: facts.subject.clone() })?;
        Ok(Self { key, chain, facts })
    }

    /// Reads key and certificates from PEM texts.
    ///
    /// # Errors
    /// As [`Identity::new`], and when a text is not the PEM that it should be.
    pub fn from_pem(key: &[u8], certificates: &[u8]) -> Result<Self, IdentityError> {
        let key = PrivateKey::from_pem(key).map_err(IdentityError::Key)?;
        Self::new(key, certificates_of(certificates)?)
    }

    /// What the own certificate says.
    #[must_use]
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// The certificates, the own first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// What TLS needs to show this identity.
    ///
    /// # Errors
    /// When TLS cannot use the key; it could when the identity was made.
    pub fn certified(&self) -> Result<Arc<CertifiedKey>, KeyError> {
        Ok(Arc::new(CertifiedKey::new(self.chain.clone(), self.key.signer()?)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// Every certificate of a PEM text, at least one.
pub(crate) fn certificates_of(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(IdentityError::Pem)?;
    if all.is_empty() {
        return Err(IdentityError::NoCertificate);
    }
    Ok(all)
}
