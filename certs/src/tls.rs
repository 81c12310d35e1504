//! How this program speaks TLS as a client, changed while it runs.
//!
//! # Invariants
//! - A change of identity, roots or revocation makes a new configuration with a session store of its
//!   own: nothing is ever resumed that was agreed on under former roots or a former identity, because
//!   a resumed session is not verified again.
//! - A change that cannot be made leaves what was.
//! - A peer is judged by the time that [`crate::floor`] gives, and by the lists that
//!   [`crate::crl`] lets count.
//! - Connections that stand stay as they are: whoever changes whom it trusts also ends those.

mod fault;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

pub use self::fault::{PeerFault, fault_of, fault_of_io, told};
use crate::crl::{Revocation, RevocationError};
use crate::identity::Identity;
use crate::key::KeyError;

/// The oldest version that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Oldest {
    /// TLS 1.3 and nothing else: hubs.
    #[default]
    Tls13,
    /// TLS 1.2 too: authorities that others run.
    Tls12,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Nobody would be trusted.
    #[error("there is no root certificate to trust anybody by; enrol, or put roots.pem there")]
    NoRoots,
    /// A root is no certificate that could be trusted by.
    #[error("root certificate {number} cannot be used")]
    Root {
        /// Which one, from 1.
        number: usize,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// TLS cannot use the identity's key.
    #[error("TLS cannot use the key of {subject}")]
    Key {
        /// Whose.
        subject: String,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// Nothing of what was asked for fits together.
    #[error("TLS cannot be set up")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a configuration is made of.
#[derive(Clone)]
struct Parts {
    roots: Vec<CertificateDer<'static>>,
    identity: Option<Arc<CertifiedKey>>,
    revocation: Revocation,
}

/// A client's configuration that can be changed while it is used.
pub struct HotTls {
    oldest: Oldest,
    alpn: Vec<Vec<u8>>,
    time: Arc<dyn TimeProvider>,
    now: RwLock<(Parts, Arc<ClientConfig>, u64)>,
}

impl HotTls {
    /// A configuration that trusts `roots` and shows `identity`.
    ///
    /// # Errors
    /// When there are no roots, or something of it cannot be used.
    pub fn new(
        roots: Vec<CertificateDer<'static>>,
        identity: Option<&Identity>,
        revocation: Revocation,
        oldest: Oldest,
        time: Arc<dyn TimeProvider>,
    ) -> Result<Self, TlsError> {
        let parts = Parts { roots, identity: certified(identity)?, revocation };
        let config = build(&parts, oldest, &[], &time)?;
        Ok(Self { oldest, alpn: Vec::new(), time, now: RwLock::new((parts, config, 0)) })
    }

    /// The same with protocols to offer, as ALPN names them.
    ///
    /// # Errors
    /// As [`HotTls::new`].
    pub fn offering(self, protocols: &[&str]) -> Result<Self, TlsError> {
        let alpn = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let this = Self { alpn, ..self };
        this.change(|_| {})?;
        Ok(this)
    }

    /// What a new connection uses.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// How often it was changed: whoever holds a connection sees by it that there is another
    /// configuration by now.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.now.read().unwrap_or_else(PoisonError::into_inner).2
    }

    /// Shows another identity from now on, or none.
    ///
    /// # Errors
    /// When TLS cannot use its key; the former one is then still shown.
    pub fn set_identity(&self, identity: Option<&Identity>) -> Result<(), TlsError> {
        let identity = certified(identity)?;
        self.change(|parts| parts.identity = identity)
    }

    /// Trusts others from now on.
    ///
    /// # Errors
    /// When there are none, or one cannot be used; the former ones then still are.
    pub fn set_roots(&self, roots: Vec<CertificateDer<'static>>) -> Result<(), TlsError> {
        self.change(|parts| parts.roots = roots)
    }

    /// Asks other revocation lists from now on.
    ///
    /// # Errors
    /// When TLS cannot use them; the former ones then still are asked.
    pub fn set_revocation(&self, revocation: Revocation) -> Result<(), TlsError> {
        self.change(|parts| parts.revocation = revocation)
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) -> Result<(), TlsError> {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let mut parts = now.0.clone();
        change(&mut parts);
        let config = build(&parts, self.oldest, &self.alpn, &self.time)?;
        *now = (parts, config, now.2.wrapping_add(1));
        Ok(())
    }
}

impl fmt::Debug for HotTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("HotTls")
            .field("roots", &now.0.roots.len())
            .field("identity", &now.0.identity.is_some())
            .field("oldest", &self.oldest)
            .field("changes", &now.2)
            .finish_non_exhaustive()
    }
}

fn certified(identity: Option<&Identity>) -> Result<Option<Arc<CertifiedKey>>, TlsError> {
    let of = |identity: &Identity| {
        identity
            .certified()
            .map_err(|source| TlsError::Key { subject: identity.facts().subject.clone(), source })
    };
    identity.map(of).transpose()
}

fn build(
    parts: &Parts,
    oldest: Oldest,
    alpn: &[Vec<u8>],
    time: &Arc<dyn TimeProvider>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(default_provider());
    let verifier = Judge::new(&parts.roots, parts.revocation.clone(), &provider)?;
    let versions: &[_] = match oldest {
        Oldest::Tls13 => &[&rustls::version::TLS13],
        Oldest::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let builder = ClientConfig::builder_with_details(provider, Arc::clone(time))
        .with_protocol_versions(versions)
        .map_err(|error| TlsError::Setup(error.into()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &parts.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity)))),
    };
    config.alpn_protocols = alpn.to_vec();
    Ok(Arc::new(config))
}

/// Verifies a peer by roots, name, time and revocation.
#[derive(Debug)]
struct Judge {
    inner: Arc<WebPkiServerVerifier>,
    revocation: Revocation,
}

impl Judge {
    fn new(
        roots: &[CertificateDer<'static>],
        revocation: Revocation,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let mut store = RootCertStore::empty();
        for (at, root) in roots.iter().enumerate() {
            let failed = |source| TlsError::Root { number: at + 1, source };
            store.add(root.clone()).map_err(failed)?;
        }
        let inner =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
                .build()
                .map_err(|error| TlsError::Setup(error.into()))?;
        Ok(Self { inner, revocation })
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let chain: Vec<CertificateDer<'_>> =
            std::iter::once(end_entity).chain(intermediates).cloned().collect();
        match self.revocation.judge(&chain, time) {
            Ok(()) => Ok(verified),
            Err(RevocationError::Revoked { .. }) => Err(CertificateError::Revoked.into()),
            // With the sentence that says which authority's list it is.
            Err(error) => Err(CertificateError::Other(OtherError(Arc::new(error))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
