//! One request and its answer over TLS.
//!
//! # Invariants
//! - Each exchange has a connection of its own, and no session is resumed: what was trusted a minute
//!   ago says nothing about now.
//! - Time, bytes of the head and bytes of the body are bounded, whoever answers.
//! - A header that holds a secret is marked so, and its text is wiped here; the copies in the HTTP
//!   and TLS libraries' buffers are out of reach and go with the connection.

use std::error::Error as _;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::url::EstUrl;

/// How long and how much an authority may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EstLimits {
    /// For a TCP connection and for a TLS handshake, each.
    pub connect: Duration,
    /// For everything from dialling to the last byte of the answer. Some authorities ask another
    /// one behind them.
    pub exchange: Duration,
    /// Bytes of an answer: 32 certificates with RSA-4096 keys in base64 are 100 kB.
    pub body: usize,
}

impl Default for EstLimits {
    fn default() -> Self {
        let (connect, exchange) = (Duration::from_secs(10), Duration::from_secs(60));
        Self { connect, exchange, body: 256 << 10 }
    }
}

/// Bytes of an answer's head.
const MAX_HEAD: usize = 16 << 10;
/// Header fields of an answer.
const MAX_HEADERS: usize = 64;

const HUNG_UP: &str = "it hung up before the answer was whole";

/// What is asked.
pub(super) struct Ask<'a> {
    pub(super) operation: &'static str,
    /// PKCS #10 in base64: a `POST`. Without, a `GET`.
    pub(super) body: Option<&'a str>,
    pub(super) authorization: Option<Zeroizing<String>>,
}

/// What was answered.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// `Retry-After` in seconds; a date is taken for nothing.
    pub(super) retry_after: Option<Duration>,
    /// The schemes of `WWW-Authenticate`, in lower case.
    pub(super) schemes: Vec<String>,
    pub(super) body: Vec<u8>,
    /// What the server showed in the handshake.
    pub(super) shown: Vec<CertificateDer<'static>>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Not reached, or it fell silent.
    Away(String),
    /// Its certificate is not trusted.
    Untrusted(String),
    /// It does not take the certificate that was shown.
    Rejected(String),
    /// It answers with what is no HTTP, or too much of it.
    Junk(String),
}

/// Asks, within the limits.
pub(super) async fn exchange(
    url: &EstUrl,
    tls: Arc<ClientConfig>,
    ask: &Ask<'_>,
    limits: &EstLimits,
) -> Result<Reply, Trouble> {
    match tokio::time::timeout(limits.exchange, unbounded(url, tls, ask, limits)).await {
        Ok(done) => done,
        Err(_) => Err(Trouble::Away(format!("no whole answer within {:?}", limits.exchange))),
    }
}

async fn unbounded(
    url: &EstUrl,
    tls: Arc<ClientConfig>,
    ask: &Ask<'_>,
    limits: &EstLimits,
) -> Result<Reply, Trouble> {
    let name = ServerName::try_from(url.host().to_owned())
        .map_err(|error| Trouble::Away(error.to_string()))?;
    let request = request(url, ask)?;
    let dial = TcpStream::connect((url.host(), url.port()));
    let tcp = within(limits.connect, "connection", dial).await?;
    let handshake = TlsConnector::from(tls).connect(name, tcp);
    let stream = within(limits.connect, "TLS handshake", handshake).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let shown = shown.iter().map(|one| one.clone().into_owned()).collect();
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let (mut sender, connection) =
        http.handshake(TokioIo::new(stream)).await.map_err(|error| of_http(&error))?;
    let answer = pin!(async {
        let response = sender.send_request(request).await.map_err(|error| of_http(&error))?;
        let (head, body) = response.into_parts();
        let body =
            Limited::new(body, limits.body).collect().await.map_err(|error| match error
                .downcast_ref::<hyper::Error>()
            {
                Some(error) => of_http(error),
                None => Trouble::Junk(format!("an answer of more than {} bytes", limits.body)),
            })?;
        Ok((head, body.to_bytes().to_vec()))
    });
    let mut answer = answer;
    let (head, body) = tokio::select! {
        biased;
        done = &mut answer => done,
        ended = connection => match (answer.await, ended) {
            (Err(_), Err(error)) => Err(of_http(&error)),
            (done, _) => done,
        },
    }?;
    Ok(Reply {
        status: head.status,
        retry_after: retry_after(&head.headers),
        schemes: schemes(&head.headers),
        body,
        shown,
    })
}

async fn within<T>(
    limit: Duration,
    what: &str,
    doing: impl Future<Output = io::Result<T>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(limit, doing).await {
        Ok(done) => done.map_err(|error| of_io(&error)),
        Err(_) => Err(Trouble::Away(format!("no {what} within {limit:?}"))),
    }
}

fn request(url: &EstUrl, ask: &Ask<'_>) -> Result<Request<Full<Bytes>>, Trouble> {
    let mut request = Request::builder()
        .method(if ask.body.is_some() { Method::POST } else { Method::GET })
        .uri(url.operation(ask.operation))
        .header(HOST, url.authority())
        .header(ACCEPT, "application/pkcs7-mime");
    if let Some(secret) = &ask.authorization {
        let value = HeaderValue::from_str(secret);
        // Without the cause: it could hold a part of the secret.
        let mut value =
            value.map_err(|_| Trouble::Away("the token cannot stand in a header".to_owned()))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    if ask.body.is_some() {
        request = request
            .header(CONTENT_TYPE, "application/pkcs10")
            .header("Content-Transfer-Encoding", "base64");
    }
    let body = Bytes::copy_from_slice(ask.body.unwrap_or_default().as_bytes());
    request.body(Full::new(body)).map_err(|error| Trouble::Away(error.to_string()))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

fn schemes(headers: &HeaderMap) -> Vec<String> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    // Several challenges may stand in one field, with commas in and between them.
    let words =
        texts.flat_map(|text| text.split(',')).filter_map(|part| part.split_whitespace().next());
    words.filter(|word| !word.contains('=')).map(str::to_ascii_lowercase).collect()
}

/// What a failed read or write says about the other side.
fn of_io(error: &io::Error) -> Trouble {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => Trouble::Untrusted(untrusted(why)),
        Some(rustls::Error::NoCertificatesPresented) => {
            Trouble::Untrusted("it shows no certificate".to_owned())
        }
        Some(rustls::Error::AlertReceived(alert)) => match rejected(*alert) {
            Some(why) => Trouble::Rejected(why.to_owned()),
            None => Trouble::Away(format!("TLS ended with its alert {alert:?}")),
        },
        Some(other) => Trouble::Away(format!("TLS failed: {other}")),
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Trouble::Away(HUNG_UP.to_owned()),
            _ => Trouble::Away(error.to_string()),
        },
    }
}

fn of_http(error: &hyper::Error) -> Trouble {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return of_io(error);
        }
        cause = inner.source();
    }
    if error.is_parse() || error.is_parse_too_large() {
        return Trouble::Junk(format!("no HTTP ({error})"));
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Trouble::Away(HUNG_UP.to_owned());
    }
    Trouble::Away(error.to_string())
}

fn untrusted(why: &CertificateError) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired by this clock".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet by this clock".to_owned()
        }
        // A root of the same name with another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate leads to none of the trusted roots".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host".to_owned()
        }
        other => format!("its certificate is refused: {other}"),
    }
}

/// RFC 8446, 6.2: the alerts by which a server says that it does not like the certificate.
fn rejected(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateExpired => "the certificate that was shown has expired",
        AlertDescription::CertificateRevoked => "the certificate that was shown is revoked",
        AlertDescription::UnknownCA => {
            "the certificate that was shown is from an authority that it does not know"
        }
        AlertDescription::CertificateRequired => "it wants to be shown a certificate",
        AlertDescription::AccessDenied => "access is denied to the certificate that was shown",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown => "the certificate that was shown is not taken",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemes_of_a_challenge_are_found_whatever_stands_beside_them() {
        let mut headers = HeaderMap::new();
        let text = "Digest realm=\"a, b\", nonce=\"x\", Bearer realm=\"est\"";
        headers.append(WWW_AUTHENTICATE, text.parse().unwrap());
        headers.append(WWW_AUTHENTICATE, "basic realm=\"est\"".parse().unwrap());
        let found = schemes(&headers);
        assert!(["digest", "bearer", "basic"].iter().all(|one| found.iter().any(|f| f == one)));
        assert!(schemes(&HeaderMap::new()).is_empty());
    }

    #[test]
    fn a_wait_is_told_in_seconds() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("Fri, 31 Dec 2027 23:59:59 GMT"), None);
        assert_eq!(of("-1"), None);
    }

    #[test]
    fn a_secret_in_a_header_is_not_shown() {
        let url = "https://ca".parse().unwrap();
        let secret = Some(Zeroizing::new("Bearer canary".to_owned()));
        let ask = Ask { operation: "simpleenroll", body: Some("AAAA"), authorization: secret };
        let request = request(&url, &ask).unwrap();
        assert_eq!(request.method(), Method::POST);
        assert!(!format!("{request:?}").contains("canary"));
    }
}
