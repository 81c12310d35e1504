//! Modbus/TCP Security: the same frames inside TLS 1.2 or 1.3.
//!
//! # Invariants
//! - No connection without a certificate of the device that is trusted, in its time, and in the
//!   name that was dialled.
//! - The files behind a configuration are read again at each dial; nothing is resumed.
//! - Under TLS 1.3 a device refuses us only after the handshake, at our first reading. Until the
//!   first byte came, an end of the stream is told as that refusal.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::dial::{ByteStream, DialError, DialFuture, Dialer, TcpDialer};
use crate::spec::{Endpoint, TlsSpec};

/// Makes the TLS side of connections to devices. Called at each dial, on a thread that may block,
/// so that new files count without a restart.
pub trait TlsSource: Send + Sync {
    /// The configuration that trusts and shows what the spec names.
    ///
    /// # Errors
    /// When a file is missing or unusable; the error says which and what helps.
    fn config(&self, spec: &TlsSpec) -> Result<Arc<ClientConfig>, Box<dyn Error + Send + Sync>>;
}

/// Dials TCP, and TLS over it.
#[derive(Clone)]
pub struct TlsDialer {
    tcp: TcpDialer,
    host: String,
    spec: TlsSpec,
    source: Arc<dyn TlsSource>,
}

impl TlsDialer {
    /// A dialer for an endpoint.
    #[must_use]
    pub fn new(to: &Endpoint, spec: TlsSpec, source: Arc<dyn TlsSource>) -> Self {
        Self { tcp: TcpDialer::new(to.host.clone(), to.port), host: to.host.clone(), spec, source }
    }

    async fn secure(&self, deadline: Instant) -> Result<Secured<TcpStream>, DialError> {
        let name = self.spec.server_name.as_ref().unwrap_or(&self.host);
        let server = server_name(name).ok_or_else(|| TlsError::Name { name: name.clone() })?;
        let (source, spec) = (Arc::clone(&self.source), self.spec.clone());
        let config = tokio::task::spawn_blocking(move || source.config(&spec)).await;
        let config = config
            .unwrap_or_else(|stopped| Err(Box::new(stopped)))
            .map_err(|source| TlsError::Files { source })?;
        let stream = self.tcp.connect(deadline).await?;
        let shows = self.spec.identity.is_some();
        match TlsConnector::from(config).connect(server, stream).await {
            Ok(inner) => Ok(Secured { inner, shows, heard: false }),
            Err(error) => Err(TlsError::of(error, name, shows).into()),
        }
    }
}

impl Dialer for TlsDialer {
    fn dial(&self, deadline: Instant) -> DialFuture<'_> {
        Box::pin(async move { Ok(Box::new(self.secure(deadline).await?) as Box<dyn ByteStream>) })
    }
}

impl std::fmt::Debug for TlsDialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsDialer").field("host", &self.host).finish_non_exhaustive()
    }
}

fn server_name(name: &str) -> Option<ServerName<'static>> {
    match name.parse::<IpAddr>() {
        Ok(address) => Some(ServerName::from(address)),
        Err(_) => ServerName::try_from(name.to_owned()).ok(),
    }
}

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Our side cannot be set up.
    #[error("TLS to the device cannot be set up")]
    Files {
        /// Which file, and what helps.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// No certificate could carry this name.
    #[error(
        "{name:?} is no host name or address that a certificate can carry; set tls.server-name"
    )]
    Name {
        /// The configured name.
        name: String,
    },
    /// The device's certificate is over.
    #[error("the device's certificate has expired; renew it on the device, or correct the clock")]
    Expired,
    /// The device's certificate has not begun.
    #[error(
        "the device's certificate is not yet valid; correct the clock here or where it was issued"
    )]
    NotYetValid,
    /// The device's certificate is somebody else's.
    #[error(
        "the device's certificate is not for {name}; set tls.server-name to a name in it, or issue one for {name}"
    )]
    WrongName {
        /// The name that was expected.
        name: String,
    },
    /// Nobody whom we trust signed it.
    #[error(
        "the device's certificate comes from an authority that is not in tls.ca; add that authority's certificate there"
    )]
    UnknownAuthority,
    /// It is bad in another way.
    #[error("the device's certificate cannot be trusted; issue it another one")]
    Untrusted {
        /// In which.
        #[source]
        source: rustls::Error,
    },
    /// The device does not want us.
    #[error("the device refused us: {}", remedy(*.alert, *.shows))]
    Refused {
        /// What it said, where it said anything.
        alert: Option<AlertDescription>,
        /// Whether we have a certificate.
        shows: bool,
    },
    /// What came is no TLS.
    #[error("the device does not speak TLS on this port; the secure port is mostly 802")]
    NoTls,
    /// Something else went wrong before the connection was secure.
    #[error("TLS handshake with the device failed")]
    Handshake {
        /// What.
        #[source]
        source: io::Error,
    },
}

impl TlsError {
    fn of(error: io::Error, name: &str, shows: bool) -> Self {
        use CertificateError as Bad;
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(bad)) => match bad {
                Bad::Expired | Bad::ExpiredContext { .. } => Self::Expired,
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => Self::NotYetValid,
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                    Self::WrongName { name: name.to_owned() }
                }
                // A signature that is wrong is that of an authority with the same name.
                Bad::UnknownIssuer | Bad::BadSignature => Self::UnknownAuthority,
                other => {
                    Self::Untrusted { source: rustls::Error::InvalidCertificate(other.clone()) }
                }
            },
            Some(rustls::Error::AlertReceived(alert)) => {
                Self::Refused { alert: Some(*alert), shows }
            }
            Some(rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. }) => {
                Self::NoTls
            }
            None if is_end(&error) => Self::Refused { alert: None, shows },
            _ => Self::Handshake { source: error },
        }
    }
}

/// What a peer's end looks like that gives no reason.
fn is_end(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(
        kind,
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

/// What an alert means for us. The names are RFC 8446's, section 6.2.
fn remedy(alert: Option<AlertDescription>, shows: bool) -> String {
    use AlertDescription as Alert;
    let ours_is_missing = "it wants a certificate of ours; set tls.cert and tls.key";
    let Some(alert) = alert else {
        return if shows {
            "it closed the connection without a word; it probably does not accept our certificate"
        } else {
            "it closed the connection without a word; if it wants a certificate of ours, set tls.cert and tls.key"
        }
        .to_owned();
    };
    match alert {
        Alert::CertificateRequired | Alert::NoCertificate => ours_is_missing.to_owned(),
        // What devices with TLS 1.2 say when no certificate comes.
        Alert::HandshakeFailure | Alert::BadCertificate if !shows => {
            format!("{ours_is_missing} ({alert:?})")
        }
        Alert::CertificateExpired => "our certificate has expired; renew tls.cert".to_owned(),
        Alert::CertificateRevoked => "our certificate was revoked; renew tls.cert".to_owned(),
        // The latter when it trusts one with the same name and another key.
        Alert::UnknownCA | Alert::DecryptError if shows => {
            "it does not know the authority of our certificate; add that one on the device, or take a tls.cert that it knows".to_owned()
        }
        Alert::BadCertificate | Alert::UnsupportedCertificate | Alert::CertificateUnknown => {
            format!("it does not accept our certificate in tls.cert ({alert:?})")
        }
        Alert::AccessDenied => "our certificate gives us no access; check the role in it".to_owned(),
        Alert::UnrecognisedName => {
            "it does not know the name it was called by; set tls.server-name".to_owned()
        }
        Alert::ProtocolVersion => "it speaks neither TLS 1.2 nor 1.3; update it".to_owned(),
        Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            "it has no cipher or signature in common with us; see what its certificate and settings allow".to_owned()
        }
        other => format!("{other:?}"),
    }
}

/// A TLS stream that tells why a device hangs up on us.
struct Secured<S> {
    inner: TlsStream<S>,
    shows: bool,
    /// Whether anything came: then the device has accepted us.
    heard: bool,
}

impl<S> Secured<S> {
    fn told(&self, error: io::Error) -> io::Error {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let alert = match inner {
            Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
            None if !self.heard && is_end(&error) => None,
            _ => return error,
        };
        // A lost connection to those above, not a broken answer.
        let refused = TlsError::Refused { alert, shows: self.shows };
        io::Error::new(ErrorKind::ConnectionAborted, refused)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secured<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        let outcome = match outcome {
            Ok(()) if buf.filled().len() == before && !self.heard => {
                Err(ErrorKind::UnexpectedEof.into())
            }
            other => other,
        };
        self.heard |= outcome.is_ok();
        Poll::Ready(outcome.map_err(|error| self.told(error)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secured<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = ready!(Pin::new(&mut self.inner).poll_write(cx, buf));
        Poll::Ready(outcome.map_err(|error| self.told(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        Poll::Ready(outcome.map_err(|error| self.told(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
