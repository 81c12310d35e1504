//! Whether a reading is worth publishing on the live plane.
//!
//! # Invariants
//! - The first reading, and every reading whose quality or reason differs from what was published
//!   last, is published.
//! - The comparison is with what was *published*, not with the reading before, so a slow drift
//!   cannot hide under the deadband.
//! - `max-silence` lets a fresh reading pass; without a reading nothing is ever published.
//! - Time comes in as a monotonic duration, so a step of the wall clock neither floods nor mutes.

use std::time::Duration;

use tidegate_translator::{Quality, Value};

use crate::bulk::Remembered;
use crate::config::Deadband;

/// What to do with a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is news: publish it.
    Publish,
    /// It differs too little from what was published, too short a time ago.
    Suppress,
}

/// The publishing decision for one tag.
#[derive(Debug, Clone)]
pub struct LivePolicy {
    deadband: Deadband,
    max_silence: Duration,
    published: LastPublished,
}

impl LivePolicy {
    /// A tag of which nothing was published yet.
    #[must_use]
    pub const fn new(deadband: Deadband, max_silence: Duration) -> Self {
        Self { deadband, max_silence, published: LastPublished(None) }
    }

    /// As [`LastPublished::offer`].
    pub fn offer(&mut self, now: Duration, value: &Value, quality: Quality) -> Verdict {
        self.published.offer((self.deadband, self.max_silence), now, value, quality)
    }

    /// As [`LastPublished::forget`].
    pub fn forget(&mut self) {
        self.published.forget();
    }
}

/// What was published last of a tag. The rule, which many tags share, is passed in.
#[derive(Debug, Clone, Default)]
pub struct LastPublished(Option<Published>);

#[derive(Debug, Clone)]
struct Published {
    value: Remembered,
    quality: Quality,
    /// Nanoseconds of the monotonic clock: half as much as a `Duration`, and 584 years.
    at: u64,
}

impl LastPublished {
    /// Decides about a reading made at `now` (monotonic, any origin) by deadband and max-silence.
    /// A reading that is to be published is remembered as published.
    pub fn offer(
        &mut self,
        rule: (Deadband, Duration),
        now: Duration,
        value: &Value,
        quality: Quality,
    ) -> Verdict {
        let now = nanos(now);
        if !self.is_news(rule, now, value, quality) {
            return Verdict::Suppress;
        }
        self.0 = Some(Published { value: Remembered::of(value), quality, at: now });
        Verdict::Publish
    }

    /// Forgets what was published, because nobody can have received it: the next reading is
    /// published whatever it is.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// Whether an unchanged reading would be published now.
    #[must_use]
    pub fn is_due(&self, max_silence: Duration, now: Duration) -> bool {
        let since = |last: &Published| nanos(now).saturating_sub(last.at);
        self.0.as_ref().is_none_or(|last| since(last) >= nanos(max_silence))
    }

    fn is_news(
        &self,
        (deadband, max_silence): (Deadband, Duration),
        now: u64,
        value: &Value,
        quality: Quality,
    ) -> bool {
        let Some(last) = &self.0 else { return true };
        if last.quality != quality || now.saturating_sub(last.at) >= nanos(max_silence) {
            return true;
        }
        let is_beyond = |last| exceeds(deadband, last, value);
        !last.value.is(value) && last.value.short().is_none_or(is_beyond)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether the step from `last` to `next`, known to differ, is larger than the deadband. What has
/// no magnitude (text, bits, NaN, a change of kind) always is.
fn exceeds(deadband: Deadband, last: &Value, next: &Value) -> bool {
    let (band, percent) = match deadband {
        Deadband::None => return true,
        Deadband::Absolute(band) => (band, false),
        Deadband::Percent(percent) => (percent, true),
    };
    if last.kind() != next.kind() {
        return true;
    }
    let (Some(step), Some(last)) = (distance(last, next), last.as_f64()) else { return true };
    let limit = if percent { last.abs() * (band / 100.0) } else { band };
    // NaN and infinities on either side compare as "not within", hence as news.
    !(step <= limit && limit.is_finite())
}

/// The magnitude of the difference. Integers are subtracted as integers: two large counters that
/// differ by one are the same `f64`.
#[expect(clippy::cast_precision_loss, reason = "the difference is compared with a float")]
fn distance(a: &Value, b: &Value) -> Option<f64> {
    match (a, b) {
        (Value::I64(a), Value::I64(b)) => Some(a.abs_diff(*b) as f64),
        (Value::U64(a), Value::U64(b)) => Some(a.abs_diff(*b) as f64),
        (a, b) => Some((a.as_f64()? - b.as_f64()?).abs()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_translator::Reason;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn offer(policy: &mut LivePolicy, at: u64, value: Value) -> bool {
        policy.offer(s(at), &value, Quality::Good) == Verdict::Publish
    }

    #[test]
    fn the_first_reading_is_published_even_when_it_is_bad() {
        let mut policy = LivePolicy::new(Deadband::Absolute(10.0), MINUTE);
        let bad = Quality::Bad(Reason::NotConnected);
        assert_eq!(policy.offer(s(0), &Value::None, bad), Verdict::Publish);
        assert_eq!(policy.offer(s(1), &Value::None, bad), Verdict::Suppress);
    }

    #[test]
    fn a_change_of_quality_or_of_its_reason_is_published_with_an_unchanged_value() {
        let mut policy = LivePolicy::new(Deadband::Absolute(10.0), MINUTE);
        let v = Value::F64(1.0);
        for quality in [
            Quality::Good,
            Quality::Uncertain(Reason::Stale),
            Quality::Uncertain(Reason::OutOfRange),
            Quality::Bad(Reason::OutOfRange),
            Quality::Good,
        ] {
            assert_eq!(policy.offer(s(0), &v, quality), Verdict::Publish, "{quality:?}");
            assert_eq!(policy.offer(s(0), &v, quality), Verdict::Suppress, "{quality:?}");
        }
    }

    #[test]
    fn a_slow_drift_does_not_hide_under_an_absolute_deadband() {
        let mut policy = LivePolicy::new(Deadband::Absolute(1.0), MINUTE);
        let seen: Vec<bool> = [0.0, 0.5, 1.0, 1.5, 2.0, 2.6]
            .map(|v| offer(&mut policy, 0, Value::F64(v)))
            .into_iter()
            .collect();
        assert_eq!(seen, [true, false, false, true, false, true]);
    }

    #[test]
    fn a_percent_deadband_is_a_share_of_the_published_value_and_zero_hides_nothing() {
        let mut policy = LivePolicy::new(Deadband::Percent(10.0), MINUTE);
        assert!(offer(&mut policy, 0, Value::F32(-100.0)));
        assert!(!offer(&mut policy, 0, Value::F32(-109.0)));
        assert!(offer(&mut policy, 0, Value::F32(-111.0)));
        assert!(offer(&mut policy, 0, Value::F32(0.0)));
        assert!(offer(&mut policy, 0, Value::F32(1e-30)));
    }

    #[test]
    fn a_reading_after_max_silence_is_published_unchanged() {
        let mut policy = LivePolicy::new(Deadband::None, MINUTE);
        assert!(offer(&mut policy, 0, Value::Bool(true)));
        assert!(!offer(&mut policy, 59, Value::Bool(true)));
        assert!(offer(&mut policy, 60, Value::Bool(true)));
        assert!(!offer(&mut policy, 61, Value::Bool(true)));
    }

    #[test]
    fn one_step_of_a_large_counter_is_seen() {
        let mut policy = LivePolicy::new(Deadband::Absolute(0.5), MINUTE);
        assert!(offer(&mut policy, 0, Value::U64(u64::MAX - 1)));
        assert!(offer(&mut policy, 0, Value::U64(u64::MAX)));
    }

    #[test]
    fn not_a_number_and_infinity_are_news_once() {
        let mut policy = LivePolicy::new(Deadband::Percent(50.0), MINUTE);
        for v in [1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.0] {
            assert!(offer(&mut policy, 0, Value::F64(v)), "{v}");
            assert!(!offer(&mut policy, 0, Value::F64(v)), "{v} again");
        }
    }

    #[test]
    fn a_deadband_hides_no_change_of_text_bytes_or_structures() {
        for (one, other) in [
            (Value::Text("7".into()), Value::Text("7.0".into())),
            (Value::Bytes([7].into()), Value::Bytes([8].into())),
            (Value::Json("[7]".into()), Value::Json("[7.0]".into())),
            (Value::I64(7), Value::Text("7".into())),
        ] {
            let mut policy = LivePolicy::new(Deadband::Absolute(1000.0), MINUTE);
            for (value, is_news) in [(&one, true), (&one, false), (&other, true), (&other, false)] {
                assert_eq!(offer(&mut policy, 0, value.clone()), is_news, "{value:?}");
            }
        }
    }

    #[test]
    fn a_forgotten_publication_is_made_good_by_the_next_reading() {
        let mut policy = LivePolicy::new(Deadband::None, MINUTE);
        assert!(offer(&mut policy, 0, Value::I64(7)));
        policy.forget();
        assert!(offer(&mut policy, 1, Value::I64(7)));
    }

    fn deadband() -> impl Strategy<Value = Deadband> {
        prop_oneof![
            Just(Deadband::None),
            (0.0..100.0f64).prop_map(Deadband::Absolute),
            (0.0..100.0f64).prop_map(Deadband::Percent),
        ]
    }

    fn quality() -> impl Strategy<Value = Quality> {
        prop_oneof![
            8 => Just(Quality::Good),
            1 => Just(Quality::Bad(Reason::Timeout)),
            1 => Just(Quality::Uncertain(Reason::Stale)),
        ]
    }

    proptest! {
        /// What a subscriber last saw is never further from the newest reading than the deadband
        /// allows, has its quality, and is never older than max-silence when a reading arrives.
        #[test]
        fn a_subscriber_is_never_further_off_than_the_deadband(
            band in deadband(),
            readings in prop::collection::vec((0u64..30, -200.0..200.0f64, quality()), 1..80),
        ) {
            let silence = s(60);
            let mut policy = LivePolicy::new(band, silence);
            let mut now = Duration::ZERO;
            let mut seen: Option<(f64, Quality, Duration)> = None;
            for (wait, value, quality) in readings {
                now += s(wait);
                if policy.offer(now, &Value::F64(value), quality) == Verdict::Publish {
                    seen = Some((value, quality, now));
                }
                let (shown, shown_quality, at) = seen.unwrap();
                prop_assert_eq!(shown_quality, quality);
                prop_assert!(now - at < silence);
                let limit = match band {
                    Deadband::None => 0.0,
                    Deadband::Absolute(band) => band,
                    Deadband::Percent(p) => shown.abs() * p / 100.0,
                };
                prop_assert!((shown - value).abs() <= limit * (1.0 + 1e-12), "{shown} {value}");
            }
        }

        /// Repeating a reading right away never publishes, whatever it is.
        #[test]
        fn an_immediate_repeat_is_never_published(band in deadband(), bits: u64, q in quality()) {
            let mut policy = LivePolicy::new(band, MINUTE);
            let value = Value::F64(f64::from_bits(bits));
            policy.offer(s(0), &value, q);
            prop_assert_eq!(policy.offer(s(0), &value, q), Verdict::Suppress);
        }
    }
}
