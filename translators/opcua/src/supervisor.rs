//! Keeps one server connected: the thin shell around course, session and ledger.
//!
//! # Invariants
//! - Nothing is spawned: the connection, the publish requests and the chores of a session are
//!   polled side by side by this one future.
//! - A stop is obeyed at once, and costs a second at most: to close the session at the server.
//! - The old session is taken up where the server still has it; otherwise its subscriptions are
//!   taken over; otherwise everything is made anew.

mod chores;
mod course;
mod session;

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tidegate_translator::{CancellationToken, Clock, DeviceState, Questions, Reason, Sink, TagId};
use tokio::time::{Instant, sleep_until};

use crate::book::TagBook;
use crate::connect::ConnectError;
use crate::credentials::Credentials;
use crate::items::Wanted;
use crate::ledger::Ledger;
use crate::line::{Line, Remnant};
use crate::prepare::{Failure, configured};
use crate::spec::DeviceSpec;
use crate::supervisor::chores::{Means, begin};
use crate::supervisor::course::{Course, Way};
use crate::supervisor::session::{Asking, Beginning, Core, End, Mirror, Session};
use crate::voice::Voice;
use crate::wire::Wire;
use tidegate_translator::grid::hash;

/// How long a stop waits for the server.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often the state is said again, and the ledger looked at, without a session.
const BEAT: Duration = Duration::from_secs(1);

/// Everything that keeping a server connected needs.
pub(crate) struct Supervisor {
    means: Means,
    credentials: Arc<dyn Credentials>,
    core: Core,
    course: Course,
}

/// What an earlier session left.
struct Left {
    remnant: Option<Remnant>,
    mirror: Mirror,
}

impl Supervisor {
    pub(crate) fn new(
        spec: Arc<DeviceSpec>,
        ids: &[TagId],
        clock: Arc<dyn Clock>,
        book: Arc<dyn TagBook>,
        credentials: Arc<dyn Credentials>,
        sink: Arc<dyn Sink>,
        questions: Questions,
    ) -> Self {
        let now = Instant::now();
        let device: Arc<str> = spec.name.as_str().into();
        let seed = hash(&device) ^ getrandom::u64().unwrap_or_default();
        let configured: Arc<[Wanted]> = configured(&spec, ids);
        let core = Core {
            spec: Arc::clone(&spec),
            ledger: Ledger::new(Arc::clone(&device), clock, Arc::clone(&sink)),
            voice: Voice::new(device, sink, now),
            asking: Asking::new(questions),
        };
        let course = Course::new(spec.backoff, seed);
        Self { means: Means { spec, configured, book }, credentials, core, course }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut left = Left { remnant: None, mirror: Mirror::default() };
        let mut wait = Duration::ZERO;
        loop {
            let rest = sleep_until(Instant::now() + wait);
            if self.beside(rest, &stop).await.is_none() {
                break;
            }
            let (way, outcome) = match self.attempt(&mut left, &stop).await {
                None => break,
                Some(attempted) => attempted,
            };
            let (line, wire) = match outcome {
                Ok(connected) => connected,
                Err(error) => {
                    wait = self.failed(way, &error);
                    if self.course.way(Instant::now()) == Way::Anew {
                        left.remnant = None;
                        self.core.ledger.is_certain(Instant::now());
                    }
                    continue;
                }
            };
            let mirror = std::mem::take(&mut left.mirror);
            let beginning = match way {
                Way::Resume => Beginning::Resumed(mirror),
                Way::Anew => Beginning::Fresh(mirror),
            };
            let (mirror, end) = self.serve(&line, wire, beginning, &stop).await;
            left.mirror = mirror;
            let Some(end) = end else { break };
            left.remnant = end.may_resume.then(|| line.remains());
            wait = self.lost(&end, left.remnant.as_ref());
        }
        left.mirror.give_up(&mut self.core.ledger);
        self.core.ledger.settle(Instant::now());
    }

    /// One attempt to connect; `None` when a stop came in between.
    async fn attempt(
        &mut self,
        left: &mut Left,
        stop: &CancellationToken,
    ) -> Option<(Way, Result<(Line, Wire), ConnectError>)> {
        let spec = Arc::clone(&self.means.spec);
        let credentials = Arc::clone(&self.credentials);
        let remnant = match self.course.way(Instant::now()) {
            Way::Resume => left.remnant.take(),
            Way::Anew => None,
        };
        let Some(remnant) = remnant else {
            let connect = Box::pin(Line::connect(&spec, &*credentials));
            return Some((Way::Anew, self.beside(connect, stop).await?));
        };
        let resume = Box::pin(Line::resume(remnant, &spec, &*credentials));
        let outcome = self.beside(resume, stop).await?.map_err(|(error, remnant)| {
            left.remnant = Some(remnant);
            error
        });
        Some((Way::Resume, outcome))
    }

    /// Waits for something, and tells meanwhile what there is to tell. `None` after a stop.
    async fn beside<F: Future>(&mut self, work: F, stop: &CancellationToken) -> Option<F::Output> {
        let mut work = std::pin::pin!(work);
        let mut beat = Instant::now() + BEAT;
        loop {
            let due = self.core.ledger.due().map_or(beat, |due| due.min(beat));
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                output = &mut work => return Some(output),
                () = self.core.asking.arrive() => {}
                () = sleep_until(due) => {}
            }
            let now = Instant::now();
            self.core.asking.refuse(self.core.ledger.now());
            self.core.ledger.tick(now);
            if now >= beat {
                beat = now + BEAT;
                self.core.voice.repeat();
            }
        }
    }

    /// An attempt failed. How long to wait for the next.
    fn failed(&mut self, way: Way, error: &ConnectError) -> Duration {
        let now = Instant::now();
        let wait = self.course.failed(now, way, error);
        if wait.is_zero() {
            return wait;
        }
        if !self.core.ledger.is_away() {
            self.core.ledger.away(now, None);
        }
        let status = error.status.unwrap_or(opcua::types::StatusCode::BadNotConnected);
        let tags = self.means.configured.iter().map(|wanted| wanted.tag);
        self.core.ledger.silence(tags, Reason::NotConnected, status.bits());
        let reason = Reason::NotConnected;
        let why = Failure { status: status.bits(), reason, text: error.to_string() };
        self.core.asking.is_away(self.core.ledger.now(), why);
        let state = if error.is_for_a_person() {
            DeviceState::ConfigurationError
        } else {
            DeviceState::Down
        };
        self.core.voice.state(state, Some(error.to_string()));
        wait
    }

    /// A session ended. How long to wait before the next attempt.
    fn lost(&mut self, end: &End, remnant: Option<&Remnant>) -> Duration {
        let now = Instant::now();
        let kept = remnant.map(Remnant::timeout);
        self.core.ledger.away(now, kept);
        self.core.voice.state(DeviceState::Down, Some(end.why.clone()));
        self.course.lost(now, kept)
    }

    /// One session, to its end; no end after a stop.
    async fn serve(
        &mut self,
        line: &Line,
        mut wire: Wire,
        beginning: Beginning,
        stop: &CancellationToken,
    ) -> (Mirror, Option<End>) {
        self.course.arrived(Instant::now());
        let means = self.means.clone();
        let mut session = Session::new(&mut self.core, beginning, Instant::now());
        let mut chores = FuturesUnordered::new();
        let mut publishes = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            session.read_fresh(now);
            chores.extend(session.chores().into_iter().map(|chore| begin(line, &means, chore)));
            while let Some(acks) = session.publish(publishes.len(), now) {
                publishes.push(Box::pin(line.publish(acks)));
            }
            if session.end.is_some() {
                break;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                last = wire.closed() => {
                    session.end = Some(End { why: last.reason, may_resume: true });
                }
                Some(done) = chores.next() => session.done(done, Instant::now()),
                Some(answer) = publishes.next() => {
                    session.published(answer, publishes.len(), Instant::now());
                }
                () = sleep_until(session.due()) => session.tick(Instant::now()),
                () = session.asked() => {}
            }
        }
        let (mirror, end) = session.over();
        drop((chores, publishes));
        if end.as_ref().is_none_or(|end| !end.may_resume) {
            let _ = tokio::time::timeout(FAREWELL, wire.serve(line.close())).await;
        }
        (mirror, end)
    }
}
