//! Certificates by EST, enrolment over secure transport (RFC 7030): cacerts, simpleenroll and
//! simplereenroll.
//!
//! # Invariants
//! - A secret, a certificate of ours or a request goes only to a server whose certificate leads to
//!   a trusted root. Without such a root yet, one connection without trust fetches certificates, of
//!   which only those count whose hash is pinned; then everything is asked again, with trust.
//! - A server that is not the pinned one learns nothing but that somebody asked for its roots.
//! - Nothing is remembered but the roots, and nothing is written: that is for whoever asks.
//!
//! The request is not bound to the TLS session (RFC 7030, 3.5): TLS 1.3 has no `tls-unique`.

mod anchors;
mod answer;
mod exchange;
mod pkcs7;
mod trust;
mod url;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::ClientConfig;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};
use zeroize::Zeroizing;

pub use exchange::EstLimits;
pub use pkcs7::{EnvelopeError, bare, base64, certificates, credential_of, envelope};
pub use url::{EstUrl, EstUrlError};

use crate::authority::{Answer, Authority, AuthorityError, Enrolled, Token, Warrant};
use crate::identity::Identity;
use crate::opcua::Thumbprint;
use crate::request::CertificateRequest;
use exchange::{Ask, Reply, Trouble, exchange};

/// What the status of a refusal is when TLS said it, before any HTTP: nginx's number for it.
pub const REFUSED_BY_TLS: u16 = 495;

/// How an EST server is asked.
#[derive(Debug, Clone)]
pub struct EstPlan {
    /// Where it is.
    pub url: EstUrl,
    /// The roots that are trusted already.
    pub roots: Vec<CertificateDer<'static>>,
    /// The roots that are trusted once somebody sends them.
    pub pins: Vec<Thumbprint>,
    /// What time certificates are judged by.
    pub time: Arc<dyn TimeProvider>,
    /// How long and how much an answer may take.
    pub limits: EstLimits,
}

/// An EST server, asked within limits.
pub struct EstClient {
    url: EstUrl,
    pins: Vec<Thumbprint>,
    time: Arc<dyn TimeProvider>,
    limits: EstLimits,
    roots: Mutex<Vec<CertificateDer<'static>>>,
}

/// How the token stands in a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Basic,
    Bearer,
}

impl EstClient {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(plan: EstPlan) -> Self {
        let EstPlan { url, roots, pins, time, limits } = plan;
        Self { url, pins, time, limits, roots: Mutex::new(roots) }
    }

    fn known(&self) -> Vec<CertificateDer<'static>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn know(&self, roots: Vec<CertificateDer<'static>>) {
        *self.roots.lock().unwrap_or_else(PoisonError::into_inner) = roots;
    }

    async fn fetch_roots(&self) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
        let offered = self.fetch_certificates().await?;
        let roots = anchors::accepted(&offered, &self.known(), &self.pins);
        if roots.is_empty() {
            let why =
                "the certificates that it offers lead to none of the trusted roots".to_owned();
            return Err(AuthorityError::Untrusted { authority: self.url.to_string(), why });
        }
        self.know(roots.clone());
        Ok(roots)
    }

    /// What a trusted server offers.
    async fn fetch_certificates(&self) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
        let ask = Ask { operation: "cacerts", body: None, authorization: None };
        let reply = self.ask(&ask, None).await?;
        self.unwrap(&answer::body(reply, &self.url.to_string(), &[])?)
    }

    async fn enrol_by(
        &self,
        request: &CertificateRequest,
        by: Warrant<'_>,
    ) -> Result<Enrolled, AuthorityError> {
        let body = BASE64.encode(request.der());
        let (operation, token, identity) = match by {
            Warrant::Token(token) => ("simpleenroll", Some(token), None),
            Warrant::Bootstrap(identity) => ("simpleenroll", None, Some(identity)),
            Warrant::Renewal(identity) => ("simplereenroll", None, Some(identity)),
        };
        let ask = |scheme| Ask {
            operation,
            body: Some(&body),
            authorization: token.map(|token| authorization(token, request.gateway(), scheme)),
        };
        let mut reply = self.ask(&ask(Scheme::Basic), identity).await?;
        let has = |scheme: &str| reply.schemes.iter().any(|one| one == scheme);
        if reply.status.as_u16() == 401 && token.is_some() && has("bearer") && !has("basic") {
            reply = self.ask(&ask(Scheme::Bearer), identity).await?;
        }
        // As it is, and as a header had it.
        let header = token.map(|token| authorization(token, request.gateway(), Scheme::Basic));
        let header = header.as_ref().and_then(|header| header.strip_prefix("Basic "));
        let secrets: Vec<&str> = token.map(Token::secret).into_iter().chain(header).collect();
        let sent = self.unwrap(&answer::body(reply, &self.url.to_string(), &secrets)?)?;
        self.in_order(request, &sent).await
    }

    /// The certificate that was asked for, and those between it and the root.
    async fn in_order(
        &self,
        request: &CertificateRequest,
        sent: &[CertificateDer<'static>],
    ) -> Result<Enrolled, AuthorityError> {
        let key = X509CertificationRequest::from_der(request.der())
            .map(|(_, parsed)| parsed.certification_request_info.subject_pki.raw.to_vec())
            .unwrap_or_default();
        let certificate = anchors::issued(sent, &key)
            .ok_or_else(|| self.unusable("an answer without a certificate"))?
            .clone();
        let mut path = anchors::path(&certificate, sent, &self.known());
        // RFC 7030 has the others among cacerts. Nothing is lost when those cannot be had now, and a
        // certificate that may have cost a token is not thrown away for it.
        if !path.is_whole
            && let Ok(offered) = self.fetch_certificates().await
        {
            let pool = [sent, &offered].concat();
            path = anchors::path(&certificate, &pool, &self.known());
        }
        Ok(Enrolled { certificate, chain: path.between })
    }

    /// Asks a server that a root vouches for.
    async fn ask(
        &self,
        ask: &Ask<'_>,
        identity: Option<&Identity>,
    ) -> Result<Reply, AuthorityError> {
        let mut is_discovered = false;
        if self.known().is_empty() {
            self.discover().await?;
            is_discovered = true;
        }
        loop {
            let tls = trust::by_roots(&self.known(), identity, &self.time)
                .map_err(|why| self.untrusted(why))?;
            match exchange(&self.url, tls, ask, &self.limits).await {
                // It may stand under a root that is pinned and was not seen yet.
                Err(Trouble::Untrusted(why)) if !is_discovered && !self.pins.is_empty() => {
                    let before = self.known();
                    is_discovered = true;
                    if self.discover().await.is_err() || self.known() == before {
                        return Err(self.untrusted(why));
                    }
                }
                done => return done.map_err(|trouble| self.error(trouble)),
            }
        }
    }

    /// Looks for pinned roots among what anybody at that address sends.
    async fn discover(&self) -> Result<(), AuthorityError> {
        if self.pins.is_empty() {
            return Err(self.untrusted("no root is trusted and none is pinned".to_owned()));
        }
        let tls: Arc<ClientConfig> =
            trust::by_nothing(&self.time).map_err(|why| self.untrusted(why))?;
        let ask = Ask { operation: "cacerts", body: None, authorization: None };
        let reply = exchange(&self.url, tls, &ask, &self.limits).await;
        let reply = reply.map_err(|trouble| self.error(trouble))?;
        let mut offered = reply.shown.clone();
        offered.extend(self.unwrap(&answer::body(reply, &self.url.to_string(), &[])?)?);
        let found = anchors::pinned(&offered, &self.pins);
        if found.is_empty() {
            let offered: Vec<_> = offered.iter().map(|one| Thumbprint::of(one).short()).collect();
            let why = format!(
                "none of the certificates that it offers has a pinned thumbprint (theirs begin \
                 with {})",
                offered.join(", ")
            );
            return Err(self.untrusted(why));
        }
        let mut known = self.known();
        known.extend(found.into_iter().filter(|one| !self.known().contains(one)));
        self.know(known);
        Ok(())
    }

    fn unwrap(&self, body: &[u8]) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
        certificates(body).map_err(|error| self.unusable(&error.to_string()))
    }

    fn error(&self, trouble: Trouble) -> AuthorityError {
        let authority = self.url.to_string();
        match trouble {
            Trouble::Away(why) => AuthorityError::Unreachable { authority, why },
            Trouble::Untrusted(why) => AuthorityError::Untrusted { authority, why },
            Trouble::Junk(why) => AuthorityError::Unusable { authority, why },
            Trouble::Rejected(said) => {
                AuthorityError::Refused { authority, status: REFUSED_BY_TLS, said }
            }
        }
    }

    fn untrusted(&self, why: String) -> AuthorityError {
        self.error(Trouble::Untrusted(why))
    }

    fn unusable(&self, why: &str) -> AuthorityError {
        self.error(Trouble::Junk(why.to_owned()))
    }
}

/// A token with a colon is user and password as an authority gave them; otherwise the gateway's
/// name is the user.
fn authorization(token: &Token, gateway: &str, scheme: Scheme) -> Zeroizing<String> {
    let secret = token.secret();
    match scheme {
        Scheme::Bearer => Zeroizing::new(format!("Bearer {secret}")),
        Scheme::Basic => {
            let pair = if secret.contains(':') {
                Zeroizing::new(secret.to_owned())
            } else {
                Zeroizing::new(format!("{gateway}:{secret}"))
            };
            let encoded = Zeroizing::new(BASE64.encode(pair.as_bytes()));
            Zeroizing::new(format!("Basic {}", encoded.as_str()))
        }
    }
}

impl Authority for EstClient {
    fn roots(&self) -> Answer<'_, Vec<CertificateDer<'static>>> {
        Box::pin(self.fetch_roots())
    }

    fn enrol<'a>(
        &'a self,
        request: &'a CertificateRequest,
        by: Warrant<'a>,
    ) -> Answer<'a, Enrolled> {
        Box::pin(self.enrol_by(request, by))
    }
}

impl fmt::Debug for EstClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EstClient").field("url", &self.url).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
