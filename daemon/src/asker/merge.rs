//! The rows of many owners in one order.
//!
//! # Invariants
//! - Each owner's rows stay in its own order. Between owners the smaller key goes first, and of
//!   equal keys the owner that was named first: the same answers always merge the same way.
//! - A row is handed out when each owner has one to compare, or is through: one that is slow is waited
//!   for, one that is away is known to be after seconds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream as _;
use futures_util::stream::BoxStream;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::conversation::{Answers, Event};
use super::report::{Outcome, OwnerReport, Report, of_all};
use crate::names::GatewayId;

/// What rows are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Samples: the time at which they were acquired.
    Acquired,
    /// Buckets and losses: where they begin, then their path.
    From,
    /// Tags and latest values: their path.
    Path,
    /// One owner after the other.
    Owner,
}

/// A row and whose it is.
#[derive(Debug)]
pub struct Row {
    /// The place of its owner among those asked.
    pub owner: usize,
    /// One JSON object.
    pub json: Box<RawValue>,
}

impl Row {
    /// The object with `"gateway"` before everything else.
    #[must_use]
    pub fn named(&self, gateway: &GatewayId) -> String {
        named(&gateway.to_string(), self.json.get())
    }
}

/// A JSON object with `"gateway"` before everything else; the name is one of a gateway.
pub(crate) fn named(gateway: &str, json: &str) -> String {
    let json = json.trim_start();
    let inside = json.strip_prefix('{').unwrap_or(json);
    let comma = if inside.trim_start().starts_with('}') { "" } else { "," };
    format!("{{\"gateway\":\"{gateway}\"{comma}{inside}")
}

/// A time and a path, whichever of them count.
type Key = (i64, Box<str>);

#[derive(Deserialize, Default)]
struct Keys<'a> {
    #[serde(borrow, default)]
    path: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    acquired: Option<jiff::Timestamp>,
    #[serde(default)]
    from: Option<jiff::Timestamp>,
}

impl Order {
    /// A row that lacks what it is ordered by goes first.
    fn key(self, row: &RawValue) -> Key {
        if self == Self::Owner {
            return (0, Box::default());
        }
        let keys: Keys<'_> = serde_json::from_str(row.get()).unwrap_or_default();
        let nanos = |time: Option<jiff::Timestamp>| {
            time.map_or(i64::MIN, |it| i64::try_from(it.as_nanosecond()).unwrap_or(i64::MAX))
        };
        let path = || keys.path.as_deref().map(Into::into).unwrap_or_default();
        match self {
            Self::Acquired => (nanos(keys.acquired), Box::default()),
            Self::From => (nanos(keys.from), path()),
            Self::Path | Self::Owner => (0, path()),
        }
    }
}

struct Lane {
    gateway: GatewayId,
    events: BoxStream<'static, Event>,
    rows: VecDeque<Box<RawValue>>,
    alive: bool,
    count: u64,
    outcome: Option<Outcome>,
}

/// Answers that come as one, and what is to be said of them at the end.
pub struct Merged {
    order: Order,
    lanes: Vec<Lane>,
    heads: BinaryHeap<Reverse<(Key, usize)>>,
    /// Owners that have no row to compare.
    empty: Vec<usize>,
    limit: u64,
    given: u64,
    cut: bool,
    began: Instant,
}

impl Merged {
    pub(super) fn new(answers: Answers, order: Order) -> Self {
        let lane = |(gateway, events)| Lane {
            gateway,
            events,
            rows: VecDeque::new(),
            alive: false,
            count: 0,
            outcome: None,
        };
        let lanes: Vec<_> = answers.lanes.into_iter().map(lane).collect();
        let empty = (0..lanes.len()).collect();
        let (heads, limit, given, cut) = (BinaryHeap::new(), u64::MAX, 0, false);
        Self { order, lanes, heads, empty, limit, given, cut, began: Instant::now() }
    }

    /// Ends after so many rows of all owners together.
    #[must_use]
    pub fn at_most(mut self, rows: u64) -> Self {
        self.limit = rows;
        self
    }

    /// Who is asked, in their order.
    pub fn gateways(&self) -> impl Iterator<Item = &GatewayId> {
        self.lanes.iter().map(|lane| &lane.gateway)
    }

    /// The next row. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Row> {
        std::future::poll_fn(|context| self.poll_filled(context)).await;
        let &Reverse((_, owner)) = self.heads.peek()?;
        if self.given >= self.limit {
            self.cut = true;
            return None;
        }
        self.heads.pop();
        let lane = self.lanes.get_mut(owner)?;
        let json = lane.rows.pop_front()?;
        lane.count += 1;
        self.given += 1;
        match lane.rows.front() {
            Some(row) => self.heads.push(Reverse((self.order.key(row), owner))),
            None => self.empty.push(owner),
        }
        Some(Row { owner, json })
    }

    fn poll_filled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (order, lanes, heads) = (self.order, &mut self.lanes, &mut self.heads);
        self.empty.retain(|owner| {
            let Some(lane) = lanes.get_mut(*owner) else { return false };
            loop {
                if let Some(row) = lane.rows.front() {
                    heads.push(Reverse((order.key(row), *owner)));
                    return false;
                }
                if lane.outcome.is_some() {
                    return false;
                }
                match Pin::new(&mut lane.events).poll_next(context) {
                    Poll::Pending => return true,
                    Poll::Ready(event) => lane.take(event),
                }
            }
        });
        if self.empty.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// How far each owner is, for whoever waits: its rows so far, and whether it is through.
    pub fn progress(&self) -> impl Iterator<Item = (&GatewayId, u64, Progress)> {
        self.lanes.iter().map(|lane| {
            let progress = match (&lane.outcome, lane.alive) {
                (Some(_), _) => Progress::Through,
                (None, true) => Progress::Answers,
                (None, false) => Progress::Asked,
            };
            (&lane.gateway, lane.count, progress)
        })
    }

    /// What is to be said of the answers, whether or not all rows were taken. Questions that still run
    /// are cancelled.
    #[must_use]
    pub fn finish(self) -> Report {
        let cut = self.cut;
        let owners = self.lanes.into_iter().map(|lane| OwnerReport {
            gateway: lane.gateway,
            rows: lane.count,
            outcome: lane.outcome.unwrap_or(Outcome::Stopped),
        });
        of_all(owners.collect(), self.given, self.began.elapsed(), cut)
    }
}

/// How far an owner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Asked, and nothing heard of it yet.
    Asked,
    /// It works on its answer.
    Answers,
    /// Nothing more comes of it.
    Through,
}

impl Lane {
    fn take(&mut self, event: Option<Event>) {
        self.alive = true;
        match event {
            Some(Event::Alive) => {}
            Some(Event::Rows(rows)) => self.rows = rows.into(),
            Some(Event::Done(summary)) => self.outcome = Some(Outcome::Answered(summary)),
            Some(Event::Absent(absence)) => self.outcome = Some(Outcome::Absent(absence)),
            Some(Event::Refused(refusal)) => self.outcome = Some(Outcome::Refused(refusal)),
            Some(Event::Lost(why)) => self.outcome = Some(Outcome::Lost(why)),
            None => self.outcome = Some(Outcome::Stopped),
        }
    }
}

impl std::fmt::Debug for Merged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merged").field("owners", &self.lanes.len()).finish_non_exhaustive()
    }
}
