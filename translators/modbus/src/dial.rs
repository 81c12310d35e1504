//! How a byte stream to a device is opened: TCP here, TLS over it in `tls`, a port in `serial`.

use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use crate::serial::SerialError;

/// What requests and answers travel on.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// An open byte stream, or why there is none.
pub type DialFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Box<dyn ByteStream>, DialError>> + Send + 'a>>;

/// Opens byte streams to one endpoint: TCP here, and the place where TLS or a test's script steps
/// in.
pub trait Dialer: Send + Sync {
    /// Opens a stream. The caller gives up at `deadline` by dropping the future; the dialer may
    /// use it to share the time among several addresses.
    fn dial(&self, deadline: Instant) -> DialFuture<'_>;
}

/// Why there is no byte stream.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address, or nobody could be asked.
    #[error("host {host} has no address")]
    Resolve {
        /// The configured host.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// Every address of the host refused.
    #[error("no connection to {endpoint}")]
    Connect {
        /// The address tried last.
        endpoint: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The serial port cannot be used.
    #[error(transparent)]
    Serial(#[from] SerialError),
}

/// Dials TCP with Nagle's algorithm off. The host name is resolved at every attempt, because a
/// device's address may change while it is away.
#[derive(Debug, Clone)]
pub struct TcpDialer {
    host: String,
    port: u16,
}

impl TcpDialer {
    /// A dialer for a host name or address.
    #[must_use]
    pub const fn new(host: String, port: u16) -> Self {
        Self { host, port }
    }

    pub(crate) async fn connect(&self, deadline: Instant) -> Result<TcpStream, DialError> {
        let unresolved = |source| DialError::Resolve { host: self.host.clone(), source };
        let addresses: Vec<_> =
            lookup_host((&*self.host, self.port)).await.map_err(unresolved)?.collect();
        let mut failure = unresolved(io::ErrorKind::NotFound.into());
        for (at, address) in addresses.iter().enumerate() {
            // One address that swallows packets must not use up the time of the others.
            let left = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
            let now = Instant::now();
            let share = now + deadline.saturating_duration_since(now) / left;
            let outcome = match timeout_at(share, TcpStream::connect(address)).await {
                Ok(outcome) => outcome.and_then(|stream| stream.set_nodelay(true).map(|()| stream)),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            match outcome {
                Ok(stream) => return Ok(stream),
                Err(source) => {
                    failure = DialError::Connect { endpoint: address.to_string(), source };
                }
            }
        }
        Err(failure)
    }
}

impl Dialer for TcpDialer {
    fn dial(&self, deadline: Instant) -> DialFuture<'_> {
        Box::pin(async move {
            let stream = self.connect(deadline).await?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}
