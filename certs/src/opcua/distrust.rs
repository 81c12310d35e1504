//! Why a server is not spoken to, in one sentence.

use std::time::SystemTime;

use super::certificate::{Certificate, Key, Strength};
use super::thumbprint::Thumbprint;
use crate::certificate::Validity;
use crate::files::rough;

/// Shorter RSA keys are within reach of whoever can pay; OPC UA's current policies begin here.
pub(super) const MIN_RSA_BITS: usize = 2048;

/// Where OPC UA's policies end. A server with a longer key would cost seconds per connection.
const MAX_RSA_BITS: usize = 4096;

/// Why a certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Distrust {
    /// What is wrong, for programs.
    pub kind: DistrustKind,
    /// What is wrong with which certificate, and what helps: one sentence.
    pub text: String,
    /// The certificate, where it could be read.
    pub thumbprint: Option<Thumbprint>,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// What is wrong with one certificate of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) kind: DistrustKind,
    /// What follows the certificate's name in a sentence.
    pub(super) what: String,
    /// What helps.
    pub(super) remedy: String,
}

impl Flaw {
    pub(super) fn new(
        kind: DistrustKind,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { kind, what: what.into(), remedy: remedy.into() }
    }

    /// The sentence about the server's certificate.
    pub(super) fn of(self, leaf: &Certificate) -> Distrust {
        let text = format!("{} {}; {}", leaf.name(), self.what, self.remedy);
        Distrust { kind: self.kind, text, thumbprint: Some(leaf.thumbprint) }
    }

    /// The sentence about an authority that a server's certificate comes from.
    pub(super) fn of_authority(self, authority: &Certificate, leaf: &Certificate) -> Distrust {
        let text = format!(
            "{} comes from an authority whose {} {}; {}",
            leaf.name(),
            authority.name(),
            self.what,
            self.remedy
        );
        Distrust { kind: self.kind, text, thumbprint: Some(leaf.thumbprint) }
    }
}

const MAKE_ANEW: &str = "have the server make a new one";

/// What its time says against it.
pub(super) fn untimely(certificate: &Certificate, now: SystemTime) -> Option<Flaw> {
    match certificate.facts.validity(now) {
        Validity::Valid { .. } => None,
        Validity::NotYet { begins_in } => Some(Flaw::new(
            DistrustKind::NotYetValid,
            format!("becomes valid only in {}", rough(begins_in)),
            "correct the clock of this gateway, or that of the server and renew the certificate",
        )),
        Validity::Expired { since } => Some(Flaw::new(
            DistrustKind::Expired,
            format!("expired {} ago", rough(since)),
            "renew it at the server, or correct the clock of this gateway",
        )),
    }
}

/// What speaks against its key and its signature.
pub(super) fn weak(certificate: &Certificate) -> Option<Flaw> {
    if let Key::Rsa(bits) = certificate.key {
        if bits < MIN_RSA_BITS {
            return Some(Flaw::new(
                DistrustKind::TooWeak,
                format!("has an RSA key of {bits} bits, fewer than {MIN_RSA_BITS}"),
                MAKE_ANEW,
            ));
        }
        if bits > MAX_RSA_BITS {
            return Some(Flaw::new(
                DistrustKind::Unusable,
                format!("has an RSA key of {bits} bits, more than OPC UA's {MAX_RSA_BITS}"),
                MAKE_ANEW,
            ));
        }
    }
    match &certificate.signature {
        Strength::Strong => None,
        Strength::Weak(hash) => Some(Flaw::new(
            DistrustKind::TooWeak,
            format!("is signed with {hash}, which can be forged"),
            format!("{MAKE_ANEW} that is signed with SHA-256"),
        )),
        Strength::Unknown(oid) => Some(Flaw::new(
            DistrustKind::Unusable,
            format!("is signed with an algorithm that is not known here ({oid})"),
            format!("{MAKE_ANEW} that is signed with RSA and SHA-256"),
        )),
    }
}

/// What its usages say against a server's certificate.
pub(super) fn misused(certificate: &Certificate) -> Option<Flaw> {
    let lacks = match certificate.usage {
        Some(usage) if !usage.signs => "digitalSignature among its key usages",
        Some(usage) if !usage.encrypts => "keyEncipherment among its key usages",
        _ if !certificate.serves => "serverAuth among its extended key usages",
        _ => return None,
    };
    Some(Flaw::new(
        DistrustKind::Unusable,
        format!("may not be a server's: it lacks {lacks}"),
        MAKE_ANEW,
    ))
}
