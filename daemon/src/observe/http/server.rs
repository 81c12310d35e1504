//! The HTTP listener.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::exposition;
use crate::observe::listen;
use crate::observe::state::{Board, HealthLimits, PartState};

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Another process has the port.
    #[error(
        "[metrics] listen: port {} of {} is in use; choose another port, or stop what has it \
         (ss -ltnp shows it)",
        .address.port(), .address.ip()
    )]
    InUse {
        /// The configured address.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("[metrics] listen: cannot listen on {address}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// How much one peer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at once; what comes beyond is closed.
    pub connections: usize,
    /// Bytes of a request's head; 8192 is the least that the parser takes.
    pub head: usize,
    /// Header fields of a request.
    pub headers: usize,
    /// Time for a whole connection.
    pub patience: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        let patience = Duration::from_secs(10);
        Self { connections: 16, head: 8192, headers: 64, patience }
    }
}

/// The bound listener; `serve` is a core task.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    board: Arc<Board>,
    health: HealthLimits,
    limits: HttpLimits,
}

impl HttpServer {
    /// Binds.
    ///
    /// # Errors
    /// When the port is in use, or the address cannot be listened on.
    pub async fn bind(
        address: SocketAddr,
        board: Arc<Board>,
        health: HealthLimits,
        limits: HttpLimits,
    ) -> Result<Self, HttpError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => HttpError::InUse { address },
            _ => HttpError::Listen { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, board, health, limits })
    }

    /// Where it listens; the port is the real one when 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        listen::serve(
            "metrics",
            self.limits.connections,
            |context| self.listener.poll_accept(context).map_ok(|(stream, _)| stream),
            |stream| self.connection(stream),
            |stream| {
                self.board.counters.http_refused.one();
                drop(stream);
            },
            stop,
        )
        .await;
    }

    async fn connection(&self, stream: TcpStream) {
        let answer = service_fn(|request: Request<Incoming>| {
            std::future::ready(Ok::<_, Infallible>(
                self.answer(request.method(), request.uri().path()),
            ))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .keep_alive(false)
            .max_buf_size(self.limits.head)
            .max_headers(self.limits.headers)
            .header_read_timeout(self.limits.patience)
            .serve_connection(TokioIo::new(stream), answer);
        match timeout(self.limits.patience, connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "metrics connection ended"),
            Err(_) => debug!("metrics connection took too long"),
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response =
                plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/metrics" => match exposition(&self.board, &self.health) {
                Ok(text) => response(StatusCode::OK, super::CONTENT_TYPE, text),
                Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics not available\n"),
            },
            "/healthz" => self.healthz(),
            _ => plain(StatusCode::NOT_FOUND, "/metrics and /healthz are answered here\n"),
        }
    }

    fn healthz(&self) -> Response<Full<Bytes>> {
        let health = self.board.health(&self.health);
        let status = match health.state {
            PartState::Up | PartState::Degraded => StatusCode::OK,
            PartState::Down => StatusCode::SERVICE_UNAVAILABLE,
        };
        match serde_json::to_string(&health) {
            Ok(text) => response(status, "application/json", text + "\n"),
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "health not available\n"),
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", text.to_owned())
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use tidegate_translator::{DeviceState, Sample, TagId, Timestamp, Value};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::observe::state::tests::board;

    struct Bench {
        address: SocketAddr,
        board: Arc<Board>,
        stop: CancellationToken,
        done: JoinHandle<()>,
    }

    async fn bench(limits: HttpLimits) -> Bench {
        let board = Arc::new(board());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let shared = Arc::clone(&board);
        let server = HttpServer::bind(any, shared, HealthLimits::default(), limits).await.unwrap();
        let address = server.address();
        let stop = CancellationToken::new();
        let done = tokio::spawn(server.serve(stop.clone()));
        Bench { address, board, stop, done }
    }

    impl Bench {
        async fn raw(&self, request: &[u8]) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            // The server may answer and close before it has read everything.
            let _ = stream.write_all(request).await;
            let mut answer = Vec::new();
            let _ =
                timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap();
            String::from_utf8(answer).unwrap()
        }
        async fn get(&self, path: &str) -> (u16, String, String) {
            let answer =
                self.raw(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            (status, head.to_lowercase(), body.to_owned())
        }
        async fn end(self) {
            self.stop.cancel();
            self.done.await.unwrap();
        }
    }

    #[tokio::test]
    async fn metrics_come_with_the_content_type_of_openmetrics() {
        let bench = bench(HttpLimits::default()).await;
        let (status, head, body) = bench.get("/metrics").await;
        assert_eq!(status, 200);
        let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert!(head.contains(kind), "{head}");
        assert!(body.contains("tidegate_uptime_seconds") && body.ends_with("# EOF\n"));
        bench.end().await;
    }

    #[tokio::test]
    async fn health_is_503_with_the_part_that_is_down_and_200_when_none_is() {
        let bench = bench(HttpLimits::default()).await;
        bench.board.update_journal(|journal| journal.writable = true);
        bench.board.note_device("press-2", DeviceState::Down, Some("silent for 3 s".into()));
        let (status, _, body) = bench.get("/healthz").await;
        let health: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &health["state"]), (503, &"down".into()));
        assert_eq!(health["parts"][1]["part"], "device press-2");
        assert_eq!(health["parts"][1]["why"], "silent for 3 s");
        bench.board.note_device("press-2", DeviceState::Live, None);
        bench.board.note_device("press-1", DeviceState::Live, None);
        bench.board.note_samples(&[Sample::good(TagId(3), Timestamp(0), Value::I64(1))]);
        let (status, _, body) = bench.get("/healthz").await;
        let health: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &health["state"]), (200, &"up".into()));
        assert!(health["parts"][1]["data_age_ms"].is_u64(), "{health}");
        bench.end().await;
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_told_what_there_is() {
        let bench = bench(HttpLimits::default()).await;
        assert_eq!(bench.get("/").await.0, 404);
        let answer =
            bench.raw(b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("allow: GET, HEAD"));
        bench.end().await;
    }

    #[tokio::test]
    async fn a_port_in_use_names_the_port_and_the_key() {
        let bench = bench(HttpLimits::default()).await;
        let board = Arc::clone(&bench.board);
        let health = HealthLimits::default();
        let again = HttpServer::bind(bench.address, board, health, HttpLimits::default()).await;
        let error = again.unwrap_err().to_string();
        assert!(error.contains("[metrics] listen"), "{error}");
        assert!(error.contains(&bench.address.port().to_string()), "{error}");
        bench.end().await;
    }

    #[tokio::test]
    async fn an_endless_head_and_too_many_headers_are_refused() {
        let bench = bench(HttpLimits::default()).await;
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
        let answer = bench.raw(long.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
        assert!(bench.raw(many.as_bytes()).await.starts_with("HTTP/1.1 431"));
        assert_eq!(bench.get("/metrics").await.0, 200);
        bench.end().await;
    }

    #[tokio::test]
    async fn a_slow_peer_is_cut_off_and_one_too_many_is_closed_and_counted() {
        let patience = Duration::from_millis(500);
        let limits = HttpLimits { connections: 1, patience, ..HttpLimits::default() };
        let bench = bench(limits).await;
        let mut slow = TcpStream::connect(bench.address).await.unwrap();
        slow.write_all(b"GET /met").await.unwrap();
        let mut rest = Vec::new();
        let cut = timeout(Duration::from_secs(10), slow.read_to_end(&mut rest)).await.unwrap();
        assert!(cut.is_err() || !rest.starts_with(b"HTTP/1.1 200"));
        assert_eq!(bench.get("/metrics").await.0, 200);
        bench.end().await;
    }

    #[tokio::test]
    async fn one_connection_too_many_is_closed_and_counted() {
        let bench = bench(HttpLimits { connections: 1, ..HttpLimits::default() }).await;
        let first = TcpStream::connect(bench.address).await.unwrap();
        assert_eq!(bench.raw(b"GET /metrics HTTP/1.1\r\n\r\n").await, "");
        assert_eq!(bench.board.counters.http_refused.read(), 1);
        drop(first);
        bench.end().await;
    }
}
