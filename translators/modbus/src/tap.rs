//! What was really on the wire in the last exchanges, for whoever looks into a fault.
//!
//! # Invariants
//! - A tap changes nothing: bytes pass as they are, and an error stays one.
//! - At most [`KEPT`] bytes are kept each way of an exchange, and [`EXCHANGES`] exchanges for each
//!   unit of a bus, [`MOST`] in all; what was not kept is counted in the outcome.
//! - Buffers are used again: an exchange allocates nothing once its place in the ring was used.

use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tidegate_translator::{Exchange, Timestamp};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::spec::UnitId;

/// Bytes kept each way: the largest frame of Modbus TCP is 260, and some noise is worth seeing.
const KEPT: usize = 300;
/// Exchanges kept for each unit of a bus.
const EXCHANGES: usize = 8;
/// Exchanges kept of a bus: two of each of the 32 units that a line takes.
const MOST: usize = 64;

/// The last exchanges of a bus, shared by the taps of its connections.
#[derive(Debug, Default)]
pub(crate) struct Ring(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Oldest at `next`, once all places are taken.
    places: Vec<Recording>,
    next: usize,
    /// How many places there may be.
    room: usize,
}

/// The tap of one connection. Dropping it ends an exchange in progress as given up.
#[derive(Debug)]
pub(crate) struct Tap {
    ring: Arc<Ring>,
    current: Arc<Mutex<Recording>>,
}

/// A stream under a tap.
#[derive(Debug)]
pub(crate) struct Tapped<T> {
    inner: T,
    current: Arc<Mutex<Recording>>,
}

#[derive(Debug)]
struct Recording {
    unit: UnitId,
    at: Timestamp,
    since: Instant,
    took: Duration,
    sent: Vec<u8>,
    received: Vec<u8>,
    /// Bytes that were not kept, both ways.
    dropped: usize,
    /// Bytes that came before the request was sent.
    early: usize,
    outcome: String,
    running: bool,
}

impl Ring {
    /// Makes room for the exchanges of so many units. It is never taken back.
    pub(crate) fn make_room(&self, units: usize) {
        let mut kept = self.kept();
        kept.room = units.saturating_mul(EXCHANGES).min(MOST).max(kept.room);
    }

    /// The last exchanges with a unit, oldest first.
    pub(crate) fn exchanges(&self, unit: UnitId) -> Vec<Exchange> {
        let kept = self.kept();
        let (newer, older) = kept.places.split_at_checked(kept.next).unwrap_or_default();
        let of_unit = older.iter().chain(newer).filter(|recording| recording.unit == unit);
        of_unit.map(Recording::exchange).collect()
    }

    /// Takes the recording in, and gives back one whose buffers can be used again.
    fn keep(&self, current: &mut Recording) {
        let mut kept = self.kept();
        if kept.places.len() < kept.room.max(EXCHANGES) {
            // The oldest is at the front again: what comes now goes behind the newest.
            let next = std::mem::take(&mut kept.next);
            kept.places.rotate_left(next);
            kept.places.push(std::mem::take(current));
            return;
        }
        let next = kept.next;
        if let Some(place) = kept.places.get_mut(next) {
            std::mem::swap(place, current);
        }
        kept.next = (next + 1) % kept.places.len().max(1);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap {
    /// A tap whose exchanges go into this ring.
    pub(crate) fn new(ring: Arc<Ring>) -> Self {
        Self { ring, current: Arc::default() }
    }

    /// Puts a stream under this tap.
    pub(crate) fn on<T>(&self, inner: T) -> Tapped<T> {
        Tapped { inner, current: Arc::clone(&self.current) }
    }

    /// A request to this unit is about to be sent.
    pub(crate) fn begin(&self, unit: UnitId, at: Timestamp) {
        let mut current = lock(&self.current);
        self.give_up(&mut current);
        (current.unit, current.at, current.since) = (unit, at, Instant::now());
        current.sent.clear();
        current.received.clear();
        current.outcome.clear();
        (current.dropped, current.early, current.running) = (0, 0, true);
    }

    /// What became of it: `answered`, or the error.
    pub(crate) fn end(&self, outcome: &str) {
        self.finish(&mut lock(&self.current), outcome);
    }

    fn give_up(&self, current: &mut Recording) {
        if current.running {
            self.finish(current, "given up");
        }
    }

    fn finish(&self, current: &mut Recording, outcome: &str) {
        if !std::mem::take(&mut current.running) {
            return;
        }
        current.took = current.since.elapsed();
        current.outcome.push_str(outcome);
        // Writing to a string cannot fail.
        if current.early > 0 {
            let _ = write!(current.outcome, "; {} bytes before the request", current.early);
        }
        if current.dropped > 0 {
            let _ = write!(current.outcome, "; {} bytes more than are kept", current.dropped);
        }
        self.ring.keep(current);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.give_up(&mut lock(&self.current));
    }
}

fn lock(current: &Mutex<Recording>) -> MutexGuard<'_, Recording> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recording {
    fn sent(&mut self, bytes: &[u8]) {
        if self.running {
            self.dropped += take(&mut self.sent, bytes);
        }
    }

    fn received(&mut self, bytes: &[u8]) {
        if !self.running {
            return;
        }
        // They are no part of an answer, and a replay must not take them for one.
        if self.sent.is_empty() {
            self.early += bytes.len();
        } else {
            self.dropped += take(&mut self.received, bytes);
        }
    }

    fn exchange(&self) -> Exchange {
        Exchange {
            at: self.at,
            took: self.took,
            sent: self.sent.as_slice().into(),
            received: self.received.as_slice().into(),
            outcome: self.outcome.clone(),
        }
    }
}

/// Keeps what there is room for; returns how many bytes that were not.
fn take(kept: &mut Vec<u8>, bytes: &[u8]) -> usize {
    let room = (KEPT - kept.len().min(KEPT)).min(bytes.len());
    let (fit, rest) = bytes.split_at(room);
    kept.extend_from_slice(fit);
    rest.len()
}

impl Default for Recording {
    fn default() -> Self {
        Self {
            unit: UnitId(0),
            at: Timestamp::default(),
            since: Instant::now(),
            took: Duration::ZERO,
            sent: Vec::new(),
            received: Vec::new(),
            dropped: 0,
            early: 0,
            outcome: String::new(),
            running: false,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Tapped<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        lock(&self.current).received(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(outcome)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tapped<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        lock(&self.current).sent(buf.get(..wrote).unwrap_or_default());
        Poll::Ready(Ok(wrote))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::sleep;

    use super::*;

    const UNIT: UnitId = UnitId(9);

    struct Bench {
        ring: Arc<Ring>,
        tap: Tap,
        stream: Tapped<DuplexStream>,
        peer: DuplexStream,
    }

    impl Bench {
        fn new() -> Self {
            let ring = Arc::<Ring>::default();
            let tap = Tap::new(Arc::clone(&ring));
            let (ours, peer) = duplex(1024);
            Self { stream: tap.on(ours), ring, tap, peer }
        }

        async fn exchange(&mut self, unit: u8, number: u8, answer: &[u8]) {
            self.tap.begin(UnitId(unit), Timestamp(number.into()));
            self.stream.write_all(&[number]).await.unwrap();
            self.peer.read_exact(&mut [0]).await.unwrap();
            self.peer.write_all(answer).await.unwrap();
            self.stream.read_exact(&mut vec![0; answer.len()]).await.unwrap();
            self.tap.end("answered");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_is_kept_byte_for_byte() {
        let mut bench = Bench::new();
        bench.tap.begin(UNIT, Timestamp(7));
        bench.peer.write_all(&[0xEE]).await.unwrap();
        bench.stream.read_exact(&mut [0]).await.unwrap();
        bench.stream.write_all(&[1, 2, 3]).await.unwrap();
        bench.peer.write_all(&[4, 5, 6]).await.unwrap();
        bench.stream.read_exact(&mut [0; 2]).await.unwrap();
        sleep(Duration::from_millis(30)).await;
        bench.stream.read_exact(&mut [0; 1]).await.unwrap();
        bench.tap.end("unit 9 silent for 30ms");
        // After its end, and before the next.
        bench.stream.write_all(&[9]).await.unwrap();
        let kept = bench.ring.exchanges(UNIT);
        let outcome = "unit 9 silent for 30ms; 1 bytes before the request".to_owned();
        let (sent, received) = ([1, 2, 3].into(), [4, 5, 6].into());
        let took = Duration::from_millis(30);
        assert_eq!(kept, [Exchange { at: Timestamp(7), took, sent, received, outcome }]);
    }

    #[tokio::test]
    async fn more_units_have_more_room_and_the_order_stays() {
        let mut bench = Bench::new();
        for number in 0..11 {
            bench.exchange(9, number, &[number]).await;
        }
        bench.ring.make_room(2);
        for number in 11..40 {
            bench.exchange(9, number, &[number]).await;
            let kept = bench.ring.exchanges(UNIT);
            let numbers: Vec<_> = kept.iter().map(|exchange| exchange.sent[0]).collect();
            let first = (number + 1).saturating_sub(16).max(3);
            assert_eq!(numbers, (first..=number).collect::<Vec<_>>());
        }
        bench.ring.make_room(1000);
        assert_eq!(bench.ring.kept().room, MOST);
    }

    #[tokio::test]
    async fn the_last_exchanges_are_kept_by_unit_and_in_order() {
        let mut bench = Bench::new();
        for number in 0..20 {
            bench.exchange(1 + number % 2, number, &[number]).await;
        }
        let of = |unit| -> Vec<u8> {
            bench.ring.exchanges(UnitId(unit)).iter().map(|it| it.received[0]).collect()
        };
        assert_eq!(of(1), [12, 14, 16, 18]);
        assert_eq!(of(2), [13, 15, 17, 19]);
        assert_eq!(of(3), []);
    }

    #[tokio::test]
    async fn what_is_too_much_is_counted() {
        let mut bench = Bench::new();
        bench.exchange(9, 1, &[7; 310]).await;
        let kept = bench.ring.exchanges(UNIT);
        assert_eq!(*kept[0].received, [7; KEPT]);
        assert_eq!(kept[0].outcome, "answered; 10 bytes more than are kept");
    }

    #[tokio::test]
    async fn an_exchange_that_nobody_ended_was_given_up() {
        let mut bench = Bench::new();
        bench.tap.begin(UNIT, Timestamp(1));
        bench.stream.write_all(&[1]).await.unwrap();
        bench.tap.begin(UNIT, Timestamp(2));
        bench.stream.write_all(&[2]).await.unwrap();
        drop(bench.tap);
        let kept = bench.ring.exchanges(UNIT);
        assert_eq!(kept.iter().map(|it| it.sent[0]).collect::<Vec<_>>(), [1, 2]);
        assert!(kept.iter().all(|it| it.outcome == "given up"));
    }

    #[tokio::test]
    async fn buffers_are_used_again() {
        let mut bench = Bench::new();
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..40 {
            bench.exchange(9, number, &[number; 200]).await;
            seen.extend(bench.ring.kept().places.iter().map(|it| it.received.as_ptr()));
        }
        assert_eq!(bench.ring.kept().places.len(), EXCHANGES);
        assert!(seen.len() <= EXCHANGES + 1, "{} buffers", seen.len());
    }
}
