//! Reading tags now, because somebody asks: between a running driver and whoever asks it.
//!
//! # Invariants
//! - A value is given to an asker only when its reading began after he asked.
//! - At most [`MAX_WAITING`] questions wait in the queue and as many in the driver's hands; one
//!   more is told that it is too many. What waits for the same tag gets the same reading.
//! - Nobody waits beyond his deadline, whatever the driver does; who stops waiting costs no reading
//!   that has not begun.
//! - What is read so is no sample: the record holds what its configuration says, whoever asks.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, timeout_at};

use crate::{Reason, Sample, TagId, Timestamp};

/// Questions that wait for one driver. A person asks one at a time; a program that asks more often
/// than a device answers is told so before its questions are old.
pub const MAX_WAITING: usize = 16;

/// What one reading gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Fresh {
    /// The value with its times and quality; a bad one without a value where there is none.
    pub sample: Sample,
    /// What went wrong, in words for the person who asked.
    pub error: Option<String>,
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FreshAnswer {
    /// What was read, in no order; each tag once.
    pub read: Vec<Fresh>,
    /// Why the other tags were not; `None` when they are not the device's.
    pub rest: Option<Unread>,
}

/// Why nothing was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// Too many questions wait already.
    #[error("{MAX_WAITING} reads wait for this device already; ask again later")]
    Busy,
    /// Its driver does not run.
    #[error("its driver does not run at present; the log says why")]
    NotRunning,
    /// There was no time for it before the deadline.
    #[error("not read within {waited:?}; ask for fewer tags or allow more time")]
    Late {
        /// How long was waited.
        waited: Duration,
    },
}

/// A question under way. Dropping it takes it back.
pub type FreshFuture<'a> = Pin<Box<dyn Future<Output = FreshAnswer> + Send + 'a>>;

/// Asks a running driver to read.
pub trait ReadNow: Send + Sync {
    /// Reads tags of the device on its standing connection, in between what it does anyway. What
    /// is not read at `deadline` is left out.
    fn read_now(&self, tags: HashSet<TagId>, deadline: Instant) -> FreshFuture<'_>;
}

/// Where one driver is asked.
#[derive(Debug, Clone)]
pub struct FreshDesk(mpsc::Sender<Question>);

/// What a driver is asked. Dropping it answers everybody that it does not run.
#[derive(Debug)]
pub struct Questions {
    queue: mpsc::Receiver<Question>,
    taken: Vec<Question>,
}

struct Question {
    /// What has no answer yet.
    tags: HashSet<TagId>,
    deadline: Instant,
    answers: mpsc::Sender<Fresh>,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("tags", &self.tags.len()).finish_non_exhaustive()
    }
}

impl Fresh {
    /// Nothing could be read.
    #[must_use]
    pub const fn failed(
        tag: TagId,
        at: Timestamp,
        reason: Reason,
        status: u32,
        error: String,
    ) -> Self {
        Self { sample: Sample::bad(tag, at, reason, status), error: Some(error) }
    }
}

impl Unread {
    /// What the quality of such a tag says.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Busy => Reason::Unspecified,
            Self::NotRunning => Reason::NotConnected,
            Self::Late { .. } => Reason::Timeout,
        }
    }
}

/// A desk and what is asked there.
#[must_use]
pub fn fresh_desk() -> (FreshDesk, Questions) {
    let (sender, queue) = mpsc::channel(MAX_WAITING);
    (FreshDesk(sender), Questions { queue, taken: Vec::new() })
}

impl FreshDesk {
    /// Asks, and waits for the answers until `deadline`.
    ///
    /// Cancel safety: whoever stops waiting takes the question back.
    pub async fn ask(&self, tags: HashSet<TagId>, deadline: Instant) -> FreshAnswer {
        let mut answer = FreshAnswer::default();
        if tags.is_empty() {
            return answer;
        }
        let since = Instant::now();
        let asked = tags.len();
        let (answers, mut incoming) = mpsc::channel(asked);
        match self.0.try_send(Question { tags, deadline, answers }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                answer.rest = Some(Unread::Busy);
                return answer;
            }
            Err(TrySendError::Closed(_)) => {
                answer.rest = Some(Unread::NotRunning);
                return answer;
            }
        }
        while answer.read.len() < asked {
            match timeout_at(deadline, incoming.recv()).await {
                Ok(Some(fresh)) => answer.read.push(fresh),
                Ok(None) if Instant::now() < deadline => {
                    answer.rest = Some(Unread::NotRunning);
                    break;
                }
                Ok(None) | Err(_) => {
                    answer.rest = Some(Unread::Late { waited: since.elapsed() });
                    break;
                }
            }
        }
        answer
    }
}

impl ReadNow for FreshDesk {
    fn read_now(&self, tags: HashSet<TagId>, deadline: Instant) -> FreshFuture<'_> {
        Box::pin(self.ask(tags, deadline))
    }
}

impl Questions {
    /// Questions that nobody can ask: of a driver that is not told of any.
    #[must_use]
    pub fn none() -> Self {
        fresh_desk().1
    }

    /// Waits until a question is there, and takes it in hand; for ever where nobody asks.
    ///
    /// Cancel safety: no question is lost.
    pub async fn arrive(&mut self) {
        if self.taken.len() < MAX_WAITING
            && let Some(question) = self.queue.recv().await
        {
            self.taken.push(question);
            return;
        }
        std::future::pending().await
    }

    /// Takes in hand what was asked until now, and lays down what nobody waits for any more. What
    /// is read from here on answers all of it. Tells whether there is anything.
    pub fn take(&mut self, now: Instant) -> bool {
        while self.taken.len() < MAX_WAITING
            && let Ok(question) = self.queue.try_recv()
        {
            self.taken.push(question);
        }
        self.taken.retain(|question| question.deadline > now && !question.answers.is_closed());
        !self.taken.is_empty()
    }

    /// Whether nothing is in hand.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// When the first of those in hand is not waited for any more.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.taken.iter().map(|question| question.deadline).min()
    }

    /// Whether somebody waits for this tag.
    #[must_use]
    pub fn want(&self, tag: TagId) -> bool {
        self.taken.iter().any(|question| question.tags.contains(&tag))
    }

    /// Every tag that somebody waits for, each once.
    #[must_use]
    pub fn tags(&self) -> HashSet<TagId> {
        self.taken.iter().flat_map(|question| question.tags.iter().copied()).collect()
    }

    /// Gives a reading to all who wait for its tag.
    pub fn answer(&mut self, fresh: &Fresh) {
        let tag = fresh.sample.tag;
        for question in &mut self.taken {
            if question.tags.remove(&tag) {
                // There is room for each tag once; who does not wait any more misses nothing.
                let _ = question.answers.try_send(fresh.clone());
            }
        }
        self.taken.retain(|question| !question.tags.is_empty());
    }

    /// Answers all that is left with one failure.
    pub fn fail(&mut self, at: Timestamp, reason: Reason, status: u32, error: &str) {
        for tag in self.tags() {
            self.answer(&Fresh::failed(tag, at, reason, status, error.to_owned()));
        }
    }

    /// Puts what is in hand into other hands: what is asked from now on is asked here.
    #[must_use]
    pub fn split(&mut self) -> Self {
        let (_, queue) = mpsc::channel(1);
        Self { queue, taken: std::mem::take(&mut self.taken) }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use futures_util::future::join;

    use super::*;
    use crate::{Quality, Value};

    const SECOND: Duration = Duration::from_secs(1);

    fn tags(ids: impl IntoIterator<Item = u32>) -> HashSet<TagId> {
        ids.into_iter().map(TagId).collect()
    }

    fn one(id: u32, value: i64) -> Fresh {
        Fresh { sample: Sample::good(TagId(id), Timestamp(7), Value::I64(value)), error: None }
    }

    fn soon() -> Instant {
        Instant::now() + SECOND
    }

    #[tokio::test(start_paused = true)]
    async fn two_who_wait_for_one_tag_get_one_reading() {
        let (desk, mut questions) = fresh_desk();
        let driver = async {
            questions.arrive().await;
            assert!(questions.take(Instant::now()));
            assert_eq!(questions.tags(), tags([1, 2, 3]));
            questions.answer(&one(2, 22));
            assert!(!questions.want(TagId(2)) && questions.want(TagId(3)));
            questions.fail(Timestamp(7), Reason::Refused, 2, "no such register");
            assert!(questions.is_empty());
        };
        let asking = join(desk.ask(tags([1, 2]), soon()), desk.ask(tags([2, 3]), soon()));
        let ((first, second), ()) = join(asking, driver).await;
        for answer in [first, second] {
            assert_eq!(answer.rest, None);
            assert_eq!(answer.read.len(), 2);
            assert_eq!(answer.read[0], one(2, 22));
            assert_eq!(answer.read[1].sample.quality, Quality::Bad(Reason::Refused));
            assert_eq!(answer.read[1].error.as_deref(), Some("no such register"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_while_a_reading_is_under_way_waits_for_the_next_one() {
        let (desk, mut questions) = fresh_desk();
        let mut early = pin!(desk.ask(tags([1]), soon()));
        assert_eq!(early.as_mut().now_or_never(), None);
        assert!(questions.take(Instant::now()));
        let mut under_way = questions.split();
        let mut late = pin!(desk.ask(tags([1]), soon()));
        assert_eq!(late.as_mut().now_or_never(), None);
        under_way.answer(&one(1, 10));
        assert_eq!(early.await.read, [one(1, 10)]);
        assert_eq!(late.as_mut().now_or_never(), None);
        assert!(questions.take(Instant::now()));
        questions.answer(&one(1, 11));
        assert_eq!(late.await.read, [one(1, 11)]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_beyond_his_deadline_and_what_was_read_until_then_counts() {
        let (desk, mut questions) = fresh_desk();
        let driver = async {
            questions.arrive().await;
            questions.answer(&one(1, 10));
            tokio::time::sleep(SECOND).await;
            assert!(!questions.take(Instant::now()), "the question is laid down");
        };
        let (answer, ()) = join(desk.ask(tags([1, 2]), soon()), driver).await;
        assert_eq!(answer.read, [one(1, 10)]);
        assert_eq!(answer.rest, Some(Unread::Late { waited: SECOND }));
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_more_than_can_wait_is_told_so_and_one_taken_back_makes_room() {
        let (desk, mut questions) = fresh_desk();
        let ask = |id| Box::pin(desk.ask(tags([id]), soon()));
        let mut waiting: Vec<_> = (0..2 * 16).map(ask).collect();
        for (at, question) in waiting.iter_mut().enumerate() {
            assert_eq!(question.as_mut().now_or_never(), None, "{at}");
            questions.take(Instant::now());
        }
        assert_eq!(desk.ask(tags([99]), soon()).await.rest, Some(Unread::Busy));
        drop(waiting.pop());
        assert!(questions.arrive().now_or_never().is_none(), "no more is taken in hand");
        drop(waiting.remove(0));
        questions.take(Instant::now());
        questions.take(Instant::now());
        assert_eq!(desk.ask(tags([99]), soon()).now_or_never(), None, "it waits");
        assert!(!questions.want(TagId(0)), "nobody waits for it any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_ended_is_told_at_once() {
        let (desk, questions) = fresh_desk();
        let mut waiting = pin!(desk.ask(tags([1]), soon()));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        drop(questions);
        assert_eq!(waiting.await.rest, Some(Unread::NotRunning));
        assert_eq!(desk.ask(tags([1]), soon()).await.rest, Some(Unread::NotRunning));
    }
}
