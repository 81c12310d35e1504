//! An HTTP proxy that is asked to CONNECT (RFC 9110, 9.3.6).
//!
//! # Invariants
//! - Not one byte beyond the end of the proxy's answer is read: it is the hub's.
//! - Name and password are sent at once: a proxy that asks for them first closes the connection in
//!   many cases. Nothing of them is in an error.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::conversation::Head;
use super::dial::{authority, base64};
use super::{ProxyAccess, WayError};
use crate::config::HubUrl;

/// The longest answer, in bytes.
const LONGEST: usize = 16 * 1024;

/// A tunnel to a hub.
pub(super) async fn connect(proxy: &ProxyAccess, url: &HubUrl) -> Result<TcpStream, WayError> {
    let shown = crate::config::Proxy { host: proxy.host.clone(), port: proxy.port, user: None };
    let shown = shown.to_string();
    let unreachable = |source| WayError::Unreachable { to: format!("the proxy {shown}"), source };
    let mut stream =
        TcpStream::connect((proxy.host.as_str(), proxy.port)).await.map_err(unreachable)?;
    let request = request(proxy, url);
    stream.write_all(request.as_bytes()).await.map_err(unreachable)?;
    let mut head = Vec::new();
    // A byte at a time: what comes after it is not for us, and it is short.
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST {
        head.push(stream.read_u8().await.map_err(unreachable)?);
    }
    let answer = Head::of(&head);
    if answer.is_success() {
        return Ok(stream);
    }
    let remedy = match answer.code() {
        "407" => "; correct proxy-user and proxy-password-file in [hub]",
        "403" | "405" => "; have it permit CONNECT to this host and port",
        "502" | "503" | "504" => "; the hub is away, or the proxy does not reach it",
        _ => "",
    };
    Err(WayError::Proxy { proxy: shown, to: url.to_string(), status: answer.status, remedy })
}

fn request(proxy: &ProxyAccess, url: &HubUrl) -> Zeroizing<String> {
    let to = authority(url);
    let mut request = Zeroizing::new(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n"));
    if let Some((name, password)) = proxy.user() {
        let pair = Zeroizing::new(format!("{name}:{password}"));
        let pair = Zeroizing::new(base64(pair.as_bytes()));
        request.push_str("Proxy-Authorization: Basic ");
        request.push_str(&pair);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request
}
