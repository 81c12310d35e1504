//! When the backlog will be gone, from how fast it shrinks.
//!
//! # Invariants
//! - The speed is *net*: what is delivered less what is recorded meanwhile, because that is what
//!   decides the end.
//! - No speed is claimed from less than two seconds of observation, nor across a rewind or a cut.

use std::time::Duration;

/// The spacing of observations.
const EVERY: Duration = Duration::from_secs(1);
/// The least weight of a new observation: about ten of them decide. The first ones are averaged,
/// because messages come in bursts and one second says little.
const WEIGHT: f64 = 0.1;

/// Observed backlog.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    last: Option<(Duration, u64)>,
    observations: u32,
    /// Bytes per second by which the backlog shrinks.
    net: Option<f64>,
}

impl Drain {
    /// Whether a look at the backlog is due.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.last.is_none_or(|(at, _)| now.saturating_sub(at) >= EVERY)
    }

    #[expect(clippy::cast_precision_loss, reason = "a speed, not an identity")]
    pub(crate) fn observe(&mut self, now: Duration, backlog: u64) {
        if let Some((at, before)) = self.last {
            let passed = now.saturating_sub(at).as_secs_f64().max(EVERY.as_secs_f64());
            let net = (before as f64 - backlog as f64) / passed;
            self.observations = self.observations.saturating_add(1);
            let weight = f64::from(self.observations).recip().max(WEIGHT);
            self.net = Some(self.net.map_or(net, |old| old.mul_add(1.0 - weight, net * weight)));
        }
        self.last = Some((now, backlog));
    }

    /// Forgets what was observed: the link was cut, or the cursor went back.
    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }

    /// The time until a backlog of this many bytes is gone; `None` when it does not shrink.
    #[expect(clippy::cast_precision_loss, reason = "a speed, not an identity")]
    pub(crate) fn estimate(&self, backlog: u64) -> Option<Duration> {
        if backlog == 0 {
            return Some(Duration::ZERO);
        }
        let net = self.net.filter(|net| *net > 0.0)?;
        Duration::try_from_secs_f64(backlog as f64 / net).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_that_shrinks_by_a_tenth_per_second_is_gone_in_its_time() {
        let mut drain = Drain::default();
        for second in 0..50_u64 {
            drain.observe(Duration::from_secs(second), 100_000 - second * 1000);
        }
        let left = drain.estimate(51_000).unwrap().as_secs_f64();
        assert!((left - 51.0).abs() < 1.0, "{left}");
    }

    #[test]
    fn a_backlog_that_grows_has_no_end() {
        let mut drain = Drain::default();
        drain.observe(Duration::ZERO, 10);
        drain.observe(Duration::from_secs(1), 20);
        assert_eq!(drain.estimate(20), None);
        assert_eq!(drain.estimate(0), Some(Duration::ZERO));
    }
}
