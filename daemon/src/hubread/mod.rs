//! Going through a gateway's record at the hub: what `prove` and `tap` stand on.
//!
//! # Invariants
//! - Memory is bounded by a batch, whatever the stream holds.
//! - A copy that lags shows less, never something else: the watermark is then older.

mod access;
mod record;

use std::ops::ControlFlow;
use std::time::Duration;

use async_nats::Client;

pub(crate) use access::READER_STREAM;
pub use access::{Access, AccessError, Login};
pub use record::{Batch, ReadError, RecordReader, Start, Stored, StreamCounts, StreamState};

use crate::names::Name;

/// The hub says nothing for this long: it is gone.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How often a reader that follows looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where a reading stands.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Progress {
    /// Messages read.
    pub messages: u64,
    /// Payload bytes read.
    pub bytes: u64,
    /// How far the reading has come in the stream, 0 to 1; other gateways' messages count.
    pub share: f64,
    /// Whether nothing more was there when this was read.
    pub at_end: bool,
}

/// A stream at a hub.
#[derive(Debug)]
pub struct HubStream {
    reader: RecordReader,
    first_seq: u64,
    last_seq: u64,
}

impl HubStream {
    /// Looks the stream up.
    ///
    /// # Errors
    /// When it is not there or may not be read.
    pub async fn open(client: Client, stream: Name) -> Result<Self, ReadError> {
        let reader = RecordReader::open(client, stream, DEADLINE).await?;
        let counts = reader.state().await?.state;
        Ok(Self { reader, first_seq: counts.first_seq, last_seq: counts.last_seq })
    }

    /// Hands every message on the subjects to `each`, in stream order, up to the last one that
    /// was there when the stream was opened; `follow` goes on after it until `each` says stop.
    ///
    /// # Errors
    /// When the hub refuses, or falls silent before the end.
    pub async fn read(
        &self,
        subject: &str,
        follow: bool,
        mut each: impl FnMut(&Stored, Progress) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut progress = Progress::default();
        let mut from = self.first_seq.max(1);
        while follow || from <= self.last_seq {
            let batch = self.reader.batch(subject, from).await?;
            let count = batch.messages.len();
            for (index, message) in batch.messages.iter().enumerate() {
                if !follow && message.seq > self.last_seq {
                    return Ok(());
                }
                progress.messages += 1;
                progress.bytes += message.payload.len() as u64;
                progress.share = self.share(message.seq);
                progress.at_end = batch.next.is_none() && index + 1 == count;
                if each(message, progress).is_break() {
                    return Ok(());
                }
                from = message.seq.saturating_add(1);
            }
            match batch.next {
                Some(next) => from = next,
                None if follow => tokio::time::sleep(LOOK_EVERY).await,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a share for a person")]
    fn share(&self, seq: u64) -> f64 {
        let all = self.last_seq.saturating_sub(self.first_seq).max(1);
        (seq.saturating_sub(self.first_seq) as f64 / all as f64).min(1.0)
    }
}
