//! Proof of life of the critical loops.
//!
//! # Invariants
//! - A loop that has gone round proves it by ticking; nothing ticks for it.
//! - A pulse that was dropped is no longer waited for: ending is the supervisor's business.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior};

/// All pulses of the process.
#[derive(Debug, Clone)]
pub struct Pulses {
    limit: Duration,
    origin: Instant,
    beats: Arc<Mutex<Vec<Weak<Beat>>>>,
}

#[derive(Debug)]
struct Beat {
    name: Box<str>,
    /// Milliseconds after the origin.
    last: AtomicU64,
}

/// The pulse of one loop.
#[derive(Debug)]
pub struct Pulse {
    beat: Arc<Beat>,
    origin: Instant,
    limit: Duration,
}

impl Pulses {
    /// Pulses that are late when they have not ticked for `limit`.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, origin: Instant::now(), beats: Arc::default() }
    }

    /// A pulse for the loop `name`, ticked just now.
    #[must_use]
    pub fn register(&self, name: &str) -> Pulse {
        let beat = Arc::new(Beat { name: name.into(), last: AtomicU64::new(0) });
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats.retain(|beat| beat.strong_count() > 0);
        beats.push(Arc::downgrade(&beat));
        let pulse = Pulse { beat, origin: self.origin, limit: self.limit };
        pulse.tick();
        pulse
    }

    /// The loops that have not ticked within the limit, by name.
    #[must_use]
    pub fn late(&self) -> Vec<String> {
        let now = self.origin.elapsed();
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        let mut late: Vec<String> = beats
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|beat| {
                let last = Duration::from_millis(beat.last.load(Ordering::Relaxed));
                now.saturating_sub(last) > self.limit
            })
            .map(|beat| beat.name.to_string())
            .collect();
        late.sort_unstable();
        late
    }
}

impl Pulse {
    /// Proves that the loop has gone round.
    pub fn tick(&self) {
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat.last.store(now, Ordering::Relaxed);
    }

    /// Wakes a loop that has nothing to do often enough to tick in time: four times per limit.
    /// Whatever a loop waits for that can take longer (a disk, say) it must wait for beside this.
    #[must_use]
    pub fn ticker(&self) -> Interval {
        let mut interval = tokio::time::interval(self.limit / 4);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn the_loop_that_hangs_is_named_and_the_one_that_ticks_is_not() {
        let pulses = Pulses::new(LIMIT);
        let (recorder, live) = (pulses.register("recorder"), pulses.register("live"));
        tokio::time::advance(LIMIT).await;
        assert!(pulses.late().is_empty());
        live.tick();
        tokio::time::advance(Duration::from_millis(2)).await;
        assert_eq!(pulses.late(), ["recorder"]);
        recorder.tick();
        assert!(pulses.late().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_ended_is_not_waited_for() {
        let pulses = Pulses::new(LIMIT);
        drop(pulses.register("recorder"));
        tokio::time::advance(LIMIT * 2).await;
        assert!(pulses.late().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_loop_with_a_ticker_is_never_late() {
        let pulses = Pulses::new(LIMIT);
        let pulse = pulses.register("idle");
        let mut ticker = pulse.ticker();
        for _ in 0..20 {
            ticker.tick().await;
            assert!(pulses.late().is_empty());
            pulse.tick();
        }
    }
}
