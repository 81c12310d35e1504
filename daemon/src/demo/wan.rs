//! The WAN of the demo: a TCP relay between the gateway's leaf and the hub that can be cut.
//!
//! # Invariants
//! - A cut closes every connection and accepts none, as an unplugged modem behind a firewall that
//!   answers would; it needs no privileges.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A thin line, so that draining can be watched: 64 kbit/s.
const BYTES_PER_SECOND: u32 = 8 * 1024;

/// Bytes that are carried at a time: an eighth of a second's worth.
const CHUNK: usize = 1024;

/// Relays at most this many connections: a gateway needs two.
const MAX_CONNECTIONS: usize = 64;

/// A link that can be cut and restored.
#[derive(Debug)]
pub(super) struct Wan {
    listen: SocketAddr,
    up: watch::Sender<bool>,
}

impl Wan {
    /// Listens on a free loopback port and relays to `hub` as a task of `tasks`.
    ///
    /// # Errors
    /// When no loopback port can be had.
    pub(super) async fn new(hub: SocketAddr, tasks: &mut JoinSet<()>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let listen = listener.local_addr()?;
        let (up, state) = watch::channel(true);
        tasks.spawn(relay(listener, hub, state));
        Ok(Self { listen, up })
    }

    /// Where the gateway's leaf connects.
    pub(super) const fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Closes every connection and refuses new ones.
    pub(super) fn cut(&self) {
        self.up.send_replace(false);
    }

    /// Lets connections through again.
    pub(super) fn restore(&self) {
        self.up.send_replace(true);
    }
}

async fn relay(listener: TcpListener, hub: SocketAddr, mut state: watch::Receiver<bool>) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
                if !*state.borrow_and_update() {
                    links.abort_all();
                }
            }
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { continue };
                if *state.borrow() && links.len() < MAX_CONNECTIONS {
                    links.spawn(one_link(near, hub));
                }
            }
            Some(_) = links.join_next() => {}
        }
    }
}

async fn one_link(near: TcpStream, hub: SocketAddr) {
    let Ok(far) = TcpStream::connect(hub).await else { return };
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    // Either side closing ends both.
    tokio::select! {
        () = carry(near_in, far_out) => {}
        () = carry(far_in, near_out) => {}
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let Some(carried) = chunk.get(..count) else { return };
        if to.write_all(carried).await.is_err() {
            return;
        }
        let bytes = u32::try_from(count).unwrap_or(u32::MAX);
        tokio::time::sleep(Duration::from_secs(1) * bytes / BYTES_PER_SECOND).await;
    }
}
