//! The poll loop of one device: the thin shell around plan, blocks, book and link.
//!
//! # Invariants
//! - A request that broke a connection which had answered before is repeated at once inside the
//!   slot, because peers close idle connections, and some close after each answer. On a connection
//!   that never answered it is not: attempts are then spaced by back-off, at most one per slot.
//! - No await is left without an end: requests and connects have deadlines, and the book tells
//!   silence while they last.
//! - Nothing awaits between an answer and handing its samples over, so cancellation loses none.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;

use tidegate_translator::DeviceState;
use tokio::time::{Instant, sleep_until};

use crate::blocks::{Blocks, Cause, Refusal, Step};
use crate::book::Book;
use crate::bus::Bus;
use crate::decode::{Decoded, decode_bit, decode_registers};
use crate::grid::Backoff;
use crate::link::{GATEWAY_PATH, GATEWAY_TARGET, LinkError, Reply, Request, exception_word};
use crate::plan::{Block, Span};
use crate::spec::{DeviceSpec, TagSpec};
use crate::voice::Voice;

/// Everything that polling one device needs.
pub(crate) struct Poller {
    pub(crate) spec: Arc<DeviceSpec>,
    pub(crate) bus: Arc<Bus>,
    pub(crate) blocks: Blocks,
    pub(crate) book: Book,
    pub(crate) voice: Voice,
    pub(crate) backoff: Backoff,
    /// The device is left alone until then.
    pub(crate) retry_at: Option<Instant>,
    /// Whether the last attempt found nobody at all.
    pub(crate) away: bool,
    pub(crate) overran: bool,
}

/// What one cycle has seen.
#[derive(Default)]
struct Cycle {
    answers: u32,
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
async fn watched<F: Future>(book: &mut Book, future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        let Some(silent_at) = book.silent_at() else {
            return future.await;
        };
        tokio::select! {
            biased;
            output = &mut future => return output,
            () = sleep_until(silent_at) => book.fall_silent(),
        }
    }
}

impl Poller {
    /// Polls until dropped.
    pub(crate) async fn poll_forever(&mut self) {
        if self.book.tags() == 0 {
            return std::future::pending().await;
        }
        loop {
            let slot = self.book.next_slot(Instant::now());
            let due = self.book.grid.due(slot);
            watched(&mut self.book, sleep_until(due)).await;
            let now = Instant::now();
            let slot = slot.max(self.book.next_slot(now));
            self.account_for_passed(slot);
            if self.retry_at.is_some_and(|at| now < at) {
                self.book.lose_again(slot);
                continue;
            }
            self.cycle(slot).await;
            self.book.flush();
        }
    }

    fn account_for_passed(&mut self, slot: u64) {
        let overran = self.book.pass_before(slot);
        if overran && !self.overran {
            self.voice.overrun(self.book.grid.period());
        }
        self.overran = overran;
    }

    /// One poll of everything.
    async fn cycle(&mut self, slot: u64) {
        let mut cycle = Cycle::default();
        self.blocks.begin(Instant::now());
        let bus = Arc::clone(&self.bus);
        let _poll = bus.poll();
        while let Some(step) = self.blocks.next() {
            let block = match step {
                Step::Resting(spans, cause) => {
                    self.fail(&spans, cause, &mut cycle);
                    continue;
                }
                Step::Read(block) => block,
            };
            let (outcome, met_proven) = self.transact(&block).await;
            match outcome {
                Ok(reply) => {
                    cycle.answers += 1;
                    self.blocks.answered();
                    self.take(&block, &reply, &mut cycle);
                }
                Err(LinkError::Refused { code }) => {
                    if matches!(code, GATEWAY_PATH | GATEWAY_TARGET) && cycle.answers == 0 {
                        // The gateway answered, the unit behind it did not: the link stays, and
                        // each further request would cost the gateway's own time-out.
                        let error = LinkError::Refused { code };
                        return self.lost(slot, &error, Some(&block), &cycle);
                    }
                    cycle.answers += 1;
                    if let Refusal::Final(spans) = self.blocks.refused(code) {
                        self.fail(&spans, Cause::Refused(code), &mut cycle);
                    }
                }
                Err(error) => {
                    if !self.may_go_on(slot, &error, met_proven, &mut cycle) {
                        return self.lost(slot, &error, Some(&block), &cycle);
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
        met_proven: bool,
        cycle: &mut Cycle,
    ) -> bool {
        if error.is_of_link() {
            return false;
        }
        if cycle.answers > 0
            && let Some(spans) = self.blocks.poisoned(error.reason())
        {
            self.fail(&spans, Cause::Poison(error.reason()), cycle);
            return true;
        }
        if !met_proven {
            if cycle.answers == 0 {
                self.blocks.put_last();
            }
            return false;
        }
        Instant::now() < self.book.grid.due(slot + 1)
    }

    /// Asks for a block, and tells whether the connection had answered before.
    async fn transact(&mut self, block: &Block) -> (Result<Reply, LinkError>, bool) {
        let request = Request::Read { table: block.table, start: block.start, count: block.count };
        let (bus, spec) = (&self.bus, &self.spec);
        let asking = async {
            let mut turn = bus.turn().await.with_backoff(spec.backoff);
            let outcome = turn.ask(spec.unit, request, spec.timeout).await;
            (outcome, turn.met_proven())
        };
        let (outcome, met_proven) = watched(&mut self.book, asking).await;
        match &outcome {
            Ok(_) => self.heard(),
            Err(LinkError::Refused { code }) if !matches!(*code, GATEWAY_PATH | GATEWAY_TARGET) => {
                self.heard();
            }
            Err(_) => {}
        }
        (outcome, met_proven)
    }

    fn heard(&mut self) {
        let now = Instant::now();
        self.retry_at = None;
        if std::mem::take(&mut self.away) {
            // It may come back as another device.
            self.blocks.wake(now);
        }
        self.book.heard(now);
    }

    /// Decodes an answer and hands it over.
    fn take(&mut self, block: &Block, reply: &Reply, cycle: &mut Cycle) {
        let acquired = self.book.now();
        let spans = self.blocks.spans(&block.spans);
        let mut samples = Vec::with_capacity(spans.len());
        for span in spans {
            let Some(tag) = self.spec.tags.get(span.tag()) else { continue };
            if let Some(decoded) = decode(tag, span, block, reply) {
                if self.book.is_refused(span.tag()) {
                    cycle.back.add(span.tag());
                }
                samples.extend(self.book.read(span.tag(), decoded, acquired));
            }
        }
        self.book.hand_over(samples);
    }

    /// Some tags were not read, while the device answers.
    fn fail(&mut self, spans: &Range<usize>, cause: Cause, cycle: &mut Cycle) {
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
        self.book.hand_over(samples);
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
            self.voice.tags_back(&self.book.path(cycle.back.first), cycle.back.tags);
        }
        let why = cycle.why.as_deref().unwrap_or_default();
        if cycle.lost.tags > 0 {
            self.voice.tags_lost(&self.book.path(cycle.lost.first), cycle.lost.tags, why);
        }
        if cycle.failed == 0 {
            self.voice.state(DeviceState::Live, None);
        } else {
            let tags = self.book.tags();
            let why = format!("{} of {tags} tags not read: {why}", cycle.failed);
            self.voice.state(DeviceState::Degraded, Some(why));
        }
    }

    /// The device, or the way to it, is gone.
    fn lost(&mut self, slot: u64, error: &LinkError, at: Option<&Block>, cycle: &Cycle) {
        self.book.lose(slot, error.reason(), error.status());
        if cycle.answers > 0 {
            // Not dead: the sooner it is tried again, the sooner the block that it cannot bear
            // stands alone.
            self.backoff.reset();
        } else {
            self.away = true;
        }
        if !error.is_of_link() {
            self.retry_at = Some(Instant::now() + self.backoff.next());
        }
        let mut why = error.line();
        if let Some(block) = at.filter(|_| !error.is_of_link()) {
            why = format!("{why}, asked for {}", block.words());
        }
        self.voice.state(DeviceState::Down, Some(why));
    }
}

/// One tag of a verified answer.
pub(crate) fn decode(tag: &TagSpec, span: &Span, block: &Block, reply: &Reply) -> Option<Decoded> {
    let from = usize::from(span.start.checked_sub(block.start)?);
    match reply {
        Reply::Bits(bits) => bits.get(from).copied().map(decode_bit),
        Reply::Registers(registers) => {
            decode_registers(tag, registers.get(from..from + usize::from(span.width))?)
        }
        Reply::Identity(_) => None,
    }
}
