//! Between a gateway and its PLC: when each value was answered, and how much was asked for.
//!
//! # Invariants
//! - An answer is stamped before its first byte is handed on, so what is measured begins when the
//!   reader could have had it.
//! - Nothing is changed on the way.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The last answer that held a tag.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) value: u32,
    pub(crate) at: Instant,
}

#[derive(Debug, Default)]
struct Seen {
    registers: AtomicU64,
    answers: AtomicU64,
    refused: AtomicU64,
    last: Mutex<Vec<Option<Answer>>>,
}

/// A link to a PLC that counts and stamps.
pub(crate) struct Tap {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Tap {
    /// In front of `plc`, whose tag `n` is a 32-bit counter at register `2n`.
    pub(crate) async fn before(plc: SocketAddr, tags: usize) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port for the tap")?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen { last: Mutex::new(vec![None; tags]), ..Seen::default() });
        let task = tokio::spawn(serve(listener, plc, Arc::clone(&seen)));
        Ok(Self { address, seen, task })
    }

    /// Registers read so far.
    pub(crate) fn registers(&self) -> u64 {
        self.seen.registers.load(Ordering::Relaxed)
    }

    /// Answers so far, exceptions among them not counted.
    pub(crate) fn answers(&self) -> u64 {
        self.seen.answers.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.seen.refused.load(Ordering::Relaxed)
    }

    /// How the subscriber looks answers up.
    pub(crate) fn stamps(&self) -> Stamps {
        Stamps(Arc::clone(&self.seen))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was answered last.
#[derive(Clone)]
pub(crate) struct Stamps(Arc<Seen>);

impl Stamps {
    pub(crate) fn of(&self, tag: usize) -> Option<Answer> {
        let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(tag).copied().flatten()
    }
}

async fn serve(listener: TcpListener, plc: SocketAddr, seen: Arc<Seen>) {
    while let Ok((near, _)) = listener.accept().await {
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(plc).await else { return };
            if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
                return;
            }
            let asked = Arc::new(Mutex::new(HashMap::new()));
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            tokio::select! {
                _ = there(near_in, far_out, &asked) => {}
                _ = back(far_in, near_out, &asked, &seen) => {}
            }
        });
    }
}

/// Requests under way: transaction → first register.
type Asked = Mutex<HashMap<u16, u16>>;

async fn frame(from: &mut OwnedReadHalf, into: &mut Vec<u8>) -> std::io::Result<()> {
    into.resize(6, 0);
    from.read_exact(&mut into[..6]).await?;
    let length = usize::from(u16::from_be_bytes([into[4], into[5]]));
    into.resize(6 + length, 0);
    from.read_exact(&mut into[6..]).await?;
    Ok(())
}

async fn there(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: &Asked,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    loop {
        frame(&mut from, &mut request).await?;
        if let [t0, t1, _, _, _, _, _, 3, s0, s1, ..] = request[..] {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.insert(u16::from_be_bytes([t0, t1]), u16::from_be_bytes([s0, s1]));
        }
        to.write_all(&request).await?;
    }
}

async fn back(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: &Asked,
    seen: &Seen,
) -> std::io::Result<()> {
    let mut answer = Vec::new();
    loop {
        frame(&mut from, &mut answer).await?;
        if let [t0, t1, _, _, _, _, _, function, _, values @ ..] = &answer[..] {
            let transaction = u16::from_be_bytes([*t0, *t1]);
            let start = asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&transaction);
            match (function, start) {
                (3, Some(start)) => seen.take(usize::from(start), values),
                _ => drop(seen.refused.fetch_add(1, Ordering::Relaxed)),
            }
        }
        to.write_all(&answer).await?;
    }
}

impl Seen {
    fn take(&self, start: usize, values: &[u8]) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.registers.fetch_add(values.len() as u64 / 2, Ordering::Relaxed);
        // A counter that is cut in two is read with the next request as well.
        let skipped = start % 2;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let at = Instant::now();
        let (pairs, _) = values.get(skipped * 2..).unwrap_or_default().as_chunks::<4>();
        for (offset, pair) in pairs.iter().enumerate() {
            if let Some(slot) = last.get_mut((start + skipped) / 2 + offset) {
                *slot = Some(Answer { value: u32::from_be_bytes(*pair), at });
            }
        }
    }
}
