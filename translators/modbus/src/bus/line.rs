//! A line that speaks RTU: what its units owe, and how it becomes quiet.
//!
//! # Invariants
//! - Of a unit that owes an answer nothing is asked whose answer would look the same (`settle`): a
//!   part of the request is asked first and its values are thrown away, or the unit is left alone.
//! - The first connection is listened to for as long as an answer may be late (`settle::rest`):
//!   what another program asked before, or this one before it was started anew, is not known here.
//! - A new connection is asked nothing before the line was quiet for [`QUIET`].
//! - A serial port stays open when an answer does not come: closing it would turn its lines, and
//!   some devices start anew at that. It is closed when the port itself fails.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::{Channel, Terms};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::dial::ByteStream;
use crate::link::{Connection, LinkError, Reply, Request};
use crate::rtu::{Gate, Shape, Timing, Witness};
use crate::settle::{Settle, Verdict, part, rest};
use crate::spec::{LinkSpec, Transport, UnitId};
use crate::tap::Tap;

/// Silence after which nothing more is expected of what was asked before. USB adapters and serial
/// servers hand over what they have after 16 to 20 ms.
const QUIET: Duration = Duration::from_millis(50);
/// A line that does not become quiet in this time is not ours to use.
const RESTLESS: Duration = Duration::from_secs(1);

/// See the module's description.
pub(super) struct Line {
    timing: Timing,
    witness: Witness,
    settle: Mutex<Settle>,
    /// Whether whatever was asked before has had its time to be answered.
    was_heard_out: AtomicBool,
    /// Where an open port waits for its next use; `None` for what is closed instead.
    berth: Option<Berth>,
}

/// An open port that nobody uses.
type Berth = Arc<Mutex<Option<Box<dyn ByteStream>>>>;

impl Line {
    /// The line of a link, where it is one.
    pub(super) fn of(link: &LinkSpec) -> Option<Self> {
        let berth = match link.transport {
            Transport::Tcp(_) | Transport::Tls(..) => return None,
            Transport::RtuOverTcp(_) => None,
            Transport::Rtu(_) => Some(Berth::default()),
        };
        let (timing, witness) = (Timing::of(link), Witness::default());
        let was_heard_out = AtomicBool::new(false);
        Some(Self { timing, witness, settle: Mutex::default(), was_heard_out, berth })
    }

    /// The port, where it is open already.
    pub(super) fn open_port(&self) -> Option<Box<dyn ByteStream>> {
        lock(self.berth.as_ref()?).take()
    }

    /// Makes a connection of a stream, once the line is quiet. `timeout` is what answers may take.
    pub(super) async fn connect(
        &self,
        stream: Box<dyn ByteStream>,
        tap: &Tap,
        timeout: Duration,
    ) -> io::Result<Connection> {
        let gate = |stream| Gate::new(tap.on(stream), self.timing, self.witness.clone());
        let mut gate = match &self.berth {
            None => gate(stream),
            Some(berth) => {
                let kept = Moored { stream: Some(stream), berth: Arc::clone(berth) };
                gate(Box::new(kept) as Box<dyn ByteStream>)
            }
        };
        if !self.was_heard_out.load(Ordering::Relaxed) {
            let long = rest(timeout);
            match gate.drain(long, long).await {
                // Somebody is heard, and none of it is taken for an answer to us.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                outcome => {
                    outcome?;
                }
            }
            self.was_heard_out.store(true, Ordering::Relaxed);
        }
        gate.drain(QUIET, RESTLESS).await?;
        Ok(Connection::through(gate))
    }

    /// Sends a request, or first a part of it where its answer could be mistaken otherwise.
    pub(super) async fn ask(
        &self,
        channel: &mut Channel,
        unit: UnitId,
        request: Request,
        terms: Terms<'_>,
    ) -> Result<Reply, LinkError> {
        let verdict = self.may_ask(unit, request);
        if let Verdict::Other { or_from: until } = verdict {
            let Some(part) = self.part_of(unit, request) else {
                return Err(LinkError::Unsettled { unit: unit.0, until });
            };
            match self.exchange(channel, unit, part, terms).await {
                Ok(_) | Err(LinkError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match self.may_ask(unit, request) {
            Verdict::Ask => self.exchange(channel, unit, request, terms).await,
            Verdict::Other { or_from: until } | Verdict::NotBefore(until) => {
                Err(LinkError::Unsettled { unit: unit.0, until })
            }
        }
    }

    async fn exchange(
        &self,
        channel: &mut Channel,
        unit: UnitId,
        request: Request,
        terms: Terms<'_>,
    ) -> Result<Reply, LinkError> {
        let (now, shape) = (Instant::now(), shape_of(request));
        // The time-out is the unit's. What the bytes take on a slow line is not its fault.
        let timeout = terms.timeout + self.timing.on_the_line(shape);
        let terms = Terms { timeout, ..terms };
        self.settle().asked(unit, shape, now, terms.timeout);
        let outcome = channel.ask(unit, request, terms).await;
        match outcome {
            Ok(_) => self.settle().answered(unit),
            Err(LinkError::Refused { code }) if !self.settle().refused(unit, shape) => {
                let what = format!("exception {code} may answer an earlier request");
                return Err(LinkError::Malformed { what });
            }
            Err(LinkError::Silent { waited, .. }) if self.witness.noise() > 0 => {
                let noise = self.witness.noise();
                let what = format!(
                    "{noise} bytes in {waited:?} that are no frame; check baud-rate, parity and \
                     stop-bits"
                );
                return Err(LinkError::Malformed { what });
            }
            Err(_) => {}
        }
        outcome
    }

    fn may_ask(&self, unit: UnitId, request: Request) -> Verdict {
        let mut settle = self.settle();
        for (unit, shape) in self.witness.take_stale() {
            settle.saw_stale(unit, shape);
        }
        settle.may_ask(unit, shape_of(request), Instant::now())
    }

    /// The largest part of a request whose answer is told from all that the unit owes.
    fn part_of(&self, unit: UnitId, request: Request) -> Option<Request> {
        let Request::Read { table, start, count } = request else { return None };
        let mut settle = self.settle();
        let now = Instant::now();
        let may_ask = |shape| settle.may_ask(unit, shape, now) == Verdict::Ask;
        let count = part(table.function(), count, may_ask)?;
        Some(Request::Read { table, start, count })
    }

    fn settle(&self) -> MutexGuard<'_, Settle> {
        lock(&self.settle)
    }
}

fn shape_of(request: Request) -> Shape {
    match request {
        Request::Read { table, count, .. } => Shape::read(table.function(), count),
        Request::Identify { code, .. } => Shape::identification(code.number()),
    }
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port that goes back to its berth when its connection is dropped, unless it has failed.
struct Moored {
    stream: Option<Box<dyn ByteStream>>,
    berth: Berth,
}

impl Moored {
    /// Uses the port, and lets go of it when that fails.
    fn with<T>(
        &mut self,
        failed: impl FnOnce(&T) -> bool,
        use_it: impl FnOnce(Pin<&mut Box<dyn ByteStream>>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let outcome = ready!(use_it(Pin::new(stream)));
        if outcome.as_ref().map_or(true, failed) {
            self.stream = None;
        }
        Poll::Ready(outcome)
    }
}

impl AsyncRead for Moored {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let mut ended = false;
        let outcome = self.with(
            |()| false,
            |stream| {
                let outcome = ready!(stream.poll_read(context, buf));
                ended = buf.filled().len() == before;
                Poll::Ready(outcome)
            },
        );
        if ended {
            self.stream = None;
        }
        outcome
    }
}

impl AsyncWrite for Moored {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|wrote| *wrote == 0, |stream| stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|()| false, |stream| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|()| true, |stream| stream.poll_shutdown(context))
    }
}

impl Drop for Moored {
    fn drop(&mut self) {
        *lock(&self.berth) = self.stream.take();
    }
}
