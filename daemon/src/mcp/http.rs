//! Streamable HTTP for agents on the same machine.
//!
//! # Invariants
//! - Loopback only: whoever may connect may ask, so nobody from elsewhere can.
//! - A page in a browser cannot ask: requests with another `Host` or with an `Origin` are refused.
//! - Connections and the size of a request are bounded.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::tools::Tools;

/// Agents on one machine.
const MAX_CONNECTIONS: usize = 32;

/// The longest request, in bytes: a tool's arguments are a few hundred.
const MAX_REQUEST: usize = 256 * 1024;

/// Where agents connect, once bound.
#[derive(Debug)]
pub(super) struct Listener(TcpListener);

/// Binds. Port 0 lets the system choose.
///
/// # Errors
/// When the address is taken, or none of loopback.
pub(super) async fn bind(listen: SocketAddr) -> io::Result<Listener> {
    if !listen.ip().is_loopback() {
        let text = format!("{listen} is not loopback; write 127.0.0.1:{}", listen.port());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    TcpListener::bind(listen).await.map(Listener)
}

impl Listener {
    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves until `stop`.
    pub(super) async fn serve(self, tools: Tools, stop: CancellationToken) {
        let config = StreamableHttpServerConfig::default()
            .with_cancellation_token(stop.child_token())
            .with_max_request_body_bytes(MAX_REQUEST)
            .enforce_origin_validation();
        let sessions = Arc::new(LocalSessionManager::default());
        let service = StreamableHttpService::new(move || Ok(tools.clone()), sessions, config);
        let service = TowerToHyperService::new(service);
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let stream = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.0.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!("a connection was not accepted: {error}");
                        continue;
                    }
                },
            };
            let (service, stop) = (service.clone(), stop.clone());
            tokio::spawn(async move {
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    () = stop.cancelled() => {}
                    ended = serving => if let Err(error) = ended {
                        tracing::debug!("a connection ended: {error}");
                    }
                }
                drop(place);
            });
        }
    }
}
