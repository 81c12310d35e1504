//! From a URL to a conversation: TCP or the proxy's tunnel, TLS, and the WebSocket's handshake.
//!
//! # Invariants
//! - Of `tls://` the hub's greeting comes before TLS, as nats-server has it; of `wss://` nothing is
//!   said before TLS.
//! - The key of a WebSocket's handshake guards against caches of plain HTTP, and here TLS and a
//!   verified name do: its echo is not checked.

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::conversation::{Conversation, Io};
use super::{Access, WayError, proxy};
use crate::config::{HubScheme, HubUrl};

/// The longest answer to a handshake, in bytes.
const LONGEST_ANSWER: usize = 16 * 1024;

/// Where leaf nodes ask nats-server for a WebSocket.
const PATH: &str = "/leafnode";

impl Access {
    /// The first connection of the way: to the hub, or through the proxy to it.
    async fn connect(&self, url: &HubUrl) -> Result<TcpStream, WayError> {
        let (host, port) = (url.host.as_str(), url.port);
        let Some(proxy) = &self.proxy else {
            let unreachable = |source| WayError::Unreachable { to: url.to_string(), source };
            return TcpStream::connect((host, port)).await.map_err(unreachable);
        };
        proxy::connect(proxy, url).await
    }

    /// Connects to a hub, up to where its greeting can be read.
    pub(super) async fn dial(&self, url: &HubUrl) -> Result<Conversation, WayError> {
        let stream = self.connect(url).await?;
        // What is asked is small, and waits for an answer.
        let _ = stream.set_nodelay(true);
        if url.scheme != HubScheme::WebSocket {
            return Ok(Conversation::plain(Box::new(stream), url));
        }
        let mut conversation = Conversation::plain(self.encrypt(Box::new(stream), url).await?, url);
        let mut key = [0; 16];
        // It guards nothing here, so a weak one does.
        let _ = getrandom::fill(&mut key);
        let request = format!(
            "GET {PATH} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\n\r\n",
            authority(url),
            base64(&key)
        );
        conversation.send(request.as_bytes()).await?;
        let answer = conversation.head(LONGEST_ANSWER).await?;
        if !answer.is_status("101") {
            return Err(WayError::NoWebSocket { to: url.to_string(), status: answer.status });
        }
        Ok(conversation.framed())
    }

    /// TLS over what is connected, as the leaf speaks it.
    pub(super) async fn encrypt(
        &self,
        stream: Box<dyn Io>,
        url: &HubUrl,
    ) -> Result<Box<dyn Io>, WayError> {
        let to = || url.to_string();
        let unusable = |source| WayError::Tls { to: to(), source };
        let config = self.tls().map_err(|error| unusable(std::io::Error::other(error)))?;
        let config = config.ok_or_else(|| WayError::NoCertificates { to: to() })?;
        let name = ServerName::try_from(url.host.clone())
            .map_err(|_| WayError::HostName { host: url.host.clone() })?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(unusable)?;
        Ok(Box::new(stream))
    }
}

/// `host:port` of a URL.
pub(super) fn authority(url: &HubUrl) -> String {
    let text = url.to_string();
    text.split_once("://").map_or_else(String::new, |(_, authority)| authority.to_owned())
}

/// Base64 with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
