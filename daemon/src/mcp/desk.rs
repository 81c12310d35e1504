//! Whom the tools ask: a seam, so that what they say is tested without a network.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde_json::{Map, Value};
use tidegate_query::{Op, Refusal, Summary};

/// Everything that came of one question to all its owners.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// The rows in order, each with the gateway that it comes from.
    pub(super) rows: Vec<(String, Value)>,
    /// All answers together.
    pub(super) summary: Summary,
    /// Owners from which nothing, or not everything, came: which, and why.
    pub(super) absent: Vec<(String, String)>,
    /// Owners that would not answer.
    pub(super) refused: Vec<(String, Refusal)>,
}

/// A question.
#[derive(Debug)]
pub(super) struct Inquiry {
    /// What is asked.
    pub(super) op: Op,
    /// Its fields, as they go over the wire.
    pub(super) wish: Map<String, Value>,
    /// The tags by which the owners are found; empty means all.
    pub(super) tags: Vec<String>,
    /// This gateway alone, `PLANT/NAME`.
    pub(super) gateway: Option<String>,
    /// At most so many rows of all owners together.
    pub(super) limit: usize,
    /// How long all of it may take.
    pub(super) within: Duration,
}

/// What the tools get their answers from.
pub(super) type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Answers questions, whoever owns the tags.
pub(super) trait Desk: Send + Sync + 'static {
    /// Asks the owners. The error is for a person: nobody could be asked at all.
    fn ask(&self, inquiry: Inquiry) -> Answering<'_, Gathered>;

    /// Judges the hub's copy of a gateway's record; `None` where the record cannot be read from
    /// here and only the gateway's own side can be asked for.
    fn judge(&self, gateway: String) -> Answering<'_, Option<Value>>;
}
