//! A local application: subscribes to every live value at the leaf and takes the time.
//!
//! A plain socket in a thread of its own, so that no queue of a client library is measured.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};

use crate::tap::Stamps;

/// What was received.
#[derive(Debug, Default)]
pub(crate) struct Received {
    first: Mutex<Option<Instant>>,
    messages: AtomicU64,
    /// Values that were overtaken at the PLC before they were received.
    unmatched: AtomicU64,
    latencies: Mutex<Vec<Duration>>,
    stop: AtomicBool,
}

pub(crate) struct Subscriber {
    received: Arc<Received>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Subscriber {
    /// Connects as soon as the leaf listens; `devices` are looked up by the number in the subject.
    pub(crate) fn start(port: u16, devices: Vec<Stamps>) -> Self {
        let received = Arc::new(Received::default());
        let shared = Arc::clone(&received);
        let thread = Some(std::thread::spawn(move || run(port, &devices, &shared)));
        Self { received, thread }
    }

    pub(crate) fn first(&self) -> Option<Instant> {
        *self.received.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn messages(&self) -> u64 {
        self.received.messages.load(Ordering::Relaxed)
    }

    pub(crate) fn unmatched(&self) -> u64 {
        self.received.unmatched.load(Ordering::Relaxed)
    }

    /// What has been measured since the last call, in order of size.
    pub(crate) fn take_latencies(&self) -> Vec<Duration> {
        let mut guard = self.received.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        let mut latencies = std::mem::take(&mut *guard);
        drop(guard);
        latencies.sort_unstable();
        latencies
    }

    /// Ends it.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.received.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the subscriber was stopped already")?;
        thread.join().map_err(|_| anyhow!("the subscriber panicked"))?
    }
}

fn run(port: u16, devices: &[Stamps], received: &Received) -> anyhow::Result<()> {
    let stopped = || received.stop.load(Ordering::Relaxed);
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(_) if !stopped() => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error.into()),
        }
    };
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    stream
        .write_all(b"CONNECT {\"verbose\":false,\"headers\":false}\r\nSUB uns.> 1\r\nPING\r\n")?;
    let mut buffer = vec![0; 1 << 20];
    let mut held = 0;
    while !stopped() {
        let read = match stream.read(&mut buffer[held..]) {
            Ok(0) => bail!("the leaf closed the connection"),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let now = Instant::now();
        held += read;
        let mut rest = &buffer[..held];
        while let Some(next) = next(rest) {
            if next.line.starts_with(b"PING") {
                stream.write_all(b"PONG\r\n")?;
            }
            if let Some(payload) = next.payload {
                take(next.line, payload, now, devices, received);
            }
            rest = next.rest;
        }
        let left = rest.len();
        let consumed = held - left;
        buffer.copy_within(consumed..held, 0);
        held = left;
        if held == buffer.len() {
            bail!("the leaf sent something that is no message");
        }
    }
    Ok(())
}

/// One line of the protocol, its payload when it has one, and what follows.
struct Next<'a> {
    line: &'a [u8],
    payload: Option<&'a [u8]>,
    rest: &'a [u8],
}

/// `None` until line and payload are there.
fn next(bytes: &[u8]) -> Option<Next<'_>> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, rest) = (bytes.get(..end)?, bytes.get(end + 2..)?);
    if !line.starts_with(b"MSG ") {
        return Some(Next { line, payload: None, rest });
    }
    let length = std::str::from_utf8(line).ok()?.rsplit(' ').next()?.parse::<usize>().ok()?;
    let payload = rest.get(..length)?;
    Some(Next { line, payload: Some(payload), rest: rest.get(length + 2..)? })
}

fn take(line: &[u8], payload: &[u8], now: Instant, devices: &[Stamps], received: &Received) {
    let line = std::str::from_utf8(line).unwrap_or_default();
    let Some((device, tag)) = place_of(line.split(' ').nth(1).unwrap_or_default()) else { return };
    {
        let mut first = received.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(now);
    }
    received.messages.fetch_add(1, Ordering::Relaxed);
    let answer = devices.get(device).and_then(|stamps| stamps.of(tag));
    match (answer, value_of(payload)) {
        (Some(answer), Some(value)) if u64::from(answer.value) == value => {
            let mut latencies = received.latencies.lock().unwrap_or_else(PoisonError::into_inner);
            latencies.push(now.saturating_duration_since(answer.at));
        }
        _ => drop(received.unmatched.fetch_add(1, Ordering::Relaxed)),
    }
}

/// `uns.PlantA.Bench.D3.t17` is tag 17 of device 3.
fn place_of(subject: &str) -> Option<(usize, usize)> {
    let (device, tag) = subject.strip_prefix("uns.PlantA.Bench.D")?.split_once(".t")?;
    Some((device.parse().ok()?, tag.parse().ok()?))
}

/// `{"v":17,…`; the envelope begins with its value.
fn value_of(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    let (_, after) = text.split_once("\"v\":")?;
    after.split([',', '}']).next()?.parse().ok()
}
