//! The micro-service: takes questions, turns away what is too much, and sends answers.
//!
//! # Invariants
//! - It lives on a thread of its own: not even a flood of questions takes time from the threads that
//!   collect.
//! - A question with an acceptable reply subject is answered exactly once to its end, unless the
//!   connection breaks; the audit tells of every one.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, Event, HeaderMap, Message, Subject};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tidegate_query::{
    Archive, Catalogs, Code, Envelope, Flow, MAX_QUESTION_BYTES, Op, Out, Part, Question, Refusal,
    Summary, parse,
};
use tidegate_record::Catalog;
use tidegate_translator::{Clock, Restraint, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::credit::Running;
use super::digests;
use super::discovery::Presence;
use super::lowly;
use super::ops::{self, Ops};
use super::reply::{self, Via};
use super::turns::{Admitted, Turns};
use super::work::{self, Outcome, Told};
use crate::config::Query;
use crate::leaf::{LocalAccess, LocalRole};
use crate::observe::state::{AuditedQuestion, Board, HealthLimits};
use crate::recorder::{Handle, SharedCatalog, random_id};
use crate::run::FreshReads;
use crate::subjects;
use crate::supervise::CoreResult;

/// How long an answer may take when the question does not say.
const DEADLINE: Duration = Duration::from_secs(30);
/// Parts that wait for the connection: two of each question that is usually at work.
const OUTGOING: usize = 8;
/// Ends that wait to be noticed.
const ENDS: usize = 64;
/// The longest text of a question's tags in the audit, in characters.
const SHOWN: usize = 120;
/// How long a stopping service tries to send what is left of its answers.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What questions are answered from.
pub struct Sources {
    /// Latest values, devices, and everything else of the present.
    pub board: Arc<Board>,
    /// When a part counts as down.
    pub health: HealthLimits,
    /// What the numbers of tags stand for.
    pub names: SharedCatalog,
    /// Where devices are asked.
    pub fresh: Arc<FreshReads>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Catalogs for SharedCatalog {
    fn current(&self) -> Arc<Catalog> {
        Self::current(self)
    }
}

/// A question that was taken.
struct Job {
    running: Arc<Running>,
    question: Question,
    reply: Subject,
    trace: Trace,
}

/// Who asked what.
#[derive(Clone)]
struct Trace {
    at: Timestamp,
    began: Instant,
    op: Op,
    what: String,
    by: Option<String>,
    via: Via,
    account: Option<String>,
}

/// A message on its way out.
struct Outgoing {
    reply: Subject,
    part: Part,
}

/// The end of a question at work.
struct Ended {
    id: String,
    trace: Trace,
    told: Option<Told>,
    reply: Subject,
}

/// The service; [`Service::run`] is a core task on a thread of its own.
pub struct Service {
    query: Query,
    gateway: crate::names::GatewayId,
    board: Arc<Board>,
    clock: Arc<dyn Clock>,
    ops: Arc<Ops>,
    presence: Presence,
    turns: Turns<Job>,
    running: HashMap<String, Arc<Running>>,
    outgoing: (mpsc::Sender<Outgoing>, Option<mpsc::Receiver<Outgoing>>),
    ends: (mpsc::Sender<Ended>, Option<mpsc::Receiver<Ended>>),
    lines: Restraint<Instant>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

impl Service {
    /// Answers from the record behind `recorder` and from `sources`.
    #[must_use]
    pub fn new(query: Query, recorder: &Handle, sources: Sources) -> Self {
        let (board, clock) = (Arc::clone(&sources.board), Arc::clone(&sources.clock));
        let gateway = board.gateway().clone();
        let names: Arc<dyn Catalogs> = Arc::new(recorder.catalog());
        let archive = Archive::new(gateway.to_string(), recorder.reader(), names);
        let ops = Arc::new(Ops::new(sources, archive, query.max_rows));
        let id = format!("{:016x}", random_id());
        let (outgoing, sent) = mpsc::channel(OUTGOING);
        let (ends, ended) = mpsc::channel(ENDS);
        Self {
            presence: Presence::new(id, gateway.clone(), clock.now().0),
            turns: Turns::new(query.max_concurrent, query.max_waiting),
            query,
            gateway,
            board,
            clock,
            ops,
            running: HashMap::new(),
            outgoing: (outgoing, Some(sent)),
            ends: (ends, Some(ended)),
            lines: Restraint::new(Instant::now()),
        }
    }

    /// Answers until `stop`.
    ///
    /// # Errors
    /// When the client library gives the connection up, which it is told never to do.
    pub async fn run(mut self, access: &LocalAccess, stop: CancellationToken) -> CoreResult {
        let board = Arc::clone(&self.board);
        board.update_questions(|_| {});
        let _keeping = digests::keep(self.ops.archive())?;
        let note = move |event| {
            if matches!(event, Event::SlowConsumer(_)) {
                board.counters.questions_overflow.one();
            }
            std::future::ready(())
        };
        let client = access.connect(LocalRole::Questions, note).await?;
        let mut questions = client.subscribe(subjects::questions(&self.gateway)).await?;
        let mut looking = client.subscribe(subjects::EVERY_SERVICE).await?;
        let (Some(mut sent), Some(mut ended)) = (self.outgoing.1.take(), self.ends.1.take()) else {
            return Err("the service runs once".into());
        };
        loop {
            let work = async {
                tokio::select! {
                    Some(ended) = ended.recv() => self.end(&client, ended).await,
                    Some(Outgoing { reply, part }) = sent.recv() => {
                        publish(&client, reply, &part).await;
                    }
                    question = questions.next() => match question {
                        Some(question) => self.take(&client, question).await,
                        None => return false,
                    },
                    looking = looking.next() => match looking {
                        Some(looking) => self.discovered(&client, looking).await,
                        None => return false,
                    },
                }
                true
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                goes_on = work => if !goes_on {
                    return Err("the connection to the leaf was given up".into());
                },
            }
        }
        self.running.values().for_each(|running| running.cancel());
        drop(self.outgoing.0);
        let last_words = async {
            while let Some(Outgoing { reply, part }) = sent.recv().await {
                publish(&client, reply, &part).await;
            }
            client.flush().await
        };
        // Whoever gets no end finds out by itself: that is what a killed gateway looks like, too.
        let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
        Ok(())
    }

    async fn discovered(&mut self, client: &Client, message: Message) {
        let Some(reply) = message.reply else { return };
        if reply::judge(&self.gateway, &reply).is_none() {
            self.board.counters.questions_hostile.one();
            return;
        }
        if let Some(answer) = self.presence.answer(&message.subject) {
            send(client, reply, None, answer.to_string().into_bytes()).await;
        }
    }

    async fn take(&mut self, client: &Client, message: Message) {
        let (at, began) = (self.clock.now(), Instant::now());
        let token = message.subject.split('.').skip(4).collect::<Vec<_>>().join(".");
        let op = Op::of_token(&token);
        let judged = message.reply.as_deref().map(|reply| reply::judge(&self.gateway, reply));
        let (reply, via) = match (message.reply.clone(), judged) {
            (Some(reply), Some(Some(via))) => (Some(reply), via),
            // Flow control needs no answer.
            (None, _) if matches!(op, Ok(Op::Cancel | Op::Credit)) => (None, Via::Local),
            _ => {
                self.hostile(&message, &token, at);
                return;
            }
        };
        let parsed = op.and_then(|op| Ok((op, parse(op, &message.payload)?)));
        let (op, (envelope, question)) = match parsed {
            Ok(parsed) => parsed,
            Err(refusal) => {
                let Some(reply) = reply else { return };
                let op = Op::of_token(&token).unwrap_or(Op::Tags);
                let trace = Trace {
                    at,
                    began,
                    op,
                    what: shown(&token),
                    by: None,
                    via,
                    account: account_of(&message, via),
                };
                let id = id_of(&message.payload);
                self.refuse(client, id, reply, &trace, refusal).await;
                return;
            }
        };
        if let Question::Cancel(flow) | Question::Credit(flow) = &question {
            self.flow(client, op, flow, reply).await;
            return;
        }
        let Some(reply) = reply else { return };
        let trace = Trace {
            at,
            began,
            op,
            what: shown(&ops::subject_of(&question).join(" ")),
            by: envelope.by.clone(),
            via,
            account: account_of(&message, via),
        };
        match self.admit(envelope, question, reply.clone(), trace.clone()) {
            Ok(job) => self.begin(client, job).await,
            Err((id, refusal)) => self.refuse(client, id, reply, &trace, refusal).await,
        }
    }

    fn admit(
        &self,
        envelope: Envelope,
        question: Question,
        reply: Subject,
        trace: Trace,
    ) -> Result<Job, (String, Refusal)> {
        let id = envelope.id.unwrap_or_else(|| format!("{:016x}", random_id()));
        if self.running.contains_key(&id) {
            let text = format!("question {id:?} is being answered already; choose another id");
            return Err((id, Refusal::new(Code::Malformed, text)));
        }
        let within = envelope.deadline_ms.map_or(DEADLINE, Duration::from_millis);
        let within = within.min(self.query.max_time);
        let clock = Arc::clone(&self.clock);
        let running = Running::new(id.clone(), trace.began, within, envelope.credit, clock)
            .map_err(|refusal| (id, refusal))?;
        Ok(Job { running: Arc::new(running), question, reply, trace })
    }

    /// Answers what takes no time at once, and has the rest wait its turn.
    async fn begin(&mut self, client: &Client, job: Job) {
        if ops::is_light(&job.question) && !job.running.is_parted() {
            let mut parts = Vec::new();
            let (ops, running) = (Arc::clone(&self.ops), Arc::clone(&job.running));
            let runtime = tokio::runtime::Handle::current();
            let max_bytes = self.query.max_part_bytes;
            let answer = AssertUnwindSafe(|| {
                let mut send = |part| {
                    parts.push(part);
                    true
                };
                let produce =
                    |out: &mut Out<'_>| ops.produce(&job.question, &running, &runtime, out);
                work::answer(&running, max_bytes, &mut send, produce)
            });
            let Ok(told) = std::panic::catch_unwind(answer) else {
                return self.failed(client, running.id.clone(), job.reply, &job.trace).await;
            };
            for part in &parts {
                publish(client, job.reply.clone(), part).await;
            }
            self.audit(&job.trace, told);
            return;
        }
        let running = Arc::clone(&job.running);
        match self.turns.come(job) {
            Admitted::Now(job) => {
                self.running.insert(running.id.clone(), running);
                self.start(client, job).await;
            }
            Admitted::Later => {
                self.running.insert(running.id.clone(), running);
            }
            Admitted::Busy(job) => {
                let text = format!(
                    "{} questions are at work and {} wait; ask again later",
                    self.turns.at_work(),
                    self.turns.waiting()
                );
                let refusal = Refusal::new(Code::Busy, text);
                self.refuse(client, running.id.clone(), job.reply, &job.trace, refusal).await;
            }
        }
        self.show();
    }

    /// Has a thread of its own answer.
    async fn start(&mut self, client: &Client, job: Job) {
        let mut next = Some(job);
        while let Some(job) = next.take() {
            let (id, reply, trace) = (job.running.id.clone(), job.reply.clone(), job.trace.clone());
            let nice = match job.trace.op {
                Op::History | Op::Losses | Op::Prove => lowly::LAST,
                _ => lowly::ASIDE,
            };
            let (ops, max_bytes) = (Arc::clone(&self.ops), self.query.max_part_bytes);
            let (outgoing, ends) = (self.outgoing.0.clone(), self.ends.0.clone());
            let runtime = tokio::runtime::Handle::current();
            let thread = lowly::spawn("question", nice, move || {
                let end = Ended {
                    id: job.running.id.clone(),
                    trace: job.trace.clone(),
                    told: None,
                    reply: job.reply.clone(),
                };
                let mut end = Notice { ends, end: Some(end) };
                let told = work::answer(
                    &job.running,
                    max_bytes,
                    &mut |part| {
                        let reply = job.reply.clone();
                        outgoing.blocking_send(Outgoing { reply, part }).is_ok()
                    },
                    |out| ops.produce(&job.question, &job.running, &runtime, out),
                );
                if let Some(end) = &mut end.end {
                    end.told = Some(told);
                }
            });
            if let Err(error) = thread {
                self.running.remove(&id);
                let text = format!("no thread for another question: {error}; ask again later");
                self.refuse(client, id, reply, &trace, Refusal::new(Code::Busy, text)).await;
                next = self.turns.leave();
            }
        }
    }

    async fn end(&mut self, client: &Client, ended: Ended) {
        self.running.remove(&ended.id);
        match ended.told {
            Some(told) => self.audit(&ended.trace, told),
            None => self.failed(client, ended.id, ended.reply, &ended.trace).await,
        }
        if let Some(next) = self.turns.leave() {
            self.start(client, next).await;
        }
        self.show();
    }

    /// Tells whoever asked that the answer panicked, which is a mistake of ours.
    async fn failed(&mut self, client: &Client, id: String, reply: Subject, trace: &Trace) {
        let text = "the answer failed at the gateway, which goes on; its log has more";
        tracing::error!(op = trace.op.token(), what = trace.what, "a question panicked");
        self.refuse(client, id, reply, trace, Refusal::new(Code::Unreadable, text)).await;
    }

    async fn flow(&mut self, client: &Client, op: Op, flow: &Flow, reply: Option<Subject>) {
        let result = match self.running.get(&flow.id) {
            None => {
                let text = format!("no question {:?} is being answered", flow.id);
                Err(Refusal::new(Code::UnknownQuestion, text))
            }
            Some(running) if op == Op::Cancel => {
                running.cancel();
                Ok(self.ops.summary(&**running))
            }
            Some(running) => {
                running.grant(flow.parts.unwrap_or(1)).map(|()| self.ops.summary(&**running))
            }
        };
        let Some(reply) = reply else { return };
        publish(client, reply, &ending(flow.id.clone(), result)).await;
    }

    async fn refuse(
        &mut self,
        client: &Client,
        id: String,
        reply: Subject,
        trace: &Trace,
        refusal: Refusal,
    ) {
        let told = Told { rows: 0, outcome: Outcome::Refused(refusal.code) };
        publish(client, reply, &ending(id, Err(refusal))).await;
        self.audit(trace, told);
    }

    /// A question whose answer may not go where it is to go.
    fn hostile(&mut self, message: &Message, token: &str, at: Timestamp) {
        self.board.counters.questions_hostile.one();
        let reply = message.reply.as_deref().map_or_else(|| "nowhere".to_owned(), shown);
        if self.lines.lets_through(Instant::now()) {
            let left_out = self.lines.take_left_out();
            tracing::warn!(
                op = shown(token),
                reply,
                left_out,
                "question not answered: its answer would not go to an inbox"
            );
        }
        self.board.note_question(AuditedQuestion {
            at,
            op: shown(token),
            what: format!("reply {reply}"),
            by: None,
            via: "hostile".to_owned(),
            account: None,
            took_ms: 0.0,
            rows: 0,
            outcome: Code::HostileReply.word().to_owned(),
        });
    }

    fn audit(&mut self, trace: &Trace, told: Told) {
        let counters = &self.board.counters;
        counters.questions_rows.add(told.rows);
        let error = match told.outcome {
            Outcome::Refused(Code::Busy) => {
                counters.questions_busy.one();
                Some(Code::Busy.word())
            }
            Outcome::Refused(code) => {
                counters.questions_declined.one();
                Some(code.word())
            }
            _ => {
                counters.questions_answered.one();
                None
            }
        };
        let took = trace.began.elapsed();
        // Microseconds are enough.
        let took_ms = (took.as_secs_f64() * 1e6).round() / 1000.0;
        self.presence.count(trace.op, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), error);
        let outcome = told.outcome.word();
        let by = trace.by.clone();
        if self.lines.lets_through(Instant::now()) {
            let left_out = self.lines.take_left_out();
            tracing::info!(
                op = trace.op.token(),
                what = trace.what,
                by,
                via = trace.via.word(),
                account = trace.account,
                took_ms,
                rows = told.rows,
                outcome,
                left_out,
                "question"
            );
        }
        self.board.note_question(AuditedQuestion {
            at: trace.at,
            op: trace.op.token().to_owned(),
            what: trace.what.clone(),
            by,
            via: trace.via.word().to_owned(),
            account: trace.account.clone(),
            took_ms,
            rows: told.rows,
            outcome: outcome.to_owned(),
        });
    }

    fn show(&self) {
        let (at_work, waiting) = (self.turns.at_work(), self.turns.waiting());
        self.board.update_questions(|questions| {
            questions.at_work = at_work;
            questions.waiting = waiting;
        });
    }
}

/// Tells of the end of a question, also when its thread panics.
struct Notice {
    ends: mpsc::Sender<Ended>,
    end: Option<Ended>,
}

impl Drop for Notice {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            // An error means that the service is gone.
            let _ = self.ends.blocking_send(end);
        }
    }
}

/// The only part of an answer without rows.
fn ending(id: String, result: Result<Summary, Refusal>) -> Part {
    let mut part = Part::rows(id, 0, Vec::new());
    match result {
        Ok(summary) => part.summary = Some(summary),
        Err(refusal) => part.error = Some(refusal),
    }
    part
}

/// What is shown of a text from outside.
fn shown(text: &str) -> String {
    let mut out: String = text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

/// The identity of a question that is none, as far as it can be told.
fn id_of(payload: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Id {
        id: String,
    }
    let short = payload.len() <= MAX_QUESTION_BYTES;
    let id = short.then(|| serde_json::from_slice::<Id>(payload).ok()).flatten();
    id.map_or_else(String::new, |Id { id }| id.chars().take(64).collect())
}

/// Who asked, where a server says so: the hub adds it to what comes from other accounts.
fn account_of(message: &Message, via: Via) -> Option<String> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Info {
        acc: String,
        user: String,
        name: String,
    }
    if via != Via::Relayed {
        return None;
    }
    let header = message.headers.as_ref()?.get("Nats-Request-Info")?.as_str();
    if header.len() > 2048 {
        return None;
    }
    let Info { acc, user, name } = serde_json::from_str(header).ok()?;
    let who = if user.is_empty() { name } else { user };
    Some(shown(&if who.is_empty() { acc } else { format!("{acc}/{who}") }))
}

async fn publish(client: &Client, reply: Subject, part: &Part) {
    match serde_json::to_vec(part) {
        Ok(bytes) => send(client, reply, part.error.as_ref(), bytes).await,
        // Rows are JSON already, so there is nothing that could not be written.
        Err(error) => tracing::error!("answer cannot be written: {error}"),
    }
}

async fn send(client: &Client, reply: Subject, error: Option<&Refusal>, bytes: Vec<u8>) {
    let bytes = Bytes::from(bytes);
    let sent = match error {
        None => client.publish(reply, bytes).await,
        Some(refusal) => {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Service-Error-Code", refusal.code.number().to_string().as_str());
            headers.insert("Nats-Service-Error", shown(&refusal.text).as_str());
            client.publish_with_headers(reply, headers, bytes).await
        }
    };
    if let Err(error) = sent {
        tracing::warn!("answer not sent: {}", crate::causes::chain(&error));
    }
}
