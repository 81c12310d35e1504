//! The poll loop of one group of a device's tags: the thin shell around plan, blocks, book and the
//! device's seat at its bus.
//!
//! # Invariants
//! - A request that broke a connection which had answered before is repeated once inside the slot,
//!   because peers close idle connections, and some close after each answer. On a connection that
//!   never answered it is not: attempts are then spaced by back-off, at most one per slot.
//! - A unit that was given up gets one request, whatever its end.
//! - A unit that says that it is busy is asked again inside the slot, never beyond the next one.
//! - No await is left without an end: requests and connects have deadlines, and the book tells
//!   silence while they last.
//! - Nothing awaits between an answer and handing its samples over, so cancellation loses none.
//! - Asked to stop, it ends between two polls: the one under way has been read by the unit already.

mod between;

use std::future::poll_fn;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tidegate_translator::{
    CancellationToken, FaultReport, Fresh, Quality, Questions, Sample, Sink, Value,
};
use tokio::time::{Instant, Sleep, sleep};

use crate::blocks::{Blocks, Cause, Refusal, Step};
use crate::book::Book;
use crate::bus::{Absence, Asked, Seat};
use crate::decode::{Decoded, decode_bit, decode_with};
use crate::fault::Fault;
use crate::link::{BUSY, GATEWAY_PATH, GATEWAY_TARGET, LinkError, Reply, Request, exception_word};
use crate::plan::{Block, Span};
use crate::spec::{DeviceSpec, TagSpec};
use crate::voice::Voice;
use tidegate_translator::grid::Backoff;

pub(crate) use self::between::{Between, SHARE_PERCENT};

/// The first wait for a busy unit; each further one is twice as long.
const FIRST_BUSY_WAIT: Duration = Duration::from_millis(10);

/// Everything that polling one group needs.
pub(crate) struct Poller {
    /// Which group of the device it is.
    pub(crate) group: usize,
    pub(crate) spec: Arc<DeviceSpec>,
    pub(crate) seat: Seat,
    pub(crate) blocks: Blocks,
    pub(crate) book: Book,
    /// Shared by the groups of the device.
    pub(crate) voice: Arc<Mutex<Voice>>,
    /// Wakes when the book may have to tell silence.
    pub(crate) watch: Pin<Box<Sleep>>,
    pub(crate) backoff: Backoff,
    /// The group is left alone until then: it was not answered, while others may be.
    pub(crate) retry_at: Option<Instant>,
    /// The unit's returns at that time; another one wakes the group.
    pub(crate) returns: u64,
    /// Whether the last attempt found nobody at all.
    pub(crate) away: bool,
    pub(crate) overran: bool,
    pub(crate) device: Arc<str>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) fault: Fault,
    /// Whether that nothing is answered was told as a fault.
    pub(crate) loss_told: bool,
    /// What is to be read now.
    pub(crate) questions: Questions,
    pub(crate) between: Between,
}

/// What one cycle has seen.
#[derive(Default)]
struct Cycle {
    answers: u32,
    /// Whether a request was repeated since the last answer.
    repeated: bool,
    lost: Tally,
    back: Tally,
    /// Tags that were not read, and why the first was not.
    failed: usize,
    why: Option<String>,
}

/// Tags that changed, and the first of them.
#[derive(Default)]
struct Tally {
    tags: usize,
    first: usize,
}

impl Tally {
    const fn add(&mut self, tag: usize) {
        if self.tags == 0 {
            self.first = tag;
        }
        self.tags += 1;
    }
}

/// Waits for `future`, and has the book tell silence when its time comes before.
async fn watched<F: Future>(book: &mut Book, watch: &mut Pin<Box<Sleep>>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(output);
        }
        // The timer is set for the time that it last had to wake at, which is never too late: so
        // it need not be set again for each request.
        while let Some(silent_at) = book.silent_at() {
            if silent_at <= Instant::now() {
                book.fall_silent();
            } else if watch.as_mut().poll(context).is_pending() {
                break;
            } else {
                watch.as_mut().reset(silent_at);
            }
        }
        Poll::Pending
    })
    .await
}

impl Poller {
    /// Polls until `stop`, and then to the end of the poll that is under way.
    pub(crate) async fn poll_until(&mut self, stop: &CancellationToken) {
        if self.book.tags() == 0 {
            return stop.cancelled().await;
        }
        loop {
            let slot = self.book.next_slot(Instant::now());
            let due = self.book.grid.due(slot);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.until_due(due) => {}
            }
            let now = Instant::now();
            let slot = slot.max(self.book.next_slot(now));
            self.account_for_passed(slot);
            if self.is_left_alone(now) {
                self.book.lose_again(slot);
                continue;
            }
            self.cycle(slot).await;
            self.book.flush();
        }
    }

    fn is_left_alone(&mut self, now: Instant) -> bool {
        self.retry_at = self.retry_at.filter(|at| now < *at && self.seat.returns() == self.returns);
        self.retry_at.is_some()
    }

    fn voice(&self) -> MutexGuard<'_, Voice> {
        self.voice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account_for_passed(&mut self, slot: u64) {
        let overran = self.book.pass_before(slot);
        if overran && !self.overran {
            self.voice().overrun(self.book.grid.period());
        }
        self.overran = overran;
    }

    /// One poll of everything.
    async fn cycle(&mut self, slot: u64) {
        let mut cycle = Cycle::default();
        let begun = Instant::now();
        let busy_until = self.book.grid.due(slot + 1).min(begun + self.spec.timeout);
        self.blocks.begin(begun);
        self.between.begin();
        let bus = Arc::clone(self.seat.bus());
        let _poll = bus.poll();
        while let Some(step) = self.blocks.next() {
            let block = match step {
                Step::Resting(spans, cause) => {
                    self.fail(&spans, cause, &mut cycle);
                    continue;
                }
                Step::Read(block) => block,
            };
            let asked = match self.transact(&block, busy_until).await {
                Ok(asked) => asked,
                Err(absence) => return self.absent(slot, &absence, &cycle),
            };
            match asked.outcome {
                Ok(reply) => {
                    (cycle.answers, cycle.repeated) = (cycle.answers + 1, false);
                    self.blocks.answered();
                    self.take(&block, &reply, &mut cycle);
                }
                Err(LinkError::Refused { code }) => {
                    if matches!(code, GATEWAY_PATH | GATEWAY_TARGET) && cycle.answers == 0 {
                        // The gateway answered, the unit behind it did not: the link stays, and
                        // each further request would cost the gateway's own time-out.
                        let error = LinkError::Refused { code };
                        return self.lost(slot, &error, &block, &cycle);
                    }
                    (cycle.answers, cycle.repeated) = (cycle.answers + 1, false);
                    if let Refusal::Final(spans) = self.blocks.refused(code) {
                        self.fail(&spans, Cause::Refused(code), &mut cycle);
                    }
                }
                Err(ref error) => {
                    if !self.may_go_on(slot, error, &asked, &mut cycle) {
                        return self.lost(slot, error, &block, &cycle);
                    }
                }
            }
        }
        self.conclude(&cycle);
    }

    /// A request had no answer. Tells whether the poll goes on, with the same block or another.
    fn may_go_on(
        &mut self,
        slot: u64,
        error: &LinkError,
        asked: &Asked,
        cycle: &mut Cycle,
    ) -> bool {
        if error.is_of_link() || matches!(error, LinkError::Unsettled { .. }) {
            return false;
        }
        if cycle.answers > 0
            && let Some(spans) = self.blocks.poisoned(error.reason())
        {
            self.fail(&spans, Cause::Poison(error.reason()), cycle);
            return true;
        }
        // A close says more of the connection than of the unit, silence the other way round.
        let was_alive = asked.was_trusted || matches!(error, LinkError::Closed { .. });
        if asked.met_proven && was_alive && !std::mem::replace(&mut cycle.repeated, true) {
            return Instant::now() < self.book.grid.due(slot + 1);
        }
        if cycle.answers == 0 {
            self.blocks.put_last();
        }
        false
    }

    /// Asks for a block, again and again while the unit says that it is busy and there is time.
    async fn transact(
        &mut self,
        block: &Block,
        busy_until: Instant,
    ) -> Result<Asked, Arc<Absence>> {
        let request = Request::Read { table: block.table, start: block.start, count: block.count };
        let mut wait = FIRST_BUSY_WAIT;
        loop {
            let begun = Instant::now();
            let asking = self.seat.ask(request, &self.spec);
            let asked = watched(&mut self.book, &mut self.watch, asking).await?;
            self.between.took(begun.elapsed());
            if self.fault.goes_on() {
                self.fault.goes_on_with(self.seat.exchanges(), &self.device, &*self.sink);
            }
            match &asked.outcome {
                Err(LinkError::Refused { code: GATEWAY_PATH | GATEWAY_TARGET }) => {}
                Ok(_) | Err(LinkError::Refused { .. }) => self.heard(),
                Err(_) => {}
            }
            let is_busy = matches!(asked.outcome, Err(LinkError::Refused { code: BUSY }));
            if !is_busy || Instant::now() + wait >= busy_until {
                return Ok(asked);
            }
            watched(&mut self.book, &mut self.watch, sleep(wait)).await;
            wait *= 2;
        }
    }

    /// Something was lost: tells what went over the wire until now.
    fn tell_fault(&mut self, what: String) {
        let (at, exchanges) = (self.book.now(), self.seat.exchanges());
        if !exchanges.is_empty() {
            let number = self.voice().next_fault();
            let report = FaultReport { number, at, what, exchanges };
            self.fault.tell(report, &self.device, &*self.sink);
        }
    }

    fn heard(&mut self) {
        let now = Instant::now();
        self.loss_told = false;
        self.retry_at = None;
        self.between.heard();
        if std::mem::take(&mut self.away) {
            // It may come back as another device.
            self.blocks.wake(now);
        }
        self.book.heard(now);
    }

    /// Decodes an answer and hands it over.
    fn take(&mut self, block: &Block, reply: &Reply, cycle: &mut Cycle) {
        let acquired = self.book.now();
        let asked = !self.questions.is_empty();
        let spans = self.blocks.spans(&block.spans);
        let mut samples = Vec::with_capacity(spans.len());
        for span in spans {
            let (at, book, questions) = (span.tag(), &mut self.book, &mut self.questions);
            let Some(tag) = self.spec.tags.get(at) else { continue };
            let was_refused = decode(tag, span, block, reply, |value, quality| {
                if asked && let Some(id) = book.id(at).filter(|id| questions.want(*id)) {
                    let sample = Sample { quality, ..Sample::good(id, acquired, value.clone()) };
                    questions.answer(&Fresh { sample, error: None });
                }
                book.read(at, value, quality, acquired, &mut samples)
            });
            if was_refused == Some(true) {
                cycle.back.add(at);
            }
        }
        self.book.hand_over(samples);
    }

    /// Some tags were not read, while the device answers.
    fn fail(&mut self, spans: &Range<usize>, cause: Cause, cycle: &mut Cycle) {
        let lost_before = cycle.lost.tags;
        let mut samples = Vec::new();
        for span in self.blocks.spans(spans) {
            cycle.failed += 1;
            if self.book.fail(span.tag(), cause, &mut samples) {
                cycle.lost.add(span.tag());
            }
            if cycle.why.is_none() {
                cycle.why = Some(self.describe(span, cause));
            }
        }
        self.refuse_spans(spans, cause);
        self.book.hand_over(samples);
        if lost_before == 0 && cycle.lost.tags > 0 {
            self.tell_fault(cycle.why.clone().unwrap_or_default());
        }
    }

    fn describe(&self, span: &Span, cause: Cause) -> String {
        let address = self.spec.tags.get(span.tag()).map(|tag| tag.address.to_string());
        let address = address.unwrap_or_default();
        match cause {
            Cause::Refused(code) => {
                format!("{address} refused with exception {code} ({})", exception_word(code))
            }
            Cause::Poison(reason) => {
                format!("asking for {address} costs the connection ({})", reason.word())
            }
        }
    }

    /// The whole cycle went through.
    fn conclude(&mut self, cycle: &Cycle) {
        self.backoff.reset();
        self.retry_at = None;
        if cycle.back.tags > 0 {
            self.voice().tags_back(&self.book.path(cycle.back.first), cycle.back.tags);
        }
        let why = cycle.why.as_deref().unwrap_or_default();
        if cycle.lost.tags > 0 {
            self.voice().tags_lost(&self.book.path(cycle.lost.first), cycle.lost.tags, why);
        }
        let but = (cycle.failed > 0)
            .then(|| format!("{} of {} tags not read: {why}", cycle.failed, self.book.tags()));
        self.voice().reads(self.group, but);
    }

    /// The device, or the way to it, is gone.
    fn lost(&mut self, slot: u64, error: &LinkError, at: &Block, cycle: &Cycle) {
        self.book.lose(slot, error.reason(), error.status());
        self.away |= cycle.answers == 0;
        let line = error.line();
        let why = if error.is_of_link() {
            line.clone()
        } else {
            format!("{line}, asked for {}", at.words())
        };
        if !std::mem::replace(&mut self.loss_told, true) {
            self.tell_fault(why.clone());
        }
        self.refuse(&Absence { reason: error.reason(), status: error.status(), line: why.clone() });
        let gone = error.is_of_link() || {
            // For all who ask this unit: what this group asked for is not theirs.
            let (reason, status) = (error.reason(), error.status());
            self.seat.give_up(Absence { reason, status, line }, self.spec.backoff)
        };
        if !gone {
            if cycle.answers > 0 {
                // The sooner it is tried again, the sooner the block that the device cannot bear
                // stands alone.
                self.backoff.reset();
            }
            let retry_at = Instant::now() + self.backoff.next();
            self.retry_at = Some(retry_at);
            self.between.left_alone(
                retry_at,
                Absence { reason: error.reason(), status: error.status(), line: why.clone() },
            );
            self.returns = self.seat.returns();
        }
        self.voice().lost(self.group, gone, why);
    }

    /// The unit is left alone at present: nobody asked it.
    fn absent(&mut self, slot: u64, absence: &Absence, cycle: &Cycle) {
        self.book.lose(slot, absence.reason, absence.status);
        self.away |= cycle.answers == 0;
        self.refuse(absence);
        self.voice().lost(self.group, true, absence.line.clone());
    }
}

/// One tag of a verified answer, handed to `take`; `None` when the answer does not hold it.
#[inline]
pub(crate) fn decode<R>(
    tag: &TagSpec,
    span: &Span,
    block: &Block,
    reply: &Reply,
    take: impl FnOnce(Value, Quality) -> R,
) -> Option<R> {
    let from = usize::from(span.start.checked_sub(block.start)?);
    match reply {
        Reply::Registers(registers) => {
            let registers = registers.get(from..from + usize::from(span.width))?;
            decode_with(tag, registers, take)
        }
        Reply::Bits(bits) => {
            let Decoded { value, quality } = decode_bit(tag, *bits.get(from)?);
            Some(take(value, quality))
        }
        Reply::Identity(_) => None,
    }
}
