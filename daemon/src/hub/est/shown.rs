//! What the EST server shows of itself, and whom it asks.
//!
//! # Invariants
//! - The certificate is made anew when two thirds of its time are over; one that cannot be made anew
//!   is shown to its end.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::crypto::ring::default_provider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};
use tidegate_identity::authority_store::AuthorityStore;

use super::EstServerError;

/// Each start makes one, so it need not be long.
const LASTS: Duration = Duration::from_secs(90 * 86_400);

/// The TLS configuration of now.
#[derive(Default)]
pub(super) struct Shown {
    /// And when to make the next one.
    current: Mutex<Option<(SystemTime, Arc<ServerConfig>)>>,
}

impl Shown {
    /// The configuration, made anew when it is time.
    pub(super) fn tls(
        &self,
        store: &AuthorityStore,
        hosts: &[String],
        now: SystemTime,
    ) -> Result<Arc<ServerConfig>, EstServerError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((renew_at, config)) = current.as_ref()
            && now < *renew_at
        {
            return Ok(Arc::clone(config));
        }
        let config = match (make(store, hosts, now), current.as_ref()) {
            (Ok(config), _) => config,
            (Err(problem), Some((_, config))) => {
                let why = crate::causes::chain(&problem);
                tracing::error!(why, "the authority's own certificate cannot be renewed");
                return Ok(Arc::clone(config));
            }
            (Err(problem), None) => return Err(problem),
        };
        *current = Some((now + LASTS / 3 * 2, Arc::clone(&config)));
        Ok(config)
    }
}

fn make(
    store: &AuthorityStore,
    hosts: &[String],
    now: SystemTime,
) -> Result<Arc<ServerConfig>, EstServerError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| EstServerError::Tls(error);
    let issued = store.server("est", hosts, LASTS, now)?;
    let identity = issued.identity().map_err(|error| failed(error.into()))?;
    let shown = identity.certified().map_err(|error| failed(error.into()))?;
    let mut roots = RootCertStore::empty();
    roots.add(store.certificate()).map_err(|error| failed(error.into()))?;
    let provider = Arc::new(default_provider());
    // Nobody must show a certificate: a gateway without one fetches roots, or has a token.
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| failed(error.into()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.into()))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(..)")
    }
}
