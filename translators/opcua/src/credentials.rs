//! What the gateway shows to servers, and whom it trusts.
//!
//! # Invariants
//! - A server's certificate is judged before the first byte is encrypted for it.
//! - No secret passes through a type that can be printed.

use std::error::Error;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::spec::{Thumbprint, TrustSpec, UserSpec};

/// The gateway's application instance certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// The application URI, as it stands in the certificate.
    pub uri: String,
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its RSA private key, PEM (PKCS #8).
    pub key: PathBuf,
}

/// A certificate that a server showed, and what it must fit.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// The configured name of the device, for messages.
    pub device: &'a str,
    /// The certificate and, as far as the server sent it, its chain: DER, one behind the other.
    pub chain: &'a [u8],
    /// The application URI that the server claims.
    pub application_uri: &'a str,
    /// The host that is dialled.
    pub host: &'a str,
    /// What the configuration says.
    pub trust: &'a TrustSpec,
}

/// Why a server is not spoken to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Distrust {
    /// What is wrong, for programs.
    pub kind: DistrustKind,
    /// What is wrong with which certificate and what helps, in one sentence.
    pub text: String,
    /// The certificate, where it could be read.
    pub thumbprint: Option<Thumbprint>,
}

/// What is wrong with a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DistrustKind {
    /// Nobody has approved it, nor an authority that signed it. It now lies among the rejected.
    Unknown,
    /// Somebody has rejected it.
    Rejected,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// An authority has withdrawn it.
    Revoked,
    /// Its authority's revocation list is too old or cannot be read, and the configuration refuses
    /// then.
    RevocationUnknown,
    /// It names another application URI than the server.
    WrongUri,
    /// It does not name the host that is dialled.
    WrongHost,
    /// Its key is too short, or its signature too weak.
    TooWeak,
    /// It is no certificate, or cannot be used for this.
    Unusable,
    /// The trust folders cannot be read.
    Store,
}

/// The daemon's certificates and secrets, as a driver needs them. Files are read anew for each
/// connection, so that replaced ones count at once.
pub trait Credentials: Send + Sync {
    /// The application certificate to show to the server of a device, made when there is none.
    ///
    /// # Errors
    /// When it can neither be read nor made; the text names file and remedy.
    fn application(&self, device: &str) -> Result<Application, Box<dyn Error + Send + Sync>>;

    /// The server of a device saw a certificate of ours, and took it or did not. While one is being
    /// replaced, another one may be shown the next time.
    fn shown(&self, device: &str, application: &Application, taken: bool) {
        let _ = (device, application, taken);
    }

    /// Whether the server may be spoken to.
    ///
    /// # Errors
    /// With the reason why it may not.
    fn judge(&self, presented: &Presented<'_>) -> Result<(), Distrust>;

    /// The password of a user, without the line feed at its end; `None` for other users.
    ///
    /// # Errors
    /// When the credential file cannot be read.
    fn password(
        &self,
        user: &UserSpec,
    ) -> Result<Option<Zeroizing<String>>, Box<dyn Error + Send + Sync>>;
}
