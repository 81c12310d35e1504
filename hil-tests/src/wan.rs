//! The wide-area network: a TCP proxy that can be cut in the ways that real links are.
//!
//! # Invariants
//! - Its port stays the same for its whole life, also while it refuses.
//! - A black hole loses no byte that it let in: what was under way when the link went silent
//!   arrives after it is restored, late, as retransmitted TCP does. A connection that is tried
//!   meanwhile stands open and silent.
//! - When a call that changes the link returns, the change holds.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// The most that one read takes in.
const CHUNK: usize = 16 * 1024;
/// Chunks under way in one direction of one connection: 1 MiB, a large TCP window.
const UNDER_WAY: usize = 64;
/// Where a link's near end is, unless a scenario has a network of its own.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    Closed,
    BlackHole,
    /// What comes from the far end does not arrive.
    Deaf,
}

impl Mode {
    const fn lets_through(self, way: Way) -> bool {
        matches!((self, way), (Self::Open, _) | (Self::Deaf, Way::There))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    near: SocketAddr,
    mode: Mode,
    upstream: Option<SocketAddr>,
    delay: Duration,
    bytes_per_s: Option<u64>,
    change: u64,
}

/// A link that can be cut.
#[derive(Debug)]
pub struct Wan {
    address: SocketAddr,
    wanted: watch::Sender<Wanted>,
    applied: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Wan {
    /// A link to `upstream`, open.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn open_to(upstream: SocketAddr) -> anyhow::Result<Self> {
        Self::new(HERE, Mode::Open, Some(upstream)).await
    }

    /// [`Wan::open_to`], with the near end at an address of a network that a scenario made.
    ///
    /// # Errors
    /// When the address is not there.
    pub async fn open_at(near: IpAddr, upstream: SocketAddr) -> anyhow::Result<Self> {
        Self::new(near, Mode::Open, Some(upstream)).await
    }

    /// A link whose far end is not there yet: it refuses until [`Wan::lead_to`] and
    /// [`Wan::restore`].
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn to_nowhere() -> anyhow::Result<Self> {
        Self::to_nowhere_at(HERE).await
    }

    /// [`Wan::to_nowhere`], with the near end at an address of a network that a scenario made.
    ///
    /// # Errors
    /// When the address is not there.
    pub async fn to_nowhere_at(near: IpAddr) -> anyhow::Result<Self> {
        Self::new(near, Mode::Closed, None).await
    }

    async fn new(near: IpAddr, mode: Mode, upstream: Option<SocketAddr>) -> anyhow::Result<Self> {
        let reserved = reserve(SocketAddr::new(near, 0))?;
        let address = reserved.local_addr()?;
        let wanted = Wanted {
            near: address,
            mode,
            upstream,
            delay: Duration::ZERO,
            bytes_per_s: None,
            change: 0,
        };
        let (wanted, seen) = watch::channel(wanted);
        let (done, mut applied) = watch::channel(u64::MAX);
        let task = tokio::spawn(serve(reserved, seen, done));
        applied.changed().await.context("the link did not start")?;
        Ok(Self { address, wanted, applied, task })
    }

    /// Where the near end connects.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection and refuses new ones.
    ///
    /// # Errors
    /// When the link itself broke down.
    pub async fn cut_closed(&mut self) -> anyhow::Result<()> {
        self.change(|wanted| wanted.mode = Mode::Closed).await
    }

    /// Goes silent: connections stay open, nothing passes, new ones stand without an answer.
    ///
    /// # Errors
    /// When the link itself broke down.
    pub async fn cut_black_hole(&mut self) -> anyhow::Result<()> {
        self.change(|wanted| wanted.mode = Mode::BlackHole).await
    }

    /// Goes silent in one direction: what the near end sends arrives, and no answer to it does.
    ///
    /// # Errors
    /// When the link itself broke down.
    pub async fn cut_way_back(&mut self) -> anyhow::Result<()> {
        self.change(|wanted| wanted.mode = Mode::Deaf).await
    }

    /// Lets everything pass again.
    ///
    /// # Errors
    /// When the link itself broke down.
    pub async fn restore(&mut self) -> anyhow::Result<()> {
        self.change(|wanted| wanted.mode = Mode::Open).await
    }

    /// Connections from now on lead to `upstream`.
    ///
    /// # Errors
    /// When the link itself broke down.
    pub async fn lead_to(&mut self, upstream: SocketAddr) -> anyhow::Result<()> {
        self.change(|wanted| wanted.upstream = Some(upstream)).await
    }

    /// Moves the near end, which must be closed, to another address with the same port.
    ///
    /// # Errors
    /// When the link itself broke down, or the address is not there.
    pub async fn move_to(&mut self, near: IpAddr) -> anyhow::Result<()> {
        let address = SocketAddr::new(near, self.address.port());
        self.change(|wanted| wanted.near = address).await?;
        self.address = address;
        Ok(())
    }

    /// Delays each direction, and limits it to a rate that all connections share.
    ///
    /// # Errors
    /// When the link itself broke down.
    pub async fn shape(&mut self, delay: Duration, bytes_per_s: Option<u64>) -> anyhow::Result<()> {
        self.change(|wanted| {
            wanted.delay = delay;
            wanted.bytes_per_s = bytes_per_s;
        })
        .await
    }

    async fn change(&mut self, make: impl FnOnce(&mut Wanted)) -> anyhow::Result<()> {
        let mut change = 0;
        self.wanted.send_modify(|wanted| {
            make(wanted);
            wanted.change += 1;
            change = wanted.change;
        });
        let applied = self.applied.wait_for(|done| *done == change).await;
        applied.map(|_| ()).map_err(|_| anyhow!("the link at {} broke down", self.address))
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A bound socket that does not listen: the port is ours, connecting to it is refused, and a server
/// that reuses addresses may listen there.
///
/// # Errors
/// When the address is taken.
pub fn reserve(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("address {address}"))?;
    Ok(socket)
}

async fn serve(reserved: TcpSocket, mut wanted: watch::Receiver<Wanted>, done: watch::Sender<u64>) {
    let directions = Arc::new([Direction::default(), Direction::default()]);
    let mut reserved = Some(reserved);
    let mut listener: Option<TcpListener> = None;
    let mut connections = JoinSet::new();
    loop {
        let now = *wanted.borrow_and_update();
        let ready = if now.mode == Mode::Closed {
            connections.shutdown().await;
            let elsewhere = |socket: &TcpSocket| socket.local_addr().ok() != Some(now.near);
            if listener.take().is_some() || reserved.as_ref().is_some_and(elsewhere) {
                reserved = reserve(now.near).ok();
            }
            reserved.is_some()
        } else {
            if let Some(socket) = reserved.take() {
                listener = socket.listen(128).ok();
            }
            listener.is_some()
        };
        if !ready || done.send(now.change).is_err() {
            return;
        }
        loop {
            tokio::select! {
                biased;
                changed = wanted.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(near) = accept(listener.as_ref()) => {
                    connections.spawn(carry(near, wanted.clone(), Arc::clone(&directions)));
                }
                // Ended ones are taken out, so that a reconnect storm does not pile up.
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// The next connection; never ends while there is no listener.
async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// When the direction's rate next allows a byte.
#[derive(Debug, Default)]
struct Direction {
    free_at: Mutex<Option<Instant>>,
}

impl Direction {
    async fn pace(&self, length: usize, bytes_per_s: Option<u64>) {
        let Some(rate) = bytes_per_s else { return };
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let takes = Duration::from_nanos(length.saturating_mul(1_000_000_000) / rate.max(1));
        let mut free_at = self.free_at.lock().await;
        let begin = free_at.map_or_else(Instant::now, |free_at| free_at.max(Instant::now()));
        *free_at = Some(begin + takes);
        drop(free_at);
        tokio::time::sleep_until(begin + takes).await;
    }
}

async fn carry(
    near: TcpStream,
    mut wanted: watch::Receiver<Wanted>,
    directions: Arc<[Direction; 2]>,
) {
    let Ok(upstream) = wanted.wait_for(|now| now.mode == Mode::Open).await.map(|now| now.upstream)
    else {
        return;
    };
    let Some(upstream) = upstream else { return };
    let Ok(far) = TcpStream::connect(upstream).await else { return };
    // Delays must come from the shaping alone.
    if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
        return;
    }
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    let there = pump(near_in, far_out, wanted.clone(), (Way::There, &directions[0]));
    let back = pump(far_in, near_out, wanted.clone(), (Way::Back, &directions[1]));
    tokio::join!(there, back);
}

/// Carries one direction until its source ends or its sink is gone.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut wanted: watch::Receiver<Wanted>,
    (way, direction): (Way, &Direction),
) {
    let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let reading = async move {
        loop {
            let mut chunk = vec![0; CHUNK];
            match from.read(&mut chunk).await {
                Ok(length @ 1..) => chunk.truncate(length),
                _ => return,
            }
            if queue.send((Instant::now(), chunk)).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((taken_in, chunk)) = queued.recv().await {
            let now = *wanted.borrow();
            tokio::time::sleep_until(taken_in + now.delay).await;
            direction.pace(chunk.len(), now.bytes_per_s).await;
            if wanted.wait_for(|now| now.mode.lets_through(way)).await.is_err() {
                return;
            }
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        // The end of a connection crosses a silent link no sooner than its data. The other
        // direction may still carry something.
        if wanted.wait_for(|now| now.mode.lets_through(way)).await.is_ok() {
            let _ = to.shutdown().await;
        }
    };
    tokio::join!(reading, writing);
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    /// A server that answers every byte with the same byte.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn round_trip(stream: &mut TcpStream, byte: u8) -> std::io::Result<u8> {
        stream.write_all(&[byte]).await?;
        stream.read_u8().await
    }

    const A_WHILE: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn a_closed_cut_ends_connections_and_refuses_new_ones() {
        let mut wan = Wan::open_to(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(wan.address()).await.unwrap();
        assert_eq!(round_trip(&mut stream, 7).await.unwrap(), 7);
        wan.cut_closed().await.unwrap();
        assert!(round_trip(&mut stream, 8).await.is_err());
        let refused = TcpStream::connect(wan.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        wan.restore().await.unwrap();
        let mut stream = TcpStream::connect(wan.address()).await.unwrap();
        assert_eq!(round_trip(&mut stream, 9).await.unwrap(), 9);
    }

    #[tokio::test]
    async fn a_black_hole_keeps_connections_open_and_delivers_late() {
        let mut wan = Wan::open_to(echo().await).await.unwrap();
        let mut old = TcpStream::connect(wan.address()).await.unwrap();
        assert_eq!(round_trip(&mut old, 1).await.unwrap(), 1);
        wan.cut_black_hole().await.unwrap();
        let silent = tokio::time::timeout(A_WHILE, round_trip(&mut old, 2)).await;
        assert!(silent.is_err(), "{silent:?}");
        let mut new = TcpStream::connect(wan.address()).await.unwrap();
        let silent = tokio::time::timeout(A_WHILE, round_trip(&mut new, 3)).await;
        assert!(silent.is_err(), "{silent:?}");
        wan.restore().await.unwrap();
        assert_eq!(old.read_u8().await.unwrap(), 2);
        assert_eq!(new.read_u8().await.unwrap(), 3);
    }

    #[tokio::test]
    async fn without_a_way_back_bytes_arrive_and_answers_come_late() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut wan = Wan::open_to(listener.local_addr().unwrap()).await.unwrap();
        let mut near = TcpStream::connect(wan.address()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        wan.cut_way_back().await.unwrap();
        near.write_all(&[1]).await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), 1);
        far.write_all(&[2]).await.unwrap();
        let silent = tokio::time::timeout(A_WHILE, near.read_u8()).await;
        assert!(silent.is_err(), "{silent:?}");
        wan.restore().await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_black_hole_swallows_the_end_of_a_connection_too() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut wan = Wan::open_to(listener.local_addr().unwrap()).await.unwrap();
        let mut near = TcpStream::connect(wan.address()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        far.write_all(&[1]).await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), 1);
        wan.cut_black_hole().await.unwrap();
        drop(far);
        let silent = tokio::time::timeout(A_WHILE, near.read_u8()).await;
        assert!(silent.is_err(), "{silent:?}");
        wan.restore().await.unwrap();
        assert!(near.read_u8().await.is_err());
    }

    #[tokio::test]
    async fn a_link_to_nowhere_refuses_until_it_leads_somewhere() {
        let mut wan = Wan::to_nowhere().await.unwrap();
        assert!(TcpStream::connect(wan.address()).await.is_err());
        wan.lead_to(echo().await).await.unwrap();
        wan.restore().await.unwrap();
        let mut stream = TcpStream::connect(wan.address()).await.unwrap();
        assert_eq!(round_trip(&mut stream, 5).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn delay_counts_once_for_each_direction() {
        let mut wan = Wan::open_to(echo().await).await.unwrap();
        wan.shape(Duration::from_millis(50), None).await.unwrap();
        let mut stream = TcpStream::connect(wan.address()).await.unwrap();
        let begun = Instant::now();
        round_trip(&mut stream, 1).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_limited_rate_is_kept() {
        let mut wan = Wan::open_to(echo().await).await.unwrap();
        wan.shape(Duration::ZERO, Some(100_000)).await.unwrap();
        let stream = TcpStream::connect(wan.address()).await.unwrap();
        let (mut from, mut to) = stream.into_split();
        let begun = Instant::now();
        let sending = tokio::spawn(async move { to.write_all(&[0; 50_000]).await });
        let mut back = vec![0; 50_000];
        from.read_exact(&mut back).await.unwrap();
        sending.await.unwrap().unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    }
}
