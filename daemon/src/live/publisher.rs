//! The shell around the policy: takes readings from the queue and hands values to the local
//! server's client.
//!
//! # Invariants
//! - No batching delay: a reading is handed to the client as soon as it is taken, and the client
//!   writes whenever it has something to write.
//! - At most once. While the client is not connected readings are dropped and counted. The client
//!   keeps what it was handed across a reconnection, so the next batch is handed over only after
//!   the one before was written to the socket: at most one batch can be in its hands when a
//!   connection breaks.
//! - After a reconnection the next reading of every tag is published, because nobody knows what
//!   arrived.
//! - A tag whose source speaks only when something changes is published from the status where no
//!   reading comes: after max-silence, and soon after something was dropped. The value, its time
//!   and its present quality are what the status shows; a newer reading that waits goes before.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use tidegate_translator::{Sample, TagId, TagPath};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use super::envelope;
use super::policy::{LastPublished, Verdict};
use super::queue::{Batch, LiveQueue};
use crate::by_tag::ByTag;
use crate::config::Manner;
use crate::observe::state::Board;
use crate::shared::Recent;
use crate::subjects;
use crate::supervise::Pulse;

/// A reading that waited longer than this is not live any more. Well above what a busy gateway
/// needs for a full queue, and below the shortest time in which a person would notice.
const STILL_LIVE: Duration = Duration::from_secs(2);
/// How long after the start the first connection to the leaf may take until it counts as away: it
/// listens before this begins, so that milliseconds are usual.
const CONNECTS_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked for tags that are due without a reading, and how many are published then
/// at most: the rest follows at the next look.
const REPEAT_EVERY: Duration = Duration::from_secs(1);
const MAX_REPEATED: usize = 4096;

/// How often the connection is looked at while a write does not get through.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How one tag is published.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveTag {
    /// Its number.
    pub id: TagId,
    /// Its path; the subject follows from it by [`crate::subjects::live`].
    pub path: TagPath,
    /// Its device: `src` of the envelope.
    pub device: Arc<str>,
    /// Unit, deadband and max-silence.
    pub manner: Arc<Manner>,
    /// Whether its source speaks only when something changes.
    pub on_change: bool,
}

/// Why a value was not taken.
#[derive(Debug, thiserror::Error)]
pub enum OutletError {
    /// The client did not take it: closed, or the value is larger than the server allows.
    #[error("the client refused a value")]
    Refused {
        /// What the client said.
        #[source]
        source: async_nats::PublishError,
    },
}

/// Where values go.
pub trait Outlet: Send + Sync {
    /// The number of the present connection, different for each; `None` while there is none.
    fn connection(&self) -> Option<u64>;

    /// Hands a value over, at most once.
    ///
    /// # Errors
    /// When it was not taken.
    fn publish(
        &self,
        subject: Subject,
        payload: Vec<u8>,
    ) -> impl Future<Output = Result<(), OutletError>> + Send;

    /// Returns once everything that was handed over was written to the connection.
    fn written(&self) -> impl Future<Output = ()> + Send;
}

/// The client of the local nats-server. It should be one of its own: whatever else it carries
/// would wait in the same queue.
#[derive(Debug, Clone)]
pub struct NatsOutlet(pub async_nats::Client);

impl Outlet for NatsOutlet {
    fn connection(&self) -> Option<u64> {
        use std::sync::atomic::Ordering;
        (self.0.connection_state() == async_nats::connection::State::Connected)
            .then(|| self.0.statistics().connects.load(Ordering::Relaxed))
    }

    async fn publish(&self, subject: Subject, payload: Vec<u8>) -> Result<(), OutletError> {
        let refused = |source| OutletError::Refused { source };
        self.0.publish(subject, payload.into()).await.map_err(refused)
    }

    async fn written(&self) {
        // An error means that the client is closed: nothing is in its hands.
        let _ = self.0.flush().await;
    }
}

/// The publisher; `run` is a core task.
#[derive(Debug)]
pub struct Publisher<O> {
    queue: Arc<LiveQueue>,
    board: Arc<Board>,
    outlet: O,
    tags: ByTag<Entry>,
    connection: Option<u64>,
    /// Whether there was one at all.
    was_connected: bool,
    pulse: Pulse,
    origin: Instant,
}

/// A tag, as many at a time as there are. Its subject is made when it is published: kept, it
/// would take as much memory as everything else here.
#[derive(Debug)]
pub(super) struct Entry {
    path: TagPath,
    group: Arc<Group>,
    published: LastPublished,
}

/// What the tags of one device have in common, or most of them.
#[derive(Debug, PartialEq)]
struct Group {
    device: Arc<str>,
    manner: Arc<Manner>,
    on_change: bool,
}

/// The tags in the form in which the publisher keeps them.
pub(super) fn entries(tags: impl IntoIterator<Item = LiveTag>) -> ByTag<Entry> {
    let mut groups = Recent::default();
    let entry = |LiveTag { id, path, device, manner, on_change }| {
        let group = groups.one_of(Group { device, manner, on_change });
        (id, Entry { path, group, published: LastPublished::default() })
    };
    tags.into_iter().map(entry).collect()
}

impl<O: Outlet> Publisher<O> {
    /// A publisher that knows no tag yet; [`LiveQueue::set_tags`] tells it.
    #[must_use]
    pub fn new(queue: Arc<LiveQueue>, board: Arc<Board>, outlet: O, pulse: Pulse) -> Self {
        Self {
            queue,
            board,
            connection: outlet.connection(),
            outlet,
            tags: ByTag::default(),
            pulse,
            was_connected: false,
            origin: Instant::now(),
        }
    }

    /// Publishes until `stop`. Values that are waiting then are dropped: they are in the record.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut beat = self.pulse.ticker();
        let mut look = tokio::time::interval(REPEAT_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let taken = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = beat.tick() => {
                    self.pulse.tick();
                    continue;
                }
                _ = look.tick() => {
                    self.pulse.tick();
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.repeat() => {}
                    }
                    continue;
                }
                taken = self.queue.take() => taken,
            };
            self.pulse.tick();
            if let Some(tags) = taken.retag {
                self.retag(tags);
            }
            if taken.lost {
                self.forget_on_change(None);
            }
            if let Some(batch) = taken.batch {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.batch(batch) => {}
                }
            }
        }
    }

    fn retag(&mut self, mut tags: ByTag<Entry>) {
        let mut place = 0;
        for (id, fresh) in tags.iter_mut() {
            let Some(known) = self.tags.place(id, place) else { continue };
            place = known + 1;
            if let Some(old) = self.tags.at_mut(known)
                && old.path == fresh.path
                && old.group.device == fresh.group.device
            {
                fresh.published = std::mem::take(&mut old.published);
            }
        }
        self.tags = tags;
    }

    async fn batch(&mut self, batch: Batch) {
        if !self.is_connected() {
            let counters = &self.board.counters;
            // A leaf that is just being connected to has no subscriber that could miss anything.
            if self.was_connected || self.origin.elapsed() >= CONNECTS_WITHIN {
                counters.live_disconnected.add_len(batch.samples.len());
            }
            return;
        }
        if batch.offered.elapsed() > STILL_LIVE {
            self.board.counters.live_late.add_len(batch.samples.len());
            self.forget_on_change(Some(&batch.samples));
            return;
        }
        let now = self.origin.elapsed();
        let mut place = 0;
        for (index, sample) in batch.samples.iter().enumerate() {
            if !self.publish(now, sample, &mut place).await {
                let rest = batch.samples.get(index..).unwrap_or_default();
                self.board.counters.live_disconnected.add_len(rest.len());
                self.forget_on_change(Some(rest));
                return;
            }
        }
        self.written().await;
    }

    /// Notes which connection there is. Of a new one nobody knows what arrived.
    fn is_connected(&mut self) -> bool {
        let connection = self.outlet.connection();
        if connection.is_some() {
            self.was_connected = true;
            if connection != self.connection {
                self.tags.values_mut().for_each(|entry| entry.published.forget());
            }
        }
        self.connection = connection;
        connection.is_some()
    }

    /// What was dropped of a tag that speaks only when something changes may be its last word for
    /// long; without samples any may have been dropped.
    fn forget_on_change(&mut self, dropped: Option<&[Sample]>) {
        let mut place = 0;
        let Some(dropped) = dropped else {
            let all = self.tags.values_mut().filter(|entry| entry.group.on_change);
            all.for_each(|entry| entry.published.forget());
            return;
        };
        for sample in dropped {
            let Some(found) = self.tags.place(sample.tag, place) else { continue };
            place = found + 1;
            if let Some(entry) = self.tags.at_mut(found).filter(|entry| entry.group.on_change) {
                entry.published.forget();
            }
        }
    }

    /// Publishes what is due without a reading.
    async fn repeat(&mut self) {
        if !self.is_connected() {
            return;
        }
        let now = self.origin.elapsed();
        let is_due = |entry: &Entry| {
            entry.group.on_change && entry.published.is_due(entry.group.manner.max_silence, now)
        };
        let due: Vec<TagId> =
            self.tags.iter().filter(|(_, entry)| is_due(entry)).map(|(id, _)| id).collect();
        if due.is_empty() {
            return;
        }
        let latest = self.board.latest(due);
        // Looked at after the status: what that knew and nobody took yet still waits here.
        let waiting = self.queue.waiting();
        let mut place = 0;
        let fresh = latest.iter().filter(|sample| !waiting.contains(&sample.tag));
        for sample in fresh.take(MAX_REPEATED) {
            if !self.publish(now, sample, &mut place).await {
                return;
            }
        }
        self.written().await;
    }

    /// Returns `false` when the connection broke and there is no use in going on.
    /// `near` is where the tag probably stands, and then where the next one does.
    async fn publish(&mut self, now: Duration, sample: &Sample, near: &mut usize) -> bool {
        let counters = &self.board.counters;
        let place = self.tags.place(sample.tag, *near);
        let Some((place, entry)) = place.and_then(|p| self.tags.at_mut(p).map(|e| (p, e))) else {
            counters.live_unknown_tags.one();
            return true;
        };
        *near = place + 1;
        let Entry { path, group, published } = entry;
        let Manner { unit, deadband, max_silence, .. } = &*group.manner;
        let rule = (*deadband, *max_silence);
        if published.offer(rule, now, &sample.value, sample.quality) == Verdict::Suppress {
            counters.live_suppressed.one();
            return true;
        }
        let payload = envelope::render(sample, unit.as_deref(), &group.device);
        let subject = Subject::from(subjects::live(path));
        match timeout(STILL_LIVE, self.outlet.publish(subject, payload)).await {
            Ok(Ok(())) => {
                counters.live_published.one();
                true
            }
            Ok(Err(error)) => {
                // Per value at most: the policy remembers what was offered, so an unchanged
                // value that is too large is refused once per max-silence.
                counters.live_refused.one();
                tracing::debug!(
                    device = %group.device,
                    tag = %path,
                    error = &error as &dyn std::error::Error,
                    "live value not published"
                );
                true
            }
            Err(_) => {
                published.forget();
                false
            }
        }
    }

    /// Waits until the batch is on its way, or the connection it was meant for is gone.
    async fn written(&self) {
        // Not `interval`: even a tick that is due at once waits for the next millisecond, and that
        // after each batch would be all that the live plane carries.
        let mut look = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        let written = self.outlet.written();
        tokio::pin!(written);
        loop {
            tokio::select! {
                biased;
                () = &mut written => return,
                _ = look.tick() => {
                    // A server that does not read is no reason to end this process.
                    self.pulse.tick();
                    if self.outlet.connection() != self.connection {
                        return;
                    }
                }
            }
        }
    }
}

/// A tag without unit and deadband.
#[cfg(test)]
fn manner(max_silence_s: u64) -> Arc<Manner> {
    Arc::new(Manner {
        unit: None,
        deadband: crate::config::Deadband::None,
        max_silence: Duration::from_secs(max_silence_s),
        record: crate::config::RecordMode::All,
    })
}

#[cfg(test)]
#[path = "nats_tests.rs"]
mod nats_tests;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tidegate_translator::{DeviceState, Timestamp, Value};

    use super::*;
    use crate::observe::state::tests::{board, meta};
    use crate::observe::state::{Alive, DeviceMeta, TagMeta};
    use crate::supervise::Pulses;

    /// An outlet that keeps what it gets. Connection 0 stands for none.
    #[derive(Default)]
    struct Kept {
        connection: AtomicU64,
        values: Mutex<Vec<(String, String)>>,
        stuck: std::sync::atomic::AtomicBool,
    }

    impl Outlet for Arc<Kept> {
        fn connection(&self) -> Option<u64> {
            Some(self.connection.load(Ordering::Relaxed)).filter(|n| *n > 0)
        }
        async fn publish(&self, subject: Subject, payload: Vec<u8>) -> Result<(), OutletError> {
            let payload = String::from_utf8(payload).unwrap();
            self.values.lock().unwrap().push((subject.to_string(), payload));
            Ok(())
        }
        async fn written(&self) {
            if self.stuck.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        }
    }

    struct Bench {
        kept: Arc<Kept>,
        queue: Arc<LiveQueue>,
        board: Arc<Board>,
        stop: CancellationToken,
        done: tokio::task::JoinHandle<()>,
    }

    fn tag(id: u32) -> LiveTag {
        let path = TagPath::new(format!("A/t{id}")).unwrap();
        let device = "press-1".into();
        LiveTag { id: TagId(id), path, device, manner: manner(60), on_change: false }
    }

    fn bench(connection: u64) -> Bench {
        let kept = Arc::new(Kept::default());
        kept.connection.store(connection, Ordering::Relaxed);
        let board = Arc::new(board());
        let queue = Arc::new(LiveQueue::new(Arc::clone(&board)));
        queue.set_tags(vec![tag(1), tag(2)]);
        let stop = CancellationToken::new();
        let pulse = Pulses::new(Duration::from_secs(30)).register("live");
        let (shared, outlet) = (Arc::clone(&board), Arc::clone(&kept));
        let publisher = Publisher::new(Arc::clone(&queue), shared, outlet, pulse);
        let done = tokio::spawn(publisher.run(stop.clone()));
        Bench { kept, queue, board, stop, done }
    }

    impl Bench {
        fn read(&self, id: u32, value: i64) {
            let sample = Sample::good(TagId(id), Timestamp(0), Value::I64(value));
            self.queue.offer(vec![sample].into());
        }
        /// Lets the publisher do all that it can without time passing.
        async fn settle(&self) {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        }
        fn values(&self) -> Vec<String> {
            let values = std::mem::take(&mut *self.kept.values.lock().unwrap());
            let v =
                |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["v"].clone();
            values.iter().map(|(s, text)| format!("{s}={}", v(text))).collect()
        }
        async fn end(self) {
            self.stop.cancel();
            self.done.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_goes_out_without_any_time_passing() {
        let bench = bench(1);
        bench.read(1, 7);
        bench.settle().await;
        assert_eq!(bench.values(), ["uns.A.t1=7"]);
        bench.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_does_not_wait_for_a_timer_after_the_one_before() {
        let bench = bench(1);
        // Between two ticks of the runtime's clock, where what is due at once waits for the next.
        tokio::time::advance(Duration::from_micros(300)).await;
        for value in 1..=3 {
            bench.read(1, value);
        }
        bench.settle().await;
        assert_eq!(bench.values(), ["uns.A.t1=1", "uns.A.t1=2", "uns.A.t1=3"]);
        bench.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_tag_without_new_readings_is_never_published_again() {
        let bench = bench(1);
        bench.read(1, 7);
        bench.settle().await;
        assert_eq!(bench.values().len(), 1);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(bench.values().len(), 0);
        bench.read(1, 7);
        bench.settle().await;
        assert_eq!(bench.values(), ["uns.A.t1=7"]);
        bench.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_before_the_first_connection_is_missed_only_once_that_takes_long() {
        let bench = bench(0);
        bench.read(1, 1);
        bench.settle().await;
        let missed = &bench.board.counters.live_disconnected;
        assert_eq!(missed.read(), 0);
        tokio::time::sleep(Duration::from_secs(6)).await;
        bench.read(1, 2);
        bench.settle().await;
        assert_eq!((missed.read(), bench.values().len()), (1, 0));
        bench.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_happened_while_disconnected_is_dropped_counted_and_not_replayed() {
        let bench = bench(1);
        bench.read(1, 1);
        bench.settle().await;
        bench.kept.connection.store(0, Ordering::Relaxed);
        bench.read(1, 2);
        bench.read(2, 2);
        bench.settle().await;
        bench.kept.connection.store(2, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(bench.values(), ["uns.A.t1=1"]);
        assert_eq!(bench.board.counters.live_disconnected.read(), 2);
        bench.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_reconnection_the_next_reading_goes_out_even_when_unchanged() {
        let bench = bench(1);
        bench.read(1, 1);
        bench.settle().await;
        bench.kept.connection.store(2, Ordering::Relaxed);
        bench.read(1, 1);
        bench.settle().await;
        assert_eq!(bench.values(), ["uns.A.t1=1", "uns.A.t1=1"]);
        bench.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn readings_that_waited_behind_a_stuck_write_are_not_published_late() {
        let bench = bench(1);
        bench.kept.stuck.store(true, Ordering::Relaxed);
        bench.read(1, 1);
        bench.settle().await;
        bench.read(1, 2);
        tokio::time::sleep(STILL_LIVE + LOOK_EVERY).await;
        bench.kept.stuck.store(false, Ordering::Relaxed);
        bench.kept.connection.store(2, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(bench.values(), ["uns.A.t1=1"]);
        assert_eq!(bench.board.counters.live_late.read(), 1);
        bench.read(1, 3);
        bench.settle().await;
        assert_eq!(bench.values(), ["uns.A.t1=3"]);
        bench.end().await;
    }

    /// Tag 1 speaks only when something changes, and its driver is heard.
    fn quiet(connection: u64) -> Bench {
        let bench = bench(connection);
        let alive = Alive::ByDriver(Duration::from_secs(15));
        let meta = TagMeta { fresh_for: None, ..meta(1, "A/t1", "press-1") };
        bench.board.configure([DeviceMeta { name: "press-1".into(), alive }], [meta]);
        bench.queue.set_tags(vec![LiveTag { on_change: true, ..tag(1) }, tag(2)]);
        bench
    }

    impl Bench {
        /// A reading as the sink takes it.
        fn tell(&self, value: i64) {
            let sample = Sample::good(TagId(1), Timestamp::from_millis(5), Value::I64(value));
            self.queue.offer(vec![sample.clone()].into());
            self.board.note_samples(&[sample]);
        }

        /// So many seconds in which the driver is heard.
        async fn pass(&self, seconds: u64) {
            for _ in 0..seconds {
                self.board.note_device("press-1", DeviceState::Live, None);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_speaks_only_when_something_changes_is_published_after_max_silence() {
        let bench = quiet(1);
        bench.tell(7);
        bench.pass(58).await;
        assert_eq!(bench.values(), ["uns.A.t1=7"]);
        bench.pass(120).await;
        let again = bench.kept.values.lock().unwrap().clone();
        assert_eq!(again.len(), 2, "{again:?}");
        assert_eq!(again[0].1, r#"{"v":7,"ts":5,"q":"good","src":"press-1"}"#);
        // The driver falls silent: the value is not vouched for any more.
        tokio::time::sleep(Duration::from_secs(120)).await;
        let stale = bench.kept.values.lock().unwrap().pop().unwrap().1;
        assert_eq!(stale, r#"{"v":7,"ts":5,"q":"bad","src":"press-1","why":"stale"}"#);
        bench.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_dropped_of_it_is_made_good_once_there_is_a_connection() {
        let bench = quiet(0);
        bench.tell(7);
        bench.pass(10).await;
        assert_eq!(bench.values().len(), 0);
        bench.kept.connection.store(1, Ordering::Relaxed);
        bench.pass(3).await;
        assert_eq!(bench.values(), ["uns.A.t1=7"]);
        // The leaf is another one: nobody there has heard of the value.
        bench.kept.connection.store(2, Ordering::Relaxed);
        bench.pass(3).await;
        assert_eq!(bench.values(), ["uns.A.t1=7"]);
        // Readings that waited behind a stuck write.
        bench.kept.stuck.store(true, Ordering::Relaxed);
        bench.tell(8);
        bench.settle().await;
        bench.tell(9);
        bench.pass(3).await;
        bench.kept.stuck.store(false, Ordering::Relaxed);
        bench.kept.connection.store(3, Ordering::Relaxed);
        bench.pass(3).await;
        assert_eq!(bench.values(), ["uns.A.t1=8", "uns.A.t1=9"]);
        bench.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_waits_goes_before_what_the_status_knows() {
        let board = Arc::new(board());
        let queue = Arc::new(LiveQueue::new(Arc::clone(&board)));
        queue.set_tags(vec![LiveTag { on_change: true, ..tag(1) }]);
        let kept = Arc::new(Kept::default());
        kept.connection.store(1, Ordering::Relaxed);
        let pulse = Pulses::new(Duration::from_secs(30)).register("live");
        let (shared, outlet) = (Arc::clone(&board), Arc::clone(&kept));
        let mut publisher = Publisher::new(Arc::clone(&queue), shared, outlet, pulse);
        publisher.retag(queue.take().await.retag.unwrap());
        let sample = Sample::good(TagId(1), Timestamp(0), Value::I64(7));
        queue.offer(vec![sample.clone()].into());
        board.note_samples(&[sample]);
        publisher.repeat().await;
        assert!(kept.values.lock().unwrap().is_empty());
        let batch = queue.take().await.batch.unwrap();
        publisher.batch(batch).await;
        publisher.repeat().await;
        assert_eq!(kept.values.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn changed_settings_leave_untouched_tags_as_they_are() {
        let bench = bench(1);
        bench.read(1, 1);
        bench.read(2, 1);
        bench.settle().await;
        bench.values();
        let mut other = tag(2);
        other.path = TagPath::new("B/t2").unwrap();
        bench.queue.set_tags(vec![tag(1), other]);
        bench.read(1, 1);
        bench.read(2, 1);
        bench.settle().await;
        assert_eq!(bench.values(), ["uns.B.t2=1"]);
        bench.end().await;
    }
}
