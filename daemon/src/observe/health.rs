//! The gateway's own health as ordinary tags under `<plant>/_gateways/<name>/…`, so that it is
//! recorded, delivered and queried like any other value.
//!
//! # Invariants
//! - At most one look a minute, and only what moved beyond its deadband becomes a sample, so the
//!   gateway's own tags stay a rounding error in the record.
//! - They never cause a commit by themselves: [`GatewayHealth::ids`] tells the recorder which tags
//!   can wait for the next one.
//! - What is not known is not invented: it has no sample, or a bad one when it was known before.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::{
    CancellationToken, Device, DeviceFuture, DeviceState, LossCause, PathError, Quality, Reading,
    ReadingFuture, Reason, Sample, Sink, TagId, TagPath, Value, ValueKind,
};
use tokio::time::MissedTickBehavior;

use super::state::{Board, HealthLimits, PartState, StatusReport, UplinkState};
use crate::config::Deadband;
use crate::live::{LivePolicy, Verdict};
use crate::names::GatewayId;

/// The device that these tags belong to. No configured name can begin with `_`.
pub const DEVICE: &str = "_gateway";

/// How often the gateway looks at itself.
pub const EVERY: Duration = Duration::from_secs(60);

/// How long a value that does not move goes without a sample: an hour of silence is then known to
/// be an hour without change, at 24 samples a day.
pub const MAX_SILENCE: Duration = Duration::from_secs(3600);

/// One of the gateway's own tags.
#[derive(Debug, Clone, Copy)]
pub struct HealthTag {
    /// Its path below `<plant>/_gateways/<name>/`.
    pub name: &'static str,
    /// Its unit.
    pub unit: Option<&'static str>,
    /// The kind of its values.
    pub kind: ValueKind,
    /// How much change is worth a sample.
    pub deadband: Deadband,
    read: fn(&StatusReport) -> Option<Value>,
}

const fn tag(
    name: &'static str,
    unit: Option<&'static str>,
    kind: ValueKind,
    deadband: Deadband,
    read: fn(&StatusReport) -> Option<Value>,
) -> HealthTag {
    HealthTag { name, unit, kind, deadband, read }
}

/// All of them.
pub const TAGS: &[HealthTag] = &[
    tag("health", None, ValueKind::Text, Deadband::None, |s| text(s.health.state.word())),
    tag("alarms", None, ValueKind::U64, Deadband::None, |s| len(s.alarms.len())),
    tag("devices/down", None, ValueKind::U64, Deadband::None, |s| {
        let parts = s.health.parts.iter().filter(|p| p.part.starts_with("device "));
        len(parts.filter(|p| p.state == PartState::Down).count())
    }),
    tag("tags/bad", None, ValueKind::U64, Deadband::None, |s| len(s.tags.bad)),
    tag("polls/overrun", None, ValueKind::U64, Deadband::None, |s| {
        Some(Value::U64(missed(s, |cause| cause == LossCause::PollOverrun)))
    }),
    tag("samples/missed", None, ValueKind::U64, Deadband::None, |s| {
        Some(Value::U64(missed(s, |_| true)))
    }),
    tag("queues/overflow", None, ValueKind::U64, Deadband::None, |s| {
        let of_queues = s.counters.iter().filter(|(name, _)| name.ends_with("_overflow"));
        Some(Value::U64(of_queues.map(|(_, n)| *n).fold(0, u64::saturating_add)))
    }),
    tag("journal/writable", None, ValueKind::Bool, Deadband::None, |s| {
        Some(Value::Bool(s.journal.writable))
    }),
    tag("journal/bytes", Some("B"), ValueKind::U64, Deadband::Percent(1.0), |s| {
        Some(Value::U64(s.journal.bytes))
    }),
    tag("journal/slowest-commit", Some("ms"), ValueKind::F64, Deadband::Percent(50.0), |s| {
        s.journal.slowest_commit_ms.map(Value::F64)
    }),
    tag("link/up", None, ValueKind::Bool, Deadband::None, |s| {
        s.link.configured.then_some(Value::Bool(s.link.hub_up))
    }),
    tag("uplink/state", None, ValueKind::Text, Deadband::None, |s| text(s.uplink.state.word())),
    tag("uplink/ack-age", Some("s"), ValueKind::F64, Deadband::Absolute(10.0), |s| {
        s.uplink.ack_age_ms.map(|ms| Value::F64(Duration::from_millis(ms).as_secs_f64()))
    }),
    tag("backlog/frames", None, ValueKind::U64, Deadband::Percent(10.0), |s| {
        with_hub(s, Value::U64(s.uplink.backlog_frames))
    }),
    tag("backlog/bytes", Some("B"), ValueKind::U64, Deadband::Percent(10.0), |s| {
        with_hub(s, Value::U64(s.uplink.backlog_bytes))
    }),
    tag("backlog/seconds", Some("s"), ValueKind::F64, Deadband::Percent(10.0), |s| {
        s.uplink.backlog_seconds.map(Value::F64)
    }),
    tag("backlog/drain", Some("s"), ValueKind::F64, Deadband::Percent(10.0), |s| {
        s.uplink.drain_seconds.map(Value::F64)
    }),
    tag("certificate/days-left", Some("d"), ValueKind::F64, Deadband::Absolute(0.5), |s| {
        let days = s.certificates.iter().map(|c| c.days_left(s.now));
        days.min_by(f64::total_cmp).map(Value::F64)
    }),
    tag("alarms/active", None, ValueKind::Text, Deadband::None, |s| {
        let words: Vec<&str> = s.alarms.iter().map(|alarm| alarm.kind.as_str()).collect();
        text(if words.is_empty() { "none".to_owned() } else { words.join(" ") }.as_str())
    }),
    tag("identity/generation", None, ValueKind::U64, Deadband::None, |s| {
        s.identity.as_ref().map(|identity| Value::U64(identity.generation))
    }),
    tag("identity/serial", None, ValueKind::Text, Deadband::None, |s| {
        text(s.identity.as_ref().map(|identity| identity.serial.as_str())?)
    }),
    tag("identity/failures", None, ValueKind::U64, Deadband::None, |s| {
        s.identity.as_ref().map(|identity| Value::U64(identity.failures.into()))
    }),
    tag("identity/last-error", None, ValueKind::Text, Deadband::None, |s| {
        text(s.identity.as_ref()?.last_error.as_deref().unwrap_or("none"))
    }),
];

#[expect(clippy::unnecessary_wraps, reason = "one signature for the whole table")]
fn text(word: &str) -> Option<Value> {
    Some(Value::Text(word.into()))
}

#[expect(clippy::unnecessary_wraps, reason = "one signature for the whole table")]
fn len(n: usize) -> Option<Value> {
    Some(Value::U64(u64::try_from(n).unwrap_or(u64::MAX)))
}

fn with_hub(s: &StatusReport, value: Value) -> Option<Value> {
    (s.uplink.state != UplinkState::NotConfigured).then_some(value)
}

fn missed(s: &StatusReport, counts: impl Fn(LossCause) -> bool) -> u64 {
    let all = s.devices.iter().flat_map(|device| &device.missed);
    all.filter(|(cause, _)| counts(**cause)).map(|(_, m)| m.slots).fold(0, u64::saturating_add)
}

/// The paths of [`TAGS`] for a gateway, in their order.
///
/// # Errors
/// Never in practice: names of gateways are legal segments.
pub fn paths(gateway: &GatewayId) -> Result<Vec<TagPath>, PathError> {
    let base = format!("{}/_gateways/{}", gateway.plant, gateway.name);
    TAGS.iter().map(|tag| TagPath::new(format!("{base}/{}", tag.name))).collect()
}

/// The gateway as a device that reads itself.
#[derive(Debug)]
pub struct GatewayHealth {
    board: Arc<Board>,
    limits: HealthLimits,
    ids: Vec<TagId>,
}

impl GatewayHealth {
    /// A device whose tags have these numbers, in the order of [`TAGS`].
    #[must_use]
    pub fn new(board: Arc<Board>, limits: HealthLimits, ids: Vec<TagId>) -> Self {
        Self { board, limits, ids }
    }

    /// The tags that never cause a commit by themselves.
    #[must_use]
    pub fn ids(&self) -> HashSet<TagId> {
        self.ids.iter().copied().collect()
    }

    /// What each tag is now.
    fn look(&self) -> Vec<(TagId, &'static HealthTag, Option<Value>)> {
        let report = self.board.report(&self.limits);
        self.ids.iter().zip(TAGS).map(|(id, tag)| (*id, tag, (tag.read)(&report))).collect()
    }

    /// The samples of one look: what moved.
    fn samples(&self, now: Duration, policies: &mut [Option<LivePolicy>]) -> Vec<Sample> {
        let acquired = self.board.now();
        let mut samples = Vec::new();
        for ((id, tag, value), policy) in self.look().into_iter().zip(policies) {
            let sample = match value {
                Some(value) => Sample::good(id, acquired, value),
                // Never known: there is nothing to take back.
                None if policy.is_none() => continue,
                None => Sample::bad(id, acquired, Reason::Unspecified, 0),
            };
            let policy = policy.get_or_insert_with(|| LivePolicy::new(tag.deadband, MAX_SILENCE));
            if policy.offer(now, &sample.value, sample.quality) == Verdict::Publish {
                samples.push(sample);
            }
        }
        samples
    }
}

impl Device for GatewayHealth {
    fn name(&self) -> Arc<str> {
        DEVICE.into()
    }

    fn run(self: Box<Self>, sink: Arc<dyn Sink>, stop: CancellationToken) -> DeviceFuture {
        Box::pin(async move {
            sink.state(&self.name(), DeviceState::Live, None);
            let begun = tokio::time::Instant::now();
            let mut policies: Vec<Option<LivePolicy>> = TAGS.iter().map(|_| None).collect();
            let mut look = tokio::time::interval(EVERY);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = look.tick() => {}
                }
                let samples = self.samples(begun.elapsed(), &mut policies);
                if !samples.is_empty() {
                    sink.samples(samples);
                }
            }
        })
    }

    fn read_once(&self) -> ReadingFuture {
        let readings = self.look().into_iter().map(|(tag, _, value)| match value {
            Some(value) => Reading { tag, value, quality: Quality::Good, error: None },
            None => Reading {
                tag,
                value: Value::None,
                quality: Quality::Bad(Reason::Unspecified),
                error: Some("not known yet".to_owned()),
            },
        });
        Box::pin(std::future::ready(readings.collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use tidegate_translator::Missed;

    use super::*;
    use crate::observe::state::tests::board;
    use crate::subjects;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Sample>>);

    impl Sink for Kept {
        fn samples(&self, batch: Vec<Sample>) {
            self.0.lock().unwrap().extend(batch);
        }
        fn missed(&self, _: Missed) {}
        fn state(&self, device: &Arc<str>, state: DeviceState, _: Option<String>) {
            assert_eq!((device.as_ref(), state), (DEVICE, DeviceState::Live));
        }
    }

    struct Bench {
        board: Arc<Board>,
        kept: Arc<Kept>,
        stop: CancellationToken,
        done: tokio::task::JoinHandle<()>,
    }

    fn ids() -> Vec<TagId> {
        (100..).take(TAGS.len()).map(TagId).collect()
    }

    fn id(name: &str) -> TagId {
        ids()[TAGS.iter().position(|tag| tag.name == name).unwrap()]
    }

    fn bench() -> Bench {
        let board = Arc::new(board());
        let kept = Arc::new(Kept::default());
        let stop = CancellationToken::new();
        let device = GatewayHealth::new(Arc::clone(&board), HealthLimits::default(), ids());
        let sink: Arc<dyn Sink> = Arc::clone(&kept) as _;
        let done = tokio::spawn(Box::new(device).run(sink, stop.clone()));
        Bench { board, kept, stop, done }
    }

    impl Bench {
        async fn minutes(&self, minutes: u64) -> Vec<Sample> {
            tokio::time::sleep(EVERY * u32::try_from(minutes).unwrap()).await;
            tokio::task::yield_now().await;
            std::mem::take(&mut *self.kept.0.lock().unwrap())
        }
        async fn end(self) {
            self.stop.cancel();
            self.done.await.unwrap();
        }
    }

    #[test]
    fn every_tag_has_a_legal_path_a_subject_of_its_own_and_values_of_its_kind() {
        let paths = paths(&"PlantA/gw-1".parse().unwrap()).unwrap();
        assert_eq!(paths.len(), TAGS.len());
        let mut subjects: Vec<_> = paths.iter().map(subjects::live).collect();
        assert!(subjects[0].starts_with("uns.PlantA._gateways.gw-1."));
        subjects.sort_unstable();
        subjects.dedup();
        assert_eq!(subjects.len(), TAGS.len());
        let report = board().report(&HealthLimits::default());
        for tag in TAGS {
            if let Some(value) = (tag.read)(&report) {
                assert_eq!(value.kind(), tag.kind, "{}", tag.name);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_where_nothing_moves_is_silent_for_an_hour() {
        let bench = bench();
        // Devices that were just configured turn to "down" within the first minute.
        let first = bench.minutes(2).await;
        assert!(first.iter().any(|s| s.tag == id("health")));
        assert!(first.iter().all(|s| s.tag != id("link/up")), "no hub is configured");
        assert_eq!(bench.minutes(50).await, []);
        let again = bench.minutes(10).await;
        let mut counts: HashMap<TagId, usize> = HashMap::new();
        again.iter().for_each(|s| *counts.entry(s.tag).or_default() += 1);
        assert!(!again.is_empty() && counts.values().all(|n| *n == 1), "{counts:?}");
        bench.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_is_sampled_at_the_next_look_and_not_before() {
        let bench = bench();
        bench.minutes(2).await;
        bench.board.counters.live_overflow.add(5);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(bench.kept.0.lock().unwrap().len(), 0);
        let samples = bench.minutes(1).await;
        let overflow: Vec<_> = samples.iter().map(|s| (s.tag, s.value.clone())).collect();
        assert_eq!(overflow, [(id("queues/overflow"), Value::U64(5))]);
        bench.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_no_longer_turns_bad_once() {
        let bench = bench();
        bench.board.update_uplink(|uplink| uplink.drain_seconds = Some(30.0));
        let known = bench.minutes(2).await;
        assert!(known.iter().any(|s| s.tag == id("backlog/drain") && s.quality.is_good()));
        bench.board.update_uplink(|uplink| uplink.drain_seconds = None);
        let gone = bench.minutes(5).await;
        let gone: Vec<_> = gone.iter().filter(|s| s.tag == id("backlog/drain")).collect();
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].quality, Quality::Bad(Reason::Unspecified));
        bench.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn read_once_answers_for_every_tag() {
        let device = GatewayHealth::new(Arc::new(board()), HealthLimits::default(), ids());
        assert_eq!(device.ids().len(), TAGS.len());
        let readings = device.read_once().await;
        assert_eq!(readings.len(), TAGS.len());
        assert!(readings.iter().any(|r| r.error.is_some()) && readings[0].quality.is_good());
    }
}
