//! The way from the drivers to the live publisher.
//!
//! # Invariants
//! - [`LiveQueue::offer`] never waits, so a dead local server cannot slow a poll down.
//! - Bounded by samples. When it is full the oldest batch goes: the newest reading is the one that
//!   is still live. Each reading that goes is counted as `live_overflow`.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_translator::{Sample, TagId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::publisher::{Entry, LiveTag, entries};
use crate::bulk::weight;
use crate::by_tag::ByTag;
use crate::observe::state::Board;

/// The most readings that wait. More than one second of 50,000 tags, the largest gateway that is
/// planned for; a batch that is larger on its own is taken when nothing else waits. A long text
/// counts as several readings: texts and structures together take 4 MiB at most.
pub const MAX_QUEUED_SAMPLES: usize = 65_536;

/// The queue; shared between the sink and the publisher.
#[derive(Debug)]
pub struct LiveQueue {
    inner: Mutex<Inner>,
    filled: Notify,
    board: Arc<Board>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Inner {
    batches: VecDeque<Batch>,
    weight: usize,
    retag: Option<ByTag<Entry>>,
    /// Readings went since the last look.
    lost: bool,
}

/// One poll's readings and when they were offered.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) samples: Arc<[Sample]>,
    pub(super) offered: Instant,
}

/// What the publisher finds when it looks.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) retag: Option<ByTag<Entry>>,
    pub(super) batch: Option<Batch>,
    /// Whether readings went before these.
    pub(super) lost: bool,
}

impl LiveQueue {
    /// An empty queue whose overflow is counted on `board`.
    #[must_use]
    pub fn new(board: Arc<Board>) -> Self {
        Self::with_limit(board, MAX_QUEUED_SAMPLES)
    }

    pub(super) fn with_limit(board: Arc<Board>, limit: usize) -> Self {
        Self { inner: Mutex::default(), filled: Notify::new(), board, limit }
    }

    /// Offers one poll's readings. Never waits.
    pub fn offer(&self, samples: Arc<[Sample]>) {
        if samples.is_empty() {
            return;
        }
        let mut dropped = 0;
        {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.weight += weight(&samples);
            inner.batches.push_back(Batch { samples, offered: Instant::now() });
            while inner.weight > self.limit
                && inner.batches.len() > 1
                && let Some(oldest) = inner.batches.pop_front()
            {
                inner.weight -= weight(&oldest.samples);
                dropped += oldest.samples.len();
                inner.lost = true;
            }
        }
        self.board.counters.live_overflow.add_len(dropped);
        self.filled.notify_one();
    }

    /// Sets which tags are published and how, before the next batch. Tags that stay keep what was
    /// published of them.
    pub fn set_tags(&self, tags: impl IntoIterator<Item = LiveTag>) {
        let tags = entries(tags);
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).retag = Some(tags);
        self.filled.notify_one();
    }

    /// The tags of readings that wait.
    pub(super) fn waiting(&self) -> HashSet<TagId> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.batches.iter().flat_map(|batch| batch.samples.iter()).map(|s| s.tag).collect()
    }

    /// Waits until there is something to do. Cancel safe: nothing is taken before it returns.
    pub(super) async fn take(&self) -> Taken {
        loop {
            {
                let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
                let retag = inner.retag.take();
                let batch = inner.batches.pop_front();
                if let Some(batch) = &batch {
                    inner.weight -= weight(&batch.samples);
                }
                if retag.is_some() || batch.is_some() {
                    let lost = std::mem::take(&mut inner.lost);
                    return Taken { retag, batch, lost };
                }
            }
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_translator::{Timestamp, Value};

    use super::*;
    use crate::observe::state::tests::board;

    fn batch(first: u32, len: u32) -> Arc<[Sample]> {
        (first..first + len)
            .map(|i| Sample::good(TagId(i), Timestamp(0), Value::None))
            .collect::<Vec<_>>()
            .into()
    }

    #[tokio::test]
    async fn the_oldest_batch_makes_room_and_is_counted() {
        let board = Arc::new(board());
        let queue = LiveQueue::with_limit(Arc::clone(&board), 5);
        for i in 0..3 {
            queue.offer(batch(i * 10, 2));
        }
        assert_eq!(board.counters.live_overflow.read(), 2);
        let first = queue.take().await.batch.unwrap();
        assert_eq!(first.samples[0].tag, TagId(10));
    }

    #[tokio::test]
    async fn long_texts_make_the_oldest_go_sooner() {
        let board = Arc::new(board());
        let queue = LiveQueue::with_limit(Arc::clone(&board), 5);
        let text = Value::Text("x".repeat(128).into());
        for tag in 1..=3 {
            queue.offer([Sample::good(TagId(tag), Timestamp(0), text.clone())].into());
        }
        assert_eq!(board.counters.live_overflow.read(), 2);
        assert_eq!(queue.take().await.batch.unwrap().samples[0].tag, TagId(3));
    }

    #[tokio::test]
    async fn a_batch_larger_than_the_queue_is_taken_alone() {
        let board = Arc::new(board());
        let queue = LiveQueue::with_limit(Arc::clone(&board), 5);
        queue.offer(batch(0, 2));
        queue.offer(batch(100, 50));
        assert_eq!(board.counters.live_overflow.read(), 2);
        assert_eq!(queue.take().await.batch.unwrap().samples.len(), 50);
    }
}
