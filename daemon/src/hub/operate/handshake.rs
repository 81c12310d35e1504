//! What a listener of a hub really shows.
//!
//! # Invariants
//! - The certificate is verified as a gateway verifies it: it leads to the authority, carries the
//!   name that is dialled, and is valid now.
//! - Every wait is bounded.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// How long each step of a handshake may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The longest greeting that is read; a server's is about 600 bytes.
const GREETING: usize = 32 << 10;

/// Why a listener did not show a certificate that counts.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Nobody listens, or it fell silent.
    #[error("{address} does not answer")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The certificate does not count.
    #[error("{address} shows a certificate that is not accepted for {host}")]
    NotAccepted {
        /// Where.
        address: SocketAddr,
        /// The name that it was asked for.
        host: String,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// The name cannot stand in a certificate, or the authority cannot be used.
    #[error(
        "no handshake with {address} can be made for {host:?}; see hosts in hub.toml and ca.pem"
    )]
    Setup {
        /// Where.
        address: SocketAddr,
        /// The name.
        host: String,
    },
}

/// Makes a handshake and returns the certificate that was shown. `greets` says whether the server
/// speaks first, as it does on its client and leaf ports.
///
/// # Errors
/// When nobody answers in time, or what is shown does not count.
pub fn shown(
    address: SocketAddr,
    host: &str,
    greets: bool,
    roots: &[CertificateDer<'static>],
) -> Result<CertificateDer<'static>, HandshakeError> {
    let setup = || HandshakeError::Setup { address, host: host.to_owned() };
    let unreachable = |source| HandshakeError::Unreachable { address, source };
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|_| setup())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| setup())?
        .with_root_certificates(store)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|_| setup())?;
    let mut tls = ClientConnection::new(Arc::new(config), name).map_err(|_| setup())?;

    let mut tcp = TcpStream::connect_timeout(&address, DEADLINE).map_err(unreachable)?;
    tcp.set_read_timeout(Some(DEADLINE)).map_err(unreachable)?;
    tcp.set_write_timeout(Some(DEADLINE)).map_err(unreachable)?;
    if greets {
        greeting(&mut tcp).map_err(unreachable)?;
    }
    while tls.is_handshaking() {
        match tls.complete_io(&mut tcp) {
            Ok(_) => {}
            Err(source) if source.kind() == io::ErrorKind::InvalidData => {
                return Err(HandshakeError::NotAccepted { address, host: host.to_owned(), source });
            }
            Err(source) => return Err(unreachable(source)),
        }
    }
    let shown = tls.peer_certificates().and_then(<[_]>::first).map(|it| it.clone().into_owned());
    tls.send_close_notify();
    // The listener asked for a certificate and got none; it has hung up by now, or will.
    let _ = tls.write_tls(&mut tcp).and_then(|_| tcp.flush());
    shown.ok_or_else(setup)
}

/// Reads the line with which a server begins, byte for byte: what follows is TLS.
fn greeting(tcp: &mut TcpStream) -> io::Result<()> {
    let mut byte = [0];
    for _ in 0..GREETING {
        tcp.read_exact(&mut byte)?;
        if byte == *b"\n" {
            return Ok(());
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the greeting has no end"))
}
