//! What the keeper needs of the hub, so that a test can be one.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::CertificateDer;
use tidegate_identity::Identity;
use tidegate_identity::crl::Revocation;

use crate::config::TlsFiles;
use crate::leaf::ShowError;

/// By whom and by what a hub is judged.
#[derive(Clone)]
pub struct Trust {
    /// Whose hubs are trusted.
    pub roots: Vec<CertificateDer<'static>>,
    /// What their authorities withdrew.
    pub revocation: Revocation,
    /// What time it is.
    pub time: Arc<dyn TimeProvider>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("roots", &self.roots.len()).finish_non_exhaustive()
    }
}

/// What a hub says to an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may come in.
    Admitted,
    /// Nobody answered.
    Away(String),
    /// Whoever answered is not the hub.
    Untrusted(String),
    /// Whoever answered was the hub, and its authority withdrew its certificate.
    Revoked(String),
    /// It may not come in.
    Refused(String),
}

/// The hub, and the leaf that shows it an identity.
pub trait Hub: Send + Sync {
    /// Tries an identity in a connection of its own. Takes a bounded time.
    fn admits<'a>(&'a self, identity: &'a Identity, trust: &'a Trust) -> BoxFuture<'a, Verdict>;

    /// Has the leaf make its links with these files in a quiet moment, and sees that the hub answers
    /// over both; `None` takes them down. Takes a bounded time.
    fn show(&self, files: Option<TlsFiles>) -> BoxFuture<'_, Result<(), ShowError>>;

    /// Whether the hub answers over the links as they are.
    fn answers(&self) -> bool;
}
