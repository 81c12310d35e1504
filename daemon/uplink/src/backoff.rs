//! How long to wait after a failure.
//!
//! # Invariants
//! - The wait is never shorter than half of its step and never longer than [`CAP`].
//! - The spread comes from the gateway's name, so that a fleet cut off together does not come back
//!   together, and the same schedule replays in a test.

use std::time::Duration;

/// The first wait. A leaf that lost its hub answers 503 within 0.1 s (measured with nats-server
/// 2.15.1), so anything much shorter only repeats the same answer.
pub(crate) const FIRST: Duration = Duration::from_millis(250);
/// The longest wait: a hub that is back is noticed within half a minute.
pub(crate) const CAP: Duration = Duration::from_secs(30);
/// The longest wait after "nobody listens". The own leaf gives that answer without a byte on the
/// WAN, so asking often costs nothing, and a link that is back is used at once.
pub(crate) const NEAR_CAP: Duration = Duration::from_secs(2);

/// The waits of one gateway.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    seed: u64,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(gateway: &str) -> Self {
        Self { seed: fnv1a(gateway.as_bytes()), failures: 0 }
    }

    /// Counts one more failure and says how long to wait, at most `cap`.
    pub(crate) fn fail(&mut self, cap: Duration) -> Duration {
        let doublings = self.failures.min(12);
        self.failures = self.failures.saturating_add(1);
        let step = FIRST.saturating_mul(1 << doublings).min(cap);
        // Between half of the step and all of it.
        let mixed = mix(self.seed.wrapping_add(u64::from(self.failures)));
        let part = u32::try_from(mixed % 501).unwrap_or(0);
        step / 1000 * (500 + part)
    }

    /// Failures since the last success.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finishing step of SplitMix64: neighbouring inputs give unrelated outputs.
const fn mix(x: u64) -> u64 {
    let x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_capped() {
        let mut backoff = Backoff::new("PlantA/gw-1");
        let waits: Vec<_> = (0..40).map(|_| backoff.fail(CAP)).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST);
        assert!(waits[39] >= CAP / 2 && waits.iter().all(|w| *w <= CAP), "{waits:?}");
        backoff.reset();
        assert_eq!(backoff.fail(CAP), waits[0]);
    }

    #[test]
    fn a_fleet_is_spread_by_name() {
        let mut waits: Vec<_> = (0..100)
            .map(|n| {
                let mut backoff = Backoff::new(&format!("PlantA/gw-{n}"));
                (0..10).map(|_| backoff.fail(CAP)).max().unwrap_or_default()
            })
            .collect();
        waits.sort();
        waits.dedup();
        assert!(waits.len() > 60, "only {} different waits", waits.len());
    }
}
