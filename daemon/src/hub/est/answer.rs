//! What the EST server says to a request.
//!
//! # Invariants
//! - What is logged was issued or checked here; of a request's text nothing but the name that was
//!   asked for, cut and cleaned.
//! - A refusal tells what a client must know, never where the authority's files are.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, CertificateSigningRequestDer,
};
use tidegate_identity::CertificateFacts;
use tidegate_identity::authority_store::{AuthorityStore, AuthorityStoreError, Refusal};
use tidegate_identity::est::{bare, base64, credential_of, envelope};
use tidegate_identity::lab::SignError;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

const CERTS_ONLY: (&str, &str) = ("content-type", "application/pkcs7-mime; smime-type=certs-only");
const BASE64: (&str, &str) = ("content-transfer-encoding", "base64");
const TEXT: (&str, &str) = ("content-type", "text/plain");

/// A request, and who sent it.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) authorization: Option<Zeroizing<String>>,
    pub(super) body: Vec<u8>,
    /// The certificate that TLS has checked.
    pub(super) shown: Option<CertificateDer<'static>>,
    pub(super) lasts: Duration,
    pub(super) now: SystemTime,
}

/// An answer, and what the log says of it.
pub(super) struct Said {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) body: Vec<u8>,
    event: Option<Event>,
}

enum Event {
    Issued { subject: String, serial: String },
    Refused(String),
    Broken(String),
}

/// The token in an `Authorization` header: a Basic password, or a Bearer's.
pub(super) fn credential(value: &HeaderValue) -> Option<Zeroizing<String>> {
    value.to_str().ok().and_then(credential_of)
}

/// Decides. Waits for the disk.
pub(super) fn decide(asked: &Asked, store: &AuthorityStore) -> Said {
    let operation = asked.path.strip_prefix("/.well-known/est/").unwrap_or_default();
    match (&asked.method, operation, asked.path.as_str()) {
        (&Method::GET, "cacerts", _) => certificates(&[store.certificate()]),
        (&Method::POST, "simpleenroll", _) => match (&asked.authorization, &asked.shown) {
            (Some(token), _) => signed(
                request(asked)
                    .and_then(|request| store.enrol(token, &request, asked.lasts, asked.now)),
            ),
            (None, Some(shown)) => renewed(asked, shown, store),
            (None, None) => challenge("send a token, or show a certificate"),
        },
        (&Method::POST, "simplereenroll", _) => match &asked.shown {
            Some(shown) => renewed(asked, shown, store),
            None => Said::text(StatusCode::FORBIDDEN, "show the certificate that is to be renewed"),
        },
        (&Method::GET, _, "/crl.pem") => list(store, asked.now, false),
        (&Method::GET, _, "/crl") => list(store, asked.now, true),
        (_, "cacerts" | "simpleenroll" | "simplereenroll", _) | (_, _, "/crl" | "/crl.pem") => {
            Said::text(StatusCode::METHOD_NOT_ALLOWED, "not with this method")
        }
        _ => Said::text(StatusCode::NOT_FOUND, "no such operation"),
    }
}

fn renewed(asked: &Asked, shown: &CertificateDer<'_>, store: &AuthorityStore) -> Said {
    signed(request(asked).and_then(|request| store.renew(shown, &request, asked.lasts, asked.now)))
}

fn request(asked: &Asked) -> Result<CertificateSigningRequestDer<'static>, Refusal> {
    bare(&asked.body).map(Into::into).map_err(|_| SignError::Malformed.into())
}

fn signed(done: Result<CertificateDer<'static>, Refusal>) -> Said {
    let refusal = match done {
        Ok(certificate) => {
            let facts = CertificateFacts::of(&certificate).ok();
            let event =
                facts.map(|facts| Event::Issued { subject: facts.subject, serial: facts.serial });
            return Said { event, ..certificates(&[certificate]) };
        }
        Err(refusal) => refusal,
    };
    let said = refusal.to_string();
    let answer = match refusal {
        Refusal::Token => challenge(&said),
        Refusal::Request(_) => Said::text(StatusCode::BAD_REQUEST, &said),
        Refusal::NotOurs { .. } | Refusal::Revoked { .. } | Refusal::OtherName { .. } => {
            Said::text(StatusCode::FORBIDDEN, &said)
        }
        Refusal::Store(problem) => return Said::out_of_order(&problem),
    };
    Said { event: Some(Event::Refused(said)), ..answer }
}

fn list(store: &AuthorityStore, now: SystemTime, is_der: bool) -> Said {
    let pem = match store.crl(now) {
        Ok(pem) => pem.into_bytes(),
        Err(problem) => return Said::out_of_order(&problem),
    };
    let (body, kind) = if is_der {
        match CertificateRevocationListDer::from_pem_slice(&pem) {
            Ok(der) => (der.to_vec(), "application/pkix-crl"),
            Err(_) => return Said::broken(),
        }
    } else {
        (pem, "application/x-pem-file")
    };
    Said { status: StatusCode::OK, headers: vec![("content-type", kind)], body, event: None }
}

fn certificates(all: &[CertificateDer<'_>]) -> Said {
    let body = base64(&envelope(all)).into_bytes();
    Said { status: StatusCode::OK, headers: vec![CERTS_ONLY, BASE64], body, event: None }
}

fn challenge(said: &str) -> Said {
    let mut answer = Said::text(StatusCode::UNAUTHORIZED, said);
    answer.headers.push(("www-authenticate", "Basic realm=\"tidegate\""));
    answer
}

impl Said {
    fn text(status: StatusCode, said: &str) -> Self {
        Self { status, headers: vec![TEXT], body: said.as_bytes().to_vec(), event: None }
    }

    /// The words are for the log: a stranger need not know the folders.
    fn out_of_order(problem: &AuthorityStoreError) -> Self {
        let event = Some(Event::Broken(crate::causes::chain(problem)));
        Self { event, ..Self::broken() }
    }

    pub(super) fn broken() -> Self {
        Self::text(StatusCode::INTERNAL_SERVER_ERROR, "the authority is out of order")
    }

    /// One line for each decision.
    pub(super) fn log(&self, peer: SocketAddr) {
        match &self.event {
            Some(Event::Issued { subject, serial }) => {
                info!(%peer, subject, serial, "issued a certificate");
            }
            Some(Event::Refused(why)) => warn!(%peer, why, "refused a certificate"),
            Some(Event::Broken(why)) => error!(%peer, why, "the authority is out of order"),
            None => {}
        }
    }
}
