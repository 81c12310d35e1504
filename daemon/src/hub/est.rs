//! An EST server (RFC 7030) in front of the lab authority: cacerts, simpleenroll by token,
//! simplereenroll by the certificate that is renewed, and the list of revoked certificates.
//!
//! ```text
//! GET  /.well-known/est/cacerts          anybody
//! POST /.well-known/est/simpleenroll     a token (Basic, as the password, or Bearer)
//! POST /.well-known/est/simplereenroll   mutual TLS
//! GET  /crl.pem, /crl                    anybody; PEM, DER
//! ```
//!
//! # Invariants
//! - Who gets which certificate is decided by [`AuthorityStore`]; here it is only found out who asks.
//! - A certificate that is shown is checked by TLS: of this authority, valid by now, its key at hand.
//!   Sessions are never resumed, since a resumed one is not checked again.
//! - Connections, heads, bodies, time and wrong guesses are bounded; nothing that was sent is printed
//!   but names that were checked.
//! - Its own certificate is made anew in time; its key is never on a disk.

mod answer;
mod attempts;
mod shown;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tidegate_identity::authority_store::{AuthorityStore, AuthorityStoreError};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::observe::listen;
use answer::{Asked, Said};
use attempts::Attempts;
use shown::Shown;

/// Connections at once. Each may wait for the disk, so more would only wait longer.
const MAX_CONNECTIONS: usize = 32;
/// Bytes of a request's head; 8192 is the least that the parser takes.
const MAX_HEAD: usize = 8192;
/// Header fields of a request.
const MAX_HEADERS: usize = 32;
/// Bytes of a request: one with an RSA-4096 key and many names has 3 kB.
const MAX_BODY: usize = 16 << 10;
/// For a whole connection, slow links included.
const PATIENCE: Duration = Duration::from_secs(30);

/// How certificates are given out.
#[derive(Debug, Clone)]
pub struct EstSettings {
    /// The names and addresses by which gateways reach this server.
    pub hosts: Vec<String>,
    /// How long a gateway's certificate is valid.
    pub lasts: Duration,
}

/// The bound server.
#[derive(Debug)]
pub struct EstServer {
    listener: TcpListener,
    address: SocketAddr,
    store: Arc<AuthorityStore>,
    settings: EstSettings,
    shown: Shown,
    attempts: Mutex<Attempts>,
}

/// Why it does not serve.
#[derive(Debug, thiserror::Error)]
pub enum EstServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; choose another --listen, port 0 takes a free one")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The authority is out of order.
    #[error(transparent)]
    Store(#[from] AuthorityStoreError),
    /// TLS cannot be set up with what the authority issued.
    #[error("TLS cannot be set up with the authority's certificates")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl EstServer {
    /// Binds, and has its own certificate made.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the authority is out of order.
    pub async fn bind(
        address: SocketAddr,
        store: AuthorityStore,
        settings: EstSettings,
    ) -> Result<Self, EstServerError> {
        let failed = |source| EstServerError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let store = Arc::new(store);
        let shown = Shown::default();
        shown.tls(&store, &settings.hosts, SystemTime::now())?;
        let attempts = Mutex::new(Attempts::default());
        Ok(Self { listener, address, store, settings, shown, attempts })
    }

    /// Where it listens; the port is the real one when 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        listen::serve(
            "EST",
            MAX_CONNECTIONS,
            |context| self.listener.poll_accept(context),
            |(stream, peer)| self.connection(stream, peer),
            drop,
            stop,
        )
        .await;
    }

    async fn connection(&self, tcp: TcpStream, peer: SocketAddr) {
        match timeout(PATIENCE, self.conversation(tcp, peer)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => debug!(%peer, why, "EST connection ended"),
            Err(_) => debug!(%peer, "EST connection took too long"),
        }
    }

    async fn conversation(&self, tcp: TcpStream, peer: SocketAddr) -> Result<(), String> {
        let tls = self.shown.tls(&self.store, &self.settings.hosts, SystemTime::now());
        let tls = tls.map_err(|problem| {
            let why = crate::causes::chain(&problem);
            error!(why, "the authority's own certificate cannot be renewed");
            why
        })?;
        let acceptor = tokio_rustls::TlsAcceptor::from(tls);
        let stream = acceptor.accept(tcp).await.map_err(|error| error.to_string())?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|all| all.first());
        let shown = shown.map(|own| own.clone().into_owned());
        let service = service_fn(|request| {
            let shown = shown.clone();
            async move { Ok::<_, Infallible>(self.answer(request, shown, peer).await) }
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .keep_alive(false)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), service)
            .await
            .map_err(|error| error.to_string())
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        shown: Option<CertificateDer<'static>>,
        peer: SocketAddr,
    ) -> Response<Full<Bytes>> {
        if let Some(wait) = self.attempts().wait(peer.ip(), Instant::now()) {
            let mut response = text(StatusCode::TOO_MANY_REQUESTS, "too many wrong attempts");
            let seconds = HeaderValue::from(wait.as_secs().saturating_add(1));
            response.headers_mut().insert(RETRY_AFTER, seconds);
            return response;
        }
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long, or was cut");
        };
        let asked = Asked {
            method: head.method,
            path: head.uri.path().to_owned(),
            authorization: head.headers.get(AUTHORIZATION).and_then(answer::credential),
            body: body.to_bytes().to_vec(),
            shown,
            lasts: self.settings.lasts,
            now: SystemTime::now(),
        };
        let store = Arc::clone(&self.store);
        // It waits for the disk.
        let decided = tokio::task::spawn_blocking(move || answer::decide(&asked, &store)).await;
        let said = decided.unwrap_or_else(|_| Said::broken());
        if matches!(said.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.attempts().failed(peer.ip(), Instant::now());
        }
        said.log(peer);
        let mut response = Response::new(Full::new(said.body.into()));
        *response.status_mut() = said.status;
        for (header, value) in said.headers {
            let name = HeaderName::from_static(header);
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(status: StatusCode, said: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(said.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

#[cfg(test)]
mod tests;
