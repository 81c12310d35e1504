//! What stands between an RTU line and the protocol crate: Modbus TCP above, RTU below, and
//! nothing passes upwards that is not one whole, verified answer to the request in flight.
//!
//! The crate's own RTU codec takes any frame of the right function for the answer, loses its place
//! after noise and never sees an echo; it is not used.
//!
//! # Invariants
//! - At most one request is in flight, and only requests that read are let through.
//! - An answer has the request's unit, function and byte count, and a right checksum. That is all
//!   that RTU offers: an answer that is late by one request of the same shape looks right. Whoever
//!   asks keeps such requests apart (`settle`).
//! - Before a request the line was silent for 3.5 characters and the turnaround. What arrives until
//!   then is thrown away: it cannot be the answer.
//! - No more than [`HELD`] bytes are held. At most [`MAX_STALE`] foreign frames and [`MAX_NOISE`]
//!   other bytes are thrown away per request; then the line counts as broken.
//!
//! # Echo
//! A two-wire adapter may hear what it sends. A frame that equals the request byte for byte is its
//! echo, but for one case: a read of 17 to 24 bits has an answer of the request's length, and from
//! address 768 to 1023 it may have the request's very bytes. Then the line's past decides: after
//! [`CLEAN`] answers in a row that were the first bytes to come, the line has no echo, and the frame
//! is the answer; otherwise it is the echo, and the worst that follows is a time-out.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use self::find::{Found, MAX_FRAME, find};
use crate::spec::{LinkSpec, SerialSpec, Transport, UnitId};

mod crc;
mod find;

#[cfg(test)]
pub(crate) use self::crc::crc16;
pub(crate) use self::find::{Asked, Shape};

/// Bytes held at most: two frames, the one that is looked at and the one behind it.
const HELD: usize = 2 * MAX_FRAME;
/// Foreign frames that one request may meet before the line counts as broken.
const MAX_STALE: u32 = 8;
/// Bytes that are no frame and that one request may meet before the line counts as broken: what
/// four frames of the largest size make when their checksums are wrong.
const MAX_NOISE: u32 = 1024;
/// Answers without an echo before them after which a line has none.
const CLEAN: u8 = 2;
/// Stale frames remembered for whoever settles units.
const REMEMBERED: usize = 16;
/// Silence that tells that no frame goes on: USB adapters hand over what they have every 16 ms by
/// default (FTDI AN232B-04), and a network adds its own.
const SHADOW: Duration = Duration::from_millis(25);
/// Above this speed the silence between frames is fixed (MODBUS over Serial Line V1.02, 2.5.1.1).
const FAST: u32 = 19_200;
const FAST_SILENCE: Duration = Duration::from_micros(1750);
/// Bytes that may come in the silence before a request before the line counts as broken.
const MAX_UNQUIET: usize = 1024;
/// Readings in one go while a line is to become quiet.
const GULPS: u32 = 16;

/// How long a line must be silent, and how fast it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    /// The time of one character; zero where it is not ours to know.
    character: Duration,
    /// Silence before a request.
    silence: Duration,
}

impl Timing {
    /// What a link asks for: 3.5 characters and its turnaround. A serial server keeps the speed of
    /// its line to itself: there it is the fixed silence of fast lines and the turnaround.
    pub(crate) fn of(link: &LinkSpec) -> Self {
        let line = match &link.transport {
            Transport::Rtu(serial) => Self::serial(serial),
            _ => Self { character: Duration::ZERO, silence: FAST_SILENCE },
        };
        Self { silence: line.silence + link.turnaround, ..line }
    }

    fn serial(spec: &SerialSpec) -> Self {
        let character = spec.character();
        let silence = if spec.baud > FAST { FAST_SILENCE } else { character * 7 / 2 };
        Self { character, silence }
    }

    /// What a request and an answer of this shape take on the line at the least; nothing where the
    /// speed is not ours to know. An identification is reckoned without its objects.
    pub(crate) fn on_the_line(self, answer: Shape) -> Duration {
        // A request has eight bytes; an answer has five beside its data.
        self.character * (8 + 5 + u32::from(answer.bytes))
    }

    /// For bytes that were recorded: nothing waits.
    pub(crate) const fn recorded() -> Self {
        Self { character: Duration::ZERO, silence: Duration::ZERO }
    }
}

/// What a line has shown. Whoever owns the line keeps one and gives it to the gate of each
/// connection, because the protocol crate owns the gates.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witness(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// Answers in a row that came without an echo.
    clean: u8,
    counts: Counts,
    /// Noise since the last request.
    noise: u32,
    stale: VecDeque<(UnitId, Shape)>,
}

/// What was thrown away since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Frames of other units or to earlier requests.
    pub(crate) stale_frames: u64,
    /// Bytes that were no frame.
    pub(crate) noise_bytes: u64,
    /// Requests heard back.
    pub(crate) echoes: u64,
}

impl Witness {
    /// Answers thrown away since this was asked last, oldest first: who sent them and what they
    /// looked like. Only the last [`REMEMBERED`] are kept.
    pub(crate) fn take_stale(&self) -> Vec<(UnitId, Shape)> {
        self.seen().stale.drain(..).collect()
    }

    /// What was thrown away since the beginning.
    #[cfg_attr(not(test), expect(dead_code, reason = "nothing shows it yet"))]
    pub(crate) fn counts(&self) -> Counts {
        self.seen().counts
    }

    /// Bytes since the last request that were no frame. With a time-out they tell a device that
    /// answers, but at another speed or parity, from one that is silent.
    pub(crate) fn noise(&self) -> u32 {
        self.seen().noise
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn remember(&mut self, unit: u8, shape: Option<Shape>) {
        self.counts.stale_frames += 1;
        let Some(shape) = shape else { return };
        if self.stale.len() == REMEMBERED {
            self.stale.pop_front();
        }
        self.stale.push_back((UnitId(unit), shape));
    }
}

/// See the module's description.
pub(crate) struct Gate<T> {
    inner: T,
    timing: Timing,
    witness: Witness,
    flight: Option<Flight>,
    /// When the last byte was on the line, ours or theirs, as far as can be known.
    busy_until: Instant,
    /// Wakes at the end of a silence.
    alarm: Option<Pin<Box<Sleep>>>,
    incoming: Box<[u8; HELD]>,
    have: usize,
    /// How many of them were looked at.
    checked: usize,
    /// An answer that waits for silence.
    shadowed: Option<Range<usize>>,
    /// The answer as the crate wants it, and how much of it was handed over.
    above: Vec<u8>,
    given: usize,
}

/// The request in flight, and what it has met.
struct Flight {
    asked: Asked,
    /// The transaction number of the crate above.
    transaction: [u8; 2],
    /// Bytes of the request that were written; none while the silence before it is awaited.
    sent: usize,
    /// Bytes thrown away in that silence.
    unquiet: usize,
    stale: u32,
    noise: u32,
    /// Whether anything but the answer came.
    disturbed: bool,
}

impl<T> Gate<T> {
    /// A gate in front of a line.
    pub(crate) fn new(inner: T, timing: Timing, witness: Witness) -> Self {
        Self {
            inner,
            timing,
            witness,
            flight: None,
            busy_until: Instant::now(),
            alarm: None,
            incoming: Box::new([0; HELD]),
            have: 0,
            checked: 0,
            shadowed: None,
            above: Vec::new(),
            given: 0,
        }
    }

    /// Looks at what has arrived, until there is an answer or no whole frame is left.
    fn check(&mut self) -> io::Result<()> {
        self.shadowed = None;
        loop {
            let mut seen = self.witness.seen();
            // Before the first byte of the request went out, nothing can be its answer.
            let waiting = self.flight.as_ref().filter(|flight| flight.sent == 0);
            let waiting = waiting.map(|flight| (flight.asked.unit(), flight.asked.shape()));
            let mut flight = self.flight.as_mut().filter(|flight| flight.sent > 0);
            let asked = flight.as_deref().map(|flight| &flight.asked);
            let bytes = self.incoming.get(..self.have).unwrap_or_default();
            let (frame, noise) = match find(bytes, self.checked, asked, seen.clean < CLEAN) {
                Found::Answer(at) => {
                    seen.counts.noise_bytes += u64::try_from(at.start).unwrap_or(u64::MAX);
                    if at.start == 0 && flight.is_some_and(|flight| !flight.disturbed) {
                        seen.clean = seen.clean.saturating_add(1);
                    }
                    drop(seen);
                    self.pass(&at);
                    return Ok(());
                }
                Found::Shadowed { at, keep } => {
                    self.shadowed = Some(at.start - keep..at.end - keep);
                    (None, keep)
                }
                Found::Echo(at) => {
                    seen.clean = 0;
                    seen.counts.echoes += 1;
                    (Some(at.end), at.start)
                }
                Found::Stale { at, unit, shape } => {
                    // Of the request that is about to be sent it tells nothing: that one is still
                    // to be answered.
                    let told = shape.filter(|shape| waiting != Some((unit, *shape)));
                    seen.remember(unit, told);
                    if let Some(flight) = &mut flight {
                        flight.stale += 1;
                    }
                    (Some(at.end), at.start)
                }
                Found::More { keep } => (None, keep),
            };
            let lost = u32::try_from(noise).unwrap_or(u32::MAX);
            seen.counts.noise_bytes += u64::from(lost);
            if let Some(flight) = flight {
                flight.noise += lost;
                seen.noise = flight.noise;
                flight.disturbed |= noise > 0 || frame.is_some();
                flight.has_met_too_much()?;
            }
            drop(seen);
            let gone = frame.unwrap_or(noise);
            self.incoming.copy_within(gone..self.have, 0);
            self.have -= gone;
            if frame.is_none() {
                // A shadowed answer must be found once more.
                self.checked = if self.shadowed.is_some() { 0 } else { self.have };
                return Ok(());
            }
            self.checked = 0;
        }
    }

    /// Makes a frame of the line one of the crate.
    fn pass(&mut self, at: &Range<usize>) {
        let Some(flight) = self.flight.take() else { return };
        let Some([data @ .., _, _]) = self.incoming.get(at.clone()) else { return };
        let [high, low] = u16::try_from(data.len()).unwrap_or_default().to_be_bytes();
        let [t0, t1] = flight.transaction;
        self.above.clear();
        self.above.extend_from_slice(&[t0, t1, 0, 0, high, low]);
        self.above.extend_from_slice(data);
        self.given = 0;
        self.forget();
    }

    fn forget(&mut self) {
        (self.have, self.checked, self.shadowed) = (0, 0, None);
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if alarm.deadline() != at {
            alarm.as_mut().reset(at);
        }
        alarm.as_mut().poll(cx)
    }
}

impl Flight {
    fn has_met_too_much(&self) -> io::Result<()> {
        if self.stale > MAX_STALE {
            return Err(broken(format!("more than {MAX_STALE} frames of others before an answer")));
        }
        if self.noise > MAX_NOISE {
            return Err(broken(format!("more than {MAX_NOISE} bytes of noise before an answer")));
        }
        Ok(())
    }
}

impl<T: AsyncRead + Unpin> Gate<T> {
    /// Throws away what comes, until nothing did for `quiet`; returns how many bytes that were.
    /// Frames among them are remembered as stale. Cancel safe: what was thrown away stays so.
    ///
    /// # Errors
    /// When the line is not quiet within `at_most`, or is gone.
    pub(crate) async fn drain(&mut self, quiet: Duration, at_most: Duration) -> io::Result<usize> {
        let since = Instant::now();
        // Silence counts from here: a connection that was just made knows nothing of the past.
        self.busy_until = since;
        let mut bytes = 0;
        let silent = poll_fn(|cx| self.poll_quiet(cx, quiet, &mut bytes, usize::MAX));
        match timeout_at(since + at_most, silent).await {
            Ok(outcome) => outcome.map(|()| bytes),
            Err(_) => Err(broken(format!("line not quiet for {quiet:?} within {at_most:?}"))),
        }
    }

    /// Ready once nothing was on the line for `quiet`.
    fn poll_quiet(
        &mut self,
        cx: &mut Context<'_>,
        quiet: Duration,
        bytes: &mut usize,
        at_most: usize,
    ) -> Poll<io::Result<()>> {
        for _ in 0..GULPS {
            match self.poll_more(cx) {
                Poll::Ready(more) => {
                    *bytes += more?;
                    self.check()?;
                    if *bytes > at_most {
                        let what = format!("line not quiet before a request: {bytes} bytes");
                        return Poll::Ready(Err(broken(what)));
                    }
                }
                Poll::Pending => {
                    let until = self.busy_until + quiet;
                    if Instant::now() >= until {
                        self.forget();
                        return Poll::Ready(Ok(()));
                    }
                    ready!(self.poll_alarm(cx, until));
                }
            }
        }
        // Whoever watches the time gets a chance, whatever the stream does.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads behind what is there. No bytes are an error: a line that ended is gone.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut free = ReadBuf::new(self.incoming.get_mut(self.have..).unwrap_or_default());
        let read = match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut free)) {
            Ok(()) => free.filled().len(),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if read == 0 {
            // Not `UnexpectedEof`: that is what the crate's parser says of a short answer.
            let what = format!("line closed after {} bytes of an answer", self.have);
            return Poll::Ready(Err(io::Error::new(ErrorKind::ConnectionAborted, what)));
        }
        self.have += read;
        self.busy_until = Instant::now();
        Poll::Ready(Ok(read))
    }
}

fn broken(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

impl<T: AsyncRead + Unpin> AsyncRead for Gate<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.above.is_empty() {
            match this.poll_more(cx) {
                Poll::Ready(Ok(_)) => this.check()?,
                Poll::Ready(Err(error)) => match this.shadowed.take() {
                    // Nothing can follow any more.
                    Some(at) => this.pass(&at),
                    None => return Poll::Ready(Err(error)),
                },
                Poll::Pending => {
                    let Some(at) = this.shadowed.clone() else { return Poll::Pending };
                    let until = this.busy_until + this.timing.silence + SHADOW;
                    ready!(this.poll_alarm(cx, until));
                    this.pass(&at);
                }
            }
        }
        let rest = this.above.get(this.given..).unwrap_or_default();
        let take = buf.remaining().min(rest.len());
        buf.put_slice(rest.get(..take).unwrap_or_default());
        this.given += take;
        if this.given == this.above.len() {
            this.above.clear();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.flight.as_ref().is_some_and(|flight| flight.sent < flight.asked.frame().len()) {
            ready!(self.as_mut().poll_flush(cx))?;
        }
        let this = self.get_mut();
        let [t0, t1, _, _, _, _, unit, pdu @ ..] = buf else {
            return Poll::Ready(Err(broken("a request shorter than its header".to_owned())));
        };
        let refused = |what| io::Error::new(ErrorKind::InvalidInput, what);
        let asked = Asked::new(*unit, pdu).map_err(refused)?;
        this.flight = Some(Flight {
            asked,
            transaction: [*t0, *t1],
            sent: 0,
            unquiet: 0,
            stale: 0,
            noise: 0,
            disturbed: false,
        });
        this.above.clear();
        this.witness.seen().noise = 0;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(mut unquiet) =
            this.flight.as_ref().filter(|it| it.sent == 0).map(|it| it.unquiet)
        {
            let quiet = this.poll_quiet(cx, this.timing.silence, &mut unquiet, MAX_UNQUIET);
            if let Some(flight) = &mut this.flight {
                flight.unquiet = unquiet;
            }
            ready!(quiet)?;
        }
        while let Some(flight) = &mut this.flight {
            let rest = flight.asked.frame().get(flight.sent..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let wrote = ready!(Pin::new(&mut this.inner).poll_write(cx, rest))?;
            if wrote == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            flight.sent += wrote;
            let characters = u32::try_from(wrote).unwrap_or(u32::MAX);
            this.busy_until =
                this.busy_until.max(Instant::now()) + this.timing.character * characters;
        }
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<T> std::fmt::Debug for Gate<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("timing", &self.timing).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
