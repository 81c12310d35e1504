//! When a certificate is renewed, when a failed renewal is tried again, and when a person is told.
//!
//! # Invariants
//! - Pure: the same times give the same answers, so that asking again after a clock step is all
//!   that a clock step needs.
//! - A renewal is due at two thirds of the lifetime, or three of the longest times without a hub
//!   before the end if that is sooner, and never within the first third: a certificate that is too
//!   short for its gateway's absences must not be renewed without end.
//! - Gateways that were enrolled together do not renew together.
//! - A wait is a span of time and never a time of day: a clock that steps back must not put off the
//!   next attempt by years.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::certificate::CertificateFacts;
use crate::files::rough;

/// The shortest and the longest wait after a failure.
const RETRY_FIRST: Duration = Duration::from_secs(30);
const RETRY_MOST: Duration = Duration::from_secs(6 * 3_600);
/// Once the time is over, at least this often: somebody is waiting.
const RETRY_EXPIRED: Duration = Duration::from_secs(3_600);
/// No authority is asked more often.
const RETRY_LEAST: Duration = Duration::from_secs(1);
/// An authority that wants to be asked again later than this is asked anyway.
const LATER_MOST: Duration = Duration::from_secs(86_400);

const DAY: Duration = Duration::from_secs(86_400);

/// What renewal depends on beside the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalPolicy {
    /// The longest time without a hub to reckon with.
    pub longest_offline: Duration,
    /// Spreads gateways; from the gateway's name.
    pub seed: u64,
}

/// How urgent the end of a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// 30 days or half the lifetime left.
    Notice,
    /// 14 days or a quarter.
    Warning,
    /// 7 days or a tenth.
    Urgent,
    /// A day.
    Last,
}

/// A person should know that a certificate ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warning {
    /// How urgent.
    pub urgency: Urgency,
    /// How much is left.
    pub left: Duration,
    /// Which bound was crossed.
    pub bound: Bound,
}

/// A bound for the time left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// So many days.
    Days(u32),
    /// So many hundredths of the lifetime, which is short.
    Percent(u32),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Days(1) => f.write_str("1 day"),
            Self::Days(days) => write!(f, "{days} days"),
            Self::Percent(percent) => write!(f, "{percent} % of its lifetime"),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ends in {}, which is less than {}", rough(self.left), self.bound)
    }
}

/// The bounds, the most urgent first. A day has no share of the lifetime beside it: where it is more
/// than a tenth, there is no such bound.
const BOUNDS: [(Urgency, u32, Option<u32>); 4] = [
    (Urgency::Last, 1, None),
    (Urgency::Urgent, 7, Some(10)),
    (Urgency::Warning, 14, Some(25)),
    (Urgency::Notice, 30, Some(50)),
];

impl RenewalPolicy {
    /// A policy whose spread comes from the gateway's name.
    #[must_use]
    pub fn of(gateway: &str, longest_offline: Duration) -> Self {
        Self { longest_offline, seed: seed_of(gateway) }
    }

    /// When to renew a certificate.
    #[must_use]
    pub fn due(&self, facts: &CertificateFacts) -> SystemTime {
        let lifetime = lifetime(facts);
        let third = lifetime / 3;
        let reserve = self.longest_offline.saturating_mul(3);
        let at = (third * 2).min(lifetime.saturating_sub(reserve)).max(third);
        // Whoever is held at the first third spreads behind it, or all would meet there.
        let low = (at - at / 10).max(third);
        let high = at + at / 10;
        facts.not_before + low + share(high - low, self.seed)
    }

    /// How long to wait after `failures` failed attempts in a row, for a certificate at `now`.
    /// Without a certificate: the first enrolment.
    #[must_use]
    pub fn retry(
        &self,
        failures: u32,
        facts: Option<&CertificateFacts>,
        now: SystemTime,
    ) -> Duration {
        let (first, most) = match facts {
            None => (RETRY_FIRST, RETRY_EXPIRED),
            Some(facts) => {
                let lifetime = lifetime(facts);
                let left = facts.not_after.duration_since(now).unwrap_or_default();
                let least = RETRY_EXPIRED.min(lifetime / 100);
                (RETRY_FIRST.min(lifetime / 60), (left / 20).clamp(least, RETRY_MOST))
            }
        };
        let (first, most) = (first.max(RETRY_LEAST), most.max(RETRY_LEAST));
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let wait = first.saturating_mul(doubled).min(most);
        // Another share at each attempt: two that met once do not meet for ever.
        let spread = share(wait / 5, self.seed ^ u64::from(failures).wrapping_mul(GOLDEN));
        (wait - wait / 10 + spread).max(RETRY_LEAST)
    }

    /// How long to wait for an authority that has not decided and wants to be asked `after` a time.
    #[must_use]
    pub fn later(&self, after: Duration) -> Duration {
        after.clamp(RETRY_LEAST, LATER_MOST)
    }
}

/// What a person should know about the end of a certificate that is valid at `now`. Where it renews
/// itself, nothing before that is due: an alarm while all is well is soon not read.
#[must_use]
pub fn warning(
    facts: &CertificateFacts,
    renewal_due: Option<SystemTime>,
    now: SystemTime,
) -> Option<Warning> {
    let left = facts.not_after.duration_since(now).ok()?;
    if renewal_due.is_some_and(|due| now < due) {
        return None;
    }
    let lifetime = lifetime(facts);
    BOUNDS.into_iter().find_map(|(urgency, days, percent)| {
        let by_days = DAY * days;
        let by_share = percent.map_or(lifetime / 10, |percent| lifetime * percent / 100);
        let bound = match percent {
            None if by_days > by_share => return None,
            Some(percent) if by_share < by_days => Bound::Percent(percent),
            _ => Bound::Days(days),
        };
        (left < by_days.min(by_share)).then_some(Warning { urgency, left, bound })
    })
}

fn lifetime(facts: &CertificateFacts) -> Duration {
    facts.not_after.duration_since(facts.not_before).unwrap_or_default()
}

/// 2^64 ÷ the golden ratio: neighbouring numbers end far apart.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// FNV-1a. Nobody gains from choosing it.
fn seed_of(name: &str) -> u64 {
    let mixed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mixed.wrapping_mul(GOLDEN)
}

/// A part of `whole` that the seed chooses evenly.
fn share(whole: Duration, seed: u64) -> Duration {
    // SplitMix64's last steps.
    let mut bits = seed;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    let nanos = whole.as_nanos().saturating_mul(u128::from(bits >> 32)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::made::{NOW, at};

    fn facts(from: u64, lasts: Duration) -> CertificateFacts {
        CertificateFacts {
            subject: "CN=P/g,O=Tidegate".to_owned(),
            issuer: "CN=lab".to_owned(),
            names: Vec::new(),
            serial: "01".to_owned(),
            not_before: at(from),
            not_after: at(from) + lasts,
            client_auth: true,
        }
    }

    fn policy(days: u32) -> RenewalPolicy {
        RenewalPolicy { longest_offline: DAY * days, seed: 7 }
    }

    fn due_after(policy: RenewalPolicy, lasts: Duration) -> Duration {
        policy.due(&facts(NOW, lasts)).duration_since(at(NOW)).unwrap()
    }

    #[track_caller]
    fn within(found: Duration, low: Duration, high: Duration) {
        assert!(low <= found && found <= high, "{found:?} not in {low:?}..={high:?}");
    }

    #[test]
    fn a_long_certificate_is_renewed_at_two_thirds() {
        within(due_after(policy(7), 90 * DAY), 54 * DAY, 66 * DAY);
        within(due_after(policy(7), 366 * DAY), 244 * DAY * 9 / 10, 244 * DAY * 11 / 10);
    }

    #[test]
    fn long_absences_bring_it_forward_but_never_into_the_first_third() {
        // 90 − 3 × 12 = 54 days.
        within(due_after(policy(12), 90 * DAY), 54 * DAY * 9 / 10, 54 * DAY * 11 / 10);
        // 90 − 3 × 30 is nothing left: held at the first third, and spread behind it.
        within(due_after(policy(30), 90 * DAY), 30 * DAY, 33 * DAY);
        within(due_after(policy(10_000), DAY), DAY / 3, DAY / 3 * 11 / 10);
    }

    #[test]
    fn gateways_enrolled_together_do_not_renew_together() {
        let mut all: Vec<Duration> = (0..500)
            .map(|n| RenewalPolicy::of(&format!("PlantA/gw-{n}"), 7 * DAY))
            .map(|policy| due_after(policy, 90 * DAY))
            .collect();
        all.sort_unstable();
        // Over the twelve days of the spread: no tenth of them holds more than twice its share.
        for tenth in 0..10_u32 {
            let (low, high) =
                (54 * DAY + DAY * 12 / 10 * tenth, 54 * DAY + DAY * 12 / 10 * (tenth + 1));
            let there = all.iter().filter(|due| low <= **due && **due < high).count();
            assert!((10..=100).contains(&there), "{there} in tenth {tenth}");
        }
    }

    #[test]
    fn waits_grow_to_a_cap_that_shrinks_as_the_end_comes_near() {
        let (policy, facts) = (policy(7), facts(NOW, 90 * DAY));
        let early = at(NOW) + 60 * DAY;
        let waits: Vec<_> = (1..=20).map(|n| policy.retry(n, Some(&facts), early)).collect();
        within(waits[0], RETRY_FIRST * 9 / 10, RETRY_FIRST * 11 / 10);
        within(waits[3], RETRY_FIRST * 8 * 9 / 10, RETRY_FIRST * 8 * 11 / 10);
        within(waits[19], RETRY_MOST * 9 / 10, RETRY_MOST * 11 / 10);
        let late = policy.retry(20, Some(&facts), facts.not_after - DAY);
        within(late, DAY / 20 * 9 / 10, DAY / 20 * 11 / 10);
        let over = policy.retry(20, Some(&facts), facts.not_after + DAY);
        within(over, RETRY_EXPIRED * 9 / 10, RETRY_EXPIRED * 11 / 10);
        within(policy.retry(9, None, early), RETRY_EXPIRED * 9 / 10, RETRY_EXPIRED * 11 / 10);
        let minute = self::facts(NOW, Duration::from_secs(60));
        within(policy.retry(20, Some(&minute), at(NOW)), RETRY_LEAST, Duration::from_secs(4));
    }

    #[test]
    fn an_authority_that_wants_time_gets_a_day_at_most() {
        assert_eq!(policy(7).later(DAY / 2), DAY / 2);
        assert_eq!(policy(7).later(DAY * 900), DAY);
        assert_eq!(policy(7).later(Duration::ZERO), RETRY_LEAST);
    }

    #[track_caller]
    fn warns(lasts: Duration, left: Duration, expected: Option<(Urgency, &str)>) {
        let facts = facts(NOW, lasts);
        let warning = warning(&facts, None, facts.not_after - left);
        let told = warning.map(|warning| (warning.urgency, warning.bound.to_string()));
        assert_eq!(told, expected.map(|(urgency, bound)| (urgency, bound.to_owned())));
    }

    #[test]
    fn warnings_escalate_by_days_or_by_shares_of_a_short_lifetime() {
        let year = 365 * DAY;
        warns(year, 31 * DAY, None);
        warns(year, 29 * DAY, Some((Urgency::Notice, "30 days")));
        warns(year, 13 * DAY, Some((Urgency::Warning, "14 days")));
        warns(year, 6 * DAY, Some((Urgency::Urgent, "7 days")));
        warns(year, DAY / 2, Some((Urgency::Last, "1 day")));
        let month = 30 * DAY;
        warns(month, 16 * DAY, None);
        warns(month, 14 * DAY, Some((Urgency::Notice, "50 % of its lifetime")));
        warns(month, 7 * DAY, Some((Urgency::Warning, "25 % of its lifetime")));
        warns(month, 2 * DAY, Some((Urgency::Urgent, "10 % of its lifetime")));
        warns(month, DAY / 2, Some((Urgency::Last, "1 day")));
        let minutes = Duration::from_secs(600);
        warns(minutes, minutes / 20, Some((Urgency::Urgent, "10 % of its lifetime")));
        warns(minutes, minutes * 2 / 3, None);
    }

    #[test]
    fn what_renews_itself_is_not_warned_about_before_that_is_due_nor_what_has_ended() {
        let facts = facts(NOW, 30 * DAY);
        let now = at(NOW) + 18 * DAY;
        assert!(warning(&facts, None, now).is_some());
        assert_eq!(warning(&facts, Some(at(NOW) + 20 * DAY), now), None);
        assert!(warning(&facts, Some(at(NOW) + 17 * DAY), now).is_some());
        assert_eq!(warning(&facts, None, facts.not_after + DAY), None, "another alarm's part");
        let told = warning(&facts, None, facts.not_after - 3 * DAY).unwrap().to_string();
        assert_eq!(told, "ends in 3 days, which is less than 25 % of its lifetime");
    }

    proptest! {
        #[test]
        fn whatever_the_times_renewal_is_within_the_lifetime_and_waits_are_bounded(
            seed: u64,
            lasts in 0..=20_000_u32,
            offline in 0..=20_000_u32,
            failures: u32,
            now in 0..=8_000_000_000_u64,
        ) {
            let policy = RenewalPolicy { longest_offline: DAY * offline, seed };
            let facts = facts(NOW, DAY * lasts);
            let due = policy.due(&facts);
            prop_assert!(due >= at(NOW) + DAY * lasts / 3);
            prop_assert!(due <= at(NOW) + DAY * lasts * 3 / 4);
            let wait = policy.retry(failures, Some(&facts), at(now));
            prop_assert!(RETRY_LEAST <= wait && wait <= RETRY_MOST * 11 / 10);
            prop_assert!(warning(&facts, None, at(now)).is_none_or(|told| told.left < 31 * DAY));
        }
    }
}
