//! The bus: one endpoint or serial port, and everybody who asks units behind it.
//!
//! The bus needs no task of its own: whoever has the turn drives it.
//!
//! # Invariants
//! - Turns are taken in the order in which they were asked for, and each is one request long, so
//!   that no unit waits for another one's whole poll.
//! - There are never more connections than the link allows, and never two requests in flight on
//!   one of them.
//! - A connection whose last request had no verified answer is never used again. Dropping the
//!   future of a request closes its connection.
//! - Which unit may be asked is decided at each device's seat (`seat`).
//! - While nobody can be reached, one attempt to connect is made for each back-off period, however
//!   many units wait; everyone else learns at once why the last one failed.

mod aside;
mod line;
mod seat;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_translator::{Clock, Exchange};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::dial::{ByteStream, Dialer};
use crate::link::{ConnectError, Connection, LinkError, Reply, Request};
use crate::spec::{LinkSpec, Transport, UnitId};
use crate::tap::{Ring, Tap};
use tidegate_translator::grid::{Backoff, hash};

use self::line::Line;
use self::seat::Units;
pub(crate) use self::seat::{Absence, Asked, Seat};

/// The connect back-off of those who do not say which one they want: the configuration's default.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A back-off of nothing would be a busy loop.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(10);

/// See the module's description.
pub(crate) struct Bus {
    link: Arc<LinkSpec>,
    dialer: Arc<dyn Dialer>,
    /// How it is asked where it speaks RTU; `None` for Modbus TCP.
    line: Option<Line>,
    /// The bytes of the last exchanges.
    ring: Arc<Ring>,
    turns: Semaphore,
    /// Held while a connection is made.
    dialling: tokio::sync::Mutex<()>,
    /// Told when a connection was given back or is gone.
    freed: Notify,
    pool: Mutex<Pool>,
    units: Mutex<Units>,
    /// Told when a probe ended.
    changed: Notify,
    /// Held by whoever asks beside the polls; nothing may be asked so before.
    aside: tokio::sync::Mutex<Option<Instant>>,
}

/// The connections, and whether there can be any.
struct Pool {
    idle: Vec<Idle>,
    /// Connections that exist, those in use included.
    open: usize,
    down: Option<Down>,
    backoff: Backoff,
    polls: usize,
}

/// A connection that nobody uses at present.
struct Idle {
    channel: Channel,
    /// The line is silent until then.
    rests_until: Option<Instant>,
}

/// A connection, and what records its bytes.
struct Channel {
    connection: Connection,
    tap: Tap,
}

/// What goes with a request.
#[derive(Clone, Copy)]
struct Terms<'a> {
    /// How long its answer may take.
    timeout: Duration,
    /// Tells when it was sent.
    clock: Option<&'a dyn Clock>,
}

/// The last attempt to connect failed.
struct Down {
    until: Instant,
    why: Arc<ConnectError>,
}

/// The right to send one request.
pub(crate) struct Turn<'a> {
    bus: &'a Bus,
    _permit: Option<SemaphorePermit<'a>>,
    backoff: (Duration, Duration),
    clock: Option<&'a dyn Clock>,
    met_proven: bool,
}

/// A poll in progress; the connections that should not outlast a poll are closed when the last one
/// ends.
pub(crate) struct Poll<'a>(&'a Bus);

/// A connection out of the pool. Dropping it closes it, unless it was given back.
struct Lease<'a> {
    bus: &'a Bus,
    /// `None` while it is being made, and once it was given back.
    channel: Option<Channel>,
    /// Whether it counts as open.
    counts: bool,
}

impl Bus {
    /// A bus that opens its connections with `dialer`.
    pub(crate) fn new(link: Arc<LinkSpec>, dialer: Arc<dyn Dialer>) -> Self {
        let connections = match link.transport {
            Transport::Rtu(_) => 1,
            _ => usize::from(link.max_connections.max(1)),
        };
        let seed = hash(&link.transport.to_string()) ^ getrandom::u64().unwrap_or_default();
        let pool = Pool {
            idle: Vec::new(),
            open: 0,
            down: None,
            backoff: Backoff::new(PATIENCE.0, PATIENCE.1, seed),
            polls: 0,
        };
        Self {
            line: Line::of(&link),
            ring: Arc::default(),
            link,
            dialer,
            turns: Semaphore::new(connections),
            dialling: tokio::sync::Mutex::default(),
            freed: Notify::new(),
            pool: Mutex::new(pool),
            units: Mutex::default(),
            changed: Notify::new(),
            aside: tokio::sync::Mutex::default(),
        }
    }

    /// Waits for the right to send one request.
    ///
    /// Cancel safety: whoever stops waiting loses the place in the queue and nothing else.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        // The semaphore is never closed, so there always is a permit.
        let permit = self.turns.acquire().await.ok();
        Turn { bus: self, _permit: permit, backoff: PATIENCE, clock: None, met_proven: false }
    }

    /// Tells that a poll goes on until the returned guard is dropped.
    pub(crate) fn poll(&self) -> Poll<'_> {
        self.pool().polls += 1;
        Poll(self)
    }

    /// A poll has ended: closes the connections when they should not outlast a poll and nobody
    /// else is in the middle of one.
    pub(crate) fn poll_ended(&self) {
        let mut pool = self.pool();
        if self.link.close_after_poll && pool.polls == 0 {
            pool.close_idle();
            drop(pool);
            self.line.as_ref().and_then(Line::open_port);
        }
    }

    /// The bytes of the last exchanges with a unit, oldest first.
    pub(crate) fn exchanges(&self, unit: UnitId) -> Vec<Exchange> {
        self.ring.exchanges(unit)
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn units(&self) -> MutexGuard<'_, Units> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that nobody else uses, an idle one or a new one.
    async fn connection(
        &self,
        timeout: Duration,
        backoff: (Duration, Duration),
    ) -> Result<Lease<'_>, LinkError> {
        loop {
            if let Some(lease) = self.at_hand().await? {
                return Ok(lease);
            }
            let _alone = self.dialling.lock().await;
            // Meanwhile somebody else may have learned that it is in vain.
            if let Some(lease) = self.at_hand().await? {
                return Ok(lease);
            }
            match self.dial(timeout).await {
                Ok(lease) => return Ok(lease),
                Err(error) => {
                    let mut pool = self.pool();
                    let why = pool.fail(error, backoff);
                    if pool.open == 0 {
                        return Err(LinkError::Down(why));
                    }
                }
            }
        }
    }

    /// An idle connection; `None` when one should be made.
    async fn at_hand(&self) -> Result<Option<Lease<'_>>, LinkError> {
        loop {
            if let Some(lease) = self.idle().await {
                return Ok(Some(lease));
            }
            let mut freed = std::pin::pin!(self.freed.notified());
            let until = {
                let pool = self.pool();
                match &pool.down {
                    _ if !pool.idle.is_empty() => continue,
                    Some(down) if Instant::now() < down.until => {
                        if pool.open == 0 {
                            return Err(LinkError::Down(Arc::clone(&down.why)));
                        }
                        // The peer takes fewer connections than it is said to: share those.
                        freed.as_mut().enable();
                        down.until
                    }
                    _ => return Ok(None),
                }
            };
            tokio::select! {
                () = freed => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// A connection that nobody uses, once its line has rested.
    async fn idle(&self) -> Option<Lease<'_>> {
        let Idle { channel, rests_until } = self.pool().idle.pop()?;
        let lease = Lease { bus: self, channel: Some(channel), counts: true };
        if let Some(until) = rests_until.filter(|until| Instant::now() < *until) {
            sleep_until(until).await;
        }
        Some(lease)
    }

    async fn dial(&self, timeout: Duration) -> Result<Lease<'_>, ConnectError> {
        let stream = match self.line.as_ref().and_then(Line::open_port) {
            Some(stream) => stream,
            None => self.dial_anew(timeout).await?,
        };
        {
            let mut pool = self.pool();
            pool.open += 1;
            pool.down = None;
        }
        let mut lease = Lease { bus: self, channel: None, counts: true };
        let tap = Tap::new(Arc::clone(&self.ring));
        let connection = match &self.line {
            None => Connection::over(Box::new(tap.on(stream))),
            Some(line) => {
                let quiet = line.connect(stream, &tap, timeout).await;
                quiet.map_err(|source| ConnectError::Restless { source })?
            }
        };
        lease.channel = Some(Channel { connection, tap });
        Ok(lease)
    }

    async fn dial_anew(&self, timeout: Duration) -> Result<Box<dyn ByteStream>, ConnectError> {
        let since = Instant::now();
        let deadline = since + timeout;
        let stream = match timeout_at(deadline, self.dialer.dial(deadline)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => return Err(ConnectError::Unreachable { source }),
            Err(_) => return Err(ConnectError::TimedOut { waited: since.elapsed() }),
        };
        if !self.link.pause_after_connect.is_zero() {
            sleep(self.link.pause_after_connect).await;
        }
        Ok(stream)
    }
}

impl Pool {
    fn fail(
        &mut self,
        error: ConnectError,
        (first, largest): (Duration, Duration),
    ) -> Arc<ConnectError> {
        let pause = self.backoff.next_between(first, largest).max(SHORTEST_PATIENCE);
        let why = Arc::new(error);
        self.down = Some(Down { until: Instant::now() + pause, why: Arc::clone(&why) });
        why
    }

    fn close_idle(&mut self) {
        self.open -= self.idle.len();
        self.idle.clear();
    }
}

impl Channel {
    async fn ask(
        &mut self,
        unit: UnitId,
        request: Request,
        terms: Terms<'_>,
    ) -> Result<Reply, LinkError> {
        let at = terms.clock.map(Clock::now).unwrap_or_default();
        self.tap.begin(unit, at);
        let outcome = self.connection.ask(unit, request, Instant::now() + terms.timeout).await;
        match &outcome {
            Ok(_) => self.tap.end("answered"),
            Err(error) => self.tap.end(&error.line()),
        }
        outcome
    }
}

impl<'a> Turn<'a> {
    /// Asks for another connect back-off, first and largest, where this request needs a connection
    /// and there is none.
    pub(crate) const fn with_backoff(mut self, backoff: (Duration, Duration)) -> Self {
        self.backoff = backoff;
        self
    }

    /// Records when the request was sent by this clock.
    pub(crate) const fn with_clock(mut self, clock: &'a dyn Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Whether the request went out on a connection that had answered before.
    pub(crate) const fn met_proven(&self) -> bool {
        self.met_proven
    }

    /// Sends one request to a unit and returns its verified answer; connects first where there is
    /// no connection. Connecting may take `timeout`, and the answer may as well.
    ///
    /// # Errors
    /// [`LinkError::is_of_link`] tells whether it is the way that failed; the unit was not asked
    /// then.
    ///
    /// Cancel safety: dropping the future closes the connection that the request went out on.
    pub(crate) async fn ask(
        &mut self,
        unit: UnitId,
        request: Request,
        timeout: Duration,
    ) -> Result<Reply, LinkError> {
        self.met_proven = false;
        let mut lease = self.bus.connection(timeout, self.backoff).await?;
        let Some(channel) = &mut lease.channel else {
            return Err(LinkError::Closed { source: std::io::ErrorKind::NotConnected.into() });
        };
        self.met_proven = channel.connection.is_proven();
        let terms = Terms { timeout, clock: self.clock };
        let outcome = match &self.bus.line {
            None => channel.ask(unit, request, terms).await,
            Some(line) => line.ask(channel, unit, request, terms).await,
        };
        lease.settle(matches!(outcome, Err(LinkError::Closed { .. })));
        outcome
    }
}

impl Lease<'_> {
    /// Gives the connection back when it can be asked again. Where the peer closed it, it has
    /// probably closed the idle ones as well.
    fn settle(mut self, was_closed: bool) {
        // An RTU line keeps its silences itself.
        let turnaround = self.bus.link.turnaround;
        let rests = self.bus.line.is_none() && !turnaround.is_zero();
        let rests_until = rests.then(|| Instant::now() + turnaround);
        let mut pool = self.bus.pool();
        if was_closed {
            pool.close_idle();
        }
        if let Some(channel) = self.channel.take_if(|channel| channel.connection.is_open()) {
            self.counts = false;
            pool.backoff.reset();
            pool.idle.push(Idle { channel, rests_until });
            drop(pool);
            self.bus.freed.notify_one();
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if self.counts {
            self.channel = None;
            self.bus.pool().open -= 1;
            self.bus.freed.notify_one();
        }
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        self.0.pool().polls -= 1;
        self.0.poll_ended();
    }
}

#[cfg(test)]
mod tests;
