//! Streamable HTTP for agents on the same machine.
//!
//! # Invariants
//! - Loopback only: whoever may connect may ask, so nobody from elsewhere can.
//! - A page in a browser cannot ask: requests with another `Host` or with an `Origin` are refused.
//! - Connections and the size of a request are bounded.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::tools::Tools;
use crate::observe::listen;

/// Agents on one machine.
const MAX_CONNECTIONS: usize = 32;

/// The longest request, in bytes: a tool's arguments are a few hundred.
const MAX_REQUEST: usize = 256 * 1024;

type Service = StreamableHttpService<Tools, LocalSessionManager>;

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
        listen::serve(
            "MCP",
            MAX_CONNECTIONS,
            |context| self.0.poll_accept(context).map_ok(|(stream, _)| stream),
            |stream| converse(stream, service.clone()),
            drop,
            stop,
        )
        .await;
    }
}

async fn converse(stream: TcpStream, service: TowerToHyperService<Service>) {
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
    {
        tracing::debug!("a connection ended: {error}");
    }
}
