//! Reading the record at a hub, in ranges, without leaving anything behind there.
//!
//! # Invariants
//! - Direct get in batches: no consumer is made, so a reader needs no right that writes.
//! - A batch is handed out whole or not at all: each message names the sequence before it, and
//!   the end of the batch names the last.
//! - A copy that lags may answer: what is missing at the end of a range may only be late.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, RequestErrorKind};
use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::names::Name;
use crate::subjects;

/// At most this many messages in one batch.
const BATCH: u32 = 256;
/// A hub looks for the last messages of so many subjects at once.
const BATCH_LAST: u32 = 1024;
/// How often a batch is asked for that nobody sends: any replica may have been asked, also one that
/// hangs until the others notice.
const ASKED: u32 = 3;
/// At most about this many bytes: the server ends the batch with the message that passes it.
const BATCH_BYTES: u32 = 4 << 20;

/// A reader of one stream.
#[derive(Debug, Clone)]
pub struct RecordReader {
    client: Client,
    stream: Name,
    info: String,
    read: String,
    deadline: Duration,
}

/// What the hub says of the stream.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct StreamState {
    /// When it was made, RFC 3339: another time means another stream of that name.
    pub created: String,
    /// Its counts and sequences.
    pub state: StreamCounts,
}

/// Counts and sequences of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub struct StreamCounts {
    /// How many messages it holds.
    pub messages: u64,
    /// How many bytes they take.
    pub bytes: u64,
    /// The oldest message's sequence; what is before it expired.
    pub first_seq: u64,
    /// The newest message's sequence.
    pub last_seq: u64,
}

/// A message as the stream holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its subject.
    pub subject: String,
    /// Its sequence in the stream.
    pub seq: u64,
    /// When the hub stored it, RFC 3339.
    pub stored_at: String,
    /// What was published.
    pub payload: Bytes,
}

/// Some messages of a range, in the stream's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The messages.
    pub messages: Vec<Stored>,
    /// Where the next batch begins; `None` when there is nothing more for now.
    pub next: Option<u64>,
}

/// Where a range begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At this place in the stream.
    Seq(u64),
    /// With what the hub stored at this time or later, nanoseconds since 1970 UTC by its clock.
    StoredAt(i64),
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no stream of that name.
    #[error("the hub has no stream {stream}; create it, or name another one")]
    NoStream {
        /// The stream.
        stream: Name,
    },
    /// Nobody may answer us.
    #[error("nobody answers for stream {stream}; log in as a reader of the hub")]
    NotPermitted {
        /// The stream.
        stream: Name,
    },
    /// The hub is slow or away.
    #[error("the hub did not answer for stream {stream} within {deadline:?}")]
    Silent {
        /// The stream.
        stream: Name,
        /// How long it was given.
        deadline: Duration,
    },
    /// The connection failed.
    #[error("cannot ask the hub for stream {stream}")]
    Connection {
        /// The stream.
        stream: Name,
        /// What the client said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The hub said no.
    #[error("the hub refused to read stream {stream}: {said}")]
    Refused {
        /// The stream.
        stream: Name,
        /// In its words.
        said: String,
    },
    /// The answer is not what it should be, or a message of a batch did not arrive.
    #[error(
        "the hub's answer for stream {stream} is incomplete: {what}; ask again, and see that it runs 2.11 or newer"
    )]
    Incomplete {
        /// The stream.
        stream: Name,
        /// What is missing.
        what: &'static str,
    },
}

impl RecordReader {
    /// Finds the stream: by the names that readers of our hubs have, else by JetStream's own, for
    /// somebody in the stream's account. Every answer has to come within `deadline`.
    ///
    /// # Errors
    /// When there is no such stream, no right to read it, or no answer.
    pub async fn open(client: Client, stream: Name, deadline: Duration) -> Result<Self, ReadError> {
        let info = subjects::info(stream.as_str());
        let read = subjects::read(stream.as_str());
        let mut reader = Self { client, stream, info, read, deadline };
        match reader.state().await {
            // A user without the right is not told so: the question is dropped.
            Err(ReadError::NotPermitted { .. } | ReadError::Silent { .. }) => {
                reader.info = format!("$JS.API.STREAM.INFO.{}", reader.stream);
                reader.read = format!("$JS.API.DIRECT.GET.{}", reader.stream);
                reader.state().await?;
            }
            other => {
                other?;
            }
        }
        Ok(reader)
    }

    /// The stream that is read.
    #[must_use]
    pub const fn stream(&self) -> &Name {
        &self.stream
    }

    /// What the hub says of the stream now.
    ///
    /// # Errors
    /// When there is no such stream, no right to read it, or no answer.
    pub async fn state(&self) -> Result<StreamState, ReadError> {
        let info = self.info(Bytes::new()).await?;
        serde_json::from_value(info).map_err(|_| self.incomplete("INFO lacks its state"))
    }

    async fn info(&self, wish: Bytes) -> Result<serde_json::Value, ReadError> {
        let asked = self.client.request(self.info.clone(), wish);
        let answer = self.within(asked).await?.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => {
                ReadError::NotPermitted { stream: self.stream.clone() }
            }
            _ => self.connection(error),
        })?;
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload)
            .map_err(|_| self.incomplete("INFO is not JSON"))?;
        if let Some(error) = answer.get("error") {
            // 10059: stream not found.
            if error.get("err_code").and_then(serde_json::Value::as_u64) == Some(10_059) {
                return Err(ReadError::NoStream { stream: self.stream.clone() });
            }
            let said = error.get("description").and_then(|text| text.as_str());
            let said = said.unwrap_or_default().chars().take(200).collect();
            return Err(ReadError::Refused { stream: self.stream.clone(), said });
        }
        Ok(answer)
    }

    /// The next messages on the subjects that `filter` matches, from stream sequence `from` on.
    ///
    /// # Errors
    /// When the hub refuses, stays silent, or a message of the batch is missing; asking again
    /// for the same range is safe.
    pub async fn batch(&self, filter: &str, from: u64) -> Result<Batch, ReadError> {
        self.range(filter, Start::Seq(from), BATCH_BYTES).await
    }

    /// [`RecordReader::batch`] of about as many bytes: whoever reads many subjects side by side
    /// takes less of each.
    ///
    /// # Errors
    /// As [`RecordReader::batch`].
    pub async fn range(&self, filter: &str, from: Start, bytes: u32) -> Result<Batch, ReadError> {
        let bytes = bytes.min(BATCH_BYTES);
        for _ in 1..ASKED {
            match self.range_once(filter, from, bytes).await {
                Err(ReadError::Silent { .. }) => {}
                other => return other,
            }
        }
        self.range_once(filter, from, bytes).await
    }

    /// The last message of each subject that one of these filters matches, in stream order; none for
    /// a filter that matches none.
    ///
    /// # Errors
    /// As [`RecordReader::batch`]; a hub refuses more than 1024 subjects.
    pub async fn last_of(&self, filters: &[String]) -> Result<Vec<Stored>, ReadError> {
        let wish = serde_json::json!({ "batch": BATCH_LAST, "multi_last": filters });
        Ok(self.wished(&wish).await?.messages)
    }

    /// How many messages the stream holds on each subject that the filter matches.
    ///
    /// # Errors
    /// When the hub refuses or stays silent.
    pub async fn counts(&self, filter: &str) -> Result<HashMap<String, u64>, ReadError> {
        let mut counts = HashMap::new();
        loop {
            let wish = serde_json::json!({ "subjects_filter": filter, "offset": counts.len() });
            let mut info = self.info(wish.to_string().into()).await?;
            let total = info.get("total").and_then(serde_json::Value::as_u64).unwrap_or(0);
            let subjects = info.pointer_mut("/state/subjects").map(serde_json::Value::take);
            let page: HashMap<String, u64> = match subjects {
                Some(subjects) => serde_json::from_value(subjects)
                    .map_err(|_| self.incomplete("INFO counts no messages"))?,
                None => HashMap::new(),
            };
            let is_last = page.is_empty();
            counts.extend(page);
            if is_last || u64::try_from(counts.len()).is_ok_and(|read| read >= total) {
                return Ok(counts);
            }
        }
    }

    async fn range_once(&self, filter: &str, from: Start, bytes: u32) -> Result<Batch, ReadError> {
        let mut wish = serde_json::json!({
            "batch": BATCH, "max_bytes": bytes, "next_by_subj": filter,
        });
        match from {
            Start::Seq(seq) => wish["seq"] = seq.max(1).into(),
            Start::StoredAt(at) => {
                wish["start_time"] = tidegate_record::Moment(at).rfc3339().into();
            }
        }
        self.wished(&wish).await
    }

    async fn wished(&self, wish: &serde_json::Value) -> Result<Batch, ReadError> {
        let inbox = self.client.new_inbox();
        let mut answers =
            self.client.subscribe(inbox.clone()).await.map_err(|error| self.connection(error))?;
        self.client
            .publish_with_reply(self.read.clone(), inbox, wish.to_string().into())
            .await
            .map_err(|error| self.connection(error))?;
        let mut messages: Vec<Stored> = Vec::new();
        loop {
            let answer = self.within(answers.next()).await?;
            let answer = answer.ok_or_else(|| self.incomplete("the connection was closed"))?;
            match answer.status.map(|status| status.as_u16()) {
                None => messages.push(self.stored(answer, messages.last())?),
                Some(204) => return self.whole(messages, &answer),
                Some(404) => return Ok(Batch { messages: Vec::new(), next: None }),
                Some(503) => {
                    return Err(ReadError::NotPermitted { stream: self.stream.clone() });
                }
                Some(_) => {
                    let said = answer.description.unwrap_or_default();
                    let said = said.chars().take(200).collect();
                    return Err(ReadError::Refused { stream: self.stream.clone(), said });
                }
            }
        }
    }

    fn stored(&self, message: Message, before: Option<&Stored>) -> Result<Stored, ReadError> {
        let headers = message.headers.unwrap_or_default();
        let seq = number(&headers, "Nats-Sequence");
        let seq = seq.ok_or_else(|| self.incomplete("a message without its sequence"))?;
        let follows = number(&headers, "Nats-Last-Sequence");
        if before.is_some_and(|before| follows != Some(before.seq)) {
            return Err(self.incomplete("a message of the batch did not arrive"));
        }
        let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        let subject = text("Nats-Subject");
        let subject = subject.ok_or_else(|| self.incomplete("a message without its subject"))?;
        let stored_at = text("Nats-Time-Stamp").unwrap_or_default();
        Ok(Stored { subject, seq, stored_at, payload: message.payload })
    }

    fn whole(&self, messages: Vec<Stored>, end: &Message) -> Result<Batch, ReadError> {
        let headers = end.headers.as_ref();
        let last = headers.and_then(|headers| number(headers, "Nats-Last-Sequence"));
        if messages.last().is_some_and(|message| last != Some(message.seq)) {
            return Err(self.incomplete("the last message of the batch did not arrive"));
        }
        let pending = headers.and_then(|headers| number(headers, "Nats-Num-Pending"));
        let pending = pending.ok_or_else(|| self.incomplete("the batch's end has no count"))?;
        let next = messages.last().filter(|_| pending > 0).map(|last| last.seq.saturating_add(1));
        Ok(Batch { messages, next })
    }

    async fn within<T>(&self, answer: impl Future<Output = T>) -> Result<T, ReadError> {
        let answer = tokio::time::timeout(self.deadline, answer).await;
        let (stream, deadline) = (self.stream.clone(), self.deadline);
        answer.map_err(|_| ReadError::Silent { stream, deadline })
    }

    fn connection(&self, source: impl std::error::Error + Send + Sync + 'static) -> ReadError {
        ReadError::Connection { stream: self.stream.clone(), source: Box::new(source) }
    }

    fn incomplete(&self, what: &'static str) -> ReadError {
        ReadError::Incomplete { stream: self.stream.clone(), what }
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.as_str().parse().ok()
}
