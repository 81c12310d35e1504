//! An HTTP proxy that connects whom it knows, and a TLS-terminating one behind it.
//!
//! # Invariants
//! - Its port stays the same for its whole life.
//! - When a call that changes it returns, connections that it had made are gone.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::family::{Family, Process};
use crate::{tools, wait};

/// How it treats whoever asks.
#[derive(Debug, Clone)]
struct Manners {
    /// The value of the header that it wants.
    wanted: String,
    /// Where it connects, whatever it is asked for; nothing is what it is asked for.
    instead: Option<SocketAddr>,
}

/// The proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    manners: watch::Sender<Manners>,
    connected: Arc<AtomicU32>,
    refused: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens, and knows one user.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn for_user(name: &str, password: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (manners, seen) =
            watch::channel(Manners { wanted: basic(name, password), instead: None });
        let (connected, refused) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let counters = (Arc::clone(&connected), Arc::clone(&refused));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut changes, counters) = (seen.clone(), counters.clone());
                let manners = changes.borrow_and_update().clone();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = serve(stream, manners, counters) => {}
                        _ = changes.changed() => {}
                    }
                });
            }
        });
        Ok(Self { address, manners, connected, refused, task })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Knows another password from now on, and cuts what it had connected.
    pub fn knows(&self, name: &str, password: &str) {
        self.manners.send_modify(|manners| manners.wanted = basic(name, password));
    }

    /// Connects to this address, whatever it is asked for, and cuts what it had connected.
    pub fn lead_to(&self, instead: Option<SocketAddr>) {
        self.manners.send_modify(|manners| manners.instead = instead);
    }

    /// How many times it connected somebody.
    #[must_use]
    pub fn connected(&self) -> u32 {
        self.connected.load(Ordering::Relaxed)
    }

    /// How many times it did not.
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    manners: Manners,
    (connected, refused): (Arc<AtomicU32>, Arc<AtomicU32>),
) -> anyhow::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
        if head.len() > 8192 {
            bail!("no end of the request");
        }
    }
    let head = String::from_utf8(head)?;
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split_once(' '));
    let (target, _) = target.context("not CONNECT")?;
    let known = head.lines().any(|line| {
        line.split_once(": ").is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("Proxy-Authorization") && value == manners.wanted
        })
    });
    if !known {
        refused.fetch_add(1, Ordering::Relaxed);
        let answer = "HTTP/1.1 407 Proxy Authentication Required\r\n\
                      Proxy-Authenticate: Basic realm=\"rig\"\r\nContent-Length: 0\r\n\r\n";
        return Ok(stream.write_all(answer.as_bytes()).await?);
    }
    let far = match manners.instead {
        Some(instead) => TcpStream::connect(instead).await,
        None => TcpStream::connect(target).await,
    };
    let Ok(mut far) = far else {
        let answer = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";
        return Ok(stream.write_all(answer.as_bytes()).await?);
    };
    connected.fetch_add(1, Ordering::Relaxed);
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut stream, &mut far).await?;
    Ok(())
}

/// `Basic` and the pair in base64 (RFC 7617).
fn basic(name: &str, password: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let pair = format!("{name}:{password}");
    let mut out = String::from("Basic ");
    for chunk in pair.as_bytes().chunks(3) {
        let mut group = [0; 4];
        for (at, byte) in chunk.iter().enumerate() {
            group[at + 1] = *byte;
        }
        let bits = u32::from_be_bytes(group);
        for at in 0..4 {
            let digit = (bits >> (18 - 6 * at)) & 63;
            let digit = usize::try_from(digit).unwrap_or_default();
            out.push(if at <= chunk.len() { char::from(DIGITS[digit]) } else { '=' });
        }
    }
    out
}

/// A TLS-terminating proxy: `way/tls_terminator.py` in a process of its own.
#[derive(Debug)]
pub struct Terminator {
    address: SocketAddr,
    _process: Process,
}

impl Terminator {
    /// In front of a server, under this certificate.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn in_front_of(
        family: &Arc<Family>,
        server: SocketAddr,
        (cert, key): (&Path, &Path),
        log: &Path,
    ) -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("way/tls_terminator.py");
        let mut command = family.command(tools::python()?);
        command.arg(script).arg(cert).arg(key).arg(server.to_string());
        let process = Process::start(family, "the TLS-terminating proxy", command, log)?;
        let address = wait::until(wait::SOON, "the TLS-terminating proxy listens", || {
            let said = process.printed_since(0);
            async move { Ok(said?.lines().next().and_then(|line| line.trim().parse().ok())) }
        })
        .await?;
        Ok(Self { address, _process: process })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_written_as_rfc_7617_has_it() {
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(basic("test", "123\u{a3}"), "Basic dGVzdDoxMjPCow==");
        assert_eq!(basic("a", "b"), "Basic YTpi");
    }
}
