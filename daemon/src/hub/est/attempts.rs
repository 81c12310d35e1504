//! How often somebody may be wrong.
//!
//! # Invariants
//! - Only refusals count: a fleet behind one address enrols as fast as the disk goes.
//! - The table is bounded. When it is full, whoever was wrong longest ago is forgotten.
//! - Pure: the time comes in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// Wrong attempts in a row; a person mistypes a token less often.
const BURST: u32 = 10;
/// After that, one in this time. Tokens have 192 bits: it is for the log and the disk, not for them.
const EACH: Duration = Duration::from_secs(6);
/// Addresses that are remembered, 100 kB.
const MAX_ADDRESSES: usize = 1024;

/// Who was wrong, and from when on an attempt is one too many: a leaky bucket as one instant.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Until when the failures of an address take to be forgotten.
    full_until: HashMap<IpAddr, Instant>,
}

impl Attempts {
    /// How long an address must wait, if it must.
    pub(super) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let until = self.full_until.get(&network(address))?;
        let over = until.checked_duration_since(now)?;
        let most = EACH.saturating_mul(BURST.saturating_sub(1));
        over.checked_sub(most).filter(|wait| !wait.is_zero())
    }

    /// An attempt was refused.
    pub(super) fn failed(&mut self, address: IpAddr, now: Instant) {
        let address = network(address);
        let until = self.full_until.get(&address).copied().unwrap_or(now).max(now);
        if self.full_until.len() >= MAX_ADDRESSES && !self.full_until.contains_key(&address) {
            self.full_until.retain(|_, until| *until > now);
            let oldest = self.full_until.iter().min_by_key(|(_, until)| **until);
            if self.full_until.len() >= MAX_ADDRESSES
                && let Some(oldest) = oldest.map(|(address, _)| *address)
            {
                self.full_until.remove(&oldest);
            }
        }
        self.full_until.insert(address, until + EACH);
    }
}

/// Whoever has one address of version 6 has its whole network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[tokio::test(start_paused = true)]
    async fn ten_wrong_attempts_are_free_and_then_one_in_six_seconds() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        for _ in 0..BURST {
            assert_eq!(attempts.wait(address(1), now), None);
            attempts.failed(address(1), now);
        }
        assert_eq!(attempts.wait(address(1), now), Some(EACH));
        assert_eq!(attempts.wait(address(2), now), None, "others are not concerned");
        let later = now + EACH;
        assert_eq!(attempts.wait(address(1), later), None);
        attempts.failed(address(1), later);
        assert_eq!(attempts.wait(address(1), later), Some(EACH));
        assert_eq!(attempts.wait(address(1), later + EACH * 20), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_a_network_of_version_6_is_one_address() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        for number in 0..3000_u16 {
            let [high, low] = number.to_be_bytes();
            attempts.failed([10, 0, high, low].into(), now);
        }
        assert_eq!(attempts.full_until.len(), MAX_ADDRESSES);
        for host in 0..20_u16 {
            attempts.failed(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host).into(), now);
        }
        let other_host = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 9, 9, 9, 9).into();
        assert!(attempts.wait(other_host, now).is_some());
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), address(1));
    }
}
